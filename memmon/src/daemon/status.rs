//! The daemon's own status: noted as it changes, at nearly no cost, and assembled for a query.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use jiff::Zoned;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::{sync::mpsc, task};

use crate::daemon::dry_run_days::{Count, Day, DryRunDays};
use crate::daemon::event_loop::Daemon;
use crate::daemon::in_force::on_the_wire;
use crate::daemon::nearest::{Basis, nearest};
use crate::daemon::status_socket::StatusSocket;
use crate::daemon::watchlist::climbing;
use crate::{
    config::{Settings, Warning},
    enforce::Phase,
    model::{Name, Pid, Uid},
    policy::Rules,
    report::{DryRunProgram, Event},
    status::{self, Body, Query, Request, Text, answer},
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
    /// Its warnings.
    pub(super) warnings: Vec<Warning>,
}

/// The noted status, and the socket for queries.
pub(super) struct StatusBoard {
    about: StartupFacts,
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
    pub(super) socket: StatusSocket,
}

/// Start of a scan, by wall clock and CPU time.
#[derive(Clone, Copy)]
pub(super) struct ScanClock {
    wall: Instant,
    cpu: Duration,
}

impl ScanClock {
    pub(super) fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }
}

impl StatusBoard {
    /// A board, and the queue of queries.
    pub(super) fn new(about: StartupFacts) -> (Self, mpsc::Receiver<Request>) {
        let (asked, asks) = mpsc::channel(1);
        let board = Self {
            about,
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
            socket: StatusSocket::new(asked),
        };
        (board, asks)
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
            Event::Killing { subject, breach, dry_run: true } => {
                self.dry_run.note(Zoned::now().date(), &subject.name, subject.uid, breach.rss);
            }
            Event::Reloaded { config, .. } => {
                self.generation += 1;
                self.reload_error = None;
                self.about.file.clone_from(config);
            }
            Event::ReloadFailed { error } => self.reload_error = Some(error.clone()),
            _ => {}
        }
    }

    /// Notes the warnings of a configuration that was applied.
    pub(super) fn warned(&mut self, warnings: Vec<Warning>) {
        self.about.warnings = warnings;
    }

    /// Adds limitations that were found after the start.
    pub(super) fn degraded(&mut self, what: Vec<String>) {
        self.about.degraded.extend(what);
    }

    /// Notes the end of a scan.
    pub(super) fn scanned(&mut self, began: ScanClock) {
        self.scans += 1;
        self.scan = Some((began, Instant::now(), cpu_time().saturating_sub(began.cpu)));
    }

    fn last_scan(&self) -> Option<status::Scan> {
        let (began, over, cpu) = self.scan?;
        Some(status::Scan {
            seconds_ago: over.elapsed().as_secs_f64(),
            wall_seconds: over.saturating_duration_since(began.wall).as_secs_f64(),
            cpu_seconds: cpu.as_secs_f64(),
            scanned: self.scanned,
            killed: self.killed,
        })
    }

    fn configuration(&self, rules: &Rules) -> status::Configuration {
        let StartupFacts { file, warnings, .. } = &self.about;
        status::Configuration {
            file: file.as_deref().map(Text::path),
            generation: self.generation,
            warnings: warnings.iter().map(|warning| Text::harmless(&warning.to_string())).collect(),
            last_error: self.reload_error.as_deref().map(Text::harmless),
            rules: Some(on_the_wire(rules)),
        }
    }
}

impl Daemon<'_> {
    /// Answers a query. Another thread does the part that takes long.
    pub(super) fn answer(&mut self, ask: Request) {
        let growths = self.growths();
        let mut basis =
            Basis { rules: self.settings.rules.clone(), accuracy: self.sources.accuracy(), survey: None };
        match ask.get {
            Query::Status => {
                let mut status = Box::new(self.status());
                task::spawn_blocking(move || {
                    status.climbing = climbing(&basis, growths).unwrap_or_default();
                    // The client may have left.
                    let _ = ask.answer.send(answer(&Body::Status(status)));
                });
            }
            Query::Processes => {
                basis.survey = self.sources.kernel_survey();
                let phases: Vec<_> =
                    self.victims.iter().map(|(process, phase)| (process.id, word(phase))).collect();
                task::spawn_blocking(move || {
                    let Ok(mut table) = nearest(basis) else { return };
                    for row in &mut table.rows {
                        row.growth = growths.get(&row.id).copied().unwrap_or_default();
                        row.phase =
                            phases.iter().find(|(id, _)| *id == row.id).map(|(_, phase)| (*phase).into());
                    }
                    let _ = ask.answer.send(answer(&Body::Processes(table)));
                });
            }
        }
    }

    /// Reports the days of a dry run that are over, each once.
    pub(super) fn report_dry_run_day(&mut self) {
        if !self.settings.dry_run {
            return;
        }
        let over = self.board.borrow_mut().dry_run.over(Zoned::now().date()).cloned();
        if let Some(day) = over {
            let program = |((comm, uid), count): (&(Name, Uid), &Count)| DryRunProgram {
                comm: comm.clone(),
                uid: *uid,
                times: count.times,
                largest: count.largest,
            };
            self.tell(Event::DryRunDay {
                day: day.date.to_string(),
                times: day.total(),
                programs: day.most_frequent().into_iter().map(program).collect(),
            });
        }
    }

    /// The status without growing processes, which need close looks.
    fn status(&self) -> status::Status {
        let Settings { rules, check_interval, dry_run, awaits_enable, .. } = &self.settings;
        let board = self.board.borrow();
        let (rule, limit_bytes) = rules.limit(&self.memory);
        let (map, mut lost) = self.sources.map_state();
        lost.log_events = self.events_lost();
        let degraded = board.about.degraded.iter().map(String::as_str);
        let victims: Vec<_> = self.victims.iter().map(|(process, phase)| victim(process, phase)).collect();
        status::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: Pid(std::process::id()),
            uptime_seconds: board.since.elapsed().as_secs_f64(),
            dry_run: *dry_run,
            awaits_enable: *awaits_enable,
            source: status::Source {
                name: self.sources.source(),
                reason: Text::harmless(&board.about.reason),
            },
            degraded: degraded.chain(self.conditions()).map(Text::harmless).collect(),
            config: board.configuration(rules),
            limit: status::Thresholds {
                rule,
                limit_bytes,
                ram_percent_threshold: rules.limits.percent(),
                ram_gb_threshold_bytes: rules.limits.bytes(),
            },
            check_interval_seconds: check_interval.as_secs_f64(),
            memory: Some(self.memory),
            counts: status::Counts {
                processes: board.scanned,
                in_flight: victims.len(),
                terminated: board.terminated,
                scans: board.scans,
            },
            last_scan: board.last_scan(),
            in_flight: victims,
            climbing: Vec::new(),
            held_back: self.held_back(),
            over_limit: self.over_the_limit(),
            dry_run_days: board.dry_run.days(Zoned::now().date()).map(dry_run_day).collect(),
            recent: board.recent.iter().filter_map(|(at, event)| recent(*at, event)).collect(),
            map,
            lost,
        }
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
        programs: day.most_frequent().into_iter().map(program).collect(),
    }
}

/// As the JSON log has it, with its time.
fn recent(at: SystemTime, event: &Event) -> Option<Value> {
    let mut value = serde_json::to_value(event).ok()?;
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    value.as_object_mut()?.insert("at_unix_seconds".to_owned(), at.into());
    Some(value)
}

fn victim(process: &crate::model::Process, phase: Phase) -> status::Victim {
    let now = Instant::now();
    let (since, until) = match phase {
        Phase::Grace { since, until } => (Some(since), Some(until)),
        Phase::Killed { since } => (Some(since), None),
        Phase::Confirming | Phase::OutOfReach => (None, None),
    };
    status::Victim {
        id: process.id,
        comm: Text::from(&process.names.comm),
        uid: process.real_uid,
        phase: word(phase).into(),
        since_seconds: since.map(|since| now.saturating_duration_since(since).as_secs_f64()),
        left_seconds: until.map(|until| until.saturating_duration_since(now).as_secs_f64()),
    }
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Confirming => "confirming",
        Phase::Grace { .. } => "grace",
        Phase::Killed { .. } => "killed",
        Phase::OutOfReach => "out_of_reach",
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
