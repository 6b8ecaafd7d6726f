//! The part of memmon's state that a user may see: the user's own processes.

use serde::{Deserialize, Serialize};

use super::sums::SumInForce;
use super::table::Row;
use super::text::Text;
use super::watched::{StoppedProcess, Victim, Waiting};
use crate::model::{Bytes, Uid};

/// One user's processes, and what memmon does with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mine {
    /// memmon's version.
    pub version: Text,
    /// The user.
    pub uid: Uid,
    /// Whether memmon sends no signals.
    pub dry_run: bool,
    /// The limit of processes that no rule matches.
    pub limit_bytes: Bytes,
    /// Number of the user's processes with memory.
    pub processes: usize,
    /// The largest of them, the largest first.
    pub rows: Vec<Row>,
    /// Processes that are being terminated.
    pub in_flight: Vec<Victim>,
    /// Processes that a rule has stopped.
    pub stopped: Vec<StoppedProcess>,
    /// The user's programs whose termination is delayed, because they were terminated repeatedly.
    pub held_back: Vec<Waiting>,
    /// Memory that the user's processes hold together under rules with `per = "user"` or `"program"`.
    pub sums: Vec<SumInForce>,
}
