//! Processes in groups: by user, by unit, or by rule, with what each group holds and its limit, if a rule gives it one. Pure.

use std::collections::BTreeMap;

use super::{sample::Sample, sort::Sort};
use crate::{
    model::{Bytes, Per, Uid},
    status::{Row, SumInForce},
};

/// The kind of a line of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Grouping {
    /// A process.
    #[default]
    Processes,
    /// The processes of a user.
    User,
    /// The processes of a unit.
    Unit,
    /// The processes that a rule decides about, and each sum of a rule.
    Rule,
}

impl Grouping {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::User => "user",
            Self::Unit => "unit",
            Self::Rule => "rule",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Processes => Self::User,
            Self::User => Self::Unit,
            Self::Unit => Self::Rule,
            Self::Rule => Self::Processes,
        }
    }
}

/// A group of processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// The user, unit, rule, or sum.
    pub(super) name: String,
    /// Number of processes; without a sum, those in the table.
    pub(super) processes: usize,
    /// The memory that they hold together; without a sum, the resident memory of those in the table.
    pub(super) holds: Bytes,
    /// The limit of what they hold together.
    pub(super) limit: Option<Bytes>,
    /// Its growth in bytes per second.
    pub(super) growth: Option<f64>,
    /// Seconds until it is at its limit, if it goes on like that.
    pub(super) left: Option<f64>,
    /// The rule that limits it.
    pub(super) rule: String,
    /// The largest processes.
    pub(super) largest: Vec<String>,
}

impl Group {
    /// Its memory as a share of its limit, in percent.
    pub(super) fn share(&self) -> Option<f64> {
        self.limit.map(|limit| self.holds.percent_of(limit))
    }

    pub(super) fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.holds > limit)
    }

    fn add(&mut self, row: &Row, growth: Option<f64>) {
        self.processes += 1;
        self.holds = self.holds + row.rss_bytes;
        self.growth = match (self.growth, growth) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        // The rows come by size.
        self.largest.push(format!("{} {}", row.id.pid, row.comm));
    }
}

/// The groups of a sample in the order of `sort`. `growth` is that of a process.
pub(super) fn groups(
    sample: &Sample,
    grouping: Grouping,
    sort: Sort,
    growth: impl Fn(&Row) -> Option<f64>,
) -> Vec<Group> {
    let user = |uid: Uid| sample.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string());
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for row in &sample.table.rows {
        let name = match grouping {
            Grouping::Processes => return vec![],
            Grouping::User => user(row.uid),
            Grouping::Unit => row.unit.as_ref().map_or_else(|| "no unit".to_owned(), ToString::to_string),
            Grouping::Rule => {
                row.rule.as_ref().map_or_else(|| "[thresholds]".to_owned(), ToString::to_string)
            }
        };
        groups.entry(name).or_default().add(row, growth(row));
    }
    // The one nearest to its limit comes first: of two rules for the same group it is the one that shows.
    for sum in &sample.sums {
        let name = match (grouping, sum.group.per) {
            (Grouping::User, Per::User) => sum.group.uid.map(user),
            (Grouping::Unit, Per::Unit) => sum.group.unit.as_ref().map(ToString::to_string),
            (Grouping::Rule, _) => Some(format!("{}: {}", sum.rule, sum.group.shown(user))),
            _ => None,
        };
        let Some(name) = name else { continue };
        let group = groups.entry(name).or_default();
        if group.limit.is_none() {
            *group = of_sum(sum);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().map(|(name, group)| Group { name, ..group }).collect();
    let key = |group: &Group| match sort {
        Sort::Memory => -(group.holds.0 as f64),
        Sort::Growth => -group.growth.unwrap_or(f64::NEG_INFINITY),
        Sort::Left => group.left.unwrap_or(f64::INFINITY),
        Sort::Pid | Sort::User | Sort::Name => 0.0,
    };
    groups.sort_by(|one, other| key(one).total_cmp(&key(other)).then_with(|| one.name.cmp(&other.name)));
    groups
}

fn of_sum(sum: &SumInForce) -> Group {
    Group {
        name: String::new(),
        processes: sum.members,
        holds: sum.total_bytes,
        limit: Some(sum.limit_bytes),
        growth: sum.growth.bytes_per_second,
        left: sum.growth.seconds_to_limit,
        rule: sum.rule.to_string(),
        largest: sum.largest.iter().map(|member| format!("{} {}", member.id.pid, member.comm)).collect(),
    }
}
