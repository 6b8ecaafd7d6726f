//! The state that the engine keeps between two calls, by story: each file has one state with its rules, and no system calls
//! of its own.

pub(in crate::daemon) mod backoff;
pub(super) mod budget;
pub(super) mod case;
pub(super) mod doubt;
pub(super) mod growth;
pub(in crate::daemon) mod judged;
pub(super) mod known_limits;
pub(super) mod lasting;
pub(super) mod lazy_free;
pub(super) mod machine;
pub(super) mod outlived;
pub(in crate::daemon) mod over_limit;
pub(super) mod recheck;
pub(super) mod report_once;
pub(in crate::daemon) mod reports;
pub(in crate::daemon) mod settings;
pub(in crate::daemon) mod stopped;
pub(in crate::daemon) mod sum_trends;
pub(super) mod sums;
pub(super) mod swapping;
pub(super) mod terminations;
pub(in crate::daemon) mod throttled;
