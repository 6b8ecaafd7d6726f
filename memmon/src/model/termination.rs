//! How a termination went: the signals, and what is kept of each.

use std::time::Duration;

use serde::Serialize;

use super::{Breach, Bytes};

/// The two signals that memmon ever sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Signal {
    /// A request that can be handled: save and leave.
    #[serde(rename = "SIGTERM")]
    Term,
    /// The end, which cannot be.
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// How a victim came to its end, as far as memmon can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// After SIGTERM, within the grace.
    Term,
    /// After SIGKILL.
    Kill,
    /// It was gone before memmon sent anything.
    Itself,
}

/// The record of one termination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// What it had exceeded, when it was condemned.
    #[serde(flatten)]
    pub breach: Breach,
    /// Measured right before SIGTERM.
    #[serde(rename = "rss_at_term_bytes")]
    pub rss_at_term: Option<Bytes>,
    /// Measured right before SIGKILL.
    #[serde(rename = "rss_at_kill_bytes")]
    pub rss_at_kill: Option<Bytes>,
    /// The most that was seen of it.
    #[serde(rename = "peak_bytes")]
    pub peak: Bytes,
    /// First signal to confirmed exit.
    #[serde(rename = "signal_to_exit_seconds", serialize_with = "as_seconds")]
    pub signal_to_exit: Duration,
    /// What ended it.
    pub cause: Cause,
    /// Whether `process_mrelease` freed its memory ahead of its exit.
    pub reclaimed: bool,
}

impl Record {
    /// By how much its peak was above its limit.
    pub const fn overshoot(&self) -> Bytes {
        self.peak.saturating_sub(self.breach.limit)
    }
}

fn as_seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
