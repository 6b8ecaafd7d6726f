//! A machine that files in a tmpfs fill: no process's end gives that memory back, but the process that writes them can be
//! stopped before the kernel's OOM killer ends others for it.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::enforce::OpenedProcess;
use crate::model::{Breach, Bytes, Elsewhere, Limit, MachineMemory, MemoryWriter, Verdict};
use crate::policy;

impl Engine<'_> {
    /// The processes that write files in memory of at least `least`, if such files have grown by that.
    pub(super) fn memory_writers(&self, least: Bytes, grown: &Elsewhere) -> Vec<MemoryWriter> {
        if grown.shmem < least || least == Bytes::ZERO {
            return Vec::new();
        }
        self.sources.memory_writers(least)
    }

    /// Stops the first of `writers` that nothing protects. It is opened before it is looked at, so the signal is for the
    /// process that was seen to write.
    pub(super) fn stop_writer(
        &mut self,
        writers: &[MemoryWriter],
        least: Bytes,
        machine: &MachineMemory,
        now: Now,
    ) {
        for MemoryWriter { pid, .. } in writers {
            let dry_run = self.settings.current().dry_run;
            let opened = if dry_run { None } else { OpenedProcess::open(*pid).ok() };
            if opened.is_none() && !dry_run {
                continue;
            }
            if self.sources.memory_writer(*pid, least).is_none() {
                continue;
            }
            let Ok(process) = self.sources.confirm(*pid, None, Bytes::MAX) else { continue };
            let verdict = policy::judge_as_over(self.settings.rules(), &process, &machine.memory);
            if matches!(verdict, Verdict::Terminate(_) | Verdict::Stop(_)) {
                let (rss, percent) = (process.rss, process.rss.percent_of(machine.memory.total));
                let breach = Breach { rule: Limit::Machine, limit: Bytes::ZERO, rss, percent, by: None };
                self.stop(&process, breach, rss, opened, now);
                return;
            }
        }
    }
}
