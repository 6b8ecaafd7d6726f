//! Warnings about processes that grow and are near their limit.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::{
    model::{Bytes, Process, ProcessId},
    policy,
    report::Event,
};

impl Engine<'_> {
    /// Warns about a process that grows near its limit, unless a rule protects it.
    pub(super) fn warn(&mut self, id: ProcessId, rss: Bytes, now: Now) {
        if self.growth.may_warn(id, rss)
            && self.fresh_fork(id, rss).is_none()
            && let Ok(process) = self.sources.confirm(id.pid, Some(id.start), Bytes::MAX)
        {
            self.note_levels(&process);
            self.warn_about(&process, rss, now);
        }
    }

    /// The same for a process that was looked at closely; `rss` is the reading that led to that.
    pub(super) fn warn_about(&mut self, process: &Process, rss: Bytes, now: Now) {
        let limit = self.settings.limit_of(process);
        let error = self.sources.error();
        // The reading is some time ago, and the process may have freed memory since.
        let has_freed = !self.growth.levels_of(process.id).warns_at(process.rss + error);
        // Beyond the limit, the verdict reports more than a warning would.
        if has_freed
            || !self.growth.warn(process.id, rss)
            || process.rss > limit
            || !policy::could_be_terminated(self.settings.rules(), process, &self.settings.memory())
        {
            return;
        }
        let rate = self.growth.rate(process.id, limit, error, now.monotonic());
        let rule = self.settings.rules().decisive(process);
        self.reports.emit(Event::Approaching {
            subject: self.subject(process, now),
            rss: process.rss,
            limit,
            action: rule.map(|rule| rule.action).unwrap_or_default(),
            growth: rate.map(|rate| rate.bytes_per_second),
            time_to_limit: rate.and_then(|rate| rate.time_to_limit),
        });
    }
}
