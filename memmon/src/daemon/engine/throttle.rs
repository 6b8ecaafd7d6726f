//! Rules with `action = "throttle"`: the cgroup of a sum over its limit is slowed down, until it has calmed down.
//!
//! `memory.high` holds for every process in the cgroup. So memmon asks the kernel which processes are in it before it sets a
//! value, and again while it holds: one that must not be slowed down ends it.

use std::io;
use std::time::{Duration, Instant};

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::sums::{CHANGE, SumId};
use crate::daemon::engine::state::throttled::{Phase, ThrottledCgroups, group_of};
use crate::daemon::engine::sums::{AT_ONCE, Candidate, SCAN_LOOK, Taken};
use crate::daemon::throttler::{Done, Throttler};
use crate::enforce::MemoryCgroup;
use crate::model::{Action, Bytes, Lowered, Name, Pid, SystemMemory, ThrottleEnd, Unconfirmed, WhyNot};
use crate::policy::{
    self, Sum,
    throttle::{self, Next},
};
use crate::report::Event;

/// Time between two looks at a cgroup that is slowed down.
const WATCH: Duration = Duration::from_secs(1);

/// Maximum time that the end of memmon waits until all former values are set again.
const LAST_WAIT: Duration = Duration::from_secs(2);

impl Engine<'_> {
    /// Slows cgroups down by `throttler`, and goes on with those that were slowed down when memmon ended last.
    pub(crate) fn continue_throttles(&mut self, throttler: Throttler, left: Vec<Lowered>, now: Now) {
        self.throttler = Some(throttler);
        for lowered in left {
            let Some(group) = group_of(&lowered) else { continue };
            let sum = (lowered.rule, group);
            // A rule that is gone has no limit: the next look restores the former value.
            let limit = self.throttle_limit(&sum, &self.settings.memory()).unwrap_or(Bytes::ZERO);
            self.throttled.begin(sum, lowered, limit, Phase::Set, now.instant());
        }
        self.release_throttles(now);
    }

    /// The limit of the sum on a machine with this `memory`, if a rule still has it throttled.
    fn throttle_limit(&self, (name, group): &SumId, memory: &SystemMemory) -> Option<Bytes> {
        let rules = self.settings.rules();
        let is_it = |sum: &&policy::SumRule| {
            sum.rule.name == *name && sum.rule.action == Action::Throttle && sum.per == group.per()
        };
        let sum = rules.sums.iter().find(is_it)?;
        rules.limit_under(Some(&sum.rule), memory).map(|(_, limit)| limit)
    }

    /// Slows down the cgroup of a sum that exceeds its limit, unless that is done already; in a dry run it is only reported.
    pub(super) fn throttle(&mut self, id: &SumId, sum: &Sum, now: Now) {
        if self.throttled.contains(id) {
            return;
        }
        let dry_run = self.settings.current().dry_run;
        let other = throttle::cgroup(sum).ok().and_then(|cgroup| self.throttled.other_on(&cgroup, id));
        // The next look finds which value the cgroup has then.
        if other.is_some_and(|(_, other)| other.phase != Phase::Set) {
            return;
        }
        let prepared = self.prepare_throttle(sum, other.map(|(_, other)| &other.lowered));
        let (lowered, present) = match prepared {
            Ok(prepared) => prepared,
            // It is reported if it lasts.
            Err(WhyNot::Unsure { .. }) => return self.leave_sum_in_doubt(id, sum, now),
            Err(why) => {
                if self.throttled.is_news(id, &why) {
                    self.reports.emit(Event::NotThrottled { sum: sum.figures(), why });
                }
                return;
            }
        };
        self.sums.is_sure(id);
        if dry_run {
            if self.throttled.is_news_in_dry_run(id) {
                self.reports.emit(throttled(sum.figures(), &lowered, 1, true));
            }
            return;
        }
        let mut all = self.throttled.lowered(None);
        all.push(lowered.clone());
        let limit = self.throttle_limit(id, &self.settings.memory()).unwrap_or(sum.limit.1);
        self.throttled.begin(id.clone(), lowered.clone(), limit, Phase::Setting, now.instant());
        if let Some(throttler) = &mut self.throttler {
            throttler.lower(lowered, present, all);
        }
    }

    /// The value to set for a sum, and the present one, after a look at every process in the cgroup. If another rule has set the
    /// present one, `other`, the value of before both comes back later.
    fn prepare_throttle(&self, sum: &Sum, other: Option<&Lowered>) -> Result<(Lowered, Bytes), WhyNot> {
        if self.rechecks.once {
            return Err(WhyNot::Once);
        }
        let failed = |error: io::Error| WhyNot::Failed { error: error.to_string() };
        let throttler = self.throttler.as_ref();
        let throttler =
            throttler.ok_or_else(|| failed(io::Error::other("this memmon is not the one that watches")))?;
        let name = throttle::cgroup(sum)?;
        let cgroup = MemoryCgroup::open(throttler.mount(), &name).map_err(failed)?;
        let inside = cgroup.processes().map_err(failed)?;
        self.may_throttle(sum.clone(), inside)?;
        let present = cgroup.high().map_err(failed)?;
        let high = throttle::high(present, sum.limit.1, throttler.page_size());
        let high = high.ok_or(WhyNot::Lower { high: present })?;
        let before = other.filter(|other| other.high == present).map_or(present, |other| other.before);
        let (rule, per, number, total) =
            (sum.rule, sum.key.per(), cgroup.number(), self.settings.memory().total);
        Ok((Lowered { rule, per, cgroup: name.as_bytes().to_vec(), number, before, high, total }, present))
    }

    /// Whether the processes `inside` a cgroup may be slowed down for a sum. Those that were forked since the last look at the
    /// sum are looked at now.
    fn may_throttle(&self, mut sum: Sum, mut inside: Vec<Pid>) -> Result<(), WhyNot> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        inside.retain(|pid| {
            if sum.members.iter().any(|member| member.process.id.pid == *pid) {
                return true;
            }
            match self.sources.confirm_for_sum(*pid, None, false) {
                Ok(process) => {
                    let groups = policy::groups(rules, &memory, [&process]);
                    let own =
                        groups.iter().find(|group| group.rule.rule.name == sum.rule && group.key == sum.key);
                    sum.members.extend(
                        own.map(|group| Sum::new(rules, &memory, group))
                            .into_iter()
                            .flat_map(|sum| sum.members),
                    );
                    true
                }
                // It has ended since.
                Err(Unconfirmed::Gone) => false,
                Err(_) => true,
            }
        });
        throttle::may_throttle(&sum, &inside)
    }

    /// Looks at the cgroups that are slowed down, after the sums were taken. Returns how soon to look again.
    pub(super) fn review_throttles(&mut self, now: Now) -> Option<Duration> {
        self.note_throttler(now);
        self.release_throttles(now);
        if self.throttled.is_empty() {
            return None;
        }
        let candidates = self.groups();
        for id in self.throttled.ids() {
            let candidate = candidates.iter().find(|candidate| candidate.id == id);
            self.review_throttle(&id, candidate, now);
        }
        Some(WATCH * 2)
    }

    fn review_throttle(&mut self, id: &SumId, candidate: Option<&Candidate>, now: Now) {
        let Some(throttled) = self.throttled.get(id).filter(|throttled| throttled.phase == Phase::Set) else {
            return;
        };
        let Some(throttler) = &self.throttler else { return };
        let (lowered, page_size) = (throttled.lowered.clone(), throttler.page_size());
        // Another rule is about to take its place.
        if self.throttled.other_on(&lowered.name(), id).is_some() {
            return;
        }
        let cgroup = match MemoryCgroup::open(throttler.mount(), &lowered.name()) {
            Ok(cgroup) if cgroup.number() == lowered.number => cgroup,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => return self.restore_throttle(id, ThrottleEnd::Gone, now),
        };
        // Without processes there is nothing to slow down.
        let Some(candidate) = candidate else { return self.restore_throttle(id, ThrottleEnd::Calm, now) };
        // Unknown processes may be among those that must not be slowed down.
        let Ok(inside) = cgroup.processes() else {
            return self.restore_throttle(id, ThrottleEnd::Guarded, now);
        };
        let guarded = self.whole_sum(candidate).and_then(|sum| self.may_throttle(sum, inside).err());
        if matches!(guarded, Some(WhyNot::Outsider { .. } | WhyNot::Protected { .. })) {
            return self.restore_throttle(id, ThrottleEnd::Guarded, now);
        }
        let Ok(present) = cgroup.high() else { return };
        let calm_for = self.note_calm(id, candidate, cgroup.swapped().unwrap_or(Bytes::ZERO), now);
        match throttle::next(&lowered, present, candidate.limit, page_size, calm_for) {
            Next::Keep => {
                if let Some(throttled) = self.throttled.get_mut(id) {
                    throttled.lasts(now.instant());
                }
            }
            Next::Restore => self.restore_throttle(id, ThrottleEnd::Calm, now),
            Next::LeaveAlone => self.restore_throttle(id, ThrottleEnd::Overridden, now),
            Next::Again(lowered) => {
                let lowered = Lowered { total: self.settings.memory().total, ..lowered };
                let mut all = self.throttled.lowered(Some(id));
                all.push(lowered.clone());
                if let (Some(throttled), Some(throttler)) = (self.throttled.get_mut(id), &mut self.throttler)
                    && throttled.may_set_again(now.instant())
                {
                    throttled.lowered = lowered.clone();
                    throttled.phase = Phase::Setting;
                    throttled.times += 1;
                    throttler.lower(lowered, present, all);
                }
            }
        }
    }

    /// The sum of a candidate with all processes that are known, also those that were not looked at closely.
    fn whole_sum(&self, candidate: &Candidate) -> Option<Sum> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let known = candidate.members.iter().filter_map(|id| self.sums.get(id.pid));
        let groups = policy::groups(rules, &memory, known.map(|known| &known.process));
        let (rule, key) = &candidate.id;
        let group = groups.iter().find(|group| group.rule.rule.name == *rule && group.key == *key)?;
        Some(Sum::new(rules, &memory, group))
    }

    /// For how long the processes of a sum have held much less than its limit, with what they have in swap.
    fn note_calm(&mut self, id: &SumId, candidate: &Candidate, swapped: Bytes, now: Now) -> Option<Duration> {
        let limit = throttle::calm_below(candidate.limit).saturating_sub(swapped);
        let (id_of, members) = (candidate.id.clone(), candidate.members.clone());
        let lower = Candidate { id: id_of, limit, members };
        let at = now.instant();
        let taken =
            (limit > Bytes::ZERO).then(|| self.take(&lower, (SCAN_LOOK, CHANGE), Some(at + AT_ONCE), now));
        let is_calm = matches!(taken, Some(Taken::Within(_)));
        self.throttled.get_mut(id)?.note_calm(is_calm, at)
    }

    /// Restores the former values where no rule throttles any more, or not to that limit, or a dry run begins.
    pub(super) fn release_throttles(&mut self, now: Now) {
        self.note_throttler(now);
        let dry_run = self.settings.current().dry_run;
        let page_size = self.throttler.as_ref().map_or(1, Throttler::page_size);
        for id in self.throttled.ids() {
            let memory = self.settings.memory();
            let total = self.throttled.get(&id).map_or(memory.total, |throttled| throttled.lowered.total);
            let then = self.throttle_limit(&id, &SystemMemory { total, ..memory });
            let limits = then.zip(self.throttle_limit(&id, &memory));
            let is_same =
                self.throttled.get_mut(&id).zip(limits).is_some_and(|(throttled, (then, limit))| {
                    throttled.limit = limit;
                    throttle::fits(throttled.lowered.high, then, limit, page_size)
                });
            if dry_run || !is_same {
                self.restore_throttle(
                    &id,
                    if dry_run { ThrottleEnd::DryRun } else { ThrottleEnd::Rule },
                    now,
                );
            }
        }
    }

    /// Has the former value set again. If that has just failed, it is tried later, but not too late for the end of memmon.
    fn restore_throttle(&mut self, id: &SumId, why: ThrottleEnd, now: Now) {
        let others = self.throttled.lowered(Some(id));
        let is_last = why == ThrottleEnd::Stopping;
        if let (Some(throttled), Some(throttler)) = (self.throttled.get_mut(id), &mut self.throttler)
            && (is_last || !throttled.pauses(now.instant()))
        {
            match throttled.phase {
                Phase::Restoring(_) if !is_last => return,
                Phase::Restoring(_) => {}
                Phase::Setting | Phase::Set => throttler.restore(throttled.lowered.clone(), others),
            }
            throttled.phase = Phase::Restoring(why);
        }
    }

    /// Notes what the thread has done.
    fn note_throttler(&mut self, now: Now) {
        let done = self.throttler.as_mut().map(Throttler::done).unwrap_or_default();
        for done in done {
            self.throttle_done(done, now.instant());
        }
    }

    fn throttle_done(&mut self, Done { lowered, is_restore, outcome }: Done, now: Instant) {
        let Some(group) = group_of(&lowered) else { return };
        let id = (lowered.rule, group);
        let Some(throttled) = self.throttled.get_mut(&id).filter(|throttled| throttled.lowered == lowered)
        else {
            return;
        };
        match (outcome, is_restore, throttled.phase) {
            (Ok(()), false, Phase::Setting) => {
                throttled.phase = Phase::Set;
                throttled.since = now;
                let (times, limit) = (throttled.times, throttled.limit);
                if throttled.is_set_news() {
                    let figures = self.figures_of(&id, limit);
                    self.reports.emit(self::throttled(figures, &lowered, times, false));
                }
                let other = self.throttled.other_on(&lowered.name(), &id).map(|(other, _)| other.clone());
                if let Some(other) = other {
                    self.throttled.forget(&other);
                    self.reports.emit(ended(&other, &lowered, ThrottleEnd::Lower));
                }
            }
            (Err(error), false, Phase::Setting) => {
                let limit = throttled.limit;
                self.throttled.forget(&id);
                let (sum, why) = (self.figures_of(&id, limit), WhyNot::Failed { error });
                if self.throttled.is_news(&id, &why) {
                    self.reports.emit(Event::NotThrottled { sum, why });
                }
            }
            (Ok(()), true, Phase::Restoring(why)) => {
                self.throttled.forget(&id);
                self.reports.emit(ended(&id, &lowered, why));
            }
            (Err(error), true, Phase::Restoring(why)) => {
                let is_news = throttled.failed(now);
                if is_news || why == ThrottleEnd::Stopping {
                    self.reports.emit(Event::Degraded { what: stays(&lowered, &error, why) });
                }
            }
            _ => {}
        }
    }

    /// The figures of a sum by what is known.
    fn figures_of(&self, (rule, group): &SumId, limit: Bytes) -> crate::model::SumFigures {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let groups = policy::groups(rules, &memory, self.sums.processes());
        let found = groups.iter().find(|found| found.rule.rule.name == *rule && found.key == *group);
        let sum = found.map(|group| Sum::new(rules, &memory, group).figures());
        sum.unwrap_or_else(|| crate::model::SumFigures {
            rule: *rule,
            group: group.clone(),
            total: Bytes::ZERO,
            limit,
            members: 0,
        })
    }

    /// Restores all former values, at the end of memmon.
    pub(crate) fn end_throttles(&mut self, now: Now) {
        for id in self.throttled.ids() {
            self.restore_throttle(&id, ThrottleEnd::Stopping, now);
        }
        let done = self.throttler.as_mut().map(|throttler| throttler.finish(LAST_WAIT)).unwrap_or_default();
        for done in done {
            self.throttle_done(done, now.instant());
        }
        let late = self.throttled.iter().filter(|throttled| matches!(throttled.phase, Phase::Restoring(_)));
        for left in late {
            let what = stays(&left.lowered, "it took too long", ThrottleEnd::Stopping);
            self.reports.emit(Event::Degraded { what });
        }
    }

    /// The cgroups that are slowed down.
    pub(crate) const fn throttled(&self) -> &ThrottledCgroups {
        &self.throttled
    }

    /// Number of times that the kernel has slowed down processes of a cgroup.
    pub(crate) fn times_slowed(&self, cgroup: &Name) -> Option<u64> {
        let throttler = self.throttler.as_ref()?;
        MemoryCgroup::open(throttler.mount(), cgroup).ok()?.slowed()
    }
}

/// The report of a former value that could not be set again because of `error`, when that was to be done for this reason.
fn stays(lowered: &Lowered, error: &str, why: ThrottleEnd) -> String {
    let before = if lowered.before == Bytes::MAX { "max".to_owned() } else { lowered.before.0.to_string() };
    let next = match why {
        ThrottleEnd::Stopping => format!("The next start of memmon sets it to {before} again"),
        _ => format!("memmon tries to set it to {before} again until that works, and reports it then"),
    };
    format!("memory.high of the cgroup {} stays at {}: {error}. {next}", lowered.name(), lowered.high)
}

fn known(high: Bytes) -> Option<Bytes> {
    (high != Bytes::MAX).then_some(high)
}

fn throttled(sum: crate::model::SumFigures, lowered: &Lowered, times: u32, dry_run: bool) -> Event {
    let (throttled, before) = (lowered.name(), known(lowered.before));
    Event::Throttled { sum, throttled_cgroup: throttled, high: lowered.high, before, times, dry_run }
}

/// The end of a throttle, after which the cgroup has the value of before, or the one of another rule that has been `lowered` now.
fn ended((rule, group): &SumId, lowered: &Lowered, why: ThrottleEnd) -> Event {
    let (rule, group, throttled) = (*rule, group.clone(), lowered.name());
    let high = match why {
        ThrottleEnd::Overridden | ThrottleEnd::Gone => None,
        ThrottleEnd::Lower => known(lowered.high),
        _ => known(lowered.before),
    };
    Event::ThrottleEnded { rule, group, throttled_cgroup: throttled, high, why }
}
