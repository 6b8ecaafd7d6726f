//! From the verdict to the confirmed exit: a state machine for one victim, without a syscall or a clock.
//!
//! ```text
//! open ─▶ check ─▶ SIGTERM ─▶ grace ─▶ check ─▶ SIGKILL ─▶ reclaim, wait ─▶ gone
//!           │                             │                    └─ still there: said, ever more rarely
//!           └─ shrank, protected, in doubt, called off: left alone, and that is said; who is in doubt only after SIGTERM
//!              is looked at again until it is not
//! ```
//!
//! Time alone moves it on, never the amount of free memory: a hog that ignores SIGTERM does not live for ever. A
//! stopped process keeps SIGTERM pending and has the same grace; SIGKILL ends it all the same. SIGCONT is never sent,
//! since resuming what somebody stopped is not for memmon to decide.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::warrant::{Check, Evidence, Warrant};
use crate::model::{
    Breach, Bytes, Cause, Crossed, Doubt, ExitStatus, ProcessId, Protection, Record, Signal, Unconfirmed,
    Urgency,
};

/// What is next for a victim after `event`, and what is to be done for it now.
///
/// An event that is no answer to anything (a second exit, a check that nobody asked for) changes nothing.
pub fn escalate(state: State, event: Event, now: Instant, patience: &EscalationTiming) -> (State, Effects) {
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

        (Stage::Opening { .. }, Event::Opened(Ok(()))) => check(Signal::Term),
        // EINVAL: the number is a thread's now, so no process has it.
        (Stage::Opening { .. }, Event::Opened(Err(Errno::SRCH | Errno::INVAL))) => case.gone(now),
        (Stage::Opening { failed }, Event::Opened(Err(error))) => {
            let again =
                failed.map_or_else(|| Pause::new(now, patience.lingering), |(_, pause)| pause.longer(now));
            let known = failed.is_some_and(|(before, _)| before == error);
            let tell = (!known).then_some(Effect::Report(Outcome::OutOfReach { error }));
            (Stage::Unopened { error, again }, tell.into_iter().collect())
        }
        (Stage::Unopened { error, again }, Event::Tick) if again.is_over(now) => {
            (Stage::Opening { failed: Some((error, again)) }, vec![Effect::Open])
        }

        (Stage::Checking { next, last, doubt }, Event::Checked(check)) => {
            match (check, case.term) {
                // It had its SIGTERM: what may be over soon is no reason to let it go, and none to signal.
                (Check::Unsure(why), Some(_)) if why.is_transient() => {
                    in_doubt(Outcome::Unsure(why), next, last, doubt, now)
                }
                (Check::Unconfirmed(why), Some(_)) if why.is_transient() => {
                    in_doubt(Outcome::Unconfirmed(why), next, last, doubt, now)
                }
                (check, _) => weigh(&mut case, check, next, last, now, patience),
            }
        }
        (Stage::InDoubt { next, last, again }, Event::Tick) if again.is_over(now) => {
            (Stage::Checking { next, last, doubt: Some(again) }, vec![Effect::Check])
        }
        (Stage::Leaving { next, until }, Event::Tick) if now >= until => {
            (Stage::Checking { next, last: true, doubt: None }, vec![Effect::Check])
        }

        (Stage::Sending { .. }, Event::Sent(Err(Errno::SRCH))) => case.gone(now),
        (Stage::Sending { signal, .. }, Event::Sent(Err(error))) => {
            (Stage::Refused, vec![Effect::Report(Outcome::SignalFailed { signal, error })])
        }
        (Stage::Sending { signal: Signal::Term, breach }, Event::Sent(Ok(()))) => {
            case.term = Some(Sent { at: now, rss: breach.rss });
            (
                Stage::Grace { until: later(now, patience.grace) },
                vec![Effect::Report(Outcome::Terminating { breach })],
            )
        }
        (Stage::Sending { signal: Signal::Kill, breach }, Event::Sent(Ok(()))) => {
            let grace = case.since_term(now);
            case.kill = Some(Sent { at: now, rss: breach.rss });
            let reclaim = patience.reclaim.then_some(Effect::Reclaim);
            let tell = Effect::Report(Outcome::GraceOver { rss: breach.rss, grace, urgency: case.urgency });
            (
                Stage::Killed { tell: Pause::new(now, patience.lingering) },
                reclaim.into_iter().chain([tell]).collect(),
            )
        }

        (Stage::Grace { until }, Event::Tick) if now >= until => check(Signal::Kill),
        (Stage::Grace { .. }, Event::Urgent(urgency)) => {
            case.urgency = Some(urgency);
            check(Signal::Kill)
        }
        (Stage::Killed { .. }, Event::Reclaimed(outcome)) => {
            case.reclaimed = outcome.is_ok().then_some(now);
            (stage, vec![])
        }
        (Stage::Killed { tell }, Event::Tick) if tell.is_over(now) => {
            let since = case.kill.map_or(Duration::ZERO, |kill| now.saturating_duration_since(kill.at));
            (Stage::Killed { tell: tell.longer(now) }, vec![Effect::Report(Outcome::Lingers { since })])
        }

        // What could not be done may be possible, or not asked for, under other rules: the next scan finds out.
        (Stage::Refused | Stage::Unopened { .. }, Event::RulesChanged | Event::CalledOff) => {
            (Stage::Over, vec![])
        }
        // SIGKILL cannot be taken back: what is left is to see its end.
        (Stage::Killed { .. }, Event::CalledOff) => (stage, vec![]),
        (_, Event::CalledOff) => {
            (Stage::Over, vec![Effect::Report(Outcome::LetGo { after_term: case.term.is_some() })])
        }
        _ => (stage, vec![]),
    };
    (State { case, stage }, effects)
}

fn check(next: Signal) -> (Stage, Effects) {
    (Stage::Checking { next, last: false, doubt: None }, vec![Effect::Check])
}

/// A doubt is told once, and looked at ever more rarely.
fn in_doubt(
    outcome: Outcome,
    next: Signal,
    last: bool,
    doubt: Option<Pause>,
    now: Instant,
) -> (Stage, Effects) {
    let again = doubt.map_or_else(|| Pause::new(now, DOUBT), |pause| pause.longer(now));
    let tell = doubt.is_none().then_some(Effect::Report(outcome));
    (Stage::InDoubt { next, last, again }, tell.into_iter().collect())
}

/// What follows from a fresh look before the signal `next`. `last`: a process on its way out was waited for already.
fn weigh(
    case: &mut Case,
    check: Check,
    next: Signal,
    last: bool,
    now: Instant,
    patience: &EscalationTiming,
) -> (Stage, Effects) {
    let leave_alone = |outcome| (Stage::Over, vec![Effect::Report(outcome)]);
    match check {
        Check::StillOver(evidence) if evidence.process == case.whom => {
            let breach = evidence.breach;
            case.peak = case.peak.max(breach.rss);
            (Stage::Sending { signal: next, breach }, vec![Effect::Send(Warrant::new(next, evidence))])
        }
        Check::StillOver(evidence) => leave_alone(Outcome::Unconfirmed(Unconfirmed::AnotherProcess {
            pid: evidence.process.pid,
            expected: case.whom.start,
            found: evidence.process.start,
        })),
        // A process that is exiting has given up its memory before its pidfd says so, and is out of /proc only after.
        Check::Within { rss: Bytes::ZERO, .. } | Check::Unconfirmed(Unconfirmed::Gone) if !last => {
            (Stage::Leaving { next, until: later(now, patience.lingering) }, vec![])
        }
        Check::Within { rss, limit } => {
            leave_alone(Outcome::Spared { rss, limit, after_term: case.term.is_some() })
        }
        Check::Protected(protection) => leave_alone(Outcome::NowProtected(protection)),
        Check::Unsure(doubt) => leave_alone(Outcome::Unsure(doubt)),
        // It was itself when it was sent SIGTERM: it ended, and another one has its number.
        Check::Unconfirmed(Unconfirmed::AnotherProcess { .. }) if case.term.is_some() => case.gone(now),
        Check::Unconfirmed(why) => leave_alone(Outcome::Unconfirmed(why)),
    }
}

/// How long until the first look at one that was in doubt.
const DOUBT: Duration = Duration::from_millis(100);

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscalationTiming {
    /// From SIGTERM to SIGKILL: `termination.grace`.
    pub grace: Duration,
    /// How long a process may be on its way out before it is looked at again or talked about; repeated ever more
    /// rarely.
    pub lingering: Duration,
    /// Whether to free a killed process's memory ahead of its exit: `termination.reclaim`.
    pub reclaim: bool,
}

/// One victim on its way.
#[derive(Clone, Copy, Debug)]
pub struct State {
    case: Case,
    stage: Stage,
}

impl State {
    /// A process that policy wants terminated: `breach` is what it was condemned for.
    pub fn start_termination(whom: ProcessId, breach: Breach) -> (Self, Effects) {
        (
            Self { case: Case::new(whom, breach, None), stage: Stage::Opening { failed: None } },
            vec![Effect::Open],
        )
    }

    /// The same for one that was opened, and looked at after that: SIGTERM is next, without another look.
    pub fn start_opened(evidence: Evidence, crossed: Option<Crossed>) -> (Self, Effects) {
        let Evidence { process: whom, breach } = evidence;
        let stage = Stage::Sending { signal: Signal::Term, breach };
        let send = Effect::Send(Warrant::new(Signal::Term, evidence));
        (Self { case: Case::new(whom, breach, crossed), stage }, vec![send])
    }

    /// When it wants an [`Event::Tick`], if time alone moves it on.
    pub const fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Grace { until } | Stage::Leaving { until, .. } => Some(until),
            Stage::Unopened { again: pause, .. }
            | Stage::InDoubt { again: pause, .. }
            | Stage::Killed { tell: pause } => Some(pause.until),
            Stage::Opening { .. } | Stage::Checking { .. } | Stage::Sending { .. } => None,
            Stage::Refused | Stage::Over => None,
        }
    }

    /// Whether nothing is left to be done or to be remembered.
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether a signal was refused: nothing follows before the rules change, or it ends.
    pub const fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    /// How far it has come.
    pub const fn phase(&self) -> Phase {
        match (self.stage, self.case.term, self.case.kill) {
            (Stage::Refused | Stage::Unopened { .. }, ..) => Phase::OutOfReach,
            (.., Some(kill)) => Phase::Killed { since: kill.at },
            (Stage::Grace { until }, Some(term), _) => Phase::Grace { since: term.at, until },
            _ => Phase::Confirming,
        }
    }
}

/// How far a termination has come, for whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is being looked at before the next signal.
    Confirming,
    /// SIGTERM was sent.
    Grace {
        /// When.
        since: Instant,
        /// When its time is up.
        until: Instant,
    },
    /// SIGKILL was sent, and it is still there.
    Killed {
        /// When.
        since: Instant,
    },
    /// It could not be opened or signalled; that was said.
    OutOfReach,
}

const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// What is known of a victim, whatever its stage: the makings of its [`Record`].
#[derive(Clone, Copy, Debug)]
struct Case {
    whom: ProcessId,
    breach: Breach,
    peak: Bytes,
    term: Option<Sent>,
    kill: Option<Sent>,
    crossed: Option<Crossed>,
    urgency: Option<Urgency>,
    reclaimed: Option<Instant>,
    exit: Option<ExitStatus>,
}

/// A signal that was sent, and what its receiver had resident right before.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    rss: Bytes,
}

impl Case {
    const fn new(whom: ProcessId, breach: Breach, crossed: Option<Crossed>) -> Self {
        let (term, kill, urgency, reclaimed, exit) = (None, None, None, None, None);
        Self { whom, breach, peak: breach.rss, term, kill, crossed, urgency, reclaimed, exit }
    }

    fn gone(&self, now: Instant) -> (Stage, Effects) {
        let record = Record {
            breach: self.breach,
            rss_at_crossing: self.crossed.map(|crossed| crossed.rss),
            crossing_to_signal: self
                .crossed
                .zip(self.term)
                .map(|(crossed, term)| term.at.saturating_duration_since(crossed.at)),
            rss_at_term: self.term.map(|sent| sent.rss),
            rss_at_kill: self.kill.map(|sent| sent.rss),
            peak: self.peak,
            overshoot: self.term.map(|sent| sent.rss.saturating_sub(self.breach.limit)),
            signal_to_exit: self.since_term(now),
            signal_to_memory: self.since_term(self.reclaimed.unwrap_or(now)),
            urgency: self.urgency,
            cause: self.cause(),
            reclaimed: self.reclaimed.is_some(),
            exit: self.exit,
        };
        (Stage::Over, vec![Effect::Report(Outcome::Gone(record))])
    }

    /// Who ended it: the kernel's word where there is one, what was sent otherwise.
    fn cause(&self) -> Cause {
        let ours = match (self.term, self.kill) {
            (_, Some(_)) => Cause::Kill,
            (Some(_), None) => Cause::Term,
            (None, None) => Cause::Itself,
        };
        match self.exit {
            Some(ExitStatus { oom: true, .. }) => Cause::OomKiller,
            Some(ExitStatus { signal: Some(SIGKILL), .. }) if self.kill.is_none() => Cause::SomebodyElse,
            Some(ExitStatus { signal: Some(SIGTERM), .. }) if self.term.is_none() => Cause::SomebodyElse,
            // SIGKILL came too late for one that was on its way out already.
            Some(ExitStatus { signal, .. }) if self.kill.is_some() && signal != Some(SIGKILL) => Cause::Term,
            _ => ours,
        }
    }

    fn since_term(&self, now: Instant) -> Duration {
        self.term.map_or(Duration::ZERO, |term| now.saturating_duration_since(term.at))
    }
}

/// What a victim waits for.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Its pidfd; before that, opening may have `failed`.
    Opening { failed: Option<(Errno, Pause)> },
    /// The time to try opening again: descriptors or memory are short.
    Unopened { error: Errno, again: Pause },
    /// A fresh look, before the signal `next`; `last` if it was on its way out at an earlier one, `doubt` if it was in
    /// doubt at the one before.
    Checking { next: Signal, last: bool, doubt: Option<Pause> },
    /// The time for another look, as that one left a doubt.
    InDoubt { next: Signal, last: bool, again: Pause },
    /// The outcome of a signal, for which `breach` was the reason.
    Sending { signal: Signal, breach: Breach },
    /// The end of the grace.
    Grace { until: Instant },
    /// Its exit, or the time for another look: it seems to be on its way out by itself.
    Leaving { next: Signal, until: Instant },
    /// Its exit after SIGKILL; `tell` is when to say that it lingers.
    Killed { tell: Pause },
    /// Its exit or other rules: a signal was refused, and the next one would be too.
    Refused,
    /// Nothing.
    Over,
}

/// A pause that doubles, up to 64 times its first length.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    length: Duration,
    doublings: u8,
}

impl Pause {
    fn new(now: Instant, length: Duration) -> Self {
        Self { until: later(now, length), length, doublings: 0 }
    }

    fn longer(self, now: Instant) -> Self {
        let doublings = (self.doublings + 1).min(6);
        Self { until: later(now, self.length.saturating_mul(1 << doublings)), doublings, ..self }
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}

/// `now + wait`, where a wait beyond a year is a year: `Instant` panics past its end.
fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 60 * 60))
}

/// What happened to a victim: the answer to an [`Effect`], or something of its own.
#[derive(Debug)]
pub enum Event {
    /// Answers [`Effect::Open`].
    Opened(Result<(), Errno>),
    /// Answers [`Effect::Check`].
    Checked(Check),
    /// Answers [`Effect::Send`].
    Sent(Result<(), Errno>),
    /// Answers [`Effect::Reclaim`], in its own time.
    Reclaimed(Result<(), Errno>),
    /// Its pidfd became readable.
    Exited,
    /// It was met with this much resident.
    Seen(Bytes),
    /// The kernel said how it ended; [`Event::Exited`] follows.
    Ended(ExitStatus),
    /// Time went by: [`State::deadline`] may have come.
    Tick,
    /// The grace ends now.
    Urgent(Urgency),
    /// Another configuration is in force.
    RulesChanged,
    /// No signal is to be sent any more, to nobody: dry run.
    CalledOff,
}

/// What is to be done for a victim, in order.
pub type Effects = Vec<Effect>;

/// Something to be done for a victim.
#[derive(Debug)]
pub enum Effect {
    /// Open its pidfd and watch it.
    Open,
    /// Confirm who it is, measure it and judge it again: its pidfd is open by now, so a pid that was used again
    /// shows by its start time.
    Check,
    /// Send this through its pidfd.
    Send(Warrant),
    /// Free its memory ahead of its exit (process_mrelease), without waiting.
    Reclaim,
    /// Say this.
    Report(Outcome),
}

/// What became of a victim, so far or for good.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was sent SIGTERM.
    Terminating {
        /// As measured right before.
        breach: Breach,
    },
    /// It was sent SIGKILL.
    GraceOver {
        /// As measured right before.
        rss: Bytes,
        /// The time it had since SIGTERM.
        grace: Duration,
        /// Why that was not all of its grace, if it was not.
        urgency: Option<Urgency>,
    },
    /// It ended.
    Gone(Record),
    /// It is left alone: it shrank below its limit.
    Spared {
        /// What it has resident.
        rss: Bytes,
        /// What it may have.
        limit: Bytes,
        /// Whether it was sent SIGTERM.
        after_term: bool,
    },
    /// It is left alone: nobody is terminated any more.
    LetGo {
        /// Whether it was sent SIGTERM.
        after_term: bool,
    },
    /// It is left alone: a rule protects it.
    NowProtected(Protection),
    /// A rule that might protect it could not be checked. It is left alone, after SIGTERM until the next look.
    Unsure(Doubt),
    /// It could not be confirmed. It is left alone, after SIGTERM until the next look if it was not to be read.
    Unconfirmed(Unconfirmed),
    /// It could not be opened. That is tried again, ever more rarely, and said again if the error changes.
    OutOfReach {
        /// Why.
        error: Errno,
    },
    /// A signal was refused. It is not tried again before other rules are in force.
    SignalFailed {
        /// Which.
        signal: Signal,
        /// Why.
        error: Errno,
    },
    /// It is still there after SIGKILL.
    Lingers {
        /// How long after.
        since: Duration,
    },
}

impl Outcome {
    /// Whether what it says may be over at the next look.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unsure(doubt) => doubt.is_transient(),
            Self::Unconfirmed(why) => why.is_transient(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
