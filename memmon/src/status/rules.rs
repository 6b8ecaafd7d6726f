//! The rules in force as they are on the wire, besides the limits, which `limit` has.

use serde::{Deserialize, Serialize};

use crate::model::{Bytes, Exemption, Measure, Signal};

/// The rules that protect a process, and the processes that memmon may touch at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RulesInForce {
    /// `thresholds.measure`.
    #[serde(default)]
    pub measure: Measure,
    /// `whitelist.pids`.
    pub pids: Vec<u32>,
    /// `whitelist.names`, as they were typed: to be escaped where they are shown.
    pub names: Vec<String>,
    /// `whitelist.users`, by uid.
    pub users: Vec<u32>,
    /// The other keys of `[whitelist]`, each of which protects on its own.
    #[serde(default)]
    pub also: MatcherInForce,
    /// `whitelist.protect_root`.
    pub protect_root: bool,
    /// `whitelist.honour_oom_score_adj`.
    pub honour_oom_score_adj: bool,
    /// `[[rule]]`, in their order.
    #[serde(default)]
    pub rules: Vec<RuleInForce>,
    /// `[[rule]]` with `per`, in their order.
    #[serde(default)]
    pub sums: Vec<SumRuleInForce>,
    /// The first and the last uid of each range in `[scope]`; `None`: all users are in scope.
    pub scope_uids: Option<Vec<(u32, u32)>>,
    /// `scope.cgroups`, as they were typed; `None`: all cgroups are in scope.
    pub scope_cgroups: Option<Vec<String>>,
    /// The exemptions of `memmon exempt`.
    #[serde(default)]
    pub exemptions: Vec<Exemption>,
}

/// Conditions on a process, key by key, as they were typed; users and groups by number. A key that is null is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MatcherInForce {
    /// `names`.
    pub names: Option<Vec<String>>,
    /// `exe`.
    pub exe: Option<Vec<String>>,
    /// `args`.
    pub args: Option<Vec<String>>,
    /// The first and the last uid of each range of `users` and `uids`.
    pub uids: Option<Vec<(u32, u32)>>,
    /// `groups`, by gid.
    pub groups: Option<Vec<u32>>,
    /// `cgroups`.
    pub cgroups: Option<Vec<String>>,
    /// `units`.
    pub units: Option<Vec<String>>,
    /// `not`.
    pub not: Option<Box<Self>>,
}

/// A `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleInForce {
    /// Its name.
    pub name: String,
    /// The processes that it is about.
    #[serde(rename = "match")]
    pub matcher: MatcherInForce,
    /// `none = true`.
    pub none: bool,
    /// `percent`; without this and the next one the limit is that of `[thresholds]`.
    pub percent: Option<f64>,
    /// `gb`, in bytes.
    pub bytes: Option<Bytes>,
    /// `action`: "terminate" or "warn".
    pub action: String,
    /// `signal`: the first one.
    #[serde(default = "sigterm")]
    pub signal: String,
    /// `for`.
    pub for_seconds: f64,
    /// `grace`; null: that of `[termination]`.
    pub grace_seconds: Option<f64>,
    /// `hard_ceiling`; null: that of `[termination]`.
    pub hard_ceiling: Option<f64>,
    /// `prefer`.
    #[serde(default)]
    pub prefer: bool,
    /// `notify_user`; null: by mail afterwards, and on the terminal at both times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_user: Option<String>,
}

fn sigterm() -> String {
    Signal::default().to_string()
}

/// A `[[rule]]` for a sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SumRuleInForce {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleInForce,
    /// `per`.
    pub per: String,
    /// `strike`.
    pub strike: String,
}
