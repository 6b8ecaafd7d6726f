//! The next look at a process that could not be judged, when it is due.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::recheck::Recheck;
use crate::daemon::source::kernel_map::Kernel;
use crate::model::ProcessId;

impl Engine<'_> {
    /// Has a process looked at again at once, if it waits for the answer that there is now.
    pub(crate) fn answered(&mut self, process: ProcessId, now: Now) {
        self.rechecks.queue.answered(process, now.instant());
    }

    /// Looks again at one of them, and only at one, because the look may hang. Or seeds the map again, if that is due.
    pub(crate) fn recheck_next(&mut self, now: Now) {
        let begun = now.instant();
        if self.rechecks.reseeds.take_due(begun) {
            // If it fails, the next sweep is there.
            let _ = self.sources.kernel().map(Kernel::reseed);
            return;
        }
        let Some((pid, Recheck { start, crossed, .. })) = self.rechecks.queue.take_due(begun) else {
            return;
        };
        let seen = start.and_then(|start| self.sources.again(ProcessId { pid, start }));
        if !self.has_called_exec(pid, start)
            && let Some((process, next)) = self.look((pid, start), crossed, seen.map(|seen| seen.rss), now)
            && self.settings.current().kernel.instant
        {
            self.set_level(process, next, now);
        }
        let over = now.instant();
        self.rechecks.queue.looked_at(pid, over.saturating_duration_since(begun), over);
    }
}
