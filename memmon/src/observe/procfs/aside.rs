//! What may hang, done beside the caller: a process's command line waits for its mmap_lock, and kcmp for what an exec
//! holds. One that hangs in the kernel (a file server that is gone, FUSE) may hold either for as long as it hangs. Whoever
//! watches all the others waits for none of them.

use std::{
    io, mem,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError},
    },
    thread,
    time::Duration,
};

use crate::model::Pid;

/// What no process takes that only has much to do.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that may hang at once. With so many nothing is tried any more, until one of them is back.
const MOST: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// A thread, between two jobs or at one.
struct Helper {
    jobs: Sender<Job>,
    done: Receiver<()>,
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
    let helper = idle.map_or_else(|| Helper::start(|| ()), Ok)?;
    let (answer, answered) = mpsc::sync_channel(1);
    // Whoever asked may have gone on without the answer; a thread that is gone shows below.
    let _ = helper.jobs.send(Box::new(move || drop(answer.send(job()))));
    match helper.done.recv_timeout(PATIENCE) {
        Ok(()) => {
            with_helpers(|helpers| helpers.idle.push(helper));
            answered.try_recv().map_err(io::Error::other)
        }
        Err(RecvTimeoutError::Timeout) => {
            with_helpers(|helpers| helpers.hanging.push((pid, helper)));
            Err(io::ErrorKind::TimedOut.into())
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
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
        let (finished, done) = mpsc::channel();
        thread::Builder::new().name("close-look".into()).spawn(move || {
            first();
            for job in queue {
                job();
                let _ = finished.send(());
            }
        })?;
        Ok(Self { jobs, done })
    }
}

impl Helpers {
    /// One that is idle, if there is one, for a job about `pid`.
    fn take_for(&mut self, pid: Pid) -> io::Result<Option<Helper>> {
        for (whom, helper) in mem::take(&mut self.hanging) {
            match helper.done.try_recv() {
                Err(TryRecvError::Empty) => self.hanging.push((whom, helper)),
                _ => self.idle.push(helper),
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
    use std::time::Instant;

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
        assert!(begun.elapsed() < PATIENCE);
        drop(release);
        while timed_out(aside(hangs, || ())) {
            thread::yield_now();
            assert!(begun.elapsed() < 10 * PATIENCE);
        }
    }
}
