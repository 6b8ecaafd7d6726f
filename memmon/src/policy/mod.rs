//! Decides who is terminated: limits, whitelist, scope and what is never touched. Pure: rules and facts in, verdicts
//! out. Anything that `memmon explain` should be able to show is decided here.

mod patterns;
mod rules;

pub use patterns::{CgroupPatterns, NamePatterns, PatternError};
pub use rules::{Limits, LimitsError, Rules, Scope, UidRanges, Whitelist};
