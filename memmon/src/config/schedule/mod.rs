//! `[[schedule]]`: which interval and limits hold when, by the clock on the wall.
//!
//! A window is a stretch of local time on some days of the week. At each instant the local clock is read and the first
//! window in the file that it falls into decides; in none, `[thresholds]` does. That is all there is to daylight saving
//! time: a window may last an hour more or less in that night, and one that lies within the hour left out has no turn.

mod windows;

use std::{fmt, time::Duration};

use jiff::{Zoned, civil::Weekday};
use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::{model::seconds::as_seconds, policy::Limits};

/// Everything that depends on the time of day.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Schedule {
    /// Outside of every window: `[thresholds]`.
    pub otherwise: Pace,
    /// In the order of the file.
    pub windows: Vec<Window>,
}

/// The interval between scans, and the limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Time between two scans.
    #[serde(serialize_with = "as_seconds")]
    pub check_interval: Duration,
    /// The resident memory that a process may have.
    pub limits: Limits,
}

/// A stretch of local time on some days of the week, and what holds in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    /// Its first minute.
    pub from: Minute,
    /// The minute before which it ends: on the next day, if that is not after `from`.
    pub to: Minute,
    /// The settings in force, with keys that the window leaves out taken from `[thresholds]`.
    #[serde(flatten)]
    pub pace: Pace,
}

impl Schedule {
    /// The settings in force at `now`, in the time zone of `now`.
    pub fn at(&self, now: &Zoned) -> Pace {
        let minute = Minute::of(now);
        let window = self.windows.iter().find(|window| window.holds(now.weekday(), minute));
        window.map_or(self.otherwise, |window| window.pace)
    }

    /// Time after `now` at which [`Schedule::at`] may return another result: the end of the minute, because windows begin
    /// and end with one and so do changes of the clocks. `None` without a window.
    pub fn next_look(&self, now: &Zoned) -> Option<Duration> {
        let left = Duration::from_secs(60 - u64::from(now.second().unsigned_abs().min(59)));
        let gone = Duration::from_nanos(u64::from(now.subsec_nanosecond().unsigned_abs()));
        (!self.windows.is_empty()).then(|| left.saturating_sub(gone))
    }
}

impl Window {
    /// Whether `minute` of a day that is a `day` falls into it.
    pub fn holds(&self, day: Weekday, minute: Minute) -> bool {
        let Self { days, from, to, pace: _ } = self;
        if from < to {
            days.contains(day) && (from..to).contains(&&minute)
        } else {
            // It began today, or yesterday.
            days.contains(day) && minute >= *from || days.contains(day.previous()) && minute < *to
        }
    }

    /// Whether there is a minute of the week that falls into it and into none of those `before` it.
    pub(super) fn has_a_turn_after(&self, before: &[Self]) -> bool {
        WEEK.into_iter().any(|day| {
            (0..Minute::END.0)
                .map(Minute)
                .any(|minute| self.holds(day, minute) && !before.iter().any(|other| other.holds(day, minute)))
        })
    }
}

/// A time of day by the clock on the wall, in minutes since midnight; 24:00 is the end of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Minute {
    /// 00:00.
    pub const START: Self = Self(0);
    /// 24:00.
    pub const END: Self = Self(24 * 60);

    /// `text` as "9:00", "09:00" or "09:00:00"; "24:00" is the last.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut part = |widths: &[usize], most: u16| {
            let digits = parts.next()?;
            let plain = widths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|number| plain && *number <= most)
        };
        let (hour, minute) = (part(&[1, 2], 24)?, part(&[2], 59)?);
        let rest = parts.next();
        let ends = matches!(rest, None | Some("00")) && parts.next().is_none();
        Some(Self(hour * 60 + minute)).filter(|time| ends && *time <= Self::END)
    }

    fn of(now: &Zoned) -> Self {
        Self(u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()))
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for Minute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Days of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Days(u8);

/// The week as it is counted in ranges: "sat-mon" is one, too.
const WEEK: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// Names of the days in the configuration, by their numbers from Monday on.
pub(super) const SHORT: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Days {
    /// All seven.
    pub const EVERY: Self = Self(0x7f);

    /// Whether `day` is one of them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }

    /// `text` as "mon", "Monday" or a range of them that includes both ends.
    ///
    /// # Errors
    /// The part of `text` that is no day.
    pub(super) fn parse(text: &str) -> Result<Self, &str> {
        let day = |word| number(word).ok_or(word);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (day(first.trim())?, day(last.trim())?);
        let length = (last + 7 - first) % 7;
        Ok((first..=first + length).fold(Self::default(), |days, day| days.and(Self(1 << (day % 7)))))
    }

    /// The days of both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the days in the configuration.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        WEEK.into_iter().zip(SHORT).filter(move |(day, _)| self.contains(*day)).map(|(_, name)| name)
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for name in self.names() {
            list.serialize_element(name)?;
        }
        list.end()
    }
}

/// The number of the day that is called `word`, from 0 for Monday.
fn number(word: &str) -> Option<usize> {
    let word = word.to_lowercase();
    (0..7).find(|number| SHORT[*number] == word || LONG[*number] == word)
}

#[cfg(test)]
mod tests {
    use jiff::{civil::date, tz::TimeZone};

    use super::*;
    use crate::model::Bytes;

    fn pace(seconds: u64) -> Pace {
        let limits = Limits::new(10.0, Bytes(2 * Bytes::GIB)).unwrap();
        Pace { check_interval: Duration::from_secs(seconds), limits }
    }

    fn window(days: &str, from: &str, to: &str, seconds: u64) -> Window {
        let [from, to] = [from, to].map(|time| Minute::parse(time).unwrap());
        Window { days: Days::parse(days).unwrap(), from, to, pace: pace(seconds) }
    }

    /// Berlin's rule, without asking this machine for its time zones.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    /// The interval at a local time of that rule.
    fn seconds(schedule: &Schedule, local: &str) -> u64 {
        let now = local.parse::<jiff::civil::DateTime>().unwrap().to_zoned(berlin()).unwrap();
        schedule.at(&now).check_interval.as_secs()
    }

    #[test]
    fn v1s_example_is_15_seconds_from_9_to_17_and_60_otherwise() {
        let windows = vec![window("mon-sun", "09:00", "17:00", 15)];
        let schedule = Schedule { otherwise: pace(60), windows };
        let mut now = date(2025, 10, 3).at(0, 0, 0, 0).to_zoned(berlin()).unwrap();
        for _ in 0..3 * 24 * 60 {
            let expected = if (9..17).contains(&now.hour()) { 15 } else { 60 };
            assert_eq!(schedule.at(&now).check_interval.as_secs(), expected, "{now}");
            now = now.saturating_add(jiff::SignedDuration::from_mins(1));
        }
    }

    #[test]
    fn a_window_across_midnight_belongs_to_the_day_on_which_it_begins() {
        // 2025-10-03 is a Friday.
        let schedule = Schedule { otherwise: pace(60), windows: vec![window("fri", "22:00", "06:00", 5)] };
        for (local, expected) in [
            ("2025-10-03T05:59:59", 60),
            ("2025-10-03T21:59:59", 60),
            ("2025-10-03T22:00:00", 5),
            ("2025-10-03T23:59:59.999", 5),
            ("2025-10-04T00:00:00", 5),
            ("2025-10-04T05:59:59", 5),
            ("2025-10-04T06:00:00", 60),
            ("2025-10-04T22:00:00", 60),
            ("2025-10-10T22:00:00", 5),
        ] {
            assert_eq!(seconds(&schedule, local), expected, "{local}");
        }
    }

    #[test]
    fn the_first_window_decides_and_the_end_of_a_day_is_in_it() {
        let windows = vec![
            window("mon", "12:00", "13:00", 5),
            window("mon-fri", "09:00", "17:00", 15),
            window("sun", "18:00", "24:00", 7),
        ];
        let schedule = Schedule { otherwise: pace(60), windows };
        for (local, expected) in [
            ("2025-10-06T11:59:00", 15),
            ("2025-10-06T12:00:00", 5),
            ("2025-10-07T12:00:00", 15),
            ("2025-10-04T12:00:00", 60),
            ("2025-10-05T23:59:59", 7),
            ("2025-10-06T00:00:00", 60),
        ] {
            assert_eq!(seconds(&schedule, local), expected, "{local}");
        }
    }

    /// Number of minutes of the 30 hours from noon on that are in `window`.
    fn minutes(window: Window, year: i16, month: i8, day: i8) -> usize {
        let schedule = Schedule { otherwise: pace(60), windows: vec![window] };
        let noon = date(year, month, day).at(12, 0, 0, 0).to_zoned(berlin()).unwrap();
        let at = |minute| noon.clone().saturating_add(jiff::SignedDuration::from_mins(minute));
        (0..30 * 60).filter(|minute| schedule.at(&at(*minute)).check_interval.as_secs() == 5).count()
    }

    #[test]
    fn the_clock_on_the_wall_counts_when_the_clocks_are_changed() {
        let night = || window("mon-sun", "22:00", "06:00", 5);
        assert_eq!(minutes(night(), 2025, 6, 1), 8 * 60);
        assert_eq!(minutes(night(), 2025, 3, 29), 7 * 60, "forward at 2:00");
        assert_eq!(minutes(night(), 2025, 10, 25), 9 * 60, "back at 3:00");
        let gone = || window("mon-sun", "02:00", "03:00", 5);
        assert_eq!(minutes(gone(), 2025, 3, 29), 0, "that hour is left out");
        assert_eq!(minutes(gone(), 2025, 10, 25), 2 * 60, "and is there twice");
        assert_eq!(minutes(window("mon-sun", "02:30", "03:30", 5), 2025, 3, 29), 30);
    }

    #[test]
    fn the_next_look_is_at_the_full_minute() {
        let schedule = Schedule { otherwise: pace(60), windows: vec![window("mon", "12:00", "13:00", 5)] };
        for (local, milliseconds) in [("08:59:59.75", 250), ("09:00:00", 60_000), ("09:00:30.5", 29_500)] {
            let now = format!("2025-10-03T{local}").parse::<jiff::civil::DateTime>().unwrap();
            let now = now.to_zoned(berlin()).unwrap();
            assert_eq!(schedule.next_look(&now), Some(Duration::from_millis(milliseconds)), "{local}");
            assert_eq!(Schedule { otherwise: pace(60), windows: vec![] }.next_look(&now), None);
        }
    }

    #[test]
    fn a_window_that_others_cover_has_no_turn() {
        let before = [window("mon-fri", "09:00", "13:00", 1), window("wed-sun", "12:00", "02:00", 1)];
        for (days, from, to, has_a_turn) in [
            ("mon", "09:00", "13:00", false),
            ("mon", "09:00", "13:01", true),
            ("fri", "09:00", "02:00", false),
            ("tue", "09:00", "02:00", true),
            ("mon", "00:00", "02:00", false),
            ("sun", "23:00", "02:01", true),
        ] {
            assert_eq!(window(days, from, to, 2).has_a_turn_after(&before), has_a_turn, "{days} {from} {to}");
        }
    }

    #[test]
    fn times_and_days_are_read_in_the_usual_ways_and_no_others() {
        for (text, minute) in
            [("9:00", 540), ("09:05", 545), ("00:00", 0), ("24:00", 1440), ("23:59:00", 1439)]
        {
            assert_eq!(Minute::parse(text), Some(Minute(minute)), "{text}");
        }
        for text in [
            "", "9", "9:0", "24:01", "25:00", "12:60", "12:00:01", "12:00:00:00", "-1:00", "+9:00",
            "9:00 pm", "٩:00",
        ] {
            assert_eq!(Minute::parse(text), None, "{text}");
        }
        let names = |text| Days::parse(text).unwrap().names().collect::<Vec<_>>().join(" ");
        assert_eq!(names("Mon"), "mon");
        assert_eq!(names("tuesday - THU"), "tue wed thu");
        assert_eq!(names("sat-mon"), "mon sat sun");
        assert_eq!(names("mon-sun"), "mon tue wed thu fri sat sun");
        assert_eq!(Days::parse("mon-fry"), Err("fry"));
        assert_eq!(Days::parse(""), Err(""));
    }
}
