//! The memory of each sum and its change, for users and metrics. No verdict depends on it; the time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::daemon::engine::state::sums::SumId;
use crate::model::{Action, Bytes, Name, ProcessId, SumFigures, Uid};

/// Time for which figures are shown before they are taken again: a sum of many processes takes milliseconds.
const HOLDS: Duration = Duration::from_secs(1);

/// A sum that is in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SumState {
    /// Its figures; the total is an upper bound, as processes that were not looked at closely count with all of their memory.
    pub(crate) figures: SumFigures,
    /// The action above the limit.
    pub(crate) action: Action,
    /// Its growth in bytes per second, since it was taken before.
    pub(crate) growth: Option<f64>,
    /// The largest of its processes.
    pub(crate) largest: Vec<SumPart>,
}

/// A process of a sum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SumPart {
    pub(crate) id: ProcessId,
    pub(crate) comm: Name,
    pub(crate) uid: Uid,
    pub(crate) bytes: Bytes,
}

impl SumState {
    /// Its total as a share of its limit, in percent.
    pub(crate) fn share(&self) -> f64 {
        self.figures.total.percent_of(self.figures.limit)
    }

    /// The time until it is at its limit, if it goes on growing like that.
    pub(crate) fn seconds_to_limit(&self) -> Option<f64> {
        let SumFigures { total, limit, .. } = self.figures;
        let growth = self.growth.filter(|growth| *growth >= 1.0 && total < limit)?;
        Some(limit.saturating_sub(total).0 as f64 / growth)
    }
}

/// The sums as they were taken last, the one with the largest share of its limit first.
#[derive(Debug, Default)]
pub(crate) struct SumTrends {
    taken: Option<Instant>,
    states: Vec<SumState>,
}

impl SumTrends {
    /// Whether the sums are to be taken again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.taken.is_none_or(|taken| now.saturating_duration_since(taken) >= HOLDS)
    }

    /// Notes the sums, which were taken `now`, and how each has changed.
    pub(crate) fn note(&mut self, mut states: Vec<SumState>, now: Instant) {
        let passed = self.taken.replace(now).map(|taken| now.saturating_duration_since(taken).as_secs_f64());
        let id = |state: &SumState| -> SumId { (state.figures.rule, state.figures.group.clone()) };
        let before: HashMap<SumId, Bytes> =
            self.states.iter().map(|state| (id(state), state.figures.total)).collect();
        for state in &mut states {
            let passed = passed.filter(|passed| *passed > 0.0);
            let rate = |before: &Bytes| Some((state.figures.total.0 as f64 - before.0 as f64) / passed?);
            state.growth = before.get(&id(state)).and_then(rate);
        }
        states.sort_by(|one, other| {
            other.share().total_cmp(&one.share()).then_with(|| id(one).cmp(&id(other)))
        });
        self.states = states;
    }

    pub(crate) fn states(&self) -> &[SumState] {
        &self.states
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GroupKey, RuleName};

    const MIB: u64 = 1 << 20;

    fn state(uid: u32, total: u64) -> SumState {
        let figures = SumFigures {
            rule: RuleName::new("users").unwrap(),
            group: GroupKey::User { uid: Uid(uid) },
            total: Bytes(total * MIB),
            limit: Bytes(100 * MIB),
            members: 3,
        };
        SumState { figures, action: Action::Terminate, growth: None, largest: vec![] }
    }

    #[test]
    fn the_largest_share_comes_first_with_its_growth_and_the_time_to_its_limit() {
        let (mut trends, begun) = (SumTrends::default(), Instant::now());
        assert!(trends.is_due(begun));
        trends.note(vec![state(1, 10), state(2, 60)], begun);
        let first = &trends.states()[0];
        assert_eq!((first.share(), first.growth, first.seconds_to_limit()), (60.0, None, None));
        let later = begun + Duration::from_secs(2);
        assert!(!trends.is_due(begun + HOLDS / 2) && trends.is_due(later));
        trends.note(vec![state(1, 80), state(2, 50), state(3, 5)], later);
        let shown: Vec<_> = trends
            .states()
            .iter()
            .map(|state| (state.share(), state.growth, state.seconds_to_limit()))
            .collect();
        let mib = MIB as f64;
        assert_eq!(
            shown,
            [(80.0, Some(35.0 * mib), Some(20.0 / 35.0)), (50.0, Some(-5.0 * mib), None), (5.0, None, None),]
        );
        // One that exceeds its limit has no time left to it.
        trends.note(vec![state(1, 180)], later + HOLDS);
        assert_eq!(trends.states()[0].seconds_to_limit(), None);
    }
}
