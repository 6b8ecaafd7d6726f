//! The state of a machine that may become short of memory: its memory while it was well, the reports, and the process that
//! ends for it. No system calls; the time is an argument.

use std::time::{Duration, Instant};

use super::swapping::Swapping;
use crate::model::{Bytes, MachineMemory, MemoryWriter, Pid, Pressure, Process, ProcessId, SystemMemory};
use crate::policy::machine::{Baseline, Candidates, Lost, Marks};

/// Time in which a speed at which memory went counts for half, as long as no higher one is measured.
const SPEED_HALVES: Duration = Duration::from_secs(5);

/// Pause between two looks while memmon waits for the memory of a victim, which its end shortens.
const WHILE_A_VICTIM_ENDS: Duration = Duration::from_millis(100);

/// Time for which memmon waits for the memory of a killed process, and for a look at one in doubt or about to exit.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The same while memory comes back: the kernel may take some seconds to free the pages of a large process.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// Memory is coming back if so much more is available: a thousandth of all memory.
const COMES_BACK: u64 = 1000;

/// Shortest pause between two looks because of crossings.
const BETWEEN_CROSSINGS: Duration = Duration::from_millis(100);

/// Time for which a process is not chosen again that could not be signalled.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// Pause after no process was found that could end.
const WITHOUT_A_CULPRIT: Duration = Duration::from_secs(1);

/// Pause between the first two looks at a process that writes files in memory: they show whether it writes on.
const BETWEEN_WRITES: Duration = Duration::from_millis(20);

/// Pause between two searches for such processes if memmon only names them.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(10);

/// Time of which the kernel's figure of pressure is the average. It is the time constant of a decay: afterwards more than a
/// third of what was before is left in it.
const OF_PRESSURE: Duration = Duration::from_secs(10);

/// The stages of a shortage, as they were reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Nothing was reported.
    #[default]
    Calm,
    /// The warning.
    Warned,
    /// memmon acts.
    Acts,
    /// No process is ended.
    Helpless,
}

/// A process that ends for the machine, and the others and the loss as they were when it was chosen.
#[derive(Debug)]
struct Victim {
    id: ProcessId,
    candidates: Candidates,
    lost: Lost,
}

/// The state of the machine's memory.
#[derive(Debug, Default)]
pub(crate) struct MachineState {
    pub(crate) baseline: Option<Baseline>,
    /// The growth since the baseline at some times.
    pub(crate) marks: Marks,
    /// Several, if one that was chosen is still a victim, and others are no longer to wait for it.
    victims: Vec<Victim>,
    /// The end of the last victim.
    ended: Option<Instant>,
    /// The pressure at the first look after that.
    at_end: Option<(Instant, Pressure)>,
    /// The most memory that was available since a victim was killed, and since when: its memory may still come back.
    coming_back: Option<(Instant, Bytes)>,
    /// A victim that is being confirmed before a signal, and since when.
    confirming: Option<(ProcessId, Instant)>,
    /// Processes that were chosen, and could not be signalled then. Those of which the time is over are dropped.
    left_alone: Vec<(ProcessId, Instant)>,
    /// Whether the kernel wakes memmon when processes wait for memory.
    pub(crate) is_woken_by_pressure: bool,
    /// Whether the limit of a cgroup binds, whose pressure does not wake memmon.
    pub(crate) is_within_cgroup: bool,
    /// The processes that had written to a file in memory at the last look for them.
    writers: Vec<MemoryWriter>,
    /// Whether the pause before this look was that between two writes: not two of them follow each other.
    is_hurried: bool,
    /// Those of them that were named in this shortage.
    named: Vec<Pid>,
    /// The time of the last search for them.
    searched: Option<Instant>,
    /// The memory that goes to the swap and comes back.
    pub(crate) swapping: Swapping,
    /// Available memory at the last look above the level to act.
    last: Option<(Instant, Bytes)>,
    /// The highest speed of late at which memory went, and when.
    fastest: Option<(Instant, f64)>,
    /// The last look, and the time of the next one.
    looked: Option<Instant>,
    next: Option<Instant>,
    stage: Stage,
    /// The time at which the shortage began.
    since: Option<Instant>,
}

impl MachineState {
    /// The time of the next look; `None` while memmon does not look.
    pub(crate) const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Notes that memmon does not look any more: there is no `[machine]`.
    pub(crate) fn stop(&mut self) {
        *self = Self { is_woken_by_pressure: self.is_woken_by_pressure, ..Self::default() };
    }

    pub(crate) fn look_again_after(&mut self, pause: Duration, now: Instant) {
        (self.looked, self.next) = (Some(now), Some(now + pause));
    }

    /// Notes that a process crossed a level: memory may go faster than at the last look.
    pub(crate) fn hasten(&mut self, now: Instant) {
        let soon = self.looked.map_or(now, |at| now.max(at + BETWEEN_CROSSINGS));
        self.next = self.next.map(|next| next.min(soon));
    }

    pub(crate) fn wait_for_victim(&mut self, now: Instant) {
        self.look_again_after(WHILE_A_VICTIM_ENDS, now);
    }

    pub(crate) fn wait_for_culprit(&mut self, now: Instant) {
        self.look_again_after(WITHOUT_A_CULPRIT, now);
    }

    /// Those of `writers` that have written on since the last look. If one of them is new, the next look comes soon.
    pub(crate) fn writing(&mut self, writers: &[MemoryWriter], now: Instant) -> Vec<MemoryWriter> {
        let before = std::mem::replace(&mut self.writers, writers.to_vec());
        let known = |writer: &MemoryWriter| before.iter().find(|before| before.pid == writer.pid);
        self.is_hurried = !self.is_hurried && writers.iter().any(|writer| known(writer).is_none());
        if self.is_hurried {
            self.look_again_after(BETWEEN_WRITES, now);
        }
        let wrote_on = |writer: &&MemoryWriter| known(writer).is_some_and(|before| before.used < writer.used);
        writers.iter().filter(wrote_on).cloned().collect()
    }

    /// Notes the processes that write files in memory before one of them could be stopped.
    pub(crate) fn note_writers(&mut self, writers: Vec<MemoryWriter>) {
        self.writers = writers;
    }

    /// Whether to search for processes that write files in memory: if it is `urgent`, and else now and then.
    pub(crate) fn searches_writers(&mut self, urgent: bool, now: Instant) -> bool {
        let is_due = self.searched.is_none_or(|last| now.saturating_duration_since(last) >= BETWEEN_SEARCHES);
        if urgent || is_due {
            self.searched = Some(now);
        }
        urgent || is_due
    }

    /// Whether one of `writers` was not named before in this shortage. Now it is.
    pub(crate) fn names_writers(&mut self, writers: &[MemoryWriter]) -> bool {
        let named = std::mem::replace(&mut self.named, writers.iter().map(|writer| writer.pid).collect());
        self.named.iter().any(|pid| !named.contains(pid))
    }

    /// The speed at which memory goes, in bytes per second: that since the last look or, if it was higher before, that one, halved
    /// every some seconds. A victim's end gives memory back, while those that grow beside it go on.
    pub(crate) fn fall(&mut self, available: Bytes, now: Instant) -> f64 {
        let since = |at| now.saturating_duration_since(at).as_secs_f64();
        let measured = |(at, before): (Instant, Bytes)| match since(at) {
            0.0 => 0.0,
            seconds => before.saturating_sub(available).0 as f64 / seconds,
        };
        let lately =
            |(at, speed): (Instant, f64)| speed * 0.5_f64.powf(since(at) / SPEED_HALVES.as_secs_f64());
        let (speed, lately) = (self.last.map_or(0.0, measured), self.fastest.map_or(0.0, lately));
        self.last = Some((now, available));
        if speed >= lately {
            self.fastest = Some((now, speed));
        }
        speed.max(lately)
    }

    /// Whether `stage` is to be reported now: not twice in one shortage, and no lower one after a higher one.
    pub(crate) fn reaches(&mut self, stage: Stage, now: Instant) -> bool {
        self.since.get_or_insert(now);
        let is_news = stage > self.stage;
        self.stage = self.stage.max(stage);
        is_news
    }

    /// Notes that the machine is well. Returns how long it was not, if that was reported.
    pub(crate) fn recovered(&mut self, now: Instant) -> Option<Duration> {
        let since = self.since.take();
        let was = std::mem::take(&mut self.stage);
        (self.named, self.searched) = (Vec::new(), None);
        since.filter(|_| was > Stage::Calm).map(|since| now.saturating_duration_since(since))
    }

    /// Notes which process ends, the candidates among which it was chosen, and what the machine had lost then.
    pub(crate) fn chose(&mut self, id: ProcessId, candidates: Candidates, lost: Lost) {
        self.victims.retain(|victim| victim.id != id);
        self.victims.push(Victim { id, candidates, lost });
    }

    pub(crate) fn is_victim(&self, process: ProcessId) -> bool {
        self.victims.iter().any(|victim| victim.id == process)
    }

    /// Forgets processes that are no victims any more.
    pub(crate) fn keep_victims(&mut self, is_victim: impl Fn(ProcessId) -> bool) {
        self.victims.retain(|victim| is_victim(victim.id));
    }

    /// The candidates among which the victim was chosen, with the victim as it is `found` now, and the loss of that time: beside
    /// a later one the growth of all the others would be too small.
    pub(crate) fn chosen_with(&self, found: &Process) -> (Candidates, Lost) {
        let victim = self.victims.iter().find(|victim| victim.id == found.id);
        let Some(Victim { candidates, lost, .. }) = victim else { return Default::default() };
        let mut candidates = candidates.clone();
        for candidate in &mut candidates.grown {
            if candidate.process.id == found.id {
                candidate.process = found.clone();
            }
        }
        (candidates, *lost)
    }

    /// Notes that the termination of `process` is over. If it has ended, its memory is back: memmon looks again at once.
    /// Otherwise another process is chosen for some time.
    pub(crate) fn is_over(&mut self, process: ProcessId, has_ended: bool, now: Instant) {
        if !self.is_victim(process) {
            return;
        }
        self.victims.retain(|victim| victim.id != process);
        if has_ended {
            (self.ended, self.at_end) = (Some(now), None);
            self.next = self.next.map(|_| now);
        } else {
            self.left_alone.retain(|(_, until)| now < *until);
            self.left_alone.push((process, now + LEFT_ALONE));
        }
    }

    /// The figures of `machine`, with what is known about its swap, and without its pressure soon after the end of a victim, or
    /// as long as most of that is from before: it is an average.
    pub(crate) fn judged(&mut self, machine: MachineMemory, now: Instant) -> MachineMemory {
        let pressure = machine.pressure.and_then(|pressure| self.since_end(pressure, now));
        // The pressure of a cgroup has nothing to do with the swap of the machine.
        let swaps_calmly = self.swapping.is_calm(now) && !self.is_within_cgroup;
        let pressure = pressure.map(|pressure| Pressure { swaps_calmly, ..pressure });
        MachineMemory { pressure, ..machine }
    }

    /// The `pressure` since the last victim has ended; `None` if it has just ended.
    fn since_end(&mut self, pressure: Pressure, now: Instant) -> Option<Pressure> {
        let Some(ended) = self.ended else { return Some(pressure) };
        let (at, before) = *self.at_end.get_or_insert((now, pressure));
        if now.saturating_duration_since(ended) < OF_PRESSURE {
            return None;
        }
        let left = (-now.saturating_duration_since(at).as_secs_f64() / OF_PRESSURE.as_secs_f64()).exp();
        let newer = |percent: f64, before: f64| if before * left * 2.0 > percent { 0.0 } else { percent };
        let (some, full) = (newer(pressure.some, before.some), newer(pressure.full, before.full));
        Some(Pressure { some, full, ..pressure })
    }

    /// For how long one of these victims has been confirmed; `None` if there are none.
    pub(crate) fn confirming_for(&mut self, victims: &[ProcessId], now: Instant) -> Option<Duration> {
        let as_before = self.confirming.filter(|(victim, _)| victims.contains(victim));
        self.confirming = as_before.or_else(|| Some((*victims.first()?, now)));
        self.confirming.map(|(_, since)| now.saturating_duration_since(since))
    }

    /// Whether to wait for the memory of a victim that was killed at `killed`, with so much `memory` available now.
    pub(crate) fn awaits_killed(&mut self, killed: Instant, memory: &SystemMemory, now: Instant) -> bool {
        let step = Bytes(memory.total.0 / COMES_BACK);
        let before = self.coming_back.filter(|(since, _)| *since >= killed);
        let (since, most) = before.unwrap_or((killed, memory.available));
        let is_more = memory.available >= most + step;
        let (since, most) = if is_more { (now, memory.available) } else { (since, most) };
        self.coming_back = Some((since, most));
        let after = |at| now.saturating_duration_since(at);
        after(killed) < PATIENCE || after(since) < PATIENCE && after(killed) < LONG_PATIENCE
    }

    /// Whether any process is not to be chosen now.
    pub(crate) fn leaves_any_alone(&self, now: Instant) -> bool {
        self.left_alone.iter().any(|(_, until)| now < *until)
    }

    /// Whether `process` is not to be chosen now.
    pub(crate) fn leaves_alone(&self, process: ProcessId, now: Instant) -> bool {
        self.left_alone.iter().any(|(left, until)| *left == process && now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Elsewhere, Paging};
    use crate::policy::{fixtures::hog, machine::Candidate};

    #[test]
    fn each_stage_of_a_shortage_is_reported_once() {
        let (mut state, start) = (MachineState::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(state.recovered(start), None);
        assert!(state.reaches(Stage::Warned, at(1)) && !state.reaches(Stage::Warned, at(2)));
        assert!(state.reaches(Stage::Acts, at(3)));
        assert!(!state.reaches(Stage::Warned, at(4)) && !state.reaches(Stage::Acts, at(5)));
        assert_eq!(state.recovered(at(9)), Some(Duration::from_secs(8)));
        assert!(state.reaches(Stage::Warned, at(10)));
    }

    #[test]
    fn the_speed_is_that_since_the_last_look_or_a_higher_one_of_late() {
        let (mut state, start) = (MachineState::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs_f64(seconds);
        assert_eq!(state.fall(Bytes(1000), start), 0.0);
        assert_eq!(state.fall(Bytes(960), at(0.5)), 80.0);
        assert_eq!(state.fall(Bytes(900), at(1.0)), 120.0);
        // A victim's memory is back, and what took it may go on.
        assert_eq!(state.fall(Bytes(990), at(1.0 + 5.0)), 60.0);
        assert_eq!(state.fall(Bytes(0), at(1.0 + 5.0)), 60.0, "no time has passed");
        assert_eq!(state.fall(Bytes(0), at(1.0 + 10.0)), 30.0);
        assert!(state.fall(Bytes(0), at(1.0 + 60.0)) < 0.1);
    }

    #[test]
    fn the_end_of_a_victim_brings_the_next_look() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let victim = hog().id;
        let (growth, none) = (Bytes(7), Bytes::ZERO);
        let grown = vec![Candidate {
            process: hog(),
            growth,
            shared_growth: none,
            early: none,
            shared_early: none,
            before: none,
        }];
        let lost = Lost::lately(Bytes(8));
        state.chose(victim, Candidates { grown, ..Candidates::default() }, lost);
        state.wait_for_victim(now);
        state.is_over(ProcessId { pid: Pid(7), ..victim }, true, now);
        assert!(state.is_victim(victim) && state.next() > Some(now));
        let found = Process { rss: Bytes(1), ..hog() };
        let (candidates, then) = state.chosen_with(&found);
        assert_eq!((&candidates.grown[0].process, then), (&found, lost));
        let earlier = ProcessId { pid: Pid(4243), ..victim };
        state.chose(earlier, Candidates::default(), Lost::default());
        assert!(state.is_victim(victim) && state.is_victim(earlier));
        state.keep_victims(|one| one != earlier);
        assert!(state.is_victim(victim) && !state.is_victim(earlier));
        state.is_over(victim, true, now);
        assert!(!state.is_victim(victim) && state.next() == Some(now) && !state.leaves_alone(victim, now));
    }

    fn under_pressure() -> MachineMemory {
        MachineMemory {
            memory: SystemMemory { total: Bytes(100), available: Bytes(9) },
            swap_total: Bytes(100),
            swap_free: Bytes(90),
            elsewhere: Elsewhere::default(),
            pressure: Some(Pressure { full: 30.0, ..Pressure::default() }),
        }
    }

    #[test]
    fn the_pressure_of_the_time_before_an_end_does_not_count() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let machine = under_pressure();
        assert_eq!(state.judged(machine, now), machine);
        state.chose(hog().id, Candidates::default(), Lost::default());
        state.is_over(hog().id, true, now);
        let mut after = |seconds| state.judged(machine, now + Duration::from_secs(seconds));
        // The end brings a look at once.
        assert_eq!(after(0).pressure, None);
        assert_eq!(after(9), MachineMemory { pressure: None, ..machine });
        assert_eq!(after(10), machine);
    }

    #[test]
    fn the_swap_of_the_machine_explains_its_pressure_and_not_that_of_a_cgroup() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let machine = under_pressure();
        let is_calm = |state: &mut MachineState| state.judged(machine, now).pressure.unwrap().swaps_calmly;
        assert!(!is_calm(&mut state));
        state.swapping.note(Some(Paging::default()), now);
        assert!(is_calm(&mut state));
        state.is_within_cgroup = true;
        assert!(!is_calm(&mut state));
    }

    #[test]
    fn one_that_could_not_be_signalled_is_left_alone_for_a_while() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let victim = hog().id;
        state.chose(victim, Candidates::default(), Lost::default());
        state.wait_for_victim(now);
        let next = state.next();
        state.is_over(victim, false, now);
        assert!(state.leaves_alone(victim, now) && !state.leaves_alone(victim, now + LEFT_ALONE));
        assert!(state.leaves_any_alone(now) && !state.leaves_any_alone(now + LEFT_ALONE));
        assert_eq!(state.next(), next, "no look follows at once: it could choose nobody else, for ever");
    }

    #[test]
    fn the_memory_of_a_killed_process_is_waited_for_as_long_as_it_comes_back() {
        let (mut state, killed) = (MachineState::default(), Instant::now());
        let mut waits = |seconds: f64, available| {
            let memory = SystemMemory { total: Bytes(10_000), available: Bytes(available) };
            state.awaits_killed(killed, &memory, killed + Duration::from_secs_f64(seconds))
        };
        assert!(waits(0.1, 100) && waits(1.9, 109) && !waits(2.0, 109), "nothing has come back");
        assert!(waits(2.1, 119) && waits(4.0, 119) && !waits(4.1, 128));
        let goes_on = (5..40_u32).map(|second| waits(f64::from(second), 100 * (10 + u64::from(second))));
        assert_eq!(goes_on.filter(|waits| *waits).count(), 25, "at most for half a minute");
        // It was killed long before the machine became short of memory.
        let memory = SystemMemory { total: Bytes(10_000), available: Bytes(100) };
        assert!(!MachineState::default().awaits_killed(killed, &memory, killed + Duration::from_secs(10)));
    }

    #[test]
    fn two_that_cannot_be_signalled_do_not_take_turns() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let (one, other) = (hog().id, ProcessId { pid: Pid(4243), ..hog().id });
        let after = |millis| now + Duration::from_millis(millis);
        for (victim, at) in [(one, now), (other, after(100))] {
            state.chose(victim, Candidates::default(), Lost::default());
            state.is_over(victim, false, at);
        }
        assert!(state.leaves_alone(one, after(200)) && state.leaves_alone(other, after(200)));
        assert!(!state.leaves_alone(one, after(1000)) && state.leaves_alone(other, after(1000)));
    }

    #[test]
    fn pressure_of_before_an_end_does_not_count_while_its_average_decays() {
        // The kernel's average has a time constant of ten seconds: after them, more than a third of it is left.
        let (mut state, now) = (MachineState::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let machine = |full| MachineMemory {
            pressure: Some(Pressure { some: 95.0, full, ..Pressure::default() }),
            ..under_pressure()
        };
        state.chose(hog().id, Candidates::default(), Lost::default());
        state.is_over(hog().id, true, now);
        state.judged(machine(90.0), now);
        let mut full = |full, seconds| state.judged(machine(full), at(seconds)).pressure.unwrap().full;
        assert_eq!((full(33.1, 10), full(20.1, 15)), (0.0, 0.0), "no process waits any more");
        assert_eq!(full(90.0, 10), 90.0, "they wait as before");
        assert_eq!(full(30.0, 25), 30.0, "they wait again");
    }

    #[test]
    fn crossings_bring_a_look_but_not_many() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        state.hasten(now);
        assert_eq!(state.next(), None, "there is no [machine]");
        state.look_again_after(Duration::from_secs(30), now);
        state.fall(Bytes(1), now);
        state.hasten(at(5));
        assert_eq!(state.next(), Some(at(100)));
        state.look_again_after(Duration::from_secs(30), at(100));
        state.hasten(at(5000));
        assert_eq!(state.next(), Some(at(5000)));
        // Below the level to act, where a look takes longest and the speed is not measured.
        state.wait_for_culprit(at(6000));
        state.hasten(at(6005));
        assert_eq!(state.next(), Some(at(6100)));
    }

    #[test]
    fn victims_are_confirmed_since_the_first_look_that_found_them_so() {
        let (mut state, now) = (MachineState::default(), Instant::now());
        let (one, other) = (hog().id, ProcessId { pid: Pid(4243), ..hog().id });
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut passed =
            |victims: &[ProcessId], seconds| Some(state.confirming_for(victims, at(seconds))?.as_secs());
        assert_eq!([passed(&[one], 1), passed(&[one, other], 3)], [Some(0), Some(2)]);
        assert_eq!([passed(&[other], 9), passed(&[other], 10)], [Some(0), Some(1)]);
        assert_eq!([passed(&[], 11), passed(&[other], 12)], [None, Some(0)]);
    }
}
