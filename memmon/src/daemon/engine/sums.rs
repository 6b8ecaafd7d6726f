//! Sums: the memory that several processes hold together, compared with the limits of rules with `per`.
//!
//! Cheap readings give an upper bound of each sum. Only if that exceeds the limit, its processes are looked at closely, the
//! largest first, until the sum is known to be within its limit. A process is terminated for a sum like any other, after a
//! fresh look at it and at the sum. After each end the sum is taken again before another process is terminated.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tracing::debug;

use crate::daemon::clock::{self, Now};
use crate::daemon::engine::Engine;
use crate::daemon::engine::close_look::LOOKS;
use crate::daemon::engine::kernel_sums::{WATCHED_PAUSE, Watched};
use crate::daemon::engine::state::report_once::Condition;
use crate::daemon::engine::state::sums::{CHANGE, Known, Pace, SumId};
use crate::daemon::engine::terminate::Seen;
use crate::daemon::source::kernel_map::Kernel;
use crate::enforce::Phase;
use crate::model::{
    Action, Breach, Bytes, Doubt, Fact, Limit, Process, ProcessId, Reading, RuleName, Unconfirmed, Urgency,
    Verdict,
};
use crate::policy::{self, Member, Sum, SumRule, SumVerdict};
use crate::report::{Event, SumPart, SumThen};

/// Maximum age of the looks at the processes of a sum on which a verdict is based: the first figure for each process, and the
/// second one once.
pub(super) const SCAN_LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The same before a signal.
const CHECK_LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// Twice the time until the next look at a sum in doubt, and at one of which processes are being terminated, because
/// `Sums::rest` waits for half of what is left.
const DOUBT: Duration = Duration::from_millis(500);
const GOING: Duration = Duration::from_millis(200);

/// Time that looks may take before the event loop has its turn.
pub(super) const AT_ONCE: Duration = Duration::from_millis(100);

/// The same for a sum whose cgroup is being slowed down.
const WATCH_THROTTLED: Duration = Duration::from_millis(500);

/// Number of processes of a sum that its report shows.
const SHOWN: usize = 3;

/// A group of processes that may hold too much.
pub(super) struct Candidate {
    pub(super) id: SumId,
    pub(super) limit: Bytes,
    pub(super) members: Vec<ProcessId>,
}

/// The result of a look at a sum.
pub(super) enum Taken {
    /// It is within its limit, with at most so much.
    Within(Bytes),
    /// Its processes are not all looked at yet.
    Pending,
    /// It may exceed its limit.
    Exact(Sum),
}

impl Engine<'_> {
    /// The time at which [`Engine::look_at_sums`] is due.
    pub(crate) const fn next_sums(&self) -> Option<Instant> {
        self.sums.due()
    }

    /// Looks at the sums between two scans.
    pub(crate) fn look_at_sums(&mut self, now: Now) {
        let begun = now.instant();
        match self.sources.readings() {
            Ok(readings) => self.check_sums(&readings, begun, now),
            // The next scan reports it.
            Err(_) => self.sums.rest(AT_ONCE, None, now.instant()),
        }
    }

    /// Takes the sums of processes with these readings, and acts on those over their limit. `begun`: when the readings were
    /// begun.
    pub(super) fn check_sums(&mut self, readings: &[Reading], begun: Instant, now: Now) {
        self.keep_kernel_sums();
        if self.settings.rules().sums.is_empty() {
            self.sums.clear();
            self.release_throttles(now);
            if !self.throttled.is_empty() {
                self.sums.rest(Duration::ZERO, None, now.instant());
            }
            return;
        }
        let had = clock::process_cpu_time();
        self.learn(readings, now);
        let mut candidates = self.candidates(now);
        let is_there = |sum: &SumId| candidates.iter().any(|candidate| candidate.id == *sum);
        self.sums.keep(is_there);
        self.throttled.keep_reported(is_there);
        let turn = self.sums.take_turn();
        let first = candidates.iter().position(|candidate| Some(&candidate.id) == turn.as_ref());
        candidates.rotate_left(first.unwrap_or(0));
        let mut took_all_time = false;
        let (mut near, mut is_half, mut watched) = (None::<Duration>, false, Watched::default());
        for candidate in candidates {
            // A single scan goes through with it.
            let deadline = (!self.rechecks.once).then_some(begun + AT_ONCE);
            let growth = self.sums.growth_that_counts(&candidate.id);
            let taken = self.take(&candidate, (SCAN_LOOK, growth), deadline, now);
            self.sums.note_finished(&candidate.id, !matches!(taken, Taken::Pending));
            let left = match taken {
                Taken::Pending => {
                    // The one before may take all of the time again and again.
                    if std::mem::replace(&mut took_all_time, true) {
                        self.sums.has_next_turn(&candidate.id);
                    }
                    self.watch_candidate(&candidate, candidate.limit, &mut watched);
                    Some(Duration::ZERO)
                }
                Taken::Within(bound) => {
                    self.sums.within(&candidate.id);
                    self.throttled.within(&candidate.id);
                    let left = self.sums.note_bound(&candidate.id, bound, candidate.limit, now.instant());
                    if self.watch_candidate(&candidate, bound, &mut watched) {
                        None
                    } else {
                        is_half |= bound > Bytes(candidate.limit.0 / 2);
                        Some(left)
                    }
                }
                Taken::Exact(sum) => {
                    is_half = true;
                    let most = sum.most();
                    let is_seen_to =
                        self.watch_candidate(&candidate, most, &mut watched) || most > candidate.limit;
                    let left = self.act_on_sum(&candidate.id, &sum, now);
                    // It is below its limit, though its bound is not: no sum is nearer to one.
                    if left.is_none() && !is_seen_to {
                        Some(self.sums.note_bound(&candidate.id, most, candidate.limit, now.instant()))
                    } else {
                        left
                    }
                }
            };
            near = near.into_iter().chain(left).min();
        }
        near = near.into_iter().chain(self.review_throttles(now)).min();
        self.sums.note_half(is_half);
        let is_watched = self.watch_sums(&watched, now);
        self.sums.note_pause(is_watched.then_some(WATCHED_PAUSE));
        let took = clock::process_cpu_time().saturating_sub(had);
        self.sums.rest(took, near, now.instant());
        debug!(?took, ?near, is_watched, "looked at the sums");
    }

    /// Whether the kernel watches a sum that has `bound` at most, so that no looks are needed.
    fn watch_candidate(&mut self, candidate: &Candidate, bound: Bytes, watched: &mut Watched) -> bool {
        let (per, limits) = (candidate.id.1.per(), (candidate.limit, bound));
        self.watch_in_kernel(per, &candidate.members, limits, watched)
    }

    /// Reads the facts about processes that are new, or were not asked for long.
    fn learn(&mut self, readings: &[Reading], now: Now) {
        for pid in self.sources.kernel().map(Kernel::moved).unwrap_or_default() {
            self.sums.doubt_facts(pid);
        }
        let unknown = self.sums.read(readings, now.instant());
        // Near a limit they are looked at closely anyway, and this look is one at the same time.
        let closely = self.sums.is_half();
        let members = u32::try_from(readings.len()).unwrap_or(u32::MAX);
        for reading in unknown {
            let begun = now.instant();
            let read = if closely {
                self.sources.confirm_for_sum(reading.pid, reading.start, false)
            } else {
                self.sources.confirm(reading.pid, reading.start, Bytes::MAX)
            };
            let Ok(process) = read else {
                self.sums.forget(reading.pid);
                continue;
            };
            let (age, at) = (now.since_boot().saturating_sub(process.id.start.since_boot()), now.instant());
            let mut known = Known::new(process, reading, age, at);
            if closely {
                let process = self.without_old_doubts(known.process.clone(), now);
                known.look(process, at.saturating_duration_since(begun), members, at);
            }
            self.sums.learn(known);
        }
    }

    /// The groups with a limit; empty if all processes together hold less than a quarter of the lowest of the limits. The kernel
    /// reports a sum at half of its limit, less its error of a quarter at most, and only a look at that sum sets the next level.
    fn candidates(&self, now: Now) -> Vec<Candidate> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let limits = rules.sums.iter().filter_map(|sum| rules.limit_under(Some(&sum.rule), &memory));
        let least = limits.map(|(_, limit)| limit).min().unwrap_or(Bytes::MAX);
        if self.sums.bound(now.instant()) <= Bytes(least.0 / 4) {
            return vec![];
        }
        self.groups()
    }

    pub(super) fn groups(&self) -> Vec<Candidate> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let groups = policy::groups(rules, &memory, self.sums.processes());
        let candidate = |group: policy::Group<'_>| Candidate {
            id: (group.rule.rule.name, group.key),
            limit: group.limit.1,
            members: group.members.iter().map(|(process, _)| process.id).collect(),
        };
        groups.into_iter().map(candidate).collect()
    }

    /// Looks at the processes of a sum until the sum is known to be within its limit, or all were looked at. Stops at the
    /// `deadline`.
    pub(super) fn take(
        &mut self,
        candidate: &Candidate,
        ((each, least), growth): ((Duration, Duration), Bytes),
        deadline: Option<Instant>,
        now: Now,
    ) -> Taken {
        let members = u32::try_from(candidate.members.len()).unwrap_or(u32::MAX);
        let (fresh, begun) = (each.saturating_mul(members) + least, now.instant());
        let bound_of = |engine: &Self, id: ProcessId| {
            engine.sums.get(id.pid).map_or(Bytes::ZERO, |known| known.bound(begun))
        };
        let mut order: Vec<_> = candidate.members.iter().map(|id| (bound_of(self, *id), *id)).collect();
        order.sort_unstable_by(|a, b| b.cmp(a));
        let mut bound: Bytes = order.iter().map(|(bound, _)| *bound).sum();
        // First those of which it is not known how much is theirs; then those that may have changed since; then the pages of
        // those with inexact figures are counted, if that decides.
        for pass in [Pass::First, Pass::Again, Pass::Exact] {
            if pass == Pass::Exact && !self.is_open(candidate, begun) {
                break;
            }
            for (had, id) in &mut order {
                if bound <= candidate.limit {
                    return Taken::Within(bound);
                }
                let is_due = self.sums.get(id.pid).is_some_and(|known| match pass {
                    Pass::First => !known.has_look(begun),
                    Pass::Again => !known.is_fresh(fresh, growth, begun),
                    Pass::Exact => known.process.error > Bytes::ZERO,
                });
                if !is_due {
                    continue;
                }
                if deadline.is_some_and(|deadline| now.instant() >= deadline) {
                    return Taken::Pending;
                }
                self.look_for_sum(*id, pass == Pass::Exact, members, now);
                let has = bound_of(self, *id);
                bound = bound.saturating_sub(*had) + has;
                *had = has;
            }
        }
        match self.sum(candidate, begun) {
            Some(sum) if sum.most() > candidate.limit => Taken::Exact(sum),
            Some(sum) => Taken::Within(sum.most()),
            None => Taken::Within(Bytes::ZERO),
        }
    }

    /// Whether a sum may exceed its limit only because of the error of the figures.
    fn is_open(&self, candidate: &Candidate, at: Instant) -> bool {
        let sum = self.sum(candidate, at);
        sum.is_some_and(|sum| sum.verdict() == SumVerdict::Unsure)
    }

    fn look_for_sum(&mut self, id: ProcessId, exact: bool, members: u32, now: Now) {
        let begun = now.instant();
        match self.sources.confirm_for_sum(id.pid, Some(id.start), exact) {
            Ok(process) => {
                let process = self.without_old_doubts(process, now);
                if let Some(known) = self.sums.get_mut(id.pid) {
                    let at = now.instant();
                    known.look(process, at.saturating_duration_since(begun), members, at);
                }
            }
            // It does not count for now. If its owner causes that, as by threads that end faster than they are read, it counts
            // with all its memory.
            Err(Unconfirmed::Unreadable { .. }) => {
                if self.rechecks.doubts.outlasts(id, now.instant()).is_some()
                    && let Some(known) = self.sums.get_mut(id.pid)
                {
                    known.count_whole();
                }
            }
            Err(_) => self.sums.forget(id.pid),
        }
    }

    /// The process, without the doubts that its owner can cause if they have lasted for too long.
    fn without_old_doubts(&mut self, mut process: Process, now: Now) -> Process {
        let guard = policy::guard(self.settings.rules(), &process, &self.settings.memory());
        let is_open = matches!(&guard, Verdict::Unsure(doubt) if doubt.is_transient())
            || process.inherited == Fact::Unreadable;
        if is_open && self.rechecks.doubts.outlasts(process.id, now.instant()).is_some() {
            process.settle();
        }
        process
    }

    /// A sum by the known memory of its processes; `None` if none of them counts in it any more.
    fn sum(&self, candidate: &Candidate, at: Instant) -> Option<Sum> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let known = candidate.members.iter().filter_map(|id| self.sums.get(id.pid));
        let known = known.filter(|known| known.counts(at));
        let groups = policy::groups(rules, &memory, known.map(|known| &known.process));
        let (rule, key) = &candidate.id;
        let group = groups.iter().find(|group| group.rule.rule.name == *rule && group.key == *key)?;
        let out_of_reach = self.terminations.out_of_reach();
        Some(Sum { out_of_reach, ..Sum::new(rules, &memory, group) })
    }

    /// Acts on a sum that may exceed its limit. Returns how soon to look at it again.
    fn act_on_sum(&mut self, id: &SumId, sum: &Sum, now: Now) -> Option<Duration> {
        let at = now.instant();
        let rule = self.rule_of_sum(id)?;
        let verdict = sum.verdict();
        debug!(rule = %id.0, group = %id.1, total_bytes = sum.least().0, ?verdict, "a sum");
        let then = match verdict {
            SumVerdict::Within => {
                self.sums.within(id);
                self.throttled.within(id);
                return None;
            }
            SumVerdict::Unsure => {
                self.leave_sum_in_doubt(id, sum, now);
                return Some(DOUBT);
            }
            SumVerdict::Kept | SumVerdict::Over if sum.action == Action::Warn => SumThen::Warn,
            SumVerdict::Kept | SumVerdict::Over if sum.action == Action::Throttle && !sum.ends() => {
                SumThen::Throttle
            }
            SumVerdict::Kept if !sum.ends() => SumThen::Protected,
            SumVerdict::Kept | SumVerdict::Over => SumThen::Terminate,
        };
        let lasted = self.sums.over(id, at);
        let ceiling = rule.rule.hard_ceiling.or(self.settings.current().termination.hard_ceiling);
        let ceiling = ceiling.filter(|times| *times > 0.0).map(|times| sum.limit.1.times(times));
        let is_beyond = ceiling.is_some_and(|ceiling| sum.least() > ceiling);
        let is_urgent = is_beyond || self.is_short();
        if let Some(left) = rule.rule.lasting.checked_sub(lasted).filter(|left| !left.is_zero())
            && !is_urgent
        {
            return (!self.rechecks.once).then_some(left.min(Duration::from_secs(1)) * 2);
        }
        if self.sums.is_news(id, then) {
            self.reports.emit(sum_over(sum, then));
        }
        if then == SumThen::Throttle {
            self.throttle(id, sum, now);
            return Some(WATCH_THROTTLED);
        }
        if then != SumThen::Terminate {
            return None;
        }
        if self.settings.current().dry_run {
            self.show_strikes(sum, now);
            return None;
        }
        if is_beyond {
            for victim in self.sums.victims_of(id).collect::<Vec<_>>() {
                self.urge(victim, Urgency::Ceiling, now);
            }
        }
        let going: BTreeSet<ProcessId> = sum
            .members
            .iter()
            .map(|member| member.process.id)
            .filter(|id| self.terminations.contains(*id) && !sum.out_of_reach.contains(id))
            .collect();
        let pace = if is_urgent || self.rechecks.once || rule.strike == policy::Strike::All {
            Pace::All
        } else {
            self.sums.pace(id, sum.least(), going.len(), at)
        };
        let mut strikes = sum.strikes(&going, |process| self.sums.rate(process));
        if strikes.is_empty() && sum.without(&going) > sum.ends_above {
            self.leave_sum_in_doubt(id, sum, now);
        } else {
            self.sums.is_sure(id);
        }
        strikes.truncate(match pace {
            Pace::Wait => 0,
            Pace::One => 1,
            Pace::All => usize::MAX,
        });
        let (ends_all, mut spared) = (rule.strike == policy::Strike::All, 0);
        for victim in strikes {
            self.strike(sum, victim, now);
            // Each look at the whole sum may take long, and the first of all are enough to see that it changes.
            spared += usize::from(ends_all && !self.terminations.contains(victim) && !self.has_begun(id));
            if spared == LOOKS {
                break;
            }
        }
        Some(GOING)
    }

    /// Whether a process that ends because of a sum was sent a signal already.
    fn has_begun(&self, id: &SumId) -> bool {
        self.sums.victims_of(id).any(|victim| self.terminations.had_term(victim))
    }

    /// Reports a doubt that lasts, once.
    pub(super) fn leave_sum_in_doubt(&mut self, id: &SumId, sum: &Sum, now: Now) {
        if self.sums.stays_unsure(id, now.instant()) {
            self.reports.emit(sum_over(sum, SumThen::Unsure));
        }
    }

    /// Starts the termination of one process of a sum.
    fn strike(&mut self, sum: &Sum, victim: ProcessId, now: Now) {
        let Some(member) = sum.members.iter().find(|member| member.process.id == victim) else { return };
        self.sums.strike(victim, sum.figures(), now.instant());
        let (process, breach) = (member.process.clone(), self.breach(sum.rule, sum.limit, &member.process));
        self.start_termination(process, breach, None, None, now);
    }

    /// Reports the processes that a dry run does not terminate.
    fn show_strikes(&mut self, sum: &Sum, now: Now) {
        for victim in sum.strikes(&BTreeSet::new(), |process| self.sums.rate(process)) {
            let Some(member) = sum.members.iter().find(|member| member.process.id == victim) else {
                continue;
            };
            if self.reports.first_time(victim, Condition::WouldTerminate) {
                let breach = self.breach(sum.rule, sum.limit, &member.process);
                let subject = self.subject(&member.process, now);
                let (sum, signal) = (Some(sum.figures()), self.settings.course(&breach).signal);
                self.reports.emit(Event::Killing { subject, breach, signal, dry_run: true, sum });
            }
        }
    }

    fn breach(&self, by: RuleName, (rule, limit): (Limit, Bytes), process: &Process) -> Breach {
        let percent = process.rss.percent_of(self.settings.memory().total);
        Breach { rule, limit, rss: process.rss, percent, by: Some(by) }
    }

    fn rule_of_sum(&self, (name, _): &SumId) -> Option<SumRule> {
        self.settings.rules().sums.iter().find(|sum| sum.rule.name == *name).cloned()
    }

    /// Whether the machine is short of memory, so that nothing waits.
    fn is_short(&self) -> bool {
        let memory = self.sources.memory();
        memory.is_ok_and(|memory| self.settings.current().termination.is_short(&memory))
    }

    /// A fresh look at a victim because of a sum, and at the sum, before the next signal.
    pub(super) fn look_again_in_sum(&mut self, victim: ProcessId, now: Now) -> Seen {
        let Some(figures) = self.sums.struck(victim) else { return Seen::nothing(Unconfirmed::Gone) };
        let id = (figures.rule, figures.group.clone());
        let limit = figures.limit;
        match self.sources.readings() {
            Ok(readings) => self.learn(&readings, now),
            Err(error) => {
                let error = error.to_string();
                return Seen::nothing(Unconfirmed::Unreadable { file: "statm", error });
            }
        }
        let found = match self.sources.confirm_for_sum(victim.pid, Some(victim.start), false) {
            Ok(found) => self.without_old_doubts(found, now),
            Err(why) => return Seen::nothing(why),
        };
        if let Some(known) = self.sums.get_mut(victim.pid) {
            known.look(found.clone(), Duration::ZERO, 1, now.instant());
        }
        let verdict = match policy::guard(self.settings.rules(), &found, &self.settings.memory()) {
            Verdict::Within => self.judge_in_sum(&id, &found, now),
            guarded => guarded,
        };
        Seen::judged(victim, found, verdict, limit)
    }

    /// The verdict on a process for the sum `id`, without the memory of processes that got the same signal before it.
    fn judge_in_sum(&mut self, id: &SumId, found: &Process, now: Now) -> Verdict {
        let groups = self.groups().into_iter();
        let Some(candidate) = groups.into_iter().find(|group| group.id == *id) else {
            return Verdict::Within;
        };
        if !candidate.members.contains(&found.id) {
            return Verdict::Within;
        }
        // The verdict is about all of them together: after the first signal, those that end are no reason to spare the others.
        if let Some(rule) = self.rule_of_sum(id).filter(|rule| rule.strike == policy::Strike::All)
            && self.has_begun(id)
            && let Some(limit) = self.settings.rules().limit_under(Some(&rule.rule), &self.settings.memory())
        {
            // Since a reload it may only warn.
            let ends = rule.ends_above(limit.1) < Bytes::MAX;
            return if ends { Verdict::Terminate(self.breach(id.0, limit, found)) } else { Verdict::Within };
        }
        let sum = match self.take(&candidate, (CHECK_LOOK, CHANGE), None, now) {
            Taken::Within(_) | Taken::Pending => return Verdict::Within,
            Taken::Exact(sum) => sum,
        };
        let terminations = &self.terminations;
        let is_last = terminations.had_term(found.id);
        let goes = |(process, phase): &(&Process, Phase)| match phase {
            Phase::Killed { .. } => true,
            Phase::Grace { .. } | Phase::Confirming => !is_last && terminations.had_term(process.id),
            Phase::Unopened | Phase::OutOfReach => false,
        };
        let going = terminations.victims.iter().filter(goes).map(|(process, _)| process.id);
        let going: BTreeSet<ProcessId> = going.filter(|process| *process != found.id).collect();
        match sum.verdict() {
            SumVerdict::Over | SumVerdict::Kept if sum.ends() && sum.without(&going) > sum.ends_above => {
                Verdict::Terminate(self.breach(sum.rule, sum.limit, found))
            }
            SumVerdict::Unsure => Verdict::Unsure(Doubt::SharedMemoryUnknown),
            SumVerdict::Over | SumVerdict::Within | SumVerdict::Kept => Verdict::Within,
        }
    }
}

/// The steps of a look at a sum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    First,
    Again,
    Exact,
}

fn sum_over(sum: &Sum, then: SumThen) -> Event {
    let mut largest: Vec<_> = sum.members.iter().collect();
    largest.sort_by_key(|member| (std::cmp::Reverse(member.least), member.process.id));
    let part = |member: &&Member| SumPart {
        pid: member.process.id.pid,
        comm: member.process.names.comm.clone(),
        bytes: member.least,
    };
    Event::SumOver {
        sum: sum.figures(),
        then,
        protected: sum.kept(),
        largest: largest.iter().take(SHOWN).map(part).collect(),
    }
}
