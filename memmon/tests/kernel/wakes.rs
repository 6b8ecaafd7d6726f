//! Wake levels: one crossing is one event, and none is missed.

use memmon_common::NEVER;

use crate::{
    attach, crossings, error, expect_entry, for_a_while, go_on, identity, pages, resume, support::eventually,
    support::hog::Hog,
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
    assert!((level..level + error(1)).contains(&crossing.rss_pages), "{} at {level}", crossing.rss_pages);
    assert_eq!(crossing.start_boottime, expect_entry(&map, hog.pid()).start_boottime);
    assert!(crossing.time > 0);
    for_a_while(|| assert_eq!(crossings(&mut map, hog.pid()), []));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_level_just_ahead_of_a_settled_process_is_not_overrun() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 20M wait-term anon 1M hold");
    hog.begun("wait-term");
    let id = identity(hog.pid());
    let resident = map.set_wake_level(id, NEVER).unwrap().unwrap();
    // Within the step that the front array lets pass.
    let level = resident + 8;
    map.set_wake_level(id, level).unwrap();
    go_on(&hog);
    hog.begun("hold");
    let [crossing] = crossings(&mut map, hog.pid())[..] else { panic!("not one event") };
    // What one CPU may add to a counter at once, and a fault that maps pages around.
    assert!(crossing.rss_pages < level + 64, "{} at {level}", crossing.rss_pages);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_same_level_set_again_arms_again() {
    let mut map = attach(4096);
    let hog = Hog::start("anon 20M wait-term anon 40M stop anon 10M hold");
    hog.begun("wait-term");
    let (id, level) = (identity(hog.pid()), pages(40));
    map.set_wake_level(id, level).unwrap();
    go_on(&hog);
    hog.ready("anon 40M");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
    let resident = map.set_wake_level(id, level).unwrap();
    assert!(resident.is_some_and(|pages| pages >= level), "told who is above already: {resident:?}");
    resume(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn who_fell_and_comes_again_is_told_of_again() {
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
fn the_default_holds_for_who_is_not_known_yet() {
    let mut map = attach(4096);
    map.set_default_wake_level(pages(40)).unwrap();
    let hog = Hog::start("anon 60M fork hold end hold");
    let child = hog.child("fork");
    let told: Vec<u32> = map.events().map(|event| event.tgid).collect();
    let times = |pid| told.iter().filter(|&&one| one == pid).count();
    // The child never touched a page: its copy alone is over.
    assert_eq!((times(hog.pid()), times(child)), (1, 1));
    assert_eq!(expect_entry(&map, child).wake_at, pages(40));

    // A new default is a new question to everybody who moves.
    let hog = Hog::start("anon 30M wait-term anon 1M hold");
    hog.begun("wait-term");
    map.set_default_wake_level(pages(10)).unwrap();
    go_on(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn never_is_never_until_exec_makes_another_program_of_it() {
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
fn what_the_ring_had_no_room_for_is_counted_and_told_later() {
    let mut map = attach(4096);
    map.set_default_wake_level(1).unwrap();
    eventually("a full ring", || {
        crate::lives::fork_times(200);
        map.counters().unwrap().ring_full > 0
    });
    let hog = Hog::start("anon 10M wait-term anon 5M hold");
    hog.begun("wait-term");
    assert_eq!(expect_entry(&map, hog.pid()).told, 0, "not told yet, and not taken for it");
    assert_eq!(crossings(&mut map, hog.pid()), []);
    go_on(&hog);
    hog.begun("hold");
    assert_eq!(crossings(&mut map, hog.pid()).len(), 1);
    let counters = map.counters().unwrap();
    assert!(counters.events > 1000, "{counters:?}");
}
