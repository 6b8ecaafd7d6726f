//! The daemon's own status, noted as it changes, at nearly no cost.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::{Zoned, civil::Date};
use serde_json::Value;

use crate::daemon::clock::thread_cpu_time;
use crate::daemon::dry_run_days::{Count, Day, DryRunDays};
use crate::daemon::in_force::on_the_wire;
use crate::{
    config::Warning,
    model::{Name, Uid},
    policy::Rules,
    report::{DryRunCounts, DryRunProgram, Event},
    status::{self, Text},
};

/// Number of terminations that are kept.
const RECENT: usize = 50;

/// Facts that are known at the start.
pub(super) struct StartupFacts {
    /// The reason for the source.
    pub(super) reason: String,
    /// Limitations of the kernel or of memmon's privileges.
    pub(super) degraded: Vec<String>,
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// The files in `conf.d` that were read after it.
    pub(super) fragments: Vec<PathBuf>,
    /// Its warnings.
    pub(super) warnings: Vec<Warning>,
}

/// The noted status.
pub(super) struct OwnStatus {
    about: StartupFacts,
    not_hardened: Vec<String>,
    since: Instant,
    generation: u64,
    reload_error: Option<String>,
    scan: Option<(ScanClock, Instant, Duration)>,
    scanned: usize,
    killed: usize,
    scans: u64,
    terminated: u64,
    recent: VecDeque<(SystemTime, Event)>,
    dry_run: DryRunDays,
}

/// Start of a scan, by wall clock and CPU time.
#[derive(Clone, Copy)]
pub(super) struct ScanClock {
    wall: Instant,
    cpu: Duration,
}

impl ScanClock {
    pub(super) fn now() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time() }
    }
}

impl OwnStatus {
    pub(super) fn new(about: StartupFacts) -> Self {
        Self {
            about,
            not_hardened: Vec::new(),
            since: Instant::now(),
            generation: 1,
            reload_error: None,
            scan: None,
            scanned: 0,
            killed: 0,
            scans: 0,
            terminated: 0,
            recent: VecDeque::with_capacity(RECENT),
            dry_run: DryRunDays::default(),
        }
    }

    /// Notes an event. Every event passes through here.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::ScanComplete { scanned, killed } => (self.scanned, self.killed) = (*scanned, *killed),
            Event::Terminated { .. } => {
                self.terminated += 1;
                self.recent.truncate(RECENT - 1);
                self.recent.push_front((SystemTime::now(), event.clone()));
            }
            Event::Killing { subject, breach, dry_run: true, .. } => {
                self.dry_run.note(Zoned::now().date(), &subject.name, subject.uid, breach.rss);
            }
            Event::Stopped { dry_run: true, .. } => self.dry_run.note_stop(Zoned::now().date()),
            Event::Throttled { dry_run: true, .. } => self.dry_run.note_throttle(Zoned::now().date()),
            Event::Reloaded { config, fragments, .. } => {
                self.generation += 1;
                self.reload_error = None;
                self.about.file.clone_from(config);
                self.about.fragments.clone_from(fragments);
            }
            Event::ReloadFailed { error } => self.reload_error = Some(error.clone()),
            _ => {}
        }
    }

    /// Notes the warnings of a configuration that was applied.
    pub(super) fn warned(&mut self, warnings: Vec<Warning>) {
        self.about.warnings = warnings;
    }

    /// Notes the measures that failed when memmon was hardened last. Returns those that did not fail before.
    pub(super) fn hardened(&mut self, failed: Vec<String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.not_hardened, failed);
        self.not_hardened.iter().filter(|what| !before.contains(what)).cloned().collect()
    }

    /// Limitations of the kernel, of memmon's privileges, or of its hardening.
    pub(super) fn limitations(&self) -> impl Iterator<Item = &str> {
        self.about.degraded.iter().chain(&self.not_hardened).map(String::as_str)
    }

    /// Notes the end of a scan.
    pub(super) fn scanned(&mut self, began: ScanClock) {
        self.scans += 1;
        self.scan = Some((began, Instant::now(), thread_cpu_time().saturating_sub(began.cpu)));
    }

    pub(super) fn last_scan(&self) -> Option<status::Scan> {
        let (began, over, cpu) = self.scan?;
        Some(status::Scan {
            seconds_ago: over.elapsed().as_secs_f64(),
            wall_seconds: over.saturating_duration_since(began.wall).as_secs_f64(),
            cpu_seconds: cpu.as_secs_f64(),
            scanned: self.scanned,
            killed: self.killed,
        })
    }

    pub(super) fn configuration(&self, rules: &Rules) -> status::Configuration {
        let StartupFacts { file, fragments, warnings, .. } = &self.about;
        status::Configuration {
            file: file.as_deref().map(Text::path),
            fragments: fragments.iter().map(|path| Text::path(path)).collect(),
            generation: self.generation,
            warnings: warnings.iter().map(|warning| Text::harmless(&warning.to_string())).collect(),
            last_error: self.reload_error.as_deref().map(Text::harmless),
            rules: Some(on_the_wire(rules)),
        }
    }

    pub(super) const fn about(&self) -> &StartupFacts {
        &self.about
    }

    pub(super) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) const fn counts(&self, in_flight: usize) -> status::Counts {
        status::Counts { processes: self.scanned, in_flight, terminated: self.terminated, scans: self.scans }
    }

    /// The last terminations, as the JSON log has them, with their times.
    pub(super) fn recent(&self) -> Vec<Value> {
        self.recent.iter().filter_map(|(at, event)| with_time(*at, event)).collect()
    }

    /// The days of a dry run, for a query.
    pub(super) fn dry_run_days(&self, today: Date) -> Vec<status::DryRunDay> {
        self.dry_run.days(today).map(dry_run_day).collect()
    }

    /// The report of a day of a dry run that is over, if there is one: each is returned once.
    pub(super) fn dry_run_day_over(&mut self, today: Date) -> Option<Event> {
        let day = self.dry_run.over(today)?;
        let program = |((comm, uid), count): (&(Name, Uid), &Count)| DryRunProgram {
            comm: comm.clone(),
            uid: *uid,
            times: count.times,
            largest: count.largest,
        };
        Some(Event::DryRunDay {
            day: day.date.to_string(),
            counts: DryRunCounts { times: day.total(), stops: day.stops, throttles: day.throttles },
            programs: day.most_frequent().into_iter().map(program).collect(),
        })
    }
}

fn dry_run_day(day: &Day) -> status::DryRunDay {
    let program = |((comm, uid), count): (&(Name, Uid), &Count)| status::DryRunProgram {
        comm: Text::from(comm),
        uid: *uid,
        times: count.times,
        largest_bytes: count.largest,
    };
    status::DryRunDay {
        day: Text::harmless(&day.date.to_string()),
        times: day.total(),
        stops: day.stops,
        throttles: day.throttles,
        programs: day.most_frequent().into_iter().map(program).collect(),
    }
}

fn with_time(at: SystemTime, event: &Event) -> Option<Value> {
    let mut value = serde_json::to_value(event).ok()?;
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    value.as_object_mut()?.insert("at_unix_seconds".to_owned(), at.into());
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_shown_once_and_only_as_long_as_it_fails() {
        let (reason, degraded) = (String::new(), vec!["no BTF".to_owned()]);
        let about = StartupFacts { reason, degraded, file: None, fragments: vec![], warnings: vec![] };
        let mut status = OwnStatus::new(about);
        let failed = |what: &[&str]| what.iter().map(|what| (*what).to_owned()).collect::<Vec<_>>();
        assert_eq!(status.hardened(failed(&["no lock", "no realtime"])), ["no lock", "no realtime"]);
        assert_eq!(status.hardened(failed(&["no lock", "no score"])), ["no score"]);
        assert_eq!(status.limitations().collect::<Vec<_>>(), ["no BTF", "no lock", "no score"]);
        assert!(status.hardened(vec![]).is_empty());
        assert_eq!(status.limitations().collect::<Vec<_>>(), ["no BTF"]);
    }
}
