//! The environment of a process.
//!
//! Only its user may open /proc/PID/environ (mode 0400), and root with CAP_DAC_READ_SEARCH, which memmon's unit lacks. The kernel
//! shows the place of the environment in memory, and CAP_SYS_PTRACE is enough to read it there.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd as _;

use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd;

use super::directory::ProcessDirectory;
use super::{parse, whole};
use crate::model::Pid;

/// More of an environment is not read from memory, in bytes.
const LONGEST: u64 = 64 << 10;

impl ProcessDirectory {
    /// Reads the environment of `pid`, whose directory this is, as a closure for another thread. `own`: its pid means the same to
    /// system calls.
    pub(super) fn environment(
        &self,
        place: &str,
        pid: Pid,
        own: bool,
    ) -> io::Result<impl FnOnce() -> io::Result<Vec<u8>> + Send + use<>> {
        let (file, stat) = (self.reading(place, "environ")?, format!("{place}stat"));
        let (directory, thread) = (self.try_clone()?, thread(place, pid));
        Ok(move || match file() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && own => {
                in_memory(thread, || whole(directory.as_fd(), &stat))
            }
            read => read,
        })
    }
}

/// The thread whose files are at `place`.
fn thread(place: &str, pid: Pid) -> Pid {
    let number = place.strip_prefix("task/").and_then(|rest| rest.strip_suffix('/'));
    number.and_then(|number| number.parse().ok()).map_or(pid, Pid)
}

/// The environment in the memory of `thread`, of which `stat` reads the file of that name.
fn in_memory(thread: Pid, stat: impl Fn() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let hidden = || io::Error::from(io::ErrorKind::PermissionDenied);
    let (start, end) = parse::environment(&stat()?).ok_or_else(hidden)?;
    let length = usize::try_from(end.saturating_sub(start).min(LONGEST)).map_err(|_| hidden())?;
    let place = RemoteIoVec { base: usize::try_from(start).map_err(|_| hidden())?, len: length };
    let mut text = vec![0; length];
    let thread = unistd::Pid::from_raw(thread.0.cast_signed());
    let read = process_vm_readv(thread, &mut [IoSliceMut::new(&mut text)], &[place])?;
    text.truncate(read);
    // The number meant this process if the process is still there.
    stat()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_environment_in_memory_is_that_of_the_file() {
        let mut sleep = std::process::Command::new("sleep");
        let mut child = sleep.arg("60").env("SLURM_JOB_ID", "4711").spawn().unwrap();
        let folder = format!("/proc/{}", child.id());
        let read = || in_memory(Pid(child.id()), || fs::read(format!("{folder}/stat")));
        // Right after exec the kernel shows no place yet.
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            match read() {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                found => break found.unwrap(),
            }
        };
        assert_eq!(found, fs::read(format!("{folder}/environ")).unwrap());
        assert_eq!(parse::slurm_job_id(&found), Some(4711));
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = in_memory(Pid(child.id()), || fs::read(format!("{folder}/stat")));
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_thread_is_that_of_the_place() {
        assert_eq!(["", "task/44/", "task/x/"].map(|place| thread(place, Pid(42)).0), [42, 44, 42]);
    }
}
