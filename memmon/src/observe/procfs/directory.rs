//! The directory of one process in /proc, opened once.
//!
//! A descriptor of /proc/PID belongs to the process, not to the number: once the process is gone, every access through
//! it fails (ENOENT or ESRCH), even if the pid was used again. All reads through one descriptor are therefore about one
//! process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstatat};

use super::parse::{self, Statm};
use super::{ProcRoot, beginning, ended, head, numbered, piece, whole};
use crate::model::Pid;

/// Number of times that threads are listed again, if all that were listed have ended and others are there.
const LISTINGS: usize = 16;

/// Through how many threads one thing is read that end meanwhile.
const THREADS: usize = 64;

/// /proc/PID of one process. The `place` that methods take comes from [`ProcessDirectory::place`].
pub(super) struct ProcessDirectory(OwnedFd);

impl ProcRoot {
    pub(super) fn process(&self, pid: Pid) -> nix::Result<ProcessDirectory> {
        ProcessDirectory::open(self.directory.as_fd(), pid)
    }
}

impl ProcessDirectory {
    /// Opens the directory of `pid` in `root`.
    pub(super) fn open(root: BorrowedFd<'_>, pid: Pid) -> nix::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(root, pid.to_string().as_str(), flags, Mode::empty()).map(Self)
    }

    pub(super) fn read(&self, place: &str, file: &str) -> io::Result<Vec<u8>> {
        piece(self.0.as_fd(), &format!("{place}{file}"))
    }

    /// The first `most` bytes of a file.
    pub(super) fn beginning(&self, place: &str, file: &str, most: u64) -> io::Result<Vec<u8>> {
        beginning(self.0.as_fd(), &format!("{place}{file}"), most)
    }

    /// The same read as [`ProcessDirectory::read`], as a closure with its own descriptor for another thread.
    pub(super) fn reading(
        &self,
        place: &str,
        file: &str,
    ) -> io::Result<impl FnOnce() -> io::Result<Vec<u8>> + Send + use<>> {
        let (directory, path) = (self.0.try_clone()?, format!("{place}{file}"));
        Ok(move || whole(directory.as_fd(), &path))
    }

    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
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
    pub(super) fn place(&self) -> nix::Result<Option<(String, Statm)>> {
        let statm = self.statm("")?;
        if statm.size > 0 {
            return Ok(Some((String::new(), statm)));
        }
        for _ in 0..LISTINGS {
            // The newest comes last in the list, and where threads come and go lives the longest.
            let threads = self.threads()?.collect::<nix::Result<Vec<u32>>>()?;
            for thread in threads.iter().rev() {
                let place = format!("task/{thread}/");
                match self.statm(&place) {
                    Ok(statm) if statm.size > 0 => return Ok(Some((place, statm))),
                    Ok(_) => {}
                    Err(errno) if ended(errno) => {}
                    Err(errno) => return Err(errno),
                }
            }
            if self.thread_count()? <= 1 {
                break;
            }
        }
        Ok(None)
    }

    /// Number of threads: see [`ProcRoot::threads`].
    fn thread_count(&self) -> nix::Result<u64> {
        Ok(fstatat(&self.0, "task", AtFlags::empty())?.st_nlink.saturating_sub(2))
    }

    /// Reads by `read` what any living thread can show of the process, through `place` or, if that ends meanwhile, through
    /// another one, which is `place` from then on.
    ///
    /// # Errors
    /// Those of `read`; ESRCH if the process has no memory any more; `TimedOut` if its threads end too fast.
    pub(super) fn through<T>(
        &self,
        place: &mut String,
        mut read: impl FnMut(&str) -> io::Result<T>,
    ) -> io::Result<T> {
        for _ in 0..THREADS {
            let found = read(place);
            // A thread that is about to end shows nothing of the others.
            if place.is_empty() || self.statm(place).is_ok_and(|statm| statm.size > 0) {
                return found;
            }
            *place = self.place()?.ok_or(Errno::ESRCH)?.0;
        }
        // Its owner's doing, like a read that hangs.
        let why = "its threads end faster than they are read";
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

/// The place to read a process's memory from: its own files are empty if its main thread has ended, and those of others are
/// not.
pub(super) fn place(root: BorrowedFd<'_>, pid: Pid) -> nix::Result<String> {
    let place = ProcessDirectory::open(root, pid)?.place()?;
    Ok(format!("{pid}/{}", place.map(|(place, _)| place).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::super::{failure::is_the_machines, testing::Tree};
    use super::*;

    #[test]
    fn threads_that_end_while_they_are_read_are_no_failure_of_the_machine() {
        let tree = Tree::new();
        tree.cat(42);
        let (pages, none) = ("900 800 0 0 0 0 0\n", "0 0 0 0 0 0 0\n");
        for dead in ["42/statm", "42/task/42/statm"] {
            tree.write(dead, none);
        }
        let directory = tree.root().process(Pid(42)).unwrap();
        let mut next = 100;
        let mut begin = || {
            next += 1;
            tree.write(&format!("42/task/{next}/statm"), pages);
            next
        };
        let mut place = format!("task/{}/", begin());
        let read = directory.through(&mut place, |at| {
            begin();
            tree.write(&format!("42/{at}statm"), none);
            Err::<(), _>(Errno::ENODATA.into())
        });
        let error = read.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(!is_the_machines(&error) && is_the_machines(&Errno::EMFILE.into()));
    }
}
