//! How a termination went: the signals, and what is kept of each.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    Breach, Bytes,
    seconds::{as_seconds, as_seconds_if_any},
};

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
    /// By itself: it exited, or crashed, before memmon sent anything.
    Itself,
    /// The kernel's OOM killer was first.
    OomKiller,
    /// Somebody else's SIGTERM or SIGKILL was first.
    SomebodyElse,
}

/// How a process ended, as the kernel says it (`task_struct.exit_code`, wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExitStatus {
    /// The signal that killed it, if one did.
    pub signal: Option<u8>,
    /// What it exited with, if none did.
    pub code: u8,
    /// Whether the kernel's OOM killer killed it.
    pub oom: bool,
}

impl ExitStatus {
    /// From the kernel's 16 bits: the exit code above, the signal and the core dump's flag below.
    ///
    /// `oom_victim`: whether it was marked as one. The OOM killer marks also who is on its way out already and needs memory
    /// for that (`task_will_free_mem`), but what it kills dies of SIGKILL.
    pub const fn new(exit_code: u32, oom_victim: bool) -> Self {
        const SIGKILL: u8 = 9;
        let [low, code, ..] = exit_code.to_le_bytes();
        let signal = low & 0x7f;
        let oom = oom_victim && signal == SIGKILL;
        Self { signal: if signal == 0 { None } else { Some(signal) }, code, oom }
    }
}

/// Why a grace ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// The victim kept growing, past `termination.hard_ceiling` times its limit.
    Ceiling,
    /// The machine has less memory available than `termination.reserve_percent`.
    Reserve,
}

/// The moment at which the kernel saw a process cross its wake level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// When.
    pub at: Instant,
    /// What it had resident, by the kernel's counters.
    pub rss: Bytes,
}

/// The record of one termination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// What it had exceeded, when it was condemned.
    #[serde(flatten)]
    pub breach: Breach,
    /// By the kernel's counters at the crossing; none where a scan found it.
    #[serde(rename = "rss_at_crossing_bytes")]
    pub rss_at_crossing: Option<Bytes>,
    /// From the crossing to SIGTERM.
    #[serde(rename = "crossing_to_signal_seconds", serialize_with = "as_seconds_if_any")]
    pub crossing_to_signal: Option<Duration>,
    /// Measured right before SIGTERM.
    #[serde(rename = "rss_at_term_bytes")]
    pub rss_at_term: Option<Bytes>,
    /// Measured right before SIGKILL.
    #[serde(rename = "rss_at_kill_bytes")]
    pub rss_at_kill: Option<Bytes>,
    /// The most that was seen of it.
    #[serde(rename = "peak_bytes")]
    pub peak: Bytes,
    /// By how much it was over its limit at SIGTERM.
    #[serde(rename = "overshoot_bytes")]
    pub overshoot: Option<Bytes>,
    /// First signal to confirmed exit.
    #[serde(rename = "signal_to_exit_seconds", serialize_with = "as_seconds")]
    pub signal_to_exit: Duration,
    /// What ended it.
    pub cause: Cause,
    /// First signal to the return of its memory: `process_mrelease` is ahead of the exit, and the exit is the latest.
    #[serde(rename = "signal_to_memory_seconds", serialize_with = "as_seconds")]
    pub signal_to_memory: Duration,
    /// Why its grace ended early, if it did.
    pub urgency: Option<Urgency>,
    /// Whether `process_mrelease` freed its memory ahead of its exit.
    pub reclaimed: bool,
    /// How it ended, as the kernel says; none where /proc is the source.
    pub exit: Option<ExitStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_read_as_wait_reads_it() {
        let read = |exit_code| ExitStatus::new(exit_code, false);
        assert_eq!(read(15), ExitStatus { signal: Some(15), code: 0, oom: false });
        assert_eq!(read(0x8b), ExitStatus { signal: Some(11), code: 0, oom: false });
        assert_eq!(read(3 << 8), ExitStatus { signal: None, code: 3, oom: false });
    }

    #[test]
    fn who_was_dying_already_when_memory_ran_out_was_not_killed_for_it() {
        for (exit_code, oom) in [(9, true), (15, false), (0, false), (1 << 8, false)] {
            assert_eq!(ExitStatus::new(exit_code, true).oom, oom, "{exit_code}");
        }
    }
}
