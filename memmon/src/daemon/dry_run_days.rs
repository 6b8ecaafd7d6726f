//! The terminations that a dry run would have made, by day: counts by program and user, for the last days, kept in memory
//! only.

use std::collections::{BTreeMap, VecDeque};

use jiff::civil::Date;

use crate::model::{Bytes, Name, Uid};

/// Days that are kept: a week, and the day before it.
const DAYS: usize = 8;
/// Programs that are counted by themselves in one day; more are counted together.
const PROGRAMS: usize = 50;

/// The last days on which something would have been terminated.
#[derive(Debug, Default)]
pub(super) struct DryRunDays(VecDeque<Day>);

/// One day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) date: Date,
    /// Terminations that would have been, by comm and real uid.
    pub(super) programs: BTreeMap<(Name, Uid), Count>,
    /// The terminations of further programs.
    pub(super) others: u64,
    /// Whether the day's summary was logged.
    logged: bool,
}

/// The number of terminations, and the largest process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) times: u64,
    pub(super) largest: Bytes,
}

impl DryRunDays {
    /// Counts a termination that was not, on `today`.
    pub(super) fn note(&mut self, today: Date, comm: &Name, uid: Uid, rss: Bytes) {
        // A clock that was set back counts for the last day that is known.
        if self.0.back().is_none_or(|day| day.date < today) {
            if self.0.len() == DAYS {
                self.0.pop_front();
            }
            self.0.push_back(Day { date: today, programs: BTreeMap::new(), others: 0, logged: false });
        }
        let Some(day) = self.0.back_mut() else { return };
        let key = (comm.clone(), uid);
        if day.programs.len() >= PROGRAMS && !day.programs.contains_key(&key) {
            day.others += 1;
            return;
        }
        let count = day.programs.entry(key).or_default();
        count.times += 1;
        count.largest = count.largest.max(rss);
    }

    /// The day that is over and was not logged yet, if there is one: each is returned once.
    pub(super) fn over(&mut self, today: Date) -> Option<&Day> {
        let day = self.0.iter_mut().find(|day| day.date < today && !day.logged)?;
        day.logged = true;
        Some(day)
    }

    /// The days within the last week, the latest first.
    pub(super) fn days(&self, today: Date) -> impl Iterator<Item = &Day> {
        // A clock that was set back shows days to come, which are recent too.
        let recent = move |day: &&Day| {
            today
                .since(day.date)
                .is_ok_and(|span| usize::try_from(span.get_days().max(0)).is_ok_and(|days| days < DAYS))
        };
        self.0.iter().rev().filter(recent)
    }
}

impl Day {
    /// All terminations that would have been.
    pub(super) fn total(&self) -> u64 {
        self.programs.values().map(|count| count.times).sum::<u64>() + self.others
    }

    /// The programs, the most frequent first.
    pub(super) fn most_frequent(&self) -> Vec<(&(Name, Uid), &Count)> {
        let mut programs: Vec<_> = self.programs.iter().collect();
        programs.sort_by_key(|(_, count)| std::cmp::Reverse(count.times));
        programs
    }
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan as _, civil::date};

    use super::*;

    const MONDAY: Date = date(2025, 10, 6);

    fn note(days: &mut DryRunDays, day: i64, comm: &str, rss: u64) {
        days.note(MONDAY + day.days(), &Name::from(comm), Uid(1000), Bytes(rss));
    }

    #[test]
    fn each_day_has_its_counts_and_is_logged_once() {
        let mut days = DryRunDays::default();
        note(&mut days, 0, "python3", 5);
        note(&mut days, 0, "python3", 9);
        note(&mut days, 0, "chrome", 7);
        assert_eq!(days.over(MONDAY), None, "the day is not over");
        note(&mut days, 1, "python3", 1);
        let monday = days.over(MONDAY + 1.days()).unwrap().clone();
        assert_eq!((monday.date, monday.total()), (MONDAY, 3));
        let (most, count) = monday.most_frequent()[0];
        assert_eq!((&most.0, *count), (&Name::from("python3"), Count { times: 2, largest: Bytes(9) }));
        assert_eq!(days.over(MONDAY + 1.days()), None);
        let listed: Vec<_> = days.days(MONDAY + 1.days()).map(|day| (day.date, day.total())).collect();
        assert_eq!(listed, [(MONDAY + 1.days(), 1), (MONDAY, 3)]);
        assert_eq!(days.days(MONDAY + 8.days()).count(), 1);
    }

    #[test]
    fn the_counts_are_bounded() {
        let mut days = DryRunDays::default();
        for day in 0..100 {
            for program in 0..200 {
                note(&mut days, day, &format!("p{program}"), 1);
            }
        }
        assert_eq!(days.0.len(), DAYS);
        assert!(days.0.iter().all(|day| day.programs.len() == PROGRAMS && day.total() == 200));
        // A clock that was set back.
        note(&mut days, 3, "p1", 1);
        assert_eq!(days.0.back().map(|day| (day.date, day.total())), Some((MONDAY + 99.days(), 201)));
    }
}
