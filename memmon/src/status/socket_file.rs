//! The socket in the file system: created without a moment in which another user could connect, and removed at the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

/// Maximum of connections that wait to be accepted.
const WAITING: i32 = 64;

/// A socket in the file system. Dropping it removes it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// Listens at `path`, for root and, if there is one, `group`.
    ///
    /// An existing socket is assumed to be left from an earlier memmon, because the caller holds the lock, and is replaced.
    /// Any other existing file stays, and is an error.
    ///
    /// # Errors
    /// Those of socket(2), bind(2), chmod(2) and listen(2), with the path.
    pub fn take(path: &Path, group: Option<u32>) -> io::Result<(Self, UnixListener)> {
        let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path).map_err(said)?;
        }
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path)?)
            .map_err(|errno| said(errno.into()))?;
        let place = Self { path: path.to_owned() };
        // No process can connect before it listens, so none can use the mode that the umask gave it.
        place.admit(group)?;
        listen(&fd, Backlog::new(WAITING)?).map_err(|errno| said(errno.into()))?;
        Ok((place, UnixListener::from(fd)))
    }

    /// Grants access to root and, if there is one, `group`.
    ///
    /// # Errors
    /// The group of the socket cannot be changed, which needs CAP_CHOWN unless it is one of this process's own. Then only
    /// root has access.
    pub fn admit(&self, group: Option<u32>) -> io::Result<()> {
        let said =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600)).map_err(said)?;
        if let Some(group) = group {
            if fs::metadata(&self.path).map_err(said)?.gid() != group {
                chown(&self.path, None, Some(group)).map_err(said)?;
            }
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o660)).map_err(said)?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is no error if the socket is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn it_has_the_right_mode_and_is_removed_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let (place, listener) = SocketFile::take(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        let group = nix::unistd::getegid().as_raw();
        place.admit(Some(group)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o660, group));
        drop((place, listener));
        assert!(!path.exists());
    }

    #[test]
    fn only_the_socket_of_a_dead_memmon_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_place, _listener) = SocketFile::take(&path, None).unwrap();
        UnixStream::connect(&path).unwrap();

        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = SocketFile::take(&file, None).unwrap_err().to_string();
        assert!(error.contains("/file: "), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }
}
