//! One change to the rules or to a process, which might make the verdict another one.

use serde::Serialize;

use crate::model::{Bytes, Doubt, Fact, Limit, MatchKey, NameField, Pid, Process, Protection, RuleName, Uid};
use crate::policy::{Limits, RuleLimit, Rules, Scope};

/// One thing that might be different.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The process has this much resident, or less.
    Shrink {
        /// The most.
        to: Bytes,
    },
    /// The process has more than this resident.
    Grow {
        /// The amount that it exceeds.
        above: Bytes,
    },
    /// The process has so much more anonymous memory of its own.
    GrowOwn {
        /// The amount of growth.
        by: Bytes,
    },
    /// A threshold is set to this figure.
    SetLimit {
        /// The threshold.
        limit: Limit,
        /// In the unit of its key: percent, or GB.
        to: f64,
    },
    /// The limit of a `[[rule]]` is set to this figure.
    SetRuleLimit {
        /// The rule.
        rule: RuleName,
        /// The kind of limit.
        limit: Limit,
        /// In the unit of its key: percent, or GB.
        to: f64,
    },
    /// In `whitelist.names`, spelt as a pattern that matches just this name.
    ListName(String),
    /// In `whitelist.pids`.
    ListPid(Pid),
    /// In `whitelist.users`.
    ListUser(Uid),
    /// `whitelist.protect_root` is true.
    ProtectRoot,
    /// The rule that protects does not: the entry is gone, the switch off, the process in scope.
    Lift(Protection),
    /// The unreadable fact is read, and protects no process.
    Read(Doubt),
}

impl Change {
    /// Makes it so; `None` where it cannot be.
    pub(super) fn make(&self, rules: &mut Rules, process: &mut Process) -> Option<()> {
        match self {
            Self::Shrink { to } => process.rss = *to,
            Self::Grow { above } => {
                process.rss = Bytes(above.0.checked_add(1)?);
                process.holdings = None;
            }
            Self::GrowOwn { by } => {
                process.rss = process.rss + *by;
                let parts = &mut process.holdings.as_mut()?.parts;
                parts.anon = parts.anon + *by;
            }
            Self::SetLimit { limit, to } => {
                let (percent, bytes) = match limit {
                    Limit::Percent => (*to, rules.limits.bytes()),
                    Limit::Gb => (rules.limits.percent(), bytes_of_gb(*to)),
                    Limit::Machine => return None,
                };
                rules.limits = Limits::new(percent, bytes).ok()?;
            }
            Self::SetRuleLimit { rule, limit, to } => {
                let rule = rules.rules.iter_mut().find(|one| one.name == *rule)?;
                let RuleLimit::Own { percent, bytes } = &mut rule.limit else { return None };
                match limit {
                    Limit::Percent if *to <= 100.0 => *percent = Some(*to),
                    Limit::Percent | Limit::Machine => return None,
                    Limit::Gb => *bytes = Some(bytes_of_gb(*to)),
                }
            }
            Self::ListName(pattern) => rules.whitelist.names = rules.whitelist.names.with(pattern)?,
            Self::ListPid(pid) => _ = rules.whitelist.pids.insert(*pid),
            Self::ListUser(uid) => _ = rules.whitelist.users.insert(*uid),
            Self::ProtectRoot => rules.whitelist.protect_root = true,
            Self::Lift(protection) => lift(protection, rules)?,
            Self::Read(doubt) => read(doubt, rules, process)?,
        }
        Some(())
    }
}

fn lift(protection: &Protection, rules: &mut Rules) -> Option<()> {
    let whitelist = &mut rules.whitelist;
    match protection {
        Protection::Init | Protection::KernelThread | Protection::Memmon => return None,
        Protection::OutOfScope => rules.scope = Scope::default(),
        Protection::Pid { pid } => _ = whitelist.pids.remove(pid),
        Protection::Name { pattern, .. } => whitelist.names = whitelist.names.without(pattern)?,
        Protection::User { uid } => _ = whitelist.users.remove(uid),
        Protection::Match { key, .. } => whitelist.also.forget(*key),
        Protection::Root => whitelist.protect_root = false,
        Protection::OomScoreAdj => rules.honour_oom_score_adj = false,
        Protection::Exempt(one) => rules.exemptions.retain(|other| other.id != one.id),
    }
    Some(())
}

/// Sets the doubt's fact to a value that protects no process.
fn read(doubt: &Doubt, rules: &mut Rules, process: &mut Process) -> Option<()> {
    match doubt {
        Doubt::NameUnreadable(NameField::Comm) | Doubt::WithinError { .. } => return None,
        Doubt::NameUnreadable(NameField::Exe) => process.names.exe = Fact::Absent,
        Doubt::NameUnreadable(NameField::Argv0) => process.names.argv0 = Fact::Absent,
        Doubt::FactUnreadable(MatchKey::Args) => process.facts.args = Fact::Absent,
        Doubt::FactUnreadable(_) => {
            process.facts.exe_file = Fact::Absent;
            process.names.exe = Fact::Absent;
        }
        Doubt::CgroupUnreadable => {
            rules.scope.cgroups = None;
            process.cgroup = Fact::Absent;
        }
        Doubt::OomScoreAdjUnreadable => process.oom_score_adj = Fact::Known(0),
        Doubt::InheritanceUnreadable => process.inherited = Fact::Absent,
        Doubt::SharedMemoryUnknown | Doubt::SharedMemoryUnreadable { .. } => process.holdings = None,
    }
    Some(())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
pub(super) fn bytes_of_gb(gb: f64) -> Bytes {
    Bytes((gb * Bytes::GIB as f64) as u64)
}
