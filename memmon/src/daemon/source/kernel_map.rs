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
        procfs::ReadMappings,
        support::{Btf, CounterError, Facts, Support},
    },
    report::MapFigures,
    status::{Dropped, MapUsage},
};

/// Assumed number of threads of a process, if each may hold pages back (before Linux 6.2), because the map does not have
/// the number. A few suffice, because only a reader of mapped files holds back the maximum. A process with more threads is
/// seen later, by what the others hold back; the close look counts all threads.
const LIKELY_THREADS: u64 = 4;

/// Range of the default capacity. 64-bit systems set `pid_max` to four million without ever having as many processes, and
/// each scan passes over the whole table, empty places included: 14 ns for each of them (Linux 6.18), and ten times as much
/// when they are not in a cache.
const DEFAULT_CAPACITIES: (u32, u32) = (8192, 65_536);

/// Room by default for so many times as many processes as run at the start.
const ROOM: usize = 4;

/// The attached programs, and the state between two readings of their map.
pub(crate) struct Kernel {
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
    pub(crate) fn attach(
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
        let capacity =
            settings.max_processes.unwrap_or_else(|| default_capacity(facts.processes, facts.pid_max));
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
    pub(crate) const fn is_second(error: &AttachError) -> bool {
        matches!(error, AttachError::Pin(PinError::AlreadyRunning(_)))
    }

    /// The gears, for people, and the reason if there is one gear although two were possible.
    pub(crate) fn gears(&self, settings: &config::Kernel, support: &Support) -> String {
        match (self.map.has_two_gears(), &support.one_gear) {
            (Ok(()), _) => "two gears".to_owned(),
            (Err(Some(why)), _) => format!("one gear: {why}"),
            (Err(None), Some(why)) if settings.gear != GearChoice::Always => format!("one gear: {why}"),
            (Err(None), _) => "one gear".to_owned(),
        }
    }

    /// Reads the mappings of single processes, if this kernel's can be read.
    pub(crate) fn file_mappings(&self) -> Option<ReadMappings> {
        let mappings = self.map.file_mappings()?;
        Some(Box::new(move |pid| mappings.of(pid)))
    }

    /// The gear in use.
    pub(crate) const fn gear(&self) -> Gear {
        self.map.gear()
    }

    /// Sets the limit that processes are near to.
    pub(crate) fn set_limit(&mut self, limit: Bytes) {
        self.gears.set_limit(limit);
    }

    /// Whether a crossing is worth a look at its process: if that is near its limit, the exact gear is taken or held.
    pub(crate) fn asks_who_is_near(&self, now: Instant) -> bool {
        self.map.has_two_gears().is_ok() && self.gears.asks_who_is_near(now)
    }

    /// Takes the exact gear if a process `is_near` its limit, and the calm one again some time after that. Returns the
    /// new gear if it changed; an error if the kernel refused to attach the program, with the gear as before.
    pub(crate) fn shift(&mut self, is_near: bool, now: Instant) -> Option<io::Result<Gear>> {
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

    /// The reason why mappings cannot be read although this kernel can show them.
    pub(crate) fn no_mappings(&self) -> Option<String> {
        self.map.no_mappings().map(str::to_owned)
    }

    /// The reason why the map is not pinned, if a pin was requested.
    pub(crate) fn unpinned(&self) -> Option<String> {
        self.map.unpinned().map(ToString::to_string)
    }

    /// Every process in the map.
    pub(crate) fn readings(&mut self) -> io::Result<Vec<Reading>> {
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
    pub(crate) fn overflowed(&mut self) -> io::Result<bool> {
        let counters = self.map.counters()?;
        let refused = counters.insert_full + counters.insert_failed;
        Ok(std::mem::replace(&mut self.refused, refused) != refused)
    }

    /// Usage of the map at the last reading.
    pub(crate) const fn fill(&self) -> MapUsage {
        MapUsage { entries: self.entries, capacity: self.capacity }
    }

    /// Events and entries lost since the start; zero if the counters cannot be read.
    pub(crate) fn lost(&self) -> Dropped {
        let counters = self.map.counters().unwrap_or_default();
        let map_entries = counters.insert_full + counters.insert_failed;
        Dropped { log_events: 0, crossings: counters.ring_full, map_entries }
    }

    /// Figures for the metrics, with the number of entries at the last reading; `None` if the counters cannot be read.
    pub(crate) fn figures(&self) -> Option<MapFigures> {
        let counters = self.map.counters().ok()?;
        Some(MapFigures {
            entries: self.entries as u64,
            capacity: u64::from(self.capacity),
            refused: counters.insert_full + counters.insert_failed,
            lost: counters.ring_full,
        })
    }

    /// One process, if it is in the map.
    pub(crate) fn reading(&self, pid: Pid) -> Option<Reading> {
        // A failed lookup counts as no entry, because the caller has /proc's figure.
        let entry = self.map.get(pid).ok()??;
        Some(self.scale.reading(pid, &entry))
    }

    /// Memory of a process when it was forked, or the least since; `None` if it has called exec, or its fork was not seen.
    pub(crate) fn forked_with(&self, process: ProcessId) -> Option<Bytes> {
        self.forked(process).map(|entry| self.scale.bytes(entry.inherited_pages))
    }

    /// The same, if the process that forked it still has that memory, too: it still runs and has not called exec.
    pub(crate) fn inherited(&self, process: ProcessId) -> Option<Inherited> {
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

    pub(crate) fn remove(&mut self, pid: Pid) -> io::Result<()> {
        self.map.remove(pid)
    }

    pub(crate) fn reseed(&mut self) -> io::Result<()> {
        self.map.refresh()
    }

    /// Maximum by which its readings may be too low.
    pub(crate) const fn error(&self) -> Bytes {
        self.scale.error
    }

    /// Readable when a process crossed its level, or when a process ended that had crossed one.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.map.wake_fd()
    }

    /// The next event from the kernel.
    pub(crate) fn event(&mut self) -> Option<KernelEvent> {
        self.events.next(|| self.map.events().find_map(|event| self.scale.event(&event)))
    }

    /// The next event that is no crossing. The crossings before it are returned by [`Kernel::event`] later.
    pub(crate) fn event_but_crossing(&mut self) -> Option<KernelEvent> {
        self.events.next_but_crossings(|| self.map.events().find_map(|event| self.scale.event(&event)))
    }

    /// Whether an event did not fit into the ring since the last call. True also if the counter cannot be read.
    pub(crate) fn lost_events(&mut self) -> bool {
        self.map.counters().map_or(true, |counters| {
            std::mem::replace(&mut self.lost, counters.ring_full) != counters.ring_full
        })
    }

    /// Sets the level of every process without one of its own. With none, such a process never wakes memmon.
    pub(crate) fn set_default_level(&mut self, level: Option<Bytes>) -> io::Result<()> {
        self.map.set_default_wake_level(self.pages(level))
    }

    /// Sets the level of one process. Returns its resident memory after that; `None` if it is not in the map.
    pub(crate) fn set_level(
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
    pub(crate) fn log_fd(&self) -> BorrowedFd<'_> {
        self.map.log_fd()
    }

    pub(crate) fn forward_log(&mut self) {
        self.map.forward_log();
    }
}

/// Room in the kernel map for `processes` that run now, and for more, at most for all pids.
fn default_capacity(processes: usize, pid_max: Option<u32>) -> u32 {
    let (least, most) = DEFAULT_CAPACITIES;
    let wanted = processes.saturating_mul(ROOM).checked_next_power_of_two();
    let wanted = wanted.and_then(|wanted| u32::try_from(wanted).ok()).unwrap_or(most);
    wanted.clamp(least, most).min(pid_max.unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_has_room_for_four_times_as_many_processes_and_is_no_larger_than_pids() {
        for (processes, pid_max, capacity) in [
            (0, None, 8192),
            (2048, Some(4_194_304), 8192),
            (2049, Some(4_194_304), 16_384),
            (9000, Some(32_768), 32_768),
            (30_000, Some(4_194_304), 65_536),
            (usize::MAX, None, 65_536),
            (100, Some(301), 301),
        ] {
            assert_eq!(default_capacity(processes, pid_max), capacity, "{processes} of {pid_max:?}");
        }
    }
}
