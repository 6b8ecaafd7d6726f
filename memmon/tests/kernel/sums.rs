//! Sums that the kernel side keeps: each process counts where it is, with what it has, however it came there.

use memmon::{
    model::{Gear, KernelSum, Uid},
    observe::bpf::{KeptSums, KernelMap, Options},
};
use memmon_common::{Event, NEVER, ProcessRss, Sum, kind, sum_kind};

use crate::common::{TestUser, cgroup::Cgroup, eventually, hog::Hog};
use crate::{attach, attach_with, entries, error, expect_entry, go_on, pages, resume};

/// Both kinds of sums, at levels that are never reached.
const KEPT: KeptSums = KeptSums { users: Some(NEVER), cgroups: Some(NEVER), slack_pages: 0 };

/// Runs the test with one gear, and in the calm one of two.
fn in_each_gear(test: impl Fn(&mut KernelMap)) {
    for two_gears in [false, true] {
        test(&mut attach_with(&Options { capacity: 8192, pin_dir: None, two_gears }));
    }
}

fn user_of(user: &TestUser) -> KernelSum {
    KernelSum::User(Uid(user.uid))
}

fn sum_of(map: &KernelMap, sum: KernelSum) -> Sum {
    map.sum(sum).unwrap().unwrap_or_default()
}

/// The pages that a sum settles at when it has so many members: what they have, and what they are counted with.
fn settled(map: &mut KernelMap, sum: KernelSum, members: u64) -> u64 {
    let mut has = 0;
    eventually("a sum that agrees with its members", || {
        let in_it = |one: &ProcessRss| match sum {
            KernelSum::User(uid) => one.sum_uid == uid.0,
            KernelSum::Cgroup(id) => one.sum_cgroup == id,
        };
        let all: Vec<_> = entries(map).into_iter().map(|(_, one)| one).filter(in_it).collect();
        has = all.iter().map(ProcessRss::rss_pages).sum();
        let found = sum_of(map, sum);
        all.len() as u64 == members && found.members == members && found.pages == has
    });
    has
}

/// Whether `value` in pages is an amount of so many `members`, each of which has a few megabytes of its own.
fn is_about(value: u64, expected: u64, members: u64) -> bool {
    (expected.saturating_sub(members * error(1))..=expected + members * (error(1) + pages(6)))
        .contains(&value)
}

fn sum_crossings(map: &mut KernelMap) -> Vec<Event> {
    map.events().filter(|event| event.kind == kind::SUM_CROSSED).collect()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn no_sum_is_kept_that_no_rule_limits() {
    in_each_gear(|map| {
        let user = TestUser::claim();
        let hog = user.hog("anon 20M hold");
        hog.begun("hold");
        assert_eq!(map.sum(user_of(&user)).unwrap(), None);
        assert!(!map.has_whole_sums().unwrap());
        map.keep_sums(&KEPT).unwrap();
        // A process that was there before counts at once.
        assert!(map.has_whole_sums().unwrap());
        let sum = sum_of(map, user_of(&user));
        assert!(sum.members == 1 && is_about(sum.pages, pages(20), 1), "{sum:?}");
        map.keep_sums(&KeptSums::default()).unwrap();
        assert_eq!(map.sum(user_of(&user)).unwrap(), None);
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn fork_exec_and_exit_are_counted() {
    in_each_gear(|map| {
        map.keep_sums(&KEPT).unwrap();
        let user = TestUser::claim();
        let sum = user_of(&user);
        let mut hog = user.hog("anon 20M fork anon 10M hold end wait-term hold");
        let child = hog.child("fork");
        hog.begun("wait-term");
        let other = user.hog("anon 40M stop exec small anon 5M hold");
        other.begun("stop");
        eventually("three that are counted", || is_about(settled(map, sum, 3), pages(20 + 30 + 40), 3));
        assert!(expect_entry(map, child).summed_pages >= pages(29));
        resume(&other);
        other.begun("hold");
        eventually("the exec", || is_about(settled(map, sum, 3), pages(20 + 30 + 5), 3));
        drop(other);
        eventually("the exit", || is_about(settled(map, sum, 2), pages(20 + 30), 2));
        go_on(&hog);
        hog.begun("hold");
        hog.release();
        assert_eq!(settled(map, sum, 0), 0);
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_change_of_the_user_moves_what_a_process_has() {
    in_each_gear(|map| {
        map.keep_sums(&KEPT).unwrap();
        let (from, to) = (TestUser::claim(), TestUser::claim());
        // Root's, that keep the right to become another user.
        let hogs: Vec<_> =
            (0..2).map(|_| Hog::start(&format!("anon 20M wait-term uid {} anon 4M hold", to.uid))).collect();
        for hog in &hogs {
            hog.begun("wait-term");
        }
        let stays = from.hog("anon 10M hold");
        stays.begun("hold");
        assert!(is_about(settled(map, user_of(&from), 1), pages(10), 1));
        let before = expect_entry(map, hogs[0].pid());
        assert!(before.sum_uid == 0 && is_about(before.summed_pages, pages(20), 1), "{before:?}");
        for (count, hog) in hogs.iter().enumerate() {
            go_on(hog);
            hog.begun("hold");
            let count = count as u64 + 1;
            assert!(is_about(settled(map, user_of(&to), count), count * pages(24), count));
        }
        assert!(is_about(settled(map, user_of(&from), 1), pages(10), 1), "nothing of it was moved");
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_change_of_the_user_without_growth_is_found_by_a_reading() {
    in_each_gear(|map| {
        map.keep_sums(&KEPT).unwrap();
        let user = TestUser::claim();
        let hog = Hog::start(&format!("anon 20M uid {} hold", user.uid));
        hog.begun("hold");
        // A read of the table with one gear updates nothing.
        map.refresh().unwrap();
        assert!(is_about(settled(map, user_of(&user), 1), pages(20), 1));
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_move_to_another_cgroup_moves_what_a_process_has_at_once() {
    in_each_gear(|map| {
        map.keep_sums(&KEPT).unwrap();
        let cgroup = Cgroup::new("sums", &["inner"]);
        let hog = Hog::start("anon 20M hold");
        hog.begun("hold");
        let before = expect_entry(map, hog.pid()).sum_cgroup;
        cgroup.take(&hog);
        let after = expect_entry(map, hog.pid());
        assert_ne!(after.sum_cgroup, before);
        let sum = KernelSum::Cgroup(after.sum_cgroup);
        assert_eq!(sum_of(map, sum).pages, after.summed_pages);
        assert!(is_about(settled(map, sum, 1), pages(20), 1));
        drop(hog);
        assert_eq!(settled(map, sum, 0), 0);
    });
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn many_processes_that_grow_at_once_make_one_crossing() {
    let mut map = attach(8192);
    let user = TestUser::claim();
    let level = pages(200);
    map.keep_sums(&KEPT).unwrap();
    map.set_sum_levels([(user_of(&user), level)].into()).unwrap();
    let hogs: Vec<_> = (0..20).map(|_| user.hog("wait-term grow 8M 40M/s wait-term anon 1M hold")).collect();
    for hog in &hogs {
        hog.begun("wait-term");
    }
    assert_eq!(sum_crossings(&mut map), []);
    for hog in &hogs {
        go_on(hog);
    }
    for hog in &hogs {
        hog.begun_again("wait-term");
    }
    // Two CPUs may cross a level at once.
    let crossings = sum_crossings(&mut map);
    let [crossing, rest @ ..] = &crossings[..] else { panic!("no crossing") };
    assert!(rest.len() <= 1, "{crossings:?}");
    assert_eq!((crossing.sum_kind, crossing.start_boottime), (sum_kind::USER, user.uid.into()));
    // Each process may have taken a step since.
    assert!((level..level + 20 * (2 * error(1))).contains(&crossing.rss_pages), "{crossing:?}");
    let sum = settled(&mut map, user_of(&user), 20);
    let exact: u64 = hogs.iter().map(|hog| crate::exact(hog.pid())).sum();
    assert!(sum.abs_diff(exact) <= 20 * error(1), "{sum} pages, {exact} exact");

    // A level that is set again is crossed again.
    map.set_sum_levels([(user_of(&user), level + 1)].into()).unwrap();
    for hog in &hogs {
        go_on(hog);
        hog.begun("hold");
    }
    assert!((1..=2).contains(&sum_crossings(&mut map).len()));
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_error_of_each_process_wakes_earlier() {
    let mut map = attach(8192);
    map.keep_sums(&KEPT).unwrap();
    let user = TestUser::claim();
    let hogs: Vec<_> = (0..4).map(|_| user.hog("anon 10M wait-term anon 1M hold")).collect();
    for hog in &hogs {
        hog.begun("wait-term");
    }
    let sum = settled(&mut map, user_of(&user), 4);
    let mut crossings = |hog: &Hog, level: u64, slack_pages: u64| {
        map.keep_sums(&KeptSums { slack_pages, ..KEPT }).unwrap();
        map.set_sum_levels([(user_of(&user), level)].into()).unwrap();
        go_on(hog);
        hog.begun("hold");
        sum_crossings(&mut map).len()
    };
    assert_eq!(crossings(&hogs[0], sum + pages(10), 0), 0);
    assert_eq!(crossings(&hogs[1], sum + pages(11), pages(3)), 1, "four times three more");
    assert_eq!(crossings(&hogs[2], sum * 2, pages(1000)), 0, "a quarter of the level at most");
    assert_eq!(crossings(&hogs[3], sum + sum / 4, pages(1000)), 1);
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn ticks_notice_a_sum_and_the_exact_gear_sees_small_processes() {
    let mut map = attach_with(&Options { capacity: 8192, pin_dir: None, two_gears: true });
    if map.has_two_gears().is_err() {
        return;
    }
    // No process comes near this level of its own.
    map.set_default_wake_level(pages(4000)).unwrap();
    map.keep_sums(&KEPT).unwrap();
    let user = TestUser::claim();
    let level = pages(120);
    map.set_sum_levels([(user_of(&user), level)].into()).unwrap();
    let grow = |map: &mut KernelMap| {
        let hogs: Vec<_> = (0..6).map(|_| user.hog("grow 40M 100M/s hold")).collect();
        let mut seen = Vec::new();
        eventually("the crossing", || {
            seen.extend(sum_crossings(map));
            !seen.is_empty()
        });
        drop(hogs);
        settled(map, user_of(&user), 0);
        seen[0].rss_pages
    };
    let at_ticks = grow(&mut map);
    assert!(at_ticks >= level && map.gear() == Gear::Calm, "{at_ticks} pages");
    map.shift(Gear::Exact).unwrap();
    map.set_sum_near(true).unwrap();
    map.set_sum_levels([(user_of(&user), level + 1)].into()).unwrap();
    let exact = grow(&mut map);
    assert!((level..level + 12 * error(1)).contains(&exact), "{exact} pages");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_without_room_makes_the_sums_incomplete_until_they_are_counted_again() {
    let living = u32::try_from(crate::lives::living().len()).unwrap();
    let mut map = attach(living + 20);
    map.keep_sums(&KEPT).unwrap();
    let user = TestUser::claim();
    let hogs: Vec<_> = (0..40).map(|_| user.hog("hold")).collect();
    eventually("a full map", || !map.has_whole_sums().unwrap());
    drop(hogs);
    map.recount_sums().unwrap();
    assert!(map.has_whole_sums().unwrap());
    assert_eq!(settled(&mut map, user_of(&user), 0), 0);
}
