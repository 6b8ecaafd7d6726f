//! At which sizes a growing process is looked at: rungs on the way to the limit, for its slope, and the limit itself.
//! Pure. Who does not grow costs nothing, and who grows is looked at once per rung.

use crate::model::Bytes;

/// Shares of the limit at which a growing process is measured, in eighths: enough for a slope before the limit.
const EIGHTHS: [u64; 4] = [4, 5, 6, 7];

/// The least step between two looks, near the limit. Smaller than what the counters move by at once (32 pages per CPU), so
/// that whoever grows fast is looked at again and again up to its crossing, and is not half a step beyond it by then.
const LEAST_STEP: Bytes = Bytes(64 << 10);

/// The rungs below one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeLevels {
    /// Ascending, the last is the top.
    rungs: Vec<Bytes>,
    warn_at: Option<Bytes>,
    limit: Bytes,
    error: Bytes,
}

impl WakeLevels {
    /// For `limit`, where a reading may be `error` below the truth: the top rung is where a process could be over.
    /// `warn_percent` is a rung of its own.
    pub fn new(limit: Bytes, error: Bytes, warn_percent: Option<f64>) -> Self {
        let top = limit.saturating_sub(error);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u64 is one, and not negative"
        )]
        let warn_at = warn_percent.map(|percent| Bytes((limit.0 as f64 * percent / 100.0) as u64).min(top));
        let mut rungs: Vec<_> =
            EIGHTHS.iter().map(|eighths| Bytes(limit.0 / 8 * eighths)).chain(warn_at).collect();
        rungs.retain(|rung| *rung < top);
        rungs.push(top);
        rungs.sort_unstable();
        rungs.dedup();
        Self { rungs, warn_at, limit, error }
    }

    /// The first rung: nobody below it is ever looked at.
    pub fn lowest(&self) -> Bytes {
        self.rungs.first().copied().unwrap_or(self.limit)
    }

    /// The rung from which on a process may be over its limit, and must be looked at closely.
    pub fn highest(&self) -> Bytes {
        self.rungs.last().copied().unwrap_or(self.limit)
    }

    /// Whether to warn of a process with so much resident.
    pub fn warns_at(&self, rss: Bytes) -> bool {
        self.warn_at.is_some_and(|warn_at| rss >= warn_at)
    }

    /// The next rung for a process whose reading is `rss`.
    pub fn above(&self, rss: Bytes) -> Bytes {
        self.rungs.iter().copied().find(|rung| *rung > rss).unwrap_or(self.limit)
    }

    /// The next level for a process whose reading is `rss`, beyond the top, and which turned out to have `exact`, within
    /// the limit: half of what is left to it, so that looks get closer and are still few. Never beyond what only a process
    /// over the limit can read: what it has less of than its reading says, it may have freed between the two.
    pub fn next_below_limit(&self, rss: Bytes, exact: Bytes) -> Bytes {
        let half = Bytes(self.limit.saturating_sub(exact).0 / 2);
        (rss + half.max(LEAST_STEP)).min(self.limit + self.error.max(LEAST_STEP))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = Bytes::MIB;

    #[test]
    fn a_climb_meets_each_rung_once() {
        let ladder = WakeLevels::new(Bytes(800 * MIB), Bytes(MIB), Some(80.0));
        let mut rungs = vec![ladder.lowest()];
        while let Some(last) = rungs.last().copied().filter(|last| *last < ladder.highest()) {
            rungs.push(ladder.above(last));
        }
        let mib: Vec<_> = rungs.iter().map(|rung| rung.0 / MIB).collect();
        assert_eq!(mib, [400, 500, 600, 640, 700, 799]);
        assert!(!ladder.warns_at(Bytes(639 * MIB)) && ladder.warns_at(Bytes(640 * MIB)));
    }

    #[test]
    fn an_error_larger_than_the_limit_leaves_one_rung() {
        let ladder = WakeLevels::new(Bytes(MIB), Bytes(5 * MIB), Some(80.0));
        assert_eq!((ladder.lowest(), ladder.highest()), (Bytes::ZERO, Bytes::ZERO));
    }

    #[test]
    fn who_freed_memory_before_the_look_is_looked_at_beyond_the_limit_all_the_same() {
        let ladder = WakeLevels::new(Bytes(32 * MIB), Bytes(MIB), None);
        assert_eq!(ladder.next_below_limit(Bytes(31 * MIB), Bytes(3 * MIB)), Bytes(33 * MIB));
        assert_eq!(ladder.next_below_limit(Bytes(60 * MIB), Bytes(3 * MIB)), Bytes(33 * MIB));
        assert_eq!(ladder.next_below_limit(Bytes(31 * MIB), Bytes(31 * MIB)), Bytes(31 * MIB + MIB / 2));
    }

    proptest! {
        #[test]
        fn looks_near_the_limit_are_few_and_end_beyond_it(limit in 1..1_u64 << 40, error in 0..1_u64 << 32) {
            let ladder = WakeLevels::new(Bytes(limit), Bytes(error), None);
            // The reading is all the error below the truth: the climb that takes the most looks.
            let mut rss = ladder.highest();
            let mut looks = 0;
            while rss + Bytes(error) <= Bytes(limit) {
                rss = ladder.next_below_limit(rss, rss + Bytes(error));
                looks += 1;
                prop_assert!(looks < 100);
            }
            let mut rss = ladder.highest();
            while rss <= Bytes(limit) {
                rss = ladder.next_below_limit(rss, rss);
                looks += 1;
                prop_assert!(looks < 200);
            }
        }

        #[test]
        fn rungs_ascend_and_none_is_above_the_top(limit in 0..1_u64 << 50, error in 0..1_u64 << 40, at in 1.0..100.0) {
            let ladder = WakeLevels::new(Bytes(limit), Bytes(error), Some(at));
            prop_assert!(ladder.rungs.is_sorted_by(|a, b| a < b));
            prop_assert!(ladder.highest() <= Bytes(limit) && ladder.lowest() <= ladder.highest());
            prop_assert!(ladder.above(Bytes(limit)) == Bytes(limit));
        }
    }
}
