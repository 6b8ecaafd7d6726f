//! Processes that are over their limit by resident memory only: their end would give back less.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::{growth::NextWake, report_once::Condition};
use crate::model::{Bytes, Crossed, Measure, Process, Uncharged};
use crate::report::Event;

impl Engine<'_> {
    /// Leaves such a process alone, and reports it once. A process that has just `crossed` its limit may still grow, so that
    /// is left to the next scan. Returns when to look at it next by the kernel's counters, which have `rss` for it: after half
    /// of the missing memory. Its share of shared memory may change without that, so each scan looks as well.
    pub(super) fn leave_uncharged(
        &mut self,
        process: &Process,
        uncharged: Uncharged,
        rss: Bytes,
        crossed: Option<Crossed>,
        now: Now,
    ) -> NextWake {
        let limit = self.settings.limit_of(process);
        let missing = Measure::least_charged(limit).saturating_sub(uncharged.charged);
        if crossed.is_none() && self.reports.first_time(process.id, Condition::Uncharged) {
            let (subject, rss) = (self.subject(process, now), process.rss);
            self.reports.emit(Event::Uncharged { subject, rss, limit, uncharged });
        }
        NextWake::Level(rss + Bytes((missing.0 / 2).max(Bytes::MIB)))
    }
}
