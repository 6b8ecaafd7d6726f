//! `[[rule]]` with `per`: a limit for what several processes hold together.

use serde::Serialize;

use super::LimitRule;
use crate::model::{Per, words};

/// A `[[rule]]` with a limit for a sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SumRule {
    /// The rule; its matcher chooses the processes that count.
    #[serde(flatten)]
    pub rule: LimitRule,
    /// The kind of group that the sum is taken over.
    pub per: Per,
    /// The process that ends first.
    pub strike: Strike,
}

words! {
    /// The order in which the processes of a sum end.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
    pub enum Strike {
        /// The largest first.
        #[default]
        Largest = "largest",
        /// The youngest first.
        Newest = "newest",
        /// The one that grows fastest first.
        Growing = "growing",
        /// All of them.
        All = "all",
    }
}
