//! The processes that write files in memory: memory that belongs to a file system, and not to the process that asked for it.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime};

use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use super::{ProcRoot, numbered, parse, shared_objects::tmpfs_mounts};
use crate::model::{Bytes, MemoryWriter, Name, Pid, Uid};

/// A file that was written within this time is being written.
const RECENT: Duration = Duration::from_secs(2);

/// The size of a block of `st_blocks`.
const BLOCK: u64 = 512;

/// Maximum number of descriptors that one search reads, so that nobody makes it long by opening many.
const MOST: usize = 65_536;

/// The state of one search.
struct Search {
    least: Bytes,
    now: SystemTime,
    /// The mounts that are known by now: whether each is a tmpfs.
    mounts: HashMap<u64, bool>,
    /// Number of descriptors that may still be read.
    left: usize,
}

impl Search {
    fn new(least: Bytes, now: SystemTime) -> Self {
        Self { least, now, mounts: HashMap::new(), left: MOST }
    }
}

impl ProcRoot {
    /// The processes that have a file of at least `least` in a tmpfs open for writing which was written just before `now`, each
    /// with the largest such file; the process that has written most comes first.
    ///
    /// It reads some files of each process, and asks no file system but tmpfs, which never hangs.
    pub fn memory_writers(&self, least: Bytes, now: SystemTime) -> Vec<MemoryWriter> {
        let mut search = Search::new(least, now);
        let writer = |pid| Some((self.written_bytes(pid), self.written_by(pid, &mut search)?));
        let mut found: Vec<_> = self.pids().unwrap_or_default().into_iter().filter_map(writer).collect();
        found.sort_by_key(|(written, writer)| (Reverse(*written), writer.pid));
        found.into_iter().map(|(_, writer)| writer).collect()
    }

    /// The same for one process.
    pub fn memory_writer(&self, pid: Pid, least: Bytes, now: SystemTime) -> Option<MemoryWriter> {
        self.written_by(pid, &mut Search::new(least, now))
    }

    fn written_by(&self, pid: Pid, search: &mut Search) -> Option<MemoryWriter> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let process = openat(&self.directory, pid.to_string().as_str(), flags, Mode::empty()).ok()?;
        let mut largest: Option<(Name, Bytes)> = None;
        for descriptor in numbered(process.as_fd(), "fd").ok()?.flatten() {
            search.left = search.left.checked_sub(1)?;
            let Ok(info) = super::whole(process.as_fd(), &format!("fdinfo/{descriptor}")) else { continue };
            let Some(mount) = written_mount(&info) else { continue };
            if !search.mounts.contains_key(&mount) {
                let text = super::whole(process.as_fd(), "mountinfo").unwrap_or_default();
                search.mounts.extend(tmpfs_mounts(&text));
            }
            // A mount that no process shows is the kernel's own: memory of that kind comes back with its processes.
            if !*search.mounts.entry(mount).or_insert(false) {
                continue;
            }
            let link = format!("fd/{descriptor}");
            let Ok(status) = fstatat(&process, link.as_str(), AtFlags::empty()) else { continue };
            let used = Bytes(u64::try_from(status.st_blocks).unwrap_or_default().saturating_mul(BLOCK));
            let is_largest = largest.as_ref().is_none_or(|(_, most)| used > *most);
            if used >= search.least && is_largest && is_recent(status.st_mtime, search.now) {
                let path = readlinkat(&process, link.as_str()).map(OsStringExt::into_vec).unwrap_or_default();
                largest = Some((Name::new(parse::strip_deleted_suffix(&path)), used));
            }
        }
        let (path, used) = largest?;
        let name = super::whole(process.as_fd(), "comm").unwrap_or_default();
        let uid = Uid(fstatat(&process, ".", AtFlags::empty()).ok()?.st_uid);
        Some(MemoryWriter { pid, name: Name::new(name.trim_ascii_end()), uid, path, used })
    }

    /// Number of bytes that `pid` has written to files and pipes since its start.
    fn written_bytes(&self, pid: Pid) -> u64 {
        let text = self.whole(&format!("{pid}/io")).unwrap_or_default();
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"wchar: "));
        line.and_then(parse::single_value).unwrap_or_default()
    }
}

/// The mount of a file that is open for writing, by its fdinfo (proc_pid_fdinfo(5)).
fn written_mount(info: &[u8]) -> Option<u64> {
    let info = str::from_utf8(info).ok()?;
    let field = |name| Some(info.lines().find_map(|line| line.strip_prefix(name))?.trim());
    let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0;
    field("mnt_id:")?.parse().ok().filter(|_| writes)
}

/// Whether `modified`, in seconds, is just before `now`, or after it: a file has the time of the last tick.
fn is_recent(modified: i64, now: SystemTime) -> bool {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(modified).unwrap_or_default());
    now.duration_since(modified).is_ok_and(|age| age <= RECENT) || modified > now
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn a_descriptor_for_writing_has_its_mount() {
        let info = |flags: &str| format!("pos:\t4096\nflags:\t{flags}\nmnt_id:\t29\nino:\t7\n");
        assert_eq!(written_mount(info("0100001").as_bytes()), Some(29));
        assert_eq!(written_mount(info("0102").as_bytes()), Some(29));
        assert_eq!(written_mount(info("0100000").as_bytes()), None, "for reading");
        assert_eq!(written_mount(info("010000002").as_bytes()), None, "a path only");
        assert_eq!(written_mount(b"flags:\t0100001\n"), None);
    }

    /// A process whose descriptor 3 is `file`, which is open with `flags` on the mount 29.
    fn writer(tree: &Tree, pid: u32, file: &str, flags: &str, written: u64) {
        tree.cat(pid);
        tree.write(&format!("{pid}/comm"), format!("dd{pid}\n"));
        tree.write(&format!("{pid}/fdinfo/3"), format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t29\n"));
        tree.write(
            &format!("{pid}/mountinfo"),
            "29 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n30 1 8:1 / / rw - ext4 x rw\n",
        );
        tree.write(&format!("{pid}/io"), format!("rchar: 9\nwchar: {written}\nsyscr: 1\n"));
        fs::create_dir_all(tree.path().join(format!("{pid}/fd"))).unwrap();
        tree.link(&format!("{pid}/fd/3"), file);
    }

    #[test]
    fn the_process_that_has_written_most_comes_first() {
        let (tree, files) = (Tree::new(), tempfile::tempdir().unwrap());
        let file = files.path().join("filled");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        let path = file.to_str().unwrap();
        writer(&tree, 40, path, "0100001", 10);
        writer(&tree, 41, path, "0100001", 1 << 20);
        writer(&tree, 42, path, "0100000", 1 << 30);
        let found = |least, now| {
            let found = tree.root().memory_writers(Bytes(least), now);
            let short =
                |writer: &MemoryWriter| (writer.pid.0, writer.name.to_string(), writer.path.to_string());
            found.iter().map(short).collect::<Vec<_>>()
        };
        let now = SystemTime::now();
        fs::File::open(&file).unwrap().set_modified(now).unwrap();
        let both = [41, 40].map(|pid| (pid, format!("dd{pid}"), path.to_owned()));
        assert_eq!(found(1 << 20, now), both);
        assert_eq!(found(2 << 20, now), [], "too small");
        assert_eq!(found(1 << 20, now + Duration::from_secs(60)), [], "nobody writes it now");
        // The same on a disk.
        tree.write("41/fdinfo/3", "pos:\t0\nflags:\t0100001\nmnt_id:\t30\n");
        assert_eq!(found(1 << 20, now), both[1..]);
        let one = |pid| tree.root().memory_writer(Pid(pid), Bytes(1 << 20), now).map(|writer| writer.used);
        assert_eq!((one(40), one(41)), (Some(Bytes(1 << 20)), None));
    }
}
