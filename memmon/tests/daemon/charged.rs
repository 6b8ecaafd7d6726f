//! Processes that are over their limit by resident memory, and what their end would give back.

use std::{fs, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    is_dead,
    log::{SOURCES, config},
    processes_of,
};

/// Workers of one parent; more than may be looked up at the same time.
const WORKERS: usize = 20;

const TERM: Option<i32> = Some(libc::SIGTERM);
const MIB: u64 = 1 << 20;
const BY_RSS: (&str, &str) = ("thresholds.measure", "\"rss\"");

/// A path that is on a disk.
fn on_disk() -> String {
    format!("{}/memmon-mapped-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id())
}

#[test]
#[ignore = "kernel: needs root"]
fn page_cache_ends_no_process_unless_resident_memory_alone_counts() {
    let user = TestUser::claim();
    let mapped = format!("file {} 60M", on_disk());
    for source in SOURCES {
        let hold = || user.hog_after(&mapped, "anon 4M hold");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let hog = hold();
        let reported = daemon.reported("uncharged", hog.pid());
        assert!(reported["page_cache_bytes"].as_u64().unwrap() >= 60 * MIB, "{reported}");
        assert!(reported["charged_bytes"].as_u64().unwrap() < 10 * MIB, "{reported}");
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
        // The child is there before the memory is.
        let mut hog = user.hog("memfd 60M map fork hold end rewrite hold");
        let child = hog.children("fork", 1)[0];
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
        daemon.stop();
        drop(hog);
        eventually("the child's end", || is_dead(child));
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
            let reported = daemon.reported("uncharged", *worker);
            assert_eq!(reported["largest"]["why"]["elder"]["pid"], parent.pid(), "{reported}");
            assert!(reported["kept_bytes"].as_u64().unwrap() >= 30 * MIB, "{reported}");
        }
        daemon.scanned();
        assert!(daemon.every("killing").is_empty(), "{source}");
        assert!(parent.is_alive() && !workers.iter().any(|worker| is_dead(*worker)), "{source}");
        drop(parent);
        eventually("the workers' end", || workers.iter().all(|worker| is_dead(*worker)));
        daemon.stop();
    }
}

/// The JSON output of a command of memmon that only looks.
fn looked(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_memmon")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
#[ignore = "kernel: needs root"]
fn explain_and_check_show_the_parts_and_the_processes_that_share_them() {
    let user = TestUser::claim();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let limits =
        "thresholds = { ram_gb_threshold = 0.03125, ram_percent_threshold = 100 }\nsettings.log_file = ''";
    fs::write(&file, limits).unwrap();
    let file = file.to_str().unwrap();
    let explained = |pid: u32| {
        let found = looked(&["explain", "--json", "--config", file, &pid.to_string()]);
        found[0]["details"].clone()
    };

    let database = user.hog("segment 60M fork rewrite hold end hold");
    let [worker] = database.children("fork", 1)[..] else { panic!("one worker") };
    eventually("all of the segment", || explained(worker)["shmem_bytes"].as_u64() >= Some(60 * MIB));
    let details = explained(worker);
    assert_eq!(details["kept"]["holder"]["pid"], database.pid(), "{details}");
    assert_eq!(details["kept"]["holder"]["comm"], "hog", "{details}");
    assert!(details["kept"]["bytes"].as_u64() >= Some(60 * MIB), "{details}");
    assert!(details["charged_bytes"].as_u64() < Some(10 * MIB), "{details}");
    assert_eq!(details["hugetlb_bytes"], 0, "{details}");
    // By resident memory alone, the worker would be terminated.
    let running = looked(&["check", "--json", file])["running"]["other_measure"].clone();
    assert_eq!(running["measure"], "rss");
    let changed = running["changed"].as_array().unwrap().iter().find(|one| one["pid"] == worker);
    assert!(changed.is_some_and(|one| !one["verdict"]["terminate"].is_null()), "{running}");

    let parent = user.hog("anon 50M fork hold end hold");
    let [child] = parent.children("fork", 1)[..] else { panic!("one child") };
    let details = explained(child);
    assert_eq!(details["inherited"]["elder"]["pid"], parent.pid(), "{details}");
    assert!(details["inherited"]["bytes"].as_u64() >= Some(50 * MIB), "{details}");
    assert!(details["charged_bytes"].as_u64() < Some(10 * MIB), "{details}");
    assert_eq!(explained(parent.pid())["inherited"], Value::Null);
    drop((database, parent));
    eventually("their end", || is_dead(worker) && is_dead(child));
}

#[test]
#[ignore = "kernel: needs root"]
fn a_worker_over_the_limit_by_its_own_memory_is_ended_alone() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let parent = user.hog("segment 40M fork rewrite hold end fork rewrite anon 50M hold end hold");
        let [small, large] = parent.children("fork", 2)[..] else { panic!("two workers") };
        daemon.reported("terminated", large);
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

/// A parent that maps a memfd and does not touch it, and `WORKERS` that touch it all; `more` is what follows.
fn pool(user: &TestUser, more: &str) -> Hog {
    user.hog(&format!("memfd 40M map {} {more} hold", "fork rewrite hold end ".repeat(WORKERS)))
}

#[test]
#[ignore = "kernel: needs root"]
fn twenty_workers_that_cross_their_limit_at_once_live() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let parent = pool(&user, "");
        let workers = parent.children("fork", WORKERS);
        for worker in &workers {
            let reported = daemon.reported("uncharged", *worker);
            assert_eq!(reported["largest"]["why"]["elder"]["pid"], parent.pid(), "{reported}");
        }
        daemon.scanned();
        assert!(daemon.every("killing").is_empty() && daemon.every("unsure").is_empty(), "{source}");
        assert!(parent.is_alive() && !workers.iter().any(|worker| is_dead(*worker)), "{source}");
        drop(parent);
        eventually("the workers' end", || processes_of(user.uid).is_empty());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn of_twenty_workers_only_the_one_with_memory_of_its_own_is_ended() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        // Its memory is shared memory, too, so that only a lookup distinguishes it from the others.
        let parent = pool(&user, "fork rewrite shmem 60M hold end");
        let mut workers = parent.children("fork", WORKERS + 1);
        let hog = workers.pop().unwrap();
        daemon.reported("terminated", hog);
        daemon.scanned();
        let struck: Vec<_> = daemon.every("killing").iter().map(|event| event["pid"].clone()).collect();
        assert_eq!(struck, [hog], "{source}");
        assert!(parent.is_alive() && !workers.iter().any(|worker| is_dead(*worker)), "{source}");
        drop(parent);
        eventually("the workers' end", || processes_of(user.uid).is_empty());
        daemon.stop();
    }
}

/// A file of a process that memmon cannot read while this lives: a file whose reads fail (EIO) is mounted on it.
struct Unreadable<'a>(&'a Daemon, String);

impl<'a> Unreadable<'a> {
    fn make(daemon: &'a Daemon, pid: u32, file: &str) -> Self {
        let place = format!("/proc/{pid}/{file}");
        // The memory at address 0.
        let fails = format!("/proc/{}/mem", daemon.pid());
        assert!(daemon.beside("mount").args(["--bind", &fails, &place]).status().unwrap().success());
        Self(daemon, place)
    }

    fn end(self) {
        assert!(self.0.beside("umount").arg(&self.1).status().unwrap().success());
    }
}

/// Longer than any doubt lasts that the owner of a process can cause.
fn wait_out_doubts() {
    thread::sleep(Duration::from_millis(2500));
}

#[test]
#[ignore = "kernel: needs root and mounts"]
fn an_elder_that_cannot_be_read_ends_no_worker() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let parent = user.hog("memfd 60M map wait-term fork rewrite hold end hold");
        parent.begun("wait-term");
        let fails = Unreadable::make(&daemon, parent.pid(), "maps");
        parent.term();
        let worker = parent.child("fork");
        let reported = daemon.reported("unsure", worker);
        let reason = reported["doubt"]["shared_memory_unreadable"]["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("pid {}", parent.pid())), "{reported}");
        wait_out_doubts();
        assert!(daemon.every("killing").is_empty() && !is_dead(worker), "{source}");
        fails.end();
        assert_eq!(daemon.reported("uncharged", worker)["largest"]["why"]["elder"]["pid"], parent.pid());
        assert_eq!(daemon.about("unsure", worker).len(), 1, "it is reported once");
        drop(parent);
        eventually("the worker's end", || is_dead(worker));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and mounts"]
fn a_process_that_cannot_be_read_is_judged_by_the_first_good_lookup() {
    let user = TestUser::claim();
    for source in SOURCES {
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut hog = user.hog("memfd 60M map wait-term rewrite hold");
        hog.begun("wait-term");
        // By its maps alone it would be known that the memory is in the memfd.
        let [maps, smaps] = ["maps", "smaps"].map(|file| Unreadable::make(&daemon, hog.pid(), file));
        hog.term();
        daemon.reported("unsure", hog.pid());
        wait_out_doubts();
        assert!(daemon.every("killing").is_empty() && hog.is_alive(), "{source}");
        maps.end();
        smaps.end();
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");

        // Private memory over the limit needs no lookup.
        let mut hog = user.hog("wait-term anon 60M hold");
        hog.begun("wait-term");
        let _fails = Unreadable::make(&daemon, hog.pid(), "smaps");
        hog.term();
        assert_eq!(daemon.terminated(&mut hog).0, TERM, "{source}");
        daemon.stop();
    }
}

#[cfg(feature = "ebpf")]
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn shared_memory_that_one_process_alone_maps_is_judged_without_asking_others_or_counting_pages() {
    use memmon::observe::{
        procfs::Accuracy,
        support::{Btf, Facts, assess},
    };
    use memmon_common::FileMappingOffsets;

    let user = TestUser::claim();
    let debug = config(&user, &[("log.level", "\"debug\""), crate::common::log::RARELY]);
    let daemon = Daemon::start(&debug, crate::common::log::EBPF);
    let mut hog = user.hog("memfd 60M map rewrite hold");
    assert_eq!(daemon.terminated(&mut hog).0, TERM);
    let looked_up = daemon.line("a lookup", |line| {
        line.contains("shared memory is looked up") && line.contains(&format!("pid={}", hog.pid()))
    });
    // Some kernels do not show that nobody else maps it, and before 6.17 the figures may leave a doubt.
    let facts = Facts::gather();
    let Btf::Read(Ok(layout)) = &facts.btf else { panic!("{:?}", facts.btf) };
    let asks = layout.file_mapping == FileMappingOffsets::default();
    assert_eq!(looked_up.contains("asked=0"), !asks, "{looked_up}");
    let is_exact = assess(&facts).accuracy() == Accuracy::StatmExact;
    assert!(looked_up.contains("walk=false") || !is_exact, "{looked_up}");
    daemon.stop();
}
