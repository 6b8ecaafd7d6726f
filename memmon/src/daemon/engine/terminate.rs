//! Carries out what enforce orders: looks again, sends, and tells what came of it.

use std::{collections::VecDeque, time::Instant};

use crate::config::Settings;
use crate::daemon::engine::case::Case;
use crate::daemon::engine::scan::NextWake;
use crate::daemon::event_loop::Daemon;
use crate::enforce::{self, Check, Effect, Event as Happened, Order, Outcome, Phase};
use crate::model::{Bytes, Parts, Process, ProcessId, Signal, SystemMemory, Unconfirmed, Urgency, Verdict};
use crate::policy::{self, WakeLevels};
use crate::report::Event;

impl Daemon<'_> {
    /// Carries out `orders` and what follows from them at once.
    pub(in crate::daemon) fn run_orders(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some(Order { process, effect }) = orders.pop_front() {
            let whom = process.id;
            let happened = match effect {
                Effect::Open => self.victims.open(whom),
                Effect::Check => Happened::Checked(self.look_again(&process)),
                Effect::Send(warrant) => {
                    if warrant.signal() == Signal::Kill
                        && let Some(parts) = self.sources.parts(whom.pid)
                    {
                        self.cases.entry(whom).or_default().shared = Some(parts.file + parts.shmem);
                    }
                    self.victims.send(warrant)
                }
                Effect::Reclaim => {
                    self.victims.reclaim(whom, &self.reaper);
                    continue;
                }
                Effect::Report(outcome) => {
                    if matches!(outcome, Outcome::Terminating { .. }) {
                        self.asked_to_end += 1;
                        let parent_comm = self.sources.parent_comm(&process);
                        self.cases.insert(whom, Case { parent_comm, ..Case::default() });
                        self.lazily_freed.sent_term(whom);
                        self.was_terminated(&process);
                    }
                    let doubtful = outcome.is_transient();
                    if let Some(event) = self.event(&process, outcome) {
                        self.tell(event);
                    }
                    // No victim any more: it wakes memmon like everybody else, and no longer at its ceiling.
                    if !self.victims.contains(whom) {
                        self.reset_wake_level(whom);
                        if doubtful {
                            self.recheck.note(whom.pid, Some(whom.start), None, Instant::now());
                        }
                    }
                    continue;
                }
            };
            orders.extend(self.victims.handle(whom, happened, Instant::now()));
        }
        self.former.retain(|whom, _| self.victims.contains(*whom));
        self.cases.retain(|whom, _| self.victims.contains(*whom));
    }

    /// What /proc and policy say of a victim right now, before a signal.
    fn look_again(&mut self, victim: &Process) -> Check {
        let Ok(memory) = self.sources.memory() else {
            let error = "unreadable, and without it no limit is known".to_owned();
            return Check::Unconfirmed(Unconfirmed::Unreadable { file: "/proc/meminfo", error });
        };
        let (_, limit) = self.condemned_under(victim.id).rules.limit(&memory);
        match self.sources.confirm(victim.id.pid, Some(victim.id.start), limit) {
            Ok(mut found) => {
                self.take_off_freed(&mut found, limit);
                let judge = |daemon: &Self, found: &Process| daemon.judge_victim(victim.id, found, &memory);
                let verdict = judge(self, &found);
                let verdict = self.settle(&mut found, verdict, judge);
                Check::judged(victim.id, &found, verdict, limit)
            }
            Err(why) => Check::Unconfirmed(why),
        }
    }

    /// Takes off what a process that was sent SIGTERM has freed since, if it is within `limit` without that.
    pub(in crate::daemon) fn take_off_freed(&mut self, process: &mut Process, limit: Bytes) {
        let Self { sources, lazily_freed, .. } = self;
        lazily_freed.take_off(process, limit, Instant::now, |process| {
            let (rss, free) = sources.lazy_free(process)?;
            Some((rss.saturating_sub(free), free))
        });
    }

    /// What process_mrelease(2) left of a victim's memory. One that is so near to its exit that it has no address space any
    /// more cannot be read; at most what was not its own right before SIGKILL was left of it, as the call frees the rest.
    pub(in crate::daemon) fn left_after_reclaim(&self, whom: ProcessId) -> Option<Bytes> {
        self.resident(whom).or_else(|| self.cases.get(&whom)?.shared)
    }

    /// Resident memory of a process; none if it is gone, or has no address space any more because it is exiting.
    pub(in crate::daemon) fn resident(&self, whom: ProcessId) -> Option<Bytes> {
        let Parts { anon, file, shmem, swap: _ } = self.sources.parts(whom.pid)?;
        // The number may be another process's by now.
        self.sources.confirm(whom.pid, Some(whom.start), Bytes::MAX).ok()?;
        Some(anon + file + shmem)
    }

    /// The verdict on a victim. One that was condemned before a reload is held to the limit of then; what protects now
    /// protects it, too.
    fn judge_victim(&self, whom: ProcessId, found: &Process, memory: &SystemMemory) -> Verdict {
        let rules = &self.condemned_under(whom).rules;
        match policy::judge(rules, found, memory) {
            Verdict::Terminate(breach) if *rules != self.settings.rules => {
                match policy::judge_as_over(&self.settings.rules, found, memory) {
                    Verdict::Terminate(_) => Verdict::Terminate(breach),
                    spared => spared,
                }
            }
            verdict => verdict,
        }
    }

    /// Whether somebody was sent SIGTERM and has time left.
    pub(in crate::daemon) fn in_grace(&self) -> bool {
        self.victims.iter().any(|(_, phase)| matches!(phase, Phase::Grace { .. }))
    }

    /// Ends the grace of those who outgrow their ceiling, and of all while the machine is nearly out of memory; before
    /// it is, nobody waits any longer who came back too often.
    pub(in crate::daemon) fn check_graces(&mut self) {
        let Ok(memory) = self.sources.memory() else { return };
        if self.lenient && enforce::is_short(&memory) {
            self.scan();
        }
        let graces = self.victims.iter().filter(|(_, phase)| matches!(phase, Phase::Grace { .. }));
        let graces: Vec<ProcessId> = graces.map(|(process, _)| process.id).collect();
        let share = memory.available.percent_of(memory.total);
        for whom in graces {
            let reserve = self.condemned_under(whom).termination.reserve_percent;
            if reserve.is_some_and(|reserve| share < reserve) {
                self.urge(whom, Urgency::Reserve);
            } else if self.may_be_beyond_ceiling(whom) {
                self.check_ceiling(whom, Bytes::ZERO);
            }
        }
    }

    /// Whether a close look at a victim could end its grace: not if the kernel's counters say that it is far from that.
    fn may_be_beyond_ceiling(&self, whom: ProcessId) -> bool {
        let (ceiling, seen) = (self.ceiling(whom), self.sources.again(whom));
        ceiling.is_some_and(|ceiling| seen.is_none_or(|seen| seen.rss + seen.error > ceiling))
    }

    /// Ends the grace of a victim that outgrew its ceiling. Gives when to look at it next by the kernel's counters,
    /// which have `rss` for it.
    pub(in crate::daemon) fn check_ceiling(&mut self, whom: ProcessId, rss: Bytes) -> NextWake {
        let Some(ceiling) = self.ceiling(whom) else { return NextWake::Never };
        let Ok(mut found) = self.sources.confirm(whom.pid, Some(whom.start), ceiling) else {
            return NextWake::Never;
        };
        let orders = self.victims.handle(whom, Happened::Seen(found.rss), Instant::now());
        self.run_orders(orders);
        self.take_off_freed(&mut found, ceiling);
        if found.rss.saturating_sub(found.error) > ceiling {
            self.urge(whom, Urgency::Ceiling);
            return NextWake::Never;
        }
        let freed = self.lazily_freed.of(whom);
        let levels = WakeLevels::new(ceiling, found.error, None);
        NextWake::Level(freed + levels.next_below_limit(rss.saturating_sub(freed), found.rss))
    }

    /// With how much a victim has no grace left; none: no size ends it.
    ///
    /// For one whose termination was delayed, or would have been, it counts from what it had at the end of that.
    pub(in crate::daemon) fn ceiling(&self, whom: ProcessId) -> Option<Bytes> {
        let terms = self.condemned_under(whom);
        let (_, limit) = terms.rules.limit(&self.memory);
        let had = self.offenders.had_when_due(whom).unwrap_or_default();
        terms.termination.ceiling(limit.max(had))
    }

    /// The settings by which a victim's case is brought to its end: those that condemned it.
    fn condemned_under(&self, whom: ProcessId) -> &Settings {
        self.former.get(&whom).map_or(&self.settings, |settings| settings)
    }

    fn urge(&mut self, whom: ProcessId, urgency: Urgency) {
        let orders = self.victims.handle(whom, Happened::Urgent(urgency), Instant::now());
        self.run_orders(orders);
    }

    fn event(&self, process: &Process, outcome: Outcome) -> Option<Event> {
        // Its parent may have ended since.
        let parent_comm = self.cases.get(&process.id).map(|case| case.parent_comm.clone());
        let parent_comm = parent_comm.unwrap_or_else(|| self.sources.parent_comm(process));
        let subject = self.subject_of(process, parent_comm);
        Some(match outcome {
            Outcome::Terminating { breach } => Event::Killing { subject, breach, dry_run: false },
            Outcome::GraceOver { rss, grace, urgency } => Event::GraceOver { subject, rss, grace, urgency },
            Outcome::Gone(record) => Event::Terminated { subject, record },
            Outcome::Spared { rss, limit, after_term } => Event::Spared { subject, rss, limit, after_term },
            Outcome::LetGo { after_term } => Event::LetGo { subject, after_term },
            Outcome::NowProtected(protection) => Event::NowProtected { subject, protection },
            Outcome::Unsure(doubt) => Event::Unsure { subject, doubt },
            Outcome::Unconfirmed(why) => Event::Unconfirmed { pid: process.id.pid, why },
            Outcome::OutOfReach { error } => Event::OutOfReach { subject, error: error.to_string() },
            Outcome::SignalFailed { signal, error } => {
                Event::SignalFailed { subject, signal, error: error.to_string() }
            }
            Outcome::Lingers { since } => {
                let waiting = self.sources.waiting(process.id.pid).ok();
                let state = waiting.as_ref().map(|waiting| waiting.state);
                let wchan = waiting.and_then(|waiting| waiting.wchan);
                let (frozen, rss) = (self.sources.frozen(process.id.pid), self.resident(process.id));
                Event::Lingers { subject, since, state, wchan, frozen, rss }
            }
        })
    }
}
