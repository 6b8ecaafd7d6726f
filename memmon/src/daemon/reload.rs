//! SIGHUP: applies another configuration, as a whole or not at all. It is applied without a signal only if it is the same one, and
//! a user or group that it names exists by now.

use std::{
    future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::{self, JoinHandle};
use tracing::debug_span;

use crate::config::{Kernel, Loaded, NameService, Settings};
use crate::daemon::announcer::Announcer;
use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::reports::Observer as _;
use crate::daemon::host::claim::Claim;
use crate::daemon::late_names::LateNames;
use crate::daemon::options::Options;
use crate::daemon::settings::{self, CannotEnforce, report_of};
use crate::model::Name;
use crate::report::{Event, Rotation};

/// Time that reading a configuration may take before this is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// The report.
pub(super) const LATE: &str = "the configuration is not read yet, what was in force is: its file, or the name service that \
                               says who its users are, does not answer";

/// The log line for a SIGHUP from a script of logrotate, as earlier packages of memmon installed one.
const ROTATED: &str = "SIGHUP came together with the rotation of the log file, so the configuration was not reloaded. \
                       Remove the signal from the script in /etc/logrotate.d, as memmon notices a rotation by itself; to reload \
                       the configuration, send SIGHUP again";

/// Result of a SIGHUP, or of a look for late names.
pub(super) enum Hangup {
    /// The configuration, or the error.
    Loaded(Box<Result<Loaded, String>>),
    /// The log file has just been rotated, and the signal came from that: nothing was read.
    Rotated,
    /// There was no signal, and none of the late names exists.
    NoNews,
    /// There was no signal. This user or group exists by now, but the files were edited since they were read.
    Edited(String),
}

/// A configuration that is being read. Another thread reads it, because the name service, or a file on a server, may
/// answer late or never.
#[derive(Default)]
pub(super) struct Loading {
    under_way: Option<(Instant, JoinHandle<Hangup>)>,
    /// Another SIGHUP came since, when the file may already have been read.
    again: bool,
    /// The claim that must be extended before another configuration may take effect.
    claim: Option<Arc<Claim>>,
}

impl Loading {
    pub(super) fn new(claim: Option<Arc<Claim>>) -> Self {
        Self { claim, ..Self::default() }
    }

    /// Starts to read the file, in the current runtime, or after the current reading if there is one.
    pub(super) fn start(&mut self, options: &Options, rotation: Rotation) {
        if self.is_under_way() {
            self.again = true;
            return;
        }
        let (options, claim) = (options.clone(), self.claim.clone());
        let load = move || {
            let _entered = debug_span!("read the configuration").entered();
            if rotation.takes_hangup(Instant::now()) {
                return Hangup::Rotated;
            }
            let loaded = settings::load(&options).map_err(|error| error.to_string());
            Hangup::Loaded(Box::new(loaded.and_then(|loaded| claimed(loaded, claim.as_deref()))))
        };
        self.under_way = Some((Instant::now(), task::spawn_blocking(load)));
    }

    /// Starts to look for late names, unless a configuration is being read. If one of them exists, the configuration in force is
    /// read again.
    pub(super) fn look_for(&mut self, names: LateNames, options: &Options) {
        if self.is_under_way() {
            return;
        }
        let (options, claim) = (options.clone(), self.claim.clone());
        let look = move || {
            let Some(name) = names.found(&NameService) else { return Hangup::NoNews };
            match settings::load(&options) {
                Ok(loaded) if names.is_of(&loaded) => {
                    Hangup::Loaded(Box::new(claimed(loaded, claim.as_deref())))
                }
                Ok(_) | Err(_) => Hangup::Edited(name.to_owned()),
            }
        };
        self.under_way = Some((Instant::now(), task::spawn_blocking(look)));
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub(super) fn is_late(&self) -> bool {
        self.under_way.as_ref().is_some_and(|(since, _)| since.elapsed() >= PATIENCE)
    }

    /// Waits for the configuration or its error; never returns if none is being read.
    pub(super) async fn loaded(&mut self, options: &Options, rotation: &Rotation) -> Hangup {
        let Some((_, loading)) = &mut self.under_way else { return future::pending().await };
        let loaded = loading.await.unwrap_or_else(|error| Hangup::Loaded(Box::new(Err(error.to_string()))));
        self.under_way = None;
        if std::mem::take(&mut self.again) {
            self.start(options, rotation.clone());
        }
        loaded
    }
}

/// Claims what the configuration needs.
fn claimed(mut loaded: Loaded, claim: Option<&Claim>) -> Result<Loaded, String> {
    let Some(claim) = claim else { return Ok(loaded) };
    let warnings = claim.extend(&loaded.settings).map_err(|error| error.to_string())?;
    loaded.warnings.extend(warnings);
    Ok(loaded)
}

/// Applies the configuration if `permit` allows it, or reports the error and changes nothing. Returns whether it was
/// applied.
pub(super) fn apply(
    engine: &mut Engine<'_>,
    announcer: &Announcer<'_>,
    hangup: Hangup,
    now: Now,
    permit: impl FnOnce(&mut Settings) -> Result<(), CannotEnforce>,
) -> bool {
    let loaded = match hangup {
        Hangup::Loaded(loaded) => loaded,
        Hangup::Rotated => {
            announcer.event(Event::Degraded { what: ROTATED.to_owned() });
            return false;
        }
        Hangup::NoNews => return false,
        Hangup::Edited(name) => {
            announcer.degraded(Degradation::AwaitsReload, || {
                let name = Name::from(&*name);
                format!(
                    "the user or group \"{name}\" exists now, and does not count yet, because the configuration was edited since it \
                     was read: systemctl reload memmon"
                )
            });
            return false;
        }
    };
    let loaded = loaded.and_then(|mut loaded| {
        permit(&mut loaded.settings).map_err(|error| error.to_string())?;
        Ok(loaded)
    });
    let Loaded { settings, origin, fragments, warnings, digest: _ } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            announcer.event(Event::ReloadFailed { error });
            return false;
        }
    };
    let (settings, left) = applicable(&engine.settings().kernel, settings);
    announcer.works(Degradation::AwaitsReload);
    announcer.works(Degradation::AwaitsRestart);
    if !left.is_empty() {
        announcer.degraded(Degradation::AwaitsRestart, || {
            format!(
                "a restart is needed for what has changed in {}: until then the values of the start are in force (systemctl \
                 restart memmon)",
                left.join(", ")
            )
        });
    }
    let former = engine.replace_settings(settings);
    let settings = engine.settings();
    announcer.replace(settings);
    announcer.event(Event::Reloaded { config: origin, fragments, dry_run: settings.dry_run });
    engine.hand_over(&former, now);
    for warning in &warnings {
        announcer.event(report_of(warning));
    }
    announcer.own_status_mut().warned(warnings);
    true
}

/// The settings that a reload puts into force instead of those with the kernel side `running`, and the keys that differ, but
/// that only a start applies.
fn applicable(running: &Kernel, asked: Settings) -> (Settings, Vec<&'static str>) {
    // A new key has to be applied, or to be named here.
    let Kernel { source, max_processes, gear, instant, realtime } = asked.kernel;
    let left = [
        ("kernel.source", source != running.source),
        ("kernel.max_processes", max_processes != running.max_processes),
        ("kernel.gear", gear != running.gear),
        ("kernel.instant", instant != running.instant),
    ];
    let left = left.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
    (Settings { kernel: Kernel { realtime, ..*running }, ..asked }, left)
}

#[cfg(test)]
mod tests;
