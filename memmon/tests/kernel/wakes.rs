//! Tests of wake levels: one crossing is one event, and none is missed.

#![expect(unsafe_code, reason = "the tests map memory and touch it page by page")]

use std::{fs, num::NonZero};

use memmon_common::{NEVER, kind};
use nix::{
    libc,
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap},
};

use crate::{
    attach,
    common::{eventually, hog::Hog},
    crossings, error, expect_entry, for_a_while, go_on, identity, offsets, pages, resume, stride,
};

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn one_crossing_is_one_event() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 20M wait-term grow 100M 1G hold");
    hog.begun("wait-term");
    let level = pages(50);
    let resident = map.set_wake_level(identity(hog.pid()), level).unwrap().unwrap();
    assert!((pages(19)..pages(30)).contains(&resident), "{resident}");
    for_a_while(|| assert_eq!(crossings(&mut map, hog.pid()), []));

    go_on(&hog);
    hog.begun("hold");
    let [crossing] = crossings(&mut map, hog.pid())[..] else { panic!("not one event") };
    assert!(
        (level..level + error(1) + stride()).contains(&crossing.rss_pages),
        "{} at {level}",
        crossing.rss_pages
    );
    assert_eq!(crossing.start_boottime, expect_entry(&map, hog.pid()).start_boottime);
    assert!(crossing.time > 0);
    for_a_while(|| assert_eq!(crossings(&mut map, hog.pid()), []));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn no_event_is_late_by_a_whole_step() {
    let mut map = attach(4096);
    // It grows slowly enough for the test to follow, and for long enough.
    let hog = Hog::start("anon 20M wait-term grow 80M 5M/s hold");
    hog.begun("wait-term");
    let (id, mut here) = (identity(hog.pid()), expect_entry(&map, hog.pid()).rss_pages());
    go_on(&hog);
    // One level lies within the current bounds of the front array, the other within the next ones.
    for ahead in [8, stride() + 8] {
        let mut late = Vec::new();
        while late.len() < 9 {
            let level = here + ahead;
            map.set_wake_level(id, level).unwrap();
            eventually("the crossing", || match crossings(&mut map, hog.pid())[..] {
                [] => false,
                [crossing] => {
                    here = crossing.rss_pages;
                    true
                }
                _ => panic!("more than one event"),
            });
            late.push(here - level);
        }
        // The hog does not wait for the test: some events are late by its growth before the level was set.
        late.sort_unstable();
        assert!(late[late.len() / 2] < stride(), "{late:?}");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_level_lowered_below_a_settled_process_is_reached_with_its_next_event() {
    let mut map = attach(4096);
    // The next event comes with its next page, before 6.2 with a thread's 65th.
    let hog = Hog::start(if offsets().rss_legacy != 0 {
        "anon 20M stop anon 1M hold"
    } else {
        "anon 20M stop anon 4K hold"
    });
    hog.begun("stop");
    map.set_default_wake_level(pages(10)).unwrap();
    resume(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn levels_end_with_their_processes() {
    let capacity = u32::try_from(crate::lives::living().len()).unwrap() * 2 + 50;
    let mut map = attach(capacity);
    for _ in 0..capacity + 10 {
        let hog = Hog::start("hold");
        hog.begun("hold");
        // If the map of levels were full, this would return an error.
        assert!(map.set_wake_level(identity(hog.pid()), NEVER).unwrap().is_some());
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_end_of_a_process_with_its_own_level_is_an_event() {
    let mut map = attach(4096);
    for has_level in [true, false] {
        let hog = Hog::start("anon 20M hold");
        hog.begun("hold");
        let pid = hog.pid();
        if has_level {
            map.set_wake_level(identity(pid), NEVER).unwrap();
        }
        drop(hog);
        let ends: Vec<_> = map.events().filter(|event| event.tgid == pid).collect();
        let signals: Vec<u32> = ends.iter().map(|event| event.exit_code & 0x7f).collect();
        assert_eq!(signals, if has_level { vec![libc::SIGKILL.cast_unsigned()] } else { vec![] });
        assert!(
            ends.iter().all(|event| event.kind == kind::ENDED && event.rss_pages > pages(19)),
            "{ends:?}"
        );
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn setting_a_level_allocates_no_memory() {
    const BPF_MAP_TYPE_HASH: &str = "1";
    const BPF_F_NO_PREALLOC: u32 = 1;

    let _map = attach(4096);
    let infos = fs::read_dir("/proc/self/fdinfo").unwrap();
    // Another test may close one meanwhile.
    let infos = infos.filter_map(|info| fs::read_to_string(info.unwrap().path()).ok());
    let flags: Vec<u32> = infos
        .filter_map(|info| {
            let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let is_hash = field("map_type:") == Some(BPF_MAP_TYPE_HASH);
            let flags = field("map_flags:")?.strip_prefix("0x")?;
            is_hash.then(|| u32::from_str_radix(flags, 16).unwrap())
        })
        .collect();
    assert!(flags.len() >= 2, "the processes and their levels: {flags:?}");
    assert!(flags.iter().all(|flags| flags & BPF_F_NO_PREALLOC == 0), "{flags:?}");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn setting_the_same_level_again_arms_it_again() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 20M wait-term anon 40M stop anon 10M hold");
    hog.begun("wait-term");
    let (id, level) = (identity(hog.pid()), pages(40));
    map.set_wake_level(id, level).unwrap();
    go_on(&hog);
    hog.ready("anon 40M");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
    let resident = map.set_wake_level(id, level).unwrap();
    assert!(resident.is_some_and(|pages| pages >= level), "it is above its level already: {resident:?}");
    resume(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_shrank_and_grows_again_makes_another_event() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 20M wait-term anon 60M free anon 60M free anon 60M hold");
    hog.begun("wait-term");
    map.set_wake_level(identity(hog.pid()), pages(50)).unwrap();
    go_on(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 3);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_default_level_holds_for_new_processes() {
    let mut map = attach(4096);
    map.set_default_wake_level(pages(40)).unwrap();
    let hog = Hog::start("anon 60M fork hold end hold");
    let child = hog.child("fork");
    let pids: Vec<u32> = map.events().map(|event| event.tgid).collect();
    let times = |pid| pids.iter().filter(|&&one| one == pid).count();
    // The child never touched a page: its copy alone is above the level.
    assert_eq!((times(hog.pid()), times(child)), (1, 1));
    assert_eq!(expect_entry(&map, child).wake_at, pages(40));

    // A new default is compared with every process whose memory changes.
    let hog = Hog::start("anon 30M wait-term anon 1M hold");
    hog.begun("wait-term");
    map.set_default_wake_level(pages(10)).unwrap();
    go_on(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn never_holds_until_exec() {
    let mut map = attach(4096);
    map.set_default_wake_level(pages(40)).unwrap();
    let hog = Hog::start("wait-term anon 60M stop exec another anon 60M hold");
    hog.begun("wait-term");
    map.set_wake_level(identity(hog.pid()), NEVER).unwrap();
    go_on(&hog);
    hog.begun("stop");
    assert_eq!(crossings(&mut map, hog.pid()), []);
    resume(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn an_event_that_does_not_fit_into_the_ring_is_counted_and_comes_later() {
    let mut map = attach(4096);
    map.set_default_wake_level(1).unwrap();
    // Each new level is compared with the memory of a process that changes: here, this one.
    eventually("a full ring", || {
        for _ in 0..50 {
            map.set_default_wake_level(1).unwrap();
            fault_pages(70);
        }
        map.counters().unwrap().ring_full > 0
    });
    let hog = Hog::start("anon 10M wait-term anon 5M hold");
    hog.begun("wait-term");
    assert_eq!(expect_entry(&map, hog.pid()).reported, 0, "the lost event must not count as reported");
    assert_eq!(crossings(&mut map, hog.pid()), []);
    go_on(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
    let counters = map.counters().unwrap();
    assert!(counters.events > 1000, "{counters:?}");
}

/// Touches `count` new small pages in this process and frees them.
fn fault_pages(count: usize) {
    let page = usize::try_from(crate::facts().page_size).unwrap();
    let len = NonZero::new(count * page).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { mmap_anonymous(None, len, ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE) }.unwrap();
    // A kernel without huge pages does not know this advice.
    // SAFETY: the advice is for that mapping only.
    let _ = unsafe { madvise(start, len.get(), MmapAdvise::MADV_NOHUGEPAGE) };
    for offset in (0..len.get()).step_by(page) {
        // SAFETY: within the mapping.
        let page = unsafe { start.cast::<u8>().add(offset) };
        // SAFETY: the mapping is writable.
        unsafe { page.write_volatile(1) };
    }
    // SAFETY: nothing points into it any more.
    unsafe { munmap(start, len.get()) }.unwrap();
}
