//! Texts for limitations, and their remedies.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::types::KernelVersion;
use crate::{
    model::{Capability, Escaped, SourceChoice},
    observe::btf::LayoutError,
};

/// A limitation of memmon on this machine. [`fmt::Display`] describes it, [`Obstacle::remedy`] returns what removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// memmon was built without the `ebpf` feature.
    BuiltWithout,
    /// The release string contains no version.
    UnknownKernel {
        /// The kernel's release string.
        release: String,
    },
    /// The kernel is too old.
    OldKernel {
        /// The running version.
        version: KernelVersion,
        /// The version that is needed.
        since: KernelVersion,
    },
    /// memmon is not in the initial pid namespace, whose pids the kernel reports.
    PidNamespace,
    /// Start times and clocks are shifted against those of the kernel.
    TimeNamespace,
    /// /proc is that of another pid namespace, or that is not known: its numbers mean other processes to a system call.
    ForeignPids,
    /// Processes in sight may have uids that the configuration does not mean.
    ForeignUids,
    /// Paths of cgroups begin at memmon's own.
    CgroupNamespace,
    /// The memory controller is not in the unified hierarchy of cgroups.
    NoMemoryHigh,
    /// memmon may not write to cgroups.
    ReadOnlyCgroups,
    /// Only the processes of a pid namespace are in sight.
    PartOfMachine,
    /// memmon is not in the initial user namespace, where capabilities for BPF must be held.
    UserNamespace,
    /// Capabilities to load and attach are missing.
    MissingCapabilities {
        /// The missing capabilities.
        missing: Vec<Capability>,
    },
    /// RLIMIT_MEMLOCK, which maps count against before 5.11, is too low.
    Memlock,
    /// The kernel has no bpf(2).
    NoBpf,
    /// The kernel lacks a system call.
    NoCall {
        /// The system call.
        call: &'static str,
        /// The first version that has it.
        since: KernelVersion,
    },
    /// A system call is refused, most likely by a seccomp filter.
    Refused {
        /// The system call.
        call: &'static str,
        /// Its error.
        error: String,
    },
    /// There is no /sys/kernel/btf/vmlinux.
    NoBtf,
    /// /sys/kernel/btf/vmlinux could not be read.
    UnreadableBtf {
        /// The error.
        error: String,
    },
    /// A field that the BPF programs need was not found.
    Layout {
        /// The field, and the reason.
        error: LayoutError,
    },
    /// BPF programs may not read kernel memory.
    Lockdown,
    /// Attaching the programs failed.
    Attach {
        /// The error.
        error: String,
    },
    /// No procfs at /proc.
    NoProc,
    /// `CAP_KILL` is missing.
    OnlyOwnProcesses,
    /// /proc hides other users' processes, and `CAP_SYS_PTRACE` is missing.
    HidePid {
        /// The value of the mount option.
        value: String,
    },
    /// `CAP_SYS_PTRACE` is missing.
    NoExe,
    /// No bpffs at /sys/fs/bpf.
    NoBpfFs,
    /// The program that reads mappings could not be loaded, on a kernel that can show them.
    NoMappings {
        /// The error.
        error: String,
    },
    /// The map could not be pinned.
    NotPinned {
        /// The error.
        error: String,
    },
}

impl Obstacle {
    /// Advice to the administrator about the limitation.
    pub fn remedy(&self) -> String {
        match self {
            Self::BuiltWithout => "build memmon with its default features".to_owned(),
            Self::UnknownKernel { .. } => "report the release string".to_owned(),
            Self::OldKernel { since, .. } => format!("boot Linux {since} or later"),
            Self::PidNamespace => {
                "run memmon on the host, or with the host's pid namespace (docker run --pid=host)".to_owned()
            }
            Self::TimeNamespace => "run memmon outside of the time namespace".to_owned(),
            Self::ForeignPids => {
                "mount the /proc of memmon's own pid namespace (unshare --mount-proc), or run memmon in the pid \
                 namespace of that /proc (docker run --pid=host)"
                    .to_owned()
            }
            Self::ForeignUids => {
                "run memmon outside of the user namespace, or in a container with a pid namespace of its own that maps \
                 all uids up to 65534"
                    .to_owned()
            }
            Self::CgroupNamespace => {
                "run memmon in the host's cgroup namespace (docker run --cgroupns=host), or name users in place of cgroups and \
                 units".to_owned()
            }
            Self::NoMemoryHigh => {
                "use another action in rules here, or boot with cgroups of version 2 (systemd.unified_cgroup_hierarchy=1)"
                    .to_owned()
            }
            Self::ReadOnlyCgroups => "`systemctl edit memmon`, and under [Service] ProtectControlGroups=no and \
                                      ReadWritePaths=/sys/fs/cgroup"
                .to_owned(),
            Self::PartOfMachine => {
                "run memmon on the host, or with the host's pid namespace, to watch the whole machine".to_owned()
            }
            Self::UserNamespace => {
                "run memmon outside of the user namespace (not in a rootless container)".to_owned()
            }
            Self::MissingCapabilities { missing } => {
                format!("run as root, or with AmbientCapabilities={}", names(missing, " "))
            }
            Self::Memlock => "set LimitMEMLOCK=infinity, or give memmon CAP_SYS_RESOURCE".to_owned(),
            Self::NoBpf => "boot a kernel that is built with CONFIG_BPF_SYSCALL=y".to_owned(),
            Self::NoCall { call, since } => format!("boot Linux {since} or later, which has {call}"),
            // A container has the other capabilities, and its profile is what is in the way.
            Self::Refused { call: "bpf", .. } => {
                "allow bpf in the seccomp profile or security module: SystemCallFilter= of a unit, --security-opt seccomp= of podman \
                 or docker, seccompProfile of a pod (a profile with bpf in it, or unconfined)"
                    .to_owned()
            }
            Self::Refused { call, .. } => {
                format!("allow {call} in the seccomp filter or security module (SystemCallFilter= of a unit)")
            }
            Self::NoBtf => "boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
            Self::UnreadableBtf { .. } => "make /sys/kernel/btf/vmlinux readable for memmon".to_owned(),
            Self::Layout { error: LayoutError::NoField { structure: "mm_struct", field: "owner" } } => {
                "boot a kernel that is built with CONFIG_MEMCG=y".to_owned()
            }
            Self::Layout { .. } => "look for a newer memmon".to_owned(),
            Self::Lockdown => "boot with lockdown=integrity".to_owned(),
            Self::Attach { .. } => "look at the error, and at the lines that came before it".to_owned(),
            Self::NoProc => "mount -t proc proc /proc".to_owned(),
            Self::OnlyOwnProcesses => "run as root, or with CAP_KILL".to_owned(),
            // Without hidepid everybody would see everybody's processes, for memmon's sake alone.
            Self::HidePid { .. } | Self::NoExe => "run as root, or with CAP_SYS_PTRACE".to_owned(),
            Self::NoBpfFs => "mount -t bpf bpf /sys/fs/bpf".to_owned(),
            Self::NoMappings { .. } => "report it, or do without: shared memory is judged later".to_owned(),
            Self::NotPinned { .. } => {
                "let memmon write there, or do without: only bpftool misses it".to_owned()
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltWithout => f.write_str("this memmon was built without BPF programs"),
            Self::UnknownKernel { release } => {
                write!(f, "no version in the kernel's release \"{}\"", Escaped(release.as_bytes()))
            }
            Self::OldKernel { version, since } => write!(f, "Linux {version} is older than {since}"),
            Self::PidNamespace => {
                f.write_str("memmon is not in the initial pid namespace, and the kernel would report the host's pids")
            }
            Self::TimeNamespace => f.write_str(
                "memmon is in a time namespace, and the kernel would report start times of another clock",
            ),
            Self::ForeignPids => f.write_str(
                "/proc is not the one of memmon's pid namespace, so that a pid in it may mean another process to a signal",
            ),
            Self::ForeignUids => f.write_str(
                "memmon is in a user namespace that does not map every uid in sight, so that a uid may not be the one \
                 that the configuration names",
            ),
            Self::CgroupNamespace => f.write_str(
                "memmon is in a cgroup namespace, so that no path of a cgroup is the one that `cgroups` or `units` names",
            ),
            Self::NoMemoryHigh => f.write_str(
                "no cgroup can be slowed down (action = \"throttle\"): the memory controller is not in the unified hierarchy of \
                 cgroups at /sys/fs/cgroup",
            ),
            Self::ReadOnlyCgroups => f.write_str(
                "no cgroup can be slowed down (action = \"throttle\"): /sys/fs/cgroup is read-only for memmon",
            ),
            Self::PartOfMachine => f.write_str("memmon sees only the processes of its own pid namespace"),
            Self::UserNamespace => f.write_str("memmon is not in the initial user namespace, and capabilities of others do not reach BPF"),
            Self::MissingCapabilities { missing } => write!(f, "{} missing", names(missing, " and ")),
            Self::Memlock => f.write_str("RLIMIT_MEMLOCK is too low for BPF maps before Linux 5.11"),
            Self::NoBpf => f.write_str("the kernel has no bpf(2)"),
            Self::NoCall { call, .. } => write!(f, "the kernel has no {call}"),
            Self::Refused { call, error } => write!(f, "{call} is refused: {error}"),
            Self::NoBtf => f.write_str("the kernel gives no type information: no /sys/kernel/btf/vmlinux"),
            Self::UnreadableBtf { error } => write!(f, "/sys/kernel/btf/vmlinux: {error}"),
            Self::Layout { error } => error.fmt(f),
            Self::Lockdown => f.write_str("lockdown=confidentiality keeps BPF programs from reading kernel memory"),
            Self::Attach { error } => write!(f, "the BPF programs could not be attached: {error}"),
            Self::NoProc => f.write_str("no procfs at /proc"),
            Self::OnlyOwnProcesses => f.write_str("without CAP_KILL only memmon's own user's processes can be signalled"),
            Self::HidePid { value } => {
                write!(f, "/proc is mounted with hidepid={}", Escaped(value.as_bytes()))?;
                f.write_str(", and without CAP_SYS_PTRACE other users' processes are not seen")
            }
            Self::NoExe => f.write_str(
                "without CAP_SYS_PTRACE other users' executables are not known: their processes are matched by comm and argv[0] only; and another memmon that has a /run of its own is not noticed",
            ),
            Self::NoBpfFs => {
                f.write_str("no bpffs at /sys/fs/bpf: the map cannot be pinned, for bpftool to show it")
            }
            Self::NoMappings { error } => write!(
                f,
                "whether another process maps the same memory is asked of each process, because the program that shows it cannot be \
                 loaded: {error}"
            ),
            Self::NotPinned { error } => write!(f, "the map is not pinned: {error}"),
        }
    }
}

impl Serialize for Obstacle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Obstacle", 2)?;
        object.serialize_field("what", &self.to_string())?;
        object.serialize_field("remedy", &self.remedy())?;
        object.end()
    }
}

/// The requested source is not available.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The requested source.
    pub choice: SourceChoice,
    /// The reasons; never empty.
    pub obstacles: Vec<Obstacle>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "source \"{}\" is not available here", self.choice)?;
        for obstacle in &self.obstacles {
            write!(f, "\n  {obstacle}\n    {}", obstacle.remedy())?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

fn names(capabilities: &[Capability], between: &str) -> String {
    capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}
