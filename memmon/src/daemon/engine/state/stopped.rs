//! The processes that memmon has stopped, until they have ended or go on within their limit. No system calls.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::model::{Breach, Bytes, Process, ProcessId};

/// Time that the kernel may take to stop all threads of a process.
const SETTLING: Duration = Duration::from_millis(500);

/// A process that was stopped.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stopped {
    pub(crate) process: Process,
    /// The breach, as measured before it was stopped last.
    pub(crate) breach: Breach,
    /// The time of the last stop.
    pub(crate) since: Instant,
    /// Number of times that memmon has stopped it; 0 if another process did.
    pub(crate) times: u32,
    /// Whether it runs again.
    pub(crate) continued: bool,
}

impl Stopped {
    /// The memory up to which it may go on if someone continues it: a quarter of its limit more. So the number of stops up to
    /// any size is bounded, whoever continues it how often.
    pub(crate) fn may_have(&self) -> Bytes {
        self.breach.rss + step(self.breach.limit)
    }
}

/// A process that memmon has stopped, as it is kept over a restart of memmon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptStop {
    process: ProcessId,
    breach: Breach,
    times: u32,
    /// The time of the last stop, on CLOCK_MONOTONIC.
    since: Duration,
}

/// A quarter of `limit`.
pub(crate) fn step(limit: Bytes) -> Bytes {
    Bytes((limit.0 / 4).max(Bytes::MIB))
}

/// The result of a look at a process that is over the limit of a rule that stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It runs, and was never stopped.
    Running,
    /// Another one has stopped it.
    StoppedByAnother,
    /// It is stopped.
    Stopped,
    /// Someone has continued it; `news` if that was not seen before.
    Continued { news: bool },
    /// It has grown too far since.
    GrewOn { news: bool },
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct StoppedProcesses {
    known: BTreeMap<ProcessId, Stopped>,
    /// Those of an earlier memmon that this one has not looked at yet.
    left: BTreeMap<ProcessId, KeptStop>,
    /// Whether those that memmon has stopped are others than were kept last.
    changed: bool,
}

impl StoppedProcesses {
    /// The result of a look at a process that has `rss`. `is_stopped`: whether the kernel shows it as stopped.
    pub(crate) fn find(&mut self, id: ProcessId, rss: Bytes, is_stopped: bool, now: Instant) -> Found {
        let Some(stopped) = self.known.get_mut(&id) else {
            return if is_stopped { Found::StoppedByAnother } else { Found::Running };
        };
        if is_stopped || now.saturating_duration_since(stopped.since) < SETTLING {
            stopped.continued = false;
            return Found::Stopped;
        }
        let news = !std::mem::replace(&mut stopped.continued, true);
        if rss > stopped.may_have() { Found::GrewOn { news } } else { Found::Continued { news } }
    }

    /// Notes that a process was stopped. Returns how often by now.
    pub(crate) fn stopped(&mut self, process: Process, breach: Breach, by_memmon: bool, now: Instant) -> u32 {
        let before = self.known.get(&process.id).map_or(0, |stopped| stopped.times);
        let times = before + u32::from(by_memmon);
        self.changed |= by_memmon;
        self.known.insert(process.id, Stopped { process, breach, since: now, times, continued: false });
        times
    }

    pub(crate) fn forget(&mut self, id: ProcessId) {
        let known = self.known.remove(&id).is_some_and(|stopped| stopped.times > 0);
        let left = self.left.remove(&id).is_some();
        self.changed |= known || left;
    }

    /// Continues with those that an earlier memmon has stopped, once each was looked at.
    pub(crate) fn continue_with(&mut self, left: Vec<KeptStop>) {
        self.left = left.into_iter().map(|kept| (kept.process, kept)).collect();
    }

    /// Those that were not looked at yet.
    pub(crate) fn left(&self) -> Vec<ProcessId> {
        self.left.keys().copied().collect()
    }

    /// Notes a look at `process`, which an earlier memmon may have stopped. `at` turns a time on CLOCK_MONOTONIC into an instant.
    pub(crate) fn looked_at(&mut self, process: &Process, at: impl Fn(Duration) -> Instant) {
        if let Some(KeptStop { breach, times, since, .. }) = self.left.remove(&process.id) {
            let stopped =
                Stopped { process: process.clone(), breach, since: at(since), times, continued: false };
            self.known.insert(process.id, stopped);
        }
    }

    /// Those that memmon has stopped, if others are kept now. `since` turns an instant into a time on CLOCK_MONOTONIC.
    pub(crate) fn take_changed(&mut self, since: impl Fn(Instant) -> Duration) -> Option<Vec<KeptStop>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let known = self.known.values().filter(|stopped| stopped.times > 0).map(|stopped| KeptStop {
            process: stopped.process.id,
            breach: stopped.breach,
            times: stopped.times,
            since: since(stopped.since),
        });
        Some(known.chain(self.left.values().cloned()).collect())
    }

    /// Has them kept again: the last time failed.
    pub(crate) const fn keep_again(&mut self) {
        self.changed = true;
    }

    pub(crate) fn ids(&self) -> Vec<ProcessId> {
        self.known.keys().copied().collect()
    }

    /// Whether memmon has stopped it, and not only found it stopped.
    pub(crate) fn by_memmon(&self, id: ProcessId) -> bool {
        self.left.contains_key(&id) || self.get(id).is_some_and(|stopped| stopped.times > 0)
    }

    pub(crate) fn get(&self, id: ProcessId) -> Option<&Stopped> {
        self.known.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stopped> {
        self.known.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Limit, policy::fixtures::hog};

    const LIMIT: Bytes = Bytes(400 * Bytes::MIB);

    fn breach(mib: u64) -> Breach {
        Breach { rule: Limit::Gb, limit: LIMIT, rss: Bytes(mib << 20), percent: 1.0, by: None }
    }

    #[test]
    fn a_process_that_was_continued_is_stopped_again_after_a_quarter_of_its_limit_more() {
        let (mut all, id, start) = (StoppedProcesses::default(), hog().id, Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        assert_eq!(all.find(id, Bytes(410 << 20), false, at(0)), Found::Running);
        assert_eq!(all.stopped(hog(), breach(410), true, at(0)), 1);
        assert_eq!(all.find(id, Bytes(412 << 20), false, at(100)), Found::Stopped, "a thread is late");
        assert_eq!(all.find(id, Bytes(412 << 20), true, at(9000)), Found::Stopped);
        assert_eq!(all.find(id, Bytes(500 << 20), false, at(9000)), Found::Continued { news: true });
        assert_eq!(all.find(id, Bytes(510 << 20), false, at(9000)), Found::Continued { news: false });
        assert_eq!(all.find(id, Bytes(511 << 20), false, at(9000)), Found::GrewOn { news: false });
        assert_eq!(all.stopped(hog(), breach(511), true, at(9000)), 2);
        assert_eq!(all.find(id, Bytes(600 << 20), false, at(9600)), Found::Continued { news: true });
        assert_eq!(all.find(id, Bytes(600 << 20), true, at(9700)), Found::Stopped, "whoever stopped it");
        assert_eq!(all.find(id, Bytes(700 << 20), false, at(9800)), Found::GrewOn { news: true });
    }

    #[test]
    fn one_that_another_one_stopped_is_known_and_not_counted() {
        let (mut all, id, now) = (StoppedProcesses::default(), hog().id, Instant::now());
        assert_eq!(all.find(id, Bytes(410 << 20), true, now), Found::StoppedByAnother);
        assert_eq!(all.stopped(hog(), breach(410), false, now), 0);
        assert!(!all.by_memmon(id));
        let later = now + Duration::from_secs(1);
        assert_eq!(all.find(id, Bytes(600 << 20), false, later), Found::GrewOn { news: true });
        assert_eq!(all.stopped(hog(), breach(600), true, later), 1);
        assert!(all.by_memmon(id));
        all.forget(id);
        assert_eq!(all.iter().count(), 0);
    }

    /// A stopped process is not another one's, and its times are counted on.
    #[test]
    fn what_memmon_has_stopped_is_its_own_after_a_restart() {
        let (mut all, id, start) = (StoppedProcesses::default(), hog().id, Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let uptime = |at: Instant| at.duration_since(start);
        assert_eq!(all.take_changed(uptime), None, "nothing is written before anything is stopped");
        let other = Process { id: ProcessId { pid: crate::model::Pid(77), ..id }, ..hog() };
        all.stopped(other, breach(410), false, start);
        assert_eq!(all.take_changed(uptime), None, "another one has stopped it");
        all.stopped(hog(), breach(410), true, after(1));
        all.stopped(hog(), breach(511), true, after(2));
        let kept = all.take_changed(uptime).unwrap();
        assert_eq!((kept.len(), all.take_changed(uptime)), (1, None));
        let kept: Vec<KeptStop> = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();

        let mut next = StoppedProcesses::default();
        next.continue_with(kept.clone());
        assert!(next.by_memmon(id) && next.left() == [id]);
        // It could not be looked at yet, and is kept nevertheless.
        next.keep_again();
        assert_eq!(next.take_changed(uptime).unwrap(), kept);
        next.looked_at(&hog(), |since| start + since);
        assert_eq!(next.get(id), all.get(id));
        assert_eq!(next.find(id, Bytes(520 << 20), true, after(60)), Found::Stopped);
        assert_eq!(next.find(id, Bytes(520 << 20), false, after(61)), Found::Continued { news: true });
        assert_eq!(next.find(id, Bytes(620 << 20), false, after(62)), Found::GrewOn { news: false });
        assert_eq!(next.stopped(hog(), breach(620), true, after(62)), 3);
        next.forget(id);
        assert_eq!(next.take_changed(uptime), Some(vec![]));
    }
}
