//! The processes that are looked at again soon, because what stood in the way of a verdict may be over by then. No system
//! calls; the time is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::daemon::engine::state::doubt::Doubts;
use crate::daemon::engine::state::lasting::Lasting;
use crate::daemon::engine::state::outlived::Reseeds;
use crate::model::{Crossed, Pid, ProcessId, StartTime};

/// Time until the next look, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Time until the next look at a process that waits for an answer, at first and at most, if none comes. By then it may get its
/// turn, if too many others waited: the pause grows by a quarter, so that it waits for a quarter longer than it must.
const FIRST_ANSWER_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_ANSWER_PAUSE: Duration = Duration::from_secs(1);

/// Time that a process which shares memory with an elder is left alone, at most, whatever the looks at such processes
/// cost.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Processes that share memory with an elder wait this many times as long as all looks at them took: for a twentieth of one
/// CPU.
const REST: u32 = 20;

/// The processes that could not be judged.
#[derive(Debug, Default)]
pub(crate) struct RecheckQueue(BTreeMap<Pid, Recheck>);

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recheck {
    /// `None` if a pass over /proc found it: any process with the pid counts.
    pub(crate) start: Option<StartTime>,
    /// The crossing at which it was looked at first, if it was one.
    pub(crate) crossed: Option<Crossed>,
    /// The process that is charged for what it inherited, where it is looked at again for that.
    elder: Option<Pid>,
    due: Instant,
    pause: Duration,
    /// The same while it waits for an answer.
    answer_pause: Duration,
    awaits_answer: bool,
    /// Whether it was in doubt at the last look.
    lasts: bool,
}

impl RecheckQueue {
    /// Plans another look at a process, less often while each look ends here.
    pub(crate) fn note(
        &mut self,
        pid: Pid,
        start: Option<StartTime>,
        crossed: Option<Crossed>,
        now: Instant,
    ) {
        self.insert(pid, start, crossed, None, now);
    }

    /// Has a process looked at again at `due`.
    pub(crate) fn note_at(&mut self, process: ProcessId, crossed: Option<Crossed>, due: Instant) {
        self.insert(process.pid, Some(process.start), crossed, None, due);
        if let Some(one) = self.0.get_mut(&process.pid) {
            one.due = due;
        }
    }

    /// The same for a process that is over its limit with memory that `elder` is charged for.
    pub(crate) fn note_inherited(&mut self, process: ProcessId, elder: Pid, now: Instant) {
        self.insert(process.pid, Some(process.start), None, Some(elder), now);
    }

    fn insert(
        &mut self,
        pid: Pid,
        start: Option<StartTime>,
        crossed: Option<Crossed>,
        elder: Option<Pid>,
        now: Instant,
    ) {
        let new = Recheck {
            start,
            crossed,
            elder,
            due: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
            answer_pause: FIRST_ANSWER_PAUSE,
            awaits_answer: false,
            lasts: true,
        };
        let known = self.0.entry(pid).or_insert(new);
        // The number is another process's now.
        if known.start.is_some() && start.is_some() && known.start != start {
            *known = new;
        }
        (known.elder, known.lasts) = (elder, true);
    }

    /// Has a process looked at once it has its answer; if none comes, less and less often.
    pub(crate) fn await_answer(&mut self, pid: Pid, now: Instant) {
        if let Some(one) = self.0.get_mut(&pid) {
            one.due = one.due.min(now + one.answer_pause);
            one.awaits_answer = true;
        }
    }

    /// There is an answer about this process: if it waits for one, it is looked at now.
    pub(crate) fn answered(&mut self, process: ProcessId, now: Instant) {
        if let Some(one) = self.0.get_mut(&process.pid)
            && one.start == Some(process.start)
            && one.awaits_answer
        {
            one.due = now;
        }
    }

    /// Whether this very process is looked at again because of what it inherited.
    pub(crate) fn awaits_elder(&self, process: ProcessId) -> bool {
        self.0.get(&process.pid).is_some_and(|one| one.start == Some(process.start) && one.elder.is_some())
    }

    /// Plans an early look at the processes that are spared because this process, which has ended, was charged for their
    /// memory.
    pub(crate) fn elder_ended(&mut self, elder: Pid, now: Instant) {
        for one in self.0.values_mut().filter(|one| one.elder == Some(elder)) {
            (one.due, one.pause) = (now, FIRST_PAUSE / 2);
        }
    }

    /// The look at one that was taken is over, and took so long: it is forgotten unless it was noted again.
    pub(crate) fn looked_at(&mut self, pid: Pid, took: Duration, now: Instant) {
        if self.0.get(&pid).is_some_and(|one| !one.lasts) {
            self.0.remove(&pid);
        }
        let like_it = self.0.values().filter(|one| one.elder.is_some()).count();
        if let Some(one) = self.0.get_mut(&pid).filter(|one| one.elder.is_some()) {
            let rest = took.saturating_mul(REST.saturating_mul(u32::try_from(like_it).unwrap_or(u32::MAX)));
            one.due = one.due.max(now + rest.min(LONGEST_REST));
        }
    }

    /// Number of processes about which nothing could be decided yet. One that shares memory with an elder is spared for that,
    /// which is a decision.
    pub(crate) fn undecided(&self) -> usize {
        self.0.values().filter(|one| one.elder.is_none()).count()
    }

    /// The time at which the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|one| one.due).min()
    }

    /// The one that has been due for longest, to be looked at now. If it stays, it is due again after twice as long.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Pid, Recheck)> {
        let due = self.0.iter_mut().filter(|(_, one)| one.due <= now);
        let (pid, one) = due.min_by_key(|(_, one)| one.due)?;
        one.pause = LONGEST_PAUSE.min(one.pause * 2);
        one.answer_pause = LONGEST_ANSWER_PAUSE.min(one.answer_pause * 5 / 4);
        one.due = now + one.pause;
        (one.lasts, one.awaits_answer) = (false, false);
        Some((*pid, *one))
    }
}

/// The processes that are looked at again, and the reasons.
#[derive(Debug)]
pub(crate) struct Rechecks {
    pub(crate) queue: RecheckQueue,
    pub(crate) reseeds: Reseeds,
    pub(crate) doubts: Doubts,
    pub(crate) lasting: Lasting,
    /// Whether there is one scan only, and no look after it.
    pub(crate) once: bool,
}

impl Rechecks {
    pub(crate) fn new(once: bool) -> Self {
        Self {
            queue: RecheckQueue::default(),
            reseeds: Reseeds::default(),
            doubts: Doubts::default(),
            lasting: Lasting::default(),
            once,
        }
    }

    /// The time at which the next look, or seed of the map, is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        [self.queue.next(), self.reseeds.next()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_is_looked_at_soon_and_ever_more_rarely_while_it_lasts() {
        let mut queue = RecheckQueue::default();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let note = |queue: &mut RecheckQueue, now| queue.note(Pid(7), Some(StartTime(1)), None, now);
        let taken = |queue: &mut RecheckQueue, now| queue.take_due(now).map(|(pid, _)| pid);
        note(&mut queue, start);
        queue.note(Pid(8), None, None, at(10));
        assert_eq!(taken(&mut queue, at(99)), None);
        assert_eq!((taken(&mut queue, at(200)), taken(&mut queue, at(200))), (Some(Pid(7)), Some(Pid(8))));
        note(&mut queue, at(200));
        queue.looked_at(Pid(7), Duration::ZERO, start);
        queue.looked_at(Pid(8), Duration::ZERO, start);
        assert_eq!((queue.next(), taken(&mut queue, at(400))), (Some(at(400)), Some(Pid(7))));
        let mut now = at(400);
        for _ in 0..9 {
            note(&mut queue, now);
            queue.looked_at(Pid(7), Duration::ZERO, start);
            now = queue.next().unwrap();
            assert_eq!(taken(&mut queue, now), Some(Pid(7)));
        }
        assert_eq!(queue.next(), Some(now + LONGEST_PAUSE));
        // An answer does not keep for long.
        queue.await_answer(Pid(7), now);
        assert!(queue.next() <= Some(now + LONGEST_ANSWER_PAUSE));
        // Another process is another doubt.
        queue.note(Pid(7), Some(StartTime(2)), None, now);
        assert_eq!((queue.next(), taken(&mut queue, now)), (Some(now + FIRST_PAUSE), None));
        assert_eq!(taken(&mut queue, now + FIRST_PAUSE), Some(Pid(7)));
        queue.looked_at(Pid(7), Duration::ZERO, start);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_process_is_looked_at_as_soon_as_it_has_the_answer_that_it_waits_for() {
        let (mut queue, now) = (RecheckQueue::default(), Instant::now());
        let process = ProcessId { pid: Pid(7), start: StartTime(1) };
        queue.answered(process, now);
        assert_eq!(queue.next(), None, "it is not in question");
        queue.note(Pid(7), Some(StartTime(1)), None, now);
        queue.answered(process, now);
        assert_eq!(queue.next(), Some(now + FIRST_PAUSE), "it waits for something else");
        queue.await_answer(Pid(7), now);
        queue.answered(ProcessId { start: StartTime(2), ..process }, now);
        assert_eq!(queue.next(), Some(now + FIRST_ANSWER_PAUSE), "the answer is about another process");
        queue.answered(process, now);
        assert_eq!(queue.take_due(now).map(|(pid, _)| pid), Some(Pid(7)));
        queue.answered(process, now);
        assert_eq!(queue.next(), Some(now + 2 * FIRST_PAUSE), "it was looked at");
    }

    #[test]
    fn a_process_that_waits_for_its_turn_does_not_wait_much_longer_than_it_must() {
        let (mut queue, start) = (RecheckQueue::default(), Instant::now());
        let mut now = start;
        for due in [10_000, 22_500, 38_125, 57_656] {
            // A process that goes on growing is looked at more than once in this time, and has no other pause by that.
            for _ in 0..3 {
                queue.note(Pid(7), Some(StartTime(1)), None, now);
                queue.await_answer(Pid(7), now);
            }
            let next = queue.next().unwrap();
            assert_eq!((next - start).as_micros(), due);
            now = next;
            assert!(queue.take_due(now).is_some());
        }
    }
}
