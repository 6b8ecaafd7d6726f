//! Prepares an enforcing memmon for a shortage of memory and processors: its own memory is locked, the kernel's OOM killer
//! chooses it last, and its event loop comes before other processes.
#![expect(unsafe_code, reason = "sched_setattr(2) has no wrapper")]

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
    let scheduled = schedule(realtime).map_err(|error| if realtime {
        format!("kernel.realtime is not available ({error}): CAP_SYS_NICE, and no RestrictRealtime in the unit, allow it")
    } else {
        format!(
            "memmon runs with the priority of other processes ({error}), and sends signals later while these use all processors: \
             CAP_SYS_NICE, or LimitNICE=-20 and SystemCallFilter=sched_setattr in the unit, allow a higher one"
        )
    });
    [locked, adjusted, scheduled].into_iter().filter_map(Result::err).collect()
}

/// Lowers this process's oom_score_adj, unless the unit has lowered it already.
fn lower_oom_score() -> io::Result<()> {
    let file = "/proc/self/oom_score_adj";
    let now: i32 = fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)?;
    if now > OOM_SCORE_ADJ { fs::write(file, OOM_SCORE_ADJ.to_string()) } else { Ok(()) }
}

/// Gives a high priority to this thread, and to one for its close looks, because the event loop waits for that one. Threads
/// that write reports, and the hook, are not urgent.
fn schedule(realtime: bool) -> io::Result<()> {
    if realtime {
        schedule_here(libc::SCHED_FIFO)?;
        procfs::add_worker(|| drop(schedule_here(libc::SCHED_FIFO)))
    } else {
        schedule_here(libc::SCHED_OTHER)?;
        procfs::add_worker(|| drop(schedule_here(libc::SCHED_OTHER)))
    }
}

/// Schedules this thread by `policy`, but not the threads that it starts: with SCHED_FIFO before every normal process, else with
/// the highest share of a processor (nice -20), with which a normal process that is awakened seldom waits.
fn schedule_here(policy: libc::c_int) -> io::Result<()> {
    let attributes = SchedulingAttributes {
        size: SchedulingAttributes::SIZE,
        policy: policy.cast_unsigned(),
        flags: libc::SCHED_FLAG_RESET_ON_FORK.unsigned_abs().into(),
        nice: if policy == libc::SCHED_OTHER { -20 } else { 0 },
        priority: u32::from(policy == libc::SCHED_FIFO),
        deadline: [0; 3],
    };
    // SAFETY: the pointer is valid for the call, and the structure has the size that it names; 0 is the calling thread, and no
    // flags.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct sched_attr` of sched_setattr(2) in its first version, Linux 3.14.
#[repr(C)]
struct SchedulingAttributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    deadline: [u64; 3],
}

impl SchedulingAttributes {
    /// `SCHED_ATTR_SIZE_VER0`.
    const SIZE: u32 = 48;
}

const _: () = assert!(size_of::<SchedulingAttributes>() == SchedulingAttributes::SIZE as usize);
