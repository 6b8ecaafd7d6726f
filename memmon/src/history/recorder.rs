//! The thread that has the database. Nobody waits for it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use super::store::{Bounds, Store, StoreError};
use crate::model::{Entry, History, Sample, Samples, Select};

/// Entries and questions that may wait.
const QUEUE: usize = 256;

/// Entries that come within this time are one transaction.
const TOGETHER: Duration = Duration::from_secs(1);

/// Entries of one transaction at most.
const MOST_TOGETHER: usize = 128;

/// The thread needs little; locked memory would keep all of it resident.
const STACK: usize = 256 << 10;

/// Called with the answer to a question, or with the reason why there is none.
type Then = Box<dyn FnOnce(Result<History, String>) + Send>;

/// The same for samples.
type ThenSamples = Box<dyn FnOnce(Result<Samples, String>) + Send>;

/// Returns samples of processes. It may be slow, because it runs on the thread.
type Look = Box<dyn FnOnce() -> Vec<Sample> + Send>;

/// Makes a place for the database, or returns the reason why it cannot.
type Prepare = fn(&Path) -> Result<(), String>;

/// Returns an entry. It may be slow, because it runs on the thread.
type Make = Box<dyn FnOnce() -> Entry + Send>;

enum Job {
    Add(Make),
    Select(Box<Select>, Then),
    /// Looks, and adds the samples.
    Look(Look),
    Samples(u64, ThenSamples),
    Keep(Bounds),
}

/// The last failure, and the entries that were lost because of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// The reason why the last transaction failed, if it did.
    pub failure: Option<String>,
    /// Entries that are not in the database, since the start.
    pub lost: u64,
}

#[derive(Default)]
struct Shared {
    failure: Mutex<Option<String>>,
    lost: AtomicU64,
}

impl Shared {
    fn failed(&self, error: Option<String>, lost: usize) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.lost.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// The way to the database.
pub struct Recorder {
    path: PathBuf,
    bounds: Bounds,
    prepare: Prepare,
    shared: Arc<Shared>,
    /// `None` until the first entry or question.
    thread: Option<(SyncSender<Job>, Receiver<()>)>,
}

impl Recorder {
    /// A recorder for the database at `path`. Nothing is opened yet; `prepare` is called before.
    pub fn new(path: &Path, bounds: Bounds, prepare: Prepare) -> Self {
        Self { path: path.to_owned(), bounds, prepare, shared: Arc::default(), thread: None }
    }

    /// Keeps so much from now on.
    pub fn keep(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        if let Some((jobs, _)) = &self.thread {
            // If the queue is full, the next change or start sets it.
            let _ = jobs.try_send(Job::Keep(bounds));
        }
    }

    /// Adds the entry that `make` returns, which is called on the thread, or counts it as lost.
    pub fn add(&mut self, make: impl FnOnce() -> Entry + Send + 'static) {
        if let Err((_, error)) = self.send(Job::Add(Box::new(make))) {
            self.shared.failed(Some(error), 1);
        }
    }

    /// Has the entries looked up, after all that were added before.
    pub fn select(&mut self, select: Select, then: impl FnOnce(Result<History, String>) + Send + 'static) {
        if let Err((Some(Job::Select(_, then)), error)) =
            self.send(Job::Select(Box::new(select), Box::new(then)))
        {
            then(Err(error));
        }
    }

    /// Calls `look` on the thread, and adds the samples that it returns.
    pub fn look(&mut self, look: impl FnOnce() -> Vec<Sample> + Send + 'static) {
        if let Err((_, error)) = self.send(Job::Look(Box::new(look))) {
            self.shared.failed(Some(error), 0);
        }
    }

    /// Has a page of samples read, after all that were added before.
    pub fn samples(&mut self, first: u64, then: impl FnOnce(Result<Samples, String>) + Send + 'static) {
        if let Err((Some(Job::Samples(_, then)), error)) = self.send(Job::Samples(first, Box::new(then))) {
            then(Err(error));
        }
    }

    /// The last failure.
    pub fn trouble(&self) -> Trouble {
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Trouble { failure, lost: self.shared.lost.load(Ordering::Relaxed) }
    }

    /// Waits until everything is written, for at most so long.
    pub fn finish(self, patience: Duration) {
        if let Some((jobs, done)) = self.thread {
            drop(jobs);
            let _ = done.recv_timeout(patience);
        }
    }

    fn send(&mut self, job: Job) -> Result<(), (Option<Job>, String)> {
        let thread = match self.thread.take().map_or_else(|| self.start(), Ok) {
            Ok(thread) => self.thread.insert(thread),
            Err(error) => return Err((Some(job), format!("no thread for the history: {error}"))),
        };
        match thread.0.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(job)) => Err((Some(job), "the disk does not take the history".to_owned())),
            Err(TrySendError::Disconnected(job)) => Err((Some(job), "its thread has ended".to_owned())),
        }
    }

    fn start(&self) -> std::io::Result<(SyncSender<Job>, Receiver<()>)> {
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let (end, done) = mpsc::channel();
        let mut writer = Writer {
            path: self.path.clone(),
            bounds: self.bounds,
            prepare: self.prepare,
            shared: Arc::clone(&self.shared),
            store: None,
            waiting: Vec::new(),
            samples: Vec::new(),
        };
        let work = move || {
            writer.run(&queue);
            // The database is closed before the end is known.
            drop(writer);
            drop(end);
        };
        thread::Builder::new().name("history".to_owned()).stack_size(STACK).spawn(work)?;
        Ok((jobs, done))
    }
}

/// The thread's side.
struct Writer {
    path: PathBuf,
    bounds: Bounds,
    prepare: Prepare,
    shared: Arc<Shared>,
    store: Option<Store>,
    waiting: Vec<Entry>,
    samples: Vec<Sample>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) {
        let mut due: Option<Instant> = None;
        loop {
            let job = match due {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Add(make)) => {
                    self.waiting.push(make());
                    due = due.or_else(|| Some(Instant::now() + TOGETHER));
                }
                Ok(Job::Select(select, then)) => {
                    self.flush();
                    due = None;
                    then(self.read(|store| store.select(&select)));
                }
                Ok(Job::Look(look)) => {
                    self.samples.extend(look());
                    if !self.samples.is_empty() {
                        due = due.or_else(|| Some(Instant::now() + TOGETHER));
                    }
                }
                Ok(Job::Samples(first, then)) => {
                    self.flush();
                    due = None;
                    then(self.read(|store| store.samples(first)));
                }
                Ok(Job::Keep(bounds)) => self.bounds = bounds,
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    due = None;
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
            if self.waiting.len() + self.samples.len() >= MOST_TOGETHER {
                self.flush();
                due = None;
            }
        }
    }

    /// Writes the waiting entries. Entries that cannot be written are lost, because to keep them would not be bounded.
    fn flush(&mut self) {
        if self.waiting.is_empty() && self.samples.is_empty() {
            return;
        }
        let (waiting, samples) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.samples));
        let bounds = self.bounds;
        let add = |store: &Store| store.add(&waiting, &samples, bounds).map_err(|error| error.to_string());
        let outcome = self.store().and_then(add);
        match outcome {
            Ok(()) => self.shared.failed(None, 0),
            Err(error) => {
                // After an error it must be opened again.
                self.store = None;
                // Samples are no entries that anybody misses.
                self.shared.failed(Some(error), waiting.len());
            }
        }
    }

    fn read<T>(&mut self, read: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, String> {
        let found = self.store().and_then(|store| read(store).map_err(|error| error.to_string()));
        if found.is_err() {
            self.store = None;
        }
        found
    }

    fn store(&mut self) -> Result<&Store, String> {
        match self.store.take() {
            Some(store) => Ok(self.store.insert(store)),
            None => {
                (self.prepare)(&self.path)?;
                let store = Store::open(&self.path).map_err(|error| error.to_string())?;
                Ok(self.store.insert(store))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{history::summary::tests::entry, model::Happened};

    const BOUNDS: Bounds = Bounds { days: 90, bytes: 1 << 20 };

    fn ask(recorder: &mut Recorder) -> Result<History, String> {
        let (answer, answered) = mpsc::channel();
        recorder.select(Select::default(), move |found| answer.send(found).unwrap());
        answered.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn a_question_sees_all_that_was_added_before_and_the_next_start_does_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut recorder = Recorder::new(&path, BOUNDS, |_| Ok(()));
        assert!(!path.exists(), "nothing is opened yet");
        for at in 0..300_u32 {
            // The thread must be able to keep up here.
            if at % 100 == 0 {
                assert!(ask(&mut recorder).is_ok());
            }
            recorder.add(move || entry(f64::from(at), Happened::Terminated, "a", 1));
        }
        assert_eq!(ask(&mut recorder).unwrap().matched, 300);
        recorder.add(move || entry(300.0, Happened::Terminated, "a", 1));
        recorder.finish(Duration::from_secs(20));
        let mut recorder = Recorder::new(&path, BOUNDS, |_| Ok(()));
        assert_eq!(ask(&mut recorder).unwrap().matched, 301);
        assert_eq!(recorder.trouble(), Trouble::default());
    }

    #[test]
    fn entries_that_cannot_be_written_are_counted_and_the_reason_is_known_until_it_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/history");
        let mut recorder = Recorder::new(&path, BOUNDS, |_| Ok(()));
        recorder.add(move || entry(1.0, Happened::Terminated, "a", 1));
        assert!(ask(&mut recorder).unwrap_err().contains("missing/history"));
        let trouble = recorder.trouble();
        assert!((trouble.lost, trouble.failure.is_some()) == (1, true), "{trouble:?}");
        std::fs::create_dir(folder.path().join("missing")).unwrap();
        recorder.add(move || entry(2.0, Happened::Terminated, "a", 1));
        assert_eq!(ask(&mut recorder).unwrap().matched, 1);
        assert_eq!(recorder.trouble(), Trouble { failure: None, lost: 1 });
    }
}
