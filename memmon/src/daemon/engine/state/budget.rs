//! The CPU time that looking at growing processes may take. No system calls; the time is an argument.

use std::time::{Duration, Instant};

/// Length of the window over which CPU time is counted.
const WINDOW: Duration = Duration::from_secs(1);

/// CPU time in each window for processes that cross a level: a tenth of one CPU.
const SHARE: Duration = Duration::from_millis(100);

/// Maximum of overspent time that counts against later windows, so that memmon does not pause after a stall of the machine.
const MOST_OWED: Duration = Duration::from_millis(300);

/// Interval at which the ring is read while the share is used up, because other events than crossings do not wait. They do
/// not wake memmon then: in a storm each process that ends makes one.
const PAUSE: Duration = Duration::from_millis(10);

/// Limits the cost of processes that swing around their limits, or hang there, with that of the wake-ups: when the share is
/// used up, the ring waits.
#[derive(Debug)]
pub(crate) struct CpuBudget {
    since: Instant,
    spent: Duration,
    /// CPU time of the thread up to which `spent` is known.
    counted: Duration,
    /// Time at which the ring is read again, after the share was used up.
    resume: Option<Instant>,
}

impl CpuBudget {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { since: now, spent: Duration::ZERO, counted: Duration::ZERO, resume: None }
    }

    /// Whether there is time left; otherwise [`CpuBudget::resume`] is the time at which the ring is to be read again.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let windows = now.saturating_duration_since(self.since).as_secs() / WINDOW.as_secs();
        if windows > 0 {
            let paid = SHARE.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
            (self.since, self.spent) = (now, self.spent.saturating_sub(paid));
        }
        self.resume = (self.spent >= SHARE).then(|| (self.since + WINDOW).min(now + PAUSE));
        self.resume.is_none()
    }

    /// The time at which the ring is to be read again, if the share was used up at the last attempt.
    pub(crate) const fn resume(&self) -> Option<Instant> {
        self.resume
    }

    /// Counts what the thread has used since the last call, if its CPU time is `used` now.
    pub(crate) fn spend_until(&mut self, used: Duration) {
        let time = used.saturating_sub(self.counted);
        self.spent = (self.spent + time).min(SHARE + MOST_OWED);
        self.counted = used;
    }

    /// Leaves out what the thread has used since the last call for other work, if its CPU time is `used` now.
    pub(crate) const fn leave_out_until(&mut self, used: Duration) {
        self.counted = used;
    }
}

/// CPU time beyond a share of one CPU that looks may use in one go. It builds up while they use less than the share.
#[derive(Debug, Default)]
pub(crate) struct SpareTime {
    left: Duration,
    at: Option<Instant>,
}

/// Maximum of spare time: enough for looks at a crowd of processes that begins all at once.
const MOST_SPARE: Duration = Duration::from_millis(500);

impl SpareTime {
    /// Takes off the CPU time that was `used` since the last call, of which one part in `share` builds up. Returns whether any
    /// is left.
    pub(crate) fn spend(&mut self, used: Duration, share: u32, now: Instant) -> bool {
        let passed = self.at.replace(now).map(|at| now.saturating_duration_since(at));
        let gained = passed.map_or(MOST_SPARE, |passed| passed / share);
        self.left = (self.left + gained).min(MOST_SPARE).saturating_sub(used);
        !self.left.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_time_is_used_up_and_builds_up_again() {
        let start = Instant::now();
        let mut spare = SpareTime::default();
        let mut spend = |used: u64, after: u64| {
            spare.spend(Duration::from_millis(used), 10, start + Duration::from_millis(after))
        };
        assert!(spend(400, 0));
        assert!(spend(100, 100), "ten more since");
        assert!(!spend(30, 200));
        assert!(!spend(100, 1100), "a tenth, and no more");
        assert!(spend(400, 100_000));
        assert!(!spend(200, 100_100));
    }

    fn left(budget: &mut CpuBudget, now: Instant) -> Result<(), Instant> {
        let allows = budget.allows(now);
        assert_eq!(allows, budget.resume().is_none());
        budget.resume().map_or(Ok(()), Err)
    }

    #[test]
    fn a_share_of_each_window_and_no_more() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut budget = CpuBudget::new(start);
        budget.leave_out_until(Duration::from_secs(9));
        budget.spend_until(Duration::from_millis(9099));
        assert_eq!(left(&mut budget, at(200)), Ok(()));
        budget.spend_until(Duration::from_millis(9100));
        assert_eq!(left(&mut budget, at(300)), Err(at(310)), "what does not wait is looked for soon");
        assert_eq!(left(&mut budget, at(999)), Err(at(1000)));
        assert_eq!(left(&mut budget, at(1000)), Ok(()));
    }

    #[test]
    fn overspent_time_is_owed_up_to_a_maximum() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut budget = CpuBudget::new(start);
        budget.spend_until(Duration::from_millis(250));
        assert_eq!(left(&mut budget, at(1000)), Err(at(1010)));
        assert_eq!(left(&mut budget, at(2000)), Ok(()));
        budget.spend_until(Duration::from_secs(60));
        assert_eq!(left(&mut budget, at(4000)), Err(at(4010)));
        assert_eq!(left(&mut budget, at(4999)), Err(at(5000)));
        assert_eq!(left(&mut budget, at(6000)), Ok(()));
        assert_eq!(left(&mut CpuBudget { spent: MOST_OWED, ..CpuBudget::new(start) }, at(60_000)), Ok(()));
    }
}
