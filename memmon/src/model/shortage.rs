//! The reasons why a machine counts as short of memory, and the causes of the shortage.

use serde::Serialize;

use super::{Bytes, Name, Pid, ProcessId, Uid};

/// A level of `[machine]` that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// Less memory is available than this.
    Available {
        /// Available memory.
        #[serde(rename = "available_bytes")]
        available: Bytes,
        /// The level.
        #[serde(rename = "level_bytes")]
        level: Bytes,
    },
    /// Less swap is free than this, in percent of all swap.
    SwapFree {
        /// Free swap.
        percent: f64,
        /// The level.
        level: f64,
    },
    /// At least one process waits for memory in this share of time.
    PressureSome {
        /// The share, in percent.
        percent: f64,
        /// The level.
        level: f64,
    },
    /// All processes wait for memory in this share of time.
    PressureFull {
        /// The share, in percent.
        percent: f64,
        /// The level.
        level: f64,
    },
}

impl Reason {
    /// The level as a word for programs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Available { .. } => "available",
            Self::SwapFree { .. } => "swap_free",
            Self::PressureSome { .. } => "pressure_some",
            Self::PressureFull { .. } => "pressure_full",
        }
    }
}

/// The cause of a shortage, as far as one process is part of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Culprit {
    /// The processes that grew together.
    #[serde(flatten)]
    pub group: Group,
    /// Their growth.
    #[serde(rename = "group_growth_bytes")]
    pub growth: Bytes,
    /// Number of processes that grew.
    pub processes: usize,
}

/// Processes that belong together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "group")]
pub enum Group {
    /// One process.
    Process {
        /// The process.
        process: ProcessId,
    },
    /// The processes of a systemd unit, which may be the scope of a login session.
    Unit {
        /// Its name.
        unit: Name,
    },
    /// The processes of a session (setsid(2)) that belong to no unit.
    Session {
        /// Its leader.
        leader: Pid,
    },
    /// The processes of a user other than root, whose services have nothing in common.
    User {
        /// The user.
        uid: Uid,
    },
}

/// A process that writes a file in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryWriter {
    /// The process.
    pub pid: Pid,
    /// Its name in the kernel.
    #[serde(rename = "comm")]
    pub name: Name,
    /// Its effective uid.
    pub uid: Uid,
    /// The mount point of the file's file system.
    pub path: Name,
    /// The size up to which it has written the file.
    #[serde(rename = "used_bytes")]
    pub used: Bytes,
}

/// A file system whose files are in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryFiles {
    /// Its mount point.
    pub path: Name,
    /// The memory of its files.
    #[serde(rename = "used_bytes")]
    pub used: Bytes,
}
