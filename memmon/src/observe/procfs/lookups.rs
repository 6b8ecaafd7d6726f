//! The answers of lookups of shared memory, which run on threads of their own: where that decides, a lookup walks over all
//! pages of a process, and asks every older process. The caller learns of each answer, and gets it at a later look; a
//! lookup is not repeated while nothing has changed.
//!
//! A lookup has no time limit, because a machine with many processes and little time for memmon takes long for one, and
//! that must end no process. Only one thing is taken for the work of a process's owner: a read of the process's own files
//! that does not move for [`HANGS_AFTER`], because its owner can hold the lock that the read waits for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::blocking_pool::JobOwner;
use super::shared_objects::SharedObject;
use super::smaps::FileId;
use crate::model::{Bytes, Fact, Parts, Pid, ProcessId, SharedMemory, StartTime};

/// Maximum time of a lookup for a caller that only displays the answer, and waits for it.
pub(super) const ONLOOKERS_TIME_LIMIT: Duration = Duration::from_secs(1);

/// Time after which a read that has not moved counts as one that its owner holds up. A walk over the pages of one mapping
/// is a single read: see [`Heartbeat`].
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// Additional time for each GiB of shared memory, of which a slow machine walks over so much in this time.
const WALK_PER_GIB: Duration = Duration::from_millis(500);

/// Time for which an answer holds that leads to a termination: from the verdict to the signal.
const HOLDS_FOR_TERMINATION: Duration = Duration::from_secs(2);

/// Time for which an answer holds that spares one, if no elder ends. One of them may unmap an object meanwhile.
const SPARES_FOR: Duration = Duration::from_secs(60);

/// Time for which the walk over the pages holds, if the process and its elders map the same objects still and it has not grown.
/// With 4 KiB pages the walk takes 20 ms per GiB, and a database has many workers that have touched all of a large segment.
const WALK_HOLDS_FOR: Duration = Duration::from_secs(600);

/// Time until a failed lookup is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time for which a lookup may wait for its turn before that is reported as trouble.
const WAITS_FOR: Duration = Duration::from_secs(5);

/// Lookups, by pid.
#[derive(Clone, Debug)]
pub(super) struct Lookups {
    all: Arc<Mutex<BTreeMap<Pid, Lookup>>>,
    /// [`HANGS_AFTER`], except in tests.
    pub hangs_after: Duration,
    /// Called on the thread of a lookup that has ended.
    pub on_end: Option<OnEnd>,
}

/// Called with the process about which a lookup has ended.
#[derive(Clone)]
pub(super) struct OnEnd(pub Arc<dyn Fn(ProcessId) + Send + Sync>);

#[derive(Clone, Debug)]
struct Lookup {
    start: StartTime,
    began: Instant,
    state: State,
    /// The last answer: another lookup may run by now.
    answer: Option<Answer>,
    /// Since when it waits for its turn.
    waits_since: Option<Instant>,
    /// Number of failures in a row, and the last reason.
    failed: u32,
    trouble: Option<String>,
}

#[derive(Clone, Debug)]
enum State {
    /// Too many others run.
    Waiting,
    Running(Heartbeat),
    Answered,
    Failed {
        at: Instant,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    at: Instant,
    /// Time of the walk over the pages.
    walked: Instant,
    /// Anonymous, shared and swapped-out memory at that time.
    memory: Bytes,
    /// `None` if the process's owner withholds it.
    pub found: Option<Found>,
}

/// The result of a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub memory: SharedMemory,
    /// The older processes that are charged for some of it.
    pub elders: Vec<ProcessId>,
    /// The objects that outlive every process.
    pub stays: Vec<SharedObject>,
    /// The others.
    pub searched: BTreeSet<FileId>,
    /// Those that an older process maps, with how much of it.
    pub held: BTreeMap<FileId, (ProcessId, Bytes)>,
}

/// Time of the last progress of a running lookup.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat(Arc<Mutex<Instant>>);

/// The reason why a lookup has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The owner of the process keeps its files from being read.
    Withheld,
    /// Anything else: the lookup is tried again.
    Machine(String),
}

/// The next step for a process whose shared memory is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To take this answer; the reason why there is no answer yet, if that is trouble.
    Take(Fact<SharedMemory>, Option<String>),
    /// To start a lookup.
    Start,
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
    /// Maximum error of `parts`, if it suffices to know that the process gives back that much at least; `None` if the amount
    /// itself counts.
    pub error: Option<Bytes>,
}

impl Found {
    pub(super) fn new(
        memory: SharedMemory,
        stays: Vec<SharedObject>,
        searched: BTreeSet<FileId>,
        held: BTreeMap<FileId, (ProcessId, Bytes)>,
    ) -> Self {
        let elders: BTreeSet<_> = held.values().map(|(elder, _)| *elder).collect();
        Self { memory, elders: elders.into_iter().collect(), stays, searched, held }
    }
}

impl Question<'_> {
    /// Whether the answer depends on shared memory at all.
    pub(super) fn depends_on_shared_memory(&self) -> bool {
        let Parts { anon, swap, shmem, .. } = *self.parts;
        anon + swap < self.least && anon + swap + shmem >= self.least
    }

    /// The shared memory that must be the process's own for it to be over its limit.
    pub(super) fn needed(&self) -> Bytes {
        self.least.saturating_sub(self.parts.anon + self.parts.swap)
    }

    /// All memory that may be charged.
    pub(super) fn memory(&self) -> Bytes {
        self.parts.anon + self.parts.swap + self.parts.shmem
    }
}

impl Heartbeat {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    pub(super) fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// Whether the answer still holds for `question`.
    fn holds(&self, question: &Question<'_>, now: Instant, lives: impl Fn(ProcessId) -> bool) -> bool {
        let age = now.saturating_duration_since(self.at);
        match &self.found {
            Some(found) if self.spares(question) => {
                age < SPARES_FOR && found.elders.iter().all(|elder| lives(*elder))
            }
            _ => age < HOLDS_FOR_TERMINATION,
        }
    }

    /// Whether it spares a process that has not grown by half of what was missing since.
    fn spares(&self, question: &Question<'_>) -> bool {
        self.found.as_ref().is_some_and(|found| {
            let charged = question.parts.anon + question.parts.swap + found.memory.returned;
            let missing = question.least.saturating_sub(charged);
            charged < question.least && question.memory() <= self.memory + Bytes(missing.0 / 2)
        })
    }
}

impl Lookup {
    fn answered(&mut self, answer: Answer) {
        (self.failed, self.trouble, self.waits_since) = (0, None, None);
        (self.state, self.answer) = (State::Answered, Some(answer));
    }
}

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnEnd")
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Self { all: Arc::default(), hangs_after: HANGS_AFTER, on_end: None }
    }
}

impl Lookups {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<Pid, Lookup>) -> T) -> T {
        change(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The step for `question` now. An answer counts only as long as the elders in it live.
    pub(super) fn step(
        &self,
        question: &Question<'_>,
        now: Instant,
        lives: impl Fn(ProcessId) -> bool,
    ) -> Step {
        let Holder { pid, start, .. } = question.holder;
        let hangs_after =
            self.hangs_after + WALK_PER_GIB.mul_f64(question.parts.shmem.0 as f64 / Bytes::GIB as f64);
        self.with(|lookups| {
            let Some(lookup) = lookups.get(&pid).filter(|lookup| lookup.start == start) else {
                return Step::Start;
            };
            let trouble = lookup.trouble.clone();
            let holds = |answer: &&Answer| answer.holds(question, now, lives);
            match (&lookup.state, lookup.answer.as_ref()) {
                (State::Answered, answer) => answer.filter(holds).map_or(Step::Start, |answer| {
                    let found = answer.found.as_ref().map(|found| found.memory.clone());
                    Step::Take(found.map_or(Fact::Withheld, Fact::Known), None)
                }),
                (State::Running(beat), _) if now.saturating_duration_since(beat.last()) > hangs_after => {
                    Step::Take(Fact::Withheld, None)
                }
                (State::Running(_), _) => Step::Take(Fact::Unreadable, trouble),
                (State::Failed { at }, _) => {
                    let pause = FIRST_PAUSE.saturating_mul(1 << lookup.failed.saturating_sub(1).min(16));
                    let waits = now.saturating_duration_since(*at) < pause.min(LONGEST_PAUSE);
                    if waits { Step::Take(Fact::Unreadable, trouble) } else { Step::Start }
                }
                (State::Waiting, _) => Step::Start,
            }
        })
    }

    /// The objects of a process that outlive every process, by the last answer.
    pub(super) fn stays(&self, process: ProcessId) -> Option<Vec<SharedObject>> {
        self.with(|lookups| {
            let lookup = lookups.get(&process.pid).filter(|lookup| lookup.start == process.start)?;
            Some(lookup.answer.as_ref()?.found.as_ref()?.stays.clone())
        })
    }

    /// The last answer, if nothing but its age speaks against it.
    pub(super) fn aged(&self, question: &Question<'_>, now: Instant) -> Option<Answer> {
        self.with(|lookups| {
            let lookup = lookups.get(&question.holder.pid)?;
            let answer = lookup.answer.as_ref().filter(|answer| answer.spares(question))?;
            let is_recent = now.saturating_duration_since(answer.walked) < WALK_HOLDS_FOR;
            (lookup.start == question.holder.start && is_recent).then(|| answer.clone())
        })
    }

    /// Notes that this answer still holds.
    pub(super) fn renew(&self, holder: Holder, answer: Answer, now: Instant) {
        self.change(holder, now, |lookup| lookup.answered(Answer { at: now, ..answer }));
        self.has_ended(holder);
    }

    /// Notes that a lookup starts, which shows its progress by `beat`.
    pub(super) fn begin(&self, holder: Holder, beat: Heartbeat, now: Instant) {
        self.change(holder, now, |lookup| (lookup.began, lookup.state) = (now, State::Running(beat)));
    }

    /// Notes that a lookup could not start, as others run. Returns the reason if it has waited for long.
    pub(super) fn wait(&self, holder: Holder, now: Instant, why: &str) -> Option<String> {
        self.change(holder, now, |lookup| {
            lookup.state = State::Waiting;
            let waited = now.saturating_duration_since(*lookup.waits_since.get_or_insert(now));
            lookup.trouble.clone().or_else(|| (waited >= WAITS_FOR).then(|| why.to_owned()))
        })
    }

    /// Notes the end of a lookup that began when the process had `memory`.
    pub(super) fn end(&self, holder: Holder, memory: Bytes, result: Result<Found, Failure>, now: Instant) {
        self.change(holder, now, |lookup| {
            let found = match result {
                Ok(found) => Some(found),
                Err(Failure::Withheld) => None,
                Err(Failure::Machine(why)) => {
                    lookup.waits_since = None;
                    (lookup.failed, lookup.trouble) = (lookup.failed.saturating_add(1), Some(why));
                    lookup.state = State::Failed { at: now };
                    return;
                }
            };
            lookup.answered(Answer { at: now, walked: now, memory, found });
        });
        self.has_ended(holder);
    }

    fn has_ended(&self, Holder { pid, start, .. }: Holder) {
        if let Some(OnEnd(call)) = &self.on_end {
            call(ProcessId { pid, start });
        }
    }

    fn change<T>(&self, holder: Holder, now: Instant, change: impl FnOnce(&mut Lookup) -> T) -> T {
        self.with(|lookups| {
            // One that runs ends with its process at the latest.
            lookups.retain(|_, lookup| {
                matches!(lookup.state, State::Running(_))
                    || now.saturating_duration_since(lookup.began) < 2 * SPARES_FOR
            });
            let new = || Lookup {
                start: holder.start,
                began: now,
                state: State::Waiting,
                answer: None,
                waits_since: None,
                failed: 0,
                trouble: None,
            };
            let lookup = lookups.entry(holder.pid).or_insert_with(new);
            if lookup.start != holder.start {
                *lookup = new();
            }
            change(lookup)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Uid, observe::procfs::blocking_pool::Lock};

    const HOLDER: Holder = Holder { pid: Pid(7), parent: Pid(1), start: StartTime(9) };
    const PARTS: Parts = Parts { anon: Bytes(10), file: Bytes(0), shmem: Bytes(95), swap: Bytes(0) };

    fn question() -> Question<'static> {
        let owner = JobOwner { pid: HOLDER.pid, uid: Uid(1000), onlooks: false, lock: Lock::Pages };
        Question { owner, holder: HOLDER, parts: &PARTS, least: Bytes(100), error: None }
    }

    fn failed() -> Result<Found, Failure> {
        Err(Failure::Machine("ENOMEM".to_owned()))
    }

    fn step(lookups: &Lookups, now: Instant) -> Step {
        lookups.step(&question(), now, |_| true)
    }

    #[test]
    fn an_answer_that_spares_a_process_holds_as_long_as_its_elder_lives() {
        let (lookups, now) = (Lookups::default(), Instant::now());
        let elder = ProcessId { pid: Pid(3), start: StartTime(4) };
        let memory = SharedMemory { kept: Bytes(95), ..SharedMemory::default() };
        lookups.begin(HOLDER, Heartbeat::new(now), now);
        lookups.end(
            HOLDER,
            Bytes(105),
            Ok(Found { memory: memory.clone(), elders: vec![elder], ..Found::default() }),
            now,
        );
        let later = now + Duration::from_secs(59);
        assert_eq!(step(&lookups, later), Step::Take(Fact::Known(memory), None));
        assert_eq!(lookups.step(&question(), now, |other| other != elder), Step::Start);
        assert_eq!(step(&lookups, now + SPARES_FOR), Step::Start);
    }

    #[test]
    fn an_answer_that_spares_a_process_is_renewed_for_a_while_unless_it_has_grown() {
        let (lookups, begun) = (Lookups::default(), Instant::now());
        let memory = SharedMemory { kept: Bytes(95), ..SharedMemory::default() };
        assert!(lookups.aged(&question(), begun).is_none());
        lookups.begin(HOLDER, Heartbeat::new(begun), begun);
        lookups.end(HOLDER, Bytes(105), Ok(Found { memory, ..Found::default() }), begun);
        let mut now = begun;
        let mut renewed = 0;
        while let Some(answer) = lookups.aged(&question(), now) {
            // Neither a lookup that runs, nor one that waits for its turn, loses it.
            lookups.begin(HOLDER, Heartbeat::new(now), now);
            lookups.wait(HOLDER, now, "full");
            lookups.renew(HOLDER, answer, now);
            assert!(matches!(step(&lookups, now), Step::Take(Fact::Known(_), None)));
            now += SPARES_FOR;
            assert_eq!(step(&lookups, now), Step::Start);
            renewed += 1;
        }
        assert_eq!((renewed, now - begun), (10, WALK_HOLDS_FOR));
        lookups.end(HOLDER, Bytes(105), Ok(Found::default()), now);
        // 90 are missing, and it may grow by half of that, from 105 to 150.
        let aged = |shmem| {
            let parts = Parts { shmem: Bytes(shmem), ..PARTS };
            lookups.aged(&Question { parts: &parts, ..question() }, now).is_some()
        };
        assert!(aged(140) && !aged(141));
        let other = Question { holder: Holder { start: StartTime(10), ..HOLDER }, ..question() };
        assert!(lookups.aged(&other, now).is_none(), "another process with this pid");
    }

    #[test]
    fn what_outlives_a_process_stays_known_while_another_lookup_runs() {
        let (lookups, now) = (Lookups::default(), Instant::now());
        let process = ProcessId { pid: HOLDER.pid, start: HOLDER.start };
        lookups.begin(HOLDER, Heartbeat::new(now), now);
        assert_eq!(lookups.stays(process), None);
        lookups.end(HOLDER, Bytes(105), Ok(Found::default()), now);
        for _ in 0..2 {
            assert_eq!(lookups.stays(process), Some(vec![]));
            lookups.begin(HOLDER, Heartbeat::new(now), now);
        }
        lookups.end(HOLDER, Bytes(105), failed(), now);
        assert_eq!(lookups.stays(process), Some(vec![]));
        lookups.end(HOLDER, Bytes(105), Err(Failure::Withheld), now);
        assert_eq!(lookups.stays(process), None);
    }

    #[test]
    fn a_failure_is_trouble_and_tried_again_ever_more_rarely() {
        let lookups = Lookups::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(step(&lookups, now), Step::Start);
            lookups.begin(HOLDER, Heartbeat::new(now), now);
            lookups.end(HOLDER, Bytes(105), failed(), now);
            let failed_at = now;
            while step(&lookups, now) != Step::Start {
                let trouble = Some("ENOMEM".to_owned());
                assert_eq!(step(&lookups, now), Step::Take(Fact::Unreadable, trouble));
                now += Duration::from_millis(50);
            }
            pauses.push((now - failed_at).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
        lookups.begin(HOLDER, Heartbeat::new(now), now);
        let found = SharedMemory { returned: Bytes(95), ..SharedMemory::default() };
        lookups.end(HOLDER, Bytes(105), Ok(Found { memory: found.clone(), ..Found::default() }), now);
        assert_eq!(step(&lookups, now), Step::Take(Fact::Known(found), None));
        // It leads to a termination, so it does not hold for long.
        assert_eq!(step(&lookups, now + HOLDS_FOR_TERMINATION), Step::Start);
    }

    #[test]
    fn one_that_waits_its_turn_is_trouble_only_after_a_while() {
        let lookups = Lookups::default();
        let now = Instant::now();
        for (waited, trouble) in [(0, None), (4, None), (5, Some("full".to_owned()))] {
            let now = now + Duration::from_secs(waited);
            lookups.begin(HOLDER, Heartbeat::new(now), now);
            assert_eq!(lookups.wait(HOLDER, now, "full"), trouble);
            assert_eq!(step(&lookups, now), Step::Start);
        }
    }

    #[test]
    fn one_that_makes_progress_takes_as_long_as_it_needs() {
        let lookups = Lookups::default();
        let begun = Instant::now().checked_sub(Duration::from_secs(100)).unwrap();
        let beat = Heartbeat::new(begun);
        lookups.begin(HOLDER, beat.clone(), begun);
        assert_eq!(step(&lookups, Instant::now()), Step::Take(Fact::Withheld, None));
        beat.beat();
        assert_eq!(step(&lookups, Instant::now()), Step::Take(Fact::Unreadable, None));
        // Another process with this pid.
        let other = Question { holder: Holder { start: StartTime(10), ..HOLDER }, ..question() };
        assert_eq!(lookups.step(&other, Instant::now(), |_| true), Step::Start);
    }
}
