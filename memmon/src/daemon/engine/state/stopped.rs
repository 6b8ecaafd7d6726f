//! The processes that memmon has stopped, until they have ended or go on within their limit. No system calls.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

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
pub(crate) struct StoppedProcesses(BTreeMap<ProcessId, Stopped>);

impl StoppedProcesses {
    /// The result of a look at a process that has `rss`. `is_stopped`: whether the kernel shows it as stopped.
    pub(crate) fn find(&mut self, id: ProcessId, rss: Bytes, is_stopped: bool, now: Instant) -> Found {
        let Some(stopped) = self.0.get_mut(&id) else {
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
        let before = self.0.get(&process.id).map_or(0, |stopped| stopped.times);
        let times = before + u32::from(by_memmon);
        self.0.insert(process.id, Stopped { process, breach, since: now, times, continued: false });
        times
    }

    pub(crate) fn forget(&mut self, id: ProcessId) {
        self.0.remove(&id);
    }

    pub(crate) fn ids(&self) -> Vec<ProcessId> {
        self.0.keys().copied().collect()
    }

    /// Whether memmon has stopped it, and not only found it stopped.
    pub(crate) fn by_memmon(&self, id: ProcessId) -> bool {
        self.get(id).is_some_and(|stopped| stopped.times > 0)
    }

    pub(crate) fn get(&self, id: ProcessId) -> Option<&Stopped> {
        self.0.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Stopped> {
        self.0.values()
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
}
