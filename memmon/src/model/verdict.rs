//! Verdicts of policy, with their reasons as data.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Bytes, Exemption, Inherited, KeptObject, KeptWhy, Name, Pid, RuleName, Uid, words::words};

/// Policy's decision about one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The process is within its limits.
    Within,
    /// The process is over a limit only with what it inherited at its fork and still shares with its elder, which is charged
    /// for it.
    Inherits(Inherited),
    /// The process is over a limit by resident memory only: its end would give back less.
    Uncharged(Uncharged),
    /// The process is never touched, for any memory usage.
    Protected(Protection),
    /// The process may be over a limit, but a rule that might protect it could not be checked: it is left alone.
    Unsure(Doubt),
    /// The process is over the limit of a rule that only warns.
    Warn(Breach),
    /// The process is over the limit of a rule that stops it, and nothing protects it.
    Stop(Breach),
    /// The process is over a limit, and nothing protects it.
    Terminate(Breach),
}

/// The reason why memmon leaves a process alone that exceeds its limit by resident memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Uncharged {
    /// The memory that its end would give back.
    #[serde(rename = "charged_bytes")]
    pub charged: Bytes,
    /// Resident pages of files, which stay in the page cache.
    #[serde(rename = "page_cache_bytes")]
    pub page_cache: Bytes,
    /// Shared memory that would stay.
    #[serde(rename = "kept_bytes")]
    pub kept: Bytes,
    /// The largest object that would stay.
    pub largest: Option<KeptObject>,
}

/// The rest of a sentence: how much the process's end would give back, and what would stay.
impl fmt::Display for Uncharged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { charged, page_cache, kept, largest } = self;
        write!(f, "{charged}; page cache stays ({page_cache})")?;
        let Some(KeptObject { name, bytes, why }) = largest else { return Ok(()) };
        write!(f, ", and so does shared memory ({kept}, of it {bytes} in \"{name}\": ")?;
        match why {
            KeptWhy::Elder { pid } => write!(f, "pid {pid} maps it as well)"),
            KeptWhy::Named => f.write_str("it is a file that stays)"),
            KeptWhy::SystemV => f.write_str("only ipcrm removes it)"),
        }
    }
}

/// The rule that protects a process. The rules are checked in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "rule")]
pub enum Protection {
    /// Pid 1.
    Init,
    /// A kernel thread.
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
        /// The entry as it was typed.
        pattern: String,
        /// The name field that it matched.
        field: NameField,
        /// The name that it matched.
        name: Name,
    },
    /// Real or effective uid in `whitelist.users`.
    User {
        /// The uid that matched.
        uid: Uid,
    },
    /// Matches `whitelist.exe`, `.args`, `.uids`, `.groups`, `.cgroups` or `.units`.
    Match {
        /// The list.
        key: MatchKey,
        /// The entry that matches.
        pattern: String,
    },
    /// Root's process, with `whitelist.protect_root`.
    Root,
    /// `oom_score_adj` is -1000: the administrator exempted it from the kernel's own OOM killer.
    OomScoreAdj,
    /// `memmon exempt`: an administrator spares it for a time.
    Exempt(Exemption),
}

words! {
    /// A key of a matcher, which names the fact of a process that it compares.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    pub enum MatchKey {
        /// `names`.
        Names = "names",
        /// `exe`.
        Exe = "exe",
        /// `args`.
        Args = "args",
        /// `users` and `uids`.
        Uids = "uids",
        /// `groups`.
        Groups = "groups",
        /// `cgroups`.
        Cgroups = "cgroups",
        /// `units`.
        Units = "units",
        /// `not`.
        Not = "not",
    }
}

/// A field with a name of a process.
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

impl NameField {
    /// Its name in a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Comm => "comm",
            Self::Exe => "exe",
            Self::Argv0 => "argv[0]",
        }
    }
}

/// A fact that could not be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// A name that `whitelist.names` might match is unreadable.
    NameUnreadable(NameField),
    /// The fact that `exe` or `args` of a matcher compares is unreadable.
    FactUnreadable(MatchKey),
    /// The cgroup, which `[scope]` or a matcher requires, is unreadable.
    CgroupUnreadable,
    /// `oom_score_adj` is unreadable.
    OomScoreAdjUnreadable,
    /// The memory that the process shares with its elder is unreadable.
    InheritanceUnreadable,
    /// The lookup of its shared memory is under way.
    SharedMemoryUnknown,
    /// The lookup of its shared memory failed, and is tried again.
    SharedMemoryUnreadable {
        /// The reason of the last failure.
        reason: String,
    },
    /// The difference to the limit is smaller than the measurement error.
    WithinError {
        /// The limit.
        #[serde(rename = "limit_bytes")]
        limit: Bytes,
        /// The measured resident memory.
        #[serde(rename = "rss_bytes")]
        rss: Bytes,
        /// The measurement error.
        #[serde(rename = "error_bytes")]
        error: Bytes,
    },
}

impl Doubt {
    /// Whether the doubt may be gone at the next look without another change: reads wait for locks that others hold.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NameUnreadable(_)
            | Self::FactUnreadable(_)
            | Self::CgroupUnreadable
            | Self::OomScoreAdjUnreadable
            | Self::InheritanceUnreadable
            | Self::SharedMemoryUnknown
            | Self::SharedMemoryUnreadable { .. } => true,
            Self::WithinError { .. } => false,
        }
    }
}

words! {
    /// The limit that was exceeded.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum Limit {
        /// `ram_percent_threshold`, or `percent` of a rule.
        Percent = "percent",
        /// `ram_gb_threshold`, or `gb` of a rule.
        Gb = "gb",
        /// `[machine]`: the machine is short of memory. The process has no limit; the memory counts as one that it had while
        /// the machine was well.
        Machine = "machine",
    }
}

impl Limit {
    /// The key or the section that sets it if no rule does.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Percent => "ram_percent_threshold",
            Self::Gb => "ram_gb_threshold",
            Self::Machine => "[machine]",
        }
    }
}

/// An exceeded limit, with the amount.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// The limit: the lower of the two, because it is crossed first.
    pub rule: Limit,
    /// The limit in bytes.
    #[serde(rename = "limit_bytes")]
    pub limit: Bytes,
    /// The process's resident memory.
    #[serde(rename = "rss_bytes")]
    pub rss: Bytes,
    /// `rss` as a share of all memory, in percent.
    pub percent: f64,
    /// The `[[rule]]` that sets the limit; `None` for `[thresholds]`.
    #[serde(rename = "rule_name", default, skip_serializing_if = "Option::is_none")]
    pub by: Option<RuleName>,
}

impl Breach {
    /// The name of its rule; without one the word of its limit.
    pub fn rule_name(&self) -> String {
        self.by.map_or_else(|| self.rule.to_string(), |rule| rule.to_string())
    }
}
