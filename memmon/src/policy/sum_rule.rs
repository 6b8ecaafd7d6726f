//! `[[rule]]` with `per`: a limit for what several processes hold together.

use serde::Serialize;

use super::LimitRule;
use crate::model::Per;

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

/// The order in which the processes of a sum end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strike {
    /// The largest first.
    #[default]
    Largest,
    /// The youngest first.
    Newest,
    /// The one that grows fastest first.
    Growing,
    /// All of them.
    All,
}

impl Strike {
    /// All of them.
    pub const EACH: [Self; 4] = [Self::Largest, Self::Newest, Self::Growing, Self::All];

    /// The word of the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Largest => "largest",
            Self::Newest => "newest",
            Self::Growing => "growing",
            Self::All => "all",
        }
    }
}
