//! Repeat offenders: looked up before a process is terminated, noted when one was sent SIGTERM.

use crate::enforce::RepeatOffenders;

/// The repeat offenders, and whether one waits.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    pub(crate) offenders: RepeatOffenders,
    /// Whether a termination was delayed since the last scan.
    pub(crate) delays: bool,
}
