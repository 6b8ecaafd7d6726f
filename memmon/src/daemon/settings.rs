//! The settings of a run: the configuration with the options of the command line, and whether it may be in force here.

use std::path::Path;

use jiff::Zoned;

use crate::daemon::options::Options;
use crate::daemon::preflight::preflight;
use crate::{
    config::{self, Concern, Consent, Loaded, NameService, Settings, Warning},
    observe::support::{self, Facts, Feature, Support},
    report::Event,
};

/// The configuration enforces limits, but memmon cannot do so safely on this machine.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot enforce this configuration here: {}; `memmon run --dry-run` watches all the same", .0.join("; "))]
pub struct CannotEnforce(Vec<String>);

/// Whether memmon can terminate processes safely on this machine, and with its privileges.
#[derive(Clone, Debug)]
pub(super) struct Enforceable {
    enforce: Feature,
    cgroup_paths: Feature,
    exe_files: Feature,
    throttle: Feature,
}

impl Enforceable {
    pub(super) fn of(support: &Support) -> Self {
        let Support { enforce, cgroup_paths, exe_files, throttle, .. } = support.clone();
        Self { enforce, cgroup_paths, exe_files, throttle }
    }

    /// Whether `settings` may be in force here. A dry run always may.
    pub(super) fn allows(&self, settings: &Settings) -> Result<(), CannotEnforce> {
        if settings.dry_run {
            return Ok(());
        }
        // A figure that cannot be compared must not count against a process that the configuration spares.
        let by_cgroup = settings.rules.depends_on_cgroups().then_some(&self.cgroup_paths);
        let by_exe = settings.rules.wanted().exe_file.then_some(&self.exe_files);
        let throttle = settings.throttles().then_some(&self.throttle);
        let features = [Some(&self.enforce), by_cgroup, by_exe, throttle].into_iter().flatten();
        let mut obstacles: Vec<_> = features
            .flat_map(|feature| &feature.obstacles)
            .map(|obstacle| format!("{obstacle} ({})", obstacle.remedy()))
            .collect();
        // Two keys may need the same.
        obstacles.dedup();
        if obstacles.is_empty() { Ok(()) } else { Err(CannotEnforce(obstacles)) }
    }
}

/// The event that reports a warning.
pub(super) fn report_of(warning: &Warning) -> Event {
    let what = warning.to_string();
    if warning.is_degradation() { Event::Degraded { what } } else { Event::ConfigWarning { what } }
}

/// Whether a memmon that enforces `settings` would start here.
///
/// # Errors
/// [`CannotEnforce`], with what is in the way.
pub fn can_enforce(settings: &Settings) -> Result<(), CannotEnforce> {
    Enforceable::of(&support::assess(&Facts::gather())).allows(settings)
}

/// Loads the configuration and applies the options of the command line.
pub(super) fn load(options: &Options) -> Result<Loaded, config::ConfigError> {
    let mut loaded = config::load(options.config.as_deref(), &NameService)?;
    loaded.settings.dry_run |= options.dry_run;
    if options.dry_run_until_enabled {
        let file = options.config.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH));
        let (settings, consent) = (&mut loaded.settings, config::consent(file));
        settings.awaits_enable = !settings.dry_run && consent != Consent::Given;
        settings.dry_run |= settings.awaits_enable;
        if let Consent::Untrusted(reason) = consent {
            loaded.warnings.push(Warning::general(Concern::UntrustedConsent { reason }));
        }
    }
    loaded.settings.kernel.source = options.source.unwrap_or(loaded.settings.kernel.source);
    loaded.settings.follow(&Zoned::now());
    loaded.warnings.extend(preflight(&loaded.settings));
    Ok(loaded)
}
