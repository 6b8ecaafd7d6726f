//! Who climbs towards its limit: the ladder in force, how fast each climbs, and how much of a CPU looking at them may
//! take. No syscalls; the time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    model::{Bytes, ProcessId},
    policy::{Growth, Rate, WakeLevels},
};

/// The processes that reached the foot of the ladder.
#[derive(Debug)]
pub(in crate::daemon) struct GrowthTracker {
    pub(in crate::daemon) ladder: WakeLevels,
    climbs: HashMap<ProcessId, Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    growth: Growth,
    warned: bool,
    level: Bytes,
}

impl GrowthTracker {
    pub(in crate::daemon) fn new(ladder: WakeLevels) -> Self {
        Self { ladder, climbs: HashMap::new() }
    }

    /// Puts another ladder up: who was warned of the one before is warned of this one, too.
    pub(in crate::daemon) fn move_to(&mut self, ladder: WakeLevels) {
        self.ladder = ladder;
        self.climbs.values_mut().for_each(|climb| climb.warned = false);
    }

    /// Everybody of whom something is known.
    pub(in crate::daemon) fn all(&self) -> Vec<ProcessId> {
        self.climbs.keys().copied().collect()
    }

    /// Takes a reading of one that has reached the foot.
    pub(in crate::daemon) fn note(&mut self, whom: ProcessId, at: Duration, rss: Bytes) {
        let climb = self.climbs.entry(whom).or_default();
        // A crossing may be heard of after a scan that was later. An eighth below, as the kernel side does: who swings
        // around the rung is one climb.
        if climb.growth.note(at, rss) {
            climb.warned &= self.ladder.warns_at(rss + Bytes(rss.0 / 7));
        }
    }

    /// Whether a warning of this one could be due: it is asked before a close look.
    pub(in crate::daemon) fn may_warn(&self, whom: ProcessId, rss: Bytes) -> bool {
        self.ladder.warns_at(rss) && self.climbs.get(&whom).is_some_and(|climb| !climb.warned)
    }

    /// Whether a warning of this one is due. It is not due again before the climb is another one.
    pub(in crate::daemon) fn warn(&mut self, whom: ProcessId, rss: Bytes) -> bool {
        let due = self.ladder.warns_at(rss);
        self.climbs.get_mut(&whom).is_some_and(|climb| due && !std::mem::replace(&mut climb.warned, true))
    }

    /// Remembers the level that was set for one.
    pub(in crate::daemon) fn set(&mut self, whom: ProcessId, level: Bytes) {
        self.climbs.entry(whom).or_default().level = level;
    }

    /// Those who fell below the rung under their level, with the level that they should have now: `rss` reads one. Who is
    /// at the top was judged, and has the level that came of it.
    pub(in crate::daemon) fn fallen(
        &self,
        rss: impl Fn(ProcessId) -> Option<Bytes>,
    ) -> Vec<(ProcessId, Bytes)> {
        let lower = |(whom, climb): (&ProcessId, &Tracked)| {
            let rss = rss(*whom).filter(|rss| *rss < self.ladder.highest())?;
            let level = self.ladder.above(rss);
            (level < climb.level).then_some((*whom, level))
        };
        self.climbs.iter().filter_map(lower).collect()
    }

    /// How fast one grows, and when it will be at `limit`.
    pub(in crate::daemon) fn rate(&self, whom: ProcessId, limit: Bytes, error: Bytes) -> Option<Rate> {
        self.climbs.get(&whom)?.growth.rate(limit, error)
    }

    /// The same of everybody who has one.
    pub(in crate::daemon) fn rates(&self, limit: Bytes, error: Bytes) -> Vec<(ProcessId, Rate)> {
        let rate = |(whom, climb): (&ProcessId, &Tracked)| Some((*whom, climb.growth.rate(limit, error)?));
        self.climbs.iter().filter_map(rate).collect()
    }

    pub(in crate::daemon) fn forget(&mut self, whom: ProcessId) {
        self.climbs.remove(&whom);
    }

    /// Forgets those of whom `is_there` knows nothing.
    pub(in crate::daemon) fn keep(&mut self, is_there: impl Fn(ProcessId) -> bool) {
        self.climbs.retain(|whom, _| is_there(*whom));
    }
}

/// How long a share of the time is counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How much of each window may go to those who cross: a tenth of one CPU.
const SHARE: Duration = Duration::from_millis(100);

/// What can be owed to the windows to come. A stall of the machine is nobody's debt, and memmon is not to sleep for it.
const MOST_OWED: Duration = Duration::from_millis(300);

/// Bounds what processes that swing around their limits, or hang there, can cost: when the share is used up, the ring waits.
#[derive(Debug)]
pub(in crate::daemon) struct CpuBudget {
    since: Instant,
    spent: Duration,
}

impl CpuBudget {
    pub(in crate::daemon) const fn new(now: Instant) -> Self {
        Self { since: now, spent: Duration::ZERO }
    }

    /// Whether there is time left; if not, when there will be.
    pub(in crate::daemon) fn left(&mut self, now: Instant) -> Result<(), Instant> {
        let windows = now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs();
        if windows > 0 {
            let paid = SHARE.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
            *self = Self { since: now, spent: self.spent.saturating_sub(paid) };
        }
        if self.spent < SHARE { Ok(()) } else { Err(self.since + WINDOW) }
    }

    pub(in crate::daemon) fn spend(&mut self, time: Duration) {
        self.spent = (self.spent + time).min(SHARE + MOST_OWED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Pid, StartTime};

    const WHOM: ProcessId = ProcessId { pid: Pid(7), start: StartTime(1) };

    fn mib(count: u64) -> Bytes {
        Bytes(count * Bytes::MIB)
    }

    fn climbers() -> GrowthTracker {
        GrowthTracker::new(WakeLevels::new(mib(800), mib(1), Some(80.0)))
    }

    #[test]
    fn one_warning_per_climb() {
        let mut climbers = climbers();
        let mut warned = |seconds, rss| {
            climbers.note(WHOM, Duration::from_secs(seconds), mib(rss));
            climbers.warn(WHOM, mib(rss))
        };
        assert!(!warned(1, 500));
        assert!(warned(2, 640));
        assert!(!warned(3, 700));
        // It swings around the rung.
        assert!(!warned(4, 600) && !warned(5, 650));
        // ReportOnce late of what was before.
        assert!(!warned(1, 400) && !warned(6, 650));
        // It fell, and comes again.
        assert!(!warned(7, 500) && warned(8, 640));
        assert!(!climbers.warn(ProcessId { pid: Pid(8), ..WHOM }, mib(700)), "nothing is known of it");
    }

    #[test]
    fn who_fell_gets_a_lower_level() {
        let mut climbers = climbers();
        climbers.set(WHOM, mib(700));
        assert_eq!(climbers.fallen(|_| Some(mib(650))), []);
        assert_eq!(climbers.fallen(|_| Some(mib(450))), [(WHOM, mib(500))]);
        assert_eq!(climbers.fallen(|_| None), []);
        // Protected, and far over the limit: it is to wake nobody.
        climbers.set(WHOM, Bytes::MAX);
        assert_eq!(climbers.fallen(|_| Some(mib(900))), []);
        assert_eq!(climbers.fallen(|_| Some(mib(450))), [(WHOM, mib(500))]);
        climbers.keep(|_| false);
        assert_eq!(climbers.fallen(|_| Some(mib(450))), []);
    }

    #[test]
    fn a_share_of_each_window_and_no_more() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut budget = CpuBudget::new(start);
        budget.spend(Duration::from_millis(99));
        assert_eq!(budget.left(at(200)), Ok(()));
        budget.spend(Duration::from_millis(1));
        assert_eq!(budget.left(at(300)), Err(at(1000)));
        assert_eq!(budget.left(at(999)), Err(at(1000)));
        assert_eq!(budget.left(at(1000)), Ok(()));
    }

    #[test]
    fn what_was_overspent_is_owed_but_for_no_longer_than_that() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut budget = CpuBudget::new(start);
        budget.spend(Duration::from_millis(250));
        assert_eq!(budget.left(at(1000)), Err(at(2000)));
        assert_eq!(budget.left(at(2000)), Ok(()));
        budget.spend(Duration::from_secs(60));
        assert_eq!(budget.left(at(4000)), Err(at(5000)));
        assert_eq!(budget.left(at(6000)), Ok(()));
        assert_eq!(CpuBudget { spent: MOST_OWED, ..CpuBudget::new(start) }.left(at(60_000)), Ok(()));
    }
}
