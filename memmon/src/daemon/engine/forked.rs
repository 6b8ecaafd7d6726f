//! Processes that are over their limit with what they were forked with, while an older process is charged for that.
//!
//! Most of them call exec within a millisecond, so that at first the kernel's own figures must suffice. A process that
//! stays is looked at closely again and again, because it can make the memory its own without a change of its RSS, and its
//! elder can end.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::growth::NextWake;
use crate::model::{Bytes, Inherited, Pid, ProcessId, Reading, StartTime};

impl Engine<'_> {
    /// The memory that a process was forked with, by the kernel map alone, if memmon has not looked at it for that yet and
    /// it has not added as much as its limit since.
    pub(super) fn fresh_fork(&self, process: ProcessId, rss: Bytes) -> Option<Inherited> {
        let inherited = self.sources.inherited(process)?;
        let added = rss.saturating_sub(inherited.bytes);
        let is_fresh =
            added < self.growth.levels_of(process).highest() && !self.rechecks.queue.awaits_elder(process);
        is_fresh.then_some(inherited)
    }

    /// Leaves a process alone for now that has `rss` by the kernel's counters. Returns when to look at it next by these:
    /// when it has added as much as its limit. Until then it is looked at by the clock.
    pub(super) fn leave_to_elder(
        &mut self,
        process: ProcessId,
        rss: Bytes,
        inherited: Inherited,
        now: Now,
    ) -> NextWake {
        self.rechecks.queue.note_inherited(process, inherited.elder, now.instant());
        let added = rss.saturating_sub(inherited.bytes);
        NextWake::Level(inherited.bytes + self.growth.levels_of(process).next_below_limit(added, added))
    }

    /// Whether a scan leaves the process of `reading` to the looks by the clock. Not if it is the only scan.
    pub(super) fn is_left_to_elder(&mut self, reading: &Reading, now: Now) -> bool {
        let Some(start) = reading.start.filter(|_| !self.rechecks.once) else { return false };
        let process = ProcessId { pid: reading.pid, start };
        if self.rechecks.queue.awaits_elder(process) {
            return true;
        }
        let Some(inherited) = self.fresh_fork(process, reading.rss) else { return false };
        self.rechecks.queue.note_inherited(process, inherited.elder, now.instant());
        true
    }

    /// Whether a process that awaits a look for what it inherited has none of it any more, by the kernel map: the level that
    /// was set for it went with its memory.
    pub(super) fn has_called_exec(&self, pid: Pid, start: Option<StartTime>) -> bool {
        let Some(process) = start.map(|start| ProcessId { pid, start }) else { return false };
        self.rechecks.queue.awaits_elder(process)
            && self.sources.again(process).is_some_and(|now| now.rss < self.growth.levels.lowest())
            && !self.sources.is_forked(process)
    }
}
