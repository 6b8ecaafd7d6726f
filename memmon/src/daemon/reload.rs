//! SIGHUP: another configuration in force, all of it or nothing.

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
use crate::daemon::startup;
use crate::report::{Event, Rotation};

/// How long a configuration may take to be read before that is said.
const LATE: Duration = Duration::from_secs(5);

/// What is said then.
pub(super) const LATE_SAYS: &str = "the configuration is not read yet, what was in force is: its file, or the name service \
                                    that says who its users are, does not answer";

/// What is logged if a SIGHUP came from a script of logrotate, as earlier packages of memmon installed one.
const ROTATED: &str = "SIGHUP came together with the rotation of the log file, so the configuration was not reloaded. \
                       Remove the signal from the script in /etc/logrotate.d, as memmon notices a rotation by itself; to reload \
                       the configuration, send SIGHUP again";

/// What a SIGHUP led to.
pub(super) enum Hangup {
    /// The configuration, or why there is none.
    Loaded(Box<Result<Loaded, String>>),
    /// The log file has just been rotated, and the signal came from that: nothing was read.
    Rotated,
}

/// A configuration on its way. It is read beside the loop: the name service that it asks may take its time, or never
/// answer, and so may a file on a server.
#[derive(Default)]
pub(super) struct Loading {
    under_way: Option<(Instant, JoinHandle<Hangup>)>,
    /// It was asked for once more since, and the file may have been read by then.
    again: bool,
}

impl Loading {
    /// Has the file read, in the runtime that this is called in; after what is under way, if something is.
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

    /// What the file says, or why it says nothing, once that is known; never without one under way.
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
    /// Puts what the configuration file says into force, or tells why not and changes nothing.
    ///
    /// Victims under way are held to what condemned them, and spared by whatever spares them now. If nothing is to be
    /// signalled any more they are let go.
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
        self.reporter.replace(startup::outputs(&self.settings));
        self.report_once = ReportOnce::default();
        self.tell(Event::Reloaded { config: loaded.origin });
        self.hand_over(&before);
        self.reset_wake_levels();
        self.sources.sweep_next();
        for warning in &loaded.warnings {
            self.tell(Event::Degraded { what: warning.to_string() });
        }
        self.admit();
        self.board.borrow_mut().warned(loaded.warnings);
        true
    }

    /// The configuration if it can be put into force, or why it cannot.
    fn permitted(&self, loaded: Result<Loaded, String>) -> Result<Loaded, String> {
        let mut loaded = loaded?;
        // One scan is what it was when it began: it may not have taken the lock that enforcing takes.
        loaded.settings.dry_run |= self.options.once && self.settings.dry_run;
        self.enforceable.allows(&loaded.settings).map_err(|error| error.to_string())?;
        Ok(loaded)
    }

    /// What the settings of `before` began goes on by them, or ends; what they had not begun begins.
    fn hand_over(&mut self, before: &Rc<Settings>) {
        let now = Instant::now();
        let orders = if self.settings.dry_run {
            self.victims.call_off(now)
        } else {
            self.hold_victims_to(before);
            self.victims.rules_changed(startup::patience(&self.settings), now)
        };
        self.run_orders(orders);
        if before.dry_run && !self.settings.dry_run {
            self.harden();
        }
    }

    /// Has victims under way finish under `before`, which condemned them.
    pub(super) fn hold_victims_to(&mut self, before: &Rc<Settings>) {
        for (victim, _) in self.victims.iter() {
            self.former.entry(victim.id).or_insert_with(|| Rc::clone(before));
        }
    }
}
