//! Terminations: what a rule asks for, and the record of each.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{
    Breach, Bytes, Signal,
    seconds::{as_seconds, as_seconds_if_any},
    words::words,
};

words! {
    /// The action on a process that is over the limit of a rule.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub enum Action {
        /// It is terminated.
        #[default]
        Terminate = "terminate",
        /// It is reported, once, and nothing else.
        Warn = "warn",
        /// It is stopped (SIGSTOP), and terminated above its hard ceiling.
        Stop = "stop",
        /// The cgroup of a sum is slowed down (`memory.high`); above the hard ceiling processes are terminated.
        Throttle = "throttle",
    }
}

/// Cause of a victim's end, as far as memmon knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// memmon's first signal, SIGTERM if its rule names no other, within the grace period.
    Term,
    /// memmon's SIGKILL.
    Kill,
    /// The process exited or crashed before memmon sent a signal.
    Itself,
    /// The kernel's OOM killer killed it first.
    OomKiller,
    /// Another process's SIGTERM or SIGKILL ended it first.
    SomebodyElse,
}

/// Exit status of a process, from the kernel (`task_struct.exit_code`, wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExitStatus {
    /// The signal that killed it, if any.
    pub signal: Option<u8>,
    /// Its exit code, if no signal killed it.
    pub code: u8,
    /// Whether the kernel's OOM killer killed it.
    pub oom: bool,
}

impl ExitStatus {
    /// Decodes the kernel's 16 bits: the exit code in the upper byte, the signal and the core dump flag in the lower.
    ///
    /// `oom_victim` is whether the OOM killer marked the process. It also marks a process that is exiting already and needs
    /// memory for that (`task_will_free_mem`), but a process that it kills dies of SIGKILL.
    pub const fn new(exit_code: u32, oom_victim: bool) -> Self {
        const SIGKILL: u8 = 9;
        let [low, code, ..] = exit_code.to_le_bytes();
        let signal = low & 0x7f;
        let oom = oom_victim && signal == SIGKILL;
        Self { signal: if signal == 0 { None } else { Some(signal) }, code, oom }
    }
}

/// Reason why a grace period ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// The victim kept growing, past `termination.hard_ceiling` times its limit.
    Ceiling,
    /// The machine has less memory available than `termination.reserve_percent`.
    Reserve,
}

/// A crossing: the kernel saw that a process reached its wake level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// Time of the crossing.
    pub at: Instant,
    /// The process's resident memory, by the kernel's counters.
    pub rss: Bytes,
}

/// The record of one termination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// The breach for which the termination began.
    #[serde(flatten)]
    pub breach: Breach,
    /// The first signal that it was sent; `None` if it ended before.
    pub signal: Option<Signal>,
    /// Resident memory at the crossing, by the kernel's counters; `None` if a scan found the process.
    #[serde(rename = "rss_at_crossing_bytes")]
    pub rss_at_crossing: Option<Bytes>,
    /// Time from the crossing to SIGTERM.
    #[serde(rename = "crossing_to_signal_seconds", serialize_with = "as_seconds_if_any")]
    pub crossing_to_signal: Option<Duration>,
    /// Resident memory right before SIGTERM.
    #[serde(rename = "rss_at_term_bytes")]
    pub rss_at_term: Option<Bytes>,
    /// Resident memory right before SIGKILL.
    #[serde(rename = "rss_at_kill_bytes")]
    pub rss_at_kill: Option<Bytes>,
    /// The highest resident memory that was seen.
    #[serde(rename = "peak_bytes")]
    pub peak: Bytes,
    /// Amount by which it was over its limit at SIGTERM.
    #[serde(rename = "overshoot_bytes")]
    pub overshoot: Option<Bytes>,
    /// Time from the first signal to the confirmed exit.
    #[serde(rename = "signal_to_exit_seconds", serialize_with = "as_seconds")]
    pub signal_to_exit: Duration,
    /// Cause of its end.
    pub cause: Cause,
    /// Time from the first signal until its memory was free: at the latest its exit, or earlier by `process_mrelease`.
    #[serde(rename = "signal_to_memory_seconds", serialize_with = "as_seconds")]
    pub signal_to_memory: Duration,
    /// Reason why its grace period ended early, if it did.
    pub urgency: Option<Urgency>,
    /// Whether `process_mrelease` freed its memory before its exit: at least 95 % of it.
    pub reclaimed: bool,
    /// Resident memory after `process_mrelease`: memory that is shared or secret stays until the exit. If the process was
    /// too near to its exit to be read, this is what it had of such memory before SIGKILL. `None` if the call failed.
    #[serde(rename = "rss_after_reclaim_bytes")]
    pub rss_after_reclaim: Option<Bytes>,
    /// Its exit status from the kernel; `None` if /proc is the source.
    pub exit: Option<ExitStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_decoded_as_wait_decodes_it() {
        let read = |exit_code| ExitStatus::new(exit_code, false);
        assert_eq!(read(15), ExitStatus { signal: Some(15), code: 0, oom: false });
        assert_eq!(read(0x8b), ExitStatus { signal: Some(11), code: 0, oom: false });
        assert_eq!(read(3 << 8), ExitStatus { signal: None, code: 3, oom: false });
    }

    #[test]
    fn an_oom_victim_that_was_already_exiting_was_not_oom_killed() {
        for (exit_code, oom) in [(9, true), (15, false), (0, false), (1 << 8, false)] {
            assert_eq!(ExitStatus::new(exit_code, true).oom, oom, "{exit_code}");
        }
    }
}
