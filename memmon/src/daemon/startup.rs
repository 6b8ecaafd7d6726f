//! The start: configuration, sinks, the lock and the source, before the event loop runs.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use tracing::{
    debug_span,
    field::{self, Empty},
};

use crate::daemon::announcer::Announcer;
use crate::daemon::engine::state::reports::Observer as _;
use crate::daemon::engine::state::stopped::KeptStop;
use crate::daemon::event_loop::{EventLoop, Signals, access};
use crate::daemon::exemption_file::{self, Stored};
use crate::daemon::exemptions::report_unreadable;
use crate::daemon::history::Historian;
use crate::daemon::host::claim::Claim;
use crate::daemon::host::instance::{Instance, InstanceError, RUNTIME_DIR};
use crate::daemon::host::memory_trim::Startup;
use crate::daemon::late_names::LateNames;
use crate::daemon::options::Options;
use crate::daemon::outputs::outputs;
use crate::daemon::own_status::{OwnStatus, StartupFacts};
use crate::daemon::settings::{Enforceable, load, report_of};
use crate::daemon::source::kernel_map::Kernel;
use crate::daemon::source::sources::Sources;
use crate::daemon::state_file::{STATE_DIR, StateFile, Writer, cannot_keep};
use crate::daemon::status_socket::RuntimeFiles;
use crate::daemon::stopped_file::{self, StoppedFile};
use crate::daemon::throttler::Throttler;
use crate::{
    config::{Concern, Loaded, Settings, Warning},
    enforce::CGROUPS,
    model::{Lowered, Source, SourceChoice, Uid},
    observe::{
        procfs::ProcRoot,
        support::{self, Facts, Obstacle, Support},
    },
    report::{self, Event, Reporter},
    status::SOCKET,
};

/// Maximum time for the last log lines to reach the disk.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Watches until a signal stops it, or for one scan.
///
/// # Errors
/// [`ConfigError`](crate::config::ConfigError), [`InstanceError`], [`support::Refusal`] and
/// [`CannotEnforce`](super::CannotEnforce) have exit codes of their
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
    let (claim, warnings) = instance.as_ref().map(|_| claim(settings)).transpose()?.unwrap_or_default();

    let reporter = Reporter::start(outputs(settings)).context("no thread for the log")?;
    // This fails only for a second daemon in the same process.
    let _ = report::install_diagnostics(reporter.sender());
    let loaded = Loaded { warnings: [loaded.warnings, warnings].concat(), ..loaded };
    let ended = watch(
        options,
        loaded,
        &facts,
        &mut support,
        (!only_a_look, instance.as_ref(), claim),
        &reporter,
        &startup,
    );
    // Lines that a stuck disk does not take in time are lost; the end does not wait for it.
    let _ = reporter.finish(LAST_WORDS);
    drop(instance);
    ended
}

/// A claim to what `settings` need, and warnings about other memmons.
fn claim(settings: &Settings) -> Result<(Option<Arc<Claim>>, Vec<Warning>), InstanceError> {
    match Claim::new() {
        Ok(claim) => {
            let warnings = claim.extend(settings)?;
            Ok((Some(Arc::new(claim)), warnings))
        }
        Err(error) => Ok((None, vec![Warning::general(Concern::NoClaim { error: error.to_string() })])),
    }
}

fn watch(
    options: &Options,
    loaded: Loaded,
    facts: &Facts,
    support: &mut Support,
    (pinned, instance, claim): (bool, Option<&Instance>, Option<Arc<Claim>>),
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
    let proc = ProcRoot::real().context("memmon cannot work without /proc")?;
    let sources = Sources::new(proc, support.accuracy(), kernel);
    let memory = sources.memory().context("memmon cannot work without /proc/meminfo")?;
    reporter.metrics().reads(sources.source());
    reporter.emit(Event::Started {
        version: env!("CARGO_PKG_VERSION"),
        config: loaded.origin.clone(),
        fragments: loaded.fragments.clone(),
        source: sources.source().as_str(),
        reason: reason.clone(),
        dry_run: loaded.settings.dry_run,
        awaits_enable: loaded.settings.awaits_enable,
        limit: loaded.settings.rules.limit(&memory).1,
        interval: loaded.settings.check_interval,
    });
    // A look beside another memmon keeps nothing.
    let no_state = instance.and_then(|_| cannot_keep());
    let degraded = support.degraded.iter().map(|degraded| format!("{degraded}: {}", degraded.remedy()));
    let degraded: Vec<String> = degraded.chain(no_state).collect();
    for what in &degraded {
        reporter.emit(Event::Degraded { what: what.clone() });
    }
    for warning in &loaded.warnings {
        reporter.emit(report_of(warning));
    }
    let late_names = LateNames::of(&loaded);
    let about = StartupFacts {
        reason,
        degraded,
        file: loaded.origin,
        fragments: loaded.fragments,
        warnings: loaded.warnings,
    };
    let history = Historian::new(instance.map(|_| loaded.settings.history));
    let announcer = Announcer::new(reporter, OwnStatus::new(about), history);
    let (mut runtime_files, requests) = RuntimeFiles::new(instance);
    let enforceable = Enforceable::of(support);
    // Without it no process of before is known again, and none would be after the next start.
    let boot = ProcRoot::real().and_then(|proc| proc.boot_id()).unwrap_or_default();
    let exemptions = exemptions(instance, &boot, &announcer);
    let throttles = instance.map(|_| throttles(&boot, &announcer));
    let stops = instance.map(|_| stops(&boot, &announcer));
    let ended = runtime.block_on(async {
        if instance.is_some() && !options.once {
            runtime_files.listen(Path::new(SOCKET), access(&loaded.settings), &announcer);
        }
        let (options, queries) = (options.clone(), (runtime_files, requests));
        let mut event_loop =
            EventLoop::new(options, loaded.settings, sources, memory, enforceable, &announcer, queries)?;
        event_loop.continue_exemptions(exemptions);
        event_loop.continue_claim(claim);
        event_loop.await_names(late_names);
        if let Some((throttler, left)) = throttles {
            event_loop.continue_throttles(throttler, left);
        }
        if let Some(stops) = stops {
            event_loop.continue_stops(stops);
        }
        event_loop.run(signals, startup).await
    });
    // A thread that waits for a name service, or reads for a status query, does not delay the end.
    runtime.shutdown_background();
    announcer.finish();
    ended
}

/// The exemptions of before, and the way to store others. A look beside another memmon knows them and stores none.
fn exemptions(
    instance: Option<&Instance>,
    boot: &str,
    announcer: &Announcer<'_>,
) -> (Stored, Option<Writer<Stored>>) {
    let file = StateFile::new(Path::new(STATE_DIR), exemption_file::FILE, boot);
    let stored = Stored::read(&file).unwrap_or_else(|error| {
        report_unreadable(announcer, &error);
        Stored::nothing()
    });
    (stored, instance.map(|_| Writer::new(file)))
}

/// The way to slow cgroups down, and those that were when memmon ended last.
fn throttles(boot: &str, announcer: &Announcer<'_>) -> (Throttler, Vec<Lowered>) {
    let throttler = Throttler::new(Path::new(CGROUPS), Path::new(STATE_DIR), boot);
    let left = throttler.left().unwrap_or_else(|error| {
        let what = format!("cgroups that memmon has slowed down before may stay so: {error}");
        announcer.event(Event::Degraded { what });
        vec![]
    });
    (throttler, left)
}

/// The way to keep the processes that memmon stops, and those that it had stopped when it ended last.
fn stops(boot: &str, announcer: &Announcer<'_>) -> (StoppedFile, Vec<KeptStop>) {
    let file = StoppedFile::new(StateFile::new(Path::new(STATE_DIR), stopped_file::FILE, boot));
    let left = file.left().unwrap_or_else(|error| {
        let what = format!("processes that memmon has stopped before count as stopped by another: {error}");
        announcer.event(Event::Degraded { what });
        vec![]
    });
    (file, left)
}

/// Attaches the requested source, or the best one that works. A source that fails is withdrawn and reported.
fn source(
    settings: &Settings,
    facts: &Facts,
    support: &mut Support,
    pinned: bool,
) -> anyhow::Result<(Option<Kernel>, String)> {
    let span = debug_span!("attach", source = Empty, capacity = Empty, error = Empty);
    let _entered = span.enter();
    loop {
        let (source, reason) = support::choose(settings.kernel.source, support)?;
        span.record("source", source.as_str());
        match source {
            Source::Proc => {
                if settings.kernel.source == SourceChoice::Auto {
                    support.degraded.extend(support.ebpf.refused_calls().cloned());
                }
                return Ok((None, reason));
            }
            Source::Ebpf => match Kernel::attach(facts, support, &settings.kernel, pinned) {
                Ok(kernel) => {
                    span.record("capacity", kernel.fill().capacity);
                    support.degraded.extend(kernel.unpinned().map(|error| Obstacle::NotPinned { error }));
                    support.degraded.extend(kernel.no_mappings().map(|error| Obstacle::NoMappings { error }));
                    let gears = kernel.gears(&settings.kernel, support);
                    return Ok((Some(kernel), format!("{reason}; {gears}")));
                }
                // The other memmon has another /run, for example in a container.
                Err(second) if Kernel::is_second(&second) => {
                    return Err(InstanceError::Taken { pid: None }.into());
                }
                Err(error) => {
                    span.record("error", field::display(&error));
                    support.ebpf.disable(Obstacle::Attach { error: error.to_string() });
                }
            },
        }
    }
}
