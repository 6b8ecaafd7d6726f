//! A handle to one process, to signal it and wait for it without a risk for its pid's next owner: pidfd_open(2), Linux
//! 5.3.
#![expect(unsafe_code, reason = "process_mrelease(2) has no wrapper yet")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
// nix has no pidfd_open(2) and no pidfd_send_signal(2).
use rustix::process::{self, PidfdFlags};
use tracing::debug;

use super::warrant::{Evidence, Warrant};
use crate::model::{Pid, Signal};

/// A handle to one process: it never refers to a later process with the same pid. Readable once the process has ended
/// (all its threads, whether reaped or not).
///
/// It refers to the process that had the pid when it was opened; the caller must check afterwards that this is the
/// intended process.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process that has `pid` now.
    ///
    /// # Errors
    /// `ESRCH`: no process has it. `EINVAL`: a thread has it. `EMFILE`, `ENFILE`, `ENOMEM`: a lack of resources.
    /// `ENOSYS`: Linux before 5.3. `EPERM`: pid 1, which this function never opens.
    pub fn open(pid: Pid) -> Result<Self, Errno> {
        if pid == Pid::INIT {
            return Err(Errno::EPERM);
        }
        let pid = i32::try_from(pid.0).ok().and_then(process::Pid::from_raw).ok_or(Errno::ESRCH)?;
        process::pidfd_open(pid, PidfdFlags::empty()).map(Self).map_err(errno)
    }

    /// Sends the warrant's signal, and consumes the warrant even if that fails.
    ///
    /// # Errors
    /// `ESRCH`: the process has ended. `EPERM`: CAP_KILL is missing, or a filter refuses. `ENOSYS`: Linux before 5.1.
    #[expect(clippy::needless_pass_by_value, reason = "a warrant is good for one signal")]
    pub fn send(&self, warrant: Warrant) -> Result<(), Errno> {
        let signal = match warrant.signal() {
            Signal::Term => process::Signal::TERM,
            Signal::Int => process::Signal::INT,
            Signal::Hup => process::Signal::HUP,
            Signal::Quit => process::Signal::QUIT,
            Signal::Usr1 => process::Signal::USR1,
            Signal::Usr2 => process::Signal::USR2,
            Signal::Xcpu => process::Signal::XCPU,
            Signal::Stop => process::Signal::STOP,
            Signal::Kill => process::Signal::KILL,
        };
        process::pidfd_send_signal(&self.0, signal).map_err(errno)
    }

    /// Sends the warrant's signal and, if the process could handle it and `is_stopped` after it, SIGCONT: the signal stays
    /// pending in a stopped process. In this order, the process handles the signal first.
    ///
    /// # Errors
    /// Those of [`Pidfd::send`]. One of SIGCONT leaves the process as it was.
    pub fn send_and_continue(
        &self,
        warrant: Warrant,
        is_stopped: impl FnOnce() -> bool,
    ) -> Result<(), Errno> {
        let can_be_handled = Signal::FIRST.contains(&warrant.signal());
        self.send(warrant)?;
        if can_be_handled && is_stopped() {
            let continued = process::pidfd_send_signal(&self.0, process::Signal::CONT);
            debug!(?continued, "SIGCONT to a stopped process");
        }
        Ok(())
    }

    /// Frees the memory of a process that was sent SIGKILL, in the caller's thread: process_mrelease(2), Linux 5.15.
    /// It blocks while the process holds its address space's lock, so call it from a thread that may wait.
    ///
    /// # Errors
    /// `ESRCH`: nothing is left to free. `EAGAIN`: only a part could be freed so far. `EINVAL`: the process was not sent
    /// SIGKILL, or shares its memory with one that was not. `ENOSYS`: an older kernel.
    pub fn reclaim(&self) -> Result<(), Errno> {
        // SAFETY: the call takes an open descriptor, and flags, which must be 0; no memory of ours is involved.
        let freed = unsafe { libc::syscall(libc::SYS_process_mrelease, self.0.as_raw_fd(), 0) };
        Errno::result(freed).map(drop)
    }

    /// Whether the process has ended, without waiting.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn exited(&self) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).map(|ready| ready > 0)
    }
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// A process that was opened before the look at it, so that one look is enough for a signal.
#[derive(Debug)]
pub struct OpenedProcess {
    pid: Pid,
    pidfd: Pidfd,
}

impl OpenedProcess {
    /// Opens the process that has `pid` now.
    ///
    /// # Errors
    /// Those of [`Pidfd::open`].
    pub fn open(pid: Pid) -> Result<Self, Errno> {
        Ok(Self { pid, pidfd: Pidfd::open(pid)? })
    }

    /// Stops the process, if that is the one that was found in evidence, which was gathered after it was opened.
    ///
    /// # Errors
    /// Those of [`Pidfd::send`].
    pub fn stop(&self, evidence: Evidence) -> Result<(), Errno> {
        if evidence.process.pid != self.pid {
            return Err(Errno::ESRCH);
        }
        self.pidfd.send(Warrant::new(Signal::Stop, evidence))
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) const fn pidfd(&self) -> &Pidfd {
        &self.pidfd
    }

    pub(super) fn into_pidfd(self) -> Pidfd {
        self.pidfd
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// A child that sleeps until it is dropped.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> (Self, Pidfd) {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let pidfd = Pidfd::open(Pid(child.id())).unwrap();
            (Self(child), pidfd)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn an_exit_is_seen_before_the_process_is_reaped() {
        let (mut child, pidfd) = Sleeper::start();
        assert_eq!(pidfd.exited(), Ok(false));
        child.0.kill().unwrap();
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 5_000_u16), Ok(1));
        assert_eq!(pidfd.exited(), Ok(true));
    }

    #[test]
    fn memory_is_freed_after_sigkill_only() {
        let (mut child, pidfd) = Sleeper::start();
        assert_eq!(pidfd.reclaim(), Err(Errno::EINVAL));
        child.0.kill().unwrap();
        let after = pidfd.reclaim();
        assert!(matches!(after, Ok(()) | Err(Errno::ESRCH)), "{after:?}");
    }

    #[test]
    fn init_and_unused_pids_are_not_opened() {
        assert_eq!(Pidfd::open(Pid::INIT).unwrap_err(), Errno::EPERM);
        assert_eq!(Pidfd::open(Pid(0)).unwrap_err(), Errno::ESRCH);
        assert_eq!(Pidfd::open(Pid(u32::MAX)).unwrap_err(), Errno::ESRCH);
        let (child, _) = Sleeper::start();
        let pid = Pid(child.0.id());
        drop(child);
        assert_eq!(Pidfd::open(pid).unwrap_err(), Errno::ESRCH);
    }
}
