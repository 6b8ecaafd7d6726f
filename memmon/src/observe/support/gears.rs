//! Whether two gears pay, and are sound, on this kernel.

use std::fmt;

use serde::Serialize;

use super::probe::Facts;

/// The reason why one gear is used, with which `rss_stat` is attached at all times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum OneGear {
    /// Before Linux 6.2 `rss_stat` fires once per 64 pages, and costs next to nothing.
    Batched,
    /// Some CPUs have no tick while they run one task.
    NoTick {
        /// The list of these CPUs, as in cpuset(7).
        cpus: String,
    },
}

impl OneGear {
    /// `in_batches`: the counters are those from before 6.2.
    pub(super) fn of(facts: &Facts, in_batches: bool) -> Option<Self> {
        if in_batches {
            return Some(Self::Batched);
        }
        facts.nohz_full.clone().map(|cpus| Self::NoTick { cpus })
    }
}

impl fmt::Display for OneGear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batched => {
                f.write_str("the kernel counts in batches, so that counting costs next to nothing")
            }
            Self::NoTick { cpus } => {
                write!(f, "CPUs {cpus} have no tick while they run one task (nohz_full)")
            }
        }
    }
}
