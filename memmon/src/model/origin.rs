//! The properties of a process that are the same after it is started again.

use super::{Fact, Name, Process, Restarted, Uid, Unit};

/// A program with its cgroup and its user. A supervisor that restarts a process starts one of the same origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The executable; if that is unknown, its comm.
    pub program: Name,
    /// The script or module that it runs, if it is an interpreter.
    pub script: Option<Name>,
    /// The cgroup up to the unit or container, because a service may have its own cgroups below the unit's.
    pub cgroup: Option<Name>,
    /// The real uid: jobs of many users may run in one unit, such as cron's or a batch system's.
    pub uid: Uid,
}

impl Origin {
    /// The origin of `process`.
    pub fn of(process: &Process) -> Self {
        let program = process.names.exe.known().unwrap_or(&process.names.comm).clone();
        let cgroup = match &process.cgroup {
            Fact::Known(path) => Some(
                Restarted::of(path)
                    .map(|restarted| restarted.cgroup)
                    .or_else(|| Unit::of(path).map(|unit| unit.cgroup))
                    .unwrap_or_else(|| path.clone()),
            ),
            Fact::Absent | Fact::Unreadable | Fact::Withheld => None,
        };
        Self { program, script: process.names.script.clone(), cgroup, uid: process.real_uid }
    }
}
