//! Notes about a victim for its record, beside those that enforce keeps.

use crate::model::{Bytes, GivenBack, Name};
use crate::observe::procfs::{OwnCgroup, Stays};

/// The notes of one victim.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// The comm of its parent when it was sent SIGTERM.
    pub(crate) parent_comm: Option<Name>,
    /// The memory that its end is expected to give back, and the memory before its end; `None` if it was sent no signal.
    pub(crate) given_back: Option<GivenBack>,
    /// Its memory cgroup, if it is alone there.
    pub(crate) cgroup: Option<OwnCgroup>,
    /// The shared memory of it that will stay, if that was looked up.
    pub(crate) stays: Option<Stays>,
    /// Its file and shared memory right before SIGKILL.
    pub(crate) shared: Option<Bytes>,
}
