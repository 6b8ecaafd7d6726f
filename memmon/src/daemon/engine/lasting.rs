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
        let is_urgent = || {
            let reserve = self.settings.current().termination.reserve_percent;
            let memory = self.sources.memory().ok();
            let is_short = reserve
                .zip(memory)
                .is_some_and(|(reserve, memory)| memory.available.percent_of(memory.total) < reserve);
            let ceiling = self.settings.ceiling(process, None);
            is_short || ceiling.is_some_and(|ceiling| process.rss.saturating_sub(process.error) > ceiling)
        };
        if is_urgent() {
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
