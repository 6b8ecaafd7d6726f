//! Many crossings at once, and more than the ring has room for: their cost, and that no process is missed.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{EBPF, RARELY, SOON, config},
    processes_of,
};
use nix::{
    sys::signal::Signal,
    unistd::{SysconfVar, sysconf},
};

/// The kernel reports every process to every daemon, so these tests would disturb each other if they ran at the same time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A script that starts children one after the other, each of them above its lowest wake level from the fork on, and gone at
/// once: two events each.
fn storm(children: usize) -> String {
    format!("anon 20M {} wait-term", "fork end ".repeat(children))
}

/// A field of the daemon's /proc/PID/stat by its number in proc_pid_stat(5), from the fourth on.
fn stat(daemon: &Daemon, field: usize) -> u64 {
    field_of(&fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap(), field)
}

fn field_of(stat: &str, field: usize) -> u64 {
    stat.rsplit(") ").next().unwrap().split(' ').nth(field - 3).unwrap().parse().unwrap()
}

/// The minor and major page faults of the daemon but for its history's thread. That one writes after the signal, as many records
/// at once as came while the disk was busy, and takes new memory for them.
fn faults(daemon: &Daemon) -> (u64, u64) {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    let history = stats.into_iter().find(|stat| stat.contains("(history)")).unwrap();
    let but_history = |field| stat(daemon, field) - field_of(&history, field);
    (but_history(10), but_history(12))
}

/// The CPU time of the daemon. A host may take the processor away from a guest, so one of three attempts must succeed.
fn cpu_time(daemon: &Daemon) -> Duration {
    let ticks = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap().unsigned_abs();
    Duration::from_millis((stat(daemon, 14) + stat(daemon, 15)) * 1000 / ticks)
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn crossings_that_did_not_fit_into_the_ring_are_counted_and_found_by_a_scan_at_once() {
    let _alone = alone();
    let user = TestUser::claim();
    // In the calm gear such short lives make no events.
    let daemon = Daemon::start(&config(&user, &[RARELY, ("kernel.gear", "\"always\"")]), EBPF);
    daemon.event("scan_complete");
    assert_eq!(daemon.status()["lost"]["crossings"], 0);
    // The daemon is stopped and does not read the ring, which is full after some eight hundred events.
    daemon.signal(Signal::SIGSTOP);
    let many = user.hog(&storm(600));
    many.begun("wait-term");
    // The hog is stopped, because its next page would be its next event.
    let mut hog = user.hog("anon 50M stop");
    eventually("the stop", || hog.state() == 'T');
    let resumed = Instant::now();
    daemon.signal(Signal::SIGCONT);
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!(signal, Some(libc::SIGTERM));
    assert!(record["rss_at_crossing_bytes"].is_null(), "its crossing was lost: {record:#}");
    assert!(daemon.status()["lost"]["crossings"].as_u64() > Some(0));
    assert!(daemon.scans() >= 2, "found by a scan");
    // A scan like every other one, which also means that it is never made with a realtime priority.
    let status = daemon.status();
    assert!(status["counts"]["scans"].as_u64() >= Some(2), "{}", status["counts"]);
    assert!(status["last_scan"]["seconds_ago"].as_f64().unwrap() <= resumed.elapsed().as_secs_f64());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_storm_of_crossings_has_its_share_of_a_cpu_and_no_more_and_nobody_starves() {
    let _alone = alone();
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    let times = [(); 3].map(|()| {
        let (before, begun) = (cpu_time(&daemon), Instant::now());
        let storms = [user.hog(&storm(1500)), user.hog(&storm(1500))];
        // In the middle of the storm.
        let mut hog = user.hog("anon 50M hold");
        daemon.reported("killing", hog.pid());
        assert_eq!(hog.ended_by(SOON), Some(libc::SIGTERM));
        for storm in &storms {
            storm.begun("wait-term");
        }
        (cpu_time(&daemon) - before, begun.elapsed())
    });
    // A tenth, a window that had only just begun, the scans after losses, and the log lines.
    let little =
        |(spent, took): &(Duration, Duration)| *spent <= *took / 10 + Duration::from_millis(100) + *took / 20;
    assert!(times.iter().any(little), "CPU time, and the time that it took: {times:?}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_crowd_in_its_grace_costs_little_and_has_no_more_than_that() {
    const CROWD: usize = 300;
    const GRACE: Duration = Duration::from_secs(10);

    let _alone = alone();
    let user = TestUser::claim();
    // Each process makes the 4 MiB its own, which are 1.2 GiB together.
    let crowd = "fork rewrite hold end ".repeat(CROWD);
    let mut parent = user.hog(&format!("ignore-term anon 4M {crowd} hold"));
    parent.begun("hold");
    let (limit, grace) = (("thresholds.ram_gb_threshold", "0.003"), GRACE.as_secs().to_string());
    let changes = [RARELY, limit, ("termination.grace", &grace)];
    let daemon = Daemon::start(&config(&user, &changes), EBPF);
    eventually("the SIGTERMs", || daemon.every("killing").len() > CROWD);
    let times = [(); 3].map(|()| {
        let (before, begun) = (cpu_time(&daemon), Instant::now());
        thread::sleep(Duration::from_secs(1));
        (cpu_time(&daemon) - before, begun.elapsed())
    });
    let little = |(spent, took): &(Duration, Duration)| *spent <= *took / 5;
    assert!(times.iter().any(little), "CPU time, and the time that it took: {times:?}");
    assert_eq!(parent.ended_by(GRACE + SOON), Some(libc::SIGKILL));
    daemon.reported("terminated", parent.pid());
    // The children die with it, if not before.
    eventually("the end of all of them", || processes_of(user.uid).is_empty());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_way_from_a_crossing_to_its_signal_takes_no_page_fault() {
    const ROUNDS: u64 = 20;

    let _alone = alone();
    let user = TestUser::claim();
    // The same hog is terminated each time, so back-off is off.
    let never = ("termination.repeat_limit", "0");
    let daemon = Daemon::start(&config(&user, &[RARELY, never]), EBPF);
    daemon.event("scan_complete");
    let rounds = || {
        for _ in 0..ROUNDS {
            assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, Some(libc::SIGTERM));
        }
    };
    // Pages that are touched only once are touched now.
    rounds();
    let new = [(); 3].map(|()| {
        let (minor, major) = faults(&daemon);
        rounds();
        let (now_minor, now_major) = faults(&daemon);
        (now_minor - minor, now_major - major)
    });
    // The daemon keeps the last fifty records, and the processes that grow elsewhere on the machine, so it needs a new page now
    // and then. It reads nothing from a disk. Page faults because the kernel moves pages, or because code runs for the first
    // time, do not come every time.
    let none = |&(minor, major): &(u64, u64)| minor <= ROUNDS / 4 && major == 0;
    assert!(new.iter().any(none), "minor and major page faults in {ROUNDS} terminations: {new:?}");
    daemon.stop();
}
