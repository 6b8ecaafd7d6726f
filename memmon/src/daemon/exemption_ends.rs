//! The ends of exemptions. They last as long as the user has asked for, whatever is done to the wall clock meanwhile: within a boot they
//! end by CLOCK_BOOTTIME, which also counts while the machine sleeps. Only over a reboot nothing but the wall clock is left. No system
//! calls; both times are arguments.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{Exemption, UnixTime};

/// The most by which the time that is shown may differ from the wall clock: two clocks that are read in seconds.
const SLACK: u64 = 2;

/// The time of a look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) wall: UnixTime,
    pub(super) since_boot: Duration,
}

impl Clocks {
    /// The wall clock at this time since the boot, if nobody sets it until then.
    fn wall_at(self, since_boot: Duration) -> UnixTime {
        UnixTime(self.wall.0 + since_boot.saturating_sub(self.since_boot).as_secs())
    }

    /// The time since the boot at this time of the wall clock.
    fn at_wall(self, wall: UnixTime) -> Duration {
        self.since_boot + Duration::from_secs(wall.0.saturating_sub(self.wall.0))
    }
}

/// The time since the boot at which each exemption ends, by its number.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<u32, Duration>);

impl Ends {
    /// The ends of `exemptions`: those that were `kept` in this boot, and by the wall clock of the others.
    pub(super) fn of(exemptions: &[Exemption], kept: &[(u32, Duration)], now: Clocks) -> Self {
        let kept: BTreeMap<u32, Duration> = kept.iter().copied().collect();
        let end = |one: &Exemption| kept.get(&one.id).copied().unwrap_or_else(|| now.at_wall(one.until));
        Self(exemptions.iter().map(|one| (one.id, end(one))).collect())
    }

    /// Notes an exemption that lasts so long from `now` on. Returns the end by the wall clock.
    pub(super) fn begin(&mut self, id: u32, lasts: Duration, now: Clocks) -> UnixTime {
        let end = now.since_boot + lasts;
        self.0.insert(id, end);
        now.wall_at(end)
    }

    /// Whether an exemption is over; one that is not known here is.
    pub(super) fn is_over(&self, exemption: &Exemption, now: Clocks) -> bool {
        self.0.get(&exemption.id).is_none_or(|end| *end <= now.since_boot)
    }

    /// The end by the wall clock, if that was set so that it is another one than before.
    pub(super) fn moved(&self, exemption: &Exemption, now: Clocks) -> Option<UnixTime> {
        let until = now.wall_at(*self.0.get(&exemption.id)?);
        (until.0.abs_diff(exemption.until.0) > SLACK).then_some(until)
    }

    /// The time until the next end.
    pub(super) fn next(&self, since_boot: Duration) -> Option<Duration> {
        self.0.values().min().map(|end| end.saturating_sub(since_boot))
    }

    /// Forgets those that are not among `exemptions`.
    pub(super) fn keep(&mut self, exemptions: &[Exemption]) {
        self.0.retain(|id, _| exemptions.iter().any(|one| one.id == *id));
    }

    /// All, to be kept over a restart.
    pub(super) fn all(&self) -> Vec<(u32, Duration)> {
        self.0.iter().map(|(id, end)| (*id, *end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Exempt, Phrase, Uid};

    const HOUR: u64 = 3600;

    fn at(wall: u64, since_boot: u64) -> Clocks {
        Clocks { wall: UnixTime(wall), since_boot: Duration::from_secs(since_boot) }
    }

    fn exemption(until: UnixTime) -> Exemption {
        let why = Phrase::try_from("a batch".to_owned()).unwrap();
        Exemption { id: 7, of: Exempt::User(Uid(7)), until, by: Uid(0), why }
    }

    #[test]
    fn a_clock_that_is_set_neither_ends_nor_prolongs_an_exemption() {
        let mut ends = Ends::default();
        let begun = at(1_000_000, 500);
        let one = exemption(ends.begin(7, Duration::from_secs(2 * HOUR), begun));
        assert_eq!(one.until, UnixTime(1_000_000 + 2 * HOUR));
        assert_eq!(ends.next(begun.since_boot), Some(Duration::from_secs(2 * HOUR)));
        for wall in [0, 1_000_000, 9_000_000] {
            assert!(!ends.is_over(&one, at(wall, 500 + 2 * HOUR - 1)), "{wall}");
            assert!(ends.is_over(&one, at(wall, 500 + 2 * HOUR)), "{wall}");
        }
        // The time that is shown follows the clock.
        assert_eq!(ends.moved(&one, at(1_000_000 + HOUR + 1, 500 + HOUR)), None);
        assert_eq!(ends.moved(&one, at(9_000_000, 500 + HOUR)), Some(UnixTime(9_000_000 + HOUR)));
        ends.keep(&[]);
        assert!(ends.is_over(&one, begun) && ends.all().is_empty());
    }

    #[test]
    fn a_restart_keeps_the_end_and_a_reboot_has_the_wall_clock_alone() {
        let mut ends = Ends::default();
        let one = exemption(ends.begin(7, Duration::from_secs(2 * HOUR), at(1_000_000, 500)));
        // The clock was set back by a day while memmon did not run.
        let restarted = Ends::of(std::slice::from_ref(&one), &ends.all(), at(1_000_000 - 24 * HOUR, 600));
        assert_eq!(restarted.all(), ends.all());
        let rebooted = Ends::of(std::slice::from_ref(&one), &[], at(1_000_000 + HOUR, 10));
        assert_eq!(rebooted.all(), [(7, Duration::from_secs(10 + HOUR))]);
        let late = at(1_000_000 + 3 * HOUR, 10);
        assert!(Ends::of(std::slice::from_ref(&one), &[], late).is_over(&one, late));
    }
}
