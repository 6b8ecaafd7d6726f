//! Figures for Prometheus: counted from the events, and set by the daemon if no event has them.
//!
//! Nobody waits here: counting is a few atomic additions, and encoding and serving are for threads of their own
//! ([`export`]). No figure is of one process: pids as labels would grow without bound. [`rules`] has those by `[[rule]]`.

mod catalog;
mod export;
mod http;
mod rules;
pub(super) mod textfile;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use self::catalog::{Catalog, gauge};
pub(super) use self::export::Exports;
use self::rules::RuleFigures;
use super::event::Event;
use crate::model::{Bytes, Cause, Limit, Listen, RuleName, Signal, Source, SumFigures};

/// Destinations of metrics; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsOutputs {
    /// A file for node_exporter's textfile collector.
    pub textfile: Option<std::path::PathBuf>,
    /// OpenMetrics over HTTP.
    pub listen: Option<Listen>,
}

/// All figures; clones are the same figures.
#[derive(Clone)]
pub struct Metrics(Arc<Figures>);

/// The state of the kernel map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapFigures {
    /// Processes in it.
    pub entries: u64,
    /// Processes that it has room for.
    pub capacity: u64,
    /// Processes that it had no room for, since memmon started.
    pub refused: u64,
    /// Crossings that found the ring full, since memmon started; the next event of the process tries again.
    pub lost: u64,
}

type Labels<const N: usize> = [(&'static str, &'static str); N];

struct Figures {
    registry: Registry,
    terminations: Family<Labels<3>, Counter>,
    would_terminate: Family<Labels<1>, Counter>,
    signals_failed: Family<Labels<1>, Counter>,
    spared: Counter,
    held_back: Counter,
    stops: Counter,
    continued: Counter,
    throttles: Counter,
    not_throttled: Counter,
    oom_killed: Counter,
    in_doubt: Counter,
    scan: Histogram,
    reaction: Histogram,
    exit: Histogram,
    overshoot: Histogram,
    processes: Gauge,
    memory_total: Gauge,
    memory_available: Gauge,
    limit: Gauge,
    interval: Gauge<f64, std::sync::atomic::AtomicU64>,
    dry_run: Gauge,
    source: Family<Labels<1>, Gauge>,
    map_entries: Gauge,
    map_capacity: Gauge,
    map_refused: Counter,
    map_defects: Counter,
    lost_crossings: Counter,
    lost_events: Counter,
    lost_history: Counter,
    degraded: Counter,
    generation: Gauge,
    reload_ok: Gauge,
    notifications: Family<Labels<2>, Counter>,
    by_rule: RuleFigures,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Figures::new()))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Counts an event, whatever the level from which events are written.
    pub(super) fn observe(&self, event: &Event) {
        let figures = &*self.0;
        match event {
            Event::Started { .. } => {
                figures.generation.set(1);
                figures.reload_ok.set(1);
            }
            Event::SystemMemory { memory } => {
                figures.memory_total.set(gauge(memory.total));
                figures.memory_available.set(gauge(memory.available));
            }
            Event::Killing { breach, dry_run: true, .. } => {
                figures.would_terminate.get_or_create(&[("rule", breach.rule.as_str())]).inc();
                breach.by.into_iter().for_each(|rule| figures.by_rule.would_terminate(rule));
            }
            Event::Terminated { record, .. } => {
                let labels = end(
                    record.breach.rule,
                    record.cause,
                    record.signal.unwrap_or_default(),
                    record.reclaimed,
                );
                figures.terminations.get_or_create(&labels).inc();
                record.breach.by.into_iter().for_each(|rule| figures.by_rule.terminated(rule));
                figures.exit.observe(record.signal_to_exit.as_secs_f64());
                // A process that ended for the machine had no limit.
                if let Some(overshoot) = record.overshoot
                    && record.breach.rule != Limit::Machine
                {
                    figures.overshoot.observe(overshoot.0 as f64);
                }
                if let Some(took) = record.crossing_to_signal {
                    figures.reaction.observe(took.as_secs_f64());
                }
            }
            Event::SignalFailed { signal, .. } => {
                figures.signals_failed.get_or_create(&[("signal", signal.as_str())]).inc();
            }
            Event::Spared { .. } | Event::NowProtected { .. } => drop(figures.spared.inc()),
            Event::Delayed { by, .. } => {
                figures.held_back.inc();
                by.iter().for_each(|rule| figures.by_rule.held_back(*rule));
            }
            Event::Stopped { already: false, dry_run: false, .. } => drop(figures.stops.inc()),
            Event::Continued { .. } => drop(figures.continued.inc()),
            Event::Throttled { dry_run: false, .. } => drop(figures.throttles.inc()),
            Event::NotThrottled { .. } => drop(figures.not_throttled.inc()),
            Event::Unsure { .. } => drop(figures.in_doubt.inc()),
            Event::ScanComplete { scanned, .. } => {
                figures.processes.set(i64::try_from(*scanned).unwrap_or(i64::MAX));
            }
            Event::MapDefect { missed, stale } => {
                figures.map_defects.inc_by((missed + stale) as u64);
            }
            Event::Degraded { .. } => drop(figures.degraded.inc()),
            Event::Reloaded { .. } => {
                figures.generation.inc();
                figures.reload_ok.set(1);
            }
            Event::ReloadFailed { .. } => drop(figures.reload_ok.set(0)),
            Event::Overflow { lost } => drop(figures.lost_events.inc_by(*lost)),
            Event::OomKilled { .. } => drop(figures.oom_killed.inc()),
            // No figure counts the others.
            _ => {}
        }
    }

    /// Sets the figures in force.
    pub fn in_force(&self, limit: Bytes, interval: Duration, dry_run: bool) {
        let figures = &*self.0;
        figures.limit.set(gauge(limit));
        figures.interval.set(interval.as_secs_f64());
        figures.dry_run.set(i64::from(dry_run));
    }

    /// Sets the rules in force, and removes the figures of all others.
    pub fn rules(&self, rules: impl Iterator<Item = RuleName>) {
        self.0.by_rule.in_force(rules);
    }

    /// Sets the limit of each rule for sums, and all sums; the sum with the largest share of its limit comes first.
    pub fn sums(&self, limits: &[(RuleName, Bytes)], sums: &[&SumFigures]) {
        self.0.by_rule.sums(limits, sums);
    }

    /// Adds the duration of a scan.
    pub fn scanned(&self, took: Duration) {
        self.0.scan.observe(took.as_secs_f64());
    }

    /// Sets the source of readings.
    pub fn reads(&self, source: Source) {
        for other in [Source::Ebpf, Source::Proc] {
            let labels = [("source", other.as_str())];
            self.0.source.get_or_create(&labels).set(i64::from(other == source));
        }
    }

    /// Sets the state of the kernel map.
    pub fn map(&self, map: MapFigures) {
        let figures = &*self.0;
        figures.map_entries.set(i64::try_from(map.entries).unwrap_or(i64::MAX));
        figures.map_capacity.set(i64::try_from(map.capacity).unwrap_or(i64::MAX));
        // These are counted in the kernel.
        figures.map_refused.inner().store(map.refused, Ordering::Relaxed);
        figures.lost_crossings.inner().store(map.lost, Ordering::Relaxed);
    }

    /// Counts entries that are missing in the history.
    pub fn lost_history(&self, lost: u64) {
        self.0.lost_history.inner().store(lost, Ordering::Relaxed);
    }

    /// Counts notifications that were sent on `channel`, or could not be sent.
    pub(super) fn notified(&self, channel: &'static str, outcome: &'static str, count: u64) {
        self.0.notifications.get_or_create(&[("channel", channel), ("outcome", outcome)]).inc_by(count);
    }

    /// All figures in the OpenMetrics text format 1.0.
    pub(super) fn openmetrics(&self) -> String {
        let mut text = String::with_capacity(8192);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

impl Figures {
    /// Creates each counter with the value 0. Prometheus takes the first value that it sees for no increase, so without this
    /// no alert would fire for the first termination.
    fn begin(&self) {
        for signal in [Signal::Term, Signal::Kill] {
            drop(self.signals_failed.get_or_create(&[("signal", signal.as_str())]));
        }
        for of in Limit::ALL {
            drop(self.would_terminate.get_or_create(&[("rule", of.as_str())]));
            let causes = [Cause::Term, Cause::Kill, Cause::Itself, Cause::OomKiller, Cause::SomebodyElse];
            for cause in causes {
                drop(self.terminations.get_or_create(&end(of, cause, Signal::Term, false)));
            }
            drop(self.terminations.get_or_create(&end(of, Cause::Kill, Signal::Term, true)));
        }
    }

    fn new() -> Self {
        let mut all = Catalog(Registry::with_prefix("memmon"));
        let build: Family<Labels<1>, Gauge> = all.add("build_info", "The version of memmon");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        let figures = Self {
            terminations: all.add("terminations", "Victims that ended, by limit, signal and outcome"),
            would_terminate: all.add("would_terminate", "Processes that a dry run would have terminated"),
            signals_failed: all.add("signals_failed", "Signals that could not be sent"),
            spared: all.add("spared", "Victims that were spared before a signal"),
            held_back: all.add("held_back", "Terminations of repeat offenders that were delayed"),
            stops: all.add("stops", "Times that a process was stopped by a rule"),
            continued: all.add("continued", "Times that somebody continued a stopped process over its limit"),
            throttles: all.add("throttles", "Times that a cgroup was slowed down by a rule"),
            not_throttled: all.add("not_throttled", "Times that a rule could not slow a cgroup down"),
            in_doubt: all.add("in_doubt", "Processes left alone as a rule could not be checked"),
            oom_killed: all.add("oom_killed", "Processes that the kernel's OOM killer killed"),
            // 100 µs to 13 s.
            scan: all.seconds("scan_duration", "Time that a scan took", doubling(1e-4, 18)),
            reaction: all.seconds(
                "reaction",
                "Time from a crossing in the kernel to the first signal",
                doubling(1e-4, 18),
            ),
            // 1 ms to 65 s: a grace is in it.
            exit: all.seconds("exit", "Time from the first signal to the exit", doubling(1e-3, 17)),
            // 1 MiB to 64 GiB.
            overshoot: all.bytes(
                "overshoot",
                "Memory beyond the limit at the first signal",
                doubling(Bytes::MIB as f64, 17),
            ),
            processes: all.add("processes", "Processes looked at in the last scan"),
            memory_total: all.bytes("memory_total", "Memory of the machine", Gauge::default()),
            memory_available: all.bytes(
                "memory_available",
                "Memory available at the last scan",
                Gauge::default(),
            ),
            limit: all.bytes("limit", "Limit of a process's resident memory", Gauge::default()),
            interval: all.seconds("check_interval", "Time between two scans", Gauge::default()),
            dry_run: all.add("dry_run", "1 in a dry run"),
            source: all.add("source", "1 if readings come from this source"),
            map_entries: all.add("map_entries", "Processes in the kernel map"),
            map_capacity: all.add("map_capacity", "Processes that the kernel map has room for"),
            map_refused: all.add("map_refused", "Processes that the kernel map had no room for"),
            map_defects: all.add("map_defects", "Entries missing or stale that a sweep found"),
            lost_crossings: all.add("lost_crossings", "Crossings that found the ring full"),
            lost_events: all.add("lost_events", "Events dropped because the log could not keep up"),
            lost_history: all.add("lost_history", "History entries that could not be written"),
            degraded: all.add("degraded", "Times that memmon reported a limitation"),
            generation: all.add("config_generation", "Configurations that were in force so far"),
            reload_ok: all.add("config_last_reload_successful", "Whether the last reload worked"),
            notifications: all.add("notifications", "Notifications by channel and outcome"),
            by_rule: RuleFigures::new(&mut all),
            registry: all.0,
        };
        figures.begin();
        figures
    }
}

fn doubling(from: f64, buckets: u16) -> Histogram {
    Histogram::new(exponential_buckets(from, 2.0, buckets))
}

/// `first`: the first signal, which counts if it was enough.
const fn end(of: Limit, cause: Cause, first: Signal, reclaimed: bool) -> Labels<3> {
    let (signal, outcome) = match cause {
        Cause::Term => (first.as_str(), "exited"),
        Cause::Kill if reclaimed => (Signal::Kill.as_str(), "reclaimed"),
        Cause::Kill => (Signal::Kill.as_str(), "exited"),
        Cause::Itself => ("none", "exited"),
        Cause::OomKiller => ("none", "oom_killer"),
        Cause::SomebodyElse => ("none", "somebody_else"),
    };
    [("rule", of.as_str()), ("signal", signal), ("outcome", outcome)]
}

#[cfg(test)]
mod tests;
