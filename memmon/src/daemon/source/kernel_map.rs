//! The daemon's view of the kernel map: entries as readings, and whether the map had room for every process.

use std::{collections::HashMap, io, os::fd::BorrowedFd, time::Instant};

use memmon_common::{NEVER, ProcessRss, STEP};

use super::{event_queue::EventQueue, gear::Gearbox, places::Places};
use crate::{
    config,
    model::{Bytes, Gear, GearChoice, Inherited, Pid, ProcessId, Reading, StartTime},
    observe::{
        bpf::{self, AttachError, KernelMap, PinError},
        decode::{KernelEvent, Scale},
        support::{Btf, CounterError, Facts, Support},
    },
    report::MapFigures,
    status::{Dropped, MapUsage},
};

/// Assumed number of threads of a process, if each may hold pages back (before Linux 6.2), because the map does not have
/// the number. A few suffice, because only a reader of mapped files holds back the maximum. A process with more threads is
/// seen later, by what the others hold back; the close look counts all threads.
const LIKELY_THREADS: u64 = 4;

/// Maximum of the default capacity: the default `pid_max` of a large machine. 64-bit systems set `pid_max` to four
/// million without ever having as many processes.
const MOST_PROCESSES: u32 = 65_536;

/// The attached programs, and the state between two readings of their map.
pub(in crate::daemon) struct Kernel {
    pub(super) map: KernelMap,
    gears: Gearbox,
    pub(super) scale: Scale,
    pub(super) places: Places,
    capacity: u32,
    /// Number of entries at the last reading.
    entries: usize,
    refused: u64,
    lost: u64,
    events: EventQueue,
}

impl Kernel {
    /// Attaches the programs, and pins the map if `pinned`.
    pub(in crate::daemon) fn attach(
        facts: &Facts,
        support: &Support,
        settings: &config::Kernel,
        pinned: bool,
    ) -> Result<Self, AttachError> {
        let Btf::Read(Ok(offsets)) = &facts.btf else {
            return Err(AttachError::Other {
                what: "field offsets".to_owned(),
                source: "the kernel's type information was not understood".into(),
            });
        };
        let capacity = settings
            .max_processes
            .unwrap_or_else(|| facts.pid_max.unwrap_or(MOST_PROCESSES).min(MOST_PROCESSES));
        let options = bpf::Options {
            capacity,
            pin_dir: if pinned { bpf::default_pin_dir() } else { None },
            two_gears: settings.gear != GearChoice::Always && support.one_gear.is_none(),
        };
        let held_back = match support.counter_error {
            CounterError::PerProcess { bound } => bound,
            CounterError::PerThread { .. } => support.counter_error.of(LIKELY_THREADS),
        };
        let error = held_back + Bytes(STEP * facts.page_size);
        let scale = Scale { page_size: facts.page_size, error };
        let map = KernelMap::attach(offsets, &options)?;
        Ok(Self {
            gears: Gearbox::new(map.gear(), settings.gear == GearChoice::Two),
            map,
            scale,
            places: Places::default(),
            capacity,
            entries: 0,
            refused: 0,
            lost: 0,
            events: EventQueue::default(),
        })
    }

    /// Whether attaching failed because another memmon watches this machine.
    pub(in crate::daemon) const fn is_second(error: &AttachError) -> bool {
        matches!(error, AttachError::Pin(PinError::AlreadyRunning(_)))
    }

    /// The gears, for people, and the reason if there is one gear although two were possible.
    pub(in crate::daemon) fn gears(&self, settings: &config::Kernel, support: &Support) -> String {
        match (self.map.has_two_gears(), &support.one_gear) {
            (Ok(()), _) => "two gears".to_owned(),
            (Err(Some(why)), _) => format!("one gear: {why}"),
            (Err(None), Some(why)) if settings.gear != GearChoice::Always => format!("one gear: {why}"),
            (Err(None), _) => "one gear".to_owned(),
        }
    }

    /// The gear in use.
    pub(in crate::daemon) const fn gear(&self) -> Gear {
        self.map.gear()
    }

    /// Sets the limit that processes are near to.
    pub(in crate::daemon) fn set_limit(&mut self, limit: Bytes) {
        self.gears.set_limit(limit);
    }

    /// Takes the exact gear if a process `is_near` its limit, and the calm one again some time after that. Returns the
    /// new gear if it changed; an error if the kernel refused to attach the program, with the gear as before.
    pub(in crate::daemon) fn shift(&mut self, is_near: bool, now: Instant) -> Option<io::Result<Gear>> {
        if self.map.has_two_gears().is_err() {
            return None;
        }
        let gear = self.gears.note(is_near, now)?;
        let shifted = self.map.shift(gear);
        if shifted.is_ok() {
            self.gears.changed(gear, now);
        }
        Some(shifted.map(|()| gear))
    }

    /// The reason why the map is not pinned, if a pin was requested.
    pub(in crate::daemon) fn unpinned(&self) -> Option<String> {
        self.map.unpinned().map(ToString::to_string)
    }

    /// Every process in the map.
    pub(in crate::daemon) fn readings(&mut self) -> io::Result<Vec<Reading>> {
        let mut readings = Vec::with_capacity(self.entries);
        let scale = self.scale;
        let mut places = HashMap::new();
        self.map.read(|pid, entry| {
            readings.push(scale.reading(pid, entry));
            if entry.sum_epoch != 0 {
                places.insert(pid, (entry.sum_uid, entry.sum_cgroup));
            }
        })?;
        self.places.note(places);
        self.entries = readings.len();
        Ok(readings)
    }

    /// Whether a process could not be added to the map since the last call.
    pub(in crate::daemon) fn overflowed(&mut self) -> io::Result<bool> {
        let counters = self.map.counters()?;
        let refused = counters.insert_full + counters.insert_failed;
        Ok(std::mem::replace(&mut self.refused, refused) != refused)
    }

    /// Usage of the map at the last reading.
    pub(in crate::daemon) const fn fill(&self) -> MapUsage {
        MapUsage { entries: self.entries, capacity: self.capacity }
    }

    /// Events and entries lost since the start; zero if the counters cannot be read.
    pub(in crate::daemon) fn lost(&self) -> Dropped {
        let counters = self.map.counters().unwrap_or_default();
        let map_entries = counters.insert_full + counters.insert_failed;
        Dropped { log_events: 0, crossings: counters.ring_full, map_entries }
    }

    /// Figures for the metrics, with the number of entries at the last reading; `None` if the counters cannot be read.
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
        // A failed lookup counts as no entry, because the caller has /proc's figure.
        let entry = self.map.get(pid).ok()??;
        Some(self.scale.reading(pid, &entry))
    }

    /// Memory of a process when it was forked, or the least since; `None` if it has called exec, or its fork was not seen.
    pub(in crate::daemon) fn forked_with(&self, process: ProcessId) -> Option<Bytes> {
        self.forked(process).map(|entry| self.scale.bytes(entry.inherited_pages))
    }

    /// The same, if the process that forked it still has that memory, too: it still runs and has not called exec.
    pub(in crate::daemon) fn inherited(&self, process: ProcessId) -> Option<Inherited> {
        let entry = self.forked(process)?;
        let elder = Pid(entry.elder);
        let has_it = self.map.get(elder).ok()??.mm == entry.elder_mm;
        has_it.then_some(Inherited { bytes: self.scale.bytes(entry.inherited_pages), elder })
    }

    fn forked(&self, process: ProcessId) -> Option<ProcessRss> {
        let entry = self.map.get(process.pid).ok()??;
        let is_it = StartTime::from_boottime_ns(entry.start_boottime) == process.start;
        (is_it && entry.inherited_pages > 0).then_some(entry)
    }

    pub(in crate::daemon) fn remove(&mut self, pid: Pid) -> io::Result<()> {
        self.map.remove(pid)
    }

    pub(in crate::daemon) fn reseed(&mut self) -> io::Result<()> {
        self.map.refresh()
    }

    /// Maximum by which its readings may be too low.
    pub(in crate::daemon) const fn error(&self) -> Bytes {
        self.scale.error
    }

    /// Readable when a process crossed its level, or when a process ended that had crossed one.
    pub(in crate::daemon) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.map.wake_fd()
    }

    /// The next event from the kernel.
    pub(in crate::daemon) fn event(&mut self) -> Option<KernelEvent> {
        self.events.next(|| self.map.events().find_map(|event| self.scale.event(&event)))
    }

    /// The next event that is no crossing. The crossings before it are returned by [`Kernel::event`] later.
    pub(in crate::daemon) fn event_but_crossing(&mut self) -> Option<KernelEvent> {
        self.events.next_but_crossings(|| self.map.events().find_map(|event| self.scale.event(&event)))
    }

    /// Whether an event did not fit into the ring since the last call. True also if the counter cannot be read.
    pub(in crate::daemon) fn lost_events(&mut self) -> bool {
        self.map.counters().map_or(true, |counters| {
            std::mem::replace(&mut self.lost, counters.ring_full) != counters.ring_full
        })
    }

    /// Sets the level of every process without one of its own. With none, such a process never wakes memmon.
    pub(in crate::daemon) fn set_default_level(&mut self, level: Option<Bytes>) -> io::Result<()> {
        self.map.set_default_wake_level(self.pages(level))
    }

    /// Sets the level of one process. Returns its resident memory after that; `None` if it is not in the map.
    pub(in crate::daemon) fn set_level(
        &mut self,
        process: ProcessId,
        level: Option<Bytes>,
    ) -> io::Result<Option<Bytes>> {
        let now = self.map.set_wake_level(process, self.pages(level))?;
        Ok(now.map(|pages| self.scale.bytes(pages)))
    }

    fn pages(&self, level: Option<Bytes>) -> u64 {
        level.map_or(NEVER, |level| self.scale.pages(level))
    }

    /// Readable when a BPF program logged something.
    pub(in crate::daemon) fn log_fd(&self) -> BorrowedFd<'_> {
        self.map.log_fd()
    }

    pub(in crate::daemon) fn forward_log(&mut self) {
        self.map.forward_log();
    }
}
