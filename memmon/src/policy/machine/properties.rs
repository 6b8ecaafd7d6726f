//! Properties that hold for every machine, rule and process.

use proptest::{collection::vec, prelude::*};

use super::{Candidate, Candidates, Levels, Lost, MachineLimits, Place, Shortage, Standing, order};
use super::{blame::Units, candidate::Held};
use crate::model::{
    Bytes, Elsewhere, Holdings, MachineMemory, Parts, Pid, Pressure, Process, ProcessId, SystemMemory, Uid,
};
use crate::policy::{
    could_be_terminated,
    fixtures::{any_process, hog, rules, rules_with_rules},
};

const MIB: u64 = Bytes::MIB;

fn candidate() -> impl Strategy<Value = Candidate> {
    (any_process(), 0_u64..300, 0_u64..300, 0_u64..300, 0_u64..300, 0_u64..300, 1_u64..40).prop_map(
        |(process, anon, swap, growth, early, before, start)| {
            let parts = Parts { anon: Bytes(anon * MIB), swap: Bytes(swap * MIB), ..Parts::default() };
            let holdings = Some(Holdings { parts, shared: crate::model::Fact::Absent, trouble: None });
            let mut process = Process { rss: parts.anon, holdings, ..process };
            process.id.start.0 = start;
            let [growth, early, before] = [growth, early, before].map(|size| Bytes(size * MIB));
            let none = Bytes::ZERO;
            Candidate { process, growth, shared_growth: none, early, shared_early: none, before }
        },
    )
}

fn machine() -> impl Strategy<Value = MachineMemory> {
    let pressure = proptest::option::of((0.0_f64..100.0, 0.0_f64..100.0));
    (0_u64..=1024, 0_u64..3, 0_u64..=512, pressure).prop_map(|(available, swap, free, pressure)| {
        MachineMemory {
            memory: SystemMemory { total: Bytes(1024 * MIB), available: Bytes(available * MIB) },
            swap_total: Bytes(swap * 512 * MIB),
            swap_free: Bytes(free.min(swap * 512) * MIB),
            elsewhere: Elsewhere::default(),
            pressure: pressure.map(|(some, full)| Pressure {
                some,
                full,
                some_of_minute: some,
                full_of_minute: full,
                swaps_calmly: false,
            }),
        }
    })
}

fn limits() -> impl Strategy<Value = MachineLimits> {
    let levels = || (1_u32..50, proptest::option::of(1_u32..50), proptest::option::of(1_u32..100));
    let levels = move || {
        levels().prop_map(|(available, swap, full)| Levels {
            available_percent: Some(available.into()),
            swap_free_percent: swap.map(f64::from),
            pressure_full: full.map(f64::from),
            ..Levels::default()
        })
    };
    (levels(), levels()).prop_map(|(warn, act)| MachineLimits { warn, act, stop_writers: false })
}

fn grown(candidates: &[Candidate]) -> Candidates {
    Candidates { grown: candidates.to_vec(), ..Candidates::default() }
}

/// A process with `anon` MiB of its own, of which `before` were there when the machine was well.
fn member(pid: u32, uid: u32, cgroup: &str, before: u64, growth: u64) -> Candidate {
    let parts = Parts { anon: Bytes((before + growth) * MIB), ..Parts::default() };
    let holdings = Some(Holdings { parts, shared: crate::model::Fact::Absent, trouble: None });
    let hog = hog();
    let process = Process {
        id: ProcessId { pid: Pid(pid), start: hog.id.start },
        rss: parts.anon,
        holdings,
        real_uid: Uid(uid),
        effective_uid: Uid(uid),
        cgroup: crate::model::Fact::Known(cgroup.into()),
        ..hog
    };
    let (growth, before) = (Bytes(growth * MIB), Bytes(before * MIB));
    let none = Bytes::ZERO;
    Candidate { process, growth, shared_growth: none, early: none, shared_early: none, before }
}

/// Candidates, no two of which are the same process.
fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    vec(candidate(), 0..14).prop_map(|mut candidates| {
        candidates.sort_by_key(|candidate| candidate.process.id);
        candidates.dedup_by_key(|candidate| candidate.process.id);
        candidates
    })
}

proptest! {
    #[test]
    fn the_order_of_the_input_does_not_matter(
        rules in rules_with_rules(),
        machine in machine(),
        lost in 0_u64..1024,
        early in 0_u64..1024,
        candidates in candidates(),
        turn in 0_usize..14,
    ) {
        let (lost, early) = (Bytes(lost * MIB), Bytes(early * MIB));
        let mut other = candidates.clone();
        other.rotate_left(turn % candidates.len().max(1));
        other.reverse();
        prop_assert_eq!(
            order(&rules, &machine, Lost { bytes: lost, early }, &grown(&candidates)),
            order(&rules, &machine, Lost { bytes: lost, early }, &grown(&other))
        );
    }

    #[test]
    fn no_protected_and_no_idle_process_ends(
        rules in rules_with_rules(),
        machine in machine(),
        (lost, early) in (0_u64..1024, 0_u64..1024),
        candidates in candidates(),
    ) {
        let lost = Lost { bytes: Bytes(lost * MIB), early: Bytes(early * MIB) };
        let order = order(&rules, &machine, lost, &grown(&candidates));
        prop_assert_eq!(order.places.len(), candidates.len());
        for Place { process, gives_back, growth, standing } in &order.places {
            let candidate = candidates.iter().find(|candidate| candidate.process.id == *process).unwrap();
            prop_assert!(*growth <= candidate.growth && *growth <= *gives_back);
            prop_assert_eq!(*gives_back, super::gives_back(&candidate.process));
            if let Standing::Ends { preferred, .. } = standing {
                prop_assert!(could_be_terminated(&rules, &candidate.process, &machine.memory));
                prop_assert!(*growth >= Bytes(MIB) || preferred.is_some());
            }
        }
        // Processes that end are before all that do not.
        let first_left = order.places.iter().position(|place| !place.ends()).unwrap_or(order.places.len());
        prop_assert!(order.places[first_left..].iter().all(|place| !place.ends()));
    }

    #[test]
    fn a_service_that_works_never_ends_beside_a_crowd_that_has_grown_by_more(
        workers in vec(5_u64..200, 1..12),
        its_own in 1_u64..2000,
        of_its_workers in vec(1_u64..50, 0..4),
        before in 0_u64..4000,
        others in candidates(),
        (lost, early) in (0_u64..1024, 0_u64..1024),
        stopped in vec(0_u64..200, 12),
        machine in machine(),
    ) {
        let crowd: u64 = workers.iter().sum();
        let growth = its_own + of_its_workers.iter().sum::<u64>();
        prop_assume!(growth < crowd && growth < before);
        let database = |at: u32, before, growth| member(7000 + at, 112, "/system.slice/db.service", before, growth);
        let mut candidates: Vec<_> = others;
        // The user of the database has nothing else, and the crowd's processes are new.
        candidates.retain(|candidate| candidate.process.real_uid != Uid(112));
        candidates.push(database(0, before, its_own));
        let of_its_workers = of_its_workers.into_iter().zip(1..);
        candidates.extend(of_its_workers.map(|(growth, at)| database(at, 0, growth)));
        let crowd = workers.into_iter().zip(stopped).zip(8000..);
        let scope = "/user.slice/user-1003.slice/session-4.scope";
        // Whenever they have grown.
        candidates.extend(crowd.map(|((growth, early), pid)| Candidate {
            early: Bytes(early * MIB),
            ..member(pid, 1003, scope, 0, growth)
        }));
        let order = order(&rules(), &machine, Lost { bytes: Bytes(lost * MIB), early: Bytes(early * MIB) }, &grown(&candidates));
        for place in order.places.iter().filter(|place| (7000..8000).contains(&place.process.pid.0)) {
            prop_assert!(!place.ends(), "{place:?} of {order:?}");
        }
    }

    #[test]
    fn the_first_stays_the_first_if_it_takes_more(
        rules in rules_with_rules(),
        machine in machine(),
        (lost, early) in (0_u64..1024, 0_u64..1024),
        candidates in candidates(),
        more in 1_u64..300,
    ) {
        // Nothing has shrunk since it came early.
        let candidates: Vec<_> =
            candidates.into_iter().map(|candidate| Candidate { early: Bytes::ZERO, ..candidate }).collect();
        let lost = |more| Lost { bytes: Bytes((lost + more) * MIB), early: Bytes(early.min(lost) * MIB) };
        let before = order(&rules, &machine, lost(0), &grown(&candidates));
        let Some(first) = before.first() else { return Ok(()) };
        let take = |candidate: Candidate| {
            let Candidate { mut process, growth, .. } = candidate.clone();
            let Some(holdings) = &mut process.holdings else { return candidate };
            if process.id != first.process {
                return candidate;
            }
            holdings.parts.anon = holdings.parts.anon + Bytes(more * MIB);
            process.rss = process.rss + Bytes(more * MIB);
            Candidate { process, growth: growth + Bytes(more * MIB), ..candidate }
        };
        let works = |candidates: &[Candidate]| {
            let growths = || candidates.iter().map(|candidate| (candidate, candidate.own_growth()));
            let units = Units::new(growths(), &Held::default());
            growths().map(|(candidate, growth)| units.blame(candidate, growth).works).collect::<Vec<_>>()
        };
        let taken: Vec<_> = candidates.iter().cloned().map(take).collect();
        // A service that has grown by as much as it held before works no longer, and its new processes are to blame then.
        prop_assume!(works(&candidates) == works(&taken));
        let after = order(&rules, &machine, lost(more), &grown(&taken));
        let Some(place) = after.places.iter().find(|place| place.process == first.process) else { return Ok(()) };
        // It may be memory that it shares with its parent.
        prop_assume!(place.growth == first.growth + Bytes(more * MIB));
        prop_assert_eq!(after.first(), Some(place));
    }

    #[test]
    fn no_more_end_than_it_takes(
        rules in rules_with_rules(),
        machine in machine(),
        candidates in candidates(),
        needed in 0_u64..1024,
    ) {
        let order = order(&rules, &machine, Lost::default(), &grown(&candidates));
        let needed = Bytes(needed * MIB);
        let ended = order.enough(needed);
        if let [before @ .., _] = ended {
            prop_assert!(before.iter().map(|place| place.gives_back).sum::<Bytes>() < needed);
        }
        let all = order.places.iter().filter(|place| place.ends()).count();
        let back: Bytes = ended.iter().map(|place| place.gives_back).sum();
        prop_assert!(back >= needed || ended.len() == all);
    }

    #[test]
    fn nobody_ends_while_the_machine_is_calm(limits in limits(), machine in machine()) {
        match limits.shortage(&machine) {
            Shortage::Act(reasons) => prop_assert!(!reasons.is_empty()),
            Shortage::Calm | Shortage::Warn(_) => prop_assert_eq!(limits.needed(&machine), Bytes::ZERO),
        }
        // With all memory available no process is ended.
        let memory = SystemMemory { available: machine.memory.total, ..machine.memory };
        let idle = MachineMemory { memory, ..machine };
        prop_assert!(!matches!(limits.shortage(&idle), Shortage::Act(_)));
        if limits.is_well(&machine) {
            prop_assert_eq!(limits.shortage(&machine), Shortage::Calm);
        }
    }
}
