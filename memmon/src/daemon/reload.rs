//! SIGHUP: applies another configuration, as a whole or not at all.

use std::{
    future,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::{self, JoinHandle};

use crate::config::{Loaded, Settings};
use crate::daemon::Options;
use crate::daemon::engine::report_once::ReportOnce;
use crate::daemon::event_loop::Daemon;
use crate::daemon::outputs::outputs;
use crate::daemon::startup;
use crate::report::{Event, Rotation};

/// Time that reading a configuration may take before this is reported.
const LATE: Duration = Duration::from_secs(5);

/// The report.
pub(super) const LATE_SAYS: &str = "the configuration is not read yet, what was in force is: its file, or the name service \
                                    that says who its users are, does not answer";

/// What is logged if a SIGHUP came from a script of logrotate, as earlier packages of memmon installed one.
const ROTATED: &str = "SIGHUP came together with the rotation of the log file, so the configuration was not reloaded. \
                       Remove the signal from the script in /etc/logrotate.d, as memmon notices a rotation by itself; to reload \
                       the configuration, send SIGHUP again";

/// Result of a SIGHUP.
pub(super) enum Hangup {
    /// The configuration, or the error.
    Loaded(Box<Result<Loaded, String>>),
    /// The log file has just been rotated, and the signal came from that: nothing was read.
    Rotated,
}

/// A configuration that is being read. Another thread reads it, because the name service, or a file on a server, may
/// answer late or never.
#[derive(Default)]
pub(super) struct Loading {
    under_way: Option<(Instant, JoinHandle<Hangup>)>,
    /// Another SIGHUP came since, when the file may already have been read.
    again: bool,
}

impl Loading {
    /// Starts to read the file, in the current runtime, or after the current reading if there is one.
    pub(super) fn ask(&mut self, options: &Options, rotation: Rotation) {
        if self.is_under_way() {
            self.again = true;
            return;
        }
        let options = options.clone();
        let load = move || {
            if rotation.takes_hangup(Instant::now()) {
                return Hangup::Rotated;
            }
            Hangup::Loaded(Box::new(startup::load(&options).map_err(|error| error.to_string())))
        };
        self.under_way = Some((Instant::now(), task::spawn_blocking(load)));
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn is_late(&self) -> bool {
        self.under_way.as_ref().is_some_and(|(since, _)| since.elapsed() >= LATE)
    }

    /// Waits for the configuration or its error; never returns if none is being read.
    pub(super) async fn loaded(&mut self, options: &Options, rotation: &Rotation) -> Hangup {
        let Some((_, loading)) = &mut self.under_way else { return future::pending().await };
        let loaded = loading.await.unwrap_or_else(|error| Hangup::Loaded(Box::new(Err(error.to_string()))));
        self.under_way = None;
        if std::mem::take(&mut self.again) {
            self.ask(options, rotation.clone());
        }
        loaded
    }
}

impl Daemon<'_> {
    /// Applies the configuration, or reports the error and changes nothing. Returns whether it was applied.
    ///
    /// Terminations in progress continue under their old settings, but the new rules can spare a victim. If dry run is
    /// now enabled, they are cancelled.
    pub(super) fn reload(&mut self, hangup: Hangup) -> bool {
        let Hangup::Loaded(loaded) = hangup else {
            self.tell(Event::Degraded { what: ROTATED.to_owned() });
            return false;
        };
        let loaded = match self.permitted(*loaded) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.tell(Event::ReloadFailed { error });
                return false;
            }
        };
        if loaded.settings.kernel != self.settings.kernel {
            let what = "[kernel] has changed: that takes effect at the next start (systemctl restart memmon)";
            self.tell(Event::Degraded { what: what.to_owned() });
        }
        let settings = Settings { kernel: self.settings.kernel, ..loaded.settings };
        let before = Rc::new(std::mem::replace(&mut self.settings, settings));
        self.sources.set_measure(self.settings.rules.measure);
        self.reporter.replace(outputs(&self.settings));
        self.report_once = ReportOnce::default();
        self.tell(Event::Reloaded { config: loaded.origin, dry_run: self.settings.dry_run });
        self.hand_over(&before);
        self.reset_wake_levels();
        self.sources.sweep_next();
        for warning in &loaded.warnings {
            self.tell(Event::Degraded { what: warning.to_string() });
        }
        self.restore_runtime_files();
        self.admit();
        self.board.borrow_mut().warned(loaded.warnings);
        true
    }

    /// The configuration, if it may be applied; otherwise the reason.
    fn permitted(&self, loaded: Result<Loaded, String>) -> Result<Loaded, String> {
        let mut loaded = loaded?;
        // A single dry-run scan stays one: it has not taken the lock that enforcing needs.
        loaded.settings.dry_run |= self.options.once && self.settings.dry_run;
        self.enforceable.allows(&loaded.settings).map_err(|error| error.to_string())?;
        Ok(loaded)
    }

    /// Continues terminations under the settings `before`, or cancels them, and hardens memmon if it enforces from now on.
    fn hand_over(&mut self, before: &Rc<Settings>) {
        let now = Instant::now();
        let orders = if self.settings.dry_run {
            self.victims.call_off(now)
        } else {
            self.hold_victims_to(before);
            self.victims.rules_changed(startup::timing(&self.settings), now)
        };
        self.run_orders(orders);
        if before.dry_run && !self.settings.dry_run {
            self.harden();
        }
    }

    /// Keeps the settings `before` for terminations in progress, which began under them.
    pub(super) fn hold_victims_to(&mut self, before: &Rc<Settings>) {
        for (victim, _) in self.victims.iter() {
            self.former.entry(victim.id).or_insert_with(|| Rc::clone(before));
        }
    }
}
