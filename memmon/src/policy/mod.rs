//! Decides which processes are terminated: limits, whitelist, scope, and processes that are never touched. Everything
//! here is pure: rules and facts go in, verdicts come out. Every decision that `memmon explain` can show is made here.

mod choice;
mod coverage;
mod exemptions;
mod explain;
mod growth;
mod limit_rule;
pub mod machine;
mod matcher;
mod patterns;
pub mod replay;
mod rule_index;
mod rules;
mod sum_rule;
mod sums;
pub mod throttle;
mod uid_ranges;
mod wake_levels;
mod walk;

#[cfg(test)]
mod exemptions_tests;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sums_tests;
#[cfg(test)]
mod tables;

pub use coverage::{Coverage, coverage};
pub use explain::{Asked, Change, Explanation, Otherwise, Step, explain};
pub use growth::{Growth, Rate};
pub use limit_rule::{LimitRule, RuleLimit};
pub use matcher::{Matched, Matcher};
pub use patterns::{ArgPatterns, CgroupPatterns, ExePatterns, NamePatterns, PatternError, UnitPatterns};
pub use rules::{Limits, LimitsError, Rules, Scope, Whitelist};
pub use sum_rule::{Strike, SumRule};
pub use sums::{Group, Member, Sum, SumVerdict, groups};
pub use uid_ranges::UidRanges;
pub use wake_levels::WakeLevels;
pub use walk::{Finding, Rule, Verdicts, could_be_terminated, decide, guard, judge, judge_as_over, suspects};
