//! A machine that files in a tmpfs fill: no process's end gives that memory back, but the process that writes them can be
//! stopped before the kernel's OOM killer ends others for it.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::machine::{LEAST_FILE, grown};
use crate::enforce::OpenedProcess;
use crate::model::{Breach, Bytes, Elsewhere, Limit, MachineMemory, MemoryWriter, Verdict};
use crate::policy;

impl Engine<'_> {
    /// The processes that have written at least `least` to a file in memory, if such files have grown by that. A process
    /// that writes beyond twice the size of all such files has skipped most of its file, and did not fill the memory.
    pub(super) fn memory_writers(
        &self,
        least: Bytes,
        grown: &Elsewhere,
        machine: &MachineMemory,
    ) -> Vec<MemoryWriter> {
        if grown.shmem < least || least == Bytes::ZERO {
            return Vec::new();
        }
        let mut writers = self.sources.proc().memory_writers(least);
        // Twice, because a fast one goes on writing between the two readings.
        writers.retain(|writer| writer.used.0 / 2 <= machine.elsewhere.shmem.0);
        writers
    }

    /// Notes the processes that write files in memory at a warning, so that the first look below the level to act shows which of
    /// them write on: a fast one fills the rest of the memory before a second look.
    pub(super) fn expect_writers(&mut self, machine: &MachineMemory) {
        let Some(baseline) = &self.machine.baseline else { return };
        let least = Bytes(baseline.lost(machine).0 / LEAST_FILE);
        let was = baseline.of_limit(machine).elsewhere;
        let writers = self.memory_writers(least, &grown(&was, &machine.elsewhere), machine);
        self.machine.note_writers(writers);
    }

    /// Stops the first of `writers` that has written on since the last look and that nothing protects. It is opened before it is
    /// looked at, so the signal is for the process that was seen to write. If it stops one, or if one of them is new, the next
    /// look comes soon.
    pub(super) fn stop_writer(
        &mut self,
        writers: &[MemoryWriter],
        least: Bytes,
        machine: &MachineMemory,
        now: Now,
    ) {
        let dry_run = self.settings.current().dry_run;
        for MemoryWriter { pid, used, .. } in self.machine.writing(writers, now.instant()) {
            let opened = if dry_run { None } else { OpenedProcess::open(pid).ok() };
            let writes = |writer: MemoryWriter| writer.used >= used;
            if (opened.is_none() && !dry_run)
                || !self.sources.proc().memory_writer(pid, least).is_some_and(writes)
            {
                continue;
            }
            let Ok(process) = self.sources.confirm(pid, None, Bytes::MAX) else { continue };
            let verdict = policy::judge_as_over(self.settings.rules(), &process, &machine.memory);
            if matches!(verdict, Verdict::Terminate(_) | Verdict::Stop(_)) {
                let (rss, percent) = (process.rss, process.rss.percent_of(machine.memory.total));
                let breach = Breach { rule: Limit::Machine, limit: Bytes::ZERO, rss, percent, by: None };
                self.stop(&process, breach, rss, opened, now);
                if !dry_run {
                    self.machine.wait_for_victim(now.instant());
                }
                return;
            }
        }
    }
}
