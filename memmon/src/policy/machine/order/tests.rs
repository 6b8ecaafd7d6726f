//! Tests of the order in which processes end for the machine.

use super::*;
use crate::model::{Elsewhere, Holdings, Parts, Pid, SystemMemory, Uid};
use crate::policy::fixtures::{hog, limit_rule, rules};
use crate::policy::machine::Candidate;
use crate::policy::{LimitRule, Matcher, NamePatterns, RuleLimit, Whitelist};

const MIB: u64 = Bytes::MIB;

fn machine() -> MachineMemory {
    MachineMemory {
        memory: SystemMemory { total: Bytes(1024 * MIB), available: Bytes(40 * MIB) },
        swap_total: Bytes::ZERO,
        swap_free: Bytes::ZERO,
        elsewhere: Elsewhere::default(),
        pressure: None,
    }
}

/// A process of `uid` in `cgroup`, with `anon` MiB, of which `growth` came since the machine was well.
fn process(pid: u32, uid: u32, cgroup: &str, anon: u64, growth: u64) -> Candidate {
    let parts = Parts { anon: Bytes(anon * MIB), file: Bytes(20 * MIB), ..Parts::default() };
    let holdings = Holdings { parts, shared: Fact::Absent, trouble: None };
    Candidate {
        process: Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(u64::from(pid)) },
            rss: parts.anon + parts.file,
            holdings: Some(holdings),
            real_uid: Uid(uid),
            effective_uid: Uid(uid),
            cgroup: Fact::Known(cgroup.into()),
            ..hog()
        },
        growth: Bytes(growth * MIB),
        shared_growth: Bytes::ZERO,
        early: Bytes::ZERO,
        shared_early: Bytes::ZERO,
        before: Bytes(anon.saturating_sub(growth) * MIB),
    }
}

fn grown(candidates: &[Candidate]) -> Candidates {
    Candidates { grown: candidates.to_vec(), ..Candidates::default() }
}

fn lately(lost: u64) -> Lost {
    Lost::lately(Bytes(lost * MIB))
}

fn database() -> Candidate {
    process(90, 112, "/system.slice/postgresql.service", 200, 0)
}

fn session(user: u32) -> String {
    format!("/user.slice/user-{user}.slice/session-{user}.scope")
}

/// The order if so many MiB were lost: which end, and why the others do not.
fn ordered(candidates: &[Candidate], lost: u64) -> Vec<String> {
    let order = order(&rules(), &machine(), lately(lost), &grown(candidates));
    let shown = |place: &Place| match &place.standing {
        Standing::Ends { culprit: Culprit { group, growth, processes }, preferred: _ } => {
            let group = match group {
                Group::Process { .. } => "alone".to_owned(),
                Group::Unit { unit } => unit.to_string(),
                Group::Session { leader } => format!("session {leader}"),
                Group::User { uid } => format!("uid {uid}"),
            };
            format!("{}: {group}, {processes} grew by {}", place.process, growth.0 / MIB)
        }
        other => format!("{}: {other:?}", place.process),
    };
    order.places.iter().map(shown).collect()
}

#[test]
fn one_hog_is_the_culprit_and_the_larger_idle_database_is_none() {
    let candidates = [database(), process(2, 1000, &session(1000), 150, 140)];
    assert_eq!(ordered(&candidates, 300), ["2: alone, 1 grew by 140", "90: Idle"]);
}

#[test]
fn a_crowd_of_workers_is_one_culprit() {
    let workers = |uid: fn(u32) -> u32, cgroup: fn(u32) -> String| {
        (2..12).map(|pid| process(pid, uid(pid), &cgroup(pid), 60, 60)).collect::<Vec<_>>()
    };
    // Beside another user's process that has grown more than each of them.
    let mut candidates = vec![database(), process(20, 1001, &session(1001), 95, 90)];
    for (crowd, name) in [
        (workers(|_| 1000, |_| session(1000)), "session-1000.scope"),
        (workers(|_| 1000, |pid| format!("/system.slice/job-{pid}.service")), "uid 1000"),
        (workers(|_| 0, |_| "/system.slice/pool.service".to_owned()), "pool.service"),
    ] {
        candidates.truncate(2);
        candidates.extend(crowd);
        let found = ordered(&candidates, 700);
        assert_eq!(found[0], format!("11: {name}, 10 grew by 600"), "the youngest first");
        assert_eq!(found[10..], ["20: alone, 1 grew by 90", "90: Idle"]);
    }
    // Services of root in units of their own have nothing in common.
    candidates.truncate(2);
    candidates.extend(workers(|_| 0, |pid| format!("/system.slice/job-{pid}.service")));
    assert_eq!(ordered(&candidates, 700)[..2], ["20: alone, 1 grew by 90", "11: alone, 1 grew by 60"]);
}

#[test]
fn a_process_that_grows_ends_before_a_larger_one_that_has_stopped() {
    // Both have started since the machine was well.
    let stopped =
        Candidate { early: Bytes(225 * MIB), ..process(2, 34, "/system.slice/b.service", 225, 225) };
    let leak = Candidate { early: Bytes(84 * MIB), ..process(3, 1000, &session(1000), 200, 200) };
    let ordered = |candidates: &[Candidate], early, late| {
        let lost = Lost { bytes: Bytes((early + late) * MIB), early: Bytes(early * MIB) };
        let order = order(&rules(), &machine(), lost, &grown(candidates));
        let ending = order.places.iter().filter(|place| place.ends());
        ending.map(|place| place.process.pid.0).collect::<Vec<_>>()
    };
    assert_eq!(ordered(&[stopped.clone(), leak], 309, 116), [3, 2]);
    let stopped = [stopped];
    assert_eq!(ordered(&stopped, 225, 0), [2], "a hog that pauses, if nothing else has grown");
    // A file in a tmpfs has grown since, by less than half as much, and by more.
    assert_eq!((ordered(&stopped, 225, 80), ordered(&stopped, 225, 100)), (vec![2], vec![]));
    // A hog that pauses, and a small one that comes later.
    let hog = Candidate { early: Bytes(600 * MIB), ..process(4, 1000, &session(1000), 600, 600) };
    let small = process(5, 1001, &session(1001), 70, 70);
    assert_eq!(ordered(&[hog, small], 600, 100), [4, 5]);
    // Half of a crowd has stopped: what grows on ends first.
    let early = |pid| if pid < 6 { 60 * MIB } else { 0 };
    let mut crowd: Vec<_> = (2..10)
        .map(|pid| Candidate { early: Bytes(early(pid)), ..process(pid, 1000, &session(1000), 60, 60) })
        .collect();
    crowd.push(process(20, 1001, &session(1001), 95, 95));
    assert_eq!(ordered(&crowd, 240, 335), [9, 8, 7, 6, 5, 4, 3, 2, 20]);
}

#[test]
fn shared_memory_that_came_early_and_stays_does_not_hide_a_later_leak() {
    // A worker of a database has touched its shared memory at once, and leaks since then.
    let mut leak = process(2, 112, "/system.slice/postgresql.service", 200, 200);
    (leak.shared_growth, leak.shared_early) = (Bytes(277 * MIB), Bytes(277 * MIB));
    let shared = crate::model::SharedMemory { kept: Bytes(277 * MIB), ..Default::default() };
    leak.process.rss = Bytes(497 * MIB);
    if let Some(holdings) = &mut leak.process.holdings {
        holdings.parts.shmem = Bytes(277 * MIB);
        holdings.shared = Fact::Known(shared);
    }
    let small = process(3, 1000, &session(1000), 50, 50);
    let found = ordered(&[leak, small], 250);
    assert_eq!(found[0], "2: alone, 1 grew by 200");
}

#[test]
fn a_crowd_of_ordinary_processes_fills_a_large_machine_too() {
    let total = Bytes(1024 * Bytes::GIB);
    let memory = SystemMemory { total, available: Bytes(10 * Bytes::GIB) };
    let machine = MachineMemory { memory, ..machine() };
    let crowd: Vec<_> = (2..4000).map(|pid| process(pid, 1000, &session(1000), 250, 250)).collect();
    let order = order(&rules(), &machine, lately(990 * 1024), &grown(&crowd));
    let Some(Standing::Ends { culprit, .. }) = order.first().map(|place| &place.standing) else {
        panic!("{:?}", order.places.first())
    };
    // One of them has the pid of memmon.
    assert_eq!(culprit.processes, 3997);
}

#[test]
fn thousands_of_small_processes_are_a_crowd_if_larger_ones_do_not_explain_the_loss() {
    let memory = SystemMemory { total: Bytes(64 * Bytes::GIB), available: Bytes(3 * Bytes::GIB) };
    let machine = MachineMemory { memory, ..machine() };
    // The largest growers, of which one has another user, and what thousands of others have grown by.
    let looked_at = |size, others| Candidates {
        grown: (1000..1256)
            .map(|pid| process(pid, 1000, &session(1000), size, size))
            .chain([process(300, 1001, &session(1001), 100, 40), process(301, 1001, &session(1001), 9, 5)])
            .collect(),
        others: Bytes(others * MIB),
        ..Candidates::default()
    };
    let order = |lost, candidates: &Candidates| order(&rules(), &machine, lately(lost), candidates);
    let standing = |order: &Order, pid| {
        order.places.iter().find(|place| place.process.pid == Pid(pid)).map(|place| place.standing.clone())
    };
    let crowd = order(60 << 10, &looked_at(12, 57 << 10));
    assert_eq!(crowd.places.iter().filter(|place| place.ends()).count(), 256, "{:?}", crowd.places.first());
    assert_eq!([300, 301].map(|pid| standing(&crowd, pid)), [const { Some(Standing::NotTheCause) }; 2]);
    // The memory went elsewhere, or larger ones took it.
    let elsewhere = order(60 << 10, &looked_at(12, 0));
    assert_eq!((elsewhere.first(), standing(&elsewhere, 1000)), (None, Some(Standing::Idle)));
    let mut with_hog = looked_at(12, 0);
    with_hog.grown.push(process(400, 1002, &session(1002), 50 << 10, 50 << 10));
    let with_hog = order(60 << 10, &with_hog);
    assert_eq!(with_hog.first().map(|place| place.process.pid), Some(Pid(400)));
    assert_eq!(standing(&with_hog, 1000), Some(Standing::Idle));
}

#[test]
fn nobody_ends_if_the_memory_went_to_no_process() {
    // 500 MiB were written to a tmpfs; the others live on, and grow a little.
    let candidates = [database(), process(2, 1000, &session(1000), 30, 12), process(3, 0, "/", 40, 15)];
    assert_eq!(ordered(&candidates, 540), ["90: Idle", "3: NotTheCause", "2: NotTheCause"]);
    // A hog beside it, with a quarter of the loss.
    let hog = process(4, 1001, &session(1001), 140, 136);
    let candidates = [database(), hog, process(2, 1000, &session(1000), 30, 12)];
    assert_eq!(ordered(&candidates, 540), ["4: alone, 1 grew by 136", "90: Idle", "2: NotTheCause"]);
}

#[test]
fn growth_that_an_end_does_not_give_back_does_not_count() {
    // A worker of a database that has touched its shared memory.
    let mut worker = process(2, 112, "/system.slice/postgresql.service", 3, 3);
    worker.shared_growth = Bytes(277 * MIB);
    worker.process.rss = Bytes(300 * MIB);
    let shared = crate::model::SharedMemory { kept: Bytes(277 * MIB), ..Default::default() };
    if let Some(holdings) = &mut worker.process.holdings {
        holdings.parts.shmem = Bytes(277 * MIB);
        holdings.shared = Fact::Known(shared);
    }
    assert_eq!(ordered(&[worker.clone()], 300), ["2: NotTheCause"]);
    // One that touches its shared memory again has grown by nothing, however much anonymous memory it has.
    let mut older = process(3, 112, "/system.slice/postgresql.service", 300, 0);
    older.shared_growth = Bytes(277 * MIB);
    assert_eq!(ordered(&[older], 300), ["3: Idle"]);
    // Shared memory that goes with it does count.
    if let Some(holdings) = &mut worker.process.holdings {
        let shared = crate::model::SharedMemory { returned: Bytes(277 * MIB), ..Default::default() };
        holdings.shared = Fact::Known(shared);
    }
    assert_eq!(ordered(&[worker], 300), ["2: alone, 1 grew by 280"]);
}

#[test]
fn of_a_service_that_is_the_culprit_the_process_that_has_grown_most_ends_first() {
    const SERVICE: &str = "/system.slice/redis.service";
    // The service has grown by as much as it held, and this process of it by less than it held itself.
    let [grown_most, other] =
        [process(90, 112, SERVICE, 240 + 195, 195), process(91, 112, SERVICE, 11 + 56, 56)];
    let found = ordered(&[grown_most, other], 251);
    assert_eq!(found, ["90: redis.service, 2 grew by 251", "91: redis.service, 2 grew by 251"]);
}

#[test]
fn a_database_that_works_is_not_the_culprit() {
    const REDIS: &str = "/system.slice/redis.service";
    let database = |growth| process(90, 112, REDIS, 200 + growth, growth);
    let crowd = |growth| (2..5).map(move |pid| process(pid, 1000, &session(1000), growth, growth));
    let together = |crowd: &mut dyn Iterator<Item = Candidate>, database| {
        ordered(&crowd.chain([database]).collect::<Vec<_>>(), 200)
    };
    // It has grown by more than any of the workers, and then by more than half of all of them.
    let found = together(&mut crowd(40), database(60));
    assert_eq!(found[..2], ["4: session-1000.scope, 3 grew by 120", "3: session-1000.scope, 3 grew by 120"]);
    assert_eq!(found[3], "90: NotTheCause");
    assert_eq!(together(&mut crowd(40), database(110))[3], "90: NotTheCause");
    // Until one is left that has grown by as much.
    assert_eq!(together(&mut crowd(70).take(1), database(60))[1], "90: NotTheCause");
    // Alone it is one: a leak is no work.
    assert_eq!(ordered(&[database(150)], 200), ["90: alone, 1 grew by 150"]);
    let found = together(&mut crowd(15), database(150));
    assert_eq!(found[0], "90: alone, 1 grew by 150", "beside some logins");

    // Its new workers belong to it.
    let workers = || (91..96).map(|pid| process(pid, 112, REDIS, 20, 20));
    let mut candidates = grown(&crowd(35).chain(workers()).collect::<Vec<_>>());
    let first = |candidates: &Candidates| {
        order(&rules(), &machine(), lately(250), candidates).first().unwrap().process.pid
    };
    assert_eq!(first(&candidates), Pid(4));
    candidates.grown.drain(1..3);
    assert_eq!(first(&candidates), Pid(95), "a service that is new has its memory from now");
    candidates.idle.insert("redis.service".into(), Bytes(400 * MIB));
    assert_eq!(first(&candidates), Pid(2));
}

#[test]
fn workers_that_all_grow_beyond_what_they_held_are_one_culprit() {
    let workers: Vec<_> = (2..8).map(|pid| process(pid, 1000, &session(1000), 160, 60)).collect();
    let candidates = [&workers[..], &[process(90, 112, "/system.slice/redis.service", 260, 60)]].concat();
    let found = ordered(&candidates, 450);
    assert_eq!(found[0], "7: session-1000.scope, 6 grew by 360");
    assert_eq!(found[6], "90: NotTheCause");
}

#[test]
fn nobody_ends_for_what_a_protected_process_did() {
    let whitelist = Whitelist { names: NamePatterns::new(["firefox"]).unwrap(), ..Whitelist::default() };
    let rules = Rules { whitelist, ..rules() };
    let mut editor = process(2, 1001, &session(1001), 30, 30);
    (editor.process.names.exe, editor.process.names.argv0) = (Fact::Absent, Fact::Absent);
    let candidates = grown(&[process(3, 1000, &session(1000), 500, 500), editor]);
    let order = order(&rules, &machine(), lately(530), &candidates);
    assert_eq!(order.first(), None, "{order:?}");
    assert!(order.places.iter().any(|place| place.standing == Standing::NotTheCause), "{order:?}");
}

#[test]
fn swapped_out_memory_counts() {
    let mut leak = process(2, 1000, &session(1000), 60, 250);
    if let Some(holdings) = &mut leak.process.holdings {
        holdings.parts.swap = Bytes(196 * MIB);
    }
    assert_eq!(ordered(&[database(), leak], 100), ["2: alone, 1 grew by 250", "90: Idle"]);
}

#[test]
fn the_protected_are_no_part_of_a_cause() {
    let whitelist = Whitelist { names: NamePatterns::new(["firefox"]).unwrap(), ..Whitelist::default() };
    let rules = Rules { whitelist, ..rules() };
    let mut other = process(2, 1000, &session(1000), 100, 100);
    (other.process.names.exe, other.process.names.argv0) = (Fact::Absent, Fact::Absent);
    let candidates = [process(3, 1000, &session(1000), 300, 300), other];
    let order = order(&rules, &machine(), lately(400), &grown(&candidates));
    let [Place { process, standing: Standing::Ends { culprit, .. }, .. }, protected] = &order.places[..]
    else {
        panic!("{order:?}")
    };
    assert_eq!((process.pid, culprit.growth, culprit.processes), (Pid(2), Bytes(100 * MIB), 1));
    assert!(matches!(protected.standing, Standing::Protected { .. }), "{protected:?}");
}

#[test]
fn no_more_end_than_it_takes() {
    let candidates: Vec<_> = (2..8).map(|pid| process(pid, 1000, &session(1000), 40, 30)).collect();
    let order = order(&rules(), &machine(), lately(200), &grown(&candidates));
    let number = |needed| order.enough(Bytes(needed * MIB)).len();
    assert_eq!([number(0), number(1), number(40), number(41), number(10_000)], [0, 1, 1, 2, 6]);
}

#[test]
fn the_preferred_end_first_and_the_whitelisted_never() {
    let rule = |name, user, prefer| {
        let matcher =
            Matcher { uids: Some([Uid(user)..=Uid(user)].into_iter().collect()), ..Matcher::default() };
        LimitRule { prefer, ..limit_rule(name, matcher, RuleLimit::Thresholds) }
    };
    let batch = [rule("batch", 1001, true), rule("later", 1002, true), rule("others", 1003, false)];
    let rules = Rules { rules: batch.to_vec(), ..rules() };
    let candidates = [
        process(2, 1000, &session(1000), 300, 300),
        // Idle, small, and of the rules in the other order.
        process(3, 1002, "/b", 90, 0),
        process(4, 1001, "/a", 100, 0),
        process(5, 1001, "/a", 9, 9),
        process(6, 1003, "/c", 150, 0),
    ];
    let shown = |rules: &Rules| {
        let order = order(rules, &machine(), lately(310), &grown(&candidates));
        let ending = order.places.iter().filter(|place| place.ends());
        ending.map(|place| place.process.pid.0).collect::<Vec<_>>()
    };
    assert_eq!(shown(&rules), [4, 3, 2]);
    let order = order(&rules, &machine(), lately(310), &grown(&candidates));
    let Standing::Ends { preferred, culprit } = &order.places[0].standing else { panic!("{order:?}") };
    assert_eq!((preferred.unwrap().as_str(), culprit.growth), ("batch", Bytes::ZERO));
    let whitelist = Whitelist { users: [Uid(1001)].into(), ..Whitelist::default() };
    assert_eq!(shown(&Rules { whitelist, ..rules }), [3, 2]);
}

#[test]
fn only_the_first_is_a_victim() {
    let candidates: Vec<_> = [40, 30, 0].map(|grown| process(grown + 2, 1000, "/a", 40, grown.into())).into();
    let order = order(&rules(), &machine(), lately(70), &grown(&candidates));
    let verdict = |index: usize| order.verdict(&candidates[index].process, &machine());
    let Verdict::Terminate(Breach { rule: Limit::Machine, limit, rss, .. }) = verdict(0) else {
        panic!("{order:?}")
    };
    assert_eq!((limit, rss), (Bytes::ZERO, Bytes(60 * MIB)));
    assert_eq!([verdict(1), verdict(2)], [Verdict::Within, Verdict::Within]);
}
