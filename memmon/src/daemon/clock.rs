//! The clocks. The event loop reads them once for each event, and passes the time on as an argument.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Zoned};
use nix::time::{ClockId, clock_gettime};

use crate::policy::machine::Moment;

/// The time at which a call began. It goes on while the call lasts, so that a step that takes long is not dated back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    instant: Instant,
    /// The same on CLOCK_MONOTONIC, which the kernel's events carry.
    monotonic: Duration,
    /// The same on CLOCK_BOOTTIME, which start times of processes are taken from.
    since_boot: Duration,
    /// The time at which the clocks were read.
    read: Instant,
}

impl Now {
    /// Reads the clocks.
    pub(super) fn read() -> Self {
        let instant = Instant::now();
        let (monotonic, since_boot) = (read(ClockId::CLOCK_MONOTONIC), read(ClockId::CLOCK_BOOTTIME));
        Self { instant, monotonic, since_boot, read: instant }
    }

    /// The time now.
    pub(super) fn instant(&self) -> Instant {
        self.instant + self.read.elapsed()
    }

    /// The time now, on CLOCK_MONOTONIC.
    pub(super) fn monotonic(&self) -> Duration {
        self.monotonic + self.read.elapsed()
    }

    /// The time now, on CLOCK_BOOTTIME.
    pub(super) fn since_boot(&self) -> Duration {
        self.since_boot + self.read.elapsed()
    }

    /// The time now, on both.
    pub(super) fn moment(&self) -> Moment {
        Moment { since_boot: self.since_boot(), awake: self.monotonic() }
    }

    /// A time on CLOCK_BOOTTIME that is over, by the wall clock.
    pub(super) fn wall_clock(&self, since_boot: Duration) -> Zoned {
        let ago = SignedDuration::try_from(self.since_boot().saturating_sub(since_boot));
        let now = Zoned::now();
        ago.ok().and_then(|ago| now.checked_sub(ago).ok()).unwrap_or(now)
    }

    /// A time of the kernel's, on CLOCK_MONOTONIC, as an instant.
    pub(super) fn at(&self, monotonic: Duration) -> Instant {
        let ago = self.monotonic.saturating_sub(monotonic);
        let after = monotonic.saturating_sub(self.monotonic);
        self.instant.checked_sub(ago).unwrap_or(self.instant) + after
    }
}

/// CPU time of this thread.
pub(super) fn thread_cpu_time() -> Duration {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of all threads of memmon.
pub(super) fn process_cpu_time() -> Duration {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: ClockId) -> Duration {
    // None of these clocks is negative, or fails.
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
impl Now {
    /// This time and so much more, for tests that do not wait.
    pub(super) fn later(self, by: Duration) -> Self {
        let Self { instant, monotonic, since_boot, read } = self;
        Self { instant: instant + by, monotonic: monotonic + by, since_boot: since_boot + by, read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_kernel_keeps_its_distance() {
        let now = Now::read();
        let second = Duration::from_secs(1);
        assert_eq!(now.at(now.monotonic), now.instant);
        assert_eq!(now.at(now.monotonic.saturating_sub(second / 100)), now.instant - second / 100);
        assert_eq!(now.at(now.monotonic + second), now.instant + second);
        let later = now.later(60 * second);
        assert!(later.instant() >= now.instant + 60 * second && later.since_boot() >= 60 * second);
    }
}
