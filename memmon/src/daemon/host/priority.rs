//! The priority of an enforcing memmon's event loop, which a hog that uses all processors must not hold up.
//!
//! While it waits for the kernel's events, and while it handles them, the loop has the lowest realtime priority (SCHED_FIFO),
//! if `kernel.realtime` and the system allow that. For work that takes longer and is not urgent (scans, answers, a reload)
//! it has the nice value -20, so that it takes no processor away for long, and the unit's CPUQuota= applies.
#![expect(unsafe_code, reason = "sched_setattr(2) has no wrapper")]

use std::io;

use crate::observe::procfs;

/// The priority that the event loop has while it waits.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::daemon) struct Priority {
    is_realtime: bool,
}

/// Work that is not urgent, until it is dropped.
#[derive(Debug)]
#[must_use = "the priority is high again once this is dropped"]
pub(in crate::daemon) struct Unhurried(Priority);

impl Priority {
    /// Gives a high priority to this thread, and to one for its close looks, because the event loop waits for that one. Threads
    /// that write reports, and the hook, are not urgent. Returns a text as well if the system allows less than was asked for.
    pub(in crate::daemon) fn raise(realtime: bool) -> (Self, Option<String>) {
        // A close look may walk over all pages of a large process, which is too long for a realtime priority.
        let nice = set(Policy::Nice).and_then(|()| procfs::add_worker(|| drop(set(Policy::Nice))));
        let first = if realtime { set(Policy::Realtime) } else { Ok(()) };
        let missing = match (&first, &nice) {
            (Ok(()), Ok(())) => None,
            (Err(error), Ok(())) => Some(format!(
                "memmon has no realtime priority ({error}), but the nice value -20: beside processes that use all processors a \
                 signal may be some milliseconds late. LimitRTPRIO=1 and no RestrictRealtime= in the unit, or CAP_SYS_NICE, allow \
                 it; kernel.realtime = false does without"
            )),
            (_, Err(error)) => Some(format!(
                "memmon has the priority of other processes ({error}), and sends signals later while these use all processors: \
                 LimitNICE=-20 and SystemCallFilter=sched_setattr in the unit, or CAP_SYS_NICE, allow a higher one"
            )),
        };
        (Self { is_realtime: realtime && first.is_ok() }, missing)
    }

    /// Lowers a realtime priority until the result is dropped.
    pub(in crate::daemon) fn unhurried(self) -> Unhurried {
        if self.is_realtime {
            // Without success it is as before.
            let _ = set(Policy::Nice);
        }
        Unhurried(self)
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        if self.0.is_realtime {
            let _ = set(Policy::Realtime);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Policy {
    /// The highest share of a processor among normal processes, with which one that is awakened seldom waits.
    Nice,
    /// Before every normal process.
    Realtime,
}

/// Schedules this thread by `policy`, but not the threads and processes that it starts.
fn set(policy: Policy) -> io::Result<()> {
    let (policy, nice, priority) = match policy {
        Policy::Nice => (libc::SCHED_OTHER, -20, 0),
        Policy::Realtime => (libc::SCHED_FIFO, 0, 1),
    };
    let attributes = SchedulingAttributes {
        size: SchedulingAttributes::SIZE,
        policy: policy.cast_unsigned(),
        flags: libc::SCHED_FLAG_RESET_ON_FORK.unsigned_abs().into(),
        nice,
        priority,
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
