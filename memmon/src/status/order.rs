//! Orders: what a client may have the daemon do, besides answering queries. A right of its own, see [`super::AccessPolicy`].

use serde::{Deserialize, Serialize};

use crate::model::{Exemption, Phrase, Pid, Uid};

use super::text::Text;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Order {
    /// Leave processes alone for a time.
    Exempt {
        /// The processes.
        #[serde(flatten)]
        of: Target,
        /// For how long.
        seconds: u64,
        /// The reason.
        why: Phrase,
    },
    /// End an exemption before its time.
    EndExemption {
        /// Its number.
        id: u32,
    },
}

/// Processes, as a user names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The process that has this pid now.
    Pid(Pid),
    /// The processes of a user.
    #[serde(rename = "uid")]
    User(Uid),
    /// The processes of a systemd unit.
    Unit(Phrase),
    /// The processes of a Slurm job.
    Job(u64),
}

/// The answer to an [`Order`] that was carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The exemption that began or ended.
    #[serde(flatten)]
    pub exemption: Exemption,
    /// The reason why memmon would forget it at a restart; `None` if it was stored.
    pub not_stored: Option<Text>,
}
