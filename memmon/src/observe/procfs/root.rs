//! The root of /proc, what is read of the machine as a whole, and how files below it are read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{SysconfVar, sysconf};

use crate::model::{Bytes, Measure, Pid, ProcessId, SystemMemory, Uid, WantedFacts};

use super::last_command_line::LastCommandLine;
use super::long_cgroup::LongCgroups;
use super::lookups::{Lookups, OnEnd};
use super::mapped_alone::{KernelMappings, ReadMappings};
use super::parse;

/// More than any file that memmon reads whole (/proc/PID/cgroup: 13 hierarchies, each path below 4096 bytes).
const LONGEST_FILE: u64 = 64 << 10;

/// The places of Slurm's configuration: by its packages, by those of Debian before 11, by default if it was built by hand, and if slurmd
/// has it from slurmctld.
const SLURM: [&str; 4] = [
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/usr/local/etc/slurm.conf",
    "/run/slurm/conf/slurm.conf",
];

/// A mounted /proc, or a captured copy of one.
#[derive(Debug)]
pub struct ProcRoot {
    pub(super) directory: OwnedFd,
    pub(super) path: PathBuf,
    /// Whether its pids are those that system calls of this process understand.
    pub(super) own: bool,
    pub(super) page_size: u64,
    /// Whether nothing is decided by what is found.
    pub(super) onlooks: bool,
    /// Whether processes over the limit are measured by what their end would give back.
    pub(super) measure: Measure,
    /// The facts that are read of a process, besides those that every configuration needs.
    pub(super) wanted: WantedFacts,
    pub(super) lookups: Lookups,
    /// The mappings of single processes as the kernel has them.
    pub(super) mappings: Option<KernelMappings>,
    pub(super) long_cgroups: LongCgroups,
    pub(super) last_command_line: LastCommandLine,
    /// Whether the environment of a process may name its Slurm job.
    pub(super) has_slurm: bool,
}

impl ProcRoot {
    /// This system's /proc.
    pub fn real() -> io::Result<Self> {
        Self::open(Path::new("/proc"), true)
    }

    /// A /proc elsewhere: another mount, or a captured tree.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::open(path, false)
    }

    /// The same for commands that only display, beside the daemon that decides: they give up sooner on processes that hang.
    #[must_use]
    pub fn onlooking(self) -> Self {
        Self { onlooks: true, ..self }
    }

    /// The same, which measures processes over the limit by `measure`; by default by resident memory alone.
    #[must_use]
    pub fn measuring(self, measure: Measure) -> Self {
        Self { measure, ..self }
    }

    /// The same, which also reads the facts `wanted` of each process; by default none.
    #[must_use]
    pub fn wanting(self, wanted: WantedFacts) -> Self {
        Self { wanted, ..self }
    }

    /// Reads also the facts `wanted` of each process from now on.
    pub const fn set_wanted(&mut self, wanted: WantedFacts) {
        self.wanted = wanted;
    }

    /// Reads the mappings of files of single processes by `read` from now on, to know who else maps their shared memory.
    /// Without it each older process is asked.
    pub fn set_mappings(&mut self, read: ReadMappings) {
        self.mappings = Some(KernelMappings::new(read));
    }

    /// Calls `call` with each process about whose shared memory there is an answer from now on, or the reason why there is none.
    /// It is called on another thread, and must not wait.
    pub fn on_answer(&mut self, call: impl Fn(ProcessId) + Send + Sync + 'static) {
        self.lookups.on_end = Some(OnEnd(Arc::new(call)));
    }

    /// Measures by `measure` from now on.
    pub const fn set_measure(&mut self, measure: Measure) {
        self.measure = measure;
    }

    fn open(path: &Path, own: bool) -> io::Result<Self> {
        let directory = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| with_path(path, errno))?;
        let page_size = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
        let page_size =
            page_size.ok_or_else(|| io::Error::other("the C library does not know the page size"))?;
        let (measure, lookups) = (Measure::Rss, Lookups::default());
        let wanted = WantedFacts::default();
        Ok(Self {
            directory,
            path: path.to_owned(),
            own,
            page_size,
            onlooks: false,
            measure,
            wanted,
            lookups,
            mappings: None,
            long_cgroups: LongCgroups::default(),
            last_command_line: LastCommandLine::default(),
            has_slurm: own && SLURM.iter().any(|file| may_exist(Path::new(file))),
        })
    }

    /// The machine's memory, from meminfo. `MemAvailable` is there since Linux 3.14.
    pub fn memory(&self) -> io::Result<SystemMemory> {
        self.memory_of(&self.piece("meminfo")?)
    }

    /// The same from the text of meminfo.
    pub(super) fn memory_of(&self, text: &[u8]) -> io::Result<SystemMemory> {
        let amount = |label| {
            let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("it has no line {label}"));
            parse::kib(text, label).ok_or_else(|| with_path(&self.path.join("meminfo"), missing()))
        };
        Ok(SystemMemory { total: amount("MemTotal:")?, available: amount("MemAvailable:")? })
    }

    /// Every process in sight, kernel threads too, in the order in which /proc lists them.
    pub fn pids(&self) -> io::Result<Vec<Pid>> {
        let pids = numbered(self.directory.as_fd(), ".").map_err(|errno| with_path(&self.path, errno))?;
        pids.map(|pid| pid.map(Pid).map_err(|errno| with_path(&self.path, errno))).collect()
    }

    /// The processes whose effective uid is `uid`: the kernel makes it the owner of their directories.
    pub fn pids_of(&self, uid: Uid) -> io::Result<Vec<Pid>> {
        let is_owner = |pid: &Pid| {
            let found = fstatat(&self.directory, pid.to_string().as_str(), AtFlags::empty());
            found.is_ok_and(|found| found.st_uid == uid.0)
        };
        Ok(self.pids()?.into_iter().filter(is_owner).collect())
    }

    /// The `hidepid` (proc(5)) that keeps processes out of memmon's sight; `None` where it sees them all.
    ///
    /// The mount option alone says little, because rights see past it (CAP_SYS_PTRACE, or the mount's `gid`, which is
    /// root's where none is named): whether pid 1 can be read decides.
    pub fn hidepid(&self) -> io::Result<Option<String>> {
        if head(self.directory.as_fd(), "1/statm", &mut [0; 64]).is_ok() {
            return Ok(None);
        }
        let mounts = self.whole("mounts")?;
        let option = parse::hidepid(&mounts, self.path.as_os_str().as_bytes());
        Ok(option.map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    /// A file that the kernel writes in one piece.
    pub(super) fn piece(&self, file: &str) -> io::Result<Vec<u8>> {
        piece(self.directory.as_fd(), file).map_err(|error| with_path(&self.path.join(file), error))
    }

    pub(super) fn whole(&self, file: &str) -> io::Result<Vec<u8>> {
        whole(self.directory.as_fd(), file).map_err(|error| with_path(&self.path.join(file), error))
    }
}

/// Whether there is such a file, or that cannot be known: Slurm's folder may be closed to root without CAP_DAC_READ_SEARCH, or lead
/// to one that the unit hides.
fn may_exist(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

/// Room for nearly all files in one read; a vector that grows from nothing takes eight for meminfo.
const FIRST_READ: usize = 4096;

/// The result of the first read of a file: all of it, for the short files that the kernel writes in one piece.
pub(super) fn head<'a>(directory: BorrowedFd<'_>, path: &str, buffer: &'a mut [u8]) -> nix::Result<&'a [u8]> {
    let file = openat(directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let length = nix::unistd::read(&file, buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// A file that the kernel writes in one piece, up to [`LONGEST_FILE`]: if the first read returns less than it may, that is
/// all of it, so that no second read has to return the end.
pub(super) fn piece(directory: BorrowedFd<'_>, path: &str) -> io::Result<Vec<u8>> {
    let file = openat(directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = vec![0; FIRST_READ];
    let length = nix::unistd::read(&file, &mut text)?;
    text.truncate(length);
    if length == FIRST_READ {
        File::from(file).take(LONGEST_FILE).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// A whole file, up to [`LONGEST_FILE`].
pub(super) fn whole(directory: BorrowedFd<'_>, path: &str) -> io::Result<Vec<u8>> {
    beginning(directory, path, LONGEST_FILE)
}

/// The mountinfo at `path`, which has a line for each mount: thousands of them on a machine with many containers.
pub(super) fn mountinfo(directory: BorrowedFd<'_>, path: &str) -> io::Result<Vec<u8>> {
    beginning(directory, path, LONGEST_MOUNTINFO)
}

/// More of a mountinfo is not read, in bytes.
pub(super) const LONGEST_MOUNTINFO: u64 = 16 << 20;

/// The first `most` bytes of a file.
pub(super) fn beginning(directory: BorrowedFd<'_>, path: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = openat(directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut text = Vec::with_capacity(FIRST_READ);
    File::from(file).take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// The entries of a directory that are numbers: processes of /proc, threads of /proc/PID/task.
pub(super) fn numbered(
    directory: BorrowedFd<'_>,
    path: &str,
) -> nix::Result<impl Iterator<Item = nix::Result<u32>> + use<>> {
    let listing =
        Dir::openat(directory, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(listing.into_iter().filter_map(|entry| match entry {
        Ok(entry) => parse::number(entry.file_name().to_bytes()).map(Ok),
        Err(errno) => Some(Err(errno)),
    }))
}

/// Whether an error means that the process ended: its directory is gone (ENOENT), or was open and leads nowhere (ESRCH).
pub(super) const fn ended(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESRCH)
}

/// `error`, with the file it is about.
pub(super) fn with_path(path: &Path, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// An amount of memory that the kernel gives in pages.
pub(super) const fn pages(count: u64, page_size: u64) -> Bytes {
    Bytes(count.saturating_mul(page_size))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn memory_is_total_and_available() {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal:  16777216 kB\nMemFree:  1 kB\nMemAvailable:  9437184 kB\n");
        let memory = tree.root().memory().unwrap();
        assert_eq!(memory.total, Bytes(16 * Bytes::GIB));
        assert_eq!(memory.available, Bytes(9 * Bytes::GIB));
    }

    #[test]
    fn meminfo_without_a_line_is_named_with_its_file() {
        let tree = Tree::new();
        tree.write("meminfo", "MemTotal:  16777216 kB\n");
        let message = tree.root().memory().unwrap_err().to_string();
        assert!(message.ends_with("/meminfo: it has no line MemAvailable:"), "{message}");
    }

    #[test]
    fn a_file_that_cannot_be_looked_at_may_exist() {
        let tree = Tree::new();
        tree.write("slurm.conf", "");
        tree.link("loop", "loop");
        let found = ["slurm.conf", "loop/slurm.conf", "missing/slurm.conf"];
        assert_eq!(found.map(|file| may_exist(&tree.path().join(file))), [true, true, false]);
    }

    #[test]
    fn a_missing_root_is_named() {
        let message = ProcRoot::at(Path::new("/nonexistent/proc")).unwrap_err().to_string();
        assert!(message.starts_with("/nonexistent/proc: "), "{message}");
    }

    #[test]
    fn pids_are_the_directories_with_numbers() {
        let tree = Tree::new();
        for name in ["1/statm", "32768/statm", "self-made/statm", "4294967296/statm", "uptime"] {
            tree.write(name, "");
        }
        let mut pids = tree.root().pids().unwrap();
        pids.sort_unstable();
        assert_eq!(pids, [Pid(1), Pid(32_768)]);
    }

    #[test]
    fn hidepid_matters_only_where_it_hides() {
        let tree = Tree::new();
        let mounts = |options: &str| format!("proc {} proc rw{options} 0 0\n", tree.path().display());
        tree.write("mounts", mounts(",hidepid=invisible"));
        let root = tree.root();
        assert_eq!(root.hidepid().unwrap().as_deref(), Some("invisible"));
        tree.write("1/statm", "10 5 0 0 0 0 0\n");
        assert_eq!(root.hidepid().unwrap(), None);
        tree.remove("1/statm");
        tree.write("mounts", mounts(""));
        assert_eq!(root.hidepid().unwrap(), None);
    }
}
