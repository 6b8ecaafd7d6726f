//! The priority of an enforcing memmon's event loop, which a hog that uses all processors must not hold up.
//!
//! It has the nice value -20. While no processor is idle, a normal process that is awakened may have to wait for the
//! slice of another one all the same, up to 10 ms; so the loop has the lowest realtime priority (SCHED_FIFO) meanwhile, if
//! `kernel.realtime` and the system allow that. It has it only while it waits for events, and for short work; for what takes
//! longer (scans, answers, a reload) it has the nice value, so that it takes no processor away for long, and the unit's
//! CPUQuota= applies. On a machine with an idle processor a realtime priority would be worse: the kernel lets a realtime
//! thread go on where it ran last, in front of the process that is to handle its signal.
//!
//! In the calm gear the loop has the realtime priority in any case. Nothing has happened there by which it could know whether a
//! processor is idle now, no process waits for a signal yet, and the exact gear must be attached before one does.
#![expect(unsafe_code, reason = "sched_setattr(2) has no wrapper")]

use std::{
    cell::Cell,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use procfs::{Current as _, Uptime};

use crate::observe::procfs::{WorkerPriority, add_worker, set_worker_priority};

/// The priority that the event loop has while it waits.
#[derive(Debug, Default)]
pub(crate) struct Priority {
    may_be_realtime: bool,
    /// Whether no processor was idle between the last two measurements.
    is_busy: bool,
    /// Work that is not urgent has it as well, because it may end with another one than it began with: a reload may.
    is_realtime: Rc<Cell<bool>>,
    seen: Option<Idleness>,
    /// Whether the thread for close looks was started.
    has_worker: bool,
}

/// The time that processors were idle since boot, added up, in seconds (/proc/uptime).
#[derive(Clone, Copy, Debug)]
struct Idleness {
    at: Instant,
    idle: f64,
}

/// The least time over which idleness is measured: the kernel counts it in hundredths of a second.
const LEAST_TIME: Duration = Duration::from_millis(100);

/// No processor is idle if less than this share of the time of one is left.
const IDLE: f64 = 0.5;

/// Work that is not urgent, until it is dropped.
#[derive(Debug)]
#[must_use = "the priority is high again once this is dropped"]
pub(crate) struct Unhurried {
    is_realtime: Rc<Cell<bool>>,
}

impl Priority {
    /// The usual priority.
    pub(crate) fn usual() -> Self {
        Self { seen: Idleness::now(), ..Self::default() }
    }

    /// Gives a high priority to this thread, and to one for its close looks, because the event loop waits for that one. Threads
    /// that write reports, and the hook, are not urgent. Returns a text as well if the system allows less than was asked for.
    pub(crate) fn raise(&mut self, realtime: bool) -> Option<String> {
        let first = if realtime { set(Policy::Realtime) } else { Ok(()) };
        self.may_be_realtime = realtime && first.is_ok();
        self.is_busy &= self.may_be_realtime;
        self.is_realtime.set(false);
        let nice = set(Policy::Nice).and_then(|()| if self.has_worker { Ok(()) } else { add_worker() });
        self.has_worker |= nice.is_ok();
        set_worker_priority(Policy::Nice.of_worker());
        match (&first, &nice) {
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
        }
    }

    /// Takes the realtime priority in the calm gear or if no processor was idle since the last measurement, and gives it up
    /// otherwise. Right after a measurement it makes no other one.
    pub(crate) fn follow(&mut self, is_calm: bool) {
        if !self.may_be_realtime {
            return;
        }
        if let Some(seen) = self.seen.filter(|seen| seen.at.elapsed() >= LEAST_TIME)
            && let Some(now) = Idleness::now()
        {
            self.is_busy = now.is_none_since(seen);
            self.seen = Some(now);
        }
        let is_realtime = self.is_busy || is_calm;
        let policy = if is_realtime { Policy::Realtime } else { Policy::Nice };
        if is_realtime != self.is_realtime.get() && set(policy).is_ok() {
            set_worker_priority(policy.of_worker());
            self.is_realtime.set(is_realtime);
        }
    }

    /// Whether no processor is idle, if the priority depends on it.
    pub(crate) const fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Lowers a realtime priority until the result is dropped.
    pub(crate) fn unhurried(&self) -> Unhurried {
        if self.is_realtime.get() {
            // Without success it is as before.
            let _ = set(Policy::Nice);
        }
        Unhurried { is_realtime: Rc::clone(&self.is_realtime) }
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        if self.is_realtime.get() {
            let _ = set(Policy::Realtime);
        }
    }
}

impl Idleness {
    fn now() -> Option<Self> {
        Uptime::current().ok().map(|Uptime { idle, .. }| Self { at: Instant::now(), idle })
    }

    /// Whether no processor was idle since `earlier`.
    fn is_none_since(self, earlier: Self) -> bool {
        self.idle - earlier.idle < IDLE * self.at.duration_since(earlier.at).as_secs_f64()
    }
}

#[derive(Clone, Copy, Debug)]
enum Policy {
    /// The highest share of a processor among normal processes, with which one that is awakened seldom waits.
    Nice,
    /// Before every normal process.
    Realtime,
}

impl Policy {
    /// The same for the thread for close looks, whose jobs may take long.
    fn of_worker(self) -> WorkerPriority {
        let (nice, realtime): (fn(), fn()) = (|| drop(set(Self::Nice)), || drop(set(Self::Realtime)));
        WorkerPriority { raise: if matches!(self, Self::Realtime) { realtime } else { nice }, lower: nice }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy of this thread: field 41 of proc_pid_stat(5). The text after the name begins with field 3.
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(41 - 3).unwrap().parse().unwrap()
    }

    #[test]
    fn a_realtime_priority_that_was_given_up_meanwhile_is_not_taken_again() {
        // Without the right to it, this thread never has one.
        let is_realtime = Rc::new(Cell::new(true));
        let priority = Priority { may_be_realtime: true, is_realtime, ..Priority::default() };
        let unhurried = priority.unhurried();
        priority.is_realtime.set(false);
        drop(unhurried);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }

    #[test]
    fn no_processor_is_idle_if_all_together_were_for_less_than_half_the_time() {
        let earlier = Idleness { at: Instant::now(), idle: 7000.0 };
        let later = earlier.at + Duration::from_secs(10);
        let is_none = |idle| Idleness { at: later, idle }.is_none_since(earlier);
        assert!(is_none(7000.0) && is_none(7004.9));
        assert!(!is_none(7005.1) && !is_none(7010.0) && !is_none(7080.0));
    }
}
