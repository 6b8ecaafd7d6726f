//! The directory of one process in /proc, opened once.
//!
//! A descriptor of /proc/PID belongs to the process, not to the number: once the process is gone, every access through
//! it fails (ENOENT or ESRCH), even if the pid was used again. All reads through one descriptor are therefore about one
//! process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;

use super::parse::{self, Statm};
use super::{ProcRoot, ended, head, numbered, whole};
use crate::model::Pid;

/// /proc/PID of one process. The `place` that methods take comes from [`ProcessDirectory::place`].
pub(super) struct ProcessDirectory(OwnedFd);

impl ProcRoot {
    pub(super) fn process(&self, pid: Pid) -> nix::Result<ProcessDirectory> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.directory, pid.to_string().as_str(), flags, Mode::empty()).map(ProcessDirectory)
    }
}

impl ProcessDirectory {
    pub(super) fn read(&self, place: &str, file: &str) -> io::Result<Vec<u8>> {
        whole(self.0.as_fd(), &format!("{place}{file}"))
    }

    /// The same as [`ProcessDirectory::read`], as a closure with its own descriptor for another thread.
    pub(super) fn reading(
        &self,
        place: &str,
        file: &str,
    ) -> io::Result<impl FnOnce() -> io::Result<Vec<u8>> + Send + use<>> {
        let (directory, path) = (self.0.try_clone()?, format!("{place}{file}"));
        Ok(move || whole(directory.as_fd(), &path))
    }

    pub(super) fn link(&self, place: &str, file: &str) -> io::Result<Vec<u8>> {
        Ok(readlinkat(&self.0, format!("{place}{file}").as_str())?.into_vec())
    }

    pub(super) fn threads(&self) -> nix::Result<impl Iterator<Item = nix::Result<u32>> + use<>> {
        numbered(self.0.as_fd(), "task")
    }

    pub(super) fn statm(&self, place: &str) -> nix::Result<Statm> {
        parse::statm(head(self.0.as_fd(), &format!("{place}statm"), &mut [0; 128])?).ok_or(Errno::EBADMSG)
    }

    /// The place to read the process's memory, exe, cmdline and smaps_rollup from: `""` for its own files, or
    /// `"task/TID/"`. If the first thread of a process ends before the others, the process's own files are empty from
    /// then on although its memory still exists; then the files of any living thread are used. `None` if the process has
    /// no memory.
    pub(super) fn place(&self) -> nix::Result<Option<String>> {
        if self.statm("")?.size > 0 {
            return Ok(Some(String::new()));
        }
        for thread in self.threads()? {
            let place = format!("task/{}/", thread?);
            match self.statm(&place) {
                Ok(statm) if statm.size > 0 => return Ok(Some(place)),
                Ok(_) => {}
                Err(errno) if ended(errno) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}
