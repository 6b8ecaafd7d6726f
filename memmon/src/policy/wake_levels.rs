//! The wake levels: sizes at which a growing process is looked at. Levels below the limit measure its growth rate, and
//! the highest one is where it could be over the limit. Everything here is pure. A process that does not grow costs
//! nothing; one that grows is looked at once per level.

use crate::model::Bytes;

/// Shares of the limit, in eighths, at which a growing process is measured: enough for a growth rate before the limit.
const EIGHTHS: [u64; 4] = [4, 5, 6, 7];

/// Minimum step between two looks, near the limit. It is smaller than the batch by which the counters move (32 pages per
/// CPU), so that a fast-growing process is looked at until it crosses its limit, and not half a step later.
const MIN_STEP: Bytes = Bytes(64 << 10);

/// The wake levels for one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeLevels {
    /// Ascending; the last is the highest.
    levels: Vec<Bytes>,
    warn_at: Option<Bytes>,
    limit: Bytes,
    error: Bytes,
}

impl WakeLevels {
    /// The levels for `limit`, if a reading may be `error` too low: at the highest level a process could be over the
    /// limit. `warn_percent` is a level of its own.
    pub fn new(limit: Bytes, error: Bytes, warn_percent: Option<f64>) -> Self {
        let highest = limit.saturating_sub(error);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a u64 is one, and not negative"
        )]
        let warn_at =
            warn_percent.map(|percent| Bytes((limit.0 as f64 * percent / 100.0) as u64).min(highest));
        let mut levels: Vec<_> =
            EIGHTHS.iter().map(|eighths| Bytes(limit.0 / 8 * eighths)).chain(warn_at).collect();
        levels.retain(|level| *level < highest);
        levels.push(highest);
        levels.sort_unstable();
        levels.dedup();
        Self { levels, warn_at, limit, error }
    }

    /// The limit that they lead to.
    pub const fn limit(&self) -> Bytes {
        self.limit
    }

    /// The lowest level: a process below it is never looked at.
    pub fn lowest(&self) -> Bytes {
        self.levels.first().copied().unwrap_or(self.limit)
    }

    /// The level from which on a process may be over its limit and must be confirmed.
    pub fn highest(&self) -> Bytes {
        self.levels.last().copied().unwrap_or(self.limit)
    }

    /// Whether to warn about a process with this resident memory.
    pub fn warns_at(&self, rss: Bytes) -> bool {
        self.warn_at.is_some_and(|warn_at| rss >= warn_at)
    }

    /// The next level for a process whose reading is `rss`.
    pub fn above(&self, rss: Bytes) -> Bytes {
        self.levels.iter().copied().find(|level| *level > rss).unwrap_or(self.limit)
    }

    /// The next level for a process whose reading is `rss`, above the highest level, and whose exact memory is `exact`,
    /// within the limit: half of the remaining distance, so that looks get closer and are still few. The level is never
    /// above readings that only a process over the limit can have, because the process may have freed memory between
    /// the reading and the look.
    pub fn next_below_limit(&self, rss: Bytes, exact: Bytes) -> Bytes {
        let half = Bytes(self.limit.saturating_sub(exact).0 / 2);
        (rss + half.max(MIN_STEP)).min(self.limit + self.error.max(MIN_STEP))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = Bytes::MIB;

    #[test]
    fn a_growing_process_meets_each_level_once() {
        let levels = WakeLevels::new(Bytes(800 * MIB), Bytes(MIB), Some(80.0));
        let mut met = vec![levels.lowest()];
        while let Some(last) = met.last().copied().filter(|last| *last < levels.highest()) {
            met.push(levels.above(last));
        }
        let mib: Vec<_> = met.iter().map(|level| level.0 / MIB).collect();
        assert_eq!(mib, [400, 500, 600, 640, 700, 799]);
        assert!(!levels.warns_at(Bytes(639 * MIB)) && levels.warns_at(Bytes(640 * MIB)));
    }

    #[test]
    fn an_error_larger_than_the_limit_leaves_one_level() {
        let levels = WakeLevels::new(Bytes(MIB), Bytes(5 * MIB), Some(80.0));
        assert_eq!((levels.lowest(), levels.highest()), (Bytes::ZERO, Bytes::ZERO));
    }

    #[test]
    fn a_process_that_freed_memory_before_the_look_has_its_next_level_near_the_limit() {
        let levels = WakeLevels::new(Bytes(32 * MIB), Bytes(MIB), None);
        assert_eq!(levels.next_below_limit(Bytes(31 * MIB), Bytes(3 * MIB)), Bytes(33 * MIB));
        assert_eq!(levels.next_below_limit(Bytes(60 * MIB), Bytes(3 * MIB)), Bytes(33 * MIB));
        assert_eq!(levels.next_below_limit(Bytes(31 * MIB), Bytes(31 * MIB)), Bytes(31 * MIB + MIB / 2));
    }

    proptest! {
        #[test]
        fn looks_near_the_limit_are_few_and_end_beyond_it(limit in 1..1_u64 << 40, error in 0..1_u64 << 32) {
            let levels = WakeLevels::new(Bytes(limit), Bytes(error), None);
            // The reading is too low by the whole error: this growth takes the most looks.
            let mut rss = levels.highest();
            let mut looks = 0;
            while rss + Bytes(error) <= Bytes(limit) {
                rss = levels.next_below_limit(rss, rss + Bytes(error));
                looks += 1;
                prop_assert!(looks < 100);
            }
            let mut rss = levels.highest();
            while rss <= Bytes(limit) {
                rss = levels.next_below_limit(rss, rss);
                looks += 1;
                prop_assert!(looks < 200);
            }
        }

        #[test]
        fn levels_ascend_up_to_the_limit(limit in 0..1_u64 << 50, error in 0..1_u64 << 40, at in 1.0..100.0) {
            let levels = WakeLevels::new(Bytes(limit), Bytes(error), Some(at));
            prop_assert!(levels.levels.is_sorted_by(|a, b| a < b));
            prop_assert!(levels.highest() <= Bytes(limit) && levels.lowest() <= levels.highest());
            prop_assert!(levels.above(Bytes(limit)) == Bytes(limit));
        }
    }
}
