//! The shared memory that a process maps, object by object: how much of each is resident, and whether it outlives every
//! process. Pure.

use std::{
    collections::BTreeMap,
    io::{self, BufRead},
    ops::Range,
};

use nix::sys::stat::major;

use super::{
    parse::strip_deleted_suffix,
    smaps::{FileId, Mapping},
};
use crate::model::Bytes;

/// The devices of memory that is not a file on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// The kernel's own mount: memfd_create(2), shared anonymous memory and System V segments.
    pub internal: u64,
    /// Mounted tmpfs file systems, as the process sees them.
    pub tmpfs: Vec<u64>,
}

impl Devices {
    /// Whether the pages of `file` are shared memory. Device 0 is that of anonymous memory.
    pub(super) fn hold(&self, file: FileId) -> bool {
        file.device != 0 && (file.device == self.internal || self.tmpfs.contains(&file.device))
    }

    /// Whether they may be: a tmpfs that the process does not see, or one below an overlay, has no disk either.
    pub(super) fn may_hold(file: FileId) -> bool {
        file.device != 0 && major(file.device) == 0
    }
}

/// An object of shared memory in one address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SharedObject {
    pub file: FileId,
    /// Its path without " (deleted)", as the process chose it.
    pub name: Vec<u8>,
    pub kind: Kind,
    /// Resident pages, those once that are mapped several times.
    pub resident: Bytes,
    /// The size of its mappings.
    pub mapped: Bytes,
    /// The size of the parts that they cover, those once that are mapped several times.
    pub covered: Bytes,
}

/// The end of an object that no process maps or holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is freed: a memfd, shared anonymous memory, a deleted file.
    Unlinked,
    /// It stays: a file that has a name.
    Named,
    /// A System V segment, which is freed only if it is marked for destruction.
    SystemV,
}

/// The shared memory in `mappings`, in the order of its identity. Files on disks are page cache and left out.
pub(super) fn objects(mappings: &[Mapping], devices: &Devices) -> Vec<SharedObject> {
    let mut by_file: BTreeMap<FileId, Vec<&Mapping>> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| devices.hold(mapping.file)) {
        by_file.entry(mapping.file).or_default().push(mapping);
    }
    by_file.into_iter().filter_map(|(file, mappings)| object(file, &mappings, devices)).collect()
}

fn object(file: FileId, mappings: &[&Mapping], devices: &Devices) -> Option<SharedObject> {
    let path = &mappings.first()?.path;
    let deleted = path.ends_with(b" (deleted)");
    let kind = if file.device == devices.internal && path.starts_with(b"/SYSV") {
        Kind::SystemV
    } else if deleted || file.device == devices.internal {
        Kind::Unlinked
    } else {
        Kind::Named
    };
    let mapped = mappings.iter().map(|mapping| mapping.size());
    let (name, (resident, covered)) = (strip_deleted_suffix(path).to_owned(), once(mappings));
    Some(SharedObject { file, name, kind, resident, mapped: mapped.sum(), covered })
}

/// Memory of one object that several mappings hold together, and how much of it they cover. Mappings of the same part (a heap
/// that is mapped several times) count as the largest of them; others add up, to no more than the parts cover.
fn once(mappings: &[&Mapping]) -> (Bytes, Bytes) {
    let mut parts: BTreeMap<(u64, u64), Bytes> = BTreeMap::new();
    for mapping in mappings {
        let Range { start, end } = mapping.range;
        let part = parts.entry((start, end)).or_default();
        *part = (*part).max(mapping.resident);
    }
    let sum = parts.values().fold(Bytes::ZERO, |sum, part| sum + *part);
    let mut covered = (0, 0);
    for (start, end) in parts.into_keys() {
        let start = start.max(covered.1);
        covered = (covered.0 + end.saturating_sub(start), end.max(covered.1));
    }
    let covered = Bytes(covered.0);
    (sum.min(covered), covered)
}

/// A System V segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The key, which its path in /proc/PID/maps shows in hexadecimal.
    pub key: i32,
    /// Whether it is freed with its last detachment (`SHM_DEST`, set by IPC_RMID, shmctl(2)).
    pub freed: bool,
    /// The process that attached or detached it last; exiting is detaching.
    pub last: u32,
    /// Number of attachments.
    pub attached: u64,
    pub owner: u32,
    /// Its memory, resident and swapped out; zero if the kernel does not show it.
    pub bytes: Bytes,
}

/// The System V segments in /proc/sysvipc/shm by their ids: a line of headings, then `key shmid perms size cpid lpid nattch
/// uid gid cuid cgid atime dtime ctime rss swap`, the permissions in octal.
///
/// # Errors
/// Those of reading.
pub(super) fn segments(text: impl BufRead) -> io::Result<BTreeMap<u64, Segment>> {
    let segment = |line: &[u8]| {
        let words: Vec<_> = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
        let word = |at: usize| std::str::from_utf8(words.get(at)?).ok();
        let number = |at| word(at)?.parse::<u64>().ok();
        let segment = Segment {
            key: word(0)?.parse().ok()?,
            freed: u32::from_str_radix(word(2)?, 8).ok()? & 0o1000 != 0,
            last: word(5)?.parse().ok()?,
            attached: number(6)?,
            owner: word(7)?.parse().ok()?,
            bytes: Bytes(number(14).unwrap_or(0).saturating_add(number(15).unwrap_or(0))),
        };
        Some((number(1)?, segment))
    };
    let lines = text.split(b'\n').skip(1);
    lines.filter_map(|line| line.map(|line| segment(&line)).transpose()).collect()
}

/// The devices of the tmpfs file systems in /proc/PID/mountinfo (proc_pid_mountinfo(5)).
///
/// # Errors
/// Those of reading.
pub(super) fn tmpfs_devices(mountinfo: impl BufRead) -> io::Result<Vec<u64>> {
    let device = |line: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        let device = std::str::from_utf8(words.nth(2)?).ok()?;
        let (major, minor) = device.split_once(':')?;
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        (words.next()? == b"tmpfs")
            .then_some(nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?))
    };
    let lines = mountinfo.split(b'\n');
    let mut devices: Vec<u64> =
        lines.filter_map(|line| line.map(|line| device(&line)).transpose()).collect::<io::Result<_>>()?;
    devices.sort_unstable();
    devices.dedup();
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHM: u64 = 1;
    const TMPFS: u64 = 25;

    fn devices() -> Devices {
        Devices { internal: SHM, tmpfs: vec![TMPFS] }
    }

    fn mapping(device: u64, inode: u64, range: Range<u64>, path: &str, resident: u64) -> Mapping {
        let file = FileId { device, inode };
        Mapping { file, range, path: path.as_bytes().to_vec(), resident: Bytes(resident) }
    }

    fn only(mappings: &[Mapping]) -> SharedObject {
        let mut objects = objects(mappings, &devices());
        assert_eq!(objects.len(), 1, "{objects:?}");
        objects.remove(0)
    }

    #[test]
    fn kinds_follow_device_and_name() {
        for (device, path, expected) in [
            (SHM, "/dev/zero (deleted)", Some(Kind::Unlinked)),
            (SHM, "/memfd:x (deleted)", Some(Kind::Unlinked)),
            (SHM, "/SYSV00000000 (deleted)", Some(Kind::SystemV)),
            (TMPFS, "/dev/shm/x", Some(Kind::Named)),
            (TMPFS, "/dev/shm/x (deleted)", Some(Kind::Unlinked)),
            // Page cache.
            (8, "/var/lib/x", None),
            (8, "/var/lib/x (deleted)", None),
        ] {
            let found = objects(&[mapping(device, 7, 0..100, path, 10)], &devices());
            assert_eq!(found.first().map(|object| object.kind), expected, "{path}");
        }
        assert_eq!(objects(&[mapping(SHM, 0, 0..9, "/SYSV00000000 (deleted)", 1)], &devices()).len(), 1);
        assert_eq!(objects(&[mapping(0, 0, 0..9, "[heap]", 1)], &devices()), []);
    }

    #[test]
    fn a_heap_that_is_mapped_three_times_counts_once() {
        let views = [0; 3].map(|_| mapping(SHM, 7, 0..400, "/memfd:heap (deleted)", 256));
        assert_eq!(only(&views).resident, Bytes(256));
    }

    #[test]
    fn parts_add_up_to_no_more_than_they_cover() {
        let part = |range, resident| mapping(SHM, 7, range, "/memfd:x (deleted)", resident);
        let apart = only(&[part(0..100, 80), part(100..200, 50)]);
        assert_eq!(apart.resident, Bytes(130));
        let overlapping = only(&[part(0..100, 100), part(50..150, 100)]);
        assert_eq!(overlapping.resident, Bytes(150));
        let inside = only(&[part(0..100, 100), part(10..20, 10), part(90..120, 30)]);
        assert_eq!(inside.resident, Bytes(120));
    }

    #[test]
    fn segments_are_freed_or_stay() {
        let text = b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime\n\
                     0          5  1600   1048576  10  11      2     0     0     0     0  0  0  0  0  0\n\
                     -1726340864 6   600   1048576  10  12      0  1000     0     0     0  0  0  0  4096  8192\n";
        let staying = Segment {
            key: -1_726_340_864,
            freed: false,
            last: 12,
            attached: 0,
            owner: 1000,
            bytes: Bytes(12288),
        };
        let freed = Segment { key: 0, freed: true, last: 11, attached: 2, owner: 0, bytes: Bytes::ZERO };
        assert_eq!(segments(&text[..]).unwrap(), BTreeMap::from([(5, freed), (6, staying)]));
    }

    #[test]
    fn only_tmpfs_counts_as_memory() {
        let text = b"22 28 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n\
                     26 28 0:24 / /dev/shm rw - tmpfs tmpfs rw\n\
                     27 28 0:25 / /run rw shared:1 master:2 - tmpfs tmpfs rw\n\
                     28 1 254:0 / / rw - ext4 /dev/vda rw\n27 28 0:25 / /run/x rw - tmpfs tmpfs rw\n";
        let found = tmpfs_devices(&text[..]).unwrap();
        assert_eq!(found, [nix::sys::stat::makedev(0, 24), nix::sys::stat::makedev(0, 25)]);
    }
}
