//! A timer from the kernel, which wakes memmon once for a deadline. The runtime's timers count coarsely at first: for a long
//! wait they would wake it up to three times, each time with cold CPU caches, and also if another event comes first.

use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::daemon::host::fd_ready::Readiness;

/// A timer for the first of many deadlines, which may change with every wait. Its owner checks with [`due`] which of them
/// have passed.
pub(crate) struct Alarm {
    timer: TimerFd,
    ready: Readiness,
    /// The deadline that the timer is set for.
    set_for: Cell<Option<Instant>>,
}

impl Alarm {
    /// # Errors
    /// Those of timerfd_create(2). Needs a runtime to be entered.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = timer()?;
        Ok(Self { ready: Readiness::of(&timer)?, timer, set_for: Cell::new(None) })
    }

    /// Waits until `deadline`, or forever if there is none. May return too early, after a deadline that was moved.
    ///
    /// # Errors
    /// Those of timerfd_settime(2).
    pub(crate) async fn at(&self, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return std::future::pending().await };
        if self.set_for.get() != Some(deadline) {
            set(&self.timer, deadline.saturating_duration_since(Instant::now()).max(SHORTEST))?;
            self.set_for.set(Some(deadline));
        }
        self.ready.readable().await?;
        self.set_for.set(None);
        Ok(())
    }
}

/// Returns if the deadline has passed at this moment, and otherwise never.
pub(crate) async fn due(deadline: Option<Instant>) {
    if deadline.is_none_or(|deadline| Instant::now() < deadline) {
        std::future::pending::<()>().await;
    }
}

/// A time of zero would disarm a timer.
const SHORTEST: Duration = Duration::from_nanos(1);

fn timer() -> io::Result<TimerFd> {
    Ok(TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?)
}

fn set(timer: &TimerFd, after: Duration) -> io::Result<()> {
    let once = Expiration::OneShot(TimeSpec::from_duration(after));
    Ok(timer.set(once, TimerSetTimeFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_at_the_deadline_that_was_set_last() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(20));
        let alarm = Alarm::new().unwrap();
        assert!(timeout(short, alarm.at(None)).await.is_err());
        let begun = Instant::now();
        // Moved back and forth, as by other events that wake the loop.
        for wait in [60 * long, Duration::from_secs(1 << 40), 2 * short, 60 * long] {
            assert!(timeout(Duration::ZERO, alarm.at(Some(begun + wait))).await.is_err());
        }
        for wait in [short, 2 * short] {
            let deadline = begun + wait;
            let rings = async {
                while timeout(Duration::ZERO, due(Some(deadline))).await.is_err() {
                    alarm.at(Some(deadline)).await.unwrap();
                }
            };
            timeout(long, rings).await.unwrap();
            assert!(Instant::now() >= deadline);
        }
        timeout(long, alarm.at(Some(begun))).await.expect("it has passed").unwrap();
        assert!(timeout(short, due(None)).await.is_err());
    }
}
