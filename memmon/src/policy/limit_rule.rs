//! `[[rule]]`: other limits for some processes, and what follows.

use std::time::Duration;

use serde::Serialize;

use super::Matcher;
use crate::model::{Action, Bytes, NotifyUser, RuleName, Signal, seconds};

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitRule {
    /// Its name.
    pub name: RuleName,
    /// The processes that it is about.
    #[serde(rename = "match")]
    pub matcher: Matcher,
    /// The memory that each of them may have.
    pub limit: RuleLimit,
    /// The action on a process that has more.
    pub action: Action,
    /// The time that it must have more before the first signal: `for`.
    #[serde(rename = "for_seconds", serialize_with = "seconds::as_seconds")]
    pub lasting: Duration,
    /// The first signal.
    pub signal: Signal,
    /// Time from that to SIGKILL; `None`: `termination.grace`.
    #[serde(rename = "grace_seconds", serialize_with = "seconds::as_seconds_if_any")]
    pub grace: Option<Duration>,
    /// Multiple of its limit at which the grace period ends; `None`: `termination.hard_ceiling`; 0: no size ends it.
    pub hard_ceiling: Option<f64>,
    /// Whether these processes end before all others if the machine is short of memory.
    pub prefer: bool,
    /// The times at which their users are notified; `None`: by mail afterwards, and on the terminal at both times.
    pub notify_user: Option<NotifyUser>,
}

/// The limit of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleLimit {
    /// The limit of `[thresholds]`.
    Thresholds,
    /// `percent` of all memory, or `gb`; if both are given, the lower one. At least one is.
    Own {
        /// Above 0 and up to 100.
        percent: Option<f64>,
        /// Above 0.
        bytes: Option<Bytes>,
    },
    /// `none = true`.
    None,
}
