//! The daemon's own resources: room in its map, memory and descriptors, and time on a CPU.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
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
