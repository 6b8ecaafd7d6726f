//! The part of a shortage that a process and its groups are to blame for. [`groups`] has the processes that count as one
//! culprit: those of a unit or a session, and those of a user.
//!
//! A new process is to blame for all that it has. One that held memory before works with it: of its growth the part counts
//! that its growth is of what it held, and at least a quarter. The same holds for a new process of a service that was
//! there before, as the worker of a database is. A login session holds things that have nothing in common, so there each
//! process counts for itself.
//!
//! The rank among those to blame is another question: there, growth that came early counts less ([`super::recency`]).

use std::collections::BTreeMap;

use super::candidate::{Candidate, Held};
use super::recency::weighed;
use crate::model::{Bytes, Group, Name, Process, Uid, unit_path};

/// The least part of its growth that a process is to blame for.
const LEAST: f64 = 0.25;

/// The growth of one process, or of several of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupGrowth {
    /// The growth.
    pub growth: Bytes,
    /// The same, with less of what came early.
    pub weighed: Bytes,
    /// The part of the growth that is to blame.
    pub blame: Bytes,
    /// The same, with less of what came early.
    pub rank: Bytes,
    /// The growth of those that only work.
    pub worked: Bytes,
    /// Number of processes.
    pub processes: usize,
}

/// The growth of all groups.
#[derive(Debug, Default)]
pub struct GroupGrowths(BTreeMap<Group, GroupGrowth>);

impl GroupGrowths {
    /// Adds a process to its groups.
    pub fn add(&mut self, groups: &[Group], blame: Blame) {
        for group in groups {
            let sum = self.0.entry(group.clone()).or_default();
            sum.growth = sum.growth + blame.growth;
            sum.weighed = sum.weighed + blame.weighed;
            sum.blame = sum.blame + blame.bytes;
            sum.rank = sum.rank + blame.rank;
            sum.worked = sum.worked + if blame.works { blame.growth } else { Bytes::ZERO };
            sum.processes += 1;
        }
    }

    /// The sum of a group.
    pub fn of(&self, group: &Group) -> GroupGrowth {
        self.0.get(group).copied().unwrap_or_default()
    }

    /// The largest of some figure of `groups`.
    pub fn largest(&self, groups: &[Group], figure: impl Fn(GroupGrowth) -> Bytes) -> Bytes {
        groups.iter().map(|group| figure(self.of(group))).max().unwrap_or_default()
    }

    /// The blame of the group that is most to blame of all.
    pub fn most(&self) -> Bytes {
        self.most_beside(&[], Bytes::ZERO)
    }

    /// The same without that of a process, `blame`, which is counted in `groups`.
    pub fn most_beside(&self, groups: &[Group], blame: Bytes) -> Bytes {
        let others = |(group, sum): (&Group, &GroupGrowth)| {
            if groups.contains(group) { sum.blame.saturating_sub(blame) } else { sum.blame }
        };
        self.0.iter().map(others).max().unwrap_or_default()
    }
}

/// The growth of the units of some processes, and their memory before it.
#[derive(Debug, Default)]
pub struct Units(BTreeMap<Name, (Bytes, Bytes)>);

/// The blame of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blame {
    /// Its growth.
    pub growth: Bytes,
    /// The same, with less of what came early.
    pub weighed: Bytes,
    /// The part of its growth that it is to blame for.
    pub bytes: Bytes,
    /// The same, with less of what came early.
    pub rank: Bytes,
    /// Whether it only works: it, or its service, has grown by less than it held before.
    pub works: bool,
}

impl Units {
    /// The units of `candidates`, with the growth of each, and of the idle processes.
    pub fn new<'a>(candidates: impl Iterator<Item = (&'a Candidate, Bytes)>, idle: &Held) -> Self {
        let mut units = Self(idle.iter().map(|(unit, held)| (unit.clone(), (Bytes::ZERO, *held))).collect());
        for (Candidate { process, before, .. }, growth) in candidates {
            if let Some(unit) = service(process) {
                let (sum, held) = units.0.entry(unit).or_default();
                (*sum, *held) = (*sum + growth, *held + *before);
            }
        }
        units
    }

    /// The blame of `candidate`, which has grown by `growth`.
    pub fn blame(&self, candidate: &Candidate, growth: Bytes) -> Blame {
        let unit = service(&candidate.process).and_then(|unit| self.0.get(&unit).copied());
        let itself = (growth, candidate.before);
        let weighed = weighed(growth, candidate.own_early());
        let counts = weighed.percent_of(growth) / 100.0;
        let mut blame = Blame { growth, weighed, bytes: growth, rank: weighed, works: false };
        for (grown, before) in std::iter::once(itself).chain(unit) {
            if grown < before {
                let part = (grown.0 as f64 / before.0 as f64).max(LEAST);
                let bytes = blame.bytes.min(growth.times(part));
                blame = Blame { bytes, rank: bytes.times(counts), works: true, ..blame };
            }
        }
        blame
    }
}

/// The unit of a process, if its processes have one purpose: a login session's do not.
pub fn service(process: &Process) -> Option<Name> {
    let unit = process.cgroup.known().and_then(unit_path)?;
    let is_login = unit.starts_with(b"session-") && unit.ends_with(b".scope");
    (!is_login).then(|| Name::new(unit))
}

/// The groups in which a process counts, from the smallest to the largest: itself, its unit or else its session, and its
/// user. Root's processes have no group of their user, because unrelated services run as root.
pub fn groups(process: &Process) -> Vec<Group> {
    let unit = process.cgroup.known().and_then(unit_path).map(|unit| Group::Unit { unit: Name::new(unit) });
    let session = || process.launch.session.map(|leader| Group::Session { leader });
    let user = (process.real_uid != Uid::ROOT).then_some(Group::User { uid: process.real_uid });
    [Group::Process { process: process.id }].into_iter().chain(unit.or_else(session)).chain(user).collect()
}
