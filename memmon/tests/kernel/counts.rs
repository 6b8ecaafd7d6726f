//! Tests of the memory that is counted, and of the process that it is charged to.

use std::path::Path;

use memmon::observe::decode::comm;

use crate::{
    agrees, attach,
    common::{eventually, hog::Hog},
    entry, error, expect_entry, go_on, is_about, pages,
};

/// A hog that has run `script` and now holds its memory.
fn hold(script: &str) -> Hog {
    let hog = Hog::start(&format!("{script} hold"));
    hog.begun("hold");
    hog
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn anonymous_memory() {
    let map = attach(4096);
    let hog = hold("anon 100M grow 40M max");
    let process = agrees(&map, hog.pid());
    // The kernel may swap out some idle pages.
    is_about(process.anon_pages + process.swap_entries, pages(140));
    is_about(process.shmem_pages, 0);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn shared_memory() {
    let map = attach(4096);
    let hog = hold("shmem 60M");
    let process = agrees(&map, hog.pid());
    is_about(process.shmem_pages, pages(60));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn mapped_files() {
    let map = attach(4096);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mapped-{}", std::process::id()));
    let hog = hold(&format!("file {} 60M", file.display()));
    let process = agrees(&map, hog.pid());
    // The hog's own binary and libraries are files, too.
    assert!((pages(60)..pages(70)).contains(&process.file_pages), "{}", process.file_pages);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn threads_count_for_their_process() {
    let mut map = attach(4096);
    let hog = hold("anon 10M threads 8 10M");
    let process = agrees(&map, hog.pid());
    is_about(process.anon_pages, pages(90));
    let threads: Vec<u32> = std::fs::read_dir(format!("/proc/{}/task", hog.pid()))
        .unwrap()
        .map(|thread| thread.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .filter(|&thread| thread != hog.pid())
        .collect();
    assert_eq!(threads.len(), 8);
    let all = crate::entries(&mut map);
    assert!(!all.iter().any(|(pid, _)| threads.contains(pid)), "a thread has no entry");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_forked_child_has_its_copy_from_the_start() {
    let map = attach(4096);
    let hog = Hog::start("anon 200M fork hold end hold");
    let child = hog.child("fork");
    for pid in [hog.pid(), child] {
        is_about(agrees(&map, pid).anon_pages, pages(200));
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_child_that_borrows_its_parents_memory_is_never_charged_for_it() {
    let map = attach(4096);
    let hog = Hog::start("anon 100M vfork-exec anon 5M hold end anon 20M hold");
    let child = hog.child("vfork-exec");
    hog.begun("hold");
    eventually("the child's own memory", || expect_entry(&map, child).anon_pages + error(1) >= pages(5));
    is_about(agrees(&map, hog.pid()).anon_pages, pages(120));
    let process = agrees(&map, child);
    is_about(process.anon_pages, pages(5));
    assert!(process.peak_pages < pages(50), "{}", process.peak_pages);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn exec_resets_the_entry() {
    let map = attach(4096);
    let hog = Hog::start("anon 150M exec another anon 10M hold");
    hog.begun("hold");
    let process = agrees(&map, hog.pid());
    is_about(process.anon_pages, pages(10));
    assert!(process.peak_pages < pages(50), "{}", process.peak_pages);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn freed_memory_is_noticed_and_the_peak_stays() {
    let map = attach(4096);
    for way in ["free", "dontneed"] {
        let hog = hold(&format!("anon 120M shmem 40M {way} anon 8M"));
        let process = agrees(&map, hog.pid());
        is_about(process.anon_pages, pages(8));
        is_about(process.shmem_pages, 0);
        assert!(process.peak_pages >= pages(160), "{}", process.peak_pages);
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_whose_leader_exited_is_still_counted() {
    let map = attach(4096);
    let hog = hold("anon 60M leader-exits anon 40M");
    is_about(agrees(&map, hog.pid()).anon_pages, pages(100));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn earlier_processes_are_seeded() {
    let before = hold("anon 70M shmem 20M");
    // The surviving thread starts some time after the leader; /proc shows the leader's start time.
    let leaderless = hold("grow 5M 100M/s leader-exits anon 30M");
    let map = attach(4096);
    let process = agrees(&map, before.pid());
    is_about(process.anon_pages, pages(70));
    is_about(process.shmem_pages, pages(20));
    is_about(agrees(&map, leaderless.pid()).anon_pages, pages(35));
    assert!(entry(&map, 2).is_none(), "kthreadd has no memory");
    assert!(expect_entry(&map, std::process::id()).rss_pages() > 0, "this process is one of them");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn names_and_owners_are_updated_with_the_next_step() {
    let map = attach(4096);
    let hog = Hog::start("anon 10M wait-term rename worker uid 47001 anon 1M hold");
    hog.begun("wait-term");
    let process = agrees(&map, hog.pid());
    assert_eq!((comm(process.comm), process.uid), ("hog".into(), 0));
    go_on(&hog);
    hog.begun("hold");
    let process = agrees(&map, hog.pid());
    assert_eq!((comm(process.comm), process.uid), ("worker".into(), 47_001));
}
