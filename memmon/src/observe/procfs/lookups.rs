//! The answers of lookups of shared memory, which run on threads of their own: a lookup walks over all pages of a process,
//! and asks every older process. The caller gets the answer at a later look, and a lookup is not repeated while nothing has
//! changed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::blocking_pool::JobOwner;
use crate::model::{Bytes, Parts, Pid, SharedMemory, StartTime};

/// Maximum time of a lookup. A machine with 20,000 processes takes about two seconds.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The same for a caller that only displays the answer, and waits for it.
pub(super) const ONLOOKERS_TIME_LIMIT: Duration = Duration::from_secs(1);

/// Time for which an answer holds that condemns a process: from the verdict to the signal.
pub(super) const CONDEMNS_FOR: Duration = Duration::from_secs(2);

/// Time for which an answer holds that spares one. Its elder may end meanwhile.
const SPARES_FOR: Duration = Duration::from_secs(60);

/// Answers, by pid.
#[derive(Clone, Debug, Default)]
pub(super) struct Lookups(Arc<Mutex<BTreeMap<Pid, Lookup>>>);

#[derive(Clone, Debug)]
pub(super) struct Lookup {
    start: StartTime,
    pub began: Instant,
    pub answer: Option<Answer>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub at: Instant,
    /// Anonymous, shared and swapped-out memory at that time.
    pub memory: Bytes,
    /// None if a file could not be read.
    pub found: Option<SharedMemory>,
}

/// A process whose shared memory is looked up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub pid: Pid,
    pub parent: Pid,
    pub start: StartTime,
}

/// A question: does the end of this process give back as much as `least`?
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub owner: JobOwner,
    pub holder: Holder,
    pub parts: &'a Parts,
    pub least: Bytes,
}

impl Question<'_> {
    /// Whether the answer depends on shared memory at all.
    pub(super) fn depends_on_shared_memory(&self) -> bool {
        let Parts { anon, swap, shmem, .. } = *self.parts;
        anon + swap < self.least && anon + swap + shmem >= self.least
    }

    pub(super) fn memory(&self) -> Bytes {
        self.parts.anon + self.parts.swap + self.parts.shmem
    }
}

impl Answer {
    /// Whether the answer still holds for `question`.
    pub(super) fn holds(&self, question: &Question<'_>, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        let charged = |found: &SharedMemory| question.parts.anon + question.parts.swap + found.returned;
        match self.found.as_ref().map(charged) {
            // It has not grown by half of what was missing.
            Some(charged) if charged < question.least => {
                let missing = question.least.saturating_sub(charged);
                age < SPARES_FOR && question.memory() <= self.memory + Bytes(missing.0 / 2)
            }
            Some(_) | None => age < CONDEMNS_FOR,
        }
    }
}

impl Lookups {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<Pid, Lookup>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn get(&self, pid: Pid, start: StartTime) -> Option<Lookup> {
        self.with(|lookups| lookups.get(&pid).filter(|lookup| lookup.start == start).cloned())
    }

    pub(super) fn begin(&self, holder: Holder, now: Instant) {
        self.with(|lookups| {
            lookups.retain(|_, lookup| now.saturating_duration_since(lookup.began) < 2 * SPARES_FOR);
            lookups.insert(holder.pid, Lookup { start: holder.start, began: now, answer: None });
        });
    }

    pub(super) fn forget(&self, pid: Pid) {
        self.with(|lookups| lookups.remove(&pid));
    }

    pub(super) fn end(&self, holder: Holder, answer: Answer) {
        self.with(|lookups| {
            if let Some(lookup) = lookups.get_mut(&holder.pid).filter(|lookup| lookup.start == holder.start) {
                lookup.answer = Some(answer);
            }
        });
    }
}
