//! Groups of processes that memory is summed over, and the group that a process belongs to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Bytes, Fact, Name, Process, ProcessId, RuleName, Uid, unit_path, words::words};

words! {
    /// Groups whose memory is summed: `per` of a rule, without `process`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Per {
        /// The processes of a real uid.
        User = "user",
        /// The processes of a systemd unit: the outermost service or scope, for a user's manager with the unit in it.
        Unit = "unit",
        /// The processes in one cgroup, without those in cgroups below it.
        Cgroup = "cgroup",
        /// The processes of an audit session: one login, which only root can leave. Daemons have none.
        Session = "session",
        /// A process that the rule matches, with all its descendants.
        Tree = "tree",
        /// The processes of one user that run the same executable.
        Program = "program",
    }
}

impl Per {
    /// Whether the kernel side can keep a sum that is never less than such a group's: that of its user, or of its cgroup. Who
    /// belongs to a tree, a session or a unit is known only from /proc.
    pub const fn is_kept_by_kernel(self) -> bool {
        matches!(self, Self::User | Self::Program | Self::Cgroup)
    }

    /// The part that notices when such a sum crosses its limit, if eBPF is available. Without it, looks find all crossings.
    pub const fn noticed_by(self) -> &'static str {
        if self.is_kept_by_kernel() { "the kernel" } else { "looks" }
    }
}

/// A sum that the kernel side keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelSum {
    /// The sum of the processes with a real uid.
    User(Uid),
    /// The sum of the processes in the cgroup of the unified hierarchy with this id.
    Cgroup(u64),
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "per", rename_all = "lowercase")]
pub enum GroupKey {
    /// The processes with this real uid.
    User {
        /// The uid.
        uid: Uid,
    },
    /// The processes of this unit.
    Unit {
        /// `nginx.service`, or `user@1000.service/app-x.scope`.
        unit: Name,
    },
    /// The processes in this cgroup.
    Cgroup {
        /// Its path.
        cgroup: Name,
    },
    /// The processes of this audit session.
    Session {
        /// Its number.
        session: u32,
    },
    /// A process and its descendants.
    Tree {
        /// The process.
        #[serde(flatten)]
        root: ProcessId,
    },
    /// The processes of one user with this executable.
    Program {
        /// Its path; `None` for the processes whose owner withholds it, which are one program.
        exe: Option<Name>,
        /// The real uid.
        uid: Uid,
    },
}

impl GroupKey {
    /// The group of `process`; absent if it is in none, as a daemon is in no session. That of a tree is the tree that begins
    /// with it.
    pub fn of(per: Per, process: &Process) -> Fact<Self> {
        let uid = process.real_uid;
        match per {
            Per::User => Fact::Known(Self::User { uid }),
            Per::Tree => Fact::Known(Self::Tree { root: process.id }),
            Per::Cgroup => map(&process.cgroup, |cgroup| Some(Self::Cgroup { cgroup: cgroup.clone() })),
            Per::Unit => {
                map(&process.cgroup, |cgroup| Some(Self::Unit { unit: Name::new(unit_path(cgroup)?) }))
            }
            Per::Session => map(&process.facts.session, |session| Some(Self::Session { session: *session })),
            Per::Program => match &process.names.exe {
                // Nobody leaves a sum by hiding the program.
                Fact::Withheld => Fact::Known(Self::Program { exe: None, uid }),
                exe => map(exe, |exe| Some(Self::Program { exe: Some(exe.clone()), uid })),
            },
        }
    }

    /// The kind of the group.
    pub const fn per(&self) -> Per {
        match self {
            Self::User { .. } => Per::User,
            Self::Unit { .. } => Per::Unit,
            Self::Cgroup { .. } => Per::Cgroup,
            Self::Session { .. } => Per::Session,
            Self::Tree { .. } => Per::Tree,
            Self::Program { .. } => Per::Program,
        }
    }
}

fn map<T, U>(fact: &Fact<T>, group: impl FnOnce(&T) -> Option<U>) -> Fact<U> {
    match fact {
        Fact::Known(value) => group(value).map_or(Fact::Absent, Fact::Known),
        Fact::Absent => Fact::Absent,
        Fact::Unreadable => Fact::Unreadable,
        Fact::Withheld => Fact::Withheld,
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { uid } => write!(f, "user {uid}"),
            Self::Unit { unit } => write!(f, "unit {unit}"),
            Self::Cgroup { cgroup } => write!(f, "cgroup {cgroup}"),
            Self::Session { session } => write!(f, "session {session}"),
            Self::Tree { root } => write!(f, "pid {} with its descendants", root.pid),
            Self::Program { exe: Some(exe), uid } => write!(f, "{exe} of user {uid}"),
            Self::Program { exe: None, uid } => write!(f, "programs with a hidden path of user {uid}"),
        }
    }
}

/// A sum, as a record shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SumFigures {
    /// The rule that sets the limit.
    #[serde(rename = "rule_name")]
    pub rule: RuleName,
    /// The group.
    #[serde(flatten)]
    pub group: GroupKey,
    /// Memory of its processes together.
    #[serde(rename = "total_bytes")]
    pub total: Bytes,
    /// The limit.
    #[serde(rename = "limit_bytes")]
    pub limit: Bytes,
    /// Number of processes.
    pub members: usize,
}
