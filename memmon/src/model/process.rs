//! Processes: their identity, the reading of a source, and the facts that /proc confirmed.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use super::{Bytes, Name, Signal, SystemMemory};

/// A process id (the kernel's tgid) in the initial pid namespace's numbering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl Pid {
    /// The first process, which memmon never touches.
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

/// A group id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gid(pub u32);

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Start time of a process, in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

impl StartTime {
    /// `USER_HZ`, which is 100 on every architecture that memmon builds for.
    pub const TICKS_PER_SECOND: u64 = 100;
    /// Maximum by which a start time is rounded down.
    pub const TICK: Duration = Duration::from_millis(1000 / Self::TICKS_PER_SECOND);

    /// The start time as a duration since boot (CLOCK_BOOTTIME).
    pub const fn since_boot(self) -> Duration {
        Duration::from_millis(self.0.saturating_mul(1000 / Self::TICKS_PER_SECOND))
    }

    /// Converts the kernel's `task_struct.start_boottime` (nanoseconds), rounded as the kernel rounds it for /proc.
    pub const fn from_boottime_ns(nanoseconds: u64) -> Self {
        Self(nanoseconds / (1_000_000_000 / Self::TICKS_PER_SECOND))
    }
}

/// Identity of one process for its whole life: a pid alone may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid, which another process may get later.
    pub pid: Pid,
    /// The start time, which distinguishes the two.
    pub start: StartTime,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pid.fmt(f)
    }
}

/// A source's cheap reading of one process: enough to decide whether it must be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The process.
    pub pid: Pid,
    /// Its start time, if the source knows it (the kernel map does; a /proc pass reads it for candidates only).
    pub start: Option<StartTime>,
    /// Resident memory: file, anonymous and shared pages.
    pub rss: Bytes,
    /// Memory that is not a file's: anonymous, shared and swapped-out memory. From a pass over /proc only the resident
    /// anonymous memory.
    pub held: Bytes,
    /// The shared part of `held`; zero from a pass over /proc.
    pub shmem: Bytes,
    /// Maximum by which `rss` may be too low (per-CPU and per-thread batches that are not folded in yet).
    pub error: Bytes,
}

/// One cheap pass over every process that has memory of its own.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The machine's memory at that time.
    pub memory: SystemMemory,
    /// Every process that the source has, without kernel threads, in no particular order.
    pub readings: Vec<Reading>,
}

/// A fact about a process, or the reason why it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// The fact was read.
    Known(T),
    /// The process has no such fact (a kernel thread has no exe, an empty command line has no argv[0]).
    #[default]
    Absent,
    /// The fact could not be read this time, because of the kernel or of root. Rules that need it are in doubt.
    Unreadable,
    /// It is there, and the process's owner can keep it from being read: by a path that is longer than the kernel shows, by
    /// prctl(PR_SET_DUMPABLE) if memmon lacks CAP_SYS_PTRACE, or by a lock that is held for too long. It favours only a
    /// process of root.
    Withheld,
}

impl<T> Fact<T> {
    /// The value, if it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable | Self::Withheld => None,
        }
    }

    /// The same fact in another form.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(form(value)),
            Self::Absent => Fact::Absent,
            Self::Unreadable => Fact::Unreadable,
            Self::Withheld => Fact::Withheld,
        }
    }
}

/// Names of a process. The process itself can choose all three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// `comm`: at most 15 bytes, any thread may set it.
    pub comm: Name,
    /// Target of /proc/PID/exe, the kernel's " (deleted)" removed.
    pub exe: Fact<Name>,
    /// First string of /proc/PID/cmdline.
    pub argv0: Fact<Name>,
    /// The script or module that it runs, if it is an interpreter: `job.py` of `python3 -u job.py`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Name>,
}

/// The start of a process, for the record of its end. memmon decides nothing by it: the process can choose most of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Launch {
    /// The beginning of its command line, with a blank between two arguments; `None` if it has none, or if it cannot be
    /// read.
    pub command_line: Option<Name>,
    /// The session (setsid(2)), which has the pid of its leader.
    pub session: Option<Pid>,
    /// The controlling terminal: `pts/3`.
    pub terminal: Option<String>,
    /// Set if it is the first process of a pid namespace, as a container has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<NamespaceInit>,
    /// Its pid and uid in namespaces of its own, as in a container.
    #[serde(flatten)]
    pub inside: Inside,
    /// `SLURM_JOB_ID` in its environment, which its user can set. Read only on a machine that has Slurm's configuration, and
    /// only if its cgroup is not that of a job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slurm_job_id: Option<u32>,
}

/// The numbers of a process and its user inside the namespaces that it is in, as far as they are not those outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inside {
    /// The pid in its own pid namespace (pid_namespaces(7)).
    #[serde(rename = "pid_inside", skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// The real uid in its own user namespace (user_namespaces(7)). Read only if the process is over its limit, and in a pid
    /// namespace of its own.
    #[serde(rename = "uid_inside", skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
}

/// The first process of a pid namespace (pid_namespaces(7)): with its end the kernel ends all others in there, and a signal
/// that it neither handles nor blocks does not reach it, except for SIGKILL from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceInit {
    /// The signals for which it has a handler, or which it blocks and waits for: bit 0 is signal 1.
    #[serde(rename = "handles_term", serialize_with = "as_handles_term")]
    pub takes: u64,
}

impl NamespaceInit {
    /// Whether `signal` has an effect on it.
    pub const fn takes(&self, signal: Signal) -> bool {
        self.takes >> (signal.number() - 1) & 1 == 1
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_handles_term<S: Serializer>(takes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(NamespaceInit { takes: *takes }.takes(Signal::Term))
}

impl Launch {
    /// Whether the kernel discards `signal` to this process, so that waiting for its effect is useless.
    pub fn never_gets(&self, signal: Signal) -> bool {
        self.init.is_some_and(|init| !init.takes(signal))
    }
}

/// One process as /proc has just confirmed it, with its exact resident memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its identity.
    pub id: ProcessId,
    /// Its parent.
    pub parent: Pid,
    /// Resident memory, as exact as this kernel provides it.
    pub rss: Bytes,
    /// Maximum error of `rss` in either direction; zero if it is an exact sum.
    pub error: Bytes,
    /// The real uid, which logs show as the owner.
    pub real_uid: Uid,
    /// The effective uid, which differs for a set-user-ID program.
    pub effective_uid: Uid,
    /// Facts that only some configurations need.
    #[serde(skip_serializing_if = "MatchFacts::is_empty")]
    pub facts: MatchFacts,
    /// Its names.
    pub names: Names,
    /// Path in the unified cgroup hierarchy (or systemd's own, on a v1 system), `/user.slice/…`.
    pub cgroup: Fact<Name>,
    /// The name of its container in its Kubernetes pod, as kubelet's mounts show it. Read only if `rss` is over the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Name>,
    /// `oom_score_adj`, -1000 to 1000.
    pub oom_score_adj: Fact<i16>,
    /// Its start, for the record.
    pub launch: Launch,
    /// The parts of its memory, for the record of its end. Read only if `rss` is over the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
    /// Whether it is a kernel thread (PF_KTHREAD in field 9 of stat).
    pub kernel_thread: bool,
    /// The part of `rss` that belongs to an older process. Read only if `rss` is over the limit.
    pub inherited: Fact<Inherited>,
    /// The parts of its memory. Read only if `rss` is over the limit, and charged memory is measured.
    pub holdings: Option<Holdings>,
}

/// Facts about a process that only matchers need. Of `args`, `exe_file` and `session` only those are read that the configuration asks for
/// ([`WantedFacts`]); the others are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MatchFacts {
    /// The real and effective group, and the supplementary groups.
    pub groups: BTreeSet<Gid>,
    /// The argument list, argv[0] included. The process's owner can change it at any time.
    pub args: Fact<Vec<Name>>,
    /// The path of the executable, if this very file has that path in the mount namespace of pid 1. Absent for a file that
    /// has the path in another mount namespace only, where a user may have mounted any file at any path; withheld for one
    /// that was deleted, as by an upgrade.
    pub exe_file: Fact<Name>,
    /// The audit session (pam_loginuid(8)): one login. Absent for a daemon, and on a kernel without CONFIG_AUDIT.
    pub session: Fact<u32>,
    /// Whether one of these facts, the names, the cgroup or the inherited memory could not be read for a reason that no owner causes.
    #[serde(skip)]
    pub machine_fails: bool,
}

/// The [`MatchFacts`] to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedFacts {
    /// `args`.
    pub args: bool,
    /// `exe_file`.
    pub exe_file: bool,
    /// `session`.
    pub session: bool,
}

impl MatchFacts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Memory that a process which was forked, and has not called exec since, still shares with an older process that lives:
/// the older process is charged for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Inherited {
    /// The amount: never more than the process shares.
    #[serde(rename = "inherited_bytes")]
    pub bytes: Bytes,
    /// The older process.
    pub elder: Pid,
}

impl Process {
    /// Resident memory that no older process is charged for because of a fork: all of it if what it inherited is unknown.
    pub fn own(&self) -> Bytes {
        self.inherited.known().map_or(self.rss, |inherited| self.rss.saturating_sub(inherited.bytes))
    }

    /// The memory that its end would give back. Page cache stays, and so does shared memory that an older process holds or
    /// that has a name. Memory of which it is not known whether it stays counts; without `holdings` all that is its own.
    pub fn charged(&self) -> Bytes {
        let Some(Holdings { parts, shared, .. }) = &self.holdings else { return self.own() };
        self.charged_with(parts, shared.known().map_or(parts.shmem, |shared| shared.returned))
    }

    /// The part of [`Process::charged`] that is resident: what it counts for in a sum, with every shared page in one process.
    pub fn charged_resident(&self) -> Bytes {
        let Some(Holdings { parts, shared, .. }) = &self.holdings else { return self.own() };
        self.resident_with(parts, shared.known().map_or(parts.shmem, |shared| shared.returned))
    }

    /// The same, if all shared memory stays that is not known to be given back.
    pub fn charged_resident_at_least(&self) -> Bytes {
        match &self.holdings {
            Some(Holdings { parts, shared: Fact::Unreadable, .. }) => self.resident_with(parts, Bytes::ZERO),
            _ => self.charged_resident(),
        }
    }

    /// [`Process::charged`], if all shared memory stays of which that is not known.
    pub fn charged_at_least(&self) -> Bytes {
        match &self.holdings {
            Some(Holdings { parts, shared: Fact::Unreadable, .. }) => self.charged_with(parts, Bytes::ZERO),
            _ => self.charged(),
        }
    }

    /// The memory that its end will give back for certain: shared memory counts only if that was looked up.
    pub fn gives_back(&self) -> Bytes {
        let shared =
            |holdings: &Holdings| holdings.shared.known().map_or(Bytes::ZERO, |shared| shared.returned);
        let shared = self.holdings.as_ref().map_or(Bytes::ZERO, shared);
        self.parts.as_ref().map_or_else(|| self.charged(), |parts| self.charged_with(parts, shared))
    }

    fn charged_with(&self, parts: &Parts, shared: Bytes) -> Bytes {
        self.resident_with(parts, shared) + parts.swap
    }

    /// A fork copies anonymous memory only, so what was inherited is part of that.
    fn resident_with(&self, parts: &Parts, shared: Bytes) -> Bytes {
        let inherited = self.inherited.known().map_or(Bytes::ZERO, |inherited| inherited.bytes);
        self.own().min(parts.anon.saturating_sub(inherited) + shared)
    }
}

impl Process {
    /// Counts the names that could not be read as withheld, since memmon has tried for long enough: a lock that the owner
    /// takes again and again protects no process.
    ///
    /// `oom_score_adj` is not among them: only root and the kernel keep it from being read. The cgroup is, as its owner can
    /// move the process while it is searched; `[scope]` keeps its doubt all the same (see policy's `scope`). Neither are any while the
    /// machine fails, as without a thread or a descriptor for the read.
    pub fn settle(&mut self) {
        if self.facts.machine_fails {
            return;
        }
        if self.inherited == Fact::Unreadable {
            self.inherited = Fact::Withheld;
        }
        let names = &mut self.names;
        for name in [&mut names.exe, &mut names.argv0, &mut self.facts.exe_file, &mut self.cgroup] {
            if *name == Fact::Unreadable {
                *name = Fact::Withheld;
            }
        }
        if self.facts.args == Fact::Unreadable {
            self.facts.args = Fact::Withheld;
        }
    }
}

/// Parts of a process's memory: `RssAnon`, `RssFile`, `RssShmem` and `VmSwap` of /proc/PID/status (Linux 4.5). They are
/// as exact as the kernel's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Resident anonymous memory.
    #[serde(rename = "anon_bytes")]
    pub anon: Bytes,
    /// Resident file pages.
    #[serde(rename = "file_bytes")]
    pub file: Bytes,
    /// Resident shared memory (tmpfs, memfd, shared anonymous).
    #[serde(rename = "shmem_bytes")]
    pub shmem: Bytes,
    /// Swapped-out memory, which is not resident.
    #[serde(rename = "swap_bytes")]
    pub swap: Bytes,
}

/// The memory of a process over its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// Its parts.
    pub parts: Parts,
    /// Its shared memory. Looked up only if the verdict depends on it, else `Absent`; `Unreadable` while the lookup is under
    /// way, or is tried again.
    pub shared: Fact<SharedMemory>,
    /// The reason why the lookup has no result yet, if it failed or has waited for long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// The shared memory that a process has touched, by what its end would do to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SharedMemory {
    /// Objects that would be freed with the last process that has them: no older process maps them, and they have no name.
    #[serde(rename = "returned_bytes")]
    pub returned: Bytes,
    /// Objects that would stay.
    #[serde(rename = "kept_bytes")]
    pub kept: Bytes,
    /// The largest object that would stay.
    pub largest: Option<KeptObject>,
}

/// An object of shared memory that outlives a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptObject {
    /// Its path as /proc/PID/maps shows it: `/dev/shm/x`, `/memfd:x`, `/SYSV…`, `/dev/zero` for shared anonymous memory.
    pub name: Name,
    /// The part of it that is resident in the process.
    pub bytes: Bytes,
    /// The reason why it stays.
    pub why: KeptWhy,
}

/// Reasons why an object of shared memory outlives a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptWhy {
    /// An older process maps it.
    Elder {
        /// That process.
        pid: Pid,
    },
    /// It is a file with a name: removing the file frees it.
    Named,
    /// It is a System V segment that is not marked for destruction: `ipcrm` removes it.
    SystemV,
}

/// Confirmed processes and the machine's memory at one time: the input of policy.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// The processes to decide about.
    pub processes: Vec<Process>,
}

/// Reason why a reading could not be confirmed. memmon never acts in any of these cases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "cause")]
pub enum Unconfirmed {
    /// The process ended meanwhile (or hidepid hides it).
    #[error("it is gone, or hidden from memmon")]
    Gone,
    /// The pid now belongs to another process.
    #[error("pid {pid} started at tick {} now, not {}", .found.0, .expected.0)]
    AnotherProcess {
        /// The pid.
        pid: Pid,
        /// The start time that was read first.
        expected: StartTime,
        /// The start time in /proc now.
        found: StartTime,
    },
    /// The process has no memory of its own: it runs in its parent's until it calls exec or ends (vfork(2), CLONE_VM in
    /// clone(2)).
    #[error("its memory is that of pid {owner}, which started it")]
    Borrowed {
        /// The parent, which owns the memory.
        owner: Pid,
    },
    /// The number is that of a thread, which /proc shows as if it was a process (tools such as htop list threads).
    #[error("it is a thread of pid {process}")]
    Thread {
        /// Its process.
        process: Pid,
    },
    /// A file in /proc could not be read.
    #[error("{file}: {error}")]
    Unreadable {
        /// The file under /proc/PID.
        file: &'static str,
        /// The error.
        error: String,
    },
}

impl Unconfirmed {
    /// Whether the next look may succeed.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
