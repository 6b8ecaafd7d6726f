//! Rules with `for`: a process must be over its limit for so long before it is sent a signal.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::model::{Breach, Crossed, Process};

impl Engine<'_> {
    /// Whether `process`, which is over its limit, is left alone for now because it has not been for long enough. It is
    /// looked at again when that time is over; a single scan never waits for it. There is no wait above the hard ceiling, or
    /// while the machine is short of memory.
    pub(super) fn waits(
        &mut self,
        process: &Process,
        breach: &Breach,
        crossed: Option<Crossed>,
        now: Now,
    ) -> bool {
        let id = process.id;
        let Some(lasting) = self.settings.rule_of(breach).map(|rule| rule.lasting) else { return false };
        if lasting.is_zero() || self.terminations.contains(id) {
            return false;
        }
        let memory = self.sources.memory().unwrap_or_else(|_| self.settings.memory());
        if self.settings.current().must_last(process, breach, &memory).is_zero() {
            return false;
        }
        if self.rechecks.once {
            return true;
        }
        let Some(due) = self.rechecks.lasting.note(id, lasting, now.instant()) else { return false };
        self.rechecks.queue.note_at(id, crossed, due);
        true
    }
}
