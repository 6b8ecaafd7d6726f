//! Processes that were forked and have not called exec: memory that they inherited is charged to the process that they were
//! forked from while that lives; their own memory is charged to them.
#![expect(unsafe_code, reason = "children that wait between fork and exec")]

use std::{
    os::unix::process::CommandExt,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually, is_dead,
    log::{RARELY, SOON, SOURCES, config},
};

/// Holds 64 MiB in this very process, which is root's and out of scope, while `with_it` runs.
fn while_large(with_it: impl FnOnce()) {
    let large = vec![1_u8; 64 << 20];
    with_it();
    assert!(std::hint::black_box(&large).iter().step_by(4096).all(|byte| *byte == 1));
}

/// A child of this process that becomes the user, waits, and only then calls exec.
fn late_exec(user: &TestUser, wait: Duration) -> bool {
    let mut command = Command::new("true");
    command.uid(user.uid).gid(user.uid);
    let wait_in_child = move || {
        thread::sleep(wait);
        Ok(())
    };
    // SAFETY: nanosleep(2) alone, nothing is allocated.
    unsafe { command.pre_exec(wait_in_child) };
    command.status().unwrap().success()
}

#[test]
#[ignore = "kernel: needs root"]
fn a_child_of_a_large_process_has_its_time_to_call_exec() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        while_large(|| {
            for _ in 0..100 {
                assert!(late_exec(&user, Duration::from_micros(700)), "{source}");
            }
            // Long enough for scans and rechecks to see the child.
            for _ in 0..10 {
                assert!(late_exec(&user, Duration::from_millis(120)), "{source}");
            }
        });
        for event in ["killing", "spared", "unsure", "held_back", "approaching"] {
            assert_eq!(daemon.every(event), Vec::<serde_json::Value>::new(), "{source}");
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn memory_that_a_child_shares_with_its_parent_is_the_parents() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let parent = user.hog("ignore-term anon 27M fork anon 8M hold end hold");
        let child = parent.child("fork");
        parent.line(&format!("{child} begin hold"));
        thread::sleep(Duration::from_millis(500));
        daemon.scanned();
        assert!(!is_dead(child) && parent.is_alive(), "{source}");
        assert!(daemon.every("killing").is_empty(), "{source}");
        drop(parent);
        eventually("the child's end", || is_dead(child));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_child_that_has_more_than_the_limit_of_its_own_is_ended() {
    let user = TestUser::claim();
    // The second one writes to what it inherited, by which its RSS does not grow.
    for script in ["anon 20M fork anon 50M hold end hold", "anon 28M fork anon 8M rewrite hold end hold"] {
        for source in SOURCES {
            let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
            let parent = user.hog(script);
            let child = parent.child("fork");
            daemon.reported("terminated", child);
            assert!(parent.is_alive(), "{source}");
            daemon.stop();
        }
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn whoever_is_left_is_charged_for_all() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        // Each ends as soon as it has forked the next one.
        for script in
            ["anon 24M split anon 14M hold end", "anon 14M split anon 12M split anon 12M hold end end"]
        {
            let before = daemon.every("terminated").len();
            let mut hog = user.hog(script);
            let child = hog.child("split");
            assert!(hog.ended(SOON).success(), "the first one is within its limit");
            eventually("the last one's end", || daemon.every("terminated").len() > before);
            let ended = daemon.every("terminated")[before]["pid"].as_u64();
            assert!(ended >= Some(u64::from(child)), "{ended:?}, forked after {child}");
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn when_the_elder_ends_the_child_is_looked_at() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut parent = user.hog("anon 27M split anon 8M hold end wait-term");
        let child = parent.child("split");
        parent.line(&format!("{child} begin hold"));
        thread::sleep(Duration::from_millis(700));
        assert!(!is_dead(child) && daemon.every("killing").is_empty(), "{source}");
        parent.term();
        assert!(parent.ended(SOON).success());
        let ended = Instant::now();
        daemon.reported("killing", child);
        assert!(ended.elapsed() < Duration::from_secs(3), "{source}: {:?}", ended.elapsed());
        daemon.reported("terminated", child);
        daemon.stop();
    }
}

#[test]
#[cfg(feature = "ebpf")]
#[ignore = "kernel: needs root and kernel BTF"]
fn between_two_scans_the_kernel_map_is_enough() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[RARELY]), crate::common::log::EBPF);
    daemon.event("scan_complete");
    let scans = daemon.scans();
    for script in ["anon 20M fork anon 50M hold end hold", "anon 28M fork anon 8M rewrite hold end hold"] {
        let parent = user.hog(script);
        daemon.reported("terminated", parent.child("fork"));
        assert!(parent.is_alive());
    }
    let mut parent = user.hog("anon 27M split anon 8M hold end wait-term");
    let child = parent.child("split");
    parent.line(&format!("{child} begin hold"));
    parent.term();
    assert!(parent.ended(SOON).success());
    daemon.reported("terminated", child);
    assert_eq!(daemon.scans(), scans);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_process_that_stands_still_in_a_victims_memory_is_next() {
    let user = TestUser::claim();
    for source in SOURCES {
        // With the kernel map no scan is needed for it.
        let changes = if *source == "ebpf" { &[RARELY][..] } else { &[] };
        let daemon = Daemon::start(&config(&user, changes), &["--source", source]);
        daemon.event("scan_complete");
        let mut owner = user.hog("share anon 60M hold");
        let heir = owner.child("share");
        assert_eq!(daemon.terminated(&mut owner).0, Some(libc::SIGTERM), "{source}");
        let ended = Instant::now();
        daemon.reported("terminated", heir);
        assert!(ended.elapsed() < Duration::from_secs(3), "{source}: {:?}", ended.elapsed());
        eventually("the end of its memory", || is_dead(heir));
        if *source == "ebpf" {
            assert_eq!(daemon.scans(), 1);
        }
        daemon.stop();
    }
}
