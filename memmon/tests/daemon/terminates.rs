//! An enforcing memmon and real hogs: how processes over their limit end.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    is_dead,
    log::{LIMIT, SOON, SOURCES, config},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);
const KILL: Option<i32> = Some(libc::SIGKILL);

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn every_kind_of_memory_counts() {
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon =
            Daemon::start(&config(&user, &[("thresholds.measure", "\"rss\"")]), &["--source", source]);
        // Not on a tmpfs, because the pages of a file there are shared memory.
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("file-{}", std::process::id()));
        let file = format!("file {} 60M", file.display());
        let scripts = ["anon 60M", "shmem 60M", &file, "threads 6 10M", "leader-exits anon 60M"];
        // The file and its folder belong to root.
        let start = |script: &str| match script.split_once(' ') {
            Some(("file", _)) => user.hog_after(script, "hold"),
            _ => user.hog(&format!("{script} hold")),
        };
        let mut hogs = scripts.map(start);
        for (hog, script) in hogs.iter_mut().zip(scripts) {
            let (signal, record) = daemon.terminated(hog);
            assert_eq!(signal, TERM, "{script}");
            assert_eq!(record["cause"], "term", "{script}");
            is_sane(&record);
        }
        let events = daemon.every("killing");
        assert_eq!(events.len(), hogs.len(), "each once: {events:#?}");
        daemon.stop();
    }
}

/// Checks the record of a hog of some 60 MiB.
fn is_sane(record: &Value) {
    let bytes = |key: &str| record[key].as_u64().unwrap_or_else(|| panic!("{key} in {record:#}"));
    assert_eq!(bytes("limit_bytes"), LIMIT);
    assert_eq!(record["rule"], "gb");
    for key in ["rss_bytes", "rss_at_term_bytes", "peak_bytes"] {
        assert!((LIMIT + 1..200 << 20).contains(&bytes(key)), "{key} in {record:#}");
    }
    assert!(bytes("peak_bytes") >= bytes("rss_at_term_bytes").max(bytes("rss_bytes")), "{record:#}");
    let percent = record["percent"].as_f64().unwrap();
    assert!(percent > 0.0 && percent < 100.0, "{record:#}");
    let seconds = record["signal_to_exit_seconds"].as_f64().unwrap();
    assert!((0.0..10.0).contains(&seconds), "{record:#}");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_fork_of_a_big_parent_is_as_big_once_that_has_ended() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("anon 60M split ignore-term hold end hold");
        let child = hog.child("split");
        hog.line(&format!("{child} begin hold"));
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "1")]), &["--source", source]);
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        // It has copies of its parent's page tables, which RSS counts.
        assert!(daemon.reported("killing", child)["rss_bytes"].as_u64().unwrap() > 60 << 20);
        eventually("the end of the child", || is_dead(child));
        let order: Vec<_> = daemon.every("killing").iter().map(|one| one["pid"].as_u64()).collect();
        assert_eq!(order, [hog.pid(), child].map(|pid| Some(u64::from(pid))), "{source}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_child_that_borrows_its_parents_memory_is_never_signalled() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("ignore-term anon 60M vfork hold");
        let child = hog.child("vfork");
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "5")]), &["--source", source]);
        daemon.reported("killing", hog.pid());
        daemon.scanned();
        assert!(!is_dead(child), "the child is there while the grace lasts");
        // When its parent ends, the memory becomes its own.
        daemon.never_mentioned(child);
        assert_eq!(daemon.terminated(&mut hog).0, KILL);
        eventually("the end of the child by its parent's", || is_dead(child));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_child_by_vfork_and_exec_is_a_process_of_its_own() {
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let small = user.hog("vfork-exec anon 60M hold end hold");
        let child = small.child("vfork-exec");
        let record = daemon.reported("terminated", child);
        assert_eq!(record["cause"], "term");
        is_sane(&record);
        let mut big = user.hog("vfork-exec anon 5M hold end anon 60M hold");
        let child = big.child("vfork-exec");
        assert_eq!(daemon.terminated(&mut big).0, TERM);
        daemon.scanned();
        daemon.never_mentioned(small.pid());
        daemon.never_mentioned(child);
        assert!(small.is_alive());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn sigterm_first_and_sigkill_where_that_is_not_enough() {
    for source in SOURCES {
        let user = TestUser::claim();
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), Some(user.uid), None).unwrap();
        let saved = dir.path().join("saved");
        let mut saves = user.hog(&format!("save-on-term {} anon 60M hold", saved.display()));
        let mut ignores = user.hog("ignore-term anon 60M hold");
        let mut stopped = user.hog("anon 60M stop");
        eventually("the stop", || stopped.state() == 'T');
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "5")]), &["--source", source]);

        let (signal, record) = daemon.terminated(&mut saves);
        assert_eq!((signal, &record["cause"]), (None, &"term".into()), "it left by itself");
        assert_eq!(fs::read_to_string(&saved).unwrap(), "saved");
        assert!(record["signal_to_exit_seconds"].as_f64().unwrap() < 5.0, "{record:#}");
        assert!(record["rss_at_kill_bytes"].is_null());
        is_sane(&record);

        let (signal, record) = daemon.terminated(&mut stopped);
        assert_eq!((signal, &record["cause"]), (TERM, &"term".into()), "it was continued");
        is_sane(&record);

        let (signal, record) = daemon.terminated(&mut ignores);
        assert_eq!((signal, &record["cause"]), (KILL, &"kill".into()));
        assert!(record["signal_to_exit_seconds"].as_f64().unwrap() >= 5.0, "{record:#}");
        assert!(record["rss_at_kill_bytes"].as_u64().unwrap() > 60 << 20, "{record:#}");
        is_sane(&record);
        let over = daemon.reported("grace_over", ignores.pid());
        assert!(over["grace_seconds"].as_f64().unwrap() >= 5.0 && over["rss_bytes"].is_u64(), "{over:#}");
        for hog in [&ignores, &stopped] {
            assert_eq!(
                daemon.about("killing", hog.pid()).len(),
                1,
                "reported once, however many scans there were"
            );
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_frees_its_memory_in_time_is_spared() {
    for source in SOURCES {
        let user = TestUser::claim();
        let hogs = ["free", "dontneed"].map(|step| user.hog(&format!("anon 60M wait-term {step} hold")));
        hogs.iter().for_each(|hog| hog.begun("wait-term"));
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "5")]), &["--source", source]);
        for hog in &hogs {
            let spared = daemon.reported("spared", hog.pid());
            assert_eq!((&spared["after_term"], &spared["limit_bytes"]), (&true.into(), &LIMIT.into()));
            assert!(spared["rss_bytes"].as_u64().unwrap() < LIMIT, "{spared:#}");
        }
        daemon.scanned();
        assert!(hogs.iter().all(Hog::is_alive));
        assert!(daemon.every("grace_over").is_empty() && daemon.every("terminated").is_empty());
        daemon.stop();
    }
}

/// Its freed memory stays in its RSS, because no other process needs it.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn memory_that_is_free_already_is_taken_off_before_sigkill_and_before_the_next_sigterm() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("anon 60M wait-term madvise-free hold ignore-term rewrite work");
        hog.begun("wait-term");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let spared = daemon.reported("spared", hog.pid());
        assert_eq!(spared["after_term"], true);
        assert!(spared["rss_bytes"].as_u64().unwrap() < LIMIT, "{spared:#}");
        for _ in 0..5 {
            daemon.scanned();
        }
        let status = fs::read_to_string(format!("/proc/{}/status", hog.pid())).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let rss: u64 = rss.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(hog.is_alive() && rss << 10 > 60 << 20, "the kernel did not need it: {rss} kB");
        assert_eq!(daemon.about("killing", hog.pid()).len(), 1, "{source}: one SIGTERM");
        assert!(daemon.every("grace_over").is_empty() && daemon.every("disagreement").is_empty(), "{source}");
        // In use again, without more RSS; only SIGKILL ends it.
        hog.release();
        assert_eq!(daemon.terminated(&mut hog).0, KILL);
        assert_eq!(daemon.about("killing", hog.pid()).len(), 2);
        daemon.stop();
    }
}

/// The exit of this process takes a while, because it has many threads.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn memory_is_freed_ahead_of_the_exit() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "0.1")]), &[]);
    let freed_ahead = |_| {
        let mut hog = user.hog("ignore-term threads 200 1M anon 50M hold");
        daemon.terminated(&mut hog).1["reclaimed"] == true
    };
    assert!((0..10).any(freed_ahead), "process_mrelease never came first");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_stop_does_not_wait_for_victims() {
    for source in SOURCES {
        let took = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM].map(|signal| {
            let user = TestUser::claim();
            let daemon = Daemon::start(&config(&user, &[("termination.grace", "30")]), &["--source", source]);
            let hogs: Vec<Hog> = (0..3).map(|_| user.hog("ignore-term anon 40M hold")).collect();
            for hog in &hogs {
                daemon.reported("killing", hog.pid());
            }
            let asked = Instant::now();
            let printed = daemon.stop_by(signal);
            let took = asked.elapsed();
            let last: Value = serde_json::from_str(printed.last().unwrap()).unwrap();
            assert_eq!(last["event"], "stopping");
            assert_eq!(last["reason"], format!("{signal}; 3 terminations are left unfinished"));
            assert!(hogs.iter().all(Hog::is_alive));
            took
        });
        // The smallest time counts, because the machine may be busy.
        assert!(took.into_iter().min() < Some(Duration::from_secs(1)), "{source}: {took:?}");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn victims_do_not_wait_for_each_other() {
    let user = TestUser::claim();
    let mut hogs: Vec<Hog> = (0..5).map(|_| user.hog("ignore-term anon 40M hold")).collect();
    hogs.iter().for_each(|hog| hog.begun("hold"));
    let begun = Instant::now();
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "2")]), &["--once"]);
    for hog in &mut hogs {
        assert_eq!(hog.ended_by(SOON), KILL);
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?} for five graces of 2 s", begun.elapsed());
    let mut daemon = daemon;
    assert!(daemon.ended(SOON).success(), "one scan, and the terminations that it started");
    let last = daemon.last_words().pop().unwrap();
    assert!(last.contains("one scan was asked for"), "{last}");
    assert_eq!(daemon.event("scan_complete")["killed"], 5);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn threads_that_follow_each_other_behind_a_dead_leader_hide_nothing() {
    for source in SOURCES {
        let user = TestUser::claim();
        for _ in 0..3 {
            let mut hog = user.hog("anon 60M churn");
            hog.begun("churn");
            eventually("the leader's end", || hog.state() == 'Z');
            let config = config(&user, &[("thresholds.check_interval", "1")]);
            let daemon = Daemon::start(&config, &["--source", source]);
            let begun = Instant::now();
            assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
            // And not because memmon could not read it for so long that this no longer spares it.
            let doubts = daemon.every("doubt_ended");
            assert!(doubts.is_empty(), "{source}, after {:?}: {doubts:?}", begun.elapsed());
            daemon.stop();
        }
    }
}
