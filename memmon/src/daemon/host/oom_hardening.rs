//! Prepares an enforcing memmon for a shortage of memory: its own memory is locked, and the kernel's OOM killer chooses it
//! last.
#![expect(unsafe_code, reason = "sched_setscheduler(2) has no wrapper here")]

use std::{fs, io};

use nix::sys::mman::{MlockAllFlags, mlockall};

use crate::observe::procfs;

/// The kernel's OOM killer chooses nearly every other process first. -1000 would exempt memmon, which no process should
/// be.
const OOM_SCORE_ADJ: i32 = -900;

/// Takes all measures, and returns the texts of those that failed.
pub(in crate::daemon) fn harden(realtime: bool) -> Vec<String> {
    // With ONFAULT each page is locked when it is touched, so that programs and libraries are not read as a whole.
    let all = MlockAllFlags::all() | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let locked = mlockall(all).map_err(io::Error::from).map_err(|error| {
        format!("memory cannot be locked ({error}), memmon may be slow when the machine swaps: CAP_IPC_LOCK allows it")
    });
    let adjusted = lower_oom_score().map_err(|error| {
        format!("oom_score_adj stays as it is ({error}): CAP_SYS_RESOURCE, or OOMScoreAdjust=-900 in the unit, lowers it")
    });
    let realtime = if realtime { use_realtime() } else { Ok(()) };
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
