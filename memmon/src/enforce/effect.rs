//! Input and output of a victim's state machine: events, effects and outcomes.

use std::time::Duration;

use nix::errno::Errno;

use super::warrant::{Check, Warrant};
use crate::model::{Breach, Bytes, Doubt, ExitStatus, Protection, Record, Signal, Unconfirmed, Urgency};

/// An event for a victim: the answer to an [`Effect`], or something else that happened.
#[derive(Debug)]
pub enum Event {
    /// Answers [`Effect::Open`].
    Opened(Result<(), Errno>),
    /// Answers [`Effect::Check`].
    Checked(Check),
    /// Answers [`Effect::Send`].
    Sent(Result<(), Errno>),
    /// Answers [`Effect::Reclaim`], at some later time, with the process's resident memory after it; `None` if that could
    /// no longer be read.
    Reclaimed(Result<Option<Bytes>, Errno>),
    /// Its pidfd became readable.
    Exited,
    /// A scan or wake read this resident memory.
    Seen(Bytes),
    /// The kernel reported its exit status; [`Event::Exited`] follows.
    Ended(ExitStatus),
    /// Time has passed: [`State::deadline`](super::State::deadline) may have come.
    Tick,
    /// The grace period ends now.
    Urgent(Urgency),
    /// Another configuration is in force.
    RulesChanged,
    /// All terminations are cancelled: dry run.
    CalledOff,
}

/// Effects to execute for a victim, in order.
pub type Effects = Vec<Effect>;

/// An effect to execute for a victim.
#[derive(Debug)]
pub enum Effect {
    /// Open its pidfd and watch it.
    Open,
    /// Confirm its identity, measure it and judge it again. Its pidfd is already open, so its start time shows whether
    /// the pid was used again.
    Check,
    /// Send a signal through its pidfd.
    Send(Warrant),
    /// Free its memory before its exit (process_mrelease), without waiting.
    Reclaim,
    /// Report an outcome.
    Report(Outcome),
}

/// Outcome of a step, or of the whole termination.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was sent its first signal.
    Terminating {
        /// Breach as measured right before.
        breach: Breach,
        /// The signal.
        signal: Signal,
    },
    /// It was sent SIGKILL.
    GraceOver {
        /// Resident memory right before.
        rss: Bytes,
        /// The first signal.
        first: Signal,
        /// Time since then.
        grace: Duration,
        /// Reason why the grace period ended early, if it did.
        urgency: Option<Urgency>,
    },
    /// It ended.
    Gone(Record),
    /// It is left alone: it shrank below its limit.
    Spared {
        /// Its resident memory.
        rss: Bytes,
        /// Its limit.
        limit: Bytes,
        /// The first signal, if it was sent.
        sent: Option<Signal>,
    },
    /// It is left alone: all terminations are cancelled.
    LetGo {
        /// The first signal, if it was sent.
        sent: Option<Signal>,
    },
    /// It is left alone: a rule protects it.
    NowProtected(Protection),
    /// A rule that might protect it could not be checked. It is left alone; after SIGTERM, until the next check.
    Unsure(Doubt),
    /// It could not be confirmed. It is left alone; after SIGTERM, if it was unreadable, until the next check.
    Unconfirmed(Unconfirmed),
    /// It could not be opened. This is tried again at growing intervals, and reported again if the error changes.
    OutOfReach {
        /// The error.
        error: Errno,
    },
    /// A signal was refused. It is not tried again until other rules are in force.
    SignalFailed {
        /// The signal.
        signal: Signal,
        /// The error.
        error: Errno,
    },
    /// It still exists after SIGKILL.
    Lingers {
        /// Time since SIGKILL.
        since: Duration,
    },
}

impl Outcome {
    /// Whether the next check may have another outcome without another change.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unsure(doubt) => doubt.is_transient(),
            Self::Unconfirmed(why) => why.is_transient(),
            _ => false,
        }
    }
}
