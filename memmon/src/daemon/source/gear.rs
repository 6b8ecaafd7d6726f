//! Decides when the kernel side changes its gear. Pure: the time is an argument.
//!
//! `rss_stat` costs every page fault some percent, so it is attached only while a process is near its limit. It is attached
//! at once, and detached only after a pause: attaching waits for a grace period of RCU if it follows a detachment closely,
//! and no user may make memmon change gears all the time.

use std::time::{Duration, Instant};

use crate::model::{Bytes, Gear};

/// The smallest limit with which two gears are sound. A process is near its limit from half of it on, and must not get past
/// the other half before `rss_stat` is attached: up to 4 ms until a tick (`CONFIG_HZ=250`) and up to 8 ms to attach, with
/// huge pages at 10 GB a second, are 120 MB.
const SMALLEST_LIMIT: Bytes = Bytes(256 * Bytes::MIB);

/// Pause without a process near its limit before the calm gear is used again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(640);

/// Time for which it counts as known that a process is near its limit: in the exact gear not every crossing is worth a look
/// at its process.
const KNOWN: Duration = Duration::from_secs(1);

/// The state of the gears.
#[derive(Debug)]
pub(super) struct Gearbox {
    gear: Gear,
    /// Whether the calm gear is allowed with every limit.
    with_any_limit: bool,
    /// Whether it is allowed with this limit.
    calm_allowed: bool,
    /// Time at which a process was last near its limit.
    near: Option<Instant>,
    /// Time of the last change.
    changed: Option<Instant>,
    pause: Duration,
}

impl Gearbox {
    /// Starts in `gear`. `with_any_limit` allows the calm gear also with a small limit.
    pub(super) const fn new(gear: Gear, with_any_limit: bool) -> Self {
        Self { gear, with_any_limit, calm_allowed: true, near: None, changed: None, pause: FIRST_PAUSE }
    }

    pub(super) fn set_limit(&mut self, limit: Bytes) {
        self.calm_allowed = self.with_any_limit || limit >= SMALLEST_LIMIT;
    }

    /// Whether it matters that a process which crossed a level at `now` is near its limit. It does in the exact gear, too:
    /// the scans may all come between the lives of processes that follow each other.
    pub(super) fn asks_who_is_near(&self, now: Instant) -> bool {
        self.gear == Gear::Calm || self.near.is_none_or(|near| now.saturating_duration_since(near) >= KNOWN)
    }

    /// Whether a process is near its limit at `now`. Returns the gear to change to, if any.
    pub(super) fn note(&mut self, is_near: bool, now: Instant) -> Option<Gear> {
        if is_near {
            self.near = Some(now);
        }
        let wanted = if is_near || !self.calm_allowed { Gear::Exact } else { Gear::Calm };
        let due = match wanted {
            Gear::Exact => true,
            Gear::Calm => [self.near, self.changed]
                .into_iter()
                .flatten()
                .all(|since| now.saturating_duration_since(since) >= self.pause),
        };
        (wanted != self.gear && due).then_some(wanted)
    }

    /// The gear was changed. If a process is near its limit again soon after a pause, the next pause is twice as long.
    pub(super) fn changed(&mut self, gear: Gear, now: Instant) {
        if gear == Gear::Exact {
            let calm = self.changed.map(|since| now.saturating_duration_since(since));
            self.pause = match calm {
                Some(calm) if calm < self.pause => LONGEST_PAUSE.min(self.pause * 2),
                _ => FIRST_PAUSE,
            };
        }
        (self.gear, self.changed) = (gear, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Notes, and changes the gear where that is due. Returns the gear that results.
    fn drive(gears: &mut Gearbox, is_near: bool, now: Instant) -> Gear {
        if let Some(gear) = gears.note(is_near, now) {
            gears.changed(gear, now);
        }
        gears.gear
    }

    #[test]
    fn a_process_near_its_limit_takes_the_exact_gear_at_once_and_holds_it() {
        let (mut gears, start) = (Gearbox::new(Gear::Calm, false), Instant::now());
        assert_eq!(drive(&mut gears, false, start), Gear::Calm);
        assert_eq!(drive(&mut gears, true, start), Gear::Exact);
        assert_eq!(drive(&mut gears, false, start + seconds(19)), Gear::Exact);
        assert_eq!(drive(&mut gears, true, start + seconds(19)), Gear::Exact);
        assert_eq!(drive(&mut gears, false, start + seconds(38)), Gear::Exact);
        assert_eq!(drive(&mut gears, false, start + seconds(39)), Gear::Calm);
    }

    #[test]
    fn crossings_between_the_scans_hold_the_exact_gear() {
        let (mut gears, start) = (Gearbox::new(Gear::Calm, false), Instant::now());
        let mut looks = 0;
        // One process after the other is near its limit, and each scan comes after its end.
        for tenth in 0..600 {
            let now = start + Duration::from_millis(tenth * 100);
            if gears.asks_who_is_near(now) {
                looks += 1;
                drive(&mut gears, true, now);
            }
            assert_eq!(drive(&mut gears, false, now), Gear::Exact);
        }
        assert_eq!(looks, 60);
    }

    #[test]
    fn a_change_that_failed_is_due_again() {
        let (mut gears, now) = (Gearbox::new(Gear::Calm, false), Instant::now());
        assert_eq!(gears.note(true, now), Some(Gear::Exact));
        assert_eq!(gears.note(true, now), Some(Gear::Exact));
        gears.changed(Gear::Exact, now);
        assert_eq!(gears.note(true, now), None);
    }

    #[test]
    fn a_process_that_swings_around_the_nearness_lengthens_the_pause() {
        let (mut gears, mut now) = (Gearbox::new(Gear::Calm, false), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert_eq!(drive(&mut gears, true, now), Gear::Exact);
            pauses.push(gears.pause.as_secs());
            now += gears.pause;
            assert_eq!(drive(&mut gears, false, now), Gear::Calm);
            now += seconds(1);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 640, 640]);
        now += LONGEST_PAUSE;
        drive(&mut gears, true, now);
        assert_eq!(gears.pause, FIRST_PAUSE);
    }

    #[test]
    fn a_small_limit_keeps_the_exact_gear_unless_two_were_asked_for() {
        let (mut gears, now) = (Gearbox::new(Gear::Calm, false), Instant::now());
        gears.set_limit(Bytes(SMALLEST_LIMIT.0 - 1));
        assert_eq!(drive(&mut gears, false, now), Gear::Exact);
        assert_eq!(drive(&mut gears, false, now + seconds(10_000)), Gear::Exact);
        gears.set_limit(SMALLEST_LIMIT);
        assert_eq!(drive(&mut gears, false, now + seconds(20_000)), Gear::Calm);

        let mut two = Gearbox::new(Gear::Calm, true);
        two.set_limit(Bytes(1));
        assert_eq!(drive(&mut two, false, now), Gear::Calm);
    }

    proptest! {
        /// Whatever processes do: the exact gear is in use while one is near, and the calm one is never taken twice within
        /// the shortest pause.
        #[test]
        fn nobody_makes_memmon_change_gears_often(steps in prop::collection::vec((any::<bool>(), 0_u64..30_000), 1..200)) {
            let (mut gears, mut now) = (Gearbox::new(Gear::Calm, false), Instant::now());
            let mut calmed: Option<Instant> = None;
            for (is_near, millis) in steps {
                now += Duration::from_millis(millis);
                let before = gears.gear;
                let gear = drive(&mut gears, is_near, now);
                prop_assert!(!is_near || gear == Gear::Exact);
                if before == Gear::Exact && gear == Gear::Calm {
                    prop_assert!(calmed.is_none_or(|last| now - last >= FIRST_PAUSE));
                    calmed = Some(now);
                }
            }
        }
    }
}
