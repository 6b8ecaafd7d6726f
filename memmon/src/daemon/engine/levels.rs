//! The wake levels in the kernel: the memory at which a process wakes memmon next.

use std::collections::BTreeSet;

use tracing::debug;

use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::model::{Bytes, Process, ProcessId, SystemMemory};

impl Engine<'_> {
    /// Notes the machine's memory, which may have changed (hotplug, ballooning), and with it the limit and every level.
    pub(super) fn measured(&mut self, memory: SystemMemory, now: Now) {
        self.settings.measured(memory);
        let levels = self.settings.wake_levels(self.sources.error());
        let rules = self.settings.rules();
        let kept = rules.sums.iter().filter(|sum| sum.per.is_kept_by_kernel());
        let least =
            kept.filter_map(|sum| rules.limit_under(Some(&sum.rule), &memory)).map(|(_, limit)| limit);
        let least = least.min().unwrap_or(Bytes::MAX);
        if let Some(kernel) = self.sources.kernel() {
            kernel.set_limit(least.min(levels.limit()));
        }
        let is_as_before = self.growth.are_by(&levels, &self.settings.limits());
        if !is_as_before {
            self.known_limits.clear();
        }
        if !is_as_before || self.reports.conditions().lasts(Degradation::NoLevels) {
            self.reset_wake_levels(now);
        }
    }

    /// Has the kernel wake memmon at other levels, or at the same ones for other reasons.
    pub(super) fn reset_wake_levels(&mut self, now: Now) {
        self.growth.move_to(self.settings.wake_levels(self.sources.error()), self.settings.limits());
        let lowest = self.settings.current().kernel.instant.then(|| self.growth.levels.lowest());
        if let Some(kernel) = self.sources.kernel()
            && let Err(error) = kernel.set_default_level(lowest)
        {
            self.reports.degraded(Degradation::NoLevels, || {
                format!("the kernel does not wake memmon, scans are all there is: {error}")
            });
            return;
        }
        self.reports.works(Degradation::NoLevels);
        // Processes with a level of their own: it came from limits, and from a verdict, that may differ by now.
        for process in self.growth.all() {
            if !self.terminations.contains(process) {
                self.reset_wake_level(process, now);
            }
        }
    }

    /// Notes which wake levels a process has that was looked at, if they are not the same for all.
    pub(super) fn note_levels(&mut self, process: &Process) {
        if !self.settings.rules().rules.is_empty() {
            let levels = self.settings.levels_of(self.settings.limit_of(process), self.sources.error());
            self.growth.set_levels(process.id, levels);
        }
    }

    /// The same for a process that crossed a level, and may have called exec or changed its name since the last look.
    pub(super) fn find_levels(&mut self, process: ProcessId) {
        if !self.settings.rules().rules.is_empty()
            && let Ok(process) = self.sources.confirm(process.pid, Some(process.start), Bytes::MAX)
        {
            self.note_levels(&process);
        }
    }

    /// Has the kernel wake memmon for a process at the next level above its memory, for any level that it had. Returns whether it
    /// is beyond all of them.
    pub(super) fn reset_wake_level(&mut self, process: ProcessId, now: Now) -> bool {
        if self.settings.current().kernel.instant
            && let Some(reading) = self.sources.again(process)
        {
            let level = NextWake::Level(self.growth.levels_of(process).above(reading.rss));
            return self.set_level(process, level, now).is_some();
        }
        false
    }

    /// Has the kernel wake memmon for a process at its next level. Returns its memory if that is beyond the level already.
    pub(super) fn set_level(&mut self, process: ProcessId, next: NextWake, now: Now) -> Option<Bytes> {
        let level = match next {
            NextWake::Level(level) => Some(level),
            NextWake::Never => None,
        };
        debug!(pid = process.pid.0, ?next, "a wake level");
        self.growth.set(process, level.unwrap_or(Bytes::MAX));
        let has_now = match self.sources.kernel()?.set_level(process, level) {
            Ok(has_now) => has_now?,
            Err(error) => {
                self.reports.degraded(Degradation::NoLevels, || {
                    format!("the kernel does not wake memmon for every process that grows: {error}")
                });
                // It may be over the level by then, too.
                if level.is_some() {
                    self.rechecks.queue.note(process.pid, Some(process.start), None, now.instant());
                }
                return None;
            }
        };
        level.is_some_and(|level| has_now >= level).then_some(has_now)
    }

    /// Gives a lower level to processes that shrank, and forgets those that are gone: once per scan.
    pub(super) fn lower_wake_levels(&mut self, growing: &BTreeSet<ProcessId>, now: Now) {
        let sources = &self.sources;
        self.growth.keep(|process| growing.contains(&process) || sources.again(process).is_some());
        for (process, level) in
            self.growth.fallen(|process| sources.again(process).map(|reading| reading.rss))
        {
            self.set_level(process, NextWake::Level(level), now);
        }
    }
}
