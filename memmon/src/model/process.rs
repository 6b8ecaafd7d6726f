//! Processes: who one is, what a source read of it, and what /proc confirmed.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bytes, Name, SystemMemory};

/// A process id (the kernel's tgid) in the initial pid namespace's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl Pid {
    /// The first process, which nothing here ever touches.
    pub const INIT: Self = Self(1);
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub u32);

impl Uid {
    /// The superuser.
    pub const ROOT: Self = Self(0);
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a process started, in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

impl StartTime {
    /// `USER_HZ`, which is 100 on every architecture that memmon builds for.
    pub const TICKS_PER_SECOND: u64 = 100;
    /// What a start time may be rounded down by.
    pub const TICK: Duration = Duration::from_millis(1000 / Self::TICKS_PER_SECOND);

    /// The same as the time that had passed since boot (CLOCK_BOOTTIME).
    pub const fn since_boot(self) -> Duration {
        Duration::from_millis(self.0.saturating_mul(1000 / Self::TICKS_PER_SECOND))
    }

    /// From the kernel's `task_struct.start_boottime` (nanoseconds), rounded as the kernel rounds it for /proc.
    pub const fn from_boottime_ns(nanoseconds: u64) -> Self {
        Self(nanoseconds / (1_000_000_000 / Self::TICKS_PER_SECOND))
    }
}

/// One process for its whole life: a pid alone may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The number, which another process may get later.
    pub pid: Pid,
    /// The start time, which tells the two apart.
    pub start: StartTime,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

/// What a source read of one process on the cheap way: enough to tell who must be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The process.
    pub pid: Pid,
    /// Its start time, where the source knows it (the kernel map does, a /proc pass reads it for candidates only).
    pub start: Option<StartTime>,
    /// Resident memory: file, anonymous and shared pages.
    pub rss: Bytes,
    /// How far `rss` may be below the truth (per-CPU and per-thread batches that are not folded in yet).
    pub error: Bytes,
}

/// One cheap pass over every process that has memory of its own.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The machine's memory at that time.
    pub memory: SystemMemory,
    /// Every process that the source saw, kernel threads left out, in no particular order.
    pub readings: Vec<Reading>,
}

/// Something about a process that could, or could not, be found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// It was read.
    Known(T),
    /// The process has none (a kernel thread has no exe, an empty command line no argv[0]).
    Absent,
    /// It is there but was not to be read: rights are missing, or it hangs. Rules that need it are in doubt.
    Unreadable,
}

impl<T> Fact<T> {
    /// The value, where it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }
}

/// What a process is called. All three are the process's own choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// `comm`: at most 15 bytes, any thread may set it.
    pub comm: Name,
    /// Target of /proc/PID/exe, the kernel's " (deleted)" removed.
    pub exe: Fact<Name>,
    /// First string of /proc/PID/cmdline.
    pub argv0: Fact<Name>,
}

/// One process as /proc confirmed it, right now, with its exact resident memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Who it is.
    pub id: ProcessId,
    /// Who started it.
    pub parent: Pid,
    /// Resident memory, as exact as this kernel gives it.
    pub rss: Bytes,
    /// How far `rss` may be off in either direction; zero where it is an exact sum.
    pub error: Bytes,
    /// Owner: the real uid, by which logs name it.
    pub real_uid: Uid,
    /// The effective uid, another one for a set-user-ID program.
    pub effective_uid: Uid,
    /// What it is called.
    pub names: Names,
    /// Path in the unified cgroup hierarchy (or systemd's own, on a v1 system), `/user.slice/…`.
    pub cgroup: Fact<Name>,
    /// `oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: Fact<i16>,
    /// Whether it is a kernel thread (PF_KTHREAD in field 9 of stat).
    pub kernel_thread: bool,
}

/// What a process's memory is made of: `RssAnon`, `RssFile`, `RssShmem` and `VmSwap` of /proc/PID/status (Linux 4.5).
/// As exact as the kernel's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Resident anonymous memory.
    #[serde(rename = "anon_bytes")]
    pub anon: Bytes,
    /// Resident pages of files.
    #[serde(rename = "file_bytes")]
    pub file: Bytes,
    /// Resident shared memory (tmpfs, memfd, shared anonymous).
    #[serde(rename = "shmem_bytes")]
    pub shmem: Bytes,
    /// Swapped out, which is not resident.
    #[serde(rename = "swap_bytes")]
    pub swap: Bytes,
}

/// Confirmed processes and the machine's memory, at one time: what policy decides upon.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// The processes to decide about.
    pub processes: Vec<Process>,
}

/// Why a reading could not be confirmed. None of these is ever a reason to act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Unconfirmed {
    /// It ended in between (or hidepid hides it).
    #[error("it is gone, or hidden from memmon")]
    Gone,
    /// The pid is another process's now.
    #[error("pid {pid} started at tick {} now, not {}", .found.0, .expected.0)]
    AnotherProcess {
        /// The number that was used again.
        pid: Pid,
        /// The start time that was read first.
        expected: StartTime,
        /// The start time that /proc gives now.
        found: StartTime,
    },
    /// It has no memory of its own: it runs in its parent's until it execs or ends (vfork(2), CLONE_VM in clone(2)).
    #[error("its memory is that of pid {owner}, which started it")]
    Borrowed {
        /// The parent, whose memory it is.
        owner: Pid,
    },
    /// /proc gave something that could not be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file under /proc/PID.
        file: &'static str,
        /// What went wrong.
        error: String,
    },
}

impl Unconfirmed {
    /// Whether it may be over at the next look.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
