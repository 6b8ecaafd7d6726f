//! The processes that write files in memory: memory that belongs to a file system, and not to the process that asked for it.
//!
//! Only fdinfo is read, which CAP_SYS_PTRACE allows since Linux 5.14: the descriptors themselves would take CAP_DAC_READ_SEARCH. It
//! shows the mount of an open file, and the place at which the process writes next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};

use super::{ProcRoot, machine::unescaped, numbered};
use crate::model::{Bytes, Capabilities, Capability, MemoryWriter, Name, Pid, Uid};

/// Maximum number of descriptors that one search reads, so that nobody makes it long by opening many.
const MOST: usize = 65_536;

/// Maximum time of one search: the event loop waits for it.
const TIME: Duration = Duration::from_millis(200);

/// The state of one search.
struct Search {
    least: Bytes,
    /// The mount points of tmpfs that are known by now, and the mounts that are no tmpfs.
    mounts: HashMap<u64, Option<Name>>,
    /// Number of descriptors that may still be read, and the time until which they are.
    left: usize,
    until: Instant,
}

impl Search {
    fn new(least: Bytes) -> Self {
        Self { least, mounts: HashMap::new(), left: MOST, until: Instant::now() + TIME }
    }
}

impl ProcRoot {
    /// Whether only the user of a process may open its fdinfo (mode 0500), as before Linux 5.14: CAP_SYS_PTRACE does not change
    /// that, CAP_DAC_READ_SEARCH does.
    pub fn is_fdinfo_private(&self) -> bool {
        let others = Mode::S_IROTH | Mode::S_IXOTH;
        let folder = fstatat(&self.directory, "self/fdinfo", AtFlags::empty());
        folder.is_ok_and(|folder| !Mode::from_bits_truncate(folder.st_mode).contains(others))
    }

    /// The capability that memmon, which `held` these, lacks to search the processes of other users.
    pub fn missing_for_writers(&self, held: Capabilities) -> Option<Capability> {
        let may_open = held.has(Capability::DAC_READ_SEARCH) || held.has(Capability::DAC_OVERRIDE);
        if self.is_fdinfo_private() && !may_open {
            return Some(Capability::DAC_READ_SEARCH);
        }
        (!held.has(Capability::SYS_PTRACE)).then_some(Capability::SYS_PTRACE)
    }

    /// The processes that have a file in a tmpfs open for writing, and have written at least `least` to it, each with the file to
    /// which it has written most; the process that has written most comes first, and of several the youngest. On a machine
    /// with so many descriptors that the search would take too long only the youngest processes are searched.
    pub fn memory_writers(&self, least: Bytes) -> Vec<MemoryWriter> {
        let mut search = Search::new(least);
        let mut pids = self.pids().unwrap_or_default();
        pids.sort_unstable_by_key(|pid| Reverse(*pid));
        let mut found: Vec<_> =
            pids.into_iter().filter_map(|pid| self.written_by(pid, &mut search)).collect();
        found.sort_by_key(|writer| (Reverse(writer.used), Reverse(writer.pid)));
        found
    }

    /// The same for one process.
    pub fn memory_writer(&self, pid: Pid, least: Bytes) -> Option<MemoryWriter> {
        self.written_by(pid, &mut Search::new(least))
    }

    fn written_by(&self, pid: Pid, search: &mut Search) -> Option<MemoryWriter> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let process = openat(&self.directory, pid.to_string().as_str(), flags, Mode::empty()).ok()?;
        let mut largest: Option<(Name, Bytes)> = None;
        for descriptor in numbered(process.as_fd(), "fdinfo").ok()?.flatten() {
            if search.left == 0 || Instant::now() >= search.until {
                break;
            }
            search.left -= 1;
            let Ok(info) = super::whole(process.as_fd(), &format!("fdinfo/{descriptor}")) else { continue };
            let Some((mount, used)) = written(&info) else { continue };
            let most = largest.as_ref().map_or(Bytes::ZERO, |(_, most)| *most);
            if used < search.least || used <= most {
                continue;
            }
            if !search.mounts.contains_key(&mount) {
                let text = super::mountinfo(process.as_fd(), "mountinfo").unwrap_or_default();
                search.mounts.extend(tmpfs_mounts(&text));
            }
            // A mount that no process shows is the kernel's own: memory of that kind comes back with its processes.
            if let Some(path) = search.mounts.entry(mount).or_insert(None) {
                largest = Some((path.clone(), used));
            }
        }
        let (path, used) = largest?;
        let name = super::whole(process.as_fd(), "comm").unwrap_or_default();
        let uid = Uid(fstatat(&process, ".", AtFlags::empty()).ok()?.st_uid);
        Some(MemoryWriter { pid, name: Name::new(name.trim_ascii_end()), uid, path, used })
    }
}

/// The mount of a file that is open for writing, and the place of the next write, by its fdinfo (proc_pid_fdinfo(5)).
fn written(info: &[u8]) -> Option<(u64, Bytes)> {
    let info = str::from_utf8(info).ok()?;
    let field = |name| Some(info.lines().find_map(|line| line.strip_prefix(name))?.trim());
    let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0;
    let mount = field("mnt_id:")?.parse().ok().filter(|_| writes)?;
    Some((mount, Bytes(field("pos:")?.parse().ok()?)))
}

/// The mounts of a mountinfo, by their numbers: the mount point of each tmpfs, and none for others.
fn tmpfs_mounts(mountinfo: &[u8]) -> impl Iterator<Item = (u64, Option<Name>)> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let mount = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let point = words.nth(3)?;
        let kind = words.skip_while(|word| *word != b"-").nth(1)?;
        Some((mount, (kind == b"tmpfs").then(|| Name::new(unescaped(point)))))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn a_descriptor_for_writing_has_its_mount_and_its_place_in_the_file() {
        let info = |flags: &str| format!("pos:\t4096\nflags:\t{flags}\nmnt_id:\t29\nino:\t7\n");
        assert_eq!(written(info("0100001").as_bytes()), Some((29, Bytes(4096))));
        assert_eq!(written(info("0102").as_bytes()), Some((29, Bytes(4096))));
        assert_eq!(written(info("0100000").as_bytes()), None, "for reading");
        assert_eq!(written(info("010000002").as_bytes()), None, "a path only");
        assert_eq!(written(b"flags:\t0100001\n"), None);
    }

    #[test]
    fn before_5_14_a_search_needs_another_capability() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let tree = Tree::new();
        tree.write("self/fdinfo/3", "");
        let of = |capabilities: &[u32]| Capabilities(capabilities.iter().map(|bit| 1 << bit).sum());
        let (dac_override, dac_read_search, sys_ptrace) = (1, 2, 19);
        let missing = |mode, held: &[u32]| {
            let folder = tree.path().join("self/fdinfo");
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
            tree.root().missing_for_writers(of(held)).map(|missing| missing.to_string())
        };
        let needs = |name: &str| Some(name.to_owned());
        assert_eq!(missing(0o555, &[sys_ptrace]), None);
        assert_eq!(missing(0o500, &[sys_ptrace]), needs("CAP_DAC_READ_SEARCH"));
        assert_eq!(missing(0o500, &[sys_ptrace, dac_read_search]), None);
        assert_eq!(missing(0o500, &[sys_ptrace, dac_override]), None);
        assert_eq!(missing(0o555, &[dac_read_search]), needs("CAP_SYS_PTRACE"));
    }

    /// A process that has written so much to its descriptor 3, which is open with `flags` on the mount 29.
    fn writer(tree: &Tree, pid: u32, flags: &str, at: u64) {
        tree.cat(pid);
        tree.write(&format!("{pid}/comm"), format!("dd{pid}\n"));
        tree.write(&format!("{pid}/fdinfo/3"), format!("pos:\t{at}\nflags:\t{flags}\nmnt_id:\t29\n"));
        let mounts = "29 1 0:21 / /dev/shm rw - tmpfs tmpfs rw\n30 1 8:1 / / rw - ext4 x rw\n";
        tree.write(&format!("{pid}/mountinfo"), mounts);
    }

    #[test]
    fn the_process_that_has_written_most_comes_first() {
        let tree = Tree::new();
        writer(&tree, 40, "0100001", 20);
        writer(&tree, 41, "0100001", 30);
        writer(&tree, 42, "0100000", 90);
        writer(&tree, 43, "0100001", 20);
        let found = |least| {
            let short =
                |writer: &MemoryWriter| (writer.name.to_string(), writer.path.to_string(), writer.used.0);
            tree.root().memory_writers(Bytes(least)).iter().map(short).collect::<Vec<_>>()
        };
        let all = [("dd41", 30), ("dd43", 20), ("dd40", 20)];
        let all = all.map(|(name, used)| (name.to_owned(), "/dev/shm".to_owned(), used));
        assert_eq!(found(20), all);
        assert_eq!(found(21), all[..1]);
        assert_eq!(found(31), [], "too little");
        // Behind thousands of other mounts.
        let mounts = std::fs::read_to_string(tree.path().join("41/mountinfo")).unwrap();
        let many = "30 1 8:1 / /srv/a rw - ext4 x rw\n".repeat(4000);
        tree.write("41/mountinfo", many + &mounts);
        assert_eq!(found(21), all[..1]);
        // The same on a disk.
        tree.write("41/fdinfo/3", "pos:\t30\nflags:\t0100001\nmnt_id:\t30\n");
        assert_eq!(found(20), all[1..]);
        let one = |pid| tree.root().memory_writer(Pid(pid), Bytes(20)).map(|writer| writer.used);
        assert_eq!((one(40), one(41)), (Some(Bytes(20)), None));
    }
}
