//! What may hang, done beside the caller: a process's command line waits for its mmap_lock, and kcmp for what an exec
//! holds. One that hangs in the kernel (a file server that is gone, FUSE) may hold either for as long as it hangs. Whoever
//! watches all the others waits for none of them, and not for long for those who only take their time: what all processes
//! of one user cost together in waiting grows with the logarithm of their number.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::retry_on_intr,
};

use crate::model::{Pid, Uid};

/// What no process takes that only has much to do. Each process that was late lately leaves less for the others of its user.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is left of that at least: a busy machine may take as long until a thread has its turn.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);

/// How long it counts that one was late, after it is done.
const LATELY: Duration = Duration::from_secs(10);

/// Threads that may hang at once, for one user and for all. Who is refused beyond that can only be another process of
/// a user with so many, or the machine has several such users; the unit's TasksMax= has room for all of them.
const MOST: Share = Share { of_one: 16, of_all: 64 };

/// The same for those who only look on: they leave most of it to what decides.
const MOST_FOR_ONLOOKERS: Share = Share { of_one: 4, of_all: 16 };

/// Threads that are kept for what comes, of those that hung.
const IDLE: usize = 2;

#[derive(Clone, Copy)]
struct Share {
    of_one: usize,
    of_all: usize,
}

/// Whom a job is about, and for whom it is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobOwner {
    pub(super) pid: Pid,
    /// Whose, by the real uid, which is that of whoever started it.
    pub(super) uid: Uid,
    /// Whether nothing is decided by the answer.
    pub(super) onlooks: bool,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread, between two jobs or at one.
///
/// The two wake each other by pipes, as the kernel takes a write to one for a hint that the writer is about to wait, and
/// has the reader run where the writer did. By a futex it may have to wait for its turn behind the very hog that it is to
/// look at.
struct Worker {
    jobs: Sender<Job>,
    begin: PipeWriter,
    done: PipeReader,
}

struct Helpers {
    idle: Vec<Worker>,
    late: Vec<Late>,
    /// What each does before anything else.
    first: Option<fn()>,
}

/// A job that was not waited for.
struct Late {
    whom: JobOwner,
    since: Instant,
    /// Hangs, if it is still there.
    helper: Option<Worker>,
}

/// The threads of this program: what hangs does so whoever asked.
static HELPERS: Mutex<Helpers> = Mutex::new(Helpers { idle: Vec::new(), late: Vec::new(), first: None });

/// Does `job`, which is about `whom`, on another thread. Not if an earlier one about that process hangs still.
///
/// # Errors
/// `TimedOut` if it hangs, or takes longer than is waited for. Those of starting a thread, and of a job that panics.
pub(super) fn run_blocking<T: Send + 'static>(
    whom: JobOwner,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (idle, patience) = with_helpers(|helpers| helpers.take_for(whom, Instant::now()))?;
    let mut helper = idle.map_or_else(Worker::start, Ok)?;
    let (answer, answered) = mpsc::sync_channel(1);
    // Whoever asked may have gone on without the answer.
    helper.give(Box::new(move || drop(answer.send(job()))))?;
    if helper.is_done(patience)? {
        with_helpers(|helpers| helpers.idle.push(helper));
        answered.try_recv().map_err(io::Error::other)
    } else {
        let late = Late { whom, since: Instant::now(), helper: Some(helper) };
        with_helpers(|helpers| helpers.late.push(late));
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Starts a thread ahead of any need. It does `first` before anything else, as do those that are started later, and is
/// the next that gets a job.
///
/// # Errors
/// Those of starting a thread.
pub fn add_worker(first: fn()) -> io::Result<()> {
    with_helpers(|helpers| helpers.first = Some(first));
    let helper = Worker::start()?;
    with_helpers(|helpers| helpers.idle.push(helper));
    Ok(())
}

fn with_helpers<T>(use_them: impl FnOnce(&mut Helpers) -> T) -> T {
    use_them(&mut HELPERS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Worker {
    fn start() -> io::Result<Self> {
        let first = with_helpers(|helpers| helpers.first);
        let (jobs, queue) = mpsc::channel::<Job>();
        let (mut begins, begin) = io::pipe()?;
        let (done, mut ends) = io::pipe()?;
        thread::Builder::new().name("close-look".into()).spawn(move || {
            first.inspect(|first| first());
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
    fn is_done(&mut self, within: Duration) -> io::Result<bool> {
        let within = Timespec::try_from(within).map_err(io::Error::other)?;
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&self.done, PollFlags::IN)], Some(&within)))?;
        if ready > 0 {
            self.done.read_exact(&mut [0])?;
        }
        Ok(ready > 0)
    }
}

impl Helpers {
    /// One that is idle, if there is one, for a job about `whom`, and how long to wait for it.
    fn take_for(&mut self, whom: JobOwner, now: Instant) -> io::Result<(Option<Worker>, Duration)> {
        for late in &mut self.late {
            match late.helper.as_mut().map(|helper| helper.is_done(Duration::ZERO)) {
                // The others end.
                Some(Ok(true)) if self.idle.len() < IDLE => self.idle.extend(late.helper.take()),
                Some(Ok(true) | Err(_)) => late.helper = None,
                Some(Ok(false)) | None => {}
            }
        }
        let lately = |late: &Late| now.saturating_duration_since(late.since) < LATELY;
        self.late.retain(|late| late.helper.is_some() || lately(late));
        let count = |which: &dyn Fn(&Late) -> bool| self.late.iter().filter(|late| which(late)).count();
        let hangs = |late: &Late| late.helper.is_some();
        let is_its_user = |late: &Late| late.whom.uid == whom.uid;
        let most = if whom.onlooks { MOST_FOR_ONLOOKERS } else { MOST };
        if count(&|late| hangs(late) && late.whom.pid == whom.pid) > 0
            || count(&|late| hangs(late) && is_its_user(late)) >= most.of_one
            || count(&hangs) >= most.of_all
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let shares = u32::try_from(count(&is_its_user) + 1).unwrap_or(u32::MAX);
        Ok((self.idle.pop(), (PATIENCE / shares).max(LEAST_PATIENCE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pids and uids that no other test has.
    fn about(number: u32) -> JobOwner {
        JobOwner { pid: Pid(u32::MAX - number), uid: Uid(u32::MAX - 1 - number / 100), onlooks: false }
    }

    fn timed_out<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[test]
    fn who_hangs_is_waited_for_once_and_holds_up_nobody_else() {
        let (hangs, others) = (about(100), about(200));
        let (release, held) = mpsc::channel::<()>();
        assert!(timed_out(run_blocking(hangs, move || held.iter().for_each(drop))));
        assert!(timed_out(run_blocking(hangs, || ())));
        assert_eq!(run_blocking(others, || 7).unwrap(), 7);
        drop(release);
        let begun = Instant::now();
        while timed_out(run_blocking(hangs, || ())) {
            thread::yield_now();
            assert!(begun.elapsed() < 100 * PATIENCE);
        }
    }

    #[test]
    fn many_who_hang_cost_little_and_disarm_nobody_else() {
        let (release, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(Mutex::new(held));
        let hang = |whom| {
            let held = std::sync::Arc::clone(&held);
            run_blocking(whom, move || with_lock(&held))
        };
        let begun = Instant::now();
        for number in 0..100 {
            let whom = about(300 + number);
            let onlooks = JobOwner { onlooks: true, ..whom };
            assert!(timed_out(hang(if number < 10 { onlooks } else { whom })));
        }
        // One after the other, each for all that is ever waited for one, it were 4 s.
        assert!(begun.elapsed() < 10 * PATIENCE, "{:?}", begun.elapsed());
        let hanging = |of: JobOwner| {
            with_helpers(|helpers| {
                let its = helpers.late.iter().filter(|late| late.whom.uid == of.uid && late.helper.is_some());
                (its.clone().filter(|late| late.whom.onlooks).count(), its.count())
            })
        };
        assert_eq!(hanging(about(300)), (MOST_FOR_ONLOOKERS.of_one, MOST.of_one));
        assert_eq!(run_blocking(about(400), || 7).unwrap(), 7);
        drop(release);
    }

    fn with_lock(held: &Mutex<mpsc::Receiver<()>>) {
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().for_each(drop);
    }
}
