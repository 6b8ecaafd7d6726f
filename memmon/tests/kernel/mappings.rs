//! The mappings of files of a process, each with its place among all mappings of its file.

use std::{collections::BTreeSet, fs};

use memmon::{model::Pid, observe::bpf::FileMappings};
use memmon_common::FileMapping;

use crate::attach;
use crate::common::{eventually, hog::Hog, is_dead};

fn mappings() -> FileMappings {
    let map = attach(4096);
    assert_eq!(map.no_mappings(), None);
    map.file_mappings()
        .unwrap_or_else(|| panic!("this kernel shows the mappings of one process to no program"))
}

/// Device and inode of each mapping of a file in maps.
fn maps(pid: u32) -> BTreeSet<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let file = |line: &str| {
        let mut words = line.split_whitespace().skip(3);
        let (major, minor) = words.next()?.split_once(':')?;
        let device = (u32::from_str_radix(major, 16).ok()? << 20) | u32::from_str_radix(minor, 16).ok()?;
        let inode = words.next()?.parse().ok()?;
        (inode != 0).then_some((device, inode))
    };
    text.lines().filter_map(file).collect()
}

/// The memfd of a hog, which it maps once.
fn memfd(mappings: &FileMappings, pid: u32) -> FileMapping {
    let all = mappings.of(Pid(pid)).unwrap();
    let found: BTreeSet<_> = all.iter().map(|mapping| (mapping.device, mapping.inode)).collect();
    assert_eq!(found, maps(pid));
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = text.lines().find(|line| line.contains("/memfd:hog")).unwrap();
    let inode: u64 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
    let mut memfds = all.into_iter().filter(|mapping| mapping.inode == inode && mapping.device >> 20 == 0);
    let memfd = memfds.next().unwrap();
    assert_eq!((memfds.next(), memfd.tgid), (None, pid));
    memfd
}

fn is_alone(mapping: &FileMapping) -> bool {
    let FileMapping { root, node, left, right, .. } = *mapping;
    root == node && left == 0 && right == 0
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and BPF iterators of one process"]
fn a_mapping_shows_whether_another_process_maps_its_file() {
    let mappings = mappings();
    let mut hog = Hog::start("memfd 8M map split hold end hold");
    let child = hog.children("split", 1)[0];
    hog.begun("hold");
    let both = [hog.pid(), child].map(|pid| memfd(&mappings, pid));
    assert!(!both.iter().any(is_alone), "{both:?}");
    assert_eq!(both[0].root, both[1].root);
    assert_ne!(both[0].node, both[1].node);
    hog.release();
    eventually("the child's end", || is_dead(child));

    let alone = Hog::start("memfd 8M map hold");
    alone.begun("hold");
    let mapping = memfd(&mappings, alone.pid());
    assert!(is_alone(&mapping), "{mapping:?}");
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and BPF iterators of one process"]
fn a_process_whose_first_thread_has_ended_has_its_mappings_and_one_that_is_gone_has_none() {
    let mappings = mappings();
    let hog = Hog::start("memfd 8M map leader-exits hold");
    hog.begun("hold");
    let found = mappings.of(Pid(hog.pid())).unwrap();
    assert!(found.iter().any(is_alone) && found.iter().all(|mapping| mapping.tgid == hog.pid()), "{found:?}");
    let pid = hog.pid();
    drop(hog);
    assert_eq!(mappings.of(Pid(pid)).unwrap_or_default(), []);
}
