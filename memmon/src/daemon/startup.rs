//! The start: configuration, sinks, the lock and the source, before the event loop runs.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use jiff::Zoned;

use crate::daemon::Options;
use crate::daemon::event_loop::{Daemon, Signals};
use crate::daemon::host::instance::{Instance, InstanceError, RUNTIME_DIR};
use crate::daemon::host::memory_trim::Startup;
use crate::daemon::outputs::outputs;
use crate::daemon::preflight::preflight;
use crate::daemon::source::kernel_map::Kernel;
use crate::daemon::source::sources::Sources;
use crate::daemon::status::{StartupFacts, StatusBoard};
use crate::{
    config::{self, Concern, Consent, Loaded, NameService, Settings, Warning},
    enforce::EscalationTiming,
    model::{Source, Uid},
    observe::support::{self, Facts, Obstacle, Offer, Support},
    report::{self, Event, Reporter},
    status::SOCKET,
};

/// Maximum time for the last log lines to reach the disk.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Time that a killed process may take to exit before this is reported.
const LINGERING: Duration = Duration::from_secs(5);

/// The configuration enforces limits, but memmon cannot do so safely on this machine.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot terminate anything here: {}; `memmon run --dry-run` watches all the same", .0.join("; "))]
pub struct CannotEnforce(Vec<String>);

/// Watches until a signal stops it, or for one scan.
///
/// # Errors
/// [`config::ConfigError`], [`super::InstanceError`], [`support::Refusal`] and [`CannotEnforce`] have exit codes of their
/// own; any other error is a failure of the machine.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let startup = Startup::look();
    let loaded = load(options)?;
    let settings = &loaded.settings;
    let facts = Facts::gather();
    let mut support = support::assess(&facts);
    Enforceable::of(&support).allows(settings)?;
    // A single dry-run scan may run beside a daemon: it takes neither the lock nor the pin.
    let only_a_look = options.once && settings.dry_run;
    let privileged = facts.euid == Uid::ROOT;
    let instance =
        (privileged && !only_a_look).then(|| Instance::take(Path::new(RUNTIME_DIR))).transpose()?;

    let reporter = Reporter::start(outputs(settings)).context("no thread for the log")?;
    // This fails only for a second daemon in the same process.
    let _ = report::install_diagnostics(reporter.teller());
    let ended =
        watch(options, loaded, &facts, &mut support, (!only_a_look, instance.as_ref()), &reporter, &startup);
    // Lines that a stuck disk does not take in time are lost; the end does not wait for it.
    let _ = reporter.finish(LAST_WORDS);
    drop(instance);
    ended
}

/// Whether memmon can terminate processes safely on this machine, and with its privileges.
#[derive(Clone, Debug)]
pub(super) struct Enforceable {
    enforce: Offer,
    scope_by_cgroup: Offer,
}

impl Enforceable {
    fn of(support: &Support) -> Self {
        Self { enforce: support.enforce.clone(), scope_by_cgroup: support.scope_by_cgroup.clone() }
    }

    /// Whether `settings` may be in force here. A dry run always may.
    pub(super) fn allows(&self, settings: &Settings) -> Result<(), CannotEnforce> {
        if settings.dry_run {
            return Ok(());
        }
        let by_cgroup = settings.rules.scope.cgroups.as_ref().map(|_| &self.scope_by_cgroup);
        let offers = [Some(&self.enforce), by_cgroup].into_iter().flatten();
        let obstacles: Vec<_> = offers
            .flat_map(|offer| &offer.obstacles)
            .map(|obstacle| format!("{obstacle} ({})", obstacle.remedy()))
            .collect();
        if obstacles.is_empty() { Ok(()) } else { Err(CannotEnforce(obstacles)) }
    }
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
            loaded.warnings.push(Warning { line: None, concern: Concern::UntrustedConsent { reason } });
        }
    }
    loaded.settings.kernel.source = options.source.unwrap_or(loaded.settings.kernel.source);
    loaded.settings.follow(&Zoned::now());
    loaded.warnings.extend(preflight(&loaded.settings));
    Ok(loaded)
}

fn watch(
    options: &Options,
    loaded: Loaded,
    facts: &Facts,
    support: &mut Support,
    (pinned, instance): (bool, Option<&Instance>),
    reporter: &Reporter,
    startup: &Startup,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop (epoll, eventfd and signalfd are needed)")?;
    let signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    let (kernel, reason) = source(&loaded.settings, facts, support, pinned)?;
    let sources = Sources::new(support, kernel)?;
    let memory = sources.memory().context("memmon cannot work without /proc/meminfo")?;
    reporter.metrics().reads(sources.source());
    reporter.tell(Event::Started {
        version: env!("CARGO_PKG_VERSION"),
        config: loaded.origin.clone(),
        source: sources.source().as_str(),
        reason: reason.clone(),
        dry_run: loaded.settings.dry_run,
        awaits_enable: loaded.settings.awaits_enable,
        limit: loaded.settings.rules.limit(&memory).1,
        interval: loaded.settings.check_interval,
    });
    for degraded in &support.degraded {
        reporter.tell(Event::Degraded { what: format!("{degraded}: {}", degraded.remedy()) });
    }
    for warning in &loaded.warnings {
        reporter.tell(Event::Degraded { what: warning.to_string() });
    }
    let degraded = support.degraded.iter().map(|degraded| format!("{degraded}: {}", degraded.remedy()));
    let about =
        StartupFacts { reason, degraded: degraded.collect(), file: loaded.origin, warnings: loaded.warnings };
    let board = StatusBoard::new(about);
    let enforceable = Enforceable::of(support);
    let ended = runtime.block_on(async {
        let mut daemon =
            Daemon::new(options.clone(), loaded.settings, sources, memory, enforceable, reporter, board)?;
        daemon.instance = instance;
        if instance.is_some() && !options.once {
            daemon.listen(Path::new(SOCKET));
        }
        daemon.run(signals, startup).await
    });
    // A thread that waits for a name service, or reads for a status query, does not delay the end.
    runtime.shutdown_background();
    ended
}

/// Attaches the requested source, or the best one that works. A source that fails is withdrawn and reported.
fn source(
    settings: &Settings,
    facts: &Facts,
    support: &mut Support,
    pinned: bool,
) -> anyhow::Result<(Option<Kernel>, String)> {
    loop {
        let (source, reason) = support::choose(settings.kernel.source, support)?;
        match source {
            Source::Proc => return Ok((None, reason)),
            Source::Ebpf => match Kernel::attach(facts, support, settings.kernel.max_processes, pinned) {
                Ok(kernel) => {
                    support.degraded.extend(kernel.unpinned().map(|error| Obstacle::NotPinned { error }));
                    return Ok((Some(kernel), reason));
                }
                // The other memmon has another /run, for example in a container.
                Err(second) if Kernel::is_second(&second) => {
                    return Err(InstanceError::Taken { pid: None }.into());
                }
                Err(error) => support.ebpf.withdraw(Obstacle::Attach { error: error.to_string() }),
            },
        }
    }
}

pub(super) fn timing(settings: &Settings) -> EscalationTiming {
    EscalationTiming {
        grace: settings.termination.grace,
        lingering: LINGERING,
        reclaim: settings.termination.reclaim,
    }
}
