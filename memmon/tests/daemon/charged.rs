//! Processes that are over their limit by resident memory, and what their end would give back.

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually, is_dead,
    log::{SOURCES, config},
};

const TERM: Option<i32> = Some(libc::SIGTERM);
const MIB: u64 = 1 << 20;
const BY_RSS: (&str, &str) = ("thresholds.measure", "\"rss\"");

/// A path that is on a disk.
fn on_disk() -> String {
    format!("{}/memmon-mapped-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id())
}

#[test]
#[ignore = "kernel: needs root"]
fn page_cache_condemns_nobody_unless_resident_memory_alone_counts() {
    let user = TestUser::claim();
    let mapped = format!("file {} 60M", on_disk());
    for source in SOURCES {
        let hold = || user.hog_after(&mapped, "anon 4M hold");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let hog = hold();
        let told = daemon.told("uncharged", hog.pid());
        assert!(told["page_cache_bytes"].as_u64().unwrap() >= 60 * MIB, "{told}");
        assert!(told["charged_bytes"].as_u64().unwrap() < 10 * MIB, "{told}");
        daemon.scanned();
        assert_eq!(daemon.about("uncharged", hog.pid()).len(), 1, "it is reported once");
        assert!(hog.is_alive() && daemon.every("killing").is_empty(), "{source}");
        daemon.stop();

        let daemon = Daemon::start(&config(&user, &[BY_RSS]), &["--source", source]);
        let mut hog = hog;
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn shared_memory_that_nobody_else_holds_counts() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut hog = user.hog("shmem 60M hold");
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_hog_with_a_sleeping_child_is_charged_for_what_both_map() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut hog = user.hog("shmem 60M fork hold end hold");
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn workers_that_share_the_segment_of_their_parent_live() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        // As a database does: the parent makes the segment, its workers fill it.
        let parent = user.hog("segment 60M fork rewrite hold end fork rewrite hold end hold");
        let workers = parent.children("fork", 2);
        for worker in &workers {
            let told = daemon.told("uncharged", *worker);
            assert_eq!(told["largest"]["why"]["elder"]["pid"], parent.pid(), "{told}");
            assert!(told["kept_bytes"].as_u64().unwrap() >= 30 * MIB, "{told}");
        }
        daemon.scanned();
        assert!(daemon.every("killing").is_empty(), "{source}");
        assert!(parent.is_alive() && !workers.iter().any(|worker| is_dead(*worker)), "{source}");
        drop(parent);
        eventually("the workers' end", || workers.iter().all(|worker| is_dead(*worker)));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_worker_over_the_limit_by_its_own_memory_is_ended_alone() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let parent = user.hog("segment 40M fork rewrite hold end fork rewrite anon 50M hold end hold");
        let [small, large] = parent.children("fork", 2)[..] else { panic!("two workers") };
        daemon.told("terminated", large);
        daemon.scanned();
        assert!(
            daemon.about("killing", small).is_empty() && parent.is_alive() && !is_dead(small),
            "{source}"
        );
        drop(parent);
        eventually("the worker's end", || is_dead(small));
        daemon.stop();
    }
}
