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
    /// Processes that would have been stopped, and cgroups that would have been slowed down.
    pub(super) stops: u64,
    pub(super) throttles: u64,
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
        let Some(day) = self.day(today) else { return };
        let key = (comm.clone(), uid);
        if day.programs.len() >= PROGRAMS && !day.programs.contains_key(&key) {
            day.others += 1;
            return;
        }
        let count = day.programs.entry(key).or_default();
        count.times += 1;
        count.largest = count.largest.max(rss);
    }

    /// Counts a process that was not stopped, on `today`.
    pub(super) fn note_stop(&mut self, today: Date) {
        self.day(today).into_iter().for_each(|day| day.stops += 1);
    }

    /// Counts a cgroup that was not slowed down, on `today`.
    pub(super) fn note_throttle(&mut self, today: Date) {
        self.day(today).into_iter().for_each(|day| day.throttles += 1);
    }

    /// The counts of `today`. A clock that was set back counts for the last day that is known.
    fn day(&mut self, today: Date) -> Option<&mut Day> {
        if self.0.back().is_none_or(|day| day.date < today) {
            if self.0.len() == DAYS {
                self.0.pop_front();
            }
            let programs = BTreeMap::new();
            self.0.push_back(Day { date: today, programs, others: 0, stops: 0, throttles: 0, logged: false });
        }
        self.0.back_mut()
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
    fn a_day_on_which_processes_would_only_have_been_stopped_is_a_day_as_well() {
        let mut days = DryRunDays::default();
        days.note_stop(MONDAY);
        days.note_stop(MONDAY);
        days.note_throttle(MONDAY);
        let monday = days.over(MONDAY + 1.days()).unwrap();
        assert_eq!((monday.total(), monday.stops, monday.throttles), (0, 2, 1));
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
