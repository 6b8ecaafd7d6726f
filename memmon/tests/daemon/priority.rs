//! The priority of the daemon's threads: the event loop and its close looks come before other processes, and nothing else does.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{TestUser, daemon::Daemon, eventually, log::config};
#[cfg(feature = "ebpf")]
use crate::{
    common::{log::EBPF, within},
    gears::gear,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Priority {
    Normal,
    /// A negative nice value.
    High,
    Realtime,
}

/// The name of each of its threads, and its priority (`policy` and `nice` of proc_pid_stat(5)).
fn threads(pid: u32) -> Vec<(String, Priority)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end meanwhile.
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let read = |stat: String| {
        let (before, after) = stat.rsplit_once(") ").unwrap();
        // The text after the name begins with field 3.
        let field = |number: usize| after.split(' ').nth(number - 3).unwrap().parse::<i32>().unwrap();
        let (nice, policy) = (field(19), field(41));
        assert!([libc::SCHED_OTHER, libc::SCHED_FIFO].contains(&policy), "{stat}");
        let priority = match (policy, nice) {
            (libc::SCHED_FIFO, _) => Priority::Realtime,
            (_, ..0) => Priority::High,
            _ => Priority::Normal,
        };
        (before.split_once('(').unwrap().1.to_owned(), priority)
    };
    stats.map(read).collect()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_loop_comes_before_other_processes_and_the_threads_that_report_do_not() {
    for realtime in [false, true] {
        let user = TestUser::claim();
        let changes = [("kernel.realtime", if realtime { "true" } else { "false" })];
        let daemon = Daemon::start(&config(&user, &changes), &[]);
        // All of its threads exist once it has terminated a process.
        daemon.terminated(&mut user.hog("anon 40M hold"));
        let has = |of_loop, of_looks| {
            let threads = threads(daemon.pid());
            let all = |name: &str, priority| {
                let mut those = threads.iter().filter(|(comm, _)| comm == name).peekable();
                those.peek().is_some() && those.all(|(_, has)| *has == priority)
            };
            threads.iter().any(|(comm, has)| comm == "close-look" && *has == of_looks)
                && all("memmon", of_loop)
                && all("memmon-report", Priority::Normal)
                && all("reaper", Priority::Normal)
        };
        let both = |priority| has(priority, priority);
        // Other tests may use all processors meanwhile.
        eventually("the priorities of its threads", || {
            both(Priority::High) || realtime && both(Priority::Realtime)
        });
        let ended = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 * thread::available_parallelism().unwrap().get() {
                scope.spawn(|| spin(&ended));
            }
            // A scan takes a moment, in which it is lower.
            let busy = if realtime { Priority::Realtime } else { Priority::High };
            let found = (0..200).any(|_| {
                thread::sleep(Duration::from_millis(20));
                both(busy)
            });
            ended.store(true, Ordering::Relaxed);
            assert!(found, "the priorities while processes wait: {:?}", threads(daemon.pid()));
        });
        daemon.stop();
    }
}

/// Uses all processors until `ended`.
fn spin(ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_loop_comes_first_by_the_time_a_process_is_at_its_limit_whatever_was_before() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[("thresholds.check_interval", "3600")]), &[]);
    // Processors are idle, so the first sign of the hog shows a machine that had time left.
    thread::sleep(Duration::from_secs(2));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 * thread::available_parallelism().unwrap().get() {
            scope.spawn(|| spin(&ended));
        }
        let hog = user.hog("grow 28M 20M/s hold");
        let is_realtime = |(name, has): (String, Priority)| name == "memmon" && has == Priority::Realtime;
        let found = (0..500).any(|_| {
            thread::sleep(Duration::from_millis(20));
            threads(daemon.pid()).into_iter().any(is_realtime)
        });
        ended.store(true, Ordering::Relaxed);
        assert!(found, "its priorities: {:?}", threads(daemon.pid()));
        drop(hog);
    });
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn the_loop_comes_before_other_processes_from_its_first_scan_on() {
    let user = TestUser::claim();
    let ended = AtomicBool::new(false);
    let found: Vec<_> = thread::scope(|scope| {
        for _ in 0..2 * thread::available_parallelism().unwrap().get() {
            scope.spawn(|| spin(&ended));
        }
        // After that scan it has more to do before it waits. One look may come when all of that is done.
        let starts = (0..10).map(|_| {
            let daemon = Daemon::start(&config(&user, &[]), &["--source", "proc"]);
            daemon.event("scan_complete");
            let found = threads(daemon.pid());
            daemon.stop();
            found.into_iter().find(|(name, _)| name == "memmon").unwrap().1
        });
        let found = starts.collect();
        ended.store(true, Ordering::Relaxed);
        found
    });
    assert!(!found.contains(&Priority::Normal), "{found:?}");
}

#[test]
#[cfg(feature = "ebpf")]
#[ignore = "kernel: needs root and kernel BTF"]
fn in_the_calm_gear_the_loop_comes_first_on_an_idle_machine_as_well() {
    let user = TestUser::claim();
    let large = ("thresholds.ram_gb_threshold", "0.25");
    let daemon = Daemon::start(&config(&user, &[("thresholds.check_interval", "1"), large]), EBPF);
    daemon.event("scan_complete");
    let of_loop = || threads(daemon.pid()).into_iter().find(|(name, _)| name == "memmon").unwrap().1;
    let Some(before) = gear(&daemon) else { return };
    assert_eq!(before, "calm");
    // A scan takes a moment, in which it is lower.
    eventually("a realtime priority", || of_loop() == Priority::Realtime);
    let hog = user.hog("anon 160M hold");
    hog.begun("hold");
    eventually("the exact gear", || gear(&daemon) == Some("exact".into()));
    // Other tests may use all processors meanwhile, but not all the time.
    within(Duration::from_secs(60), "the nice value", || of_loop() == Priority::High);
    drop(hog);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_reload_allows_the_realtime_priority_or_takes_it_away() {
    let user = TestUser::claim();
    let with = |realtime| config(&user, &[("kernel.realtime", realtime)]);
    let daemon = Daemon::start(&with("false"), &["--source", "proc"]);
    let reload = |realtime, count| {
        daemon.reload(&with(realtime));
        eventually("the reload", || daemon.every("reloaded").len() == count);
        daemon.scanned();
    };
    let has_realtime = || {
        let is_realtime = |(name, has): (String, Priority)| name == "memmon" && has == Priority::Realtime;
        // It has that only while it waits, and scans come all the time.
        (0..200).any(|_| {
            thread::sleep(Duration::from_millis(20));
            threads(daemon.pid()).into_iter().any(is_realtime)
        })
    };
    let ended = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        for _ in 0..2 * thread::available_parallelism().unwrap().get() {
            scope.spawn(|| spin(&ended));
        }
        let mut found = vec![has_realtime()];
        for (realtime, count) in [("true", 1), ("false", 2)] {
            reload(realtime, count);
            found.push(has_realtime());
        }
        ended.store(true, Ordering::Relaxed);
        found
    });
    assert_eq!(found, [false, true, false]);
    assert!(daemon.every("degraded").iter().all(|event| !event["what"].to_string().contains("restart")));
    daemon.stop();
}
