//! The file of a Unix socket: created without a moment in which another user could connect, never through a link, and
//! removed at the end.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, MetadataExt as _, lchown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::AT_FDCWD,
    sys::{
        socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket},
        stat::{FchmodatFlags, Mode, fchmod, fchmodat},
    },
    unistd::geteuid,
};

use crate::files;

/// Maximum of connections that wait to be accepted.
const WAITING: i32 = 64;

/// Mode of a socket for its owner alone.
const OWNER: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// Mode of a socket for its owner and its group.
const OWNER_AND_GROUP: Mode = OWNER.union(Mode::S_IRGRP).union(Mode::S_IWGRP);

/// The file of a socket that listens. Dropping it removes the file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    place: Place,
}

/// Device and inode of a file.
type Place = (u64, u64);

/// Checks that only root decides about the file at `path`, if memmon runs as root: another user could otherwise put a
/// link there, or a socket of their own.
///
/// # Errors
/// The folder that others own or may write to, and what helps.
pub fn trusted(path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    files::roots_alone_for_socket(path).map_err(io::Error::other)
}

/// Checks what can be known of a socket at `path` before it is made.
///
/// # Errors
/// As for [`trusted`]; the path is too long, or another file than a socket has that name.
pub fn usable(path: &Path) -> io::Result<()> {
    trusted(path)?;
    UnixAddr::new(path).map_err(|errno| at(path, &errno.into()))?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::other(format!("{} is there, and is no socket", path.display())))
        }
        _ => Ok(()),
    }
}

impl SocketFile {
    /// Listens at `path`, for the owner alone. A socket that no process listens at is replaced. Any other existing file
    /// stays, and is an error.
    ///
    /// # Errors
    /// Those of socket(2), bind(2) and listen(2), with the path.
    pub fn take(path: &Path) -> io::Result<(Self, UnixListener)> {
        let printed = |errno: Errno| at(path, &errno.into());
        let address = UnixAddr::new(path).map_err(printed)?;
        if is_left_over(path, &address)? {
            fs::remove_file(path).map_err(|error| at(path, &error))?;
        }
        let fd = new_socket()?;
        // bind(2) gives the file the mode of the socket: no other user can connect at any time, regardless of the umask.
        fchmod(&fd, OWNER)?;
        bind(fd.as_raw_fd(), &address).map_err(printed)?;
        let place = place(path).map_err(|error| at(path, &error))?;
        listen(&fd, Backlog::new(WAITING)?).map_err(printed)?;
        Ok((Self { path: path.to_owned(), place }, UnixListener::from(fd)))
    }

    /// Grants access to the owner and, if there is one, `group`.
    ///
    /// # Errors
    /// The group of the socket cannot be changed, which needs CAP_CHOWN unless it is one of this process's own. Then only
    /// the owner has access.
    pub fn admit(&self, group: Option<u32>) -> io::Result<()> {
        self.set_mode(OWNER)?;
        if let Some(group) = group {
            let printed = |error: io::Error| at(&self.path, &error);
            if fs::symlink_metadata(&self.path).map_err(printed)?.gid() != group {
                lchown(&self.path, None, Some(group)).map_err(printed)?;
            }
            self.admit_group()?;
        }
        Ok(())
    }

    /// Grants access to the owner and the group that the socket has.
    ///
    /// # Errors
    /// Those of chmod(2), or the socket is gone.
    pub fn admit_group(&self) -> io::Result<()> {
        self.set_mode(OWNER_AND_GROUP)
    }

    /// Grants access to every user.
    ///
    /// # Errors
    /// Those of chmod(2), or the socket is gone.
    pub fn admit_everybody(&self) -> io::Result<()> {
        self.set_mode(OWNER_AND_GROUP | Mode::S_IROTH | Mode::S_IWOTH)
    }

    /// Whether the socket is still at its path: a process can connect to it there.
    pub fn is_in_place(&self) -> bool {
        place(&self.path).is_ok_and(|place| place == self.place)
    }

    /// Sets the mode of this socket, and of nothing else that may be at its path.
    fn set_mode(&self, mode: Mode) -> io::Result<()> {
        if !self.is_in_place() {
            let gone = "the socket was removed or replaced";
            return Err(at(&self.path, &io::Error::new(io::ErrorKind::NotFound, gone)));
        }
        fchmodat(AT_FDCWD, &self.path, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| at(&self.path, &errno.into()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn place(path: &Path) -> io::Result<Place> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Whether there is a socket at `path` that no process listens at any more, as a memmon leaves one that was killed.
fn is_left_over(path: &Path, address: &UnixAddr) -> io::Result<bool> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(false);
    }
    Ok(connect(new_socket()?.as_raw_fd(), address) == Err(Errno::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixStream,
    };

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_has_the_right_mode_and_is_removed_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let (file, listener) = SocketFile::take(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
        let group = nix::unistd::getegid().as_raw();
        file.admit(Some(group)).unwrap();
        assert_eq!((mode(&path), fs::metadata(&path).unwrap().gid()), (0o660, group));
        file.admit(None).unwrap();
        assert_eq!(mode(&path), 0o600);
        file.admit_group().unwrap();
        assert_eq!(mode(&path), 0o660);
        file.admit_everybody().unwrap();
        assert_eq!(mode(&path), 0o666);
        drop((file, listener));
        assert!(!path.exists());
    }

    #[test]
    fn only_the_socket_of_a_dead_memmon_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_file, _listener) = SocketFile::take(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        let error = SocketFile::take(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "another process listens: {error}");

        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = SocketFile::take(&file).unwrap_err().to_string();
        assert!(error.contains("/file: "), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"precious");
    }

    /// Another file may have taken the place of the socket: no mode is changed, and nothing is removed, but the socket's.
    #[test]
    fn a_file_that_took_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("sock"), directory.path().join("secret"));
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        let (file, _listener) = SocketFile::take(&path).unwrap();
        assert!(file.is_in_place());
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        assert!(!file.is_in_place());
        assert!(file.admit_group().is_err() && file.admit(None).is_err());
        // Even if the link came a moment after that look.
        let replaced = SocketFile { path: path.clone(), place: place(&path).unwrap() };
        assert!(replaced.admit_group().is_err());
        std::mem::forget(replaced);
        assert_eq!(mode(&target), 0o600);
        drop(file);
        assert!(fs::symlink_metadata(&path).is_ok(), "the link is not the socket");
    }
}
