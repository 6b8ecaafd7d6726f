//! Growing processes: their wake levels and growth rates. No system calls; the time is an argument.

use std::{collections::HashMap, time::Duration};

use crate::{
    model::{Bytes, ProcessId},
    policy::{Growth, Rate, WakeLevels},
};

/// The reason for memmon's next look at a process, in addition to the scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextWake {
    /// The process reaches this level.
    Level(Bytes),
    /// More memory changes nothing about it.
    Never,
}

/// The processes that reached the lowest wake level.
#[derive(Debug)]
pub(crate) struct GrowthTracker {
    pub(crate) levels: WakeLevels,
    /// The limits that the levels of all processes come from.
    limits: Vec<Option<Bytes>>,
    tracked: HashMap<ProcessId, Tracked>,
}

#[derive(Debug, Default)]
struct Tracked {
    /// Its levels, if it was looked at and has another limit than the smallest one.
    own: Option<WakeLevels>,
    growth: Growth,
    warned: bool,
    level: Bytes,
}

impl GrowthTracker {
    pub(crate) fn new(levels: WakeLevels) -> Self {
        Self { levels, limits: Vec::new(), tracked: HashMap::new() }
    }

    /// Whether the wake levels come from these.
    pub(crate) fn are_by(&self, levels: &WakeLevels, limits: &[Option<Bytes>]) -> bool {
        self.levels == *levels && self.limits == limits
    }

    /// Replaces the wake levels: a process that was warned about may be warned about again.
    pub(crate) fn move_to(&mut self, levels: WakeLevels, limits: Vec<Option<Bytes>>) {
        (self.levels, self.limits) = (levels, limits);
        for entry in self.tracked.values_mut() {
            (entry.own, entry.warned) = (None, false);
        }
    }

    /// The wake levels of a process: its own if they are known, otherwise those for the smallest limit.
    pub(crate) fn levels_of(&self, process: ProcessId) -> &WakeLevels {
        self.tracked.get(&process).and_then(|entry| entry.own.as_ref()).unwrap_or(&self.levels)
    }

    /// Notes the wake levels of a process whose limit is known now.
    pub(crate) fn set_levels(&mut self, process: ProcessId, levels: WakeLevels) {
        self.tracked.entry(process).or_default().own = Some(levels).filter(|levels| *levels != self.levels);
    }

    /// All tracked processes.
    pub(crate) fn all(&self) -> Vec<ProcessId> {
        self.tracked.keys().copied().collect()
    }

    /// Adds a reading of a process that has reached the lowest level.
    pub(crate) fn note(&mut self, process: ProcessId, at: Duration, rss: Bytes) {
        let entry = self.tracked.entry(process).or_default();
        // A crossing may arrive after a later scan. As in the kernel, a process may be warned about again only an eighth
        // below the level, so that swings around the level make one warning.
        if entry.growth.note(at, rss) {
            entry.warned &= entry.own.as_ref().unwrap_or(&self.levels).warns_at(rss + Bytes(rss.0 / 7));
        }
    }

    /// Whether a warning about this process could be due. Call it before a close look.
    pub(crate) fn may_warn(&self, process: ProcessId, rss: Bytes) -> bool {
        self.levels_of(process).warns_at(rss) && self.tracked.get(&process).is_some_and(|entry| !entry.warned)
    }

    /// Whether a warning about this process is due. It is not due again until the process has shrunk and grows again.
    pub(crate) fn warn(&mut self, process: ProcessId, rss: Bytes) -> bool {
        let due = self.levels_of(process).warns_at(rss);
        self.tracked.get_mut(&process).is_some_and(|entry| due && !std::mem::replace(&mut entry.warned, true))
    }

    /// Notes the level that was set for a process.
    pub(crate) fn set(&mut self, process: ProcessId, level: Bytes) {
        self.tracked.entry(process).or_default().level = level;
    }

    /// Whether the kernel is to wake memmon for this process at some level.
    pub(crate) fn is_watched(&self, process: ProcessId) -> bool {
        self.tracked.get(&process).is_some_and(|entry| entry.level != Bytes::MAX)
    }

    /// Processes that shrank below the next lower level, with the level that they should have now; `rss` reads a process.
    /// A process above the highest level was judged, and keeps the level from that.
    pub(crate) fn fallen(&self, rss: impl Fn(ProcessId) -> Option<Bytes>) -> Vec<(ProcessId, Bytes)> {
        let lower = |(process, entry): (&ProcessId, &Tracked)| {
            let levels = entry.own.as_ref().unwrap_or(&self.levels);
            let rss = rss(*process).filter(|rss| *rss < levels.highest())?;
            let level = levels.above(rss);
            (level < entry.level).then_some((*process, level))
        };
        self.tracked.iter().filter_map(lower).collect()
    }

    /// The growth rate of a process at `now`, and the time until it reaches `limit`.
    pub(crate) fn rate(&self, process: ProcessId, limit: Bytes, error: Bytes, now: Duration) -> Option<Rate> {
        self.tracked.get(&process)?.growth.rate(limit, error, now)
    }

    /// The growth rates of all processes that have one, each with the time until it reaches its own limit. `rss` reads the present RSS, because there is no event if one stops.
    pub(crate) fn rates(
        &self,
        error: Bytes,
        now: Duration,
        rss: impl Fn(ProcessId) -> Option<Bytes>,
    ) -> Vec<(ProcessId, Rate)> {
        let rate = |(process, entry): (&ProcessId, &Tracked)| {
            let mut growth = entry.growth.clone();
            if let Some(rss) = rss(*process) {
                growth.note(now, rss);
            }
            let limit = entry.own.as_ref().unwrap_or(&self.levels).limit();
            Some((*process, growth.rate(limit, error, now)?))
        };
        self.tracked.iter().filter_map(rate).collect()
    }

    pub(crate) fn forget(&mut self, process: ProcessId) {
        self.tracked.remove(&process);
    }

    /// Forgets all processes for which `is_there` is false.
    pub(crate) fn keep(&mut self, is_there: impl Fn(ProcessId) -> bool) {
        self.tracked.retain(|process, _| is_there(*process));
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
}
