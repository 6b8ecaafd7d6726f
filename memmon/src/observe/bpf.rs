//! The kernel map: the counters that the BPF programs keep, and the wake levels that memmon sets.
//!
//! Only this module imports aya. [`KernelMap::attach`] loads the embedded programs and adds the processes that already
//! run to the map; from then on the kernel keeps it up to date. Dropping it detaches the programs and removes the pin.

mod batch;
mod iterator;
mod load;
mod mappings;
mod pin;
mod plain;
mod sums;
mod survey;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::tp_btf::BtfTracePointLink,
};
use aya_log::EbpfLogger;
use log::Log;
use memmon_common::{Config, Counters, Event, Offsets, ProcessRss, Sum, WakeLevel, program};
use plain::{Plain, as_io, ignore_missing};

use super::decode;
use crate::model::{Gear, KernelSum, Pid, ProcessId, StartTime};

pub use load::AttachError;
pub use mappings::FileMappings;
pub use pin::{PinError, default_dir as default_pin_dir};
pub use sums::KeptSums;

/// The attached programs and their maps.
pub struct KernelMap {
    // Dropped in this order: the programs first and the pin last, because its lock admits the next daemon.
    ebpf: Ebpf,
    gears: Gears,
    processes: HashMap<MapData, u32, Plain<ProcessRss>>,
    processes_fd: OwnedFd,
    levels: HashMap<MapData, u32, Plain<WakeLevel>>,
    config: Array<MapData, Plain<Config>>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    sums: sums::Sums,
    events: RingBuf<MapData>,
    log: EbpfLogger<&'static dyn Log>,
    current: Config,
    /// The floor of `rss_stat` by the levels of processes, and whether a sum is so near its limit that there is none.
    process_floor: u64,
    sum_near: bool,
    /// The error of loading the program that reads mappings.
    no_mappings: Option<String>,
    scratch: batch::Scratch,
    pin: Result<Option<pin::Pin>, PinError>,
}

/// The gears that there are, and the one that is in use.
enum Gears {
    /// `rss_stat` is always attached, with the reason if ticks were asked for.
    One(Option<String>),
    /// Ticks are always watched, `rss_stat` is attached while there is a link.
    Two {
        /// Keeps the program attached that ticks run.
        _tick: BtfTracePointLink,
        /// Ticks update only processes that run, and `rss_stat` only those that are near a level: this updates all.
        survey: survey::Survey,
        exact: Option<BtfTracePointLink>,
    },
}

/// Options for [`KernelMap::attach`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Capacity of the map in processes, at least 1. Each takes about 260 bytes of kernel memory from the start.
    pub capacity: u32,
    /// Directory to pin the map in while attached (see [`default_pin_dir`]). If none, the map is not pinned, and there is
    /// no lock against a second daemon.
    pub pin_dir: Option<PathBuf>,
    /// Whether to start in [`Gear::Calm`], if ticks are seen on this machine.
    pub two_gears: bool,
}

impl KernelMap {
    /// Loads and attaches the programs, and adds the processes that already run to the map.
    ///
    /// No process wakes memmon before [`Self::set_default_wake_level`]. Log lines of the programs go to the `log` crate's
    /// logger that is set at the time of this call.
    pub fn attach(offsets: &Offsets, options: &Options) -> Result<Self, AttachError> {
        load::load(offsets, options)
    }

    /// Calls `each` for every process in the map, as it is now.
    ///
    /// A process that starts or exits meanwhile may be included or not; none is included twice.
    pub fn read(&mut self, mut each: impl FnMut(Pid, &ProcessRss)) -> io::Result<()> {
        let each = |tgid, process: &ProcessRss| each(Pid(tgid), process);
        match &mut self.gears {
            Gears::One(_) => batch::read(self.processes_fd.as_fd(), &mut self.scratch, each),
            Gears::Two { survey, .. } => survey.read(each),
        }
    }

    /// One process, if it is in the map.
    pub fn get(&self, pid: Pid) -> io::Result<Option<ProcessRss>> {
        match self.processes.get(&pid.0, 0) {
            Ok(Plain(process)) => Ok(Some(process)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(as_io(error)),
        }
    }

    /// The programs' counters so far, summed over all CPUs.
    pub fn counters(&self) -> io::Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).map_err(as_io)?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, Plain(cpu)| decode::sum(&sum, cpu)))
    }

    /// Sets the level, in pages, for every process without one of its own, and arms it for all of them.
    pub fn set_default_wake_level(&mut self, wake_at: u64) -> io::Result<()> {
        let generation = self.current.generation + 1;
        self.process_floor = self.floor_below(wake_at);
        // Two writes, because the kernel copies word by word: no program may see the new generation with the old level.
        self.write_config(Config {
            default_wake_at: wake_at,
            default_generation: generation,
            floor: self.floor(),
            ..self.current
        })?;
        self.write_config(Config { generation, ..self.current })
    }

    /// Sets the level of one process in pages ([`NEVER`](memmon_common::NEVER): it never wakes memmon), and arms it, even if
    /// the level is the same.
    ///
    /// The level holds until the process calls exec, or exits, which then makes an event. Returns the resident pages after
    /// the level was set, because a process that is already above its level and does not grow or shrink makes no event.
    /// Returns none, and sets nothing, if the process is not in the map.
    pub fn set_wake_level(&mut self, id: ProcessId, wake_at: u64) -> io::Result<Option<u64>> {
        let is_it = |process: &ProcessRss| StartTime::from_boottime_ns(process.start_boottime) == id.start;
        let Some(process) = self.get(id.pid)?.filter(is_it) else { return Ok(None) };
        let generation = self.current.generation + 1;
        let level = WakeLevel { start_boottime: process.start_boottime, wake_at, generation };
        self.levels.insert(id.pid.0, Plain(level), 0).map_err(as_io)?;
        self.process_floor = self.process_floor.min(self.floor_below(wake_at));
        self.write_config(Config { generation, floor: self.floor(), ..self.current })?;
        // Exit removes the process before its level: if the process is still in the map, its exit will remove both.
        let now = self.get(id.pid)?.filter(is_it);
        if now.is_none() {
            ignore_missing(self.levels.remove(&id.pid.0))?;
        }
        Ok(now.map(|process| process.rss_pages()))
    }

    /// Reads the mappings of single processes, from any thread; `None` if this kernel's mappings cannot be read.
    pub fn file_mappings(&self) -> Option<FileMappings> {
        load::mappings_program(&self.ebpf).ok().map(FileMappings)
    }

    /// The reason why mappings cannot be read although this kernel can show them.
    pub fn no_mappings(&self) -> Option<&str> {
        self.no_mappings.as_deref()
    }

    /// The reason why the map is not pinned, if a pin was requested.
    pub fn unpinned(&self) -> Option<&PinError> {
        self.pin.as_ref().err()
    }

    /// Readable when a process reached its wake level: then take [`Self::events`]. Poll it, never read it.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Takes the events off the ring. In rare cases the same crossing comes twice, because two threads may cross at once.
    ///
    /// A process makes a further event once its level is set again, or once it fell an eighth below its level.
    pub fn events(&mut self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.events.next().and_then(|event| decode::event(&event)))
    }

    /// Readable when a program logged something: then call [`Self::forward_log`]. Poll it, never read it.
    pub fn log_fd(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }

    /// Passes the programs' log lines to the `log` crate's logger.
    pub fn forward_log(&mut self) {
        self.log.flush();
    }

    /// Removes the entry of an exited process that the exit program missed. A missing entry is no error.
    pub fn remove(&mut self, pid: Pid) -> io::Result<()> {
        ignore_missing(self.processes.remove(&pid.0))?;
        ignore_missing(self.levels.remove(&pid.0))
    }

    /// Adds the processes that are missing from the map, and brings the others up to date.
    pub fn refresh(&mut self) -> io::Result<()> {
        load::refresh(&mut self.ebpf)
    }

    /// The gear in use.
    pub const fn gear(&self) -> Gear {
        match self.gears {
            Gears::Two { exact: None, .. } => Gear::Calm,
            Gears::One(_) | Gears::Two { exact: Some(_), .. } => Gear::Exact,
        }
    }

    /// Whether there are two gears; otherwise the reason, if they were asked for.
    pub fn has_two_gears(&self) -> Result<(), Option<&str>> {
        match &self.gears {
            Gears::One(why) => Err(why.as_deref()),
            Gears::Two { .. } => Ok(()),
        }
    }

    /// Changes the gear, if there are two. Attaching takes half a millisecond, and longer right after detaching, when it
    /// waits until no CPU can be in the program any more. Growth until then is in the map afterwards.
    pub fn shift(&mut self, gear: Gear) -> io::Result<()> {
        let Gears::Two { exact, .. } = &mut self.gears else { return Ok(()) };
        match gear {
            Gear::Calm => *exact = None,
            Gear::Exact if exact.is_some() => {}
            Gear::Exact => {
                *exact =
                    Some(load::attach_link(&mut self.ebpf, program::RSS_STAT).map_err(io::Error::other)?);
                self.read(|_, _| {})?;
            }
        }
        Ok(())
    }

    /// Keeps these sums from now on. They are complete when this returns.
    pub fn keep_sums(&mut self, kept: &KeptSums) -> io::Result<()> {
        self.sums.set_defaults(kept)?;
        if self.sums.kinds() == kept.kinds() { Ok(()) } else { self.count_sums(kept.kinds()) }
    }

    /// Counts all sums again, so that what was lost, or had no room, is in them.
    pub fn recount_sums(&mut self) -> io::Result<()> {
        match self.sums.kinds() {
            0 => Ok(()),
            kinds => self.count_sums(kinds),
        }
    }

    /// Whether each process in the table counts in its sums, and each process of the machine is in the table, as far as it
    /// is known.
    pub fn has_whole_sums(&self) -> io::Result<bool> {
        Ok(self.sums.kinds() != 0 && self.sums.is_whole(&self.counters()?))
    }

    /// The sum now; `None` if no process counts in it.
    pub fn sum(&self, sum: KernelSum) -> io::Result<Option<Sum>> {
        self.sums.get(sum)
    }

    /// Has each of these sums wake memmon at its level in pages, and all others at those of [`Self::keep_sums`].
    pub fn set_sum_levels(&mut self, levels: std::collections::HashMap<KernelSum, u64>) -> io::Result<()> {
        self.sums.set_levels(levels)
    }

    /// Whether a sum is near its limit: then no process is too small for `rss_stat` to see it.
    pub fn set_sum_near(&mut self, near: bool) -> io::Result<()> {
        self.sum_near = near;
        let floor = self.floor();
        if floor == self.current.floor { Ok(()) } else { self.write_config(Config { floor, ..self.current }) }
    }

    fn count_sums(&mut self, kinds: u32) -> io::Result<()> {
        let counters = self.counters()?;
        self.sums.begin(kinds, &counters)?;
        match self.gears {
            _ if kinds == 0 => Ok(()),
            Gears::One(_) => self.refresh(),
            Gears::Two { .. } => self.read(|_, _| {}),
        }
    }

    /// The floor of `rss_stat` for a level: as far below it as a process that falls and rises again must be seen to fall
    /// (an eighth), and as far again. The kernel frees at most 2 MiB between two events, so none falls past it unseen.
    fn floor_below(&self, level: u64) -> u64 {
        match self.gears {
            Gears::One(_) => 0,
            Gears::Two { .. } => level - level / 4,
        }
    }

    const fn floor(&self) -> u64 {
        if self.sum_near { 0 } else { self.process_floor }
    }

    fn write_config(&mut self, config: Config) -> io::Result<()> {
        self.config.set(0, Plain(config), 0).map_err(as_io)?;
        self.current = config;
        Ok(())
    }
}
