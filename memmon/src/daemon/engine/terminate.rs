//! Executes the orders of enforce: looks again, sends signals, and reports the outcome.

use std::collections::VecDeque;
use std::io;

use tracing::debug;

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::close_look::LOOKS;
use crate::enforce::{self, Check, Effect, Errno, Order, Outcome};
use crate::model::{Bytes, Process, ProcessId, Signal, SystemMemory, Unconfirmed, Verdict};
use crate::report::Event;

/// The result of a fresh look at a victim.
pub(super) struct Seen {
    pub(super) check: Check,
    /// The process, if it would be sent the next signal.
    over: Option<Process>,
}

impl Seen {
    /// Nothing was seen.
    pub(super) const fn nothing(why: Unconfirmed) -> Self {
        Self { check: Check::Unconfirmed(why), over: None }
    }

    /// The victim `id` was `found` so, with policy's `verdict` on it under `limit`.
    pub(super) fn judged(id: ProcessId, found: Process, verdict: Verdict, limit: Bytes) -> Self {
        let check = Check::judged(id, &found, verdict, limit);
        let is_over = matches!(check, Check::StillOver(_));
        Self { check, over: is_over.then_some(found) }
    }
}

impl Engine<'_> {
    /// Executes `orders` and those that follow from them at once.
    pub(super) fn run_orders(&mut self, orders: Vec<Order>, now: Now) {
        in_turn(orders, |Order { process, effect }| {
            let id = process.id;
            debug!(pid = id.pid.0, ?effect, "an order");
            let happened = match effect {
                Effect::Open => self.terminations.victims.open(id),
                Effect::Check => enforce::Event::Checked(self.look_again(&process, now)),
                Effect::Send(warrant) => {
                    if warrant.signal() == Signal::Kill
                        && let Ok(parts) = self.sources.proc().parts(id.pid)
                    {
                        self.terminations.before_kill(id, parts.file + parts.shmem);
                    }
                    let signal = warrant.signal();
                    let is_stopped = || !self.stopped.by_memmon(id) && self.sources.proc().is_stopped(id.pid);
                    let sent = self.terminations.victims.send(warrant, is_stopped);
                    if signal == Signal::Kill {
                        self.measure_before_end(id);
                    }
                    sent
                }
                Effect::Reclaim => {
                    self.terminations.victims.reclaim(id, &self.terminations.reaper);
                    return vec![];
                }
                Effect::Report(outcome) => {
                    self.report(&process, outcome, now);
                    return vec![];
                }
            };
            self.terminations.handle(id, happened, now.instant())
        });
        let Self { settings, terminations, sums, .. } = self;
        settings.keep(|process| terminations.contains(process));
        sums.keep_struck(|process| terminations.contains(process), now.instant());
        terminations.forget_ended();
    }

    /// The result of /proc and policy for a victim right now, before a signal. A victim because of a sum may exceed its own
    /// limit, too.
    fn look_again(&mut self, victim: &Process, now: Now) -> Check {
        self.look_until_it_stays(|engine| match engine.look_alone(victim, now) {
            Seen { check: Check::Within { .. } | Check::Unsure(_), .. }
                if engine.sums.struck(victim.id).is_some() =>
            {
                engine.look_again_in_sum(victim.id, now)
            }
            alone => alone,
        })
    }

    /// The same for a victim that counts in no sum.
    pub(super) fn look_again_alone(&mut self, victim: &Process, now: Now) -> Check {
        self.look_until_it_stays(|engine| engine.look_alone(victim, now))
    }

    /// The result of a look during which the process did not change its name or its rights: to count its pages may take long.
    fn look_until_it_stays(&mut self, mut look: impl FnMut(&mut Self) -> Seen) -> Check {
        for _ in 1..LOOKS {
            let Seen { check, over } = look(self);
            if over.is_none_or(|found| self.sources.is_as_found(&found)) {
                return check;
            }
        }
        // One that changes again and again is not spared for that.
        look(self).check
    }

    fn look_alone(&mut self, victim: &Process, now: Now) -> Seen {
        let Ok(memory) = self.sources.memory() else {
            let error = "unreadable, and without it no limit is known".to_owned();
            return Seen::nothing(Unconfirmed::Unreadable { file: "/proc/meminfo", error });
        };
        let id = victim.id;
        if self.machine.is_victim(id) {
            return self.look_again_for_machine(victim, now);
        }
        let look = |limit| self.sources.confirm(id.pid, Some(id.start), limit);
        let mut found = match self.settings.of_victim(id).rules.confirm(&memory, look) {
            Ok(found) => found,
            Err(why) => return Seen::nothing(why),
        };
        let limit = self.settings.of_victim(id).rules.limit_of(&found, &memory);
        self.take_off_freed(&mut found, limit, now);
        let verdict = self.settings.judge_victim(id, &found, &memory);
        let mut verdict = self
            .settle(&mut found, verdict, now, |settings, found| settings.judge_victim(id, found, &memory));
        if self.sums.struck(id).is_some() && !self.ends_at_once(&found, &verdict, &memory) {
            verdict = Verdict::Within;
        }
        Seen::judged(id, found, verdict, limit)
    }

    /// Whether a victim because of a sum would also end for its own limit now: not if the rule for that only stops it, or has a
    /// `for`. After that time it ends for its own limit, from the first signal on.
    fn ends_at_once(&self, found: &Process, verdict: &Verdict, memory: &SystemMemory) -> bool {
        match verdict {
            Verdict::Terminate(breach) => {
                self.settings.of_victim(found.id).must_last(found, breach, memory).is_zero()
            }
            Verdict::Stop(_) => false,
            _ => true,
        }
    }

    /// Reports an outcome, and releases a process that is no victim any more.
    fn report(&mut self, process: &Process, outcome: Outcome, now: Now) {
        let id = process.id;
        if let Outcome::Terminating { breach, .. } = &outcome {
            self.open_case(process, now);
            self.note_offence(process, breach.by, now);
        }
        let is_transient = outcome.is_transient();
        let has_ended = matches!(outcome, Outcome::Gone(_));
        self.reports.emit(self.event(process, outcome, now));
        // It wakes memmon like every other process again, and no longer at its ceiling.
        if !self.terminations.contains(id) {
            self.machine.is_over(id, has_ended, now.instant());
            // It may be over its own limit, and stand still, after a termination for the machine or a sum.
            let is_beyond = self.reset_wake_level(id, now) && !has_ended;
            if is_transient || is_beyond {
                self.rechecks.queue.note(id.pid, Some(id.start), None, now.instant());
            }
        }
    }

    /// Handles the victims that have exited, and those whose deadline is over. The caller drains the kernel's events before: the
    /// one with the exit status comes before the pidfd is readable.
    ///
    /// # Errors
    /// Those of [`enforce::Victims::wake`].
    pub(crate) fn handle_exits(&mut self, now: Now) -> Result<(), Errno> {
        let orders = self.terminations.victims.wake(now.instant())?;
        self.run_orders(orders, now);
        Ok(())
    }

    /// Notes that the memory of a victim was freed, or the error.
    pub(crate) fn reclaimed(&mut self, victim: ProcessId, outcome: Result<(), Errno>, now: Now) {
        // A victim that is so near to its exit that it has no address space any more cannot be read. At most what was not
        // its own right before SIGKILL was left of it, as process_mrelease(2) frees the rest.
        let left = outcome.map(|()| self.resident(victim).or_else(|| self.terminations.case(victim)?.shared));
        let orders = self.terminations.handle(victim, enforce::Event::Reclaimed(left), now.instant());
        self.run_orders(orders, now);
    }

    fn event(&self, process: &Process, outcome: Outcome, now: Now) -> Event {
        // Its parent may have ended since.
        let parent_comm = self.terminations.case(process.id).map(|case| case.parent_comm.clone());
        let parent_comm = parent_comm.unwrap_or_else(|| self.sources.proc().parent_comm(process));
        let subject = self.subject_of(process, parent_comm, now);
        match outcome {
            Outcome::Terminating { breach, signal } => {
                let sum = self.sums.struck(process.id).cloned();
                Event::Killing { subject, breach, signal, dry_run: false, sum }
            }
            Outcome::GraceOver { rss, first, grace, urgency } => {
                Event::GraceOver { subject, rss, first, grace, urgency }
            }
            Outcome::Gone(mut record) => {
                let sum = self.sums.struck(process.id).cloned();
                // For a victim because of a sum, the overshoot is that of the sum.
                if let (Some(sum), Some(overshoot)) = (&sum, &mut record.overshoot) {
                    *overshoot = sum.total.saturating_sub(sum.limit);
                }
                Event::Terminated { subject, record, given_back: self.given_back(process), sum }
            }
            Outcome::Spared { rss, limit, sent } => {
                let relieved = self.machine.is_victim(process.id);
                Event::Spared { subject, rss, limit, after_term: sent.is_some(), signal: sent, relieved }
            }
            Outcome::LetGo { sent } => Event::LetGo { subject, after_term: sent.is_some(), signal: sent },
            Outcome::NowProtected(protection) => Event::NowProtected { subject, protection },
            Outcome::Unsure(doubt) => Event::Unsure { subject, doubt },
            Outcome::Unconfirmed(why) => Event::Unconfirmed { pid: process.id.pid, why },
            Outcome::OutOfReach { error } => {
                Event::OutOfReach { subject, error: io::Error::from(error).to_string() }
            }
            Outcome::SignalFailed { signal, error } => {
                Event::SignalFailed { subject, signal, error: io::Error::from(error).to_string() }
            }
            Outcome::Lingers { since } => {
                let waiting = self.sources.proc().waiting(process.id.pid).ok();
                let state = waiting.as_ref().map(|waiting| waiting.state);
                let wchan = waiting.and_then(|waiting| waiting.wchan);
                let (frozen, rss) = (self.sources.proc().frozen(process.id.pid), self.resident(process.id));
                Event::Lingers { subject, since, state, wchan, frozen, rss }
            }
        }
    }
}

/// Executes `orders` by `execute`, which returns those that follow from one. A signal comes next after the look that permits
/// it: looks at other victims may take long, and the process may be another one by then.
fn in_turn(orders: Vec<Order>, mut execute: impl FnMut(Order) -> Vec<Order>) {
    let mut left = VecDeque::from(orders);
    while let Some(order) = left.pop_front() {
        for next in execute(order) {
            match next.effect {
                Effect::Send(_) => left.push_front(next),
                Effect::Open | Effect::Check | Effect::Reclaim | Effect::Report(_) => left.push_back(next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::enforce::{Course, EscalationTiming, Event, Victims, testing::process};
    use crate::model::{Breach, Limit};

    const GRACE: Duration = Duration::from_secs(5);
    const BREACH: Breach =
        Breach { rule: Limit::Gb, limit: Bytes(5), rss: Bytes(10), percent: 1.0, by: None };

    /// Executes `orders` without a look or a signal. Returns what would have been done, in short.
    fn done(victims: &mut Victims, orders: Vec<Order>, now: Instant) -> Vec<String> {
        let mut done = Vec::new();
        in_turn(orders, |Order { process, effect }| {
            let (id, pid) = (process.id, process.id.pid);
            let happened = match effect {
                Effect::Open => Event::Opened(Ok(())),
                Effect::Check => {
                    done.push(format!("look at {pid}"));
                    Event::Checked(Check::judged(id, &process, Verdict::Terminate(BREACH), BREACH.limit))
                }
                Effect::Send(warrant) => {
                    done.push(format!("{} to {pid}", warrant.signal()));
                    Event::Sent(Ok(()))
                }
                Effect::Reclaim | Effect::Report(_) => return vec![],
            };
            victims.handle(id, happened, now)
        });
        done
    }

    #[test]
    fn no_look_at_another_victim_comes_between_a_look_and_its_signal() {
        let timing = EscalationTiming { grace: GRACE, lingering: GRACE, reclaim: true };
        let (mut victims, now) = (Victims::new(timing).unwrap(), Instant::now());
        for pid in [7, 8, 9] {
            let orders = victims.start_termination(process(pid, 1), BREACH, Course::default(), now);
            done(&mut victims, orders, now);
        }
        let later = now + GRACE;
        let orders = victims.wake(later).unwrap();
        assert_eq!(
            done(&mut victims, orders, later),
            ["look at 7", "SIGKILL to 7", "look at 8", "SIGKILL to 8", "look at 9", "SIGKILL to 9"]
        );
    }
}
