//! The terminations of one origin, and the wait that follows from them.

use std::{collections::VecDeque, time::Duration};

use crate::model::{Process, StartTime};

/// Conditions for the delay of a termination: `termination.repeat_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Terminations until the next one is delayed; 0: no termination is delayed.
    pub limit: u32,
    /// Within how much time.
    pub window: Duration,
    /// The first wait, from one termination to the next.
    pub backoff: Duration,
}

#[derive(Debug)]
pub(super) struct Offence {
    /// Terminations within the window.
    pub(super) recent: VecDeque<Duration>,
    pub(super) times: u32,
    /// The last termination that was due: what started before did not come back.
    pub(super) due: Duration,
    /// The last one that counts, due or urgent.
    pub(super) last: Duration,
    /// Last time at which one of them was over its limit.
    pub(super) seen: Duration,
    pub(super) wait: Option<Wait>,
    /// Whether it was reported that they wait.
    pub(super) reported: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Start of the delay.
    from: Duration,
    pub(super) length: Duration,
    doublings: u8,
    /// The first termination since that could not wait, and the end of the wait for what started before.
    pub(super) urgent: Option<(Duration, Duration)>,
}

/// 2^4 times the first wait: a quarter of an hour by default.
pub(super) const MOST_DOUBLINGS: u8 = 4;

impl Offence {
    pub(super) fn new(now: Duration) -> Self {
        let (recent, wait) = (VecDeque::new(), None);
        Self { recent, times: 0, due: now, last: now, seen: now, wait, reported: false }
    }

    pub(super) fn count(&mut self, process: &Process, now: Duration, policy: &BackoffPolicy) {
        let before = self.last;
        (self.times, self.seen, self.last) = (self.times.saturating_add(1), now, now);
        if self.is_waiting(now, policy) {
            // It was too urgent to wait. That is an offence like any other, but not one more for each of several that
            // ran at once. Those that wait already wait no longer than they would have.
            if started_after(process, before) {
                let urgent = |wait: Wait| wait.urgent.or(Some((now, wait.until())));
                self.wait = self.wait.map(|wait| Wait { urgent: urgent(wait), ..wait.longer(now, policy) });
            }
            return;
        }
        self.due = now;
        self.recent.retain(|at| now.saturating_sub(*at) <= policy.window);
        self.recent.push_back(now);
        if let Some(wait) = self.wait {
            self.wait = Some(wait.longer(now, policy));
        } else if policy.limit > 0 && self.recent.len() as u64 >= u64::from(policy.limit) {
            self.wait = Some(Wait { from: now, length: policy.backoff, doublings: 0, urgent: None });
        }
    }

    /// Whether the next termination is not due yet.
    pub(super) fn is_waiting(&self, now: Duration, policy: &BackoffPolicy) -> bool {
        policy.limit > 0 && self.wait.is_some_and(|wait| now < wait.until())
    }

    /// The same for `process`, which has its own end of it: others that are urgent do not make it wait without end.
    pub(super) fn waits(&self, process: &Process, now: Duration, policy: &BackoffPolicy) -> bool {
        let own = |wait: Wait| match wait.urgent {
            Some((since, until)) if !started_after(process, since) => until,
            _ => process.id.start.since_boot() + StartTime::TICK + wait.length,
        };
        self.is_waiting(now, policy) && self.wait.is_some_and(|wait| now < own(wait))
    }

    pub(super) fn has_come_back(&self, process: &Process) -> bool {
        started_after(process, self.due)
    }

    pub(super) fn is_over(&self, now: Duration, policy: &BackoffPolicy) -> bool {
        let waits = self.wait.is_some_and(|wait| now <= wait.until());
        now.saturating_sub(self.seen) > policy.window && !waits
    }
}

impl Wait {
    pub(super) fn until(&self) -> Duration {
        self.from + self.length
    }

    fn longer(self, now: Duration, policy: &BackoffPolicy) -> Self {
        let doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
        Self { from: now, length: policy.backoff.saturating_mul(1 << doublings), doublings, urgent: None }
    }
}

/// The start was rounded down to a tick, and a supervisor may be that fast.
fn started_after(process: &Process, time: Duration) -> bool {
    process.id.start.since_boot() + StartTime::TICK > time
}
