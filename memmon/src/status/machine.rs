//! The order in which processes would end if the machine was short of memory: the answer to [`super::Query::Machine`].

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::model::{Bytes, ProcessId, SystemMemory, Uid};

/// The machine as the daemon sees it, and the order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineOrder {
    /// The cgroup whose limit binds: `memory`, swap and pressure are those within it. None: those of the machine.
    #[serde(default)]
    pub cgroup: Option<Text>,
    /// The machine's memory.
    pub memory: SystemMemory,
    /// All swap.
    pub swap_total_bytes: Bytes,
    /// Free swap.
    pub swap_free_bytes: Bytes,
    /// The pressure `full` over ten seconds, in percent; `None` if the kernel does not measure it.
    pub pressure_full: Option<f64>,
    /// `calm`, `warn` or `act`.
    pub shortage: Text,
    /// The available memory below which memmon warns.
    pub warn_below_bytes: Bytes,
    /// The available memory below which memmon acts.
    pub act_below_bytes: Bytes,
    /// Time since the machine was well.
    pub well_seconds_ago: f64,
    /// Decrease of available memory and free swap since then.
    pub lost_bytes: Bytes,
    /// Growth of the processes in `rows` since.
    pub grown_bytes: Bytes,
    /// The processes that have grown most: those that would end, in this order, and then the others.
    pub rows: Vec<MachineRow>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// Its identity.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// The memory that its end would give back.
    pub gives_back_bytes: Bytes,
    /// The part of that which came since the machine was well.
    pub growth_bytes: Bytes,
    /// `ends`, `idle`, `not_the_cause`, `exempt`, `protected` or `unsure`.
    pub standing: Text,
    /// The reason, in a few words.
    pub why: Text,
}
