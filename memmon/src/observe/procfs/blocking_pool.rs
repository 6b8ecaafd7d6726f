//! Threads for reads that may block: reading a process's command line takes its mmap_lock, and kcmp takes a lock that
//! exec holds. A process that hangs in the kernel (a file server that is gone, FUSE) may hold either while it hangs.
//! memmon must not wait for such a process, and only shortly for a slow one: the total time that it waits for all
//! processes of one user grows with the logarithm of their number.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::AsFd as _,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
};

use crate::model::{Pid, Uid};

/// Time to wait for a job; a process that is only busy takes less. It is divided by the number of recent late jobs of the
/// same user. The unit tests' processes are one user's, and some of them hang on purpose.
const TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 2_000 } else { 250 });

/// Minimum of the divided timeout: on a busy machine it may take as long until a thread is scheduled.
const MIN_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 10 });

/// Time for which a late job counts, even if it is done meanwhile.
const LATE_FOR: Duration = Duration::from_secs(10);

/// Maximum of threads that may hang at once, for one user and for all users. Beyond that, only further processes of such a
/// user are refused, unless several such users share the machine. The unit's TasksMax= has room for all of them.
const MAX: Share = Share { of_one: 16, of_all: 64 };

/// The same maximum for reads that are only displayed: they leave most threads to decisions.
const ONLOOKERS_MAX: Share = Share { of_one: 4, of_all: 16 };

/// The same maximum for walks over all pages, apart from the others: no decision waits for these, and each takes a
/// processor.
const PAGES_MAX: Share = Share { of_one: 4, of_all: 16 };

/// Number of threads to keep idle for later jobs.
const IDLE: usize = 2;

#[derive(Clone, Copy)]
struct Share {
    of_one: usize,
    of_all: usize,
}

/// The process that a job reads, and the purpose of the job.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobOwner {
    pub(super) pid: Pid,
    /// The process's real uid, which is that of the user that started it.
    pub(super) uid: Uid,
    /// Whether the result is only displayed, and no decision depends on it.
    pub(super) onlooks: bool,
    pub(super) lock: Lock,
}

/// The lock of the process that a job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// `mmap_lock`, which its owner can hold.
    Mmap,
    /// `exec_update_lock`, which an exec holds for a moment.
    Exec,
    /// `mmap_lock` again, for a walk over all pages that no decision waits for; or no lock, for a search through all
    /// cgroups.
    Pages,
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that is idle or runs a job.
///
/// Caller and thread wake each other through pipes, because the kernel treats a write to a pipe as a hint that the writer
/// is about to wait, and runs the reader on the writer's CPU. With a futex the thread might have to wait for the CPU
/// behind the very hog that it should look at.
struct Worker {
    jobs: Sender<Job>,
    begin: PipeWriter,
    done: PipeReader,
}

struct Pool {
    idle: Vec<Worker>,
    late: Vec<Late>,
    priority: Option<WorkerPriority>,
}

/// The priority of the threads, if it is not that of other threads.
#[derive(Clone, Copy)]
pub struct WorkerPriority {
    /// Gives the calling thread the priority for jobs that a signal waits for and that are short.
    pub raise: fn(),
    /// Gives it the one for jobs that may take long.
    pub lower: fn(),
}

/// A job that exceeded its timeout.
struct Late {
    owner: JobOwner,
    since: Instant,
    /// The thread, as long as it hangs.
    worker: Option<Worker>,
}

/// The threads of this program. They are shared, because a process hangs for every caller.
static POOL: Mutex<Pool> = Mutex::new(Pool { idle: Vec::new(), late: Vec::new(), priority: None });

/// Runs `job`, which reads `owner`, on another thread, unless an earlier job for that process still hangs.
///
/// # Errors
/// `TimedOut` if the job hangs or exceeds its timeout. Errors of starting a thread, and of a job that panics: no error number is that of
/// these, as it may be one of the job's.
pub(super) fn run_blocking<T: Send + 'static>(
    owner: JobOwner,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    run_short(owner, || unhurried(job))
}

/// The same for a job that is short, at the priority of what a signal waits for.
///
/// # Errors
/// Those of [`run_blocking`].
pub(super) fn run_short<T: Send + 'static>(
    owner: JobOwner,
    job: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (idle, timeout) = with_pool(|pool| pool.take_for(owner, Instant::now()))?;
    let mut worker = idle.map_or_else(|| Worker::start().map_err(io::Error::other), Ok)?;
    let (answer, answered) = mpsc::sync_channel(1);
    // The caller may have stopped waiting for the answer.
    worker.submit(Box::new(move || drop(answer.send(job()))))?;
    if worker.is_done(timeout)? {
        with_pool(|pool| pool.idle.push(worker));
        answered.try_recv().map_err(io::Error::other)
    } else {
        let late = Late { owner, since: Instant::now(), worker: Some(worker) };
        with_pool(|pool| pool.late.push(late));
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Starts `job`, which reads `owner`, on another thread, and does not wait for it.
///
/// # Errors
/// `TimedOut` if an earlier job for that process still runs, or too many jobs of its user do. Errors of starting a thread.
pub(super) fn start_blocking(owner: JobOwner, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (idle, _) = with_pool(|pool| pool.take_for(owner, Instant::now()))?;
    let mut worker = idle.map_or_else(Worker::start, Ok)?;
    worker.submit(Box::new(|| unhurried(job)))?;
    let late = Late { owner, since: Instant::now(), worker: Some(worker) };
    with_pool(|pool| pool.late.push(late));
    Ok(())
}

/// Runs a job that may take long, for which the thread has a lower priority.
fn unhurried<T>(job: impl FnOnce() -> T) -> T {
    let priority = with_pool(|pool| pool.priority);
    priority.inspect(|priority| (priority.lower)());
    let done = job();
    with_pool(|pool| pool.priority).inspect(|priority| (priority.raise)());
    done
}

/// For how long a read of `owner` has hung, or so many reads of its user that no further one can start; zero if it may only
/// be slow.
pub(super) fn hangs_since(owner: JobOwner) -> Duration {
    let now = Instant::now();
    with_pool(|pool| {
        let is_its_user = |late: &&Late| late.owner.uid == owner.uid && late.owner.lock != Lock::Pages;
        let hanging = pool.late.iter().filter(|late| late.worker.is_some()).filter(is_its_user);
        let since = |late: &Late| now.saturating_duration_since(late.since);
        let its = hanging.clone().filter(|late| (late.owner.pid, late.owner.lock) == (owner.pid, owner.lock));
        let mut all: Vec<_> = hanging.map(since).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        its.map(since).max().or_else(|| all.get(MAX.of_one - 1).copied()).unwrap_or_default()
    })
}

/// Starts a thread before it is needed. It gets the next job.
///
/// # Errors
/// Those of starting a thread.
pub fn add_worker() -> io::Result<()> {
    let worker = Worker::start()?;
    with_pool(|pool| pool.idle.push(worker));
    Ok(())
}

/// Gives all threads this priority: those that have no job at once, others after their job.
pub fn set_worker_priority(priority: WorkerPriority) {
    let idle = with_pool(|pool| {
        pool.priority = Some(priority);
        std::mem::take(&mut pool.idle)
    });
    for mut worker in idle {
        // One that does not answer is not used again.
        let is_set = worker.submit(Box::new(priority.raise)).and_then(|()| worker.is_done(TIMEOUT));
        if matches!(is_set, Ok(true)) {
            with_pool(|pool| pool.idle.push(worker));
        }
    }
}

fn with_pool<T>(change: impl FnOnce(&mut Pool) -> T) -> T {
    change(&mut POOL.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Worker {
    fn start() -> io::Result<Self> {
        let priority = with_pool(|pool| pool.priority);
        let (jobs, queue) = mpsc::channel::<Job>();
        let (mut begins, begin) = io::pipe()?;
        let (done, mut ends) = io::pipe()?;
        thread::Builder::new().name("close-look".into()).spawn(move || {
            priority.inspect(|priority| (priority.raise)());
            while begins.read_exact(&mut [0]).is_ok() {
                let Ok(job) = queue.try_recv() else { return };
                job();
                let _ = ends.write(&[0]);
            }
        })?;
        Ok(Self { jobs, begin, done })
    }

    fn submit(&mut self, job: Job) -> io::Result<()> {
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.begin.write_all(&[0])
    }

    /// Waits until the job is done, or until the timeout. Returns whether it is done.
    ///
    /// # Errors
    /// The job has panicked.
    fn is_done(&mut self, within: Duration) -> io::Result<bool> {
        let ready = loop {
            let mut done = [PollFd::new(self.done.as_fd(), PollFlags::POLLIN)];
            match ppoll(&mut done, Some(within.into()), None) {
                Err(Errno::EINTR) => {}
                ready => break ready? > 0,
            }
        };
        if ready {
            self.done.read_exact(&mut [0])?;
        }
        Ok(ready)
    }
}

impl Pool {
    /// Takes an idle thread, if there is one, for a job that reads `owner`. Returns it with the timeout for the job.
    fn take_for(&mut self, owner: JobOwner, now: Instant) -> io::Result<(Option<Worker>, Duration)> {
        for late in &mut self.late {
            match late.worker.as_mut().map(|worker| worker.is_done(Duration::ZERO)) {
                // Further threads end.
                Some(Ok(true)) if self.idle.len() < IDLE => self.idle.extend(late.worker.take()),
                Some(Ok(true) | Err(_)) => late.worker = None,
                Some(Ok(false)) | None => {}
            }
        }
        let is_walk = owner.lock == Lock::Pages;
        let lately = |late: &Late| now.saturating_duration_since(late.since) < LATE_FOR;
        self.late.retain(|late| late.worker.is_some() || lately(late));
        // A walk over all pages takes its time, and says nothing about another job.
        let late = || self.late.iter().filter(|late| (late.owner.lock == Lock::Pages) == is_walk);
        let count = |which: &dyn Fn(&Late) -> bool| late().filter(|late| which(late)).count();
        let hangs = |late: &Late| late.worker.is_some();
        let is_its_user = |late: &Late| late.owner.uid == owner.uid;
        let most = match owner {
            JobOwner { lock: Lock::Pages, .. } => PAGES_MAX,
            JobOwner { onlooks: true, .. } => ONLOOKERS_MAX,
            _ => MAX,
        };
        if count(&|late| hangs(late) && (late.owner.pid, late.owner.lock) == (owner.pid, owner.lock)) > 0
            || count(&|late| hangs(late) && is_its_user(late)) >= most.of_one
            || count(&hangs) >= most.of_all
        {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let shares = u32::try_from(count(&is_its_user) + 1).unwrap_or(u32::MAX);
        Ok((self.idle.pop(), (TIMEOUT / shares).max(MIN_TIMEOUT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pid and uid that no other test uses.
    fn about(number: u32) -> JobOwner {
        JobOwner {
            pid: Pid(u32::MAX - number),
            uid: Uid(u32::MAX - 1 - number / 100),
            onlooks: false,
            lock: Lock::Mmap,
        }
    }

    fn timed_out<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    #[test]
    fn a_process_that_hangs_is_waited_for_once_and_delays_no_other() {
        let (hangs, others) = (about(100), about(200));
        let (release, held) = mpsc::channel::<()>();
        assert!(timed_out(run_blocking(hangs, move || held.iter().for_each(drop))));
        assert!(timed_out(run_blocking(hangs, || ())));
        assert_eq!(run_blocking(others, || 7).unwrap(), 7);
        drop(release);
        let begun = Instant::now();
        while timed_out(run_blocking(hangs, || ())) {
            thread::yield_now();
            assert!(begun.elapsed() < 100 * TIMEOUT);
        }
    }

    #[test]
    fn many_that_hang_cost_little_and_block_no_other_user() {
        let (release, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(Mutex::new(held));
        let hang = |owner| {
            let held = std::sync::Arc::clone(&held);
            run_blocking(owner, move || with_lock(&held))
        };
        let begun = Instant::now();
        for number in 0..100 {
            let owner = about(300 + number);
            let onlooks = JobOwner { onlooks: true, ..owner };
            assert!(timed_out(hang(if number < 10 { onlooks } else { owner })));
        }
        // With the full timeout for each, this would take 4 s.
        assert!(begun.elapsed() < 10 * TIMEOUT, "{:?}", begun.elapsed());
        let hanging = |of: JobOwner| {
            with_pool(|pool| {
                let its = pool.late.iter().filter(|late| late.owner.uid == of.uid && late.worker.is_some());
                (its.clone().filter(|late| late.owner.onlooks).count(), its.count())
            })
        };
        assert_eq!(hanging(about(300)), (ONLOOKERS_MAX.of_one, MAX.of_one));
        assert_eq!(run_blocking(about(400), || 7).unwrap(), 7);
        drop(release);
    }

    fn with_lock(held: &Mutex<mpsc::Receiver<()>>) {
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().for_each(drop);
    }
}
