//! Periodic timers from the kernel, which wake memmon once per tick. For a long pause the runtime's timers would wake it
//! three times, to count more finely near the end, each time with cold CPU caches.

use std::{io, time::Duration};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::daemon::host::fd_ready::Readiness;

/// A timer that ticks at once, and then once, a pause after each [`Pace::reset`].
pub(in crate::daemon) struct Pace {
    timer: TimerFd,
    ready: Readiness,
    pause: Duration,
}

impl Pace {
    /// # Errors
    /// Those of timerfd_create(2) and timerfd_settime(2). Needs a runtime to be entered.
    pub(in crate::daemon) fn new(pause: Duration) -> io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let pace = Self { ready: Readiness::of(&timer)?, timer, pause };
        // A time of zero would disarm the timer.
        pace.set(Duration::from_nanos(1))?;
        Ok(pace)
    }

    /// Waits for the next tick.
    pub(in crate::daemon) async fn tick(&self) -> io::Result<()> {
        self.ready.readable().await
    }

    /// Starts the pause again.
    pub(in crate::daemon) fn reset(&self) -> io::Result<()> {
        self.set(self.pause)
    }

    fn set(&self, after: Duration) -> io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(after));
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }
}

/// Waits for the next tick and returns its timer; never returns if `pace` is `None`.
pub(in crate::daemon) async fn ticked(pace: Option<&Pace>) -> io::Result<&Pace> {
    match pace {
        Some(pace) => pace.tick().await.map(|()| pace),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_ticks_at_once_and_then_a_pause_after_each_reset() {
        let (pause, long) = (Duration::from_millis(50), Duration::from_secs(20));
        let pace = Pace::new(pause).unwrap();
        pace.tick().await.unwrap();
        assert!(timeout(4 * pause, pace.tick()).await.is_err(), "once, before it is reset");
        for _ in 0..2 {
            let begun = Instant::now();
            pace.reset().unwrap();
            timeout(long, pace.tick()).await.unwrap().unwrap();
            assert!(begun.elapsed() >= pause);
        }
    }
}
