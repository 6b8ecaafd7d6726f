//! The growth rate of a process, and the time until it reaches its limit. Everything here is pure: readings and their
//! times go in, a rate comes out.
//!
//! The rate is the slope from the oldest to the newest reading of the last [`WINDOW`]. Each end may be off by the
//! counters' error, so there is a rate only if the process grew by more than both errors together.

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
    /// Time until the limit is reached at this rate; none beyond a year.
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
            // The oldest stays: the error is smaller over a longer time.
            self.readings.remove(1);
        }
        self.readings.push_back((at, rss));
        true
    }

    /// The rate, if the process grew by more than two readings' `error`s.
    pub fn rate(&self, limit: Bytes, error: Bytes) -> Option<Rate> {
        let ((first, low), (last, high)) = (self.readings.front()?, self.readings.back()?);
        let seconds = last.checked_sub(*first)?.as_secs_f64();
        let (gained, doubt) = (high.saturating_sub(*low).0 as f64, 2.0 * error.0 as f64);
        if seconds <= 0.0 || gained <= doubt {
            return None;
        }
        let bytes_per_second = gained / seconds;
        let left = limit.saturating_sub(*high).0 as f64 / bytes_per_second;
        Some(Rate {
            bytes_per_second,
            error: doubt / seconds,
            time_to_limit: (left < 366.0 * 86_400.0).then(|| Duration::from_secs_f64(left)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = Bytes::MIB;

    fn growth(readings: &[(u64, u64)]) -> Growth {
        let mut growth = Growth::default();
        for (seconds, mib) in readings {
            growth.note(Duration::from_secs(*seconds), Bytes(mib * MIB));
        }
        growth
    }

    #[test]
    fn steady_growth_has_a_rate_and_a_time_to_the_limit() {
        let rate = growth(&[(10, 100), (12, 120), (20, 200)]).rate(Bytes(300 * MIB), Bytes(MIB)).unwrap();
        assert_eq!(rate.bytes_per_second, 10.0 * MIB as f64);
        assert_eq!(rate.error, 0.2 * MIB as f64);
        assert_eq!(rate.time_to_limit, Some(Duration::from_secs(10)));
    }

    #[test]
    fn growth_within_the_error_has_no_rate() {
        assert_eq!(growth(&[(10, 100), (20, 102)]).rate(Bytes(300 * MIB), Bytes(MIB)), None);
        assert!(growth(&[(10, 100), (20, 103)]).rate(Bytes(300 * MIB), Bytes(MIB)).is_some());
        assert_eq!(growth(&[(10, 100)]).rate(Bytes(300 * MIB), Bytes::ZERO), None);
        assert_eq!(Growth::default().rate(Bytes(300 * MIB), Bytes::ZERO), None);
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
    fn above_the_limit_no_time_is_left() {
        let rate = growth(&[(1, 100), (2, 400)]).rate(Bytes(300 * MIB), Bytes::ZERO).unwrap();
        assert_eq!(rate.time_to_limit, Some(Duration::ZERO));
    }
}
