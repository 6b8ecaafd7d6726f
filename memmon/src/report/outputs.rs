//! The settings of a reporter.

use std::{io::Write, path::PathBuf, time::Duration};

use jiff::{Timestamp, tz::TimeZone};

use super::{containers::ContainerFiles, event::Level, metrics::MetricsOutputs, users};
use crate::model::{LogFormat, Notify, Uid};

/// The outputs: their level, their format and their destinations.
#[derive(Default)]
pub struct Outputs {
    /// The console of the start of memmon.
    pub console: Console,
    /// The log file.
    pub file: Option<PathBuf>,
    /// For console and file; the system's log has its own.
    pub format: LogFormat,
    /// The journal where it runs, else syslog.
    pub system_log: bool,
    /// Less urgent events are not logged.
    pub level: Level,
    /// Lines a minute for each user and kind of event; `None`: no bound.
    pub lines_per_minute: Option<u32>,
    /// Figures for Prometheus.
    pub metrics: MetricsOutputs,
    /// Recipients of notifications.
    pub notify: Notify,
    /// The parts of the machine that are used.
    pub machine: Machine,
}

/// Whether there is a console, and where.
#[derive(Default)]
pub enum Console {
    /// No output.
    Off,
    /// Standard error, unless that is the journal and the journal gets the events anyway.
    #[default]
    Stderr,
    /// Something else.
    Writer(Box<dyn Write + Send>),
}

/// The parts of the machine that report uses; tests have their own.
#[derive(Clone)]
pub struct Machine {
    /// The time that events are stamped with.
    pub clock: fn() -> Timestamp,
    /// The local time zone, asked for with every event: it may be changed while memmon runs.
    pub zone: fn() -> TimeZone,
    /// The name of a user; may be slow or hang. Fixed when the reporter starts.
    pub user_name: fn(Uid) -> Option<String>,
    /// journald's socket of the native protocol.
    pub journal: PathBuf,
    /// syslogd's socket.
    pub syslog: PathBuf,
    /// The files with the names of containers. Fixed when the reporter starts.
    pub containers: ContainerFiles,
    /// Events that may wait for the writer, and at most so many lines for a sink. Fixed when the reporter starts.
    pub queue: usize,
    /// Time that the writer waits for a sink that has no other line to write.
    pub patience: Duration,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            clock: Timestamp::now,
            zone: TimeZone::system,
            user_name: users::from_system,
            journal: "/run/systemd/journal/socket".into(),
            syslog: "/dev/log".into(),
            containers: ContainerFiles::default(),
            queue: 1024,
            patience: Duration::from_millis(100),
        }
    }
}
