//! The sweep: once in a while the kernel map is compared with a whole pass over /proc, and repaired.
//!
//! The first one is part of the first scan. Later the pass runs on a thread of its own, with pauses, and a scan after it
//! compares: with 8,000 processes a pass takes tens of milliseconds or more, in which the event loop could handle no crossing,
//! and the unit's `CPUQuota=` would stop all of memmon for the rest of a second.

use std::{
    collections::HashSet,
    io,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::daemon::source::kernel_map::Kernel;
use crate::model::{Bytes, Pid, Unconfirmed};
use crate::observe::procfs::{Accuracy, ProcRoot};

/// Time until the next sweep: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The thread rests for so long after so many processes, which take it up to 1.5 ms: it needs less than 8 % of a processor.
const REST: Duration = Duration::from_millis(20);
const BETWEEN_RESTS: usize = 50;

/// Defects of the map that a sweep found and confirmed by a second look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defects {
    /// Number of processes with memory that were missing from the map and have been added.
    pub(crate) missed: usize,
    /// Number of entries without a process.
    pub(crate) stale: usize,
}

/// When sweeps are due, and the pass of the one that is under way.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// Time of the last sweep, and the pause until the next.
    last: Option<(Instant, Duration)>,
    is_requested: bool,
    pass: Option<JoinHandle<io::Result<Pass>>>,
}

/// A pass over /proc, and the entries of the map before it.
#[derive(Debug)]
pub(super) struct Pass {
    in_map: HashSet<Pid>,
    in_proc: HashSet<Pid>,
}

impl Sweeps {
    /// Whether the next scan must make the pass itself.
    pub(super) const fn is_first(&self) -> bool {
        self.last.is_none()
    }

    /// Makes a sweep due.
    pub(super) const fn request(&mut self) {
        self.is_requested = true;
    }

    /// The pass that has ended since the last call, if one has. If it failed, the next sweep is as late as after one.
    pub(super) fn ended(&mut self) -> Option<io::Result<Pass>> {
        let pass = self.pass.take_if(|pass| pass.is_finished())?;
        Some(pass.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))))
    }

    /// Starts a pass if a sweep is due and none is under way. `in_map` are the entries of the map.
    ///
    /// # Errors
    /// There is no thread for it. The next sweep is as late as after one.
    pub(super) fn start_if_due(&mut self, in_map: impl Iterator<Item = Pid>, now: Instant) -> io::Result<()> {
        let is_due = |(at, pause)| now.saturating_duration_since(at) >= pause;
        if self.pass.is_some() || !(self.is_requested || self.last.is_some_and(is_due)) {
            return Ok(());
        }
        self.is_requested = false;
        self.last = self.last.map(|(_, pause)| (now, pause));
        let in_map = in_map.collect();
        let work = || {
            let rest = || thread::sleep(REST);
            Ok(Pass {
                in_map,
                in_proc: ProcRoot::real()?.pids_with_memory(BETWEEN_RESTS, rest)?.into_iter().collect(),
            })
        };
        self.pass = Some(thread::Builder::new().name("sweep".to_owned()).stack_size(128 << 10).spawn(work)?);
        Ok(())
    }

    /// Notes a sweep that found `defects`.
    pub(super) fn completed(&mut self, defects: Defects, now: Instant) {
        self.last = Some((now, pause(self.last.map(|(_, pause)| pause), defects)));
    }
}

impl Pass {
    /// Processes that only /proc had, and entries that only the map had before the pass and still has; `now` are its entries
    /// after the pass.
    pub(super) fn suspects(&self, now: impl Iterator<Item = Pid>) -> (Vec<Pid>, Vec<Pid>) {
        let now: HashSet<Pid> = now.collect();
        let missed = self.in_proc.difference(&now).copied().collect();
        let stale = self.in_map.difference(&self.in_proc).filter(|pid| now.contains(pid)).copied().collect();
        (missed, stale)
    }
}

/// Processes that were missing from the map, and what became of them and of entries without a process.
pub(super) struct Repaired {
    pub(super) added: Vec<Pid>,
    /// Those that the map cannot hold, sorted.
    pub(super) unmapped: Vec<Pid>,
    stale: usize,
}

impl Repaired {
    /// The defects among them: not the processes that were `known` to be missing.
    pub(super) fn defects(&self, known: &[Pid]) -> Defects {
        let missed = self.added.iter().filter(|pid| !known.contains(pid)).count();
        Defects { missed, stale: self.stale }
    }
}

/// Adds processes that the map `missed`, and removes `stale` entries, after another look at each.
pub(super) fn repair(
    proc: &ProcRoot,
    kernel: &mut Kernel,
    mut missed: Vec<Pid>,
    mut stale: Vec<Pid>,
) -> Repaired {
    // An error of either does not fail the scan: a close look detects an entry without a process, and a process that cannot be
    // added is read from /proc.
    stale.retain(|pid| is_stale(proc, kernel, *pid));
    for pid in &stale {
        let _ = kernel.remove(*pid);
    }
    missed.retain(|pid| is_missed(proc, kernel, *pid));
    let _ = kernel.reseed();
    // The memory of an entry that was removed is in its sum until then.
    let _ = kernel.recount_sums();
    let (added, mut unmapped): (Vec<_>, Vec<_>) =
        missed.into_iter().partition(|pid| kernel.reading(*pid).is_some());
    unmapped.sort_unstable();
    unmapped.dedup();
    Repaired { added, unmapped, stale: stale.len() }
}

/// The pause after a sweep that found `defects`: twice the `last` one if there were none.
fn pause(last: Option<Duration>, defects: Defects) -> Duration {
    let last = last.filter(|_| defects == Defects::default());
    last.map_or(FIRST_PAUSE, |last| LONGEST_PAUSE.min(last * 2))
}

/// Whether the map misses a process that only /proc had: /proc has it now with memory of its own (a vfork child borrows
/// its parent's until it calls exec), and the map lacks it after that.
fn is_missed(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed.is_ok_and(|process| process.rss > Bytes::ZERO) && kernel.reading(pid).is_none()
}

/// Whether an entry that only the map had is stale: /proc has no such process now, and the map still has the entry.
fn is_stale(proc: &ProcRoot, kernel: &Kernel, pid: Pid) -> bool {
    let confirmed = proc.confirm(pid, None, Bytes::MAX, &Accuracy::StatmExact);
    confirmed == Err(Unconfirmed::Gone) && kernel.reading(pid).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_starts_or_ends_during_the_pass_is_no_suspect() {
        let pids = |pids: &[u32]| pids.iter().map(|pid| Pid(*pid)).collect::<HashSet<_>>();
        // 1 is everywhere, 2 only in /proc, 3 only in the map. 4 started during the pass, 5 ended before the pass met it.
        let pass = Pass { in_map: pids(&[1, 3, 5]), in_proc: pids(&[1, 2]) };
        assert_eq!(pass.suspects([1, 3, 4].map(Pid).into_iter()), (vec![Pid(2)], vec![Pid(3)]));
    }

    #[test]
    fn a_pass_runs_beside_the_scans_and_one_at_a_time() {
        let mut sweeps = Sweeps::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        sweeps.completed(Defects::default(), start);
        sweeps.start_if_due(std::iter::empty(), later(599)).unwrap();
        assert!(sweeps.pass.is_none());
        sweeps.start_if_due(std::iter::empty(), later(600)).unwrap();
        sweeps.request();
        sweeps.start_if_due(std::iter::empty(), later(600)).unwrap();
        let ended = || {
            thread::sleep(Duration::from_millis(1));
            sweeps.ended()
        };
        // A minute, of which a machine with few processes takes milliseconds.
        let pass = std::iter::repeat_with(ended).take(60_000).flatten().next().unwrap().unwrap();
        assert!(pass.in_proc.contains(&Pid(std::process::id())));
        // The one that was requested meanwhile.
        sweeps.start_if_due(std::iter::empty(), later(601)).unwrap();
        assert!(sweeps.pass.is_some() && !sweeps.is_requested);
    }

    #[test]
    fn a_pass_that_fails_says_why() {
        let failed = || Err(io::ErrorKind::OutOfMemory.into());
        let pass = thread::spawn(failed);
        while !pass.is_finished() {
            thread::yield_now();
        }
        let mut sweeps = Sweeps { pass: Some(pass), ..Sweeps::default() };
        assert_eq!(sweeps.ended().unwrap().unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        assert!(sweeps.ended().is_none());
    }

    #[test]
    fn sweeps_become_rare_while_there_are_no_defects() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let (none, some) = (Defects::default(), Defects { missed: 1, stale: 0 });
        assert_eq!(pause(None, none), minutes(10));
        assert_eq!(pause(Some(minutes(10)), none), minutes(20));
        assert_eq!(pause(Some(minutes(40)), none), minutes(60));
        assert_eq!(pause(Some(minutes(60)), none), minutes(60));
        assert_eq!(pause(Some(minutes(60)), some), minutes(10));
    }
}
