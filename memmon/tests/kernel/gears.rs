//! Two gears: ticks notice growth while no process is near a limit, `rss_stat` does while one is.

use memmon::{
    model::Gear,
    observe::bpf::{KernelMap, Options},
};
use memmon_common::STEP;

use crate::common::{eventually, hog::Hog};
use crate::{agrees, attach_with, crossings, error, expect_entry, go_on, identity, offsets, pages, stride};

/// `None` if this kernel has no ticks for BPF programs, which only those may lack that count in batches: there the one gear
/// that remains is checked instead.
fn two_gears() -> Option<KernelMap> {
    let map = attach_with(&Options { capacity: 4096, pin_dir: None, two_gears: true });
    if map.has_two_gears().is_ok() {
        return Some(map);
    }
    assert!(offsets().rss_legacy != 0, "{:?}", map.has_two_gears());
    assert_eq!(map.gear(), Gear::Exact);
    None
}

/// Waits for a crossing of `hog`, and returns the pages that it had then.
fn first_crossing(map: &mut KernelMap, hog: &Hog) -> u64 {
    let mut seen = Vec::new();
    eventually("the crossing", || {
        seen.extend(crossings(map, hog.pid()));
        !seen.is_empty()
    });
    seen[0].rss_pages
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn ticks_alone_notice_a_crossing() {
    let Some(mut map) = two_gears() else { return };
    assert_eq!(map.gear(), Gear::Calm);
    map.set_default_wake_level(pages(64)).unwrap();
    // Small pages, a few milliseconds of work beyond the level.
    let hog = Hog::start("anon 250M hold");
    let rss = first_crossing(&mut map, &hog);
    assert!((pages(64)..pages(250)).contains(&rss), "{rss} pages at the tick");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_exact_gear_notices_a_crossing_where_it_is() {
    let Some(mut map) = two_gears() else { return };
    let hog = Hog::start("anon 40M wait-term anon 100M hold");
    hog.begun("wait-term");
    map.set_default_wake_level(pages(64)).unwrap();
    map.shift(Gear::Exact).unwrap();
    assert_eq!(map.gear(), Gear::Exact);
    go_on(&hog);
    let rss = first_crossing(&mut map, &hog);
    assert!((pages(64)..=pages(64) + stride() + STEP).contains(&rss), "{rss} pages at the crossing");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_stands_still_between_two_ticks_is_found_by_a_reading() {
    let Some(mut map) = two_gears() else { return };
    let hog = Hog::start("anon 20M wait-term anon 1M hold");
    hog.begun("wait-term");
    go_on(&hog);
    hog.begun("hold");
    let mut read = None;
    map.read(|pid, process| read = read.or((pid.0 == hog.pid()).then_some(*process))).unwrap();
    assert_eq!(read, Some(expect_entry(&map, hog.pid())));
    agrees(&map, hog.pid());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_shift_shows_what_grew_until_then() {
    let Some(mut map) = two_gears() else { return };
    map.set_default_wake_level(pages(64)).unwrap();
    let mut between_ticks = 0;
    for _ in 0..10 {
        // The crossing takes a fraction of the time from one tick to the next.
        let hog = Hog::start("anon 59M wait-term anon 5M hold");
        hog.begun("wait-term");
        assert_eq!(crossings(&mut map, hog.pid()), []);
        go_on(&hog);
        hog.begun("hold");
        let at_a_tick = crossings(&mut map, hog.pid()).len();
        map.shift(Gear::Exact).unwrap();
        let at_the_shift = crossings(&mut map, hog.pid()).len();
        assert_eq!(at_a_tick + at_the_shift, 1);
        between_ticks += at_the_shift;
        map.shift(Gear::Calm).unwrap();
    }
    assert!(between_ticks > 0);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_falls_and_rises_makes_an_event_each_time() {
    let Some(mut map) = two_gears() else { return };
    let hog = Hog::start("anon 20M wait-term anon 60M free wait-term anon 80M hold");
    hog.begun("wait-term");
    map.set_default_wake_level(pages(64)).unwrap();
    map.shift(Gear::Exact).unwrap();
    go_on(&hog);
    eventually("the first crossing", || !crossings(&mut map, hog.pid()).is_empty());
    hog.begun_again("wait-term");
    go_on(&hog);
    eventually("the second crossing", || !crossings(&mut map, hog.pid()).is_empty());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_level_of_its_own_below_the_default_lowers_the_floor() {
    let Some(mut map) = two_gears() else { return };
    let hog = Hog::start("anon 10M wait-term anon 40M hold");
    hog.begun("wait-term");
    map.set_default_wake_level(pages(200)).unwrap();
    map.shift(Gear::Exact).unwrap();
    map.set_wake_level(identity(hog.pid()), pages(30)).unwrap();
    go_on(&hog);
    let rss = first_crossing(&mut map, &hog);
    assert!((pages(30)..=pages(30) + stride() + STEP).contains(&rss), "{rss} pages at the crossing");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn shifts_lose_nobody() {
    let Some(mut map) = two_gears() else { return };
    let hogs: Vec<Hog> = (0..4).map(|_| Hog::start("anon 20M hold")).collect();
    for _ in 0..10 {
        map.shift(Gear::Exact).unwrap();
        map.shift(Gear::Calm).unwrap();
    }
    for hog in &hogs {
        hog.begun("hold");
    }
    map.read(|_, _| {}).unwrap();
    for hog in &hogs {
        let rss = expect_entry(&map, hog.pid()).rss_pages();
        assert!(rss + error(1) >= pages(20), "{rss} pages");
    }
}
