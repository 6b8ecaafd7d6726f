//! A sum as the kernel side counts it, and the level at which it is to wake memmon next. Everything here is pure.

use crate::model::Bytes;

/// A sum as the kernel side counts it: each shared page once for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SumFigure {
    /// The memory that its processes are counted with.
    pub(crate) counted: Bytes,
    /// Number of its processes.
    pub(crate) members: u64,
    /// The memory that each of them may have in addition.
    pub(crate) each: Bytes,
}

/// The meaning of a figure for a group of processes under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SumWatch {
    /// Whether the kernel wakes memmon before the group can exceed its limit. Otherwise, as when processes share memory, or
    /// only some of a user's processes count, memmon has to look.
    pub(crate) suffices: bool,
    /// Whether the sum is above half of its limit.
    pub(crate) near: bool,
    /// The level at which the sum wakes memmon next.
    pub(crate) level: Bytes,
}

/// Smallest part of a limit by which a sum grows from one look to the next.
const SMALLEST_STEP: u64 = 64;

impl SumFigure {
    /// The memory that its processes may have, compared with `level` as the kernel side compares it.
    fn at_most(self, level: Bytes) -> Bytes {
        self.counted + Bytes(self.each.0.saturating_mul(self.members).min(level.0 / 4))
    }

    /// Its meaning for a group under `limit` that has `bound` at most, by the last look.
    pub(crate) fn watch(self, limit: Bytes, bound: Bytes) -> SumWatch {
        let half = Bytes(limit.0 / 2);
        if self.at_most(half) < half {
            return SumWatch { suffices: true, near: false, level: half };
        }
        if self.at_most(limit) < limit {
            return SumWatch { suffices: true, near: true, level: limit };
        }
        let step = (limit.saturating_sub(bound).0 / 2).max(limit.0 / SMALLEST_STEP);
        let next = self.counted.0.saturating_add(step);
        let slack = self.each.0.saturating_mul(self.members);
        // The level at which the kernel side finds it to have grown by the step, with what it adds for its error.
        let level = Bytes(next.saturating_add(slack).min(next / 3 * 4));
        SumWatch { suffices: false, near: true, level }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = Bytes::MIB;

    fn figure(counted: u64, members: u64) -> SumFigure {
        SumFigure { counted: Bytes(counted * MIB), members, each: Bytes(MIB) }
    }

    #[test]
    fn a_sum_wakes_at_half_of_its_limit_then_at_the_limit_then_as_it_grows() {
        let watch = |counted: u64, members: u64, bound: u64| {
            let SumWatch { suffices, near, level } =
                figure(counted, members).watch(Bytes(640 * MIB), Bytes(bound * MIB));
            (suffices, near, level.0 / MIB)
        };
        assert_eq!(watch(0, 0, 0), (true, false, 320));
        assert_eq!(watch(300, 19, 300), (true, false, 320));
        assert_eq!(watch(300, 20, 300), (true, true, 640), "each of them may have one more");
        assert_eq!(watch(619, 20, 619), (true, true, 640));
        assert_eq!(watch(620, 20, 600), (false, true, 660), "half of the rest");
        assert_eq!(watch(5000, 20, 320), (false, true, 5180), "shared memory");
        assert_eq!(watch(640, 20, 640), (false, true, 670), "no looks closer than a 64th");
        assert_eq!(watch(500, 1000, 600), (false, true, 693), "the error is a quarter of the level at most");
    }

    proptest! {
        /// The kernel side does not wake memmon for a level that it is above already, and does before a sum that it suffices
        /// for is beyond its limit.
        #[test]
        fn no_level_is_reached_already(counted in 0_u64..5000, members in 0_u64..300, limit in 64_u64..4000, bound in 0_u64..5000) {
            let (figure, limit) = (figure(counted, members), Bytes(limit * MIB));
            let watch = figure.watch(limit, Bytes(bound * MIB));
            prop_assert!(figure.at_most(watch.level) < watch.level);
            prop_assert!(!watch.suffices || watch.level <= limit);
            prop_assert_eq!(watch.near, figure.at_most(Bytes(limit.0 / 2)) >= Bytes(limit.0 / 2));
        }
    }
}
