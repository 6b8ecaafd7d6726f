//! Shared memory that stays after the end of a process: files of a tmpfs and System V segments.
//!
//! The objects that a process maps are known only while it lives, and nothing is read for that before its signal. So the
//! result of an earlier lookup is used, if there was one. The kernel notes for a segment which process detached it last.
//! For files, without a lookup, a file of the same user that has the right size is shown, as a possibility.

use std::{
    cmp::Reverse,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{FileStat, fstat},
};

use super::ProcRoot;
use super::shared_objects::{self, Kind, Segment, SharedObject};
use crate::model::{Bytes, GivenBack, LeftBehind, Name, Process, ProcessId, Uid};

/// The directory in which programs create files in memory (shm_open(3)).
const SHM: &str = "/dev/shm";

/// Maximum of files that are looked at there.
const MAX_FILES: usize = 1024;

/// The objects of a process that outlive every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stays(Vec<SharedObject>);

impl ProcRoot {
    /// The objects of `process` that would stay, by the last lookup of its shared memory; `None` if there was no lookup.
    pub fn stays(&self, process: ProcessId) -> Option<Stays> {
        self.lookups.stays(process).map(Stays)
    }

    /// The objects that `process`, which has ended, left behind. `stays` was found while it lived.
    pub fn left_behind(&self, process: &Process, back: &GivenBack, stays: Option<&Stays>) -> Vec<LeftBehind> {
        self.left_behind_in(Path::new(SHM), process, back, stays)
    }

    fn left_behind_in(
        &self,
        shm: &Path,
        process: &Process,
        back: &GivenBack,
        stays: Option<&Stays>,
    ) -> Vec<LeftBehind> {
        if back.parts.is_none_or(|parts| parts.shmem < LeftBehind::LEAST) {
            return Vec::new();
        }
        let mut left = self.segments_of(process.id.pid.0);
        match stays {
            Some(Stays(objects)) => {
                let files = objects.iter().filter(|object| object.kind == Kind::Named);
                left.extend(files.filter_map(|object| file(shm, object, back)));
            }
            None => {
                let found = left.iter().map(|left| left.bytes).sum();
                let missing = back.shmem_left().unwrap_or_default().saturating_sub(found);
                left.extend(similar_file(shm, [process.real_uid, process.effective_uid], missing));
            }
        }
        left.retain(|left| left.bytes >= LeftBehind::LEAST);
        left.sort_by_key(|left| Reverse(left.bytes));
        left
    }

    /// The segments that the process `pid` detached last, which no process uses now.
    fn segments_of(&self, pid: u32) -> Vec<LeftBehind> {
        let text = self.whole("sysvipc/shm").unwrap_or_default();
        let segments = shared_objects::segments(&text[..]).unwrap_or_default();
        let stays = segments
            .into_iter()
            .filter(|(_, segment)| segment.last == pid && segment.attached == 0 && !segment.freed);
        let left = |(id, segment): (u64, Segment)| LeftBehind {
            name: Name::from(format!("/SYSV{:08x}", segment.key).as_str()),
            bytes: segment.bytes,
            owner: Some(Uid(segment.owner)),
            segment: Some(id),
            certain: true,
        };
        stays.map(left).collect()
    }
}

/// A file that the process mapped, if it is still there. Only files in `shm` itself can be looked at without the danger of
/// waiting for a file server; another one counts as there if the machine has as much shared memory as before.
fn file(shm: &Path, object: &SharedObject, back: &GivenBack) -> Option<LeftBehind> {
    let name = Name::new(object.name.as_slice());
    let path = Path::new(OsStr::from_bytes(&object.name));
    if path.parent() == Some(shm) {
        let (_, found) = files(shm).find(|(at, _)| at == path)?;
        let (bytes, owner) = (size(&found), Some(Uid(found.st_uid)));
        let is_it = found.st_ino == object.file.inode;
        return is_it.then_some(LeftBehind { name, bytes, owner, segment: None, certain: true });
    }
    let bytes = object.resident;
    let is_left = back.shmem_left().is_some_and(|left| left.0 >= bytes.0 / 2);
    is_left.then_some(LeftBehind { name, bytes, owner: None, segment: None, certain: true })
}

/// The largest file of one of `owners` that may be what is `missing`.
fn similar_file(shm: &Path, owners: [Uid; 2], missing: Bytes) -> Option<LeftBehind> {
    if missing < LeftBehind::LEAST {
        return None;
    }
    let fits = files(shm).filter_map(|(path, found)| {
        let (bytes, owner) = (size(&found), Uid(found.st_uid));
        let is_so_large = (missing.times(0.5)..=missing.times(1.05)).contains(&bytes);
        let name = Name::new(path.as_os_str().as_bytes());
        (is_so_large && owners.contains(&owner)).then_some(LeftBehind {
            name,
            bytes,
            owner: Some(owner),
            segment: None,
            certain: false,
        })
    });
    fits.max_by_key(|left| left.bytes)
}

/// The files in `shm`. Another file system that is mounted on one of them (a user may do that by fusermount) is not looked
/// at, as that could wait for ever.
fn files(shm: &Path) -> impl Iterator<Item = (PathBuf, FileStat)> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV);
    let folder = fs::File::open(shm).ok();
    let entries = fs::read_dir(shm).into_iter().flatten().flatten().take(MAX_FILES);
    entries.filter_map(move |entry| {
        let file = openat2(folder.as_ref()?, entry.file_name().as_os_str(), how).ok()?;
        let found = fstat(file).ok()?;
        (found.st_mode & libc::S_IFMT == libc::S_IFREG).then(|| (entry.path(), found))
    })
}

fn size(file: &FileStat) -> Bytes {
    Bytes(u64::try_from(file.st_blocks).unwrap_or_default().saturating_mul(512))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nix::unistd::getuid;

    use super::super::shared_objects::SharedObject;
    use super::super::smaps::FileId;
    use super::super::{Accuracy, testing::Tree};
    use super::*;
    use crate::model::{FreeAndShared, Parts, Pid};

    const MIB: u64 = 1 << 20;

    struct Case {
        tree: Tree,
        shm: tempfile::TempDir,
        victim: Process,
        back: GivenBack,
    }

    impl Case {
        /// A victim that has touched 4 MiB of shared memory, of which the machine lost `lost`.
        fn new(lost: u64) -> Self {
            let (tree, shm) = (Tree::new(), tempfile::tempdir().unwrap());
            tree.write("sysvipc/shm", "key shmid\n");
            let owner = Uid(getuid().as_raw());
            tree.cat(42);
            let victim = tree.root().confirm(Pid(42), None, Bytes::ZERO, &Accuracy::StatmExact).unwrap();
            let victim = Process { real_uid: owner, effective_uid: Uid(999_999), ..victim };
            let machine = |shmem| {
                Some(FreeAndShared { available: Bytes(9 * MIB), free_per_cpu: None, shmem: Bytes(shmem) })
            };
            let parts = Some(Parts { shmem: Bytes(4 * MIB), ..Parts::default() });
            let (before, after) = (machine(9 * MIB), machine(9 * MIB - lost));
            Self { tree, shm, victim, back: GivenBack { parts, before, after, ..GivenBack::default() } }
        }

        fn file(&self, name: &str, mib: usize) -> SharedObject {
            let path = self.shm.path().join(name);
            let mut file = fs::File::create(&path).unwrap();
            file.write_all(&vec![1; mib << 20]).unwrap();
            file.sync_all().unwrap();
            let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
            let name = path.into_os_string().into_encoded_bytes();
            let resident = Bytes(mib as u64 * MIB);
            SharedObject {
                file: FileId { device: 1, inode },
                name,
                kind: Kind::Named,
                resident,
                mapped: resident,
                covered: resident,
            }
        }

        fn left(&self, stays: Option<Vec<SharedObject>>) -> Vec<(String, bool)> {
            let stays = stays.map(Stays);
            let all =
                self.tree.root().left_behind_in(self.shm.path(), &self.victim, &self.back, stays.as_ref());
            let name =
                |left: &LeftBehind| left.name.to_string().rsplit('/').next().unwrap_or_default().to_owned();
            all.iter().map(|left| (name(left), left.certain)).collect()
        }
    }

    #[test]
    fn files_that_were_mapped_stay_until_they_are_removed() {
        let case = Case::new(0);
        let objects = vec![case.file("a", 2), case.file("b", 2), case.file("c", 1)];
        fs::remove_file(case.shm.path().join("a")).unwrap();
        case.file("x", 3);
        fs::rename(case.shm.path().join("x"), case.shm.path().join("c")).unwrap();
        assert_eq!(case.left(Some(objects)), [("b".to_owned(), true)], "c is another file now");
        assert_eq!(case.left(Some(vec![])), []);
    }

    #[test]
    fn a_file_of_another_tmpfs_stays_if_the_machine_has_its_memory_still() {
        let elsewhere = |case: &Case| {
            let object = case.file("a", 3);
            SharedObject { name: b"/run/user/7/a".to_vec(), ..object }
        };
        let case = Case::new(0);
        assert_eq!(case.left(Some(vec![elsewhere(&case)])), [("a".to_owned(), true)]);
        let case = Case::new(3 * MIB);
        assert_eq!(case.left(Some(vec![elsewhere(&case)])), []);
    }

    #[test]
    fn without_a_lookup_a_file_that_fits_is_a_possibility() {
        let case = Case::new(0);
        for (name, mib) in [("small", 1), ("fits", 4), ("large", 6)] {
            case.file(name, mib);
        }
        assert_eq!(case.left(None), [("fits".to_owned(), false)]);
        let case = Case { victim: Process { real_uid: Uid(999_999), ..case.victim.clone() }, ..case };
        assert_eq!(case.left(None), [], "of another user");
        let case = Case::new(3 * MIB);
        case.file("fits", 4);
        assert_eq!(case.left(None), [], "most of it came back");
    }

    #[test]
    fn a_segment_belongs_to_the_process_that_detached_it_last() {
        let case = Case::new(0);
        let pid = case.victim.id.pid;
        let line = |id: u32, mode: &str, pid: u32, attached: u32| {
            format!("26 {id} {mode} 9 5 {pid} {attached} 7 0 0 0 0 0 0 {} 0\n", 2 * MIB)
        };
        let text = [
            line(1, "600", pid.0, 0),
            line(2, "1600", pid.0, 0),
            line(3, "600", pid.0 + 1, 0),
            line(4, "600", pid.0, 1),
        ];
        case.tree.write("sysvipc/shm", format!("key shmid\n{}", text.concat()));
        case.file("fits", 4);
        let left = case.tree.root().left_behind_in(case.shm.path(), &case.victim, &case.back, None);
        assert_eq!(left.len(), 1, "the rest is too small for the file: {left:#?}");
        let expected = (Some(1), Some(Uid(7)), "/SYSV0000001a".to_owned());
        assert_eq!((left[0].segment, left[0].owner, left[0].name.to_string()), expected);
    }
}
