//! Carries out what enforce orders: looks again, sends, and tells what came of it.

use std::{collections::VecDeque, time::Instant};

use super::{scan::Next, wheel::Daemon};
use crate::{
    enforce::{Check, Effect, Event as Happened, Order, Outcome, Phase},
    model::{Bytes, Process, ProcessId, Unconfirmed, Urgency},
    policy::{self, Ladder},
    report::{Event, Subject},
};

impl Daemon<'_> {
    /// Carries out `orders` and what follows from them at once.
    pub(super) fn carry_out(&mut self, orders: Vec<Order>) {
        let mut orders = VecDeque::from(orders);
        while let Some(Order { process, effect }) = orders.pop_front() {
            let whom = process.id;
            let happened = match effect {
                Effect::Open => self.victims.open(whom),
                Effect::Check => Happened::Checked(self.look_again(&process)),
                Effect::Send(warrant) => self.victims.send(warrant),
                Effect::Reclaim => {
                    self.victims.reclaim(whom, &self.reaper);
                    continue;
                }
                Effect::Tell(outcome) => {
                    if matches!(outcome, Outcome::Terminating { .. }) {
                        self.asked_to_end += 1;
                        self.was_terminated(&process);
                    }
                    if let Some(event) = self.event(&process, outcome) {
                        self.tell(event);
                    }
                    continue;
                }
            };
            orders.extend(self.victims.handle(whom, happened, Instant::now()));
        }
    }

    /// What /proc and policy say of a victim right now, before a signal.
    fn look_again(&self, victim: &Process) -> Check {
        let Ok(memory) = self.watch.memory() else {
            let error = "unreadable, and without it no limit is known".to_owned();
            return Check::Unconfirmed(Unconfirmed::Unreadable { file: "/proc/meminfo", error });
        };
        let (_, limit) = self.settings.rules.limit(&memory);
        match self.watch.confirm(victim.id.pid, Some(victim.id.start), limit) {
            Ok(found) => {
                let verdict = policy::judge(&self.settings.rules, &found, &memory);
                Check::judged(victim.id, &found, verdict, limit)
            }
            Err(why) => Check::Unconfirmed(why),
        }
    }

    /// Whether somebody was sent SIGTERM and has time left.
    pub(super) fn in_grace(&self) -> bool {
        self.victims.iter().any(|(_, phase)| matches!(phase, Phase::Grace { .. }))
    }

    /// Ends the grace of those who outgrow their ceiling, and of all while the machine is nearly out of memory.
    pub(super) fn watch_over_all(&mut self) {
        let graces = self.victims.iter().filter(|(_, phase)| matches!(phase, Phase::Grace { .. }));
        let graces: Vec<ProcessId> = graces.map(|(process, _)| process.id).collect();
        let Ok(memory) = self.watch.memory() else { return };
        let share = memory.available.percent_of(memory.total);
        let short = self.settings.termination.reserve_percent.is_some_and(|reserve| share < reserve);
        for whom in graces {
            if short {
                self.urge(whom, Urgency::Reserve);
            } else {
                self.watch_over(whom, Bytes::ZERO);
            }
        }
    }

    /// Ends the grace of a victim that outgrew its ceiling. Gives when to look at it next by the kernel's counters,
    /// which have `rss` for it.
    pub(super) fn watch_over(&mut self, whom: ProcessId, rss: Bytes) -> Next {
        let (_, limit) = self.settings.rules.limit(&self.memory);
        let Some(ceiling) = self.ceiling(limit) else { return Next::Never };
        let Ok(found) = self.watch.confirm(whom.pid, Some(whom.start), ceiling) else { return Next::Never };
        let orders = self.victims.handle(whom, Happened::Seen(found.rss), Instant::now());
        self.carry_out(orders);
        if found.rss.saturating_sub(found.error) > ceiling {
            self.urge(whom, Urgency::Ceiling);
            return Next::Never;
        }
        Next::Level(Ladder::new(ceiling, found.error, None).closer(rss, found.rss))
    }

    /// `termination.hard_ceiling` for this limit.
    pub(super) fn ceiling(&self, limit: Bytes) -> Option<Bytes> {
        let times = self.settings.termination.hard_ceiling?;
        Some(limit.times(times))
    }

    fn urge(&mut self, whom: ProcessId, urgency: Urgency) {
        let orders = self.victims.handle(whom, Happened::Urgent(urgency), Instant::now());
        self.carry_out(orders);
    }

    fn event(&self, process: &Process, outcome: Outcome) -> Option<Event> {
        let subject = Subject::from(process);
        Some(match outcome {
            Outcome::Terminating { breach } => Event::Killing { subject, breach, dry_run: false },
            Outcome::GraceOver { rss, grace, urgency } => Event::GraceOver { subject, rss, grace, urgency },
            Outcome::Gone(record) => Event::Terminated { subject, record },
            Outcome::Spared { rss, limit, after_term } => Event::Spared { subject, rss, limit, after_term },
            Outcome::NowProtected(protection) => Event::NowProtected { subject, protection },
            Outcome::Unsure(doubt) => Event::Unsure { subject, doubt },
            Outcome::Unconfirmed(why) => Event::Unconfirmed { pid: process.id.pid, why },
            Outcome::OutOfReach { error } => Event::OutOfReach { subject, error: error.to_string() },
            Outcome::SignalFailed { signal, error } => {
                Event::SignalFailed { subject, signal, error: error.to_string() }
            }
            Outcome::Lingers { since } => {
                let waiting = self.watch.waiting(process.id.pid).ok();
                let state = waiting.as_ref().map(|waiting| waiting.state);
                let wchan = waiting.and_then(|waiting| waiting.wchan);
                Event::Lingers { subject, since, state, wchan }
            }
        })
    }
}
