//! What may hang, done beside the caller: a process's command line waits for its mmap_lock, and kcmp for what an exec
//! holds. One that hangs in the kernel (a file server that is gone, FUSE) may hold either for as long as it hangs. Whoever
//! watches all the others waits for none of them.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    mem,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};

use crate::model::Pid;

/// What no process takes that only has much to do.
const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Threads that may hang at once. With so many nothing is tried any more, until one of them is back.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A thread, between two jobs or at one.
///
/// The two wake each other by pipes, as the kernel takes a write to one for a hint that the writer is about to wait, and
/// has the reader run where the writer did. By a futex it may have to wait for its turn behind the very hog that it is to
/// look at.
struct Helper {
    jobs: Sender<Job>,
    begin: PipeWriter,
    done: PipeReader,
}

struct Helpers {
    idle: Vec<Helper>,
    /// Each with the process for which it hangs.
    hanging: Vec<(Pid, Helper)>,
}

/// The threads of this program: what hangs does so whoever asked.
static HELPERS: Mutex<Helpers> = Mutex::new(Helpers { idle: Vec::new(), hanging: Vec::new() });

/// Does `job`, which is about `pid`, on another thread. Not if an earlier one about `pid` hangs still.
///
/// # Errors
/// `TimedOut` if it hangs. Those of starting a thread, and of a job that panics.
pub(super) fn aside<T: Send + 'static>(pid: Pid, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let idle = with_helpers(|helpers| helpers.take_for(pid))?;
    let mut helper = idle.map_or_else(|| Helper::start(|| ()), Ok)?;
    let (answer, answered) = mpsc::sync_channel(1);
    // Whoever asked may have gone on without the answer.
    helper.give(Box::new(move || drop(answer.send(job()))))?;
    if helper.is_done(PATIENCE)? {
        with_helpers(|helpers| helpers.idle.push(helper));
        answered.try_recv().map_err(io::Error::other)
    } else {
        with_helpers(|helpers| helpers.hanging.push((pid, helper)));
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Starts a thread ahead of any need, which does `first` before anything else. It is the next that gets a job.
///
/// # Errors
/// Those of starting a thread.
pub fn add_helper(first: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let helper = Helper::start(first)?;
    with_helpers(|helpers| helpers.idle.push(helper));
    Ok(())
}

fn with_helpers<T>(use_them: impl FnOnce(&mut Helpers) -> T) -> T {
    use_them(&mut HELPERS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Helper {
    fn start(first: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (mut begins, begin) = io::pipe()?;
        let (done, mut ends) = io::pipe()?;
        thread::Builder::new().name("close-look".into()).spawn(move || {
            first();
            while begins.read_exact(&mut [0]).is_ok() {
                let Ok(job) = queue.try_recv() else { return };
                job();
                let _ = ends.write(&[0]);
            }
        })?;
        Ok(Self { jobs, begin, done })
    }

    fn give(&mut self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.begin.write_all(&[0])
    }

    /// Whether it is done with its job by then.
    ///
    /// # Errors
    /// Its job has panicked.
    fn is_done(&mut self, within: Timespec) -> io::Result<bool> {
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&self.done, PollFlags::IN)], Some(&within)))?;
        if ready > 0 {
            self.done.read_exact(&mut [0])?;
        }
        Ok(ready > 0)
    }
}

impl Helpers {
    /// One that is idle, if there is one, for a job about `pid`.
    fn take_for(&mut self, pid: Pid) -> io::Result<Option<Helper>> {
        for (whom, mut helper) in mem::take(&mut self.hanging) {
            match helper.is_done(AT_ONCE) {
                Ok(false) => self.hanging.push((whom, helper)),
                Ok(true) => self.idle.push(helper),
                Err(_) => {}
            }
        }
        if self.hanging.len() >= MOST || self.hanging.iter().any(|(whom, _)| *whom == pid) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(self.idle.pop())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn who_hangs_is_waited_for_once_and_holds_up_nobody_else() {
        // Pids that no other test has.
        let [hangs, other] = [Pid(u32::MAX), Pid(u32::MAX - 1)];
        let (release, held) = mpsc::channel::<()>();
        let timed_out =
            |outcome: io::Result<()>| outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        assert!(timed_out(aside(hangs, move || held.iter().for_each(drop))));
        let begun = Instant::now();
        assert!(timed_out(aside(hangs, || ())));
        assert_eq!(aside(other, || 7).unwrap(), 7);
        let patience = Duration::try_from(PATIENCE).unwrap();
        assert!(begun.elapsed() < patience);
        drop(release);
        while timed_out(aside(hangs, || ())) {
            thread::yield_now();
            assert!(begun.elapsed() < 10 * patience);
        }
    }
}
