//! Notifies systemd, if it started memmon: readiness, reload, the end, and the watchdog's keep-alive from the event loop.
//! Without systemd (`NOTIFY_SOCKET` is not set) all of these do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Notifies that the daemon watches now.
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies that the configuration is being read again; [`ready`] ends that, even if the reload failed.
pub(crate) fn reloading() {
    // systemd ignores the message without the time.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
}

/// Notifies that the daemon ends.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Notifies the watchdog that the event loop runs.
pub(crate) fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Interval for [`alive`]: half of the unit's watchdog timeout; `None` without a watchdog.
pub(crate) fn heartbeat() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    // memmon does not stop if the supervisor does not listen.
    let _ = sd_notify::notify(states);
}
