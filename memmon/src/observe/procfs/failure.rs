//! The meaning of a read of a process's files that failed: the process is gone, a fact is absent, or in doubt.

use std::io;

use nix::{errno::Errno, unistd::geteuid};

use super::directory::ProcessDirectory;
use super::ended;
use crate::model::{Fact, Name, Uid, Unconfirmed};

pub(super) fn read(
    directory: &ProcessDirectory,
    at: &str,
    file: &'static str,
) -> Result<Vec<u8>, Unconfirmed> {
    directory.read(at, file).map_err(|error| unconfirmed(file, error))
}

pub(super) fn understood<T>(file: &'static str, parsed: Option<T>) -> Result<T, Unconfirmed> {
    parsed.ok_or_else(|| Unconfirmed::Unreadable {
        file,
        error: "not in the form that proc(5) gives".to_owned(),
    })
}

pub(super) fn unconfirmed(file: &'static str, error: impl Into<io::Error>) -> Unconfirmed {
    let error = error.into();
    if gone(&error) { Unconfirmed::Gone } else { Unconfirmed::Unreadable { file, error: error.to_string() } }
}

/// A fact from a file that not every process has. Only a missing file or value is an absent fact: any error that might
/// hide one leaves it open.
pub(super) fn fact(file: io::Result<Vec<u8>>, value: impl FnOnce(&[u8]) -> Option<Name>) -> Fact<Name> {
    match file {
        Ok(text) => value(&text).map_or(Fact::Absent, Fact::Known),
        Err(error) if gone(&error) => Fact::Absent,
        Err(_) => Fact::Unreadable,
    }
}

/// The same for a name, which the owner can withhold: by a path longer than the kernel shows, or by not being dumpable if
/// memmon has no CAP_SYS_PTRACE.
pub(super) fn withheld_or(
    file: io::Result<Vec<u8>>,
    value: impl FnOnce(&[u8]) -> Option<Name>,
) -> Fact<Name> {
    match file {
        Ok(text) => value(&text).map_or(Fact::Absent, Fact::Known),
        Err(error) => missing(&error),
    }
}

/// The fact after a failed read of something that the owner can withhold.
pub(super) fn missing<T>(error: &io::Error) -> Fact<T> {
    const BY_OWNER: [Errno; 3] = [Errno::ENAMETOOLONG, Errno::EACCES, Errno::EPERM];
    match error.raw_os_error().map(Errno::from_raw) {
        Some(errno) if BY_OWNER.contains(&errno) => Fact::Withheld,
        _ if gone(error) => Fact::Absent,
        _ => Fact::Unreadable,
    }
}

/// Whether a read failed for a reason that no owner of a process causes, such as a lack of descriptors, threads or memory. One that
/// hangs times out: the owner may hold the lock.
pub(super) fn is_the_machines(error: &io::Error) -> bool {
    let is_a_fact: Fact<()> = missing(error);
    is_a_fact == Fact::Unreadable && error.kind() != io::ErrorKind::TimedOut
}

/// The same for a read of a file system that may be the owner's (FUSE), which answers with any error number.
pub(super) fn is_the_machines_alone(error: &io::Error) -> bool {
    is_the_machines(error) && error.raw_os_error().is_none()
}

pub(super) fn gone(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| ended(Errno::from_raw(number)))
}

/// Whether the owner of a process keeps memmon from reading it. Root's memmon may read everything, so for it only root, or
/// a security module, can be the reason; for memmon as a user it is prctl(PR_SET_DUMPABLE) of that user.
pub(super) fn is_withheld(error: &io::Error, owner: Uid) -> bool {
    let own = geteuid();
    is_denied(error) && !own.is_root() && own.as_raw() == owner.0
}

pub(super) fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Nothing of what ended meanwhile.
pub(super) fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if gone(&error) => Ok(None),
        read => read.map(Some),
    }
}
