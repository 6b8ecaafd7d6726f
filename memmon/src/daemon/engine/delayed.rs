//! Repeat offenders: programs that a supervisor starts again after each termination, whose next termination is delayed.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::report_once::Condition;
use crate::enforce;
use crate::model::{Breach, Process, RuleName, Unit, is_restarted};
use crate::report::Event;

impl Engine<'_> {
    /// Whether `process` is left alone for now, although it is over its limit; reported once per delay.
    pub(super) fn is_delayed(&mut self, process: &Process, breach: &Breach, now: Now) -> bool {
        // The signal waits for this: its parent is read only if it matters.
        if !self.backoff.offenders.know(process, breach.by) || !self.is_restarted(process) {
            return false;
        }
        let policy = self.settings.backoff();
        // The machine's memory at the last scan may be out of date.
        let urgent = || self.sources.memory().map_or(true, |memory| enforce::is_urgent(breach, &memory));
        let delay = self.backoff.offenders.delay(process, breach, urgent, now.since_boot(), &policy);
        let Some(delay) = delay else { return false };
        self.backoff.delays = true;
        if self.reports.first_time(process.id, Condition::Delayed) {
            self.reports.emit(Event::Delayed {
                subject: self.subject(process, now),
                // It may be code from the command line.
                script: process.names.script.clone().filter(|_| self.settings.current().log.command_lines),
                unit: process.cgroup.known().and_then(Unit::of).map(|unit| unit.name),
                times: delay.times,
                wait: delay.wait,
                first: delay.first,
                by: breach.by,
            });
        }
        true
    }

    /// Notes that `process` was sent SIGTERM for `rule`.
    pub(super) fn note_offence(&mut self, process: &Process, rule: Option<RuleName>, now: Now) {
        let parent = || self.terminations.case(process.id)?.parent_comm.clone();
        if is_restarted(process, parent) {
            self.backoff.offenders.terminated(process, rule, now.since_boot(), &self.settings.backoff());
        }
    }

    /// Whether a supervisor would start `process` again: no other termination is ever delayed.
    fn is_restarted(&self, process: &Process) -> bool {
        is_restarted(process, || self.sources.proc().comm(process.parent))
    }
}
