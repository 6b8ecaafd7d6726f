//! Answers that may be slow, or never come: a thread of its own looks them up. A line waits for one for a short time only,
//! and does without it after that.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// Long enough to ask once per flood, short enough for uids that are given out again (systemd's dynamic users).
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// More users or containers than that are rarely over a limit at once.
pub(super) const CAPACITY: usize = 128;

/// Time that a line waits for an answer. If a lookup needs longer, no line waits until it has ended.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Answers by key. Clones have the memory and the thread in common; the thread ends with the last of them.
pub(super) struct Lookups<K, V> {
    questions: SyncSender<(K, Instant)>,
    shared: Arc<Shared<K, V>>,
}

impl<K, V> Clone for Lookups<K, V> {
    fn clone(&self) -> Self {
        Self { questions: self.questions.clone(), shared: Arc::clone(&self.shared) }
    }
}

struct Shared<K, V> {
    answers: Mutex<Answers<K, V>>,
    answered: Condvar,
}

struct Answers<K, V> {
    /// The answers, with the time of the question.
    known: BTreeMap<K, (V, Instant)>,
    /// The questions without an answer.
    open: BTreeSet<K>,
    /// Whether a line has waited in vain since the last answer.
    is_late: bool,
}

impl<K: Ord + Clone + Send + 'static, V: Clone + Send + 'static> Lookups<K, V> {
    /// Starts a thread with that name, which calls `look_up` for each question.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start(name: &str, look_up: impl Fn(&K) -> V + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = mpsc::sync_channel(CAPACITY);
        let answers = Answers { known: BTreeMap::new(), open: BTreeSet::new(), is_late: false };
        let shared = Arc::new(Shared { answers: Mutex::new(answers), answered: Condvar::new() });
        let lookups = Self { questions, shared: Arc::clone(&shared) };
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Messages that libraries log meanwhile must not come back as something to write.
            tracing::dispatcher::with_default(&tracing::Dispatch::none(), || shared.answer(&asked, look_up));
        })?;
        Ok(lookups)
    }

    /// The answer; `None` if there is none yet.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<V> {
        let mut answers = self.shared.lock();
        if answers.fresh(key, now).is_none() {
            // If there are too many questions, this one is asked with a later line.
            if !answers.open.contains(key) && self.questions.try_send((key.clone(), now)).is_ok() {
                answers.open.insert(key.clone());
            }
            if !answers.is_late {
                let is_open = |answers: &mut Answers<K, V>| answers.open.contains(key);
                let waited = self.shared.answered.wait_timeout_while(answers, PATIENCE, is_open);
                let (after, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                answers = after;
                answers.is_late |= waited.timed_out();
            }
        }
        answers.fresh(key, now).cloned()
    }

    /// Number of answers that are kept, and of questions without an answer.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let answers = self.shared.lock();
        (answers.known.len(), answers.open.len())
    }
}

impl<K: Ord + Clone, V> Shared<K, V> {
    /// Answers questions until nothing is left that could ask one.
    fn answer(&self, asked: &Receiver<(K, Instant)>, look_up: impl Fn(&K) -> V) {
        for (key, now) in asked {
            let answer = look_up(&key);
            let mut answers = self.lock();
            if answers.known.len() >= CAPACITY {
                answers.known.clear();
            }
            answers.open.remove(&key);
            answers.known.insert(key, (answer, now));
            answers.is_late = false;
            drop(answers);
            self.answered.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Answers<K, V>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord, V> Answers<K, V> {
    /// The answer, unless it is old.
    fn fresh(&self, key: &K, now: Instant) -> Option<&V> {
        let (answer, asked) = self.known.get(key)?;
        (now.saturating_duration_since(*asked) < REMEMBERED_FOR).then_some(answer)
    }
}
