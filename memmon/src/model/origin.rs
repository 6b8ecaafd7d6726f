//! What of a process is the same when it is started again.

use super::{Fact, Name, Process, Uid, Unit};

/// A program in its place, and whose. Two processes of one origin are one thing to whoever keeps it running.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The executable; its comm where that is unknown.
    pub program: Name,
    /// Up to the unit, as a service may have cgroups of its own below it.
    pub cgroup: Option<Name>,
    /// The real uid: jobs of many users run below one unit, cron's or a batch system's.
    pub uid: Uid,
}

impl Origin {
    /// That of `process`.
    pub fn of(process: &Process) -> Self {
        let program = process.names.exe.known().unwrap_or(&process.names.comm).clone();
        let cgroup = match &process.cgroup {
            Fact::Known(path) => Some(Unit::of(path).map_or_else(|| path.clone(), |unit| unit.cgroup)),
            Fact::Absent | Fact::Unreadable => None,
        };
        Self { program, cgroup, uid: process.real_uid }
    }
}
