//! The source of readings: the kernel map if it is available, otherwise /proc. A close look always uses /proc.

use std::{
    io,
    time::{Duration, Instant},
};

use tracing::{
    debug_span,
    field::{self, Empty},
};

use crate::daemon::source::kernel_map::Kernel;
use crate::daemon::source::sweep::{Defects, Sweeps, repair};
use crate::{
    model::{
        Bytes, Capability, FreeAndShared, Gear, Inherited, MachineMemory, Name, Pid, Process, ProcessId,
        Reading, Source, StartTime, Survey, SystemMemory, Unconfirmed,
    },
    observe::{
        merge::merge,
        procfs::{Accuracy, Hierarchy, LimitedCgroup, ProcRoot},
        support::capabilities,
    },
    policy::{Rules, machine::binding},
    status::{Dropped, MapUsage},
};

/// The sources of readings.
pub(crate) struct Sources {
    proc: ProcRoot,
    accuracy: Accuracy,
    kernel: Option<Kernel>,
    /// Processes that the map cannot hold (their mm has no owner, or it is full), sorted: read from /proc in every scan.
    unmapped: Vec<Pid>,
    sweeps: Sweeps,
    /// The cgroups with a limit that all processes are in.
    limited: Vec<LimitedCgroup>,
    /// The time at which they were looked for.
    limited_at: Option<Instant>,
    memory_cgroups: Option<Hierarchy>,
    /// Free memory that the kernel keeps for each processor, with the time at which it was read.
    free_per_cpu: Option<(Instant, Bytes)>,
    /// Whether `free_per_cpu` is read before a signal: only if no processor is idle, because the process that handles the
    /// signal waits for memmon's processor then. Otherwise the crossing would wait for the read.
    reads_ahead: bool,
}

/// Time for which `free_per_cpu` holds: a process that is looked at below its limit, and grows by 100 MB per second, is above
/// the limit by then.
const FREE_PER_CPU_HOLDS_FOR: Duration = Duration::from_millis(10);

/// Time for which the list of cgroups with a limit holds. Their limits and their memory are read at each look.
const LIMITED_HOLDS_FOR: Duration = Duration::from_secs(20);

/// The memory that `[machine]` watches.
pub(crate) struct WatchedMemory {
    /// The figures of the limit that binds.
    pub(crate) memory: MachineMemory,
    /// The cgroup, if it is the limit of one.
    pub(crate) cgroup: Option<Name>,
    /// The figures of all limits that could bind.
    pub(crate) limits: Vec<MachineMemory>,
}

/// One survey, and problems that were found during it.
pub(crate) struct Look {
    pub(crate) survey: Survey,
    /// More of the machine's memory, if that is watched and was read with it.
    pub(crate) machine: Option<MachineMemory>,
    /// The map had no room for a process: this survey, and those until it has, include a pass over /proc.
    pub(crate) map_full: bool,
    /// The outcome of a sweep that ended with it.
    pub(crate) sweep: Option<io::Result<Defects>>,
}

impl Sources {
    pub(crate) fn new(mut proc: ProcRoot, accuracy: Accuracy, kernel: Option<Kernel>) -> Self {
        if let Some(read) = kernel.as_ref().and_then(Kernel::file_mappings) {
            proc.set_mappings(read);
        }
        let memory_cgroups = proc.memory_cgroups();
        Self {
            proc,
            accuracy,
            kernel,
            unmapped: Vec::new(),
            sweeps: Sweeps::default(),
            limited: Vec::new(),
            limited_at: None,
            memory_cgroups,
            free_per_cpu: None,
            reads_ahead: false,
        }
    }

    pub(crate) const fn source(&self) -> Source {
        if self.kernel.is_some() { Source::Ebpf } else { Source::Proc }
    }

    pub(crate) const fn kernel(&mut self) -> Option<&mut Kernel> {
        self.kernel.as_mut()
    }

    /// /proc, for what is read of a process or of the machine whatever the source is.
    pub(crate) const fn proc(&self) -> &ProcRoot {
        &self.proc
    }

    /// Calls `call` with each process that has an answer now which an earlier look waited for: see [`ProcRoot::on_answer`].
    pub(crate) fn on_answer(&mut self, call: impl Fn(ProcessId) + Send + Sync + 'static) {
        self.proc.on_answer(call);
    }

    /// The gear of the kernel side, if there is one.
    pub(crate) fn gear(&self) -> Option<Gear> {
        self.kernel.as_ref().map(Kernel::gear)
    }

    pub(crate) const fn accuracy(&self) -> Accuracy {
        self.accuracy
    }

    /// The current content of the kernel map; `None` if there is no map, or it cannot be read.
    pub(crate) fn kernel_survey(&mut self) -> Option<(SystemMemory, Vec<Reading>)> {
        let memory = self.proc.memory().ok()?;
        Some((memory, self.kernel.as_mut()?.readings().ok()?))
    }

    /// Usage of the kernel map, and its losses so far.
    pub(crate) fn map_state(&self) -> (Option<MapUsage>, Dropped) {
        match &self.kernel {
            Some(kernel) => (Some(kernel.fill()), kernel.lost()),
            None => (None, Dropped::default()),
        }
    }

    /// The memory of the machine, or of the cgroup with all processes whose limit binds before that.
    pub(crate) fn machine_memory(&self) -> io::Result<WatchedMemory> {
        Ok(self.watched(self.proc.machine_memory()?))
    }

    /// The same, if this is the memory of the machine.
    pub(crate) fn watched(&self, machine: MachineMemory) -> WatchedMemory {
        let within =
            |cgroup: &LimitedCgroup| Some((cgroup.name.clone(), self.proc.memory_within(cgroup, &machine)?));
        let limited: Vec<_> = self.limited.iter().filter_map(within).collect();
        let limits = std::iter::once(machine).chain(limited.iter().map(|(_, memory)| *memory)).collect();
        let (cgroup, memory) = binding(machine, limited);
        WatchedMemory { memory, cgroup, limits }
    }

    /// Looks for cgroups with a limit that all processes are in, unless that was done a moment ago.
    pub(crate) fn find_limited_cgroups(&mut self, now: Instant) {
        let holds = |at: Instant| now.saturating_duration_since(at) < LIMITED_HOLDS_FOR;
        if self.limited_at.is_some_and(holds) {
            return;
        }
        self.limited_at = Some(now);
        self.limited =
            self.memory_cgroups.as_ref().map_or_else(Vec::new, |all| self.proc.limited_cgroups(all));
    }

    /// The capability that memmon lacks to find the processes that write files in memory.
    pub(crate) fn missing_for_writers(&self) -> Option<Capability> {
        self.proc.missing_for_writers(capabilities())
    }

    pub(crate) fn memory(&self) -> io::Result<SystemMemory> {
        self.proc.memory()
    }

    /// A cheap reading of every process that has memory, and of the machine's memory.
    pub(crate) fn survey(&mut self, watches_machine: bool, now: Instant) -> io::Result<Look> {
        let Some(kernel) = &mut self.kernel else {
            let survey = self.proc.survey(&self.accuracy)?;
            return Ok(Look { survey, machine: None, map_full: false, sweep: None });
        };
        let machine = watches_machine.then(|| self.proc.machine_memory()).transpose()?;
        let memory = machine.map_or_else(|| self.proc.memory(), |machine| Ok(machine.memory))?;
        let mut readings = kernel.readings()?;
        let map_full = kernel.overflowed()?;
        let sweep;
        if map_full || self.sweeps.is_first() {
            let merged = merge(&readings, &self.proc.survey(&self.accuracy)?.readings);
            readings = merged.readings;
            let repaired = repair(&self.proc, kernel, merged.missed, merged.stale);
            // A process for which there was no room is no defect.
            let defects = repaired.defects(if map_full { &repaired.added } else { &self.unmapped });
            self.unmapped = repaired.unmapped;
            self.sweeps.completed(defects, now);
            sweep = Some(Ok(defects));
        } else {
            let pass = self.sweeps.ended();
            let ended = pass.map(|pass| -> io::Result<_> {
                let (missed, stale) = pass?.suspects(readings.iter().map(|reading| reading.pid));
                let repaired = repair(&self.proc, kernel, [missed, self.unmapped.clone()].concat(), stale);
                let defects = repaired.defects(&self.unmapped);
                self.unmapped = repaired.unmapped;
                readings.extend(self.proc.readings(&repaired.added, &self.accuracy));
                self.sweeps.completed(defects, now);
                Ok(defects)
            });
            let in_map = readings.iter().map(|reading| reading.pid);
            sweep = self.sweeps.start_if_due(in_map, now).err().map(Err).or(ended);
            // A process that is in the map by now, as itself or as the next process with its pid, is read once.
            self.unmapped.retain(|pid| kernel.reading(*pid).is_none());
            readings.extend(self.proc.readings(&self.unmapped, &self.accuracy));
        }
        Ok(Look { survey: Survey { memory, readings }, machine, map_full, sweep })
    }

    /// A reading of every process between two scans. The next scan finds those for which the map has no room.
    pub(crate) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        let Some(kernel) = &mut self.kernel else { return Ok(self.proc.survey(&self.accuracy)?.readings) };
        let mut readings = kernel.readings()?;
        self.unmapped.retain(|pid| kernel.reading(*pid).is_none());
        readings.extend(self.proc.readings(&self.unmapped, &self.accuracy));
        Ok(readings)
    }

    /// Adds the swapped-out memory that a pass over /proc does not count to `readings`, so that it is no growth when it comes
    /// back. Reads a file per process, and only while swap is in use.
    pub(crate) fn add_swap(&self, readings: &mut [Reading], machine: &MachineMemory) {
        if machine.swap_free < machine.swap_total {
            self.proc.add_swap(readings);
        }
    }

    /// Whether this is a process that the kernel map cannot hold: for want of room, or because the kernel accounts its memory
    /// to a process that shares it.
    pub(crate) fn is_unmapped(&self, pid: Pid) -> bool {
        self.unmapped.binary_search(&pid).is_ok()
    }

    /// Whether there are processes that the kernel map cannot hold.
    pub(crate) fn has_unmapped(&self) -> bool {
        !self.unmapped.is_empty()
    }

    /// Makes a sweep due.
    pub(crate) const fn sweep_next(&mut self) {
        self.sweeps.request();
    }

    /// Maximum by which the source's readings may be too low.
    pub(crate) fn error(&self) -> Bytes {
        self.kernel.as_ref().map_or(Bytes::ZERO, Kernel::error)
    }

    /// Measures processes over the limit, and reads their facts, as `rules` need it from now on.
    pub(crate) fn follow(&mut self, rules: &Rules) {
        self.proc.set_measure(rules.measure);
        self.proc.set_wanted(rules.wanted());
    }

    /// A close look at one process, with its RSS as exact as a decision about `limit` requires.
    pub(crate) fn confirm(
        &self,
        pid: Pid,
        start: Option<StartTime>,
        limit: Bytes,
    ) -> Result<Process, Unconfirmed> {
        let span = debug_span!("confirm", pid = pid.0, rss_bytes = Empty, error_bytes = Empty, why = Empty);
        let _entered = span.enter();
        let forked = self.most_inherited(pid, start);
        let confirmed = self.proc.confirm_forked(pid, start, limit, &self.accuracy, forked);
        match &confirmed {
            Ok(process) => {
                span.record("rss_bytes", process.rss.0);
                span.record("error_bytes", process.error.0);
            }
            Err(why) => {
                span.record("why", field::debug(why));
            }
        }
        confirmed
    }

    /// A close look at a process that counts in a sum; `exact` if its pages are to be counted.
    pub(crate) fn confirm_for_sum(
        &self,
        pid: Pid,
        start: Option<StartTime>,
        exact: bool,
    ) -> Result<Process, Unconfirmed> {
        let forked = self.most_inherited(pid, start);
        self.proc.confirm_for_sum(pid, start, exact, &self.accuracy, forked)
    }

    /// The most that a forked process can share with its elder: with the kernel's counters, which may have lagged at the fork.
    pub(crate) fn most_inherited(&self, pid: Pid, start: Option<StartTime>) -> Option<Bytes> {
        let (kernel, start) = self.kernel.as_ref().zip(start)?;
        kernel.forked_with(ProcessId { pid, start }).map(|most| most + kernel.error())
    }

    /// The exact resident memory of a process, and how much of that is free already.
    pub(crate) fn lazy_free(&self, process: &Process) -> Option<(Bytes, Bytes)> {
        self.proc.lazy_free(process.id, process.real_uid)
    }

    /// Whether `process` has the name and the rights that it was confirmed with.
    pub(crate) fn is_as_found(&self, process: &Process) -> bool {
        self.proc.is_as_found(process)
    }

    /// Whether the kernel map shows that `process` was forked, and has not called exec since.
    pub(crate) fn is_forked(&self, process: ProcessId) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.forked_with(process).is_some())
    }

    /// The memory that `process` was forked with, if the kernel map shows that the process that forked it has that memory,
    /// too. Reads nothing of /proc.
    pub(crate) fn inherited(&self, process: ProcessId) -> Option<Inherited> {
        self.kernel.as_ref()?.inherited(process)
    }

    /// The current reading of a process in the kernel map; `None` if there is no map, or the process is not in it.
    pub(crate) fn again(&self, process: ProcessId) -> Option<Reading> {
        let reading = self.kernel.as_ref()?.reading(process.pid)?;
        (reading.start == Some(process.start)).then_some(reading)
    }

    /// The machine's memory that an end changes.
    pub(crate) fn free_and_shared(&self) -> Option<FreeAndShared> {
        self.proc.free_and_shared(None)
    }

    /// Sets whether to read `free_per_cpu` before a signal.
    pub(crate) const fn read_ahead(&mut self, reads_ahead: bool) {
        self.reads_ahead = reads_ahead;
    }

    /// Reads `free_per_cpu`, which takes longest of what a record needs, because a process is about to cross its limit. Of the
    /// looks at it below the limit, the last one comes right before the crossing.
    pub(crate) fn read_free_per_cpu(&mut self, now: Instant) {
        let is_fresh =
            |(read, _): (Instant, _)| now.saturating_duration_since(read) < FREE_PER_CPU_HOLDS_FOR / 2;
        if self.reads_ahead && !self.free_per_cpu.is_some_and(is_fresh) {
            self.free_per_cpu = self.proc.free_per_cpu().map(|free| (now, free));
        }
    }

    /// The same right after a signal, while the process waits for the processor that memmon has: with `free_per_cpu` if that
    /// was read a moment ago.
    pub(crate) fn free_and_shared_at_signal(&self, now: Instant) -> Option<FreeAndShared> {
        let holds = |(read, _): &(Instant, _)| now.saturating_duration_since(*read) < FREE_PER_CPU_HOLDS_FOR;
        self.proc.free_and_shared(self.free_per_cpu.filter(holds).map(|(_, free)| free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::procfs::testing::Tree;

    /// The free memory of a processor as read for a signal, so many milliseconds after a look below the limit. It had 16 pages
    /// at the look, and has 74 at the signal.
    fn at_signal(reads_ahead: bool, before: u64) -> Option<Bytes> {
        let (tree, start) = (Tree::new(), Instant::now());
        let zone = |pages| format!("  pagesets\n    cpu: 0\n              count:    {pages}\n");
        tree.write("meminfo", "MemTotal: 9 kB\nMemAvailable: 2 kB\nShmem: 1 kB\n");
        tree.write("zoneinfo", zone(16));
        let mut sources = Sources::new(tree.root(), Accuracy::StatmExact, None);
        sources.read_ahead(reads_ahead);
        sources.read_free_per_cpu(start);
        tree.write("zoneinfo", zone(74));
        let found = sources.free_and_shared_at_signal(start + Duration::from_millis(before))?;
        found.free_per_cpu
    }

    #[test]
    fn free_memory_that_was_read_ahead_holds_for_a_moment() {
        let fresh = at_signal(false, 9).unwrap();
        let ahead = at_signal(true, 9).unwrap();
        assert_eq!(fresh.0 * 16, ahead.0 * 74);
        assert_eq!(at_signal(true, 11), Some(fresh));
    }

    #[test]
    fn cgroups_with_a_limit_are_looked_for_three_times_a_minute() {
        let (tree, start) = (Tree::new(), Instant::now());
        let mut sources = Sources::new(tree.root(), Accuracy::StatmExact, None);
        let mut looked_at = |seconds| {
            let now = start + Duration::from_secs(seconds);
            sources.find_limited_cgroups(now);
            sources.limited_at == Some(now)
        };
        assert_eq!([0, 5, 19, 20, 30, 50].map(&mut looked_at), [true, false, false, true, false, true]);
    }
}
