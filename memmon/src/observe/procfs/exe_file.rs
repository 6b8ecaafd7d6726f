//! Whether the executable of a process is the file that its path promises.
//!
//! /proc/PID/exe is a path in the mount namespace of the process. A user can make a mount namespace and bind-mount a file of
//! theirs at /usr/bin/postgres in it, so the path alone proves nothing. Here it counts only if that path leads to the same
//! file in the mount namespace of pid 1, where only root mounts. If a folder on the way is closed to memmon, as homes are (0700)
//! for root without CAP_DAC_READ_SEARCH, then the path counts if the mounts of both lead to the same place in the same file system.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use super::blocking_pool::{JobOwner, run_blocking};
use super::directory::ProcessDirectory;
use super::failure::{is_the_machines, is_the_machines_alone, missing};
use super::mounts::Mounts;
use super::{ProcRoot, mountinfo, parse};
use crate::model::{Fact, Name};

impl ProcRoot {
    /// The path of a process's executable, if that is this file for pid 1, too. Both files may be on a server that does not
    /// answer. Sets `machine_fails` if memmon could not ask.
    pub(super) fn exe_file(
        &self,
        directory: &ProcessDirectory,
        owner: JobOwner,
        place: &mut String,
        machine_fails: &mut bool,
    ) -> Fact<Name> {
        let found = directory.through(place, |at| {
            let path = directory.link(at, "exe").map_err(own)?;
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
            let file = directory.identity(at, "exe").map_err(own)?;
            let (root, process) =
                (self.directory.try_clone().map_err(own)?, directory.try_clone().map_err(own)?);
            let place = at.to_owned();
            run_blocking(owner, move || {
                let seen_by_init = [b"1/root", &path[..]].concat();
                let named = match identity(&root, &seen_by_init) {
                    Err(Errno::EACCES | Errno::EPERM) => {
                        match is_in_mounts_of_init(&root, &process, &place, &path).map_err(own) {
                            Ok(true) => return Ok(Some(Name::new(&path[..]))),
                            Err(error) if is_the_machines_alone(&error) => return Err(error),
                            _ => {}
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
            Err(error) => {
                *machine_fails |= is_the_machines_alone(&error);
                missing(&error)
            }
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

/// The error of a read that no file system of the owner's answers, without its number if it is the machine's: it counts as such then.
fn own(error: io::Error) -> io::Error {
    if is_the_machines(&error) { io::Error::other(error) } else { error }
}

/// Whether the file that the link `exe` at `place` of `process` leads to is at `path` in the mounts of pid 1, which the folders on
/// the way are not asked for.
///
/// The kernel shows each file at its place in the mounts that it is reached by. If these are pid 1's, or a copy of them, as a service
/// with PrivateTmp= has, then the path leads to the same place of the same file system for pid 1. The path is read before the mounts,
/// for a user can take a mount of theirs (FUSE) away: from then on paths on it begin with what is below it, and nobody has it any
/// more. It is read after them again, for a mount can be moved.
fn is_in_mounts_of_init(root: &impl AsFd, process: &impl AsFd, place: &str, path: &[u8]) -> io::Result<bool> {
    let file =
        openat(process, format!("{place}exe").as_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let number = file.as_raw_fd();
    let is_there = || -> io::Result<bool> {
        Ok(fs::read_link(format!("/proc/self/fd/{number}"))?.as_os_str().as_bytes() == path)
    };
    if !is_there()? {
        return Ok(false);
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    let Some(mount) = mount else { return Ok(false) };
    let of_init = Mounts::read(&mountinfo(root.as_fd(), "1/mountinfo")?);
    if of_init.has(mount) {
        return Ok(true);
    }
    let of_process = Mounts::read(&mountinfo(process.as_fd(), &format!("{place}mountinfo"))?);
    let found = of_process.place_on(mount, path);
    Ok(found.is_some() && found == of_init.place(path) && is_there()?)
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
        let (directory, path) = (self.try_clone().map_err(own)?, format!("{place}{file}"));
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
    fn a_file_in_the_mounts_of_pid_1_or_a_copy_of_them_is_at_its_path() {
        let (real, process) = (ProcRoot::real().unwrap(), format!("{}/", std::process::id()));
        let exe = fs::read_link("/proc/self/exe").unwrap();
        let found = |root: &ProcRoot, path: &[u8]| {
            is_in_mounts_of_init(&root.directory, &real.directory, &process, path).unwrap()
        };
        let tree = Tree::new();
        tree.write("1/mountinfo", fs::read("/proc/self/mountinfo").unwrap());
        assert!(found(&tree.root(), exe.as_os_str().as_bytes()));
        assert!(!found(&tree.root(), b"/usr/bin/postgres"), "another path, as after an exec meanwhile");
        tree.write("1/mountinfo", "1000000 1 4095:1 / / rw - ext4 /dev/sda rw\n");
        assert!(!found(&tree.root(), exe.as_os_str().as_bytes()), "in a mount namespace of a user's");
        // Other numbers, as in a copy of the mounts.
        let copied = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let shifted = |number: &str| (number.parse::<u64>().unwrap() + 1_000_000).to_string();
        let copied = copied.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let numbers = [shifted(words[0]), shifted(words[1])];
            format!("{} {}\n", numbers.join(" "), words[2..].join(" "))
        });
        tree.write("1/mountinfo", copied.collect::<String>());
        assert!(found(&tree.root(), exe.as_os_str().as_bytes()));
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
