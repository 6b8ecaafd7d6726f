//! Ready for the moment when memory is short: what memmon needs then is in memory, and the kernel's OOM killer looks at
//! memmon last. Only an enforcing memmon is ever needed that much.
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

/// The kernel's OOM killer takes nearly everything else first; -1000 would be never, and no process should be that.
const OOM_SCORE_ADJ: i32 = -900;

impl Daemon<'_> {
    /// Gets ready to enforce, and says what could not be had. Does nothing in dry run.
    pub(in crate::daemon) fn get_ready(&mut self) {
        if self.settings.dry_run {
            return;
        }
        let unready = prepare(&self.settings);
        self.rehearse();
        for what in &unready {
            self.tell(Event::Degraded { what: what.clone() });
        }
        self.board.borrow_mut().degraded(unready);
    }

    /// Goes the way from a wake to a signal once, with memmon itself in the part of the victim, as far as that changes
    /// nothing: what runs then is in memory from now on.
    fn rehearse(&self) {
        let own = self.settings.rules.own_pid;
        let held = OpenedProcess::open(own);
        let Ok(process) = self.sources.confirm(own, None, Bytes::ZERO) else { return };
        let verdict = policy::judge(&self.settings.rules, &process, &self.memory);
        let (rule, limit) = self.settings.rules.limit(&self.memory);
        let breach =
            Breach { rule, limit, rss: process.rss, percent: process.rss.percent_of(self.memory.total) };
        if let Ok(mut nobody) = Victims::new(startup::patience(&self.settings)) {
            // Its orders are not carried out.
            drop(nobody.start_termination(process, breach, Instant::now()));
        }
        drop((held, verdict));
    }
}

/// Does what can be done, and gives what could not.
fn prepare(settings: &Settings) -> Vec<String> {
    // On fault: what is touched stays, and the programs and libraries are not read in whole.
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    let locked = mlockall(all).map_err(|errno| {
        format!("memory cannot be locked ({errno}), memmon may be slow when the machine swaps: CAP_IPC_LOCK allows it")
    });
    let adjusted = be_last().map_err(|error| {
        format!("oom_score_adj stays as it is ({error}): CAP_SYS_RESOURCE, or OOMScoreAdjust=-900 in the unit, lowers it")
    });
    let realtime = if settings.kernel.realtime { both_run_first() } else { Ok(()) };
    let realtime = realtime.map_err(|error| {
        format!("kernel.realtime cannot be had ({error}): CAP_SYS_NICE, and no RestrictRealtime in the unit, allow it")
    });
    [locked, adjusted, realtime].into_iter().filter_map(Result::err).collect()
}

/// Lowers this process's oom_score_adj, unless the unit has lowered it already.
fn be_last() -> io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    let now: i32 = fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)?;
    if now > OOM_SCORE_ADJ { fs::write(file, OOM_SCORE_ADJ.to_string()) } else { Ok(()) }
}

/// This thread, and one for its close looks: what the loop waits for must not stand behind those whom it goes before.
fn both_run_first() -> io::Result<()> {
    run_first()?;
    procfs::add_worker(|| drop(run_first()))
}

/// This thread, the loop, before every normal process; not the threads that it starts.
fn run_first() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: a pointer to a parameter that outlives the call; 0 is the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const lowest)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
