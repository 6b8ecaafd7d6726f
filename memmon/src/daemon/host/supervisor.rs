//! systemd, where it is the one who started us: readiness, the end, and a sign of life from the loop itself.
//! Outside systemd (`NOTIFY_SOCKET` is not set) all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon watches now.
pub(in crate::daemon) fn ready() {
    say(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] ends that, whatever came of it.
pub(in crate::daemon) fn reloading() {
    // Without the time systemd takes no note of it.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        say(&[NotifyState::Reloading, now]);
    }
}

/// The daemon ends.
pub(in crate::daemon) fn stopping() {
    say(&[NotifyState::Stopping]);
}

/// The loop turns.
pub(in crate::daemon) fn alive() {
    say(&[NotifyState::Watchdog]);
}

/// How often to be [`alive`]: half of what the unit allows; none without a watchdog.
pub(in crate::daemon) fn heartbeat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn say(states: &[NotifyState<'_>]) {
    // A supervisor that does not listen is no reason to stop.
    let _ = sd_notify::notify(states);
}
