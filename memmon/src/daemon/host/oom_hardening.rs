//! Prepares an enforcing memmon for a shortage of memory: its own memory is locked, and the kernel's OOM killer chooses it
//! last.

use std::{fs, io};

use nix::sys::mman::{MlockAllFlags, mlockall};

/// The kernel's OOM killer chooses nearly every other process first. -1000 would exempt memmon, which no process should
/// be.
const OOM_SCORE_ADJ: i32 = -900;

/// Takes all measures, and returns the texts of those that failed.
pub(crate) fn harden() -> Vec<String> {
    // With ONFAULT each page is locked when it is touched, so that programs and libraries are not read as a whole.
    let all = MlockAllFlags::all() | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    let locked = mlockall(all).map_err(io::Error::from).map_err(|error| {
        format!("memory cannot be locked ({error}), memmon may be slow when the machine swaps: LimitMEMLOCK=infinity in the unit, or \
             CAP_IPC_LOCK, allows it")
    });
    let adjusted = lower_oom_score().map_err(|error| {
        format!("oom_score_adj stays as it is ({error}): CAP_SYS_RESOURCE, or OOMScoreAdjust=-900 in the unit, lowers it")
    });
    [locked, adjusted].into_iter().filter_map(Result::err).collect()
}

/// Lowers this process's oom_score_adj, unless the unit has lowered it already.
fn lower_oom_score() -> io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    let now: i32 = fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)?;
    if now > OOM_SCORE_ADJ { fs::write(file, OOM_SCORE_ADJ.to_string()) } else { Ok(()) }
}
