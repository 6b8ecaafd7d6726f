//! The state that the engine keeps between two calls, by story: each file has one state with its rules, and no system calls
//! of its own.

pub(crate) mod backoff;
pub(super) mod budget;
pub(super) mod case;
pub(super) mod doubt;
pub(super) mod growth;
pub(crate) mod judged;
pub(super) mod known_limits;
pub(super) mod lasting;
pub(super) mod lazy_free;
pub(super) mod machine;
pub(super) mod observed;
pub(super) mod outlived;
pub(crate) mod over_limit;
pub(super) mod recheck;
pub(super) mod report_once;
pub(crate) mod reports;
pub(crate) mod settings;
pub(crate) mod stopped;
pub(crate) mod sum_trends;
pub(super) mod sums;
pub(super) mod swapping;
pub(super) mod terminations;
pub(crate) mod throttled;
