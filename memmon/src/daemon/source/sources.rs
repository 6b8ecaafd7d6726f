//! The source of readings: the kernel map where there is one, /proc otherwise, and /proc in any case for a close look.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::daemon::source::kernel_map::Kernel;
use crate::{
    model::{Bytes, Pid, Process, ProcessId, Reading, Source, StartTime, Survey, SystemMemory, Unconfirmed},
    observe::{
        merge::merge,
        procfs::{Accuracy, ProcRoot, Waiting},
        support::Support,
    },
    status::{Dropped, MapUsage},
};

/// How long until the kernel map is held against a whole pass over /proc again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Where readings come from.
pub(in crate::daemon) struct Sources {
    proc: ProcRoot,
    accuracy: Accuracy,
    kernel: Option<Kernel>,
    /// Processes that the map cannot hold (their mm has no owner, or it is full): read from /proc in every scan.
    unmapped: Vec<Pid>,
    /// When the last sweep was, and how long it holds; none: the next scan is one.
    swept: Option<(Instant, Duration)>,
}

/// What the slow sweep found, and looked at twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Defects {
    /// Processes with memory that were not in the map, and are now.
    pub(in crate::daemon) missed: usize,
    /// Entries without a process.
    pub(in crate::daemon) stale: usize,
}

/// One survey, and what was noticed while it was made.
pub(in crate::daemon) struct Look {
    pub(in crate::daemon) survey: Survey,
    /// The map had no room for a process: this survey, and those until it has, include a pass over /proc.
    pub(in crate::daemon) map_full: bool,
    pub(in crate::daemon) defects: Defects,
}

impl Sources {
    pub(in crate::daemon) fn new(support: &Support, kernel: Option<Kernel>) -> anyhow::Result<Self> {
        let proc = ProcRoot::real().context("memmon cannot work without /proc")?;
        Ok(Self { proc, accuracy: support.accuracy(), kernel, unmapped: Vec::new(), swept: None })
    }

    pub(in crate::daemon) const fn source(&self) -> Source {
        if self.kernel.is_some() { Source::Ebpf } else { Source::Proc }
    }

    pub(in crate::daemon) const fn kernel(&mut self) -> Option<&mut Kernel> {
        self.kernel.as_mut()
    }

    pub(in crate::daemon) const fn accuracy(&self) -> Accuracy {
        self.accuracy
    }

    /// What the kernel map has right now; none where there is no map, or it cannot be read.
    pub(in crate::daemon) fn kernel_survey(&mut self) -> Option<(SystemMemory, Vec<Reading>)> {
        let memory = self.proc.memory().ok()?;
        Some((memory, self.kernel.as_mut()?.readings().ok()?))
    }

    /// How full the kernel map is, and what it lost so far.
    pub(in crate::daemon) fn map_state(&self) -> (Option<MapUsage>, Dropped) {
        match &self.kernel {
            Some(kernel) => (Some(kernel.fill()), kernel.lost()),
            None => (None, Dropped::default()),
        }
    }

    pub(in crate::daemon) fn memory(&self) -> io::Result<SystemMemory> {
        self.proc.memory()
    }

    /// Every process that has memory, on the cheap way.
    pub(in crate::daemon) fn survey(&mut self, now: Instant) -> io::Result<Look> {
        let Some(kernel) = &mut self.kernel else {
            let survey = self.proc.survey(&self.accuracy)?;
            return Ok(Look { survey, map_full: false, defects: Defects::default() });
        };
        let memory = self.proc.memory()?;
        let mut readings = kernel.readings()?;
        let map_full = kernel.overflowed()?;
        let mut defects = Defects::default();
        let due = self.swept.is_none_or(|(swept, pause)| now.saturating_duration_since(swept) >= pause);
        if map_full || due {
            let merged = merge(&readings, &self.proc.survey(&self.accuracy)?.readings);
            readings = merged.readings;
            // Neither is worth the readings of a scan: an entry without a process is found out by a close look, and who
            // cannot be added is read from /proc.
            for pid in merged.stale {
                if is_stale(&self.proc, kernel, pid) {
                    let _ = kernel.remove(pid);
                    defects.stale += 1;
                }
            }
            let mut missed = merged.missed;
            missed.retain(|pid| is_missed(&self.proc, kernel, *pid));
            let _ = kernel.reseed();
            // Who could be added had been missed. The others the map cannot hold, which is no defect of its bookkeeping.
            let (added, unmapped): (Vec<_>, _) =
                missed.into_iter().partition(|pid| kernel.reading(*pid).is_some());
            if !map_full {
                defects.missed = added.iter().filter(|pid| !self.unmapped.contains(pid)).count();
            }
            self.unmapped = unmapped;
            self.swept = Some((now, pause(self.swept.map(|(_, pause)| pause), defects)));
        } else {
            // Who is in the map by now, as itself or as the next process of that number, is read once.
            self.unmapped.retain(|pid| kernel.reading(*pid).is_none());
            readings.extend(self.proc.readings(&self.unmapped, &self.accuracy));
        }
        Ok(Look { survey: Survey { memory, readings }, map_full, defects })
    }

    /// Makes the next scan a sweep.
    pub(in crate::daemon) const fn sweep_next(&mut self) {
        self.swept = None;
    }

    /// How far the source's readings may be below the truth.
    pub(in crate::daemon) fn error(&self) -> Bytes {
        self.kernel.as_ref().map_or(Bytes::ZERO, Kernel::error)
    }

    /// One process closely, with its RSS as exact as a decision about `limit` needs it.
    pub(in crate::daemon) fn confirm(
        &self,
        pid: Pid,
        start: Option<StartTime>,
        limit: Bytes,
    ) -> Result<Process, Unconfirmed> {
        self.proc.confirm(pid, start, limit, &self.accuracy)
    }

    /// What the kernel map has of a process now; none where there is no map, or it is not in it.
    pub(in crate::daemon) fn again(&self, process: ProcessId) -> Option<Reading> {
        let reading = self.kernel.as_ref()?.reading(process.pid)?;
        (reading.start == Some(process.start)).then_some(reading)
    }

    pub(in crate::daemon) fn waiting(&self, pid: Pid) -> Result<Waiting, Unconfirmed> {
        self.proc.waiting(pid)
    }
}

/// How long a sweep holds that found `defects`: twice as long as the `last` one if there were none.
fn pause(last: Option<Duration>, defects: Defects) -> Duration {
    let last = last.filter(|_| defects == Defects::default());
    last.map_or(FIRST_PAUSE, |last| LONGEST_PAUSE.min(last * 2))
}

/// A process that only /proc had is missed by the map if /proc has it now with memory of its own (a vfork child borrows
/// its parent's until it calls exec), and the map lacks it after that. Who ends meanwhile cannot be added.
fn is_missed(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed.is_ok_and(|process| process.rss > Bytes::ZERO) && kernel.reading(pid).is_none()
}

/// An entry that only the map had is stale if /proc has no such process now and the map still does.
fn is_stale(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed == Err(Unconfirmed::Gone) && kernel.reading(pid).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_become_rare_while_nothing_is_amiss() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let (fine, amiss) = (Defects::default(), Defects { missed: 1, stale: 0 });
        assert_eq!(pause(None, fine), minutes(10));
        assert_eq!(pause(Some(minutes(10)), fine), minutes(20));
        assert_eq!(pause(Some(minutes(40)), fine), minutes(60));
        assert_eq!(pause(Some(minutes(60)), fine), minutes(60));
        assert_eq!(pause(Some(minutes(60)), amiss), minutes(10));
    }
}
