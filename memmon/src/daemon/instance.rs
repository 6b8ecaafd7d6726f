//! One memmon per machine: two would race for the same victims and the same pin.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Where a root memmon keeps what lives as long as it does (systemd's `RuntimeDirectory=memmon`).
pub(super) const RUNTIME_DIR: &str = "/run/memmon";

/// Held while this memmon runs; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct Instance {
    _lock: Flock<File>,
}

/// Why this memmon may not run.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Somebody else holds the lock.
    #[error(
        "another memmon{} watches this machine already: stop it first (systemctl stop memmon), or look \
         beside it with `memmon run --once --dry-run`", 
        .pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Taken {
        /// What the holder wrote into the file, if that is a number.
        pid: Option<u32>,
    },
    /// The lock file cannot be had.
    #[error("cannot lock {}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Instance {
    /// Takes the lock in `directory`, which is created if it is missing.
    ///
    /// # Errors
    /// [`InstanceError::Taken`] if another memmon holds it, [`InstanceError::Unusable`] if it cannot be had at all.
    pub(super) fn take(directory: &Path) -> Result<Self, InstanceError> {
        let path = directory.join("lock");
        let unusable = |source| InstanceError::Unusable { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(unusable)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&path)
            .map_err(unusable)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                // Whoever holds the lock is told by the lock; the number is a courtesy.
                let _ = Read::by_ref(&mut file).take(16).read_to_string(&mut holder);
                return Err(InstanceError::Taken { pid: holder.trim().parse().ok() });
            }
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        lock.set_len(0).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_and_told_who_was_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Instance::take(directory.path()).unwrap();
        let refusal = Instance::take(directory.path()).unwrap_err();
        assert!(matches!(refusal, InstanceError::Taken { pid: Some(pid) } if pid == std::process::id()));
        drop(first);
        Instance::take(directory.path()).unwrap();
    }

    #[test]
    fn a_planted_symlink_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        std::os::unix::fs::symlink(&target, directory.path().join("lock")).unwrap();
        assert!(matches!(Instance::take(directory.path()), Err(InstanceError::Unusable { .. })));
        assert!(!target.exists());
    }
}
