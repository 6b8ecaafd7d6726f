//! A scan: survey → suspects → a close look at each → a verdict on each.

use std::{
    cell::LazyCell,
    collections::{BTreeSet, HashSet},
};

use tracing::{debug_span, field::Empty};

use crate::daemon::clock::Now;
use crate::daemon::conditions::Degradation;
use crate::daemon::engine::Engine;
use crate::daemon::engine::state::settings::SettingsInForce;
use crate::daemon::source::sources::Look;
use crate::{
    config::Settings,
    model::{Bytes, Pid, Process, ProcessId, Reading, Snapshot, SystemMemory, Verdict},
    policy,
    report::Event,
};

impl Engine<'_> {
    /// One scan, from its first log line to its last.
    pub(crate) fn scan(&mut self, now: Now) {
        let span = debug_span!("scan", processes = Empty, suspects = Empty);
        let _entered = span.enter();
        let (begun, moment) = (now.instant(), now.moment());
        let Some(look) = self.survey(now) else { return };
        let memory = look.survey.memory;
        self.measured(memory, now);
        let growing = self.note_readings(&look.survey.readings, now);
        let mut suspects = policy::suspects(self.settings.rules(), &look.survey);
        let knows_limits = self.knows_limits();
        suspects.retain(|reading| {
            !knows_limits
                || self.sources.is_unmapped(reading.pid)
                || !self.known_limits.is_within(reading, begun)
        });
        span.record("processes", look.survey.readings.len());
        span.record("suspects", suspects.len());
        self.judged.scanned(&look.survey.readings, self.settings.rules().least_limit(&memory));
        self.backoff.delays = false;
        self.judge(memory, &suspects, now);
        self.known_limits.scan_complete(begun);
        self.repair_kernel_sums();
        self.check_sums(&look.survey.readings, now.instant(), now);
        self.check_stopped(now);
        self.lower_wake_levels(&growing, now);
        self.gear_after_scan(&growing, now);
        let readings = look.survey.readings;
        let scanned = readings.len();
        // Seldom needed.
        let seen = LazyCell::new(|| -> HashSet<Pid> { readings.iter().map(|reading| reading.pid).collect() });
        self.reports.scan_complete(|process| seen.contains(&process.pid));
        self.terminations.keep_freed(|process| seen.contains(&process.pid));
        drop(seen);
        self.note_machine(readings, moment, look.machine, now);
        // Includes those that a wake has found since the last scan, so that the sum of these figures has them all.
        let killed = self.terminations.take_asked_to_end();
        let map = self.sources.kernel().and_then(|kernel| kernel.figures());
        let took = now.instant().saturating_duration_since(begun);
        self.reports.scanned(took, map, self.settings.current().dry_run);
        self.sums_in_force(now);
        self.reports.sums(&self.sum_limits(), self.sum_trends.states());
        self.reports.emit(Event::ScanComplete { scanned, killed });
    }

    /// Whether a scan leaves out processes that are within their own limit: only if the kernel wakes memmon for each that grows.
    /// Without rules there is one limit, and nothing to be left out.
    fn knows_limits(&mut self) -> bool {
        let Settings { rules, kernel, .. } = self.settings.current();
        let asks = !rules.rules.is_empty() && kernel.instant;
        asks && self.sources.kernel().is_some()
    }

    /// A reading of every process, with reports of problems of the source; `None` if nothing can be read.
    fn survey(&mut self, now: Now) -> Option<Look> {
        let watches_machine = self.settings.current().machine.is_some();
        let look = match self.sources.survey(watches_machine, now.instant()) {
            Ok(look) => look,
            Err(error) => {
                self.reports.degraded(Degradation::SurveyFailed, || format!("nothing was scanned: {error}"));
                return None;
            }
        };
        self.reports.works(Degradation::SurveyFailed);
        self.reports.emit(Event::SystemMemory { memory: look.survey.memory });
        if look.map_full {
            self.reports.degraded(Degradation::MapFull, || {
                "the kernel map has no room for every process, so that scans read /proc as well: restart memmon, which \
                 makes room for four times as many as run then, at most 65536, or set kernel.max_processes"
                    .to_owned()
            });
        } else {
            self.reports.works(Degradation::MapFull);
        }
        match &look.sweep {
            None => {}
            Some(Ok(defects)) => {
                self.reports.works(Degradation::NoSweep);
                if defects.missed + defects.stale > 0 {
                    self.reports.emit(Event::MapDefect { missed: defects.missed, stale: defects.stale });
                }
            }
            Some(Err(error)) => self.reports.degraded(Degradation::NoSweep, || {
                format!(
                    "the kernel map was not compared with /proc, and a process that it lacks is not found until that works again: \
                     {error}"
                )
            }),
        }
        Some(look)
    }

    /// Keeps the readings of growing processes, for their growth rates, and warns about those near their limit. Returns the
    /// growing processes.
    fn note_readings(&mut self, readings: &[Reading], now: Now) -> BTreeSet<ProcessId> {
        let (at, lowest) = (now.monotonic(), self.growth.levels.lowest());
        let mut growing = BTreeSet::new();
        for Reading { pid, start, rss, .. } in readings.iter().filter(|reading| reading.rss >= lowest) {
            // A pass over /proc does not read start times, and few processes get this far.
            let start = start.or_else(|| Some(self.sources.confirm(*pid, None, Bytes::MAX).ok()?.id.start));
            let Some(start) = start else { continue };
            let id = ProcessId { pid: *pid, start };
            self.growth.note(id, at, *rss);
            self.warn(id, *rss, now);
            growing.insert(id);
        }
        growing
    }

    /// Looks closely at `suspects`, and acts on the verdict on each.
    fn judge(&mut self, memory: SystemMemory, suspects: &[Reading], now: Now) {
        let confirmed = suspects.iter().filter_map(|reading| {
            if self.is_left_to_elder(reading, now) {
                return None;
            }
            Some((reading.rss, self.confirm(reading, now)?))
        });
        let (readings, processes): (Vec<Bytes>, Vec<Process>) = confirmed.unzip();
        let snapshot = Snapshot { memory, processes };
        let verdicts = policy::decide(self.settings.rules(), &snapshot);
        let verdicts: Vec<_> = verdicts.into_iter().map(|(_, verdict)| verdict).collect();
        for ((mut process, verdict), rss) in snapshot.processes.into_iter().zip(verdicts).zip(readings) {
            let id = process.id;
            let verdict = self.settle(&mut process, verdict, now, SettingsInForce::judge);
            if verdict == Verdict::Within {
                let age = now.since_boot().saturating_sub(id.start.since_boot());
                self.known_limits.note(id, self.settings.limit_of(&process), age, now.instant());
            }
            let next = self.act_on(process, verdict, rss, None, None, now);
            if self.settings.current().kernel.instant {
                self.set_level(id, next, now);
            }
        }
    }
}
