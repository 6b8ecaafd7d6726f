//! Repeat offenders: what a supervisor starts again after each termination and exceeds its limit again and again.
//! Without a system call or a clock.
//!
//! ```text
//! terminated, comes back, terminated, … limit times within window ─▶ the next one waits ─▶ twice as long ─▶ …
//!                                       │                               └─ too urgent to wait: twice as long, too
//!                                       └─ not seen over its limit for a whole window: forgotten
//! ```
//!
//! A supervisor that restarts a leaking service and a daemon that terminates it would keep each other busy for ever,
//! and the service would never be up. Waiting ever longer (never for ever) leaves it some use, and the administrator
//! time to fix it. It must not endanger the machine: while memory is short nothing waits. The caller finds out whether a
//! supervisor restarts a process ([`is_restarted`](crate::model::is_restarted)).

mod offence;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

pub use self::offence::BackoffPolicy;
use self::offence::Offence;
use crate::model::{Breach, Bytes, Origin, Process, ProcessId, RuleName, SystemMemory};

/// Number of terminations of each origin (the facts that stay the same when a process is started again) under each rule. A
/// termination under one rule delays none under another one, or under `[thresholds]`.
///
/// Times are since boot (CLOCK_BOOTTIME, clock_gettime(2)), as the start times of processes are.
#[derive(Debug, Default)]
pub struct RepeatOffenders {
    offences: BTreeMap<(Option<RuleName>, Origin), Offence>,
    /// Processes that waited, or would have, and what each had resident when it was looked at last.
    delayed: VecDeque<(ProcessId, Bytes)>,
}

/// A process that is over its limit and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    /// Terminations of the same origin since they began.
    pub times: u32,
    /// Time from the last termination to the next.
    pub wait: Duration,
    /// Whether this is the first report of it.
    pub first: bool,
}

/// The processes of one origin that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting<'a> {
    /// Their origin.
    pub origin: &'a Origin,
    /// The rule whose limit they exceeded; `None` for `[thresholds]`.
    pub rule: Option<RuleName>,
    /// Number of terminations since they began.
    pub times: u32,
    /// Time from the last termination to the next.
    pub wait: Duration,
    /// The part of `wait` that is left.
    pub left: Duration,
    /// Only a process that started after this time, since boot, waits.
    pub since: Duration,
}

/// Number of delayed processes that are remembered.
const MOST_DELAYED: usize = 256;

impl RepeatOffenders {
    /// Whether a process with the origin of `process` was terminated under `rule`, or this one was delayed: no other is ever
    /// delayed.
    pub fn know(&self, process: &Process, rule: Option<RuleName>) -> bool {
        self.delayed.iter().any(|(id, _)| *id == process.id)
            || !self.offences.is_empty() && self.offences.contains_key(&(rule, Origin::of(process)))
    }

    /// Whether `process`, which is over its limit, is to be left alone for now because it came back too often.
    ///
    /// Not if it is [urgent](is_urgent), which is asked only of a process that would wait.
    pub fn delay(
        &mut self,
        process: &Process,
        breach: &Breach,
        urgent: impl FnOnce() -> bool,
        now: Duration,
        policy: &BackoffPolicy,
    ) -> Option<Delay> {
        // Its memory now is its memory at the end of its delay, if that has ended.
        if let Some((_, rss)) = self.delayed.iter_mut().find(|(id, _)| *id == process.id) {
            *rss = breach.rss;
        }
        let offence = self.offences.get_mut(&(breach.by, Origin::of(process)))?;
        if offence.is_over(now, policy) {
            return None;
        }
        offence.seen = now;
        let wait = offence.wait?;
        if !offence.has_come_back(process) || !offence.waits(process, now, policy) {
            return None;
        }
        if self.delayed.iter().all(|(id, _)| *id != process.id) {
            self.delayed.truncate(MOST_DELAYED - 1);
            self.delayed.push_front((process.id, breach.rss));
        }
        if urgent() {
            return None;
        }
        let first = !std::mem::replace(&mut offence.reported, true);
        Some(Delay { times: offence.times, wait: wait.length, first })
    }

    /// Resident memory of a process at the end of its delay; `None` if its termination was never delayed. It grew that far
    /// because memmon waited, so its grace period is not cut short for it.
    pub fn had_when_due(&self, process: ProcessId) -> Option<Bytes> {
        self.delayed.iter().find(|(id, _)| *id == process).map(|(_, rss)| *rss)
    }

    /// Origins whose next termination is delayed now.
    pub fn waiting(&self, now: Duration, policy: &BackoffPolicy) -> impl Iterator<Item = Waiting<'_>> {
        let waiting = self.offences.iter().filter(move |(_, offence)| offence.is_waiting(now, policy));
        waiting.filter_map(move |((rule, origin), offence)| {
            let Offence { times, due, wait, .. } = *offence;
            let wait = wait?;
            let left = wait.until().saturating_sub(now);
            Some(Waiting { origin, rule: *rule, times, wait: wait.length, left, since: due })
        })
    }

    /// Notes that `process`, which a supervisor restarts, was sent SIGTERM under `rule`, or under `[thresholds]` if that is
    /// `None`.
    pub fn terminated(
        &mut self,
        process: &Process,
        rule: Option<RuleName>,
        now: Duration,
        policy: &BackoffPolicy,
    ) {
        self.offences.retain(|_, offence| !offence.is_over(now, policy));
        let offence = self.offences.entry((rule, Origin::of(process))).or_insert_with(|| Offence::new(now));
        if offence.times > 0 && !offence.has_come_back(process) {
            // One of several that ran at once: that they all are too large is no loop.
            return;
        }
        offence.count(process, now, policy);
    }
}

/// Whether waiting could cost the machine.
pub fn is_urgent(breach: &Breach, memory: &SystemMemory) -> bool {
    breach.rss >= urgent_above(breach.limit) || is_short(memory)
}

/// Whether the machine has too little memory left for any process to wait: less than a tenth.
pub const fn is_short(memory: &SystemMemory) -> bool {
    memory.available.0 < memory.total.0 / 10
}

/// Resident memory above which the termination of a process with this `limit` is not delayed.
pub const fn urgent_above(limit: Bytes) -> Bytes {
    Bytes(limit.0.saturating_mul(2))
}

#[cfg(test)]
mod tests;
