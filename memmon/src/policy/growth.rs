//! The growth rate of a process, and the time until it reaches its limit. Everything here is pure: readings and their
//! times go in, a rate comes out.
//!
//! The rate is the slope from the oldest to the newest reading of the last [`WINDOW`]. Each end may be off by the
//! counters' error, so there is a rate only if the process grew by more than both errors together.
//! A rate ages: without a newer reading, or while the readings stand still, it fades to none.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::model::{Bytes, seconds::as_seconds_if_any};

/// Maximum age of a reading.
const WINDOW: Duration = Duration::from_secs(120);

/// Number of readings that are kept of one process: one per wake level, or those of some scans.
const READINGS: usize = 8;

/// The recent readings of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Growth {
    /// Times (CLOCK_MONOTONIC) and RSS, oldest first.
    readings: VecDeque<(Duration, Bytes)>,
}

/// A growth rate with its error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// RSS gained per second; never negative.
    pub bytes_per_second: f64,
    /// Maximum error of the rate in either direction, from the readings' errors.
    pub error: f64,
    /// Time until the limit is reached at this rate; `None` if that is more than a year, or if the process is over the
    /// limit.
    #[serde(serialize_with = "as_seconds_if_any")]
    pub time_to_limit: Option<Duration>,
}

impl Growth {
    /// Adds a reading. A smaller reading than the last removes the earlier ones. Returns false, and ignores the reading,
    /// if it is not later than the last.
    pub fn note(&mut self, at: Duration, rss: Bytes) -> bool {
        if let Some((last, before)) = self.readings.back().copied() {
            if at <= last {
                return false;
            }
            if rss < before {
                self.readings.clear();
            }
        }
        self.readings.retain(|(then, _)| at.saturating_sub(*then) <= WINDOW);
        if self.readings.len() == READINGS {
            // The oldest stays: the error is smaller over a longer time. The rest stays spread over the window: the one
            // goes whose neighbours are closest.
            let between = |index: &usize| {
                let at = |index: usize| self.readings.get(index).map_or(Duration::MAX, |(at, _)| *at);
                at(index + 1).saturating_sub(at(index - 1))
            };
            let closest = (1..READINGS - 1).min_by_key(between).unwrap_or(1);
            self.readings.remove(closest);
        }
        self.readings.push_back((at, rss));
        true
    }

    /// The rate at `now`, if the process grew by more than two readings' `error`s.
    ///
    /// It is the mean of the whole growth, or that of its newer half if that is lower. Without a newer reading it holds for as
    /// long as it was measured, then fades, and is gone at twice that age.
    pub fn rate(&self, limit: Bytes, error: Bytes, now: Duration) -> Option<Rate> {
        let ((first, low), (last, high)) = (self.readings.front()?, self.readings.back()?);
        let seconds = last.checked_sub(*first)?.as_secs_f64();
        let (gained, doubt) = (high.saturating_sub(*low).0 as f64, 2.0 * error.0 as f64);
        if seconds <= 0.0 || gained <= doubt {
            return None;
        }
        let middle = *first + (*last - *first) / 2;
        let (then, half) = self.readings.iter().rev().find(|(at, _)| *at <= middle)?;
        let newer = high.saturating_sub(*half).0 as f64;
        if newer <= error.0 as f64 {
            return None;
        }
        let mean = (gained / seconds).min(newer / last.saturating_sub(*then).as_secs_f64());
        let age = now.saturating_sub(*last).as_secs_f64() / seconds;
        let left = (2.0 - age).min(1.0);
        if left <= 0.0 {
            return None;
        }
        let bytes_per_second = left * mean;
        let time_to_limit =
            limit.0.checked_sub(high.0).filter(|room| *room > 0).map(|room| room as f64 / bytes_per_second);
        Some(Rate {
            bytes_per_second,
            error: doubt / seconds,
            time_to_limit: time_to_limit.filter(|left| *left < 366.0 * 86_400.0).map(Duration::from_secs_f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = Bytes::MIB;

    fn now(growth: &Growth) -> Duration {
        growth.readings.back().map(|(at, _)| *at).unwrap_or_default()
    }

    fn growth(readings: &[(u64, u64)]) -> Growth {
        let mut growth = Growth::default();
        for (seconds, mib) in readings {
            growth.note(Duration::from_secs(*seconds), Bytes(mib * MIB));
        }
        growth
    }

    #[test]
    fn steady_growth_has_a_rate_and_a_time_to_the_limit() {
        let growth = growth(&[(10, 100), (12, 120), (20, 200)]);
        let rate = growth.rate(Bytes(300 * MIB), Bytes(MIB), now(&growth)).unwrap();
        assert_eq!(rate.bytes_per_second, 10.0 * MIB as f64);
        assert_eq!(rate.error, 0.2 * MIB as f64);
        assert_eq!(rate.time_to_limit, Some(Duration::from_secs(10)));
    }

    #[test]
    fn growth_within_the_error_has_no_rate() {
        let rate = |growth: Growth, error| growth.rate(Bytes(300 * MIB), Bytes(error * MIB), now(&growth));
        assert_eq!(rate(growth(&[(10, 100), (20, 102)]), 1), None);
        assert!(rate(growth(&[(10, 100), (20, 103)]), 1).is_some());
        assert_eq!(rate(growth(&[(10, 100)]), 0), None);
        assert_eq!(rate(Growth::default(), 0), None);
    }

    #[test]
    fn a_rate_fades_if_no_reading_confirms_it() {
        let growth = growth(&[(10, 100), (20, 200)]);
        let mib_per_second = |now| {
            let rate = growth.rate(Bytes(300 * MIB), Bytes(MIB), Duration::from_secs(now));
            rate.map(|rate| rate.bytes_per_second / MIB as f64)
        };
        assert_eq!(mib_per_second(20), Some(10.0));
        assert_eq!(mib_per_second(30), Some(10.0));
        assert_eq!(mib_per_second(35), Some(5.0));
        assert_eq!(mib_per_second(40), None);
        assert_eq!(mib_per_second(4000), None);
    }

    #[test]
    fn a_rate_fades_sooner_while_readings_stand_still() {
        let mib_per_second = |seconds: u64| {
            let rise = (10..=20).map(|at| (at, 10 * at));
            let growth =
                growth(&rise.chain((1..=seconds).map(|later| (20 + later, 200))).collect::<Vec<_>>());
            let rate = growth.rate(Bytes(300 * MIB), Bytes(MIB), now(&growth));
            rate.map(|rate| (rate.bytes_per_second / MIB as f64).round())
        };
        assert_eq!(mib_per_second(0), Some(10.0));
        assert!((8..25).map(mib_per_second).all(|rate| rate <= Some(2.0)));
        assert!((25..90).map(mib_per_second).all(|rate| rate.is_none()));
    }

    #[test]
    fn a_burst_has_no_rate_soon_after_it() {
        let burst = |later: u64, rss| {
            let mut growth = Growth::default();
            for (millis, mib) in [(0, 100), (100, 150), (200, 195), (200 + later, rss)] {
                growth.note(Duration::from_millis(millis), Bytes(mib * MIB));
            }
            let rate = growth.rate(Bytes(300 * MIB), Bytes(MIB), now(&growth));
            rate.map(|rate| (rate.bytes_per_second / MIB as f64).round())
        };
        assert_eq!(burst(100, 245), Some(475.0));
        assert_eq!(burst(2000, 195), None);
        // The last part of it, which no reading saw before.
        assert_eq!(burst(2000, 200), Some(3.0));
    }

    #[test]
    fn one_that_grows_scan_by_scan_has_its_rate_at_any_time() {
        let readings: Vec<_> = (0..6).map(|scan| (30 * scan, 100 + 10 * scan)).collect();
        for scans in 2..=readings.len() {
            let growth = growth(&readings[..scans]);
            for later in 0..=30 {
                let at = now(&growth) + Duration::from_secs(later);
                let rate = growth.rate(Bytes(300 * MIB), Bytes(MIB), at).unwrap().bytes_per_second;
                assert!((rate - MIB as f64 / 3.0).abs() < 1.0, "{rate} after {scans} scans and {later} s");
            }
        }
    }

    #[test]
    fn a_smaller_reading_starts_again_and_old_readings_are_removed() {
        assert_eq!(growth(&[(10, 100), (20, 200), (21, 50)]), growth(&[(21, 50)]));
        assert_eq!(growth(&[(10, 100), (20, 110), (135, 200)]), growth(&[(20, 110), (135, 200)]));
        assert_eq!(growth(&[(10, 100), (10, 300), (9, 400)]), growth(&[(10, 100)]));
    }

    #[test]
    fn long_growth_keeps_its_first_and_last_reading() {
        let readings: Vec<_> = (1..=50).map(|second| (second, second * 10)).collect();
        let growth = growth(&readings);
        assert_eq!(growth.readings.len(), READINGS);
        assert_eq!(growth.readings.front(), Some(&(Duration::from_secs(1), Bytes(10 * MIB))));
        assert_eq!(growth.readings.back(), Some(&(Duration::from_secs(50), Bytes(500 * MIB))));
    }

    #[test]
    fn over_the_limit_there_is_no_time_until_it() {
        for rss in [300, 400] {
            let rate =
                growth(&[(1, 100), (2, rss)]).rate(Bytes(300 * MIB), Bytes::ZERO, Duration::from_secs(2));
            assert_eq!(rate.unwrap().time_to_limit, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_rate_outlives_twice_what_it_was_measured_for(
            readings in proptest::collection::vec((1_u64..300, 0_u64..1000), 0..20),
            limit in 0_u64..1000,
            error in 0_u64..10,
            later in 0_u64..1000,
        ) {
            let mut growth = Growth::default();
            let mut at = Duration::ZERO;
            for (pause, mib) in readings {
                at += Duration::from_secs(pause);
                growth.note(at, Bytes(mib * MIB));
            }
            let span = growth.readings.front().map_or(Duration::ZERO, |(first, _)| at - *first);
            let later = Duration::from_secs(later);
            if let Some(rate) = growth.rate(Bytes(limit * MIB), Bytes(error * MIB), at + later) {
                proptest::prop_assert!(later < 2 * span);
                proptest::prop_assert!(rate.bytes_per_second > 0.0);
                proptest::prop_assert!(rate.time_to_limit != Some(Duration::ZERO));
            }
        }
    }
}
