//! Wake-ups by the kernel: with the next scan an hour away, a crossing alone ends a hog, and the record has its figures.

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::{Hog, Supervisor},
    log::{EBPF, LIMIT, RARELY, config},
    status_field,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    thread,
    time::{Duration, Instant},
};

fn bytes(record: &Value, key: &str) -> u64 {
    record[key].as_u64().unwrap_or_else(|| panic!("{key} in {record:#}"))
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_crossing_ends_a_hog_between_two_scans() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    let scans = daemon.scans();
    // More than a second from each wake level to the next. In the calm gear only a busy hog is met before the next level: one
    // that sleeps between small steps takes some megabytes until a tick happens to meet it.
    let mut hog = user.hog("busy anon 14M grow 86M 4M/s hold");
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!(signal, Some(libc::SIGTERM));
    assert_eq!(daemon.scans(), scans, "no scan was needed");
    // The kernel's counters may report the crossing early, by their error; the exact figure exceeds the limit by no more than a
    // hog of 4 MB/s takes in some seconds on a busy machine.
    assert!(
        (LIMIT - (2 << 20)..LIMIT + (2 << 20)).contains(&bytes(&record, "rss_at_crossing_bytes")),
        "{record:#}"
    );
    assert!(bytes(&record, "overshoot_bytes") < 20 << 20, "{record:#}");
    assert!(record["crossing_to_signal_seconds"].as_f64().is_some_and(|time| time < 5.0), "{record:#}");
    assert_eq!((&record["cause"], &record["exit"]["signal"]), (&"term".into(), &libc::SIGTERM.into()));

    // One warning on the way, with about the growth rate of the hog.
    let [warning] = &daemon.about("approaching", hog.pid())[..] else { panic!("not one warning") };
    assert!((LIMIT * 8 / 10 - (2 << 20)..=LIMIT).contains(&bytes(warning, "rss_bytes")), "{warning:#}");
    let growth = warning["growth_bytes_per_second"].as_f64().unwrap();
    assert!((5e5..5e7).contains(&growth), "{warning:#}");
    assert!(warning["time_to_limit_seconds"].as_f64().is_some_and(|time| time < 20.0), "{warning:#}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_user_space_never_met_wakes_it() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    // The process starts near its limit, because the fork copies its memory.
    let mut parent = user.hog("ignore-term anon 20M fork anon 50M hold end hold");
    let child = parent.child("fork");
    daemon.reported("terminated", child);
    assert!(parent.is_alive());
    daemon.stop();
    parent.release();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn without_instant_a_crossing_waits_for_its_scan() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY, ("kernel.instant", "false")]), EBPF);
    daemon.event("scan_complete");
    let hog = user.hog("anon 60M hold");
    hog.ready("anon 60M");
    // A wake-up would come long before this second hog has finished.
    let second = user.hog("anon 60M hold");
    second.ready("anon 60M");
    assert!(hog.is_alive() && daemon.about("killing", hog.pid()).is_empty());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_that_outgrows_its_ceiling_has_no_grace_left() {
    let user = TestUser::claim();
    let changes = [RARELY, ("termination.grace", "600"), ("termination.hard_ceiling", "2.0")];
    let daemon = Daemon::start(&config(&user, &changes), EBPF);
    daemon.event("scan_complete");
    let mut hog = user.hog("ignore-term grow 200M 40M/s hold");
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!((signal, &record["urgency"]), (Some(libc::SIGKILL), &"ceiling".into()));
    assert!(bytes(&record, "rss_at_kill_bytes") > 2 * LIMIT, "{record:#}");
    assert_eq!((&record["cause"], &record["exit"]["signal"]), (&"kill".into(), &libc::SIGKILL.into()));
    assert_eq!(daemon.reported("grace_over", hog.pid())["urgency"], "ceiling");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn without_a_ceiling_the_grace_is_whole() {
    let user = TestUser::claim();
    let changes = [RARELY, ("termination.grace", "600"), ("termination.hard_ceiling", "0")];
    let daemon = Daemon::start(&config(&user, &changes), EBPF);
    daemon.event("scan_complete");
    let hog = user.hog("ignore-term anon 100M hold");
    daemon.reported("killing", hog.pid());
    hog.ready("anon 100M");
    let second = user.hog("anon 40M hold");
    daemon.reported("terminated", second.pid());
    assert!(hog.is_alive(), "six hundred seconds are not over");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_record_shows_whether_the_oom_killer_was_first() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY, ("termination.grace", "600")]), EBPF);
    daemon.event("scan_complete");
    let mut hog = user.hog("ignore-term anon 50M hold");
    daemon.reported("killing", hog.pid());
    // SAFETY of the machine: a hog of this test, by its pid, before it is reaped.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(hog.pid().try_into().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let (_, record) = daemon.terminated(&mut hog);
    assert_eq!(record["cause"], "somebody_else", "{record:#}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_record_has_the_exit_status_of_a_victim_that_a_scan_found() {
    for instant in ["true", "false"] {
        let user = TestUser::claim();
        let mut hogs = [user.hog("anon 50M hold"), user.hog("ignore-term anon 50M hold")];
        hogs.iter().for_each(|hog| hog.begun("hold"));
        let changes = [RARELY, ("termination.grace", "600"), ("kernel.instant", instant)];
        let daemon = Daemon::start(&config(&user, &changes), EBPF);
        let [quick, stubborn] = &mut hogs;
        let (signal, record) = daemon.terminated(quick);
        assert_eq!((signal, &record["cause"]), (Some(libc::SIGTERM), &"term".into()), "{record:#}");
        assert_eq!(record["exit"]["signal"], libc::SIGTERM, "{record:#}");
        daemon.reported("killing", stubborn.pid());
        // SAFETY of the machine: as above.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(stubborn.pid().try_into().unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let (_, record) = daemon.terminated(stubborn);
        assert_eq!(
            (&record["cause"], &record["rss_at_crossing_bytes"]),
            (&"somebody_else".into(), &Value::Null)
        );
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_swings_around_its_limit_in_dry_run_is_reported_once_and_costs_little() {
    let user = TestUser::claim();
    let arguments = [EBPF, &["--dry-run"]].concat();
    let daemon = Daemon::start(&config(&user, &[RARELY]), &arguments);
    daemon.event("scan_complete");
    let swing = "anon 40M free ".repeat(6) + "anon 40M hold";
    let hog: Hog = user.hog(&swing);
    hog.begun("hold");
    let reported = || daemon.about("killing", hog.pid()).len();
    eventually("the one line about it", || reported() >= 1);
    assert_eq!(reported(), 1);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_is_no_longer_protected_wakes_memmon_again() {
    let user = TestUser::claim();
    let hog = user.hog("rename spared anon 40M wait-term free wait-term anon 40M hold");
    hog.begun("wait-term");
    let whitelist = ("whitelist.names", "[\"spared\"]");
    let daemon = Daemon::start(&config(&user, &[RARELY, whitelist]), EBPF);
    eventually("the first scan", || daemon.scans() == 1);
    hog.term();
    hog.begun_again("wait-term");
    daemon.reload(&config(&user, &[RARELY]));
    eventually("the scan after the reload", || daemon.scans() == 2);
    daemon.mentioned_once_each(hog.pid(), &["over_but_protected"]);
    hog.term();
    daemon.reported("terminated", hog.pid());
    assert_eq!(daemon.scans(), 2, "no scan was needed");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_growing_process_is_looked_at_by_the_limit_of_the_reload() {
    let user = TestUser::claim();
    let limit = |gb| {
        config(&user, &[RARELY, ("thresholds.warn_at_percent", "60"), ("thresholds.ram_gb_threshold", gb)])
    };
    // 64 MiB: beyond 40 the next level is at 48.
    let daemon = Daemon::start(&limit("0.0625"), EBPF);
    eventually("the first scan", || daemon.scans() == 1);
    let hog = user.hog("anon 39M wait-term anon 4M hold");
    hog.begun("wait-term");
    daemon.reported("approaching", hog.pid());
    // 44 MiB.
    daemon.reload(&limit("0.04296875"));
    eventually("the scan after the reload", || daemon.scans() == 2);
    assert!(daemon.about("killing", hog.pid()).is_empty());
    hog.term();
    let record = daemon.reported("terminated", hog.pid());
    assert_eq!(daemon.scans(), 2, "no scan was needed");
    assert!(record["rss_bytes"].as_u64() < Some(48 << 20), "{record:#}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn explain_has_the_slope_that_the_daemon_saw() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    // Busy, as above.
    let hog = user.hog("busy anon 12M grow 14M 8M/s hold");
    hog.begun("hold");
    let explained = || {
        let file = daemon.dir().join("config.toml");
        let mut explain = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
        let output =
            explain.args(["explain", "--json", &hog.pid().to_string(), "--config"]).arg(file).output();
        let reported: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        reported[0]["growth"].clone()
    };
    let mut growth = Value::Null;
    eventually("a slope", || {
        growth = explained();
        growth["growth_bytes_per_second"].is_f64()
    });
    let of = |key: &str| growth[key].as_f64().unwrap();
    assert!((1e6..1e8).contains(&of("growth_bytes_per_second")), "{growth}");
    let left = of("seconds_to_limit");
    assert!(left > 0.0 && left < 30.0, "{growth}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn one_that_stopped_growing_has_no_slope() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    // It allocates as fast as it can; then it sleeps, and neither a scan nor an event of the kernel reads it again.
    let begun = Instant::now();
    let hog = user.hog("anon 28M hold");
    hog.begun("hold");
    // A rate holds for as long as it was measured, and is gone at twice that age.
    let burst = begun.elapsed();
    std::thread::sleep(Duration::from_secs(2).max(3 * burst));
    let file = daemon.dir().join("config.toml");
    let mut explain = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
    let output = explain.args(["explain", "--json", &hog.pid().to_string(), "--config"]).arg(file).output();
    let reported: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    // The last part of the burst, which crossed no level, could have come at any time since: 4 MiB in 2 s at most.
    let growth = &reported[0]["growth"]["growth_bytes_per_second"];
    assert!(growth.as_f64().is_none_or(|rate| rate < 2.5e6), "{growth}");
    assert!(daemon.scans() == 1 && hog.is_alive());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn each_approach_is_warned_of_once() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[]), EBPF);
    let hog = user.hog("anon 25M wait-term free wait-term anon 25M hold");
    let warnings = || daemon.about("approaching", hog.pid()).len();
    hog.begun("wait-term");
    eventually("the warning", || warnings() == 1);
    daemon.scanned();
    assert_eq!(warnings(), 1, "once while it stays there");
    hog.term();
    hog.begun_again("wait-term");
    daemon.scanned();
    hog.term();
    hog.begun("hold");
    eventually("the second approach's", || warnings() == 2);
    daemon.scanned();
    assert_eq!(warnings(), 2);
    assert!(hog.is_alive() && daemon.about("killing", hog.pid()).is_empty());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_a_little_below_twice_its_limit_delays_no_other() {
    let _supervisor = Supervisor::pretend();
    let user = TestUser::claim();
    // The largest memory of a hog beyond that of its script.
    let besides = |_| {
        let measured = user.hog("anon 40M hold");
        measured.begun("hold");
        let resident = status_field(measured.pid(), "VmRSS:").unwrap();
        resident.trim_end_matches(" kB").parse::<u64>().unwrap() - (40 << 10)
    };
    let besides = (0..3).map(besides).max().unwrap();

    let often = [("termination.repeat_limit", "1"), ("termination.repeat_backoff", "600"), RARELY];
    let daemon = Daemon::start(&config(&user, &often), EBPF);
    daemon.event("scan_complete");
    daemon.terminated(&mut user.hog("anon 40M hold"));
    // Nearer to the limit than the kernel's counters can distinguish.
    let waits = user.hog(&format!("anon {}K hold", ((2 * LIMIT) >> 10) - besides - 500));
    waits.begun("hold");
    daemon.reported("held_back", waits.pid());
    daemon.terminated(&mut user.hog("anon 70M hold"));
    assert!(waits.is_alive() && daemon.about("killing", waits.pid()).is_empty());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_was_spared_wakes_memmon_at_its_next_crossing() {
    let user = TestUser::claim();
    // It frees its memory on SIGTERM and is then stopped, so that nothing else wakes the daemon.
    let mut hog = user.hog("anon 40M wait-term free hold anon 40M stop");
    hog.begun("wait-term");
    let daemon = Daemon::start(&config(&user, &[RARELY, ("termination.grace", "5")]), EBPF);
    daemon.event("scan_complete");
    let before = daemon.scans();
    daemon.reported("spared", hog.pid());
    hog.release();
    daemon.reported("terminated", hog.pid());
    assert_eq!(daemon.scans(), before, "no scan was needed");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_crossing_is_recorded_when_it_was_and_not_when_memmon_had_time_for_it() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), EBPF);
    daemon.event("scan_complete");
    daemon.signal(Signal::SIGSTOP);
    let mut hog = user.hog("anon 60M hold");
    hog.begun("hold");
    let over = Instant::now();
    thread::sleep(Duration::from_millis(200));
    let late = over.elapsed();
    daemon.signal(Signal::SIGCONT);
    let (_, record) = daemon.terminated(&mut hog);
    let reaction = record["crossing_to_signal_seconds"].as_f64().unwrap();
    assert!(reaction > late.as_secs_f64(), "{late:?} after it was over: {record:#}");
    assert!(bytes(&record, "rss_at_crossing_bytes") > LIMIT - (2 << 20), "{record:#}");
    daemon.stop();
}
