//! Sums of memory: what is known about the processes that count, and since when which sum exceeds its limit. No system
//! calls; the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::daemon::engine::state::budget::SpareTime;
use crate::daemon::engine::state::observed::Observed;
use crate::model::{Bytes, GroupKey, Pid, Process, ProcessId, Reading, RuleName, SumFigures};
use crate::policy::machine;
use crate::report::SumThen;

/// Bounds of the time for which the facts hold by which a process counts. Within them it is the age of the process when they
/// were read, because a young process is about to call exec or change its user.
const FACTS_HOLD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(120));

/// Minimum time for which a close look shows which part of a process's memory is charged to another one. If looks are slow, it is
/// longer, so that looks at all processes of a sum take a hundredth of one CPU. Memory that the process adds counts at once.
const LOOK_HOLDS: Duration = Duration::from_secs(30);

/// Time between two looks at a growing process, for its growth rate.
const RATE_OVER: Duration = Duration::from_millis(200);

/// Pause between two looks at the sums: while all are below half of their limit, and while one is above that.
const PAUSE: Duration = Duration::from_secs(1);
const HALF_PAUSE: Duration = Duration::from_millis(250);

/// The longest time until a sum reaches its limit that is distinguished from never.
const FAR: Duration = Duration::from_secs(60);

/// The shortest pause, for a sum that grows towards its limit, or exceeds it.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// A pause is this many times as long as the CPU time of a look: looks take a hundredth of one CPU, or a tenth while a sum
/// is near its limit.
const REST: u32 = 100;
const SHORT_REST: u32 = 10;
/// The same factor until each process of a sum was looked at once, and while looks have spare time: a crowd of processes that
/// begins all at once is at its limit before ten times a look.
const SHORTEST_REST: u32 = 3;

/// Time after which a doubt about a sum is reported. Lookups of shared memory end before, on most machines.
const DOUBT_LASTS: Duration = Duration::from_secs(5);

/// Time between a termination and the next one for the same sum, unless the process ends before or the sum grows on.
const STEP: Duration = Duration::from_secs(1);

/// The change after which a process is looked at again, and how often it is doubled for growth at most: a terabyte.
pub(crate) const CHANGE: Bytes = Bytes(1 << 20);
const DOUBLINGS: u32 = 20;

/// A sum: the rule and the group.
pub(crate) type SumId = (RuleName, GroupKey);

/// The facts that are known about sums.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    known: HashMap<Pid, Known>,
    over: HashMap<SumId, Over>,
    /// Since when it is in doubt whether a sum exceeds its limit, or which process is to end; and whether that was reported.
    unsure: HashMap<SumId, (Instant, bool)>,
    /// The upper bound of each sum at the last look, and its growth in bytes per second.
    bounds: HashMap<SumId, (Instant, Bytes, f64)>,
    /// The victims because of a sum, with the sum as it was.
    struck: BTreeMap<ProcessId, SumFigures>,
    due: Option<Instant>,
    /// The sum that comes first at the next look, because there was no time left for it at the last one.
    turn: Option<SumId>,
    /// The number of looks in a row that had no time for all processes of a sum.
    unfinished: HashMap<SumId, u32>,
    /// Whether a sum was above half of its limit at the last look, and whether the kernel's figure of one was.
    is_half: bool,
    is_near: bool,
    /// The pause between two looks while nothing is above half of its limit.
    pause: Option<Duration>,
    /// The CPU time of the last look, and the time from which on looks take no more than their share of one CPU.
    took: Duration,
    rested: Option<Instant>,
    spare: SpareTime,
}

/// The facts that are known about a process.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) process: Process,
    /// `None`: it has changed its user or cgroup since.
    facts_until: Option<Instant>,
    reading: Reading,
    looked: Option<Look>,
    /// It could not be looked at for so long that all its memory counts.
    counts_whole: bool,
    /// An earlier reading, and the growth since the one before in bytes per second.
    growth: (Instant, Bytes, f64),
}

/// A close look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// The reading at that time.
    rss: Bytes,
    holds: Duration,
}

impl Known {
    pub(crate) fn new(process: Process, reading: Reading, age: Duration, now: Instant) -> Self {
        let (least, most) = FACTS_HOLD;
        // A young process has grown to all of its memory since it began.
        let rate = reading.rss.0 as f64 / age.as_secs_f64().max(0.001);
        Self {
            process,
            facts_until: Some(now + age.clamp(least, most)),
            reading,
            looked: None,
            counts_whole: false,
            growth: (now, reading.rss, rate),
        }
    }

    /// Notes a close look at it that took so long, as one of so many `members` of a sum.
    pub(crate) fn look(&mut self, process: Process, took: Duration, members: u32, now: Instant) {
        self.process = process;
        let holds = LOOK_HOLDS.max(took.saturating_mul(REST).saturating_mul(members));
        self.looked = Some(Look { at: now, rss: self.reading.rss, holds });
    }

    fn read(&mut self, reading: Reading, now: Instant) {
        self.reading = reading;
        let (at, rss, _) = self.growth;
        let passed = now.saturating_duration_since(at);
        if passed >= RATE_OVER {
            let grown = reading.rss.0 as f64 - rss.0 as f64;
            self.growth = (now, reading.rss, grown / passed.as_secs_f64());
        }
    }

    /// Notes that it has not been readable for so long that only its owner can be the reason.
    pub(crate) const fn count_whole(&mut self) {
        self.counts_whole = true;
    }

    /// Whether it is known what it counts for.
    pub(crate) fn counts(&self, now: Instant) -> bool {
        self.counts_whole || self.has_look(now)
    }

    /// The most that it can count for.
    pub(crate) fn bound(&self, now: Instant) -> Bytes {
        let Reading { rss, error, .. } = self.reading;
        match self.looked {
            Some(look) if self.has_look(now) => {
                let Process { error, .. } = self.process;
                self.process.charged_resident() + error + rss.saturating_sub(look.rss)
            }
            _ => rss + error,
        }
    }

    /// Whether a close look shows how much of its memory is its own.
    pub(crate) fn has_look(&self, now: Instant) -> bool {
        self.looked.is_some_and(|look| now.saturating_duration_since(look.at) < look.holds)
    }

    /// Whether it was looked at closely within the last `age`, and has grown by less than `growth` since. One that shrank is
    /// not: it would count with memory that it no longer has.
    pub(crate) fn is_fresh(&self, age: Duration, growth: Bytes, now: Instant) -> bool {
        self.looked.is_some_and(|look| {
            let (had, has) = (look.rss, self.reading.rss);
            let is_like_then = had.saturating_sub(has) < CHANGE && has.saturating_sub(had) < growth;
            now.saturating_duration_since(look.at) < age && is_like_then
        })
    }
}

/// The most that the time between two looks at a sum over its limit counts for: more than a pause between looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// A sum over its limit.
#[derive(Debug)]
struct Over {
    observed: Observed,
    reported: Option<SumThen>,
    /// The last termination, and the sum then.
    struck: Option<(Instant, Bytes)>,
}

/// The number of the processes to end that are terminated now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// No process: one that was terminated may soon be gone.
    Wait,
    /// The first.
    One,
    /// All of them.
    All,
}

impl Sums {
    /// Notes the readings of all processes. Returns those of which the facts are to be read.
    pub(crate) fn read(&mut self, readings: &[Reading], now: Instant) -> Vec<Reading> {
        let present: HashMap<Pid, &Reading> = readings.iter().map(|reading| (reading.pid, reading)).collect();
        self.known.retain(|pid, known| {
            let Some(reading) = present.get(pid) else { return false };
            known.read(**reading, now);
            reading.start.is_none_or(|start| start == known.process.id.start)
        });
        let has_facts = |reading: &&Reading| {
            self.known.get(&reading.pid).is_some_and(|known| known.facts_until > Some(now))
        };
        readings.iter().filter(|reading| !has_facts(reading)).copied().collect()
    }

    /// Has the facts about a process read again.
    pub(crate) fn doubt_facts(&mut self, pid: Pid) {
        if let Some(known) = self.known.get_mut(&pid) {
            known.facts_until = None;
        }
    }

    /// Notes the facts about a process. Its growth was measured before, if it is not new.
    pub(crate) fn learn(&mut self, mut known: Known) {
        let before = self.known.get(&known.process.id.pid);
        if let Some(before) = before.filter(|before| before.process.id == known.process.id) {
            known.growth = before.growth;
        }
        self.known.insert(known.process.id.pid, known);
    }

    pub(crate) fn get(&self, pid: Pid) -> Option<&Known> {
        self.known.get(&pid)
    }

    pub(crate) fn get_mut(&mut self, pid: Pid) -> Option<&mut Known> {
        self.known.get_mut(&pid)
    }

    pub(crate) fn forget(&mut self, pid: Pid) {
        self.known.remove(&pid);
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        self.known.values().map(|known| &known.process)
    }

    /// The most that all processes together can count for.
    pub(crate) fn bound(&self, now: Instant) -> Bytes {
        self.known.values().map(|known| known.bound(now)).sum()
    }

    /// The growth rate of a process, in bytes per second.
    pub(crate) fn rate(&self, process: ProcessId) -> f64 {
        let known = self.known.get(&process.pid).filter(|known| known.process.id == process);
        known.map_or(0.0, |known| known.growth.2)
    }

    /// Notes the upper bound of a sum. Returns the time until it reaches `limit` at this rate, or a minute if that is far.
    /// Growth that pauses counts for half as much at each look.
    pub(crate) fn note_bound(&mut self, sum: &SumId, bound: Bytes, limit: Bytes, now: Instant) -> Duration {
        let before = self.bounds.get(sum).copied();
        let rate = before.map_or(0.0, |(at, had, rate)| {
            let passed = now.saturating_duration_since(at).as_secs_f64();
            let grown = bound.saturating_sub(had).0 as f64;
            if passed > 0.0 { (grown / passed).max(rate / 2.0) } else { rate }
        });
        self.bounds.insert(sum.clone(), (now, bound, rate));
        let rate = rate.max(machine::unforeseen(limit, false));
        machine::pause(limit.saturating_sub(bound), rate, FAR / 2) * 2
    }

    /// Notes whether a sum is above half of its limit.
    pub(crate) const fn note_half(&mut self, is_half: bool) {
        self.is_half = is_half;
    }

    /// Notes the pause between two looks while no sum that needs them is above half of its limit.
    pub(crate) const fn note_pause(&mut self, pause: Option<Duration>) {
        self.pause = pause;
    }

    /// Notes whether the kernel's figure of a sum is above half of a limit.
    pub(crate) const fn note_near(&mut self, is_near: bool) {
        self.is_near = is_near;
    }

    pub(crate) const fn is_near(&self) -> bool {
        self.is_near
    }

    /// Whether a process may soon be part of a sum that is looked at closely.
    pub(crate) const fn is_half(&self) -> bool {
        self.is_half || self.is_near
    }

    /// Forgets sums that no process is in any more.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&SumId) -> bool) {
        self.over.retain(|sum, _| is_there(sum));
        self.unsure.retain(|sum, _| is_there(sum));
        self.bounds.retain(|sum, _| is_there(sum));
        self.unfinished.retain(|sum, _| is_there(sum));
    }

    /// Notes that there was no time left for `sum`. The first one since the last look comes first at the next.
    pub(crate) fn has_next_turn(&mut self, sum: &SumId) {
        self.turn.get_or_insert_with(|| sum.clone());
    }

    /// Notes whether the last look at `sum` had time for all of its processes.
    pub(crate) fn note_finished(&mut self, sum: &SumId, is_finished: bool) {
        if is_finished {
            self.unfinished.remove(sum);
        } else {
            *self.unfinished.entry(sum.clone()).or_default() += 1;
        }
    }

    /// The growth after which a process of `sum` is looked at again: twice as much after each look that had no time for all, so
    /// that no crowd keeps memmon from a verdict by changing faster than it is looked at. They count with the
    /// memory that they had before they grew, so nothing ends for memory that is not there.
    pub(crate) fn growth_that_counts(&self, sum: &SumId) -> Bytes {
        let unfinished = self.unfinished.get(sum).copied().unwrap_or_default();
        Bytes(CHANGE.0 << unfinished.min(DOUBLINGS))
    }

    /// The sum that comes first now.
    pub(crate) const fn take_turn(&mut self) -> Option<SumId> {
        self.turn.take()
    }

    /// Notes that a sum is within its limit.
    pub(crate) fn within(&mut self, sum: &SumId) {
        self.over.remove(sum);
        self.unsure.remove(sum);
    }

    /// Notes that a sum is in doubt. Returns true once, if that lasts.
    pub(crate) fn stays_unsure(&mut self, sum: &SumId, now: Instant) -> bool {
        let (since, reported) = self.unsure.entry(sum.clone()).or_insert((now, false));
        let is_news = !*reported && now.saturating_duration_since(*since) >= DOUBT_LASTS;
        *reported |= is_news;
        is_news
    }

    /// Notes that nothing about a sum is in doubt.
    pub(crate) fn is_sure(&mut self, sum: &SumId) {
        self.unsure.remove(sum);
    }

    /// Notes that a sum exceeds its limit. Returns for how long it was found so.
    pub(crate) fn over(&mut self, sum: &SumId, now: Instant) -> Duration {
        let begins = Over { observed: Observed::begin(now), reported: None, struck: None };
        self.over.entry(sum.clone()).or_insert(begins).observed.again(now, BETWEEN_LOOKS)
    }

    /// Whether to report that a sum is over its limit and `then` follows: once while that lasts.
    pub(crate) fn is_news(&mut self, sum: &SumId, then: SumThen) -> bool {
        self.over.get_mut(sum).is_some_and(|over| over.reported.replace(then) != Some(then))
    }

    /// The number of processes of a sum with `total` that end now, if `going` of them are being terminated already.
    pub(crate) fn pace(&self, sum: &SumId, total: Bytes, going: usize, now: Instant) -> Pace {
        match self.over.get(sum).and_then(|over| over.struck) {
            Some((_, before)) if total > before + Bytes(before.0 / 64) => Pace::All,
            Some((at, _)) if going > 0 && now.saturating_duration_since(at) < STEP => Pace::Wait,
            _ => Pace::One,
        }
    }

    /// Notes that a process is terminated because of a sum.
    pub(crate) fn strike(&mut self, process: ProcessId, sum: SumFigures, now: Instant) {
        if let Some(over) = self.over.get_mut(&(sum.rule, sum.group.clone())) {
            over.struck = Some((now, sum.total));
        }
        self.struck.insert(process, sum);
    }

    /// The sum because of which a process is terminated.
    pub(crate) fn struck(&self, process: ProcessId) -> Option<&SumFigures> {
        self.struck.get(&process)
    }

    /// The victims because of `sum`.
    pub(crate) fn victims_of(&self, sum: &SumId) -> impl Iterator<Item = ProcessId> {
        let of_it = |figures: &SumFigures| figures.rule == sum.0 && figures.group == sum.1;
        self.struck.iter().filter(move |(_, figures)| of_it(figures)).map(|(process, _)| *process)
    }

    /// Forgets processes that are no victims any more. The sums are looked at again at once if there were any.
    pub(crate) fn keep_struck(&mut self, is_victim: impl Fn(ProcessId) -> bool, now: Instant) {
        let before = self.struck.len();
        self.struck.retain(|process, _| is_victim(*process));
        if self.struck.len() < before {
            self.due = Some(now);
        }
    }

    /// The time of the next look at the sums.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Sets the time of the next look, after one that took `took` of CPU time: the time for which a busy machine kept memmon
    /// waiting is no reason to look later. `near`: how long until a sum may exceed its limit; zero while one is being looked
    /// at. Every scan looks at them as well.
    pub(crate) fn rest(&mut self, took: Duration, near: Option<Duration>, now: Instant) {
        let has_spare = self.spare.spend(took, SHORT_REST, now);
        let short_rest = if has_spare { SHORTEST_REST } else { SHORT_REST };
        // One look that takes long, as when processes are new, delays nothing.
        let took = took.min(std::mem::replace(&mut self.took, took));
        let pause = if self.is_half { HALF_PAUSE } else { self.pause.unwrap_or(PAUSE) };
        let calm = (took * REST).max(pause);
        let pause = near.map_or(calm, |near| {
            let rest = if near.is_zero() { SHORTEST_REST } else { short_rest };
            (took * rest).max(SHORT_PAUSE).max(near / 2).min(calm)
        });
        self.due = Some(now + pause);
        self.rested = Some(now + took * short_rest);
    }

    /// The kernel reports that a sum reached a level: looks at the sums now, or after a rest from the last look.
    pub(crate) fn hasten(&mut self, now: Instant) {
        let at = self.rested.map_or(now, |rested| rested.max(now));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Other settings are in force: all processes are looked at again. If the rules for sums are `the_same`, a sum stays over its
    /// limit since when it was, so that no reload prolongs the `for` of a rule.
    pub(crate) fn start_over(&mut self, the_same: bool) {
        let mut over = std::mem::take(&mut self.over);
        if !the_same {
            over.clear();
        }
        over.values_mut().for_each(|over| over.reported = None);
        self.clear();
        self.over = over;
    }

    /// There are no sums to look at.
    pub(crate) fn clear(&mut self) {
        let struck = std::mem::take(&mut self.struck);
        *self = Self { struck, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{StartTime, Uid};
    use crate::policy::fixtures::hog;

    const MIB: u64 = 1 << 20;

    fn reading(rss: u64) -> Reading {
        Reading {
            pid: Pid(7),
            start: Some(StartTime(3)),
            rss: Bytes(rss * MIB),
            error: Bytes(MIB),
            held: Bytes::ZERO,
            shmem: Bytes::ZERO,
        }
    }

    fn process() -> Process {
        Process { id: ProcessId { pid: Pid(7), start: StartTime(3) }, rss: Bytes(10 * MIB), ..hog() }
    }

    fn sum() -> SumId {
        (RuleName::new("sum").unwrap(), GroupKey::User { uid: Uid(1000) })
    }

    #[test]
    fn facts_hold_as_long_as_the_process_had_lived() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let asked =
            |sums: &mut Sums, after: u64| sums.read(&[reading(20)], begun + Duration::from_secs(after)).len();
        assert_eq!(asked(&mut sums, 0), 1, "it is new");
        sums.learn(Known::new(process(), reading(20), Duration::from_secs(2), begun));
        assert_eq!(asked(&mut sums, 1), 0);
        assert_eq!(asked(&mut sums, 2), 1, "it may have called exec, or changed its user");
        sums.learn(Known::new(process(), reading(20), Duration::from_secs(9999), begun));
        assert_eq!(asked(&mut sums, 119), 0);
        let other = Reading { start: Some(StartTime(4)), ..reading(20) };
        assert_eq!(
            sums.read(&[other], begun + Duration::from_secs(119)).len(),
            1,
            "another process with the pid"
        );
        assert_eq!(sums.processes().count(), 0);
    }

    #[test]
    fn growth_that_was_measured_outlives_the_facts() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        sums.learn(Known::new(process(), reading(20), Duration::from_secs(2), begun));
        assert_eq!(sums.rate(process().id), (10 * MIB) as f64, "all that it has since it began");
        assert_eq!(sums.read(&[reading(20)], after(5)).len(), 1);
        sums.learn(Known::new(process(), reading(20), Duration::from_secs(7), after(5)));
        assert_eq!(sums.rate(process().id), 0.0, "it has not grown for five seconds");
        assert_eq!(sums.read(&[reading(20)], after(6)).len(), 0);
        sums.doubt_facts(Pid(7));
        assert_eq!(sums.read(&[reading(20)], after(6)).len(), 1, "it has changed its user");
    }

    #[test]
    fn a_look_bounds_what_counts_until_it_is_too_old_and_growth_is_added_at_once() {
        let begun = Instant::now();
        let mut known = Known::new(process(), reading(20), Duration::from_secs(9), begun);
        assert_eq!(known.bound(begun), Bytes(21 * MIB));
        known.look(process(), Duration::ZERO, 1, begun);
        assert_eq!(known.bound(begun), Bytes(10 * MIB), "the other ten are another process's");
        known.read(reading(25), begun + Duration::from_secs(1));
        assert_eq!(known.bound(begun), Bytes(15 * MIB));
        let is_fresh = |known: &Known, growth| known.is_fresh(Duration::from_secs(9), growth, begun);
        assert!(!is_fresh(&known, CHANGE) && is_fresh(&known, Bytes(6 * MIB)), "it has grown by 5");
        known.read(reading(19), begun + Duration::from_secs(1));
        assert!(!is_fresh(&known, Bytes(6 * MIB)), "it has shrunk");
        known.read(reading(25), begun + Duration::from_secs(1));
        assert_eq!(known.bound(begun + LOOK_HOLDS), Bytes(26 * MIB));
        // So long that a look at each of a thousand takes a hundredth of one CPU.
        known.look(process(), Duration::from_millis(40), 1000, begun);
        assert_eq!(known.bound(begun + Duration::from_secs(3999)), Bytes(10 * MIB));
    }

    #[test]
    fn one_process_ends_at_a_time_unless_that_takes_long_or_the_sum_grows() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        assert_eq!(sums.over(&sum(), begun), Duration::ZERO);
        assert_eq!(sums.pace(&sum(), Bytes(100 * MIB), 0, begun), Pace::One);
        let (rule, group) = sum();
        let figures = SumFigures { rule, group, total: Bytes(100 * MIB), limit: Bytes(90 * MIB), members: 9 };
        sums.strike(process().id, figures, begun);
        assert_eq!(sums.pace(&sum(), Bytes(100 * MIB), 1, after(500)), Pace::Wait);
        assert_eq!(sums.pace(&sum(), Bytes(100 * MIB), 1, after(1000)), Pace::One);
        assert_eq!(sums.pace(&sum(), Bytes(95 * MIB), 0, after(500)), Pace::One, "it has ended");
        assert_eq!(sums.pace(&sum(), Bytes(110 * MIB), 1, after(500)), Pace::All);
        sums.keep_struck(|_| false, after(600));
        assert_eq!(sums.due(), Some(after(600)), "the sum is taken again at once");
    }

    #[test]
    fn a_sum_is_over_its_limit_for_as_long_as_it_was_looked_at() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let mut over = |second| sums.over(&sum(), begun + Duration::from_secs(second)).as_secs();
        assert_eq!([0, 2, 4, 100, 102].map(&mut over), [0, 2, 4, 9, 11], "memmon was stopped");
    }

    #[test]
    fn a_sum_is_reported_once_while_it_lasts_and_a_doubt_only_if_it_lasts() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        sums.over(&sum(), begun);
        assert!(sums.is_news(&sum(), SumThen::Warn));
        assert!(!sums.is_news(&sum(), SumThen::Warn));
        sums.within(&sum());
        sums.over(&sum(), begun);
        assert!(sums.is_news(&sum(), SumThen::Warn));
        let unsure: Vec<_> = [0, 4, 5, 6]
            .into_iter()
            .map(|s| sums.stays_unsure(&sum(), begun + Duration::from_secs(s)))
            .collect();
        assert_eq!(unsure, [false, false, true, false]);
    }

    #[test]
    fn looks_become_frequent_towards_the_limit_and_cost_a_bounded_share() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let mut pause = |took: u64, near: Option<u64>, is_half: bool| {
            sums.note_half(is_half);
            for took in [took, took] {
                sums.rest(Duration::from_millis(took), near.map(Duration::from_millis), begun);
            }
            sums.due().map(|due| due.saturating_duration_since(begun).as_millis())
        };
        assert_eq!(pause(1, None, false), Some(1000));
        assert_eq!(pause(1, None, true), Some(250));
        assert_eq!(pause(20, None, true), Some(2000), "a hundredth of one CPU");
        assert_eq!(pause(1, Some(400), true), Some(200), "half of the time that is left");
        assert_eq!(pause(1, Some(10), true), Some(20));
        assert_eq!(pause(20, Some(10), true), Some(60), "there is spare time");
        assert_eq!(pause(300, Some(10), true), Some(3000), "a tenth of one CPU");
        assert_eq!(pause(50, Some(3200), true), Some(1600), "a hundredth of one CPU would be too late");
    }

    #[test]
    fn the_next_look_comes_before_growth_as_measured_can_reach_the_limit() {
        let (mut sums, begun) = (Sums::default(), Instant::now());
        let mut bound = |after: u64, mib: u64| {
            let at = begun + Duration::from_millis(after);
            sums.note_bound(&sum(), Bytes(mib * MIB), Bytes(600 * MIB), at).as_millis()
        };
        assert_eq!(bound(0, 40), 56_000, "at a sixtieth of the limit per second, the least that is expected");
        assert_eq!(bound(1000, 100) / 100, 83, "at 60 MiB/s");
        assert_eq!(bound(2000, 500), 250, "at 400 MiB/s");
        assert_eq!(bound(2125, 500), 500, "growth that pauses may go on");
        assert_eq!([bound(3000, 500), bound(4000, 500)], [1000, 2000]);
        assert_eq!(bound(4000, 590), 200, "two looks at the same time measure nothing: 50 MiB/s");
        assert_eq!(bound(5000, 599), 40, "the shortest pause, twice");
    }
}
