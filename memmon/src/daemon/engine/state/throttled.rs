//! The cgroups that are slowed down, until their sums have stayed well below their limits. No system calls.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    time::{Duration, Instant},
};

use crate::daemon::engine::state::observed::Observed;
use crate::daemon::engine::state::sums::SumId;
use crate::enforce::Pause;
use crate::model::{Bytes, GroupKey, Lowered, Name, Per, ThrottleEnd, WhyNot, unit_path};

/// Time until the former value is set again after that has failed for the first time.
const RETRY: Duration = Duration::from_secs(1);

/// The first pause after another one has changed a value and memmon has set its own again. The longest one is 16 s.
const CONTEST: Duration = Duration::from_millis(250);

/// The most that the time between two looks counts for: there is one every two seconds.
const BETWEEN_LOOKS: Duration = Duration::from_secs(4);

/// A cgroup that is slowed down.
#[derive(Clone, Debug)]
pub(crate) struct Throttled {
    pub(crate) lowered: Lowered,
    /// The group whose sum exceeded the limit.
    pub(crate) group: GroupKey,
    /// The limit, which changes with the memory of the machine.
    pub(crate) limit: Bytes,
    pub(crate) since: Instant,
    /// Number of times that memmon has set its `memory.high`.
    pub(crate) times: u32,
    pub(crate) phase: Phase,
    calm: Option<Observed>,
    /// The pause after the former value could not be set again.
    failed: Option<Pause>,
    /// The pause after memmon has set its value again, and how often it did so without keeping it.
    contest: Option<(Pause, u32)>,
}

/// The state of its `memory.high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its `memory.high` is being set.
    Setting,
    /// It is set.
    Set,
    /// The former one is being set again.
    Restoring(ThrottleEnd),
}

impl Throttled {
    /// Notes whether its sum is well below its limit. Returns for how long it has been.
    pub(crate) fn note_calm(&mut self, is_calm: bool, now: Instant) -> Option<Duration> {
        self.calm = self.calm.filter(|_| is_calm).or_else(|| is_calm.then(|| Observed::begin(now)));
        self.calm.as_mut().map(|calm| calm.again(now, BETWEEN_LOOKS))
    }

    /// Whether the value that another one has changed is set again now. The pauses get longer as long as it does not last.
    pub(crate) fn may_set_again(&mut self, now: Instant) -> bool {
        let next = match self.contest {
            Some((pause, _)) if !pause.is_over(now) => return false,
            Some((pause, times)) => (pause.longer(now), times.saturating_add(1)),
            None => (Pause::new(now, CONTEST), 1),
        };
        self.contest = Some(next);
        true
    }

    /// Notes that the cgroup has the value that memmon has set: if it has lasted, the other one has given up.
    pub(crate) fn lasts(&mut self, now: Instant) {
        self.contest = self.contest.filter(|(pause, _)| !pause.is_over(now));
    }

    /// Whether it is to be reported that the value is set: of many times in a row, ever fewer are.
    pub(crate) fn is_set_news(&self) -> bool {
        self.contest.is_none_or(|(_, times)| times.is_power_of_two())
    }

    /// Notes that the former value could not be set again. Returns whether that is to be reported: the first time.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.phase = Phase::Set;
        let before =
            self.failed.replace(self.failed.map_or(Pause::new(now, RETRY), |pause| pause.longer(now)));
        before.is_none()
    }

    /// Whether the former value is not to be set yet, because that has just failed.
    pub(crate) fn pauses(&self, now: Instant) -> bool {
        self.failed.is_some_and(|pause| !pause.is_over(now))
    }
}

/// The group of a cgroup that was lowered.
pub(crate) fn group_of(lowered: &Lowered) -> Option<GroupKey> {
    let cgroup = lowered.name();
    match lowered.per {
        Per::Unit => unit_path(&cgroup).map(|unit| GroupKey::Unit { unit: Name::new(unit) }),
        Per::Cgroup => Some(GroupKey::Cgroup { cgroup }),
        Per::User | Per::Session | Per::Tree | Per::Program => None,
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct ThrottledCgroups {
    held: BTreeMap<SumId, Throttled>,
    /// The reported reasons for which the cgroups of sums over their limits are not slowed down.
    refused: HashMap<SumId, WhyNot>,
    /// The sums over their limits whose cgroups would be slowed down if this was not a dry run.
    would: BTreeSet<SumId>,
}

impl ThrottledCgroups {
    pub(crate) fn contains(&self, sum: &SumId) -> bool {
        self.held.contains_key(sum)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn ids(&self) -> Vec<SumId> {
        self.held.keys().cloned().collect()
    }

    pub(crate) fn get_mut(&mut self, sum: &SumId) -> Option<&mut Throttled> {
        self.held.get_mut(sum)
    }

    pub(crate) fn get(&self, sum: &SumId) -> Option<&Throttled> {
        self.held.get(sum)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Throttled> {
        self.held.values()
    }

    /// Notes a `memory.high` that is being set, or was set before memmon started.
    pub(crate) fn begin(&mut self, sum: SumId, lowered: Lowered, limit: Bytes, phase: Phase, now: Instant) {
        let group = sum.1.clone();
        self.refused.remove(&sum);
        let throttled = Throttled {
            lowered,
            group,
            limit,
            since: now,
            times: 1,
            phase,
            calm: None,
            failed: None,
            contest: None,
        };
        self.held.insert(sum, throttled);
    }

    /// The throttle of another sum on this cgroup.
    pub(crate) fn other_on(&self, cgroup: &Name, sum: &SumId) -> Option<(&SumId, &Throttled)> {
        self.held.iter().find(|(other, held)| *other != sum && held.lowered.cgroup == cgroup.as_bytes())
    }

    pub(crate) fn forget(&mut self, sum: &SumId) -> Option<Throttled> {
        self.held.remove(sum)
    }

    /// The cgroups that are lowered, or about to be, apart from `without`.
    pub(crate) fn lowered(&self, without: Option<&SumId>) -> Vec<Lowered> {
        let others = self.held.iter().filter(|(sum, _)| Some(*sum) != without);
        others.map(|(_, throttled)| throttled.lowered.clone()).collect()
    }

    /// Whether it is to be reported why the cgroup of a sum is not slowed down: once for each kind of reason.
    pub(crate) fn is_news(&mut self, sum: &SumId, why: &WhyNot) -> bool {
        let before = self.refused.insert(sum.clone(), why.clone());
        before.is_none_or(|before| mem::discriminant(&before) != mem::discriminant(why))
    }

    /// Whether it is to be reported that the cgroup of a sum would be slowed down.
    pub(crate) fn is_news_in_dry_run(&mut self, sum: &SumId) -> bool {
        self.would.insert(sum.clone())
    }

    /// Notes that a sum is within its limit.
    pub(crate) fn within(&mut self, sum: &SumId) {
        self.refused.remove(sum);
        self.would.remove(sum);
    }

    /// Forgets what was reported about sums that no process is in any more.
    pub(crate) fn keep_reported(&mut self, is_there: impl Fn(&SumId) -> bool) {
        self.refused.retain(|sum, _| is_there(sum));
        self.would.retain(|sum| is_there(sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, RuleName};

    const LIMIT: Bytes = Bytes(4096);

    fn sum() -> SumId {
        (RuleName::new("slow").unwrap(), GroupKey::Unit { unit: "x.service".into() })
    }

    fn lowered(per: Per, cgroup: &str) -> Lowered {
        let (cgroup, before, high) = (cgroup.as_bytes().to_vec(), Bytes::MAX, Bytes(4096));
        Lowered { rule: sum().0, per, cgroup, number: 7, before, high, total: Bytes::ZERO }
    }

    #[test]
    fn it_is_calm_only_as_long_as_no_look_finds_otherwise() {
        let (mut all, begun) = (ThrottledCgroups::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        all.begin(sum(), lowered(Per::Unit, "/x.service"), LIMIT, Phase::Set, begun);
        let throttled = all.get_mut(&sum()).unwrap();
        assert_eq!(throttled.note_calm(true, after(1)), Some(Duration::ZERO));
        assert_eq!(throttled.note_calm(true, after(5)), Some(Duration::from_secs(4)));
        assert_eq!(throttled.note_calm(false, after(6)), None);
        assert_eq!(throttled.note_calm(true, after(9)), Some(Duration::ZERO));
        assert_eq!(throttled.note_calm(true, after(99)), Some(BETWEEN_LOOKS), "memmon was stopped");
    }

    #[test]
    fn a_contest_gets_slower_and_is_over_once_the_value_lasts() {
        let (mut all, begun) = (ThrottledCgroups::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        all.begin(sum(), lowered(Per::Unit, "/x.service"), LIMIT, Phase::Set, begun);
        let throttled = all.get_mut(&sum()).unwrap();
        assert!(throttled.is_set_news());
        let (mut set, mut reported) = (vec![], vec![]);
        for second in 1..100 {
            if throttled.may_set_again(after(second)) {
                set.push(second);
                if throttled.is_set_news() {
                    reported.push(second);
                }
            }
        }
        assert_eq!(set, [1, 2, 3, 4, 6, 10, 18, 34, 50, 66, 82, 98]);
        assert_eq!(reported, [1, 2, 4, 34]);
        throttled.lasts(after(99));
        assert!(!throttled.may_set_again(after(100)), "the other one may only be slow");
        throttled.lasts(after(114));
        assert!(throttled.may_set_again(after(115)) && throttled.may_set_again(after(116)));
        assert!(throttled.is_set_news());
    }

    #[test]
    fn a_reason_is_reported_once_while_the_sum_is_over_its_limit() {
        let mut all = ThrottledCgroups::default();
        let outsider = |pid| WhyNot::Outsider { outsider_pid: Pid(pid) };
        assert!(all.is_news(&sum(), &outsider(7)));
        assert!(!all.is_news(&sum(), &outsider(8)), "the same reason");
        assert!(all.is_news(&sum(), &WhyNot::Scattered));
        all.within(&sum());
        assert!(all.is_news(&sum(), &WhyNot::Scattered));
    }

    #[test]
    fn what_was_stored_is_of_the_group_that_its_path_names() {
        let group = |per, path| group_of(&lowered(per, path));
        assert_eq!(group(Per::Unit, "/system.slice/x.service"), Some(sum().1));
        let cgroup = GroupKey::Cgroup { cgroup: "/a".into() };
        assert_eq!((group(Per::Cgroup, "/a"), group(Per::Unit, "/a")), (Some(cgroup), None));
        assert_eq!(group(Per::User, "/a"), None);
    }
}
