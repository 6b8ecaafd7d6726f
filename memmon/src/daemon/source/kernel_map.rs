//! The kernel map in the daemon's hands: entries as readings, and the question whether it had room for everyone.

use std::{io, os::fd::BorrowedFd};

use memmon_common::{NEVER, STEP};

use crate::{
    model::{Bytes, Pid, ProcessId, Reading},
    observe::{
        bpf::{self, AttachError, KernelMap, PinError},
        decode::{KernelEvent, Scale},
        support::{Btf, CounterError, Facts, Support},
    },
    report::MapFigures,
    status::{Dropped, MapUsage},
};

/// Threads that a process is taken to have where each may hold pages back (before Linux 6.2) and the map does not say
/// how many there are: few, as none but a reader of mapped files holds back all that it may. One with more is seen later
/// by what the others hold back; the close look counts them all.
const LIKELY_THREADS: u64 = 4;

/// What the map has room for if nothing else is asked for: the default `pid_max` of a large machine, and no more, as
/// 64-bit systems set it to four million without ever having as many.
const MOST_PROCESSES: u32 = 65_536;

/// The attached programs, and what is remembered from one reading of their map to the next.
pub(in crate::daemon) struct Kernel {
    map: KernelMap,
    scale: Scale,
    capacity: u32,
    /// How many were read last.
    entries: usize,
    refused: u64,
    lost: u64,
}

impl Kernel {
    /// Attaches, and pins the map if it is to be seen.
    pub(in crate::daemon) fn attach(
        facts: &Facts,
        support: &Support,
        max_processes: Option<u32>,
        pinned: bool,
    ) -> Result<Self, AttachError> {
        let Btf::Read(Ok(offsets)) = &facts.btf else {
            return Err(AttachError::Other {
                what: "field offsets".to_owned(),
                source: "the kernel's type information was not understood".into(),
            });
        };
        let capacity =
            max_processes.unwrap_or_else(|| facts.pid_max.unwrap_or(MOST_PROCESSES).min(MOST_PROCESSES));
        let options = bpf::Options { capacity, pin_dir: if pinned { bpf::default_pin_dir() } else { None } };
        let held_back = match support.counter_error {
            CounterError::PerProcess { bound } => bound,
            CounterError::PerThread { .. } => support.counter_error.of(LIKELY_THREADS),
        };
        let error = held_back + Bytes(STEP * facts.page_size);
        let scale = Scale { page_size: facts.page_size, error };
        Ok(Self {
            map: KernelMap::attach(offsets, &options)?,
            scale,
            capacity,
            entries: 0,
            refused: 0,
            lost: 0,
        })
    }

    /// Whether it is not attached as another memmon watches this machine.
    pub(in crate::daemon) const fn is_second(error: &AttachError) -> bool {
        matches!(error, AttachError::Pin(PinError::AlreadyRunning(_)))
    }

    /// Why the map is not to be seen by others, though it was to be.
    pub(in crate::daemon) fn unpinned(&self) -> Option<String> {
        self.map.unpinned().map(ToString::to_string)
    }

    /// Every process in the map.
    pub(in crate::daemon) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        let mut readings = Vec::with_capacity(self.entries);
        let scale = self.scale;
        self.map.read(|pid, entry| readings.push(scale.reading(pid, entry)))?;
        self.entries = readings.len();
        Ok(readings)
    }

    /// Whether, since this was asked last, a process could not be entered.
    pub(in crate::daemon) fn overflowed(&mut self) -> io::Result<bool> {
        let counters = self.map.counters()?;
        let refused = counters.insert_full + counters.insert_failed;
        Ok(std::mem::replace(&mut self.refused, refused) != refused)
    }

    /// How full the map was when it was read last.
    pub(in crate::daemon) const fn fill(&self) -> MapUsage {
        MapUsage { entries: self.entries, capacity: self.capacity }
    }

    /// What was lost since the start; nothing where that cannot be read.
    pub(in crate::daemon) fn lost(&self) -> Dropped {
        let counters = self.map.counters().unwrap_or_default();
        let map_entries = counters.insert_full + counters.insert_failed;
        Dropped { log_events: 0, crossings: counters.ring_full, map_entries }
    }

    /// How the map is, with what the last reading found in it; none where its counters cannot be read.
    pub(in crate::daemon) fn figures(&self) -> Option<MapFigures> {
        let counters = self.map.counters().ok()?;
        Some(MapFigures {
            entries: self.entries as u64,
            capacity: u64::from(self.capacity),
            refused: counters.insert_full + counters.insert_failed,
            lost: counters.ring_full,
        })
    }

    /// One process, if it is in the map.
    pub(in crate::daemon) fn reading(&self, pid: Pid) -> Option<Reading> {
        // A failed lookup of one entry is no entry: who asks has the figure of /proc.
        let entry = self.map.get(pid).ok()??;
        Some(self.scale.reading(pid, &entry))
    }

    pub(in crate::daemon) fn remove(&mut self, pid: Pid) -> io::Result<()> {
        self.map.remove(pid)
    }

    pub(in crate::daemon) fn reseed(&mut self) -> io::Result<()> {
        self.map.reseed()
    }

    /// How far its readings may be below the truth.
    pub(in crate::daemon) const fn error(&self) -> Bytes {
        self.scale.error
    }

    /// Readable when a process crossed its level, or one that had crossed ended.
    pub(in crate::daemon) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.map.wake_fd()
    }

    /// The next of what the kernel has to tell.
    pub(in crate::daemon) fn event(&mut self) -> Option<KernelEvent> {
        self.map.events().find_map(|event| self.scale.event(&event))
    }

    /// Whether, since this was asked last, something did not fit into the ring. A figure that cannot be read is taken
    /// for a yes.
    pub(in crate::daemon) fn lost_events(&mut self) -> bool {
        self.map.counters().map_or(true, |counters| {
            std::mem::replace(&mut self.lost, counters.ring_full) != counters.ring_full
        })
    }

    /// The level of every process that has none of its own; none: nobody wakes memmon.
    pub(in crate::daemon) fn set_default_level(&mut self, level: Option<Bytes>) -> io::Result<()> {
        self.map.set_default_wake_level(self.pages(level))
    }

    /// The level of one process, and what it has resident after that was set; none if it is not there.
    pub(in crate::daemon) fn set_level(
        &mut self,
        whom: ProcessId,
        level: Option<Bytes>,
    ) -> io::Result<Option<Bytes>> {
        let now = self.map.set_wake_level(whom, self.pages(level))?;
        Ok(now.map(|pages| self.scale.bytes(pages)))
    }

    fn pages(&self, level: Option<Bytes>) -> u64 {
        level.map_or(NEVER, |level| self.scale.pages(level))
    }

    /// Readable when a BPF program has something to say.
    pub(in crate::daemon) fn log_fd(&self) -> BorrowedFd<'_> {
        self.map.log_fd()
    }

    pub(in crate::daemon) fn forward_log(&mut self) {
        self.map.forward_log();
    }
}
