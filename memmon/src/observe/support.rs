//! The features that memmon has on this machine, and the reasons for those that are missing.
//!
//! [`Facts::gather`] probes the kernel, [`assess`] judges the facts, [`choose`] selects a source. Only the first of the
//! three touches the system.

mod gears;
mod limitation;
mod namespaces;
mod probe;
#[cfg(test)]
pub(crate) mod samples;
mod types;

use serde::Serialize;

use super::procfs::Accuracy;
use crate::model::{Bytes, Capability, Source, SourceChoice};

pub use gears::OneGear;
pub use limitation::{Obstacle, Refusal};
pub use namespaces::Namespaces;
pub use probe::{BPF_FS, Facts, VMLINUX, capabilities, cgroup_memory};
pub use types::{Btf, CgroupMemory, KernelVersion, Lockdown, Probe};

/// Judges the facts. This function is pure.
pub fn assess(facts: &Facts) -> Support {
    let (enforce, reclaim) = (Feature::new(enforce_obstacles(facts)), Feature::new(reclaim_obstacles(facts)));
    Support {
        ebpf: Feature::new(ebpf_obstacles(facts)),
        proc: Feature::new(if facts.proc { Vec::new() } else { vec![Obstacle::NoProc] }),
        statm_exact: statm_is_exact(facts),
        counter_error: counter_error(facts),
        degraded: degraded(facts, &reclaim),
        cgroup_paths: Feature::new(cgroup_obstacles(facts)),
        exe_files: Feature::new(exe_obstacles(facts)),
        throttle: Feature::new(throttle_obstacles(facts)),
        one_gear: OneGear::of(facts, counts_per_thread(facts)),
        enforce,
        reclaim,
    }
}

/// The features that the running kernel and memmon's privileges allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Support {
    /// Counting inside the kernel.
    pub ebpf: Feature,
    /// Polling /proc.
    pub proc: Feature,
    /// Sending signals that cannot reach the wrong process.
    pub enforce: Feature,
    /// Enforcing a configuration that names cgroups or units, which needs the paths that the administrator means.
    #[serde(rename = "scope_by_cgroup")]
    pub cgroup_paths: Feature,
    /// Enforcing a configuration that names executables (`exe`), which needs to see those of every user.
    pub exe_files: Feature,
    /// Slowing cgroups down.
    pub throttle: Feature,
    /// The reason why the kernel side has one gear here; `None` if it has two.
    pub one_gear: Option<OneGear>,
    /// Freeing the memory of a dying process before its exit.
    pub reclaim: Feature,
    /// Whether /proc/PID/statm is an exact sum. If it is not, smaps_rollup decides near a limit.
    pub statm_exact: bool,
    /// Maximum error of the kernel's own counters, and of a statm that is not exact.
    pub counter_error: CounterError,
    /// Limitations that leave memmon working, but less well.
    pub degraded: Vec<Obstacle>,
}

impl Support {
    /// Accuracy of /proc/PID/statm on this kernel.
    pub const fn accuracy(&self) -> Accuracy {
        match self.counter_error {
            _ if self.statm_exact => Accuracy::StatmExact,
            CounterError::PerProcess { bound } => Accuracy::StatmLags { bound },
            CounterError::PerThread { bound } => Accuracy::PerThread { bound },
        }
    }
}

/// A capability of memmon on this machine, and the obstacles to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Whether it is available.
    pub available: bool,
    /// The reasons why it is not.
    pub obstacles: Vec<Obstacle>,
}

impl Feature {
    fn new(obstacles: Vec<Obstacle>) -> Self {
        Self { available: obstacles.is_empty(), obstacles }
    }

    /// The obstacles that somebody has put there: system calls that are refused, though memmon has the capabilities for them.
    pub fn refused_calls(&self) -> impl Iterator<Item = &Obstacle> {
        self.obstacles.iter().filter(|obstacle| matches!(obstacle, Obstacle::Refused { .. }))
    }

    /// Marks the feature as unavailable after an attempt failed.
    pub fn disable(&mut self, obstacle: Obstacle) {
        self.available = false;
        self.obstacles.push(obstacle);
    }
}

/// Selects a source: the requested one, or the best available. Returns it with the reason.
///
/// A source that was requested by name is never replaced by another.
pub fn choose(choice: SourceChoice, support: &Support) -> Result<(Source, String), Refusal> {
    let feature = |source| match source {
        Source::Ebpf => &support.ebpf,
        Source::Proc => &support.proc,
    };
    let (source, reason) = match choice {
        SourceChoice::Ebpf => (Source::Ebpf, "asked for".to_owned()),
        SourceChoice::Proc => (Source::Proc, "asked for".to_owned()),
        SourceChoice::Auto if support.ebpf.available => (Source::Ebpf, "the best there is".to_owned()),
        SourceChoice::Auto => {
            let why: Vec<String> = support.ebpf.obstacles.iter().map(ToString::to_string).collect();
            (Source::Proc, format!("no ebpf: {}", why.join("; ")))
        }
    };
    if feature(source).available {
        Ok((source, reason))
    } else {
        Err(Refusal { choice, obstacles: feature(source).obstacles.clone() })
    }
}

/// Maximum error of a process's counters, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "held_back")]
pub enum CounterError {
    /// Since Linux 6.2: each CPU holds back a batch of each counter.
    PerProcess {
        /// The bound for every process: 3 counters × CPUs × max(32, 2 × CPUs) pages.
        bound: Bytes,
    },
    /// Before Linux 6.2: each thread holds back the pages that it faulted in last.
    PerThread {
        /// The bound for one thread.
        bound: Bytes,
    },
}

impl CounterError {
    /// The bound for a process with this number of threads.
    pub const fn of(self, threads: u64) -> Bytes {
        match self {
            Self::PerProcess { bound } => bound,
            Self::PerThread { bound } => Bytes(bound.0.saturating_mul(threads)),
        }
    }
}

/// `TASK_RSS_EVENTS_THRESH` of mm/memory.c before 6.2: after more faults than that, a thread's counts are folded in.
const FAULTS_PER_THREAD: u64 = 65;
/// Memory that one fault may map: a read fault in a mapped file maps neighbouring pages as well (the default of
/// `fault_around_bytes`, which can be changed in debugfs).
const FAULT_AROUND: Bytes = Bytes::from_kib(64);

/// Linux 5.8 has the ring buffer, task iterators and `CAP_BPF`. (tp_btf and rss_stat exist since 5.5, batch lookups since
/// 5.6.)
const EBPF_SINCE: KernelVersion = KernelVersion { major: 5, minor: 8 };
const PIDFD_SINCE: KernelVersion = KernelVersion { major: 5, minor: 3 };
const MRELEASE_SINCE: KernelVersion = KernelVersion { major: 5, minor: 15 };
/// Since 5.11 BPF maps count against a memory cgroup, no longer against RLIMIT_MEMLOCK.
const NO_MEMLOCK_SINCE: KernelVersion = KernelVersion { major: 5, minor: 11 };
/// Since 6.2 the counters are held back in per-CPU batches instead of per-thread ones.
const PER_CPU_SINCE: KernelVersion = KernelVersion { major: 6, minor: 2 };
/// "mm: fix the inaccurate memory statistics issue for users" was merged late in 6.16, and into some 6.12 and 6.15 stable
/// releases. A release string does not show which of those have it, so none of them is trusted.
const EXACT_STATM_SINCE: KernelVersion = KernelVersion { major: 6, minor: 17 };

/// More than memmon's maps need, which is a few MB.
const MEMLOCK_NEEDED: u64 = 64 * Bytes::MIB;

fn ebpf_obstacles(facts: &Facts) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if !facts.built_with_ebpf {
        found.push(Obstacle::BuiltWithout);
    }
    match facts.version {
        None => found.push(Obstacle::UnknownKernel { release: facts.release.clone() }),
        Some(version) if version < EBPF_SINCE => {
            found.push(Obstacle::OldKernel { version, since: EBPF_SINCE });
        }
        Some(_) => {}
    }
    if facts.namespaces.initial_pid != Some(true) {
        found.push(Obstacle::PidNamespace);
    }
    if !facts.namespaces.initial_time {
        found.push(Obstacle::TimeNamespace);
    }
    let missing: Vec<Capability> = [Capability::BPF, Capability::PERFMON]
        .into_iter()
        .filter(|needed| !facts.capabilities.has(*needed) && !facts.capabilities.has(Capability::SYS_ADMIN))
        .collect();
    match facts.bpf {
        Probe::Missing => found.push(Obstacle::NoBpf),
        // Without the capabilities every call is refused; then the missing capabilities are reported.
        Probe::Refused { ref error } if missing.is_empty() => {
            found.push(Obstacle::Refused { call: "bpf", error: error.clone() });
        }
        Probe::Refused { .. } | Probe::Available => {}
    }
    if !missing.is_empty() {
        found.push(Obstacle::MissingCapabilities { missing });
    } else if facts.namespaces.initial_user != Some(true) {
        found.push(Obstacle::UserNamespace);
    }
    let charged = facts.version.is_some_and(|version| version < NO_MEMLOCK_SINCE);
    let short = facts.memlock.is_some_and(|limit| limit < MEMLOCK_NEEDED);
    if charged && short && !facts.capabilities.has(Capability::SYS_RESOURCE) {
        found.push(Obstacle::Memlock);
    }
    match &facts.btf {
        Btf::Absent => found.push(Obstacle::NoBtf),
        Btf::Unreadable { error } => found.push(Obstacle::UnreadableBtf { error: error.clone() }),
        Btf::Read(Err(error)) => found.push(Obstacle::Layout { error: error.clone() }),
        Btf::Read(Ok(_)) => {}
    }
    if facts.lockdown == Lockdown::Confidentiality {
        found.push(Obstacle::Lockdown);
    }
    found
}

fn enforce_obstacles(facts: &Facts) -> Vec<Obstacle> {
    let calls = [("pidfd_open", &facts.pidfd_open), ("pidfd_send_signal", &facts.pidfd_send_signal)];
    let calls = calls.into_iter().filter_map(|(call, probe)| call_obstacle(facts, call, probe, PIDFD_SINCE));
    let Namespaces { same_pids, same_uids, .. } = facts.namespaces;
    calls
        .chain((!same_pids).then_some(Obstacle::ForeignPids))
        .chain((!same_uids).then_some(Obstacle::ForeignUids))
        .collect()
}

fn cgroup_obstacles(facts: &Facts) -> Vec<Obstacle> {
    if facts.namespaces.initial_cgroup { vec![] } else { vec![Obstacle::CgroupNamespace] }
}

fn throttle_obstacles(facts: &Facts) -> Vec<Obstacle> {
    let memory = match facts.cgroup_memory {
        CgroupMemory::Writable => None,
        CgroupMemory::ReadOnly => Some(Obstacle::ReadOnlyCgroups),
        CgroupMemory::Elsewhere => Some(Obstacle::NoMemoryHigh),
    };
    cgroup_obstacles(facts).into_iter().chain(memory).collect()
}

/// Without it the executables of other users cannot be read: an executable that is to be spared would look like one that
/// its owner hides.
fn exe_obstacles(facts: &Facts) -> Vec<Obstacle> {
    if facts.capabilities.has(Capability::SYS_PTRACE) { vec![] } else { vec![Obstacle::NoExe] }
}

fn reclaim_obstacles(facts: &Facts) -> Vec<Obstacle> {
    call_obstacle(facts, "process_mrelease", &facts.process_mrelease, MRELEASE_SINCE).into_iter().collect()
}

fn call_obstacle(facts: &Facts, call: &'static str, probe: &Probe, since: KernelVersion) -> Option<Obstacle> {
    match probe {
        Probe::Available => None,
        // Newer seccomp filters return ENOSYS, too.
        Probe::Missing if facts.version.is_some_and(|version| version >= since) => {
            let error = format!("ENOSYS, though Linux has it since {since}");
            Some(Obstacle::Refused { call, error })
        }
        Probe::Missing => Some(Obstacle::NoCall { call, since }),
        Probe::Refused { error } => Some(Obstacle::Refused { call, error: error.clone() }),
    }
}

fn degraded(facts: &Facts, reclaim: &Feature) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if !facts.capabilities.has(Capability::KILL) {
        found.push(Obstacle::OnlyOwnProcesses);
    }
    if !facts.capabilities.has(Capability::SYS_PTRACE) {
        found.push(match &facts.hidepid {
            Some(value) => Obstacle::HidePid { value: value.clone() },
            None => Obstacle::NoExe,
        });
    }
    if facts.namespaces.initial_pid != Some(true) {
        found.push(Obstacle::PartOfMachine);
    }
    if !facts.bpf_fs {
        found.push(Obstacle::NoBpfFs);
    }
    found.extend(reclaim.obstacles.iter().cloned());
    found
}

/// Whether the counters are the per-thread ones from before 6.2. The layout decides, because it is right for backports.
fn counts_per_thread(facts: &Facts) -> bool {
    match &facts.btf {
        Btf::Read(Ok(offsets)) => offsets.rss_legacy != 0,
        _ => facts.version.is_some_and(|version| version < PER_CPU_SINCE),
    }
}

fn statm_is_exact(facts: &Facts) -> bool {
    facts.version.is_some_and(|version| version >= EXACT_STATM_SINCE) && !counts_per_thread(facts)
}

fn counter_error(facts: &Facts) -> CounterError {
    let pages = |count: u64| Bytes(count.saturating_mul(facts.page_size));
    if counts_per_thread(facts) {
        let fault = FAULT_AROUND.0.max(facts.page_size);
        return CounterError::PerThread { bound: Bytes(FAULTS_PER_THREAD * fault) };
    }
    let cpus = u64::from(facts.cpus);
    let batch = (2 * cpus).max(32);
    CounterError::PerProcess { bound: pages((3 * cpus).saturating_mul(batch)) }
}

#[cfg(test)]
mod tests;
