//! Growing processes: their wake levels and growth rates, and the CPU time that looking at them may take. No system calls;
//! the time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    model::{Bytes, ProcessId},
    policy::{Growth, Rate, WakeLevels},
};

/// The processes that reached the lowest wake level.
#[derive(Debug)]
pub(in crate::daemon) struct GrowthTracker {
    pub(in crate::daemon) ladder: WakeLevels,
    tracked: HashMap<ProcessId, Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    growth: Growth,
    warned: bool,
    level: Bytes,
}

impl GrowthTracker {
    pub(in crate::daemon) fn new(ladder: WakeLevels) -> Self {
        Self { ladder, tracked: HashMap::new() }
    }

    /// Replaces the wake levels: a process that was warned about may be warned about again.
    pub(in crate::daemon) fn move_to(&mut self, ladder: WakeLevels) {
        self.ladder = ladder;
        self.tracked.values_mut().for_each(|entry| entry.warned = false);
    }

    /// All tracked processes.
    pub(in crate::daemon) fn all(&self) -> Vec<ProcessId> {
        self.tracked.keys().copied().collect()
    }

    /// Adds a reading of a process that has reached the lowest level.
    pub(in crate::daemon) fn note(&mut self, process: ProcessId, at: Duration, rss: Bytes) {
        let entry = self.tracked.entry(process).or_default();
        // A crossing may arrive after a later scan. As in the kernel, a process may be warned about again only an eighth
        // below the level, so that swings around the level make one warning.
        if entry.growth.note(at, rss) {
            entry.warned &= self.ladder.warns_at(rss + Bytes(rss.0 / 7));
        }
    }

    /// Whether a warning about this process could be due. Call it before a close look.
    pub(in crate::daemon) fn may_warn(&self, process: ProcessId, rss: Bytes) -> bool {
        self.ladder.warns_at(rss) && self.tracked.get(&process).is_some_and(|entry| !entry.warned)
    }

    /// Whether a warning about this process is due. It is not due again until the process has shrunk and grows again.
    pub(in crate::daemon) fn warn(&mut self, process: ProcessId, rss: Bytes) -> bool {
        let due = self.ladder.warns_at(rss);
        self.tracked.get_mut(&process).is_some_and(|entry| due && !std::mem::replace(&mut entry.warned, true))
    }

    /// Notes the level that was set for a process.
    pub(in crate::daemon) fn set(&mut self, process: ProcessId, level: Bytes) {
        self.tracked.entry(process).or_default().level = level;
    }

    /// Processes that shrank below the next lower level, with the level that they should have now; `rss` reads a process.
    /// A process above the highest level was judged, and keeps the level from that.
    pub(in crate::daemon) fn fallen(
        &self,
        rss: impl Fn(ProcessId) -> Option<Bytes>,
    ) -> Vec<(ProcessId, Bytes)> {
        let lower = |(process, entry): (&ProcessId, &Tracked)| {
            let rss = rss(*process).filter(|rss| *rss < self.ladder.highest())?;
            let level = self.ladder.above(rss);
            (level < entry.level).then_some((*process, level))
        };
        self.tracked.iter().filter_map(lower).collect()
    }

    /// The growth rate of a process at `now`, and the time until it reaches `limit`.
    pub(in crate::daemon) fn rate(
        &self,
        process: ProcessId,
        limit: Bytes,
        error: Bytes,
        now: Duration,
    ) -> Option<Rate> {
        self.tracked.get(&process)?.growth.rate(limit, error, now)
    }

    /// The growth rates of all processes that have one. `rss` reads the present RSS, because there is no event if one stops.
    pub(in crate::daemon) fn rates(
        &self,
        limit: Bytes,
        error: Bytes,
        now: Duration,
        rss: impl Fn(ProcessId) -> Option<Bytes>,
    ) -> Vec<(ProcessId, Rate)> {
        let rate = |(process, entry): (&ProcessId, &Tracked)| {
            let mut growth = entry.growth.clone();
            if let Some(rss) = rss(*process) {
                growth.note(now, rss);
            }
            Some((*process, growth.rate(limit, error, now)?))
        };
        self.tracked.iter().filter_map(rate).collect()
    }

    pub(in crate::daemon) fn forget(&mut self, process: ProcessId) {
        self.tracked.remove(&process);
    }

    /// Forgets all processes for which `is_there` is false.
    pub(in crate::daemon) fn keep(&mut self, is_there: impl Fn(ProcessId) -> bool) {
        self.tracked.retain(|process, _| is_there(*process));
    }
}

/// Length of the window over which CPU time is counted.
const WINDOW: Duration = Duration::from_secs(1);

/// CPU time in each window for processes that cross a level: a tenth of one CPU.
const SHARE: Duration = Duration::from_millis(100);

/// Maximum of overspent time that counts against later windows, so that memmon does not pause after a stall of the machine.
const MOST_OWED: Duration = Duration::from_millis(300);

/// Limits the cost of processes that swing around their limits, or hang there: when the share is used up, the ring waits.
#[derive(Debug)]
pub(in crate::daemon) struct CpuBudget {
    since: Instant,
    spent: Duration,
}

impl CpuBudget {
    pub(in crate::daemon) const fn new(now: Instant) -> Self {
        Self { since: now, spent: Duration::ZERO }
    }

    /// Whether there is time left; otherwise the time at which there will be.
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

    const PROCESS: ProcessId = ProcessId { pid: Pid(7), start: StartTime(1) };

    fn mib(count: u64) -> Bytes {
        Bytes(count * Bytes::MIB)
    }

    fn tracker() -> GrowthTracker {
        GrowthTracker::new(WakeLevels::new(mib(800), mib(1), Some(80.0)))
    }

    #[test]
    fn one_warning_until_the_process_shrinks() {
        let mut tracker = tracker();
        let mut warned = |seconds, rss| {
            tracker.note(PROCESS, Duration::from_secs(seconds), mib(rss));
            tracker.warn(PROCESS, mib(rss))
        };
        assert!(!warned(1, 500));
        assert!(warned(2, 640));
        assert!(!warned(3, 700));
        // It swings around the level.
        assert!(!warned(4, 600) && !warned(5, 650));
        // An earlier reading arrives late.
        assert!(!warned(1, 400) && !warned(6, 650));
        // It shrank, and grows again.
        assert!(!warned(7, 500) && warned(8, 640));
        assert!(!tracker.warn(ProcessId { pid: Pid(8), ..PROCESS }, mib(700)), "it is not tracked");
    }

    #[test]
    fn a_process_that_shrank_gets_a_lower_level() {
        let mut tracker = tracker();
        tracker.set(PROCESS, mib(700));
        assert_eq!(tracker.fallen(|_| Some(mib(650))), []);
        assert_eq!(tracker.fallen(|_| Some(mib(450))), [(PROCESS, mib(500))]);
        assert_eq!(tracker.fallen(|_| None), []);
        // Protected, and far over the limit: it must not wake memmon.
        tracker.set(PROCESS, Bytes::MAX);
        assert_eq!(tracker.fallen(|_| Some(mib(900))), []);
        assert_eq!(tracker.fallen(|_| Some(mib(450))), [(PROCESS, mib(500))]);
        tracker.keep(|_| false);
        assert_eq!(tracker.fallen(|_| Some(mib(450))), []);
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
    fn overspent_time_is_owed_up_to_a_maximum() {
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
