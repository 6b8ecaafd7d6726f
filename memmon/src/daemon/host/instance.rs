//! Allows one memmon per machine, because two would race for the same victims and the same pin.

use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Directory for a root memmon's runtime files (systemd's `RuntimeDirectory=memmon`).
pub(crate) const RUNTIME_DIR: &str = "/run/memmon";

/// The lock that this memmon holds while it runs; the kernel releases it when the process ends. Dropping it removes the
/// file, and the directory if it is empty.
#[derive(Debug)]
pub(crate) struct Instance {
    lock: RefCell<Flock<File>>,
    path: PathBuf,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Errors are ignored: a file that stays does no harm.
        if is_at(&self.lock.borrow(), &self.path)
            && fs::remove_file(&self.path).is_ok()
            && let Some(directory) = self.path.parent()
        {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Reason why this memmon may not run.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another process holds the lock.
    #[error(
        "another memmon{} watches this machine already: stop it first (systemctl stop memmon), or look \
         beside it with `memmon run --once --dry-run`", 
        .pid.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Taken {
        /// The holder's pid from the file, if it contains a number.
        pid: Option<u32>,
    },
    /// Another process enforces limits for some of the same users, with another lock.
    #[error(
        "another memmon (pid {pid}), in a container or with another /run, enforces limits for processes of the same users \
         already: stop one of the two, give each of them other users in [scope], or run this one with dry_run = true"
    )]
    Enforces {
        /// Its pid.
        pid: u32,
    },
    /// It is not known whether another process enforces limits.
    #[error("cannot find out whether another memmon enforces limits on this machine: {0}")]
    Unclaimed(#[source] std::io::Error),
    /// The lock file cannot be created or locked.
    #[error(
        "cannot lock {}: {source}; memmon must be able to write to its folder: in a container, mount a tmpfs at /run", path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
}

impl Instance {
    /// Takes the lock in `directory`, which is created if it is missing.
    ///
    /// # Errors
    /// [`InstanceError::Taken`] if another memmon holds it, [`InstanceError::Unusable`] if the file cannot be locked.
    pub(crate) fn take(directory: &Path) -> Result<Self, InstanceError> {
        let path = directory.join("lock");
        let lock = take(directory, &path)?;
        Ok(Self { lock: RefCell::new(lock), path })
    }

    /// Creates the file and its directory again if someone has removed them. Returns the file if that was so.
    ///
    /// # Errors
    /// [`InstanceError::Taken`] if another memmon has started since, [`InstanceError::Unusable`] as for [`Self::take`].
    pub(crate) fn restore(&self) -> Result<Option<&Path>, InstanceError> {
        if is_at(&self.lock.borrow(), &self.path) {
            return Ok(None);
        }
        let lock = take(self.path.parent().unwrap_or(&self.path), &self.path)?;
        self.lock.replace(lock);
        Ok(Some(&self.path))
    }
}

fn take(directory: &Path, path: &Path) -> Result<Flock<File>, InstanceError> {
    loop {
        let mut lock = lock(directory, path)?;
        // A memmon that ends removes its file: a lock is valid only on the file that is at the path now.
        if is_at(&lock, path) {
            let unusable = |source| InstanceError::Unusable { path: path.to_owned(), source };
            lock.set_len(0).map_err(unusable)?;
            writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
            return Ok(lock);
        }
    }
}

fn lock(directory: &Path, path: &Path) -> Result<Flock<File>, InstanceError> {
    let unusable = |source| InstanceError::Unusable { path: path.to_owned(), source };
    if !directory.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(unusable)?;
        // Users reach the socket for their own processes through it, whatever the umask is: the unit's takes that from others.
        fs::set_permissions(directory, Permissions::from_mode(0o755)).map_err(unusable)?;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
        .map_err(unusable)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            // The pid is only for the message: the lock itself decides.
            let _ = Read::by_ref(&mut file).take(16).read_to_string(&mut holder);
            Err(InstanceError::Taken { pid: holder.trim().parse().ok() })
        }
        Err((_, errno)) => Err(unusable(errno.into())),
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (file, found) = (file.metadata().map(place), fs::symlink_metadata(path).map(place));
    file.is_ok_and(|file| found.is_ok_and(|found| file == found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_with_the_pid_of_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = Instance::take(directory.path()).unwrap();
        let refusal = Instance::take(directory.path()).unwrap_err();
        assert!(matches!(refusal, InstanceError::Taken { pid: Some(pid) } if pid == std::process::id()));
        drop(first);
        Instance::take(directory.path()).unwrap();
    }

    #[test]
    fn its_end_removes_only_its_own_files() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("memmon");
        let instance = Instance::take(&runtime).unwrap();
        assert!(runtime.join("lock").exists());
        drop(instance);
        assert!(!runtime.exists());

        let instance = Instance::take(&runtime).unwrap();
        fs::write(runtime.join("other"), "").unwrap();
        drop(instance);
        assert!(!runtime.join("lock").exists() && runtime.join("other").exists());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_invalid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let removed = lock(directory.path(), &path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&removed, &path));
        let second = Instance::take(directory.path()).unwrap();
        assert!(is_at(&second.lock.borrow(), &path));
    }

    #[test]
    fn a_removed_file_comes_back_unless_another_memmon_has_started() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("memmon");
        let instance = Instance::take(&runtime).unwrap();
        assert_eq!(instance.restore().unwrap(), None);
        fs::remove_dir_all(&runtime).unwrap();
        assert_eq!(instance.restore().unwrap(), Some(runtime.join("lock").as_path()));
        assert!(matches!(Instance::take(&runtime), Err(InstanceError::Taken { .. })));

        fs::remove_dir_all(&runtime).unwrap();
        let second = Instance::take(&runtime).unwrap();
        assert!(matches!(instance.restore(), Err(InstanceError::Taken { pid: Some(_) })));
        drop(instance);
        assert!(is_at(&second.lock.borrow(), &runtime.join("lock")), "the second one's file stays");
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
