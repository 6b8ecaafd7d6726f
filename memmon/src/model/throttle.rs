//! Cgroups that are slowed down: their `memory.high` (cgroups(7), "The memory controller" in the kernel's documentation).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Bytes, Doubt, Name, Per, Pid, Protection, RuleName};

/// A cgroup of which memmon has lowered `memory.high`. [`Bytes::MAX`] is the kernel's `max`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lowered {
    /// The rule.
    pub rule: RuleName,
    /// The kind of its sum.
    pub per: Per,
    /// The path of the cgroup, as /proc has it: raw, as a unit's name may have any bytes.
    pub cgroup: Vec<u8>,
    /// The number of the cgroup: another one at the same path has another.
    pub number: u64,
    /// The value of before, which comes back.
    pub before: Bytes,
    /// The value that memmon set.
    pub high: Bytes,
    /// All memory of the machine at that time: from it and the rule the value follows.
    #[serde(default)]
    pub total: Bytes,
}

impl Lowered {
    /// The path of the cgroup, safe to show.
    pub fn name(&self) -> Name {
        Name::new(&*self.cgroup)
    }
}

/// The reason why the cgroup of a sum over its limit is not slowed down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum WhyNot {
    /// A process in the cgroup does not count in the sum.
    Outsider {
        /// The process.
        outsider_pid: Pid,
    },
    /// A process of the sum is protected.
    Protected {
        /// The process.
        protected_pid: Pid,
        /// Its comm.
        comm: Name,
        /// By what.
        protection: Protection,
    },
    /// A process of the sum may be protected.
    Unsure {
        /// The process.
        unsure_pid: Pid,
        /// The reason why that is not known.
        doubt: Doubt,
    },
    /// Its processes are in several cgroups.
    Scattered,
    /// Another one, or another rule, has set a `memory.high` that is not above the limit.
    Lower {
        /// That value.
        #[serde(rename = "high_bytes")]
        high: Bytes,
    },
    /// A single scan does not stay to take it back.
    Once,
    /// It does not work.
    Failed {
        /// The reason.
        error: String,
    },
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outsider { outsider_pid } => {
                write!(
                    f,
                    "pid {outsider_pid} is in the cgroup and does not count in the sum, so that it would be slowed down as well"
                )
            }
            Self::Protected { protected_pid, comm, protection: _ } => {
                write!(f, "pid {protected_pid} ({comm}) is in the cgroup, and protected")
            }
            Self::Unsure { unsure_pid, doubt: _ } => {
                write!(
                    f,
                    "it is not known yet whether pid {unsure_pid}, which is in the cgroup, is protected"
                )
            }
            Self::Scattered => {
                f.write_str("its processes are in several cgroups, or it is not known in which")
            }
            Self::Lower { high } => {
                write!(
                    f,
                    "another one, or another rule, has set its memory.high to {high}, and the kernel slows it down already"
                )
            }
            Self::Once => f.write_str("a single scan (--once) does not stay to take it back"),
            Self::Failed { error } => f.write_str(error),
        }
    }
}

/// The reason why a cgroup is slowed down no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleEnd {
    /// Its processes have stayed well below the limit.
    Calm,
    /// The rule is gone, or has another action or limit now.
    Rule,
    /// A dry run begins.
    DryRun,
    /// A process that must not be slowed down is in it now.
    Guarded,
    /// memmon ends.
    Stopping,
    /// Another one has set another `memory.high`, which stays.
    Overridden,
    /// Another rule has a lower limit for it.
    Lower,
    /// The cgroup is gone.
    Gone,
}

impl fmt::Display for ThrottleEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "it has stayed well below the limit",
            Self::Rule => "its rule is gone, or has another limit now",
            Self::DryRun => "dry run is now enabled",
            Self::Guarded => "a process that must not be slowed down is in it now",
            Self::Stopping => "memmon ends",
            Self::Overridden => "another one has changed its memory.high, which stays as it is",
            Self::Lower => "another rule has a lower limit for it",
            Self::Gone => "the cgroup is gone",
        })
    }
}
