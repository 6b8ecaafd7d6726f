//! Whether the executable of a process is the file that its path promises.
//!
//! /proc/PID/exe is a path in the mount namespace of the process. A user can make a mount namespace and bind-mount a file of
//! theirs at /usr/bin/postgres in it, so the path alone proves nothing. Here it counts only if that path leads to the same
//! file in the mount namespace of pid 1, where only root mounts. If a folder on the way is closed to memmon, as homes are (0700)
//! for root without CAP_DAC_READ_SEARCH, then the path counts if the file is on a mount of pid 1's.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use super::blocking_pool::{JobOwner, run_blocking};
use super::confirm::missing;
use super::directory::ProcessDirectory;
use super::{LONGEST_MOUNTINFO, ProcRoot, parse};
use crate::model::{Fact, Name};

impl ProcRoot {
    /// The path of a process's executable, if that is this file for pid 1, too. Both files may be on a server that does not
    /// answer.
    pub(super) fn exe_file(
        &self,
        directory: &ProcessDirectory,
        owner: JobOwner,
        place: &mut String,
    ) -> Fact<Name> {
        let found = directory.through(place, |at| {
            let path = directory.link(at, "exe")?;
            if !path.starts_with(b"/") {
                return Ok(None);
            }
            let path_of_deleted = parse::strip_deleted_suffix(&path);
            if path_of_deleted.len() < path.len() {
                // There is no file any more that could be compared.
                return if self.sees_as_init_does(directory, at) && directory.is_roots(owner, at, "exe")? {
                    Ok(Some(Name::new(path_of_deleted)))
                } else {
                    Err(Errno::EACCES.into())
                };
            }
            let (file, root) = (directory.identity(at, "exe")?, self.directory.try_clone()?);
            let (process, link) = (directory.try_clone()?, format!("{at}exe"));
            run_blocking(owner, move || {
                let seen_by_init = [b"1/root", &path[..]].concat();
                let named = match identity(&root, &seen_by_init) {
                    Err(Errno::EACCES | Errno::EPERM) => {
                        if is_on_mount_of_init(&root, &process, &link, &path).unwrap_or(false) {
                            return Ok(Some(Name::new(&path[..])));
                        }
                        // pid 1's root may be what is not for memmon to see: its own mount namespace is one that root made,
                        // too.
                        identity(&root, &path)
                    }
                    named => named,
                };
                match (file()?, named) {
                    (file, Ok(named)) => Ok((file == named).then(|| Name::new(&path[..]))),
                    (_, Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => Ok(None),
                    (_, Err(errno)) => Err(errno.into()),
                }
            })?
        });
        match found {
            Ok(found) => found.map_or(Fact::Absent, Fact::Known),
            Err(error) => missing(&error),
        }
    }
}

impl ProcRoot {
    /// Whether the process is in the mount namespace of pid 1, or in memmon's own if pid 1's is not for memmon to see: only
    /// root mounts there.
    fn sees_as_init_does(&self, directory: &ProcessDirectory, at: &str) -> bool {
        let namespace = |link| readlinkat(&self.directory, link);
        let init = namespace("1/ns/mnt").or_else(|_| namespace("self/ns/mnt"));
        matches!((directory.link(at, "ns/mnt"), init), (Ok(its), Ok(init)) if its == init.as_bytes())
    }
}

/// Whether the file that `link` of `process` leads to is at `path` in the mounts of pid 1, which the folders on the way are not
/// asked for.
///
/// The kernel shows each file at its place in the mounts that it is reached by, and these are pid 1's or not. The path is read
/// before the mounts, for a user can take a mount of theirs (FUSE) away: from then on paths on it begin with what is below it, and
/// pid 1 no longer has it.
fn is_on_mount_of_init(root: &impl AsFd, process: &impl AsFd, link: &str, path: &[u8]) -> io::Result<bool> {
    let file = openat(process, link, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let number = file.as_raw_fd();
    if fs::read_link(format!("/proc/self/fd/{number}"))?.as_os_str().as_bytes() != path {
        return Ok(false);
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let Some(mount) = info.lines().find_map(|line| line.strip_prefix("mnt_id:")) else { return Ok(false) };
    let mounts = openat(root, "1/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    lists(BufReader::new(File::from(mounts).take(LONGEST_MOUNTINFO)), mount.trim())
}

/// Whether a mountinfo (proc_pid_mountinfo(5)) has the mount of this number.
fn lists(mountinfo: impl BufRead, mount: &str) -> io::Result<bool> {
    for line in mountinfo.split(b'\n') {
        if line?.split(|byte| *byte == b' ').next() == Some(mount.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The identity of a file: its device and its inode.
pub(super) type Identity = (u64, u64);

fn identity(root: &impl std::os::fd::AsFd, path: &[u8]) -> nix::Result<Identity> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    fstatat(root, path, AtFlags::empty()).map(|found| (found.st_dev, found.st_ino))
}

impl ProcessDirectory {
    /// Whether the file that a link of this directory leads to belongs to root, and nobody else may write to it. The file may
    /// be on a server that does not answer.
    fn is_roots(&self, owner: JobOwner, place: &str, file: &str) -> io::Result<bool> {
        let (directory, path) = (self.try_clone()?, format!("{place}{file}"));
        run_blocking(owner, move || {
            let found = fstatat(&directory, path.as_str(), AtFlags::empty())?;
            Ok(found.st_uid == 0 && found.st_mode & 0o022 == 0)
        })?
    }

    /// Reads the identity of the file that a link of this directory leads to, as a closure for another thread.
    fn identity(
        &self,
        place: &str,
        file: &str,
    ) -> io::Result<impl FnOnce() -> io::Result<Identity> + Send + use<>> {
        let (directory, path) = (self.try_clone()?, format!("{place}{file}"));
        Ok(move || Ok(identity(&directory, path.as_bytes())?))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::testing::Tree;
    use super::super::{Accuracy, ProcRoot};
    use super::*;
    use crate::model::{Bytes, Fact, Name, Pid, WantedFacts};

    #[test]
    fn an_executable_counts_only_if_pid_1_has_the_same_file_at_its_path() {
        let files = tempfile::tempdir().unwrap();
        let real = files.path().join("real");
        fs::write(&real, "").unwrap();
        fs::write(files.path().join("other"), "").unwrap();
        let real = real.to_str().unwrap();
        let elsewhere = |view: &str, exe: &str| {
            let tree = Tree::new();
            tree.cat(42);
            tree.exe_of(42, exe);
            if !view.is_empty() {
                tree.root_of_init(view);
            }
            let wanted = WantedFacts { exe_file: true, args: true, session: false };
            let root = tree.root().wanting(wanted);
            root.confirm(Pid(42), None, Bytes::MAX, &Accuracy::StatmExact).unwrap().facts
        };
        assert_eq!(elsewhere("/", real).exe_file, Fact::Known(Name::from(real)));
        assert_eq!(elsewhere("/", real).args, Fact::Known(vec!["/bin/cat".into(), "x".into()]));

        // Another file has that path for pid 1, as after a bind mount in a namespace of the user's own.
        let view = tempfile::tempdir().unwrap();
        let there = view.path().join(real.trim_start_matches('/'));
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        symlink(files.path().join("other"), &there).unwrap();
        assert_eq!(elsewhere(view.path().to_str().unwrap(), real).exe_file, Fact::Absent);
        // No file has, or it was deleted by its owner.
        assert_eq!(elsewhere("/nonexistent", real).exe_file, Fact::Absent);
        assert_eq!(elsewhere("/", &format!("{real} (deleted)")).exe_file, Fact::Withheld);
    }

    /// memmon as it is tested may enter each folder; what the mounts show must be the same.
    #[test]
    fn a_file_on_a_mount_of_pid_1_is_at_its_path() {
        let (real, process) = (ProcRoot::real().unwrap(), format!("{}/", std::process::id()));
        let exe = fs::read_link("/proc/self/exe").unwrap();
        let found = |root: &ProcRoot, path: &[u8]| {
            is_on_mount_of_init(&root.directory, &real.directory, &format!("{process}exe"), path).unwrap()
        };
        let tree = Tree::new();
        tree.write("1/mountinfo", fs::read("/proc/self/mountinfo").unwrap());
        assert!(found(&tree.root(), exe.as_os_str().as_bytes()));
        assert!(!found(&tree.root(), b"/usr/bin/postgres"), "another path, as after an exec meanwhile");
        tree.write("1/mountinfo", "1000000 1 8:1 / / rw - ext4 /dev/sda rw\n");
        assert!(!found(&tree.root(), exe.as_os_str().as_bytes()), "in a mount namespace of a user's");
        assert!(lists(&b"31 22 0:21 / /a rw\n25 22 0:21 / /b rw\n"[..], "25").unwrap());
        assert!(!lists(&b"125 25 0:25 / /25 rw\n"[..], "25").unwrap());
    }

    /// A package manager renames the new file over the one that runs.
    #[test]
    fn an_executable_of_roots_that_was_upgraded_keeps_its_path() {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("x (deleted)");
        let found = |owner: u32, mode: u32, namespace: &str| {
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let tree = Tree::new();
            tree.cat(42);
            tree.exe_of(42, file.to_str().unwrap());
            tree.link("42/ns/mnt", namespace);
            tree.link("1/ns/mnt", "mnt:[4026531841]");
            let root = tree.root().wanting(WantedFacts { exe_file: true, ..WantedFacts::default() });
            root.confirm(Pid(42), None, Bytes::MAX, &Accuracy::StatmExact).unwrap().facts.exe_file
        };
        if !nix::unistd::geteuid().is_root() {
            // Nobody else can make a file of root's.
            return assert_eq!(
                found(nix::unistd::geteuid().as_raw(), 0o755, "mnt:[4026531841]"),
                Fact::Withheld
            );
        }
        let path = files.path().join("x");
        assert_eq!(found(0, 0o755, "mnt:[4026531841]"), Fact::Known(Name::from(path.to_str().unwrap())));
        // A file that somebody else can write to, and a namespace in which a user can mount root's file anywhere.
        assert_eq!(found(1000, 0o755, "mnt:[4026531841]"), Fact::Withheld);
        assert_eq!(found(0, 0o775, "mnt:[4026531841]"), Fact::Withheld);
        assert_eq!(found(0, 0o755, "mnt:[4026532000]"), Fact::Withheld);
    }
}
