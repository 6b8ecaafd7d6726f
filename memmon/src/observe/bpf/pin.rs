//! The pin: `/sys/fs/bpf/memmon/processes`, for `bpftool map dump pinned`, while the daemon runs.
//!
//! A pin keeps a map alive but no program: what a crashed run leaves behind is a map that nobody writes any more,
//! perhaps of another layout. It is replaced, never reused. The directory's lock tells a crashed run from a live one.
//! Only people look at it: where it cannot be had, memmon works as well without.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aya::maps::Map;
use nix::{sys::statfs, unistd::geteuid};

const MOUNT: &str = "/sys/fs/bpf";
const FILE: &str = "processes";

/// A claimed pin directory; dropping it removes the pin and the directory.
pub(super) struct Pin {
    dir: PathBuf,
    /// Open, because it is locked.
    _lock: File,
}

/// Why the map could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Another daemon holds the lock.
    #[error("another memmon runs on this machine: it holds {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// Anybody may have made it: bpffs is mounted with mode 1777 by default.
    #[error("{} belongs to uid {uid}, not to memmon: remove it", .dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// A system call failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where the map is pinned: `/sys/fs/bpf/memmon`, or nowhere if no bpffs is mounted there.
pub fn default_dir() -> Option<PathBuf> {
    let kind = statfs::statfs(MOUNT).ok()?.filesystem_type();
    (kind == statfs::BPF_FS_MAGIC).then(|| Path::new(MOUNT).join("memmon"))
}

impl Pin {
    /// Makes the directory and locks it, or takes over what a crashed run left.
    pub(super) fn claim(dir: &Path) -> Result<Self, PinError> {
        loop {
            match DirBuilder::new().mode(0o700).create(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed("cannot make", dir)(error));
                }
                _ => {}
            }
            let lock = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
                .open(dir)
                .map_err(failed("cannot open", dir))?;
            let found = lock.metadata().map_err(failed("cannot examine", dir))?;
            if found.uid() != geteuid().as_raw() {
                return Err(PinError::Foreign { dir: dir.to_owned(), uid: found.uid() });
            }
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(PinError::AlreadyRunning(dir.to_owned())),
                Err(TryLockError::Error(error)) => return Err(failed("cannot lock", dir)(error)),
            }
            // The run that ends right now removes the directory before it lets go of the lock: start over then.
            if fs::metadata(dir).is_ok_and(|there| there.ino() == found.ino()) {
                lock.set_permissions(fs::Permissions::from_mode(0o700))
                    .map_err(failed("cannot protect", dir))?;
                return Ok(Self { dir: dir.to_owned(), _lock: lock });
            }
        }
    }

    /// Pins the map in place of what may be there.
    pub(super) fn publish(self, map: &Map) -> Result<Self, PinError> {
        let path = self.dir.join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("cannot replace", &path)(error));
            }
            _ => {}
        }
        map.pin(&path).map_err(|error| failed("cannot pin the map at", &path)(io::Error::other(error)))?;
        Ok(self)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // Nobody is left to tell; the next start replaces what stays.
        let _ = fs::remove_file(self.dir.join(FILE));
        let _ = fs::remove_dir(&self.dir);
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |source| PinError::Io { what, path: path.to_owned(), source }
}
