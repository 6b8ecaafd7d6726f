//! Processes that are over their limit with what they were forked with, while an older process is charged for that.
//!
//! Most of them call exec within a millisecond: at first a comparison of two figures of the kernel's has to do. One that
//! stays is looked at closely again and again, as it can make the memory its own without a change of its RSS, and its
//! elder can end.

use std::time::Instant;

use crate::daemon::engine::scan::NextWake;
use crate::daemon::event_loop::Daemon;
use crate::model::{Bytes, Inherited, Pid, ProcessId, Reading, StartTime};

impl Daemon<'_> {
    /// What `whom` was forked with, if it was not looked at for that yet and has not added as much as its limit since. By
    /// the kernel map alone.
    pub(in crate::daemon) fn fresh_fork(&self, whom: ProcessId, rss: Bytes) -> Option<Inherited> {
        let inherited = self.sources.inherited(whom)?;
        let added = rss.saturating_sub(inherited.bytes);
        (added < self.growth.ladder.highest() && !self.recheck.awaits_elder(whom)).then_some(inherited)
    }

    /// Leaves `whom`, which has `rss` by the kernel's counters, alone for now. Gives when to look at it next by these: when
    /// it has added as much as its limit. Until then it is looked at by the clock.
    pub(in crate::daemon) fn leave_to_elder(
        &mut self,
        whom: ProcessId,
        rss: Bytes,
        inherited: Inherited,
    ) -> NextWake {
        self.recheck.note_inherited(whom, inherited.elder, Instant::now());
        let added = rss.saturating_sub(inherited.bytes);
        NextWake::Level(inherited.bytes + self.growth.ladder.next_below_limit(added, added))
    }

    /// Whether a scan leaves the process of `reading` to the looks by the clock. Not the only scan of all.
    pub(in crate::daemon) fn is_left_to_elder(&mut self, reading: &Reading) -> bool {
        let Some(start) = reading.start.filter(|_| !self.options.once) else { return false };
        let whom = ProcessId { pid: reading.pid, start };
        if self.recheck.awaits_elder(whom) {
            return true;
        }
        let Some(inherited) = self.fresh_fork(whom, reading.rss) else { return false };
        self.recheck.note_inherited(whom, inherited.elder, Instant::now());
        true
    }

    /// Whether a process that awaits a look for what it inherited has none of it any more, by the kernel map: the level that
    /// was set for it went with its memory.
    pub(in crate::daemon) fn has_called_exec(&self, pid: Pid, start: Option<StartTime>) -> bool {
        let Some(whom) = start.map(|start| ProcessId { pid, start }) else { return false };
        self.recheck.awaits_elder(whom)
            && self.sources.again(whom).is_some_and(|now| now.rss < self.growth.ladder.lowest())
            && !self.sources.is_forked(whom)
    }
}
