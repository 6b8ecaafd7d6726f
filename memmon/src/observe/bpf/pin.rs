//! The pin: `/sys/fs/bpf/memmon/processes`, for `bpftool map dump pinned`, while the daemon runs.
//!
//! A pin keeps a map alive but no program: a crashed run leaves a map that is no longer updated, perhaps of another
//! layout. It is replaced, never reused. The directory's lock distinguishes a crashed run from a live one.
//! The pin serves only people who inspect the map; if it is not available, memmon works as well without it.

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
    /// Kept open, because it holds the lock.
    _lock: File,
}

/// Reason why the map could not be pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Another daemon holds the lock.
    #[error("another memmon runs on this machine: it holds {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// Another user created the directory: bpffs is mounted with mode 1777 by default.
    #[error("{} belongs to uid {uid}, not to memmon: remove it", .dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// A system call failed.
    #[error("{what} {}: {source}", .path.display())]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Directory for the pin: `/sys/fs/bpf/memmon`; `None` if no bpffs is mounted there.
pub fn default_dir() -> Option<PathBuf> {
    let kind = statfs::statfs(MOUNT).ok()?.filesystem_type();
    (kind == statfs::BPF_FS_MAGIC).then(|| Path::new(MOUNT).join("memmon"))
}

impl Pin {
    /// Creates the directory and locks it, or takes over the directory of a crashed run.
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
            // A run that is just ending removes the directory before it releases the lock: then start over.
            if fs::metadata(dir).is_ok_and(|there| there.ino() == found.ino()) {
                lock.set_permissions(fs::Permissions::from_mode(0o700))
                    .map_err(failed("cannot protect", dir))?;
                return Ok(Self { dir: dir.to_owned(), _lock: lock });
            }
        }
    }

    /// Pins the map, replacing an old pin.
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
        // Errors are ignored: the next start replaces what is left.
        let _ = fs::remove_file(self.dir.join(FILE));
        let _ = fs::remove_dir(&self.dir);
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |source| PinError::Io { what, path: path.to_owned(), source }
}
