//! Processes that are over their limit by resident memory only: their end would give back less.

use crate::daemon::engine::{report_once::Condition, scan::NextWake};
use crate::daemon::event_loop::Daemon;
use crate::model::{Bytes, Crossed, Measure, Process, Uncharged};
use crate::report::Event;

impl Daemon<'_> {
    /// Leaves such a process alone, and reports it once. A process that has just `crossed` its limit may still grow, so that
    /// is left to the next scan. Returns when to look at it next by the kernel's counters, which have `rss` for it: after half
    /// of the missing memory. Its share of shared memory may change without that, so each scan looks as well.
    pub(in crate::daemon) fn leave_uncharged(
        &mut self,
        process: &Process,
        uncharged: Uncharged,
        rss: Bytes,
        crossed: Option<Crossed>,
    ) -> NextWake {
        let (_, limit) = self.settings.rules.limit(&self.memory);
        let missing = Measure::least_charged(limit).saturating_sub(uncharged.charged);
        if crossed.is_none() && self.report_once.first_time(process.id, Condition::Uncharged) {
            let (subject, rss) = (self.subject(process), process.rss);
            self.tell(Event::Uncharged { subject, rss, limit, uncharged });
        }
        NextWake::Level(rss + Bytes((missing.0 / 2).max(Bytes::MIB)))
    }
}
