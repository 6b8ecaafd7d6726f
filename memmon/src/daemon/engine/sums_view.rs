//! The sums for queries and metrics, by figures that are known already. Nothing follows from them.

use crate::daemon::clock::Now;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::sum_trends::{SumPart, SumState};
use crate::model::{Bytes, Process, RuleName, SumFigures};
use crate::policy::{self, Group};

/// Number of processes of a sum that an answer names.
const SHOWN: usize = 3;

impl Engine<'_> {
    /// The sums in force, the one with the largest share of its limit first, as they were within the last second.
    pub(crate) fn sums_in_force(&mut self, now: Now) -> &[SumState] {
        let now = now.instant();
        if self.sum_trends.is_due(now) {
            let bound = |process: &Process| {
                self.sums.get(process.id.pid).map_or(Bytes::ZERO, |known| known.bound(now))
            };
            let (rules, memory) = (self.settings.rules(), self.settings.memory());
            let groups = policy::groups(rules, &memory, self.sums.processes());
            let states = groups.iter().map(|group| state(group, bound)).collect();
            self.sum_trends.note(states, now);
        }
        self.sum_trends.states()
    }

    /// The rules for sums that have a limit, with it.
    pub(crate) fn sum_limits(&self) -> Vec<(RuleName, Bytes)> {
        let (rules, memory) = (self.settings.rules(), self.settings.memory());
        let limit = |rule| rules.limit_under(Some(rule), &memory).map(|(_, limit)| limit);
        rules.sums.iter().filter_map(|sum| Some((sum.rule.name, limit(&sum.rule)?))).collect()
    }
}

fn state(group: &Group<'_>, bound: impl Fn(&Process) -> Bytes) -> SumState {
    let part = |(process, _): &(&Process, bool)| SumPart {
        id: process.id,
        comm: process.names.comm.clone(),
        uid: process.real_uid,
        bytes: bound(process),
    };
    let mut largest: Vec<_> = group.members.iter().map(part).collect();
    let figures = SumFigures {
        rule: group.rule.rule.name,
        group: group.key.clone(),
        total: largest.iter().map(|part| part.bytes).sum(),
        limit: group.limit.1,
        members: largest.len(),
    };
    largest.sort_by_key(|part| (std::cmp::Reverse(part.bytes), part.id));
    largest.truncate(SHOWN);
    SumState { figures, action: group.rule.rule.action, growth: None, largest }
}
