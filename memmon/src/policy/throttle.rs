//! Rules with `action = "throttle"`: whether the cgroup of a sum may be slowed down, to what, and for how long.
//!
//! `memory.high` of a cgroup holds for every process in it and below it. So it is set only if each of them counts in the sum
//! and nothing protects it, never above what another one has set, and taken back after the sum has stayed well below its limit.

use std::{collections::HashMap, time::Duration};

use super::Sum;
use crate::model::{Bytes, Fact, GroupKey, Lowered, Name, Pid, Verdict, WhyNot, unit_cgroup};

/// The time for which a sum must stay below [`calm_below`] before its cgroup gets its former `memory.high` back.
pub const CALM_FOR: Duration = Duration::from_secs(10);

/// Seven eighths of the limit: what a sum and its swap must stay below. At the limit itself the kernel would hold it.
pub const fn calm_below(limit: Bytes) -> Bytes {
    Bytes(limit.0 / 8 * 7)
}

/// The cgroup of a sum: the one that all of its processes are in, or the one of their unit.
///
/// # Errors
/// They are in several ones, or it is not known in which.
pub fn cgroup(sum: &Sum) -> Result<Name, WhyNot> {
    let of = |cgroup: &Fact<Name>| match (&sum.key, cgroup) {
        (GroupKey::Cgroup { .. }, Fact::Known(cgroup)) => Some(cgroup.clone()),
        (GroupKey::Unit { .. }, Fact::Known(cgroup)) => unit_cgroup(cgroup),
        _ => None,
    };
    let mut cgroups = sum.members.iter().map(|member| of(&member.process.cgroup));
    let first = cgroups.next().flatten().ok_or(WhyNot::Scattered)?;
    if cgroups.all(|cgroup| cgroup.as_ref() == Some(&first)) { Ok(first) } else { Err(WhyNot::Scattered) }
}

/// Whether a cgroup with the processes `inside` may be slowed down for a sum.
///
/// # Errors
/// The reason against it: one of the processes does not count in the sum, or is protected or may be.
pub fn may_throttle(sum: &Sum, inside: &[Pid]) -> Result<(), WhyNot> {
    let members: HashMap<Pid, _> = sum.members.iter().map(|member| (member.process.id.pid, member)).collect();
    for pid in inside {
        let Some(member) = members.get(pid) else { return Err(WhyNot::Outsider { outsider_pid: *pid }) };
        match &member.guard {
            Verdict::Within => {}
            Verdict::Protected(protection) => {
                let (comm, protection) = (member.process.names.comm.clone(), protection.clone());
                return Err(WhyNot::Protected { protected_pid: *pid, comm, protection });
            }
            Verdict::Unsure(doubt) => return Err(WhyNot::Unsure { unsure_pid: *pid, doubt: doubt.clone() }),
            _ => return Err(WhyNot::Outsider { outsider_pid: *pid }),
        }
    }
    Ok(())
}

/// The `memory.high` to set for a sum with `limit`, in whole pages as the kernel keeps it; none if it has `present`, which is no
/// higher.
pub fn high(present: Bytes, limit: Bytes, page_size: u64) -> Option<Bytes> {
    let wanted = wanted(limit, page_size);
    (wanted < present).then_some(wanted)
}

fn wanted(limit: Bytes, page_size: u64) -> Bytes {
    let page = page_size.max(1);
    Bytes((limit.0 / page).max(1) * page)
}

/// Whether a cgroup may keep the value `high`. By the present configuration its limit would have been `then` with the memory that
/// the machine had when that was set, and is `now`: the memory changes by a little at any time (ballooning), which is no reason to let
/// the processes run free in between.
pub fn fits(high: Bytes, then: Bytes, now: Bytes, page_size: u64) -> bool {
    let wanted = |limit| wanted(limit, page_size);
    high == wanted(then) && high.0.abs_diff(wanted(now).0) <= wanted(now).0 / 8
}

/// The next step for a cgroup that is slowed down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Keep,
    /// It is set again: another one, such as systemd at a daemon-reload, has written another value, which comes back later.
    Again(Lowered),
    /// The former value comes back.
    Restore,
    /// The present value is another one's, and stays.
    LeaveAlone,
}

/// The next step for a cgroup that was slowed down, and that has `present` now. `calm_for`: for how long its sum has
/// been well below its `limit`, if it is.
pub fn next(
    lowered: &Lowered,
    present: Bytes,
    limit: Bytes,
    page_size: u64,
    calm_for: Option<Duration>,
) -> Next {
    let is_over = calm_for.is_some_and(|calm| calm >= CALM_FOR);
    match (present == lowered.high, is_over) {
        (true, true) => Next::Restore,
        (true, false) => Next::Keep,
        (false, true) => Next::LeaveAlone,
        (false, false) => match high(present, limit, page_size) {
            Some(high) => Next::Again(Lowered { before: present, high, ..lowered.clone() }),
            None => Next::LeaveAlone,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Action, Doubt, Limit, Per, ProcessId, Protection, RuleName};
    use crate::policy::{Member, Strike, fixtures::hog};

    const PAGE: u64 = 4096;
    const GIB: Bytes = Bytes(Bytes::GIB);

    fn member(pid: u32, cgroup: &str, guard: Verdict) -> Member {
        let id = ProcessId { pid: Pid(pid), ..hog().id };
        let process = crate::model::Process { id, cgroup: Fact::Known(cgroup.into()), ..hog() };
        Member { process, least: GIB, most: GIB, guard }
    }

    fn sum(key: GroupKey, members: Vec<Member>) -> Sum {
        Sum {
            rule: RuleName::new("slow").unwrap(),
            key,
            limit: (Limit::Gb, GIB),
            ends_above: Bytes::MAX,
            action: Action::Throttle,
            strike: Strike::Largest,
            members,
            out_of_reach: Default::default(),
        }
    }

    fn unit(members: Vec<Member>) -> Sum {
        sum(GroupKey::Unit { unit: "x.service".into() }, members)
    }

    #[test]
    fn the_cgroup_is_the_one_of_the_unit_or_the_one_that_all_are_in() {
        let of = |sum: &Sum| cgroup(sum).map(|name| name.to_string());
        let within = |pid, path| member(pid, path, Verdict::Within);
        let (main, inner) = (within(1, "/system.slice/x.service"), within(2, "/system.slice/x.service/a/b"));
        assert_eq!(of(&unit(vec![inner.clone(), main.clone()])), Ok("/system.slice/x.service".to_owned()));
        assert_eq!(
            of(&unit(vec![main.clone(), within(3, "/other.slice/x.service")])),
            Err(WhyNot::Scattered)
        );
        assert_eq!(of(&unit(vec![main.clone(), within(3, "/system.slice")])), Err(WhyNot::Scattered));
        let key = GroupKey::Cgroup { cgroup: "/system.slice/x.service".into() };
        assert_eq!(of(&sum(key.clone(), vec![main.clone()])), Ok("/system.slice/x.service".to_owned()));
        assert_eq!(of(&sum(key.clone(), vec![main, inner])), Err(WhyNot::Scattered));
        assert_eq!(of(&sum(key, vec![])), Err(WhyNot::Scattered));
    }

    #[test]
    fn a_cgroup_is_slowed_down_only_if_each_process_in_it_counts_and_nothing_protects_it() {
        let guarded =
            |guard| unit(vec![member(1, "/x.service", Verdict::Within), member(2, "/x.service", guard)]);
        let doubt = Doubt::OomScoreAdjUnreadable;
        for (guard, inside, expected) in [
            (Verdict::Within, &[1, 2][..], Ok(())),
            (Verdict::Within, &[2], Ok(())),
            (Verdict::Within, &[1, 2, 3], Err(WhyNot::Outsider { outsider_pid: Pid(3) })),
            (
                Verdict::Protected(Protection::Root),
                &[1, 2],
                Err(WhyNot::Protected {
                    protected_pid: Pid(2),
                    comm: hog().names.comm,
                    protection: Protection::Root,
                }),
            ),
            (Verdict::Unsure(doubt.clone()), &[1, 2], Err(WhyNot::Unsure { unsure_pid: Pid(2), doubt })),
            (Verdict::Protected(Protection::Root), &[1], Ok(())),
        ] {
            let inside: Vec<_> = inside.iter().map(|pid| Pid(*pid)).collect();
            assert_eq!(may_throttle(&guarded(guard), &inside), expected);
        }
    }

    #[test]
    fn a_value_fits_a_limit_that_has_changed_by_an_eighth() {
        let gib = |eighths| Bytes(GIB.0 / 8 * eighths);
        let fits = |eighths| fits(GIB, GIB, gib(eighths), PAGE);
        assert_eq!([4, 7, 8, 9, 16].map(fits), [false, false, true, true, false]);
        assert!(super::fits(Bytes(PAGE), Bytes(1), Bytes(1), PAGE), "the smallest that the kernel keeps");
        let other = Bytes(GIB.0 / 100 * 99);
        assert!(!super::fits(GIB, other, other, PAGE), "another configuration, however little it differs");
    }

    fn lowered(before: Bytes, high: Bytes) -> Lowered {
        let rule = RuleName::new("slow").unwrap();
        Lowered { rule, per: Per::Unit, cgroup: b"/x.service".to_vec(), number: 7, before, high, total: GIB }
    }

    #[test]
    fn what_another_one_wrote_is_kept_for_later_and_never_raised() {
        let (held, calm) = (lowered(Bytes::MAX, GIB), Some(CALM_FOR));
        let next = |present, calm_for| next(&held, present, GIB, PAGE, calm_for);
        assert_eq!(next(GIB, None), Next::Keep);
        assert_eq!(next(GIB, Some(CALM_FOR / 2)), Next::Keep);
        assert_eq!(next(GIB, calm), Next::Restore);
        assert_eq!(next(Bytes::MAX, None), Next::Again(lowered(Bytes::MAX, GIB)), "systemd has written it");
        assert_eq!(next(Bytes(2 * GIB.0), None), Next::Again(lowered(Bytes(2 * GIB.0), GIB)));
        assert_eq!(next(Bytes(GIB.0 / 2), None), Next::LeaveAlone);
        assert_eq!(next(Bytes::MAX, calm), Next::LeaveAlone);
    }

    proptest! {
        #[test]
        fn no_value_is_ever_raised_and_what_is_set_is_what_the_kernel_keeps(
            present in any::<u64>(), limit in 1_u64.., page in prop_oneof![Just(4096_u64), Just(65536)],
        ) {
            if let Some(set) = high(Bytes(present), Bytes(limit), page) {
                prop_assert!(set.0 < present && set.0 % page == 0 && set.0 > 0);
                prop_assert!(set.0 <= limit.max(page));
            } else {
                prop_assert!(present <= limit.max(page));
            }
        }
    }
}
