//! Families of processes that share memory: one of them is always charged for it, the eldest first.

use std::{fs, thread, time::Duration};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually, is_dead,
    log::{SOON, SOURCES, config},
    processes_of,
};

const TERM: Option<i32> = Some(libc::SIGTERM);

/// The pids that memmon has signalled so far, in their order.
fn struck(daemon: &Daemon) -> Vec<u64> {
    daemon.every("killing").iter().filter_map(|event| event["pid"].as_u64()).collect()
}

/// Asserts that `first` was signalled before `second`.
///
/// memmon may see that the memory of `first` is gone before it sees the exit, so the record of its end may be later.
fn struck_before(daemon: &Daemon, first: u32, second: u32) {
    let order = struck(daemon);
    let at = |pid: u32| order.iter().position(|struck| *struck == u64::from(pid)).unwrap();
    assert!(at(first) < at(second), "{first} before {second}: {order:?}");
}

/// Whether `pid` still has its memory: an exiting process gives it up before it is a zombie.
fn has_memory(pid: u32) -> bool {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    pages.split_whitespace().nth(1).is_some_and(|resident| resident != "0")
}

fn for_each_source(test: impl Fn(&TestUser, &Daemon)) {
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        test(&user, &daemon);
        eventually("the end of all", || processes_of(user.uid).is_empty());
        daemon.stop();
    }
}

/// One that holds the memory open and does not map it.
#[test]
#[ignore = "kernel: needs root"]
fn no_one_hides_behind_a_process_that_holds_the_memfd() {
    for_each_source(|user, daemon| {
        // The elder holds it.
        let keeper = user.hog("memfd 60M fork map rewrite hold end hold");
        let hog = keeper.child("fork");
        daemon.reported("terminated", hog);
        assert!(keeper.is_alive());
        drop(keeper);
        // A child holds it.
        let mut hog = user.hog("memfd 60M split hold end map rewrite hold");
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
    });
}

#[test]
#[ignore = "kernel: needs root"]
fn memory_that_is_mapped_twice_counts_once() {
    for_each_source(|user, daemon| {
        let mut hog = user.hog("memfd 40M map map rewrite hold");
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        // Resident are 40 MB of these 20.
        let small = user.hog("memfd 20M map map rewrite hold");
        let reported = daemon.reported("uncharged", small.pid());
        assert!((19 << 20..24 << 20).contains(&reported["charged_bytes"].as_u64().unwrap()), "{reported}");
        daemon.scanned();
        assert!(small.is_alive());
    });
}

#[test]
#[ignore = "kernel: needs root"]
fn shared_memory_is_found_in_a_process_whose_main_thread_has_ended() {
    for_each_source(|user, daemon| {
        let mut hog = user.hog("leader-exits memfd 60M map rewrite hold");
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
    });
}

#[test]
#[ignore = "kernel: needs root"]
fn of_two_that_have_touched_the_same_memory_the_elder_is_ended_first() {
    for_each_source(|user, daemon| {
        let mut elder = user.hog("memfd 60M map split rewrite hold end wait-term rewrite hold");
        let younger = elder.child("split");
        let reported = daemon.reported("uncharged", younger);
        assert_eq!(reported["largest"]["why"]["elder"]["pid"], elder.pid(), "{reported}");
        assert!(struck(daemon).is_empty());
        elder.term();
        assert_eq!(daemon.terminated(&mut elder).0, TERM);
        daemon.reported("terminated", younger);
        struck_before(daemon, elder.pid(), younger);
    });
}

#[test]
#[ignore = "kernel: needs root"]
fn whoever_is_left_with_shared_memory_is_charged_for_it() {
    for_each_source(|user, daemon| {
        let mut parent = user.hog("memfd 60M map split rewrite hold end wait-term");
        let child = parent.child("split");
        daemon.reported("uncharged", child);
        parent.term();
        assert!(parent.ended(SOON).success());
        daemon.reported("terminated", child);
        assert_eq!(struck(daemon), [u64::from(child)]);
    });
}

/// Each process stays below the limit with what it adds, and forks the next one before it would exceed it.
#[test]
#[ignore = "kernel: needs root"]
fn a_chain_of_forks_is_charged_from_its_eldest_living_member_on() {
    for_each_source(|user, daemon| {
        let mut first = user.hog("anon 20M split anon 16M split anon 16M hold end hold end wait-term");
        let second = first.child("split");
        eventually("the third one", || children(second).len() == 1);
        let third = children(second)[0];
        first.line(&format!("{third} begin hold"));
        thread::sleep(Duration::from_millis(700));
        assert!(struck(daemon).is_empty(), "36 MB and 52 MB are resident, each has added 16");
        first.term();
        assert!(first.ended(SOON).success());
        // Now it is the eldest, with 36 MB.
        daemon.reported("terminated", second);
        daemon.reported("terminated", third);
        struck_before(daemon, second, third);
    });
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A parent and two forked children with all of its memory, over the limit together when memmon starts.
#[test]
#[ignore = "kernel: needs root"]
fn of_a_parent_and_its_children_the_parent_is_ended_first_and_the_others_are_looked_at_again() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut parent = user.hog("ignore-term anon 60M split hold end split hold end hold");
        let younger = parent.children("split", 2);
        parent.begun("hold");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        daemon.reported("killing", parent.pid());
        // During its grace period no other process is signalled.
        loop {
            let struck = struck(&daemon);
            if !has_memory(parent.pid()) {
                break;
            }
            assert_eq!(struck, [u64::from(parent.pid())], "{source}");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(parent.ended_by(SOON), Some(libc::SIGKILL));
        // The process that has the memory now is charged for it.
        for pid in &younger {
            daemon.reported("terminated", *pid);
            struck_before(&daemon, parent.pid(), *pid);
        }
        eventually("the end of all", || processes_of(user.uid).is_empty());
        daemon.stop();
    }
}

/// The children share what the parent has, and are within the limit without it.
#[test]
#[ignore = "kernel: needs root"]
fn children_that_are_within_the_limit_after_their_parents_end_live() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut parent = user.hog("anon 60M split free anon 8M wait-term end hold");
        let child = parent.child("split");
        parent.line(&format!("{child} begin wait-term"));
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        assert_eq!(daemon.terminated(&mut parent).0, TERM, "{source}");
        daemon.scanned();
        assert_eq!(struck(&daemon), [u64::from(parent.pid())], "{source}");
        assert!(!is_dead(child));
        let child = nix::unistd::Pid::from_raw(child.cast_signed());
        nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGTERM).unwrap();
        eventually("the end of all", || processes_of(user.uid).is_empty());
        daemon.stop();
    }
}

/// The forked process has freed what it inherited, and shares new memory with a child of its own.
#[test]
#[ignore = "kernel: needs root"]
fn no_one_hides_behind_an_elder_by_sharing_new_memory_with_its_own_child() {
    for_each_source(|user, daemon| {
        // The parent shares its memory with another child, as a server with many workers does.
        let parent = user.hog("anon 27M fork hold end fork dontneed anon 50M fork hold end hold end hold");
        let hider = parent.children("fork", 2)[1];
        daemon.reported("terminated", hider);
        assert_eq!(struck(daemon)[0], u64::from(hider));
        assert!(parent.is_alive());
        drop(parent);
    });
}

/// An elder that maps a small part of an object holds no more than that.
#[test]
#[ignore = "kernel: needs root"]
fn no_one_hides_behind_a_process_that_maps_a_small_part_of_its_memory() {
    for_each_source(|user, daemon| {
        let keeper = user.hog("memfd 60M map-part 4K fork map rewrite hold end hold");
        let hog = keeper.child("fork");
        let reported = daemon.reported("terminated", hog);
        assert_eq!(reported["cause"], "term");
        assert!(keeper.is_alive());
        drop(keeper);
    });
}
