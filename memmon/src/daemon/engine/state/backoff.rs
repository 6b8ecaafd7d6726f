//! Repeat offenders: looked up before a process is terminated, noted when one was sent SIGTERM.

use crate::enforce::RepeatOffenders;

/// The repeat offenders, and whether one waits.
#[derive(Debug, Default)]
pub(in crate::daemon::engine) struct Backoff {
    pub(in crate::daemon::engine) offenders: RepeatOffenders,
    /// Whether a termination was delayed since the last scan.
    pub(in crate::daemon::engine) delays: bool,
}
