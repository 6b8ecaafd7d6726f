//! For how long something was observed. No system calls; the time is an argument.

use std::time::{Duration, Instant};

/// The time that counts of something that was found at one look after the other. While memmon is stopped, or does not get a
/// processor, nothing is observed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    last: Instant,
    counts: Duration,
}

impl Observed {
    /// Begins with the first look.
    pub(crate) const fn begin(now: Instant) -> Self {
        Self { last: now, counts: Duration::ZERO }
    }

    /// Notes another look that found it. The time since the one before counts for at most `most`. Returns the whole time.
    pub(crate) fn again(&mut self, now: Instant, most: Duration) -> Duration {
        self.counts += now.saturating_duration_since(self.last).min(most);
        self.last = now;
        self.counts
    }

    /// The time of the last look.
    pub(crate) const fn last(&self) -> Instant {
        self.last
    }
}
