//! Pauses between two attempts, which get longer. The time is an argument.

use std::time::{Duration, Instant};

/// A pause that doubles, up to 64 times its first length.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    pub(super) until: Instant,
    length: Duration,
    doublings: u8,
}

impl Pause {
    /// A pause of this length from `now` on.
    pub fn new(now: Instant, length: Duration) -> Self {
        Self { until: later(now, length), length, doublings: 0 }
    }

    /// The next pause, from `now` on.
    #[must_use]
    pub fn longer(self, now: Instant) -> Self {
        let doublings = (self.doublings + 1).min(6);
        Self { until: later(now, self.length.saturating_mul(1 << doublings)), doublings, ..self }
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}

/// `now + wait`, with at most a year of wait, because `Instant` panics on overflow.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 60 * 60))
}
