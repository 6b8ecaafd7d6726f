//! Throttles on a captured /proc, and on a folder in place of the hierarchy of cgroups. Dry runs, or without processes.

use std::time::{Duration, Instant};

use super::tests::{Recorder, WITH_MACHINE, engine_with, machine};
use crate::daemon::clock::Now;
use crate::daemon::throttler::Throttler;
use crate::enforce::MemoryCgroup;
use crate::model::{Bytes, Lowered, Per, RuleName};

#[test]
fn a_former_value_that_cannot_be_set_again_is_reported_once_and_tried_after_longer_and_longer_pauses() {
    let (tree, recorder, now) = (machine(), Recorder::default(), Now::read());
    let (mount, second) = (tempfile::tempdir().unwrap(), Duration::from_secs(1));
    // No value can be read, or written.
    let high = mount.path().join("x.service/memory.high");
    std::fs::create_dir_all(&high).unwrap();
    let number = MemoryCgroup::open(mount.path(), &"/x.service".into()).unwrap().number();
    let rule = RuleName::new("gone").unwrap();
    let (cgroup, before) = (b"/x.service".to_vec(), Bytes::MAX);
    let lowered =
        Lowered { rule, per: Per::Unit, cgroup, number, before, high: Bytes(4096), total: Bytes::ZERO };
    let mut engine = engine_with(WITH_MACHINE, &tree, &recorder, now);
    let throttler = Throttler::new(mount.path(), mount.path(), "");
    engine.continue_throttles(throttler, vec![lowered], now);
    let mut look = |after: u32| {
        // The thread has answered before.
        std::thread::sleep(Duration::from_millis(50));
        engine.release_throttles(now.later(second * after));
        recorder.about_processes().into_iter().map(|event| event[..14].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(look(0), ["Degraded { wha"]);
    // It is tried after one second, two more, and four more.
    for after in [0, 1, 1, 2, 3, 3, 4] {
        assert_eq!(look(after), [""; 0], "after {after} s");
    }
    std::fs::remove_dir(&high).unwrap();
    std::fs::write(&high, "4096\n").unwrap();
    assert_eq!((look(5), look(6)), (vec![], vec![]));
    assert_eq!(std::fs::read_to_string(&high).unwrap(), "4096\n");
    assert_eq!((look(8), look(8)), (vec![], vec!["ThrottleEnded ".to_owned()]));
    assert_eq!(std::fs::read_to_string(&high).unwrap(), "max");
}

/// The value is 10 % of 16 GiB, and the memory of the machine may change by a little.
#[test]
fn after_a_restart_a_value_is_kept_only_if_it_follows_from_the_present_configuration() {
    let gib = |gib: u64| Bytes(gib << 30);
    for (limit, total, stays) in [
        ("percent = 10", gib(16), true),
        ("percent = 10", gib(17), true),
        ("percent = 9.5", gib(16), false),
        ("percent = 10.5", gib(16), false),
        ("percent = 10.01", gib(16), false),
        ("gb = 1.5", gib(16), false),
    ] {
        let (tree, recorder, now) = (machine(), Recorder::default(), Now::read());
        tree.write("meminfo", format!("MemTotal: {} kB\nMemAvailable: 9437184 kB\n", total.0 >> 10));
        let mount = tempfile::tempdir().unwrap();
        let (cgroup, file) = ("/system.slice/x.service", "system.slice/x.service/memory.high");
        std::fs::create_dir_all(mount.path().join(file).parent().unwrap()).unwrap();
        let high = Bytes(gib(16).0 / 10 / 4096 * 4096);
        std::fs::write(mount.path().join(file), format!("{}\n", high.0)).unwrap();
        let number = MemoryCgroup::open(mount.path(), &cgroup.into()).unwrap().number();
        let (rule, before) = (RuleName::new("slow").unwrap(), Bytes::MAX);
        let (per, cgroup) = (Per::Unit, cgroup.as_bytes().to_vec());
        let lowered = Lowered { rule, per, cgroup, number, before, high, total: gib(16) };
        let text = format!(
            "rule = [{{ name = 'slow', units = ['x.service'], per = 'unit', action = 'throttle', {limit} }}]"
        );
        let mut engine = engine_with(&text, &tree, &recorder, now);
        let throttler = Throttler::new(mount.path(), mount.path(), "");
        engine.continue_throttles(throttler, vec![lowered], now);
        // The thread answers meanwhile.
        let deadline = Instant::now() + Duration::from_millis(if stays { 50 } else { 5000 });
        let present = || std::fs::read_to_string(mount.path().join(file)).unwrap();
        while present() != "max" && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(present() != "max", stays, "{limit} of {total}: {}", present());
    }
}
