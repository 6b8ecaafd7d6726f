//! From the verdict to the confirmed exit: a state machine for one victim, without a syscall or a clock.
//!
//! ```text
//! open ─▶ check ─▶ SIGTERM or the rule's signal ─▶ grace ─▶ check ─▶ SIGKILL ─▶ reclaim, wait ─▶ gone
//!           │                             │                    └─ still there: reported, at growing intervals
//!           └─ shrank, protected, in doubt, cancelled: left alone, and reported; a doubt after SIGTERM is checked again
//!              until it is resolved
//! ```
//!
//! Time alone drives it, not the amount of free memory, so that a hog that ignores SIGTERM does not live for ever. A
//! stopped process cannot handle SIGTERM: it is sent SIGCONT right after it, as systemd and the shells do, and has the same
//! grace period. One that memmon itself stopped stays so, because it would take more memory; SIGKILL ends it as well.

use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::effect::{Effect, Effects, Event, Outcome};
use super::pause::{Pause, later};
use super::warrant::{Check, Evidence, Warrant};
use crate::model::{
    Breach, Bytes, Cause, Crossed, ExitStatus, ProcessId, Record, Signal, Unconfirmed, Urgency,
};

/// The next state of a victim after `event`, and the effects to execute now.
///
/// An event that answers no effect (a second exit, a check that was not ordered) changes nothing.
pub fn escalate(state: State, event: Event, now: Instant, timing: &EscalationTiming) -> (State, Effects) {
    let State { mut case, stage } = state;
    let (stage, effects) = match (stage, event) {
        (Stage::Over, _) => (Stage::Over, vec![]),
        (_, Event::Exited) => case.gone(now),
        (_, Event::Seen(rss)) => {
            case.peak = case.peak.max(rss);
            (stage, vec![])
        }

        (_, Event::Ended(exit)) => {
            case.exit = Some(exit);
            (stage, vec![])
        }

        (Stage::Opening { .. }, Event::Opened(Ok(()))) => check(case.course.signal),
        // EINVAL: the pid now is a thread's id, so no process has it.
        (Stage::Opening { .. }, Event::Opened(Err(Errno::ESRCH | Errno::EINVAL))) => case.gone(now),
        (Stage::Opening { failed }, Event::Opened(Err(error))) => {
            // Resources may come back at once, as when another victim ends.
            let pause = if error == Errno::EPERM { timing.lingering } else { RESOURCES };
            let known = failed.is_some_and(|(before, _)| before == error);
            let again = failed
                .filter(|_| known)
                .map_or_else(|| Pause::new(now, pause), |(_, pause)| pause.longer(now));
            let report = (!known).then_some(Effect::Report(Outcome::OutOfReach { error }));
            (Stage::Unopened { error, again }, report.into_iter().collect())
        }
        (Stage::Unopened { error, again }, Event::Tick) if again.is_over(now) => {
            (Stage::Opening { failed: Some((error, again)) }, vec![Effect::Open])
        }

        (Stage::Checking { next, leaving, doubt }, Event::Checked(check)) => {
            match (check, case.first) {
                // After SIGTERM, a doubt that may soon be resolved is no reason to spare it, and none to signal it.
                (Check::Unsure(why), Some(_)) if why.is_transient() => {
                    in_doubt(Outcome::Unsure(why), next, leaving, doubt, now)
                }
                (Check::Unconfirmed(why), Some(_)) if why.is_transient() => {
                    in_doubt(Outcome::Unconfirmed(why), next, leaving, doubt, now)
                }
                (check, _) => weigh(&mut case, check, next, leaving, now, timing),
            }
        }
        (Stage::InDoubt { next, leaving, again }, Event::Tick) if again.is_over(now) => {
            (Stage::Checking { next, leaving, doubt: Some(again) }, vec![Effect::Check])
        }
        (Stage::Leaving { next, again }, Event::Tick) if again.is_over(now) => {
            (Stage::Checking { next, leaving: Some(again), doubt: None }, vec![Effect::Check])
        }

        (Stage::Sending { .. }, Event::Sent(Err(Errno::ESRCH))) => case.gone(now),
        (Stage::Sending { signal, .. }, Event::Sent(Err(error))) => {
            (Stage::Refused, vec![Effect::Report(Outcome::SignalFailed { signal, error })])
        }
        (Stage::Sending { signal: Signal::Kill, breach }, Event::Sent(Ok(()))) => {
            let grace = case.since_first(now);
            case.kill = Some(Sent { at: now, rss: breach.rss });
            let reclaim = timing.reclaim.then_some(Effect::Reclaim);
            let report = Effect::Report(Outcome::GraceOver {
                rss: breach.rss,
                first: case.course.signal,
                grace,
                urgency: case.urgency,
            });
            (
                Stage::Killed { next_report: Pause::new(now, timing.lingering) },
                reclaim.into_iter().chain([report]).collect(),
            )
        }
        (Stage::Sending { signal, breach }, Event::Sent(Ok(()))) => {
            case.first = Some(Sent { at: now, rss: breach.rss });
            (
                Stage::Grace { until: later(now, case.course.grace.unwrap_or(timing.grace)) },
                vec![Effect::Report(Outcome::Terminating { breach, signal })],
            )
        }

        (Stage::Grace { until }, Event::Tick) if now >= until => check(Signal::Kill),
        (Stage::Grace { .. }, Event::Urgent(urgency)) => {
            case.urgency = Some(urgency);
            check(Signal::Kill)
        }
        (Stage::Killed { .. }, Event::Reclaimed(outcome)) => {
            case.reclaimed = outcome.ok().map(|left| Reclaimed { at: now, left });
            (stage, vec![])
        }
        (Stage::Killed { next_report }, Event::Tick) if next_report.is_over(now) => {
            let since = case.kill.map_or(Duration::ZERO, |kill| now.saturating_duration_since(kill.at));
            (
                Stage::Killed { next_report: next_report.longer(now) },
                vec![Effect::Report(Outcome::Lingers { since })],
            )
        }

        // Under other rules this may be possible, or no longer wanted: the next scan decides.
        (Stage::Refused | Stage::Unopened { .. }, Event::RulesChanged | Event::CalledOff) => {
            (Stage::Over, vec![])
        }
        // SIGKILL cannot be cancelled: only the exit is left to wait for.
        (Stage::Killed { .. }, Event::CalledOff) => (stage, vec![]),
        (_, Event::CalledOff) => (Stage::Over, vec![Effect::Report(Outcome::LetGo { sent: case.sent() })]),
        _ => (stage, vec![]),
    };
    (State { case, stage }, effects)
}

fn check(next: Signal) -> (Stage, Effects) {
    (Stage::Checking { next, leaving: None, doubt: None }, vec![Effect::Check])
}

/// Reports a doubt once, and schedules the next check, at growing intervals.
fn in_doubt(
    outcome: Outcome,
    next: Signal,
    leaving: Option<Pause>,
    doubt: Option<Pause>,
    now: Instant,
) -> (Stage, Effects) {
    let again = doubt.map_or_else(|| Pause::new(now, DOUBT), |pause| pause.longer(now));
    let report = doubt.is_none().then_some(Effect::Report(outcome));
    (Stage::InDoubt { next, leaving, again }, report.into_iter().collect())
}

/// Decides after a fresh check before the signal `next`. `leaving`: the last wait for a process that seemed to be exiting.
fn weigh(
    case: &mut Case,
    check: Check,
    next: Signal,
    leaving: Option<Pause>,
    now: Instant,
    timing: &EscalationTiming,
) -> (Stage, Effects) {
    let leave_alone = |outcome| (Stage::Over, vec![Effect::Report(outcome)]);
    match check {
        Check::StillOver(evidence) if evidence.process == case.id => {
            let breach = evidence.breach;
            case.peak = case.peak.max(breach.rss);
            (Stage::Sending { signal: next, breach }, vec![Effect::Send(Warrant::new(next, evidence))])
        }
        Check::StillOver(evidence) => leave_alone(Outcome::Unconfirmed(Unconfirmed::AnotherProcess {
            pid: evidence.process.pid,
            expected: case.id.start,
            found: evidence.process.start,
        })),
        // An exiting process frees its memory before its pidfd is readable, and disappears from /proc only after that. To free
        // much of it takes long, and a process without any never comes back: after a signal, only its end is waited for.
        Check::Within { rss: Bytes::ZERO, .. } | Check::Unconfirmed(Unconfirmed::Gone)
            if leaving.is_none() || case.first.is_some() =>
        {
            let again = leaving.map_or_else(|| Pause::new(now, timing.lingering), |pause| pause.longer(now));
            (Stage::Leaving { next, again }, vec![])
        }
        Check::Within { rss, limit } => leave_alone(Outcome::Spared { rss, limit, sent: case.sent() }),
        Check::Protected(protection) => leave_alone(Outcome::NowProtected(protection)),
        Check::Unsure(doubt) => leave_alone(Outcome::Unsure(doubt)),
        // It was the right process when it was sent SIGTERM: it has ended, and another one has its pid.
        Check::Unconfirmed(Unconfirmed::AnotherProcess { .. }) if case.first.is_some() => case.gone(now),
        Check::Unconfirmed(why) => leave_alone(Outcome::Unconfirmed(why)),
    }
}

/// Time until the first check after a doubt.
const DOUBT: Duration = Duration::from_millis(100);

/// Time until a process that could not be opened for a lack of resources is opened again.
const RESOURCES: Duration = Duration::from_millis(10);

/// Waiting times of a termination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscalationTiming {
    /// Time from SIGTERM to SIGKILL: `termination.grace`.
    pub grace: Duration,
    /// Time that a process may take to exit before it is checked again or reported; it grows with each repetition.
    pub lingering: Duration,
    /// Whether to free a killed process's memory before its exit: `termination.reclaim`.
    pub reclaim: bool,
}

/// The settings of a rule for a termination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The first signal.
    pub signal: Signal,
    /// Time from it to SIGKILL; `None`: [`EscalationTiming::grace`].
    pub grace: Option<Duration>,
}

/// The state of one victim.
#[derive(Clone, Copy, Debug)]
pub struct State {
    case: Case,
    stage: Stage,
}

impl State {
    /// Starts the termination of a process for `breach`, with the first signal and the grace of `course`.
    pub fn start_termination(id: ProcessId, breach: Breach, course: Course) -> (Self, Effects) {
        (
            Self { case: Case::new(id, breach, None, course), stage: Stage::Opening { failed: None } },
            vec![Effect::Open],
        )
    }

    /// The same for a process that was opened, and confirmed after that: the first signal is next, without another check.
    pub fn start_opened(evidence: Evidence, crossed: Option<Crossed>, course: Course) -> (Self, Effects) {
        let Evidence { process: id, breach } = evidence;
        let stage = Stage::Sending { signal: course.signal, breach };
        let send = Effect::Send(Warrant::new(course.signal, evidence));
        (Self { case: Case::new(id, breach, crossed, course), stage }, vec![send])
    }

    /// Time of the next [`Event::Tick`], if the state waits for a time.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Grace { until } => Some(until),
            Stage::Unopened { again: pause, .. }
            | Stage::InDoubt { again: pause, .. }
            | Stage::Leaving { again: pause, .. }
            | Stage::Killed { next_report: pause } => Some(pause.until),
            Stage::Opening { .. } | Stage::Checking { .. } | Stage::Sending { .. } => None,
            Stage::Refused | Stage::Over => None,
        }
    }

    /// Whether the termination is over.
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether a signal was refused: nothing follows until the rules change or the process ends.
    pub const fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    /// The phase of the termination.
    pub const fn phase(&self) -> Phase {
        match (self.stage, self.case.first, self.case.kill) {
            (Stage::Refused | Stage::Unopened { error: Errno::EPERM, .. }, ..) => Phase::OutOfReach,
            (Stage::Unopened { .. }, ..) => Phase::Unopened,
            (.., Some(kill)) => Phase::Killed { since: kill.at },
            (Stage::Grace { until }, Some(first), _) => Phase::Grace { since: first.at, until },
            _ => Phase::Confirming,
        }
    }
}

/// Phase of a termination, for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The process is being checked before the next signal.
    Confirming,
    /// SIGTERM was sent.
    Grace {
        /// Time of SIGTERM.
        since: Instant,
        /// End of the grace period.
        until: Instant,
    },
    /// SIGKILL was sent, and the process still exists.
    Killed {
        /// Time of SIGKILL.
        since: Instant,
    },
    /// The process could not be opened for a lack of resources, which was reported: it is tried again.
    Unopened,
    /// The process may not be opened or signalled, which was reported.
    OutOfReach,
}

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Facts about a victim at any stage, for its [`Record`].
#[derive(Clone, Copy, Debug)]
struct Case {
    id: ProcessId,
    breach: Breach,
    course: Course,
    peak: Bytes,
    first: Option<Sent>,
    kill: Option<Sent>,
    crossed: Option<Crossed>,
    urgency: Option<Urgency>,
    reclaimed: Option<Reclaimed>,
    exit: Option<ExitStatus>,
}

/// A sent signal, with the process's resident memory right before.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    rss: Bytes,
}

/// The result of process_mrelease(2).
#[derive(Clone, Copy, Debug)]
struct Reclaimed {
    at: Instant,
    left: Option<Bytes>,
}

impl Case {
    const fn new(id: ProcessId, breach: Breach, crossed: Option<Crossed>, course: Course) -> Self {
        let (first, kill, urgency, reclaimed, exit) = (None, None, None, None, None);
        Self { id, breach, course, peak: breach.rss, first, kill, crossed, urgency, reclaimed, exit }
    }

    fn gone(&self, now: Instant) -> (Stage, Effects) {
        let freed = self.freed();
        let record = Record {
            breach: self.breach,
            signal: self.sent(),
            rss_at_crossing: self.crossed.map(|crossed| crossed.rss),
            crossing_to_signal: self
                .crossed
                .zip(self.first)
                .map(|(crossed, first)| first.at.saturating_duration_since(crossed.at)),
            rss_at_term: self.first.map(|sent| sent.rss),
            rss_at_kill: self.kill.map(|sent| sent.rss),
            peak: self.peak,
            overshoot: self.first.map(|sent| sent.rss.saturating_sub(self.breach.limit)),
            signal_to_exit: self.since_first(now),
            signal_to_memory: self.since_first(freed.unwrap_or(now)),
            urgency: self.urgency,
            cause: self.cause(),
            reclaimed: freed.is_some(),
            rss_after_reclaim: self.reclaimed.and_then(|reclaimed| reclaimed.left),
            exit: self.exit,
        };
        (Stage::Over, vec![Effect::Report(Outcome::Gone(record))])
    }

    /// Cause of its end: from the kernel's exit status if there is one, otherwise from the sent signals.
    fn cause(&self) -> Cause {
        let ours = match (self.first, self.kill) {
            (_, Some(_)) => Cause::Kill,
            (Some(_), None) => Cause::Term,
            (None, None) => Cause::Itself,
        };
        match self.exit {
            Some(ExitStatus { oom: true, .. }) => Cause::OomKiller,
            Some(ExitStatus { signal: Some(SIGKILL), .. }) if self.kill.is_none() => Cause::SomebodyElse,
            Some(ExitStatus { signal: Some(SIGTERM), .. }) if self.first.is_none() => Cause::SomebodyElse,
            // The process was exiting already when SIGKILL came.
            Some(ExitStatus { signal, .. }) if self.kill.is_some() && signal != Some(SIGKILL) => Cause::Term,
            _ => ours,
        }
    }

    /// The time at which `process_mrelease` had freed the victim's memory, if it did. The call also succeeds if it frees
    /// little: shared and secret memory stays until the exit.
    fn freed(&self) -> Option<Instant> {
        const ALL_BUT: u64 = 20;
        let (Reclaimed { at, left }, kill) = (self.reclaimed?, self.kill?);
        (left?.0 <= kill.rss.0 / ALL_BUT).then_some(at)
    }

    /// The first signal, if it was sent.
    fn sent(&self) -> Option<Signal> {
        self.first.map(|_| self.course.signal)
    }

    fn since_first(&self, now: Instant) -> Duration {
        self.first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first.at))
    }
}

/// Stage of a termination, named for what it waits for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Waits for the pidfd. `failed` has the error of the last attempt, if there was one.
    Opening { failed: Option<(Errno, Pause)> },
    /// Waits to open again, because there were no descriptors or no memory left.
    Unopened { error: Errno, again: Pause },
    /// Waits for a check before the signal `next`. `leaving` is set if the process seemed to be exiting at an earlier check,
    /// `doubt` if the previous one left a doubt.
    Checking { next: Signal, leaving: Option<Pause>, doubt: Option<Pause> },
    /// Waits for the next check, because the last one left a doubt.
    InDoubt { next: Signal, leaving: Option<Pause>, again: Pause },
    /// Waits for the result of a signal that was sent for `breach`.
    Sending { signal: Signal, breach: Breach },
    /// Waits for the end of the grace period.
    Grace { until: Instant },
    /// Waits for the exit or the next check: the process seems to be exiting by itself.
    Leaving { next: Signal, again: Pause },
    /// Waits for the exit after SIGKILL, or for the time to report that the process still exists.
    Killed { next_report: Pause },
    /// Waits for the exit or for other rules: a signal was refused, and the next one would be refused, too.
    Refused,
    /// Waits for nothing.
    Over,
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
