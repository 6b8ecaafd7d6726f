//! The daemon's own resources: room in its map, memory and descriptors.

use std::{collections::BTreeSet, fs, time::Duration};

use rustix::process::{Resource, Rlimit};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    log::{SOURCES, config},
    status_field, within,
};

#[test]
#[cfg(feature = "ebpf")]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_without_room_in_a_full_map_is_found_all_the_same() {
    let user = TestUser::claim();
    let old = user.hog("rename old anon 5M wait-term anon 40M hold");
    old.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[("kernel.max_processes", "2")]), &["--source", "ebpf"]);
    old.term();
    for mut hog in [user.hog("anon 40M hold"), user.hog("vfork-exec hold end anon 40M hold"), old] {
        assert_eq!(daemon.terminated(&mut hog).0, Some(libc::SIGTERM));
    }
    daemon.scanned();
    let full = || -> Vec<String> {
        let degraded = daemon.every("degraded").into_iter().map(|event| event["what"].to_string());
        degraded.filter(|what| what.contains("kernel.max_processes")).collect()
    };
    assert_eq!(full().len(), 1, "reported once: {:?}", full());
    let warned = daemon.every("diagnostic");
    assert!(warned.iter().any(|event| event["text"].as_str().unwrap().contains("is full")), "{warned:?}");
    assert!(daemon.every("map_defect").is_empty(), "no room is no defect");
    daemon.stop();
}

struct Needs {
    /// Without pages of its executable, which become resident as code runs for the first time.
    anon_kib: u64,
    descriptors: usize,
    threads: u64,
}

fn needs(pid: u32) -> Needs {
    let anon_kib = status_field(pid, "RssAnon:").unwrap().split(' ').next().unwrap().parse().unwrap();
    let threads = status_field(pid, "Threads:").unwrap().parse().unwrap();
    Needs { anon_kib, descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), threads }
}

/// Terminated hogs are a part of the load: each needs a pidfd, log lines, and memory that is reclaimed.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn memory_and_descriptors_stay_flat() {
    const ROUNDS: usize = 10;
    const SCANS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let mut running = Vec::new();
    for source in SOURCES {
        let user = TestUser::claim();
        let log = format!("{:?}", dir.path().join(source));
        // The same hog is terminated each time, so back-off is off.
        let never = ("termination.repeat_limit", "0");
        let changes = [("settings.log_file", &log[..]), ("termination.grace", "0.1"), never];
        running.push((Daemon::start(&config(&user, &changes), &["--source", source]), user));
    }
    let terminate = |rounds: usize| {
        for (daemon, user) in &running {
            for _ in 0..rounds {
                daemon.terminated(&mut user.hog("ignore-term anon 40M hold"));
            }
        }
    };
    let scan = |scans: usize| {
        let enough: Vec<_> = running.iter().map(|(daemon, _)| daemon.scans() + scans).collect();
        let all = || running.iter().zip(&enough).all(|((daemon, _), enough)| daemon.scans() >= *enough);
        within(Duration::from_secs(240), "all of the scans", all);
    };
    let flat = |what: &str, before: &[Needs], room: u64| {
        for ((daemon, _), before) in running.iter().zip(before) {
            let source = daemon.event("started")["source"].clone();
            eventually("as many descriptors as before", || {
                needs(daemon.pid()).descriptors <= before.descriptors + 8
            });
            let now = needs(daemon.pid());
            // A thread for rechecks, which is added if one ever takes long, keeps its stack and the memory that it allocated.
            let added = now.threads.saturating_sub(before.threads);
            assert!(added <= 2, "{source}: {added} threads more");
            let (anon, was) = (now.anon_kib, before.anon_kib);
            let most = was + room + 512 * added;
            assert!(
                anon <= most,
                "{source}: {was} KiB before {what}, {anon} KiB after, {added} threads more"
            );
        }
    };
    let now = || -> Vec<Needs> { running.iter().map(|(daemon, _)| needs(daemon.pid())).collect() };
    // First the work that is done once: buffers, the thread that reclaims memory, the table of users, a sweep. `memmon status`
    // shows recent terminations and the history has a cache, so that more of them need some room for a while.
    terminate(2 * ROUNDS);
    scan(50);
    let before = now();
    terminate(ROUNDS);
    flat("terminations", &before, 512);
    scan(20);
    let before = now();
    scan(SCANS);
    flat("scans", &before, 256);
    for (daemon, _) in running {
        daemon.stop();
    }
}

/// The victims' own descriptors must leave some for the looks at them: without a look none gets SIGKILL, and keeps its descriptor.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn victims_that_ignore_the_signal_end_although_memmon_has_few_descriptors() {
    const HOGS: usize = 30;
    const LEFT: usize = 22;
    for source in SOURCES {
        let user = TestUser::claim();
        let start = || user.hog("ignore-term wait-term anon 18M hold");
        let mut hogs: Vec<_> = std::iter::repeat_with(start).take(HOGS).collect();
        hogs.iter().for_each(|hog| hog.begun("wait-term"));
        let limit = [("thresholds.ram_gb_threshold", "0.015625")];
        let daemon = Daemon::start(&config(&user, &limit), &["--source", source]);
        daemon.scanned();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let numbers = descriptors.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
        let used: BTreeSet<u64> = numbers.collect();
        let most = (0..).filter(|number| !used.contains(number)).nth(LEFT);
        let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed());
        let few = Rlimit { current: most, maximum: most };
        rustix::process::prlimit(pid, Resource::Nofile, few).unwrap();
        hogs.iter().for_each(Hog::term);
        for hog in &mut hogs {
            assert_eq!(daemon.terminated(hog).0, Some(libc::SIGKILL));
        }
        daemon.stop();
    }
}
