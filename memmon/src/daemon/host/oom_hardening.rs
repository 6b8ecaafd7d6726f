//! Prepares an enforcing memmon for a shortage of memory: its own memory is locked, its code has run once, and the
//! kernel's OOM killer chooses it last.
#![expect(unsafe_code, reason = "sched_setscheduler(2) has no wrapper here")]

use std::{fs, io, time::Instant};

use rustix::mm::{MlockAllFlags, mlockall};

use crate::config::Settings;
use crate::daemon::event_loop::Daemon;
use crate::daemon::startup;
use crate::enforce::{OpenedProcess, Victims};
use crate::model::{Breach, Bytes};
use crate::observe::procfs;
use crate::policy;
use crate::report::Event;

/// The kernel's OOM killer chooses nearly every other process first. -1000 would exempt memmon, which no process should
/// be.
const OOM_SCORE_ADJ: i32 = -900;

impl Daemon<'_> {
    /// Hardens memmon before it enforces, and reports each measure that failed. Does nothing in dry run.
    pub(in crate::daemon) fn harden(&mut self) {
        if self.settings.dry_run {
            return;
        }
        let missing = prepare(&self.settings);
        self.warm_up();
        for what in &missing {
            self.tell(Event::Degraded { what: what.clone() });
        }
        self.board.borrow_mut().degraded(missing);
    }

    /// Runs the code from a wake to a signal once, with memmon itself as the victim, and without sending a signal: this
    /// code stays in memory from now on.
    fn warm_up(&self) {
        let own = self.settings.rules.own_pid;
        let held = OpenedProcess::open(own);
        let Ok(process) = self.sources.confirm(own, None, Bytes::ZERO) else { return };
        let verdict = policy::judge(&self.settings.rules, &process, &self.memory);
        let (rule, limit) = self.settings.rules.limit(&self.memory);
        let breach =
            Breach { rule, limit, rss: process.rss, percent: process.rss.percent_of(self.memory.total) };
        if let Ok(mut victims) = Victims::new(startup::timing(&self.settings)) {
            // Its orders are not executed.
            drop(victims.start_termination(process, breach, Instant::now()));
        }
        drop((held, verdict));
    }
}

/// Takes all measures, and returns the texts of those that failed.
fn prepare(settings: &Settings) -> Vec<String> {
    // With ONFAULT each page is locked when it is touched, so that programs and libraries are not read as a whole.
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let locked = mlockall(all).map_err(|errno| {
        format!("memory cannot be locked ({errno}), memmon may be slow when the machine swaps: CAP_IPC_LOCK allows it")
    });
    let adjusted = lower_oom_score().map_err(|error| {
        format!("oom_score_adj stays as it is ({error}): CAP_SYS_RESOURCE, or OOMScoreAdjust=-900 in the unit, lowers it")
    });
    let realtime = if settings.kernel.realtime { use_realtime() } else { Ok(()) };
    let realtime = realtime.map_err(|error| {
        format!("kernel.realtime is not available ({error}): CAP_SYS_NICE, and no RestrictRealtime in the unit, allow it")
    });
    [locked, adjusted, realtime].into_iter().filter_map(Result::err).collect()
}

/// Lowers this process's oom_score_adj, unless the unit has lowered it already.
fn lower_oom_score() -> io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    let now: i32 = fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)?;
    if now > OOM_SCORE_ADJ { fs::write(file, OOM_SCORE_ADJ.to_string()) } else { Ok(()) }
}

/// Gives realtime priority to this thread, and to one for its close looks, because the event loop waits for that one.
fn use_realtime() -> io::Result<()> {
    use_realtime_here()?;
    procfs::add_worker(|| drop(use_realtime_here()))
}

/// Schedules this thread before every normal process, but not the threads that it starts.
fn use_realtime_here() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is valid for the call; 0 is the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const lowest)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
