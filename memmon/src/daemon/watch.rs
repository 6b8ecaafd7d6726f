//! The source of readings: the kernel map where there is one, /proc otherwise, and /proc in any case for a close look.

use std::io;

use anyhow::Context as _;

use super::kernel::Kernel;
use crate::{
    model::{Bytes, Pid, Process, ProcessId, Reading, Source, StartTime, Survey, SystemMemory, Unconfirmed},
    observe::{
        merge::merge,
        procfs::{Accuracy, ProcRoot, Waiting},
        support::Support,
    },
};

/// How often the kernel map is held against a whole pass over /proc: every so many scans.
const SWEEP_EVERY: u32 = 20;

/// Where readings come from.
pub(super) struct Watch {
    proc: ProcRoot,
    accuracy: Accuracy,
    kernel: Option<Kernel>,
    /// Processes that the map cannot hold (their mm has no owner): read from /proc in every scan.
    unmapped: Vec<Pid>,
    scans: u32,
}

/// What the slow sweep found, and looked at twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Defects {
    /// Processes with memory that were not in the map.
    pub(super) missed: usize,
    /// Entries without a process.
    pub(super) stale: usize,
}

/// One survey, and what was noticed while it was made.
pub(super) struct Look {
    pub(super) survey: Survey,
    /// The map had no room for a process: this survey, and those until it has, include a pass over /proc.
    pub(super) map_full: bool,
    pub(super) defects: Defects,
}

impl Watch {
    pub(super) fn new(support: &Support, kernel: Option<Kernel>) -> anyhow::Result<Self> {
        let proc = ProcRoot::real().context("memmon cannot work without /proc")?;
        Ok(Self { proc, accuracy: support.accuracy(), kernel, unmapped: Vec::new(), scans: 0 })
    }

    pub(super) const fn source(&self) -> Source {
        if self.kernel.is_some() { Source::Ebpf } else { Source::Proc }
    }

    pub(super) const fn kernel(&mut self) -> Option<&mut Kernel> {
        self.kernel.as_mut()
    }

    pub(super) fn memory(&self) -> io::Result<SystemMemory> {
        self.proc.memory()
    }

    /// Every process that has memory, on the cheap way.
    pub(super) fn survey(&mut self) -> io::Result<Look> {
        let Some(kernel) = &mut self.kernel else {
            let survey = self.proc.survey(&self.accuracy)?;
            return Ok(Look { survey, map_full: false, defects: Defects::default() });
        };
        let memory = self.proc.memory()?;
        let mut readings = kernel.readings()?;
        let map_full = kernel.overflowed()?;
        let mut defects = Defects::default();
        if map_full || self.scans.is_multiple_of(SWEEP_EVERY) {
            let merged = merge(&readings, &self.proc.survey(&self.accuracy)?.readings);
            readings = merged.readings;
            for pid in merged.stale {
                if is_stale(&self.proc, kernel, pid) {
                    kernel.remove(pid)?;
                    defects.stale += 1;
                }
            }
            kernel.reseed()?;
            let mut missed = merged.missed;
            missed.retain(|pid| is_missed(&self.proc, kernel, *pid));
            // What a full map has no room for is no defect of its bookkeeping, and is in every survey until it has.
            if !map_full {
                defects.missed = missed.iter().filter(|pid| !self.unmapped.contains(pid)).count();
                self.unmapped = missed;
            }
        } else {
            let close = |pid: &Pid| self.proc.confirm(*pid, None, Bytes::MAX, &self.accuracy).ok();
            readings.extend(self.unmapped.iter().filter_map(close).map(|process| Reading {
                pid: process.id.pid,
                start: Some(process.id.start),
                rss: process.rss,
                error: process.error,
            }));
        }
        self.scans = self.scans.wrapping_add(1);
        Ok(Look { survey: Survey { memory, readings }, map_full, defects })
    }

    /// How far the source's readings may be below the truth.
    pub(super) fn error(&self) -> Bytes {
        self.kernel.as_ref().map_or(Bytes::ZERO, Kernel::error)
    }

    /// One process closely, with its RSS as exact as a decision about `limit` needs it.
    pub(super) fn confirm(
        &self,
        pid: Pid,
        start: Option<StartTime>,
        limit: Bytes,
    ) -> Result<Process, Unconfirmed> {
        self.proc.confirm(pid, start, limit, &self.accuracy)
    }

    /// What the kernel map has of a process now; none where there is no map, or it is not in it.
    pub(super) fn again(&self, process: ProcessId) -> Option<Reading> {
        let reading = self.kernel.as_ref()?.reading(process.pid)?;
        (reading.start == Some(process.start)).then_some(reading)
    }

    pub(super) fn waiting(&self, pid: Pid) -> Result<Waiting, Unconfirmed> {
        self.proc.waiting(pid)
    }
}

/// A process that only /proc had is missed by the map if the map still lacks it now, and /proc still has it with
/// memory of its own (a vfork child borrows its parent's until it calls exec).
fn is_missed(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed.is_ok_and(|process| process.rss > Bytes::ZERO) && kernel.reading(pid).is_none()
}

/// An entry that only the map had is stale if /proc has no such process now and the map still does.
fn is_stale(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed == Err(Unconfirmed::Gone) && kernel.reading(pid).is_some()
}
