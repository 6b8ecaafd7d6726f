//! The memory limits of cgroups that every process in sight is in: those of a container, or of a tree of cgroups in which a
//! whole system runs. memmon's own cgroup has no part in this, and a limit of its unit is not one of them.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::failure::gone;
use super::machine::{pressure, unescaped};
use super::{ProcRoot, mountinfo, parse};
use crate::model::{Bytes, Elsewhere, MachineMemory, Name, Pid, SystemMemory};

/// A limit of cgroup v1 that is at least this high means no limit: the largest number of pages, in bytes.
const NO_LIMIT: u64 = 0x7fff_ffff_ffff_0000;

/// A cgroup with a limit of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedCgroup {
    /// Its path as processes in sight have it.
    pub name: Name,
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The mount point of cgroups that limit memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    version: Version,
    /// The cgroup that is mounted there.
    root: PathBuf,
    at: PathBuf,
}

/// The files of a cgroup. Those that a kernel does not have are empty.
#[derive(Clone, Debug, Default)]
struct Files {
    limit: String,
    usage: String,
    stat: String,
    swap_limit: String,
    swap_usage: String,
    pressure: String,
}

impl ProcRoot {
    /// The mount of the cgroups that limit memory; none if they are not mounted.
    pub fn memory_cgroups(&self) -> Option<Hierarchy> {
        hierarchy(&mountinfo(self.directory.as_fd(), "self/mountinfo").ok()?)
    }

    /// The cgroups with a limit that all processes in sight are in, except for memmon itself; the outermost first. It reads
    /// a file of each process only if pid 1 has a limit.
    pub fn limited_cgroups(&self, hierarchy: &Hierarchy) -> Vec<LimitedCgroup> {
        let Ok(first) = self.piece("1/cgroup") else { return Vec::new() };
        let Some(first) = hierarchy.below(&first) else { return Vec::new() };
        let mut found = hierarchy.limited(&first);
        if found.is_empty() {
            return found;
        }
        let own = if self.own { std::process::id() } else { 0 };
        // If the cgroup of any process is not known, no limit is known to hold for all.
        let Ok(pids) = self.pids() else { return Vec::new() };
        for pid in pids {
            // Kernel threads and zombies have none, and are in the root.
            if pid == Pid(own) || !self.has_memory(pid) {
                continue;
            }
            let text = match self.whole(&format!("{pid}/cgroup")) {
                Ok(text) => text,
                // It ended meanwhile; or its path is too long, which its owner can cause, and must not decide.
                Err(error) if gone(&error) || error.raw_os_error() == Some(Errno::ENAMETOOLONG as i32) => {
                    continue;
                }
                Err(_) => return Vec::new(),
            };
            match hierarchy.below(&text) {
                Some(path) => found.retain(|cgroup| hierarchy.folder(&path).starts_with(&cgroup.folder)),
                None => found.clear(),
            }
        }
        found
    }

    /// The figures of `cgroup` in place of those of the machine. None if it has no limit any more, or none that is below
    /// the machine's memory.
    pub fn memory_within(&self, cgroup: &LimitedCgroup, machine: &MachineMemory) -> Option<MachineMemory> {
        within(cgroup.version, &cgroup.files(), machine)
    }
}

impl LimitedCgroup {
    /// One of its files; empty if it is not there.
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    fn files(&self) -> Files {
        let read = |name| self.read(name);
        let limit = read(self.version.limit_file());
        match self.version {
            Version::V1 => Files {
                limit,
                usage: read("memory.usage_in_bytes"),
                stat: read("memory.stat"),
                swap_limit: read("memory.memsw.limit_in_bytes"),
                swap_usage: read("memory.memsw.usage_in_bytes"),
                pressure: String::new(),
            },
            Version::V2 => Files {
                limit,
                usage: read("memory.current"),
                stat: read("memory.stat"),
                swap_limit: read("memory.swap.max"),
                swap_usage: read("memory.swap.current"),
                pressure: read("memory.pressure"),
            },
        }
    }
}

impl Version {
    const fn limit_file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }
}

impl Hierarchy {
    /// The path of a process below the mounted cgroup, from /proc/PID/cgroup. None if it is not below that.
    fn below(&self, text: &[u8]) -> Option<PathBuf> {
        let controller: &[u8] = match self.version {
            Version::V1 => b"memory",
            Version::V2 => b"",
        };
        let path = path_of(parse::strip_deleted_suffix(parse::hierarchy(text, controller)?));
        path.strip_prefix(&self.root).ok().filter(|_| !is_outside(&path)).map(Path::to_owned)
    }

    fn folder(&self, below: &Path) -> PathBuf {
        self.at.join(below)
    }

    /// The cgroups from the mounted one to `below` that have a limit.
    fn limited(&self, below: &Path) -> Vec<LimitedCgroup> {
        let mut found: Vec<_> = below
            .ancestors()
            .map(|path| LimitedCgroup {
                name: Name::new(self.root.join(path).components().as_path().as_os_str().as_bytes()),
                folder: self.folder(path),
                version: self.version,
            })
            .filter(|cgroup| limit(&cgroup.read(cgroup.version.limit_file())).is_some())
            .collect();
        found.reverse();
        found
    }
}

/// Whether a cgroup is outside of memmon's namespace of cgroups: `/..`.
fn is_outside(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// The mount point of the cgroups that limit memory in a mountinfo (proc_pid_mountinfo(5)): of cgroup v1 if there are such.
fn hierarchy(mounts: &[u8]) -> Option<Hierarchy> {
    let mounted = |line: &[u8]| {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        let version = match *fields.get(separator + 1)? {
            b"cgroup2" => Version::V2,
            b"cgroup" => {
                let options = fields.get(separator + 3)?;
                options.split(|byte| *byte == b',').find(|option| *option == b"memory")?;
                Version::V1
            }
            _ => return None,
        };
        let (root, at) = (path_of(&unescaped(fields.get(3)?)), path_of(&unescaped(fields.get(4)?)));
        // One that was mounted before memmon's namespace of cgroups began shows more than that, or is hidden by a later one.
        (!is_outside(&root)).then_some(Hierarchy { version, root, at })
    };
    let found: Vec<_> = mounts.split(|byte| *byte == b'\n').filter_map(mounted).collect();
    let is_v1 = |found: &&Hierarchy| found.version == Version::V1;
    found.iter().find(is_v1).or_else(|| found.first()).cloned()
}

/// The amount in a file of one number; none for `max`, for what v1 has in place of that, and for no file.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

fn amount(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The figures of a cgroup with these files on `machine`. None without a limit below the machine's memory.
///
/// The available memory is the rest below the limit, with the memory that the kernel takes back before it calls its OOM killer:
/// page cache and caches of its own, as `MemAvailable` has it for the machine.
fn within(version: Version, files: &Files, machine: &MachineMemory) -> Option<MachineMemory> {
    let total = limit(&files.limit).filter(|limit| *limit < machine.memory.total.0)?;
    let usage = amount(&files.usage)?;
    // The figures of v1 that include the cgroups below.
    let (prefix, own_caches, own) = match version {
        Version::V1 => ("total_", "", ""),
        Version::V2 => ("", "slab_reclaimable", "slab_unreclaimable"),
    };
    let stat = |name: &str| {
        let line =
            |line: &str| line.strip_prefix(prefix)?.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        files.stat.lines().find_map(line).unwrap_or(0_u64)
    };
    let caches = stat("inactive_file") + stat("active_file") + stat(own_caches);
    let available = total.saturating_sub(usage.saturating_sub(caches));
    let (swap_total, swap_free) = match (version, limit(&files.swap_limit), amount(&files.swap_usage)) {
        // Memory and swap together.
        (Version::V1, Some(both), Some(used)) => (
            both.saturating_sub(total),
            both.saturating_sub(total).saturating_sub(used.saturating_sub(usage)),
        ),
        (Version::V2, Some(most), Some(used)) => (most, most.saturating_sub(used)),
        _ => (u64::MAX, u64::MAX),
    };
    Some(MachineMemory {
        memory: SystemMemory { total: Bytes(total), available: Bytes(available) },
        swap_total: machine.swap_total.min(Bytes(swap_total)),
        swap_free: machine.swap_free.min(Bytes(swap_free)),
        elsewhere: Elsewhere { shmem: Bytes(stat("shmem")), slab: Bytes(stat(own)), hugetlb: Bytes::ZERO },
        pressure: match version {
            Version::V1 => machine.pressure,
            Version::V2 => pressure(files.pressure.as_bytes()),
        },
    })
}

#[cfg(test)]
#[path = "cgroup_memory/tests.rs"]
mod tests;
