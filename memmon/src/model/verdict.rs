//! What policy says of a process, with its reason as data.

use serde::{Deserialize, Serialize};

use super::{Bytes, Name, Pid, Uid};

/// What is to become of one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Within its limits.
    Within,
    /// Never to be touched, whatever it uses.
    Protected(Protection),
    /// Over a limit perhaps, but a rule that might protect it could not be checked: left alone.
    Unsure(Doubt),
    /// Over a limit, and nothing protects it.
    Terminate(Breach),
}

/// The rule that protects a process. The order is the order in which they are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Protection {
    /// Pid 1.
    Init,
    /// A thread of the kernel.
    KernelThread,
    /// memmon itself.
    Memmon,
    /// Not in `[scope]`.
    OutOfScope,
    /// In `whitelist.pids`.
    Pid {
        /// The entry.
        pid: Pid,
    },
    /// Matches `whitelist.names`.
    Name {
        /// The entry as it was written.
        pattern: String,
        /// What of the process it matched.
        field: NameField,
        /// The name that it matched.
        name: Name,
    },
    /// Real or effective uid in `whitelist.users`.
    User {
        /// The uid that matched.
        uid: Uid,
    },
    /// Root's, with `whitelist.protect_root`.
    Root,
    /// `oom_score_adj` is -1000: the administrator told the kernel's own killer to leave it alone.
    OomScoreAdj,
}

/// Which of a process's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameField {
    /// `comm`.
    Comm,
    /// The basename of the executable.
    Exe,
    /// The basename of argv[0].
    Argv0,
}

/// What could not be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// A name that `whitelist.names` might match is unreadable.
    NameUnreadable(NameField),
    /// The cgroup that `[scope]` asks for is unreadable.
    CgroupUnreadable,
    /// `oom_score_adj` is unreadable.
    OomScoreAdjUnreadable,
    /// Within the measuring error of the limit.
    WithinError {
        /// The limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// What was measured.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// How far that may be off.
        #[serde(rename = "error_bytes")]
        error: Bytes,
    },
}

impl Doubt {
    /// Whether it may be over at the next look, with nothing else changed: what is read waits for locks that others hold.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NameUnreadable(_) | Self::CgroupUnreadable | Self::OomScoreAdjUnreadable => true,
            Self::WithinError { .. } => false,
        }
    }
}

/// Which limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// `ram_percent_threshold`.
    Percent,
    /// `ram_gb_threshold`.
    Gb,
}

/// A limit and by what it was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// Which limit: the lower of the two, as that is the one crossed first.
    pub rule: Limit,
    /// The limit in bytes.
    #[serde(rename = "limit_bytes")]
    pub limit: Bytes,
    /// What the process had resident.
    #[serde(rename = "rss_bytes")]
    pub rss: Bytes,
    /// `rss` as a share of all memory, in percent.
    pub percent: f64,
}
