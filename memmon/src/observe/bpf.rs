//! The kernel map: what the BPF programs count, and the wake levels that they are told.
//!
//! The only room that knows aya. [`KernelMap::attach`] loads the embedded programs and seeds the map with what runs
//! already; from then on the kernel keeps it. Dropping it detaches the programs and removes the pin.

#![expect(unsafe_code, reason = "marks the types that cross to the kernel as plain data")]

mod batch;
mod load;
mod pin;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf},
};
use aya_log::EbpfLogger;
use log::Log;
use memmon_common::{Config, Counters, Event, Offsets, ProcessRss, WakeLevel};

use super::decode;
use crate::model::{Pid, ProcessId, StartTime};

pub use load::AttachError;
pub use pin::{PinError, default_dir as default_pin_dir};

/// The attached programs and their maps.
pub struct KernelMap {
    // Dropped in this order: the programs first, the pin last, as its lock is what admits the next daemon.
    ebpf: Ebpf,
    processes: HashMap<MapData, u32, Plain<ProcessRss>>,
    processes_fd: OwnedFd,
    levels: HashMap<MapData, u32, Plain<WakeLevel>>,
    config: Array<MapData, Plain<Config>>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    events: RingBuf<MapData>,
    log: EbpfLogger<&'static dyn Log>,
    current: Config,
    scratch: batch::Scratch,
    pin: Result<Option<pin::Pin>, PinError>,
}

/// How to attach.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes that the map has room for, at least 1. Each takes about 260 bytes of kernel memory from the start.
    pub capacity: u32,
    /// Where to pin the map while attached (see [`default_pin_dir`]); none: nowhere, and no lock against a second daemon.
    pub pin_dir: Option<PathBuf>,
}

impl KernelMap {
    /// Loads and attaches the programs, and seeds the map with the processes that run already.
    ///
    /// Nothing wakes anyone before [`Self::set_default_wake_level`]. What the programs have to say goes to the `log`
    /// crate's logger that is set when this is called.
    pub fn attach(offsets: &Offsets, options: &Options) -> Result<Self, AttachError> {
        load::load(offsets, options)
    }

    /// Shows every process in the map to `each`.
    ///
    /// Processes that come and go meanwhile may be there or not; none is there twice. Some ten microseconds per hundred.
    pub fn read(&mut self, mut each: impl FnMut(Pid, &ProcessRss)) -> io::Result<()> {
        batch::read(self.processes_fd.as_fd(), &mut self.scratch, |tgid, process| each(Pid(tgid), process))
    }

    /// One process, if it is in the map.
    pub fn get(&self, pid: Pid) -> io::Result<Option<ProcessRss>> {
        match self.processes.get(&pid.0, 0) {
            Ok(Plain(process)) => Ok(Some(process)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(as_io(error)),
        }
    }

    /// What happened in the programs so far, all CPUs together.
    pub fn counters(&self) -> io::Result<Counters> {
        let per_cpu = self.counters.get(&0, 0).map_err(as_io)?;
        Ok(per_cpu.iter().fold(Counters::default(), |sum, Plain(cpu)| decode::sum(&sum, cpu)))
    }

    /// Sets the level, in pages, for every process without one of its own, and arms it for all of them.
    pub fn set_default_wake_level(&mut self, wake_at: u64) -> io::Result<()> {
        let generation = self.current.generation + 1;
        // Two writes, as the kernel copies word by word: nobody may see the new generation with the old level.
        self.write_config(Config {
            default_wake_at: wake_at,
            default_generation: generation,
            ..self.current
        })?;
        self.write_config(Config { generation, ..self.current })
    }

    /// Sets the level of one process in pages ([`NEVER`](memmon_common::NEVER): it wakes nobody), and arms it, also if the
    /// level is the same.
    ///
    /// Holds until the process exits, which is told of then, or calls exec. Gives what it has resident after the level was
    /// set, in pages: who is above the level and does not move makes no event. None if this process is not in the map:
    /// nothing was set.
    pub fn set_wake_level(&mut self, id: ProcessId, wake_at: u64) -> io::Result<Option<u64>> {
        let is_it = |process: &ProcessRss| StartTime::from_boottime_ns(process.start_boottime) == id.start;
        let Some(process) = self.get(id.pid)?.filter(is_it) else { return Ok(None) };
        let generation = self.current.generation + 1;
        let level = WakeLevel { start_boottime: process.start_boottime, wake_at, generation };
        self.levels.insert(id.pid.0, Plain(level), 0).map_err(as_io)?;
        self.write_config(Config { generation, ..self.current })?;
        // Exit removes the process before its level: who is still there now will have both removed.
        let now = self.get(id.pid)?.filter(is_it);
        if now.is_none() {
            ignore_missing(self.levels.remove(&id.pid.0))?;
        }
        Ok(now.map(|process| process.rss_pages()))
    }

    /// Why the map is not pinned, though it was to be.
    pub fn unpinned(&self) -> Option<&PinError> {
        self.pin.as_ref().err()
    }

    /// Readable when a process reached its wake level: then take [`Self::events`]. Poll it, never read it.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Takes the events off the ring. The same crossing may, rarely, come twice: two threads may cross at once.
    ///
    /// A process that was told of is told of again when its level is set anew, or when it fell an eighth below it.
    pub fn events(&mut self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.events.next().and_then(|event| decode::event(&event)))
    }

    /// Readable when a program has something to say: then call [`Self::forward_log`]. Poll it, never read it.
    pub fn log_fd(&self) -> BorrowedFd<'_> {
        self.log.as_fd()
    }

    /// Hands what the programs said to the `log` crate's logger.
    pub fn forward_log(&mut self) {
        self.log.flush();
    }

    /// Removes the entry of a process that is gone, which the exit hook missed. Gone already is fine.
    pub fn remove(&mut self, pid: Pid) -> io::Result<()> {
        ignore_missing(self.processes.remove(&pid.0))?;
        ignore_missing(self.levels.remove(&pid.0))
    }

    /// Adds the processes that are not in the map; leaves those alone that are.
    pub fn reseed(&mut self) -> io::Result<()> {
        load::seed(&mut self.ebpf)
    }

    fn write_config(&mut self, config: Config) -> io::Result<()> {
        self.config.set(0, Plain(config), 0).map_err(as_io)?;
        self.current = config;
        Ok(())
    }
}

/// What a map holds, as it crosses to the kernel.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Plain<T>(T);

// SAFETY: repr(C) structs of integers, whose sizes memmon-common asserts: no padding, every bit pattern valid.
unsafe impl Pod for Plain<ProcessRss> {}
// SAFETY: as above.
unsafe impl Pod for Plain<WakeLevel> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Config> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Counters> {}
// SAFETY: as above.
unsafe impl Pod for Plain<Offsets> {}

fn ignore_missing(outcome: Result<(), MapError>) -> io::Result<()> {
    match outcome {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(as_io),
    }
}

fn as_io(error: MapError) -> io::Error {
    match error {
        // Its own text leaves out what the kernel said.
        MapError::SyscallError(error) => {
            io::Error::new(error.io_error.kind(), format!("{}: {}", error.call, error.io_error))
        }
        error => io::Error::other(error),
    }
}
