//! Repeat offenders: looked up before a process is condemned, noted when one is sent SIGTERM.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::config::{Settings, Termination};
use crate::daemon::engine::report_once::Condition;
use crate::daemon::event_loop::Daemon;
use crate::enforce::{self, BackoffPolicy};
use crate::model::{Breach, Process, Unit, is_restarted};
use crate::report::Event;

impl Daemon<'_> {
    /// Whether `process` is left alone for now, although it is over its limit; said once per wait.
    pub(in crate::daemon) fn is_held_back(&mut self, process: &Process, breach: &Breach) -> bool {
        if !self.is_restarted(process) {
            return false;
        }
        let leniency = leniency(&self.settings);
        // What the last scan saw of the machine's memory may be long ago.
        let urgent = || self.sources.memory().map_or(true, |memory| enforce::is_urgent(breach, &memory));
        let held = self.offenders.delay(process, breach, urgent, since_boot(), &leniency);
        let Some(held) = held else { return false };
        self.lenient = true;
        if self.report_once.first_time(process.id, Condition::HeldBack) {
            self.tell(Event::HeldBack {
                subject: self.subject(process),
                script: process.names.script.clone(),
                unit: process.cgroup.known().and_then(Unit::of).map(|unit| unit.name),
                times: held.times,
                wait: held.wait,
                first: held.first,
            });
        }
        true
    }

    /// Notes that `process` was sent SIGTERM.
    pub(in crate::daemon) fn was_terminated(&mut self, process: &Process) {
        if self.is_restarted(process) {
            self.offenders.terminated(process, since_boot(), &leniency(&self.settings));
        }
    }

    /// Whether a supervisor would start `process` again: nothing else is ever held back.
    fn is_restarted(&self, process: &Process) -> bool {
        is_restarted(process, || self.sources.comm(process.parent))
    }
}

pub(in crate::daemon) const fn leniency(settings: &Settings) -> BackoffPolicy {
    let Termination { repeat_limit, repeat_window, repeat_backoff, .. } = settings.termination;
    BackoffPolicy { limit: repeat_limit, window: repeat_window, backoff: repeat_backoff }
}

/// The clock that start times of processes are taken from.
pub(in crate::daemon) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // Neither is negative since boot.
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
