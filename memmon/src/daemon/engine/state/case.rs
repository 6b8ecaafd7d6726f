//! What memmon notes of a victim for its record, beside what enforce keeps.

use crate::model::{Bytes, Name};

/// The notes of one victim.
#[derive(Debug, Default)]
pub(in crate::daemon::engine) struct Case {
    /// The comm of its parent when it was sent SIGTERM.
    pub(in crate::daemon::engine) parent_comm: Option<Name>,
    /// What it had of file and shared memory right before SIGKILL.
    pub(in crate::daemon::engine) shared: Option<Bytes>,
}
