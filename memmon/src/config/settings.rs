//! The settings, checked: every module can rely on them.

use std::{path::PathBuf, time::Duration};

use jiff::Zoned;
use serde::Serialize;

use super::{
    keys::{Kernel, Metrics, Termination},
    kinds::LogLevel,
    schedule::{Pace, Schedule},
};
use crate::{
    model::{Action, Breach, Bytes, LogFormat, Notify, Process, SystemMemory, seconds::as_seconds},
    policy::{Rules, machine::MachineLimits},
};

/// Everything an administrator decides, checked and with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The rules that decide which processes are terminated, and which are protected.
    pub rules: Rules,
    /// Time between two scans.
    #[serde(serialize_with = "as_seconds")]
    pub check_interval: Duration,
    /// `thresholds.warn_at_percent`: share of its limit at which a growing process is warned of.
    pub warn_at_percent: Option<f64>,
    /// The times at which other limits and another interval hold; the limits above are the last result of
    /// [`Settings::follow`].
    pub schedule: Schedule,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// The only reason for the dry run is that the administrator has not run `memmon enable` yet.
    #[serde(skip)]
    pub awaits_enable: bool,
    /// Destinations of events.
    pub log: Log,
    /// `[machine]`: the levels at which the machine is short of memory; `None`: memmon does not check.
    pub machine: Option<MachineLimits>,
    /// Settings of the kernel side.
    pub kernel: Kernel,
    /// Settings of terminations.
    pub termination: Termination,
    /// Users who may query the status.
    pub status: Status,
    /// Settings of the history.
    pub history: History,
    /// Destinations of metrics.
    pub metrics: Metrics,
    /// Recipients of notifications.
    pub notify: Notify,
}

impl Settings {
    /// Whether a rule slows cgroups down.
    pub fn throttles(&self) -> bool {
        self.rules.sums.iter().any(|sum| sum.rule.action == Action::Throttle)
    }

    /// Puts the interval and the limits into force that hold at `now`. Whether that changed anything.
    pub fn follow(&mut self, now: &Zoned) -> bool {
        let changed = self.is_behind(now);
        let Pace { check_interval, limits } = self.schedule.at(now);
        self.check_interval = check_interval;
        self.rules.limits = limits;
        changed
    }

    /// The memory above which `process`, with this limit, has no grace period; `None` if no size ends it.
    pub fn ceiling(&self, process: &Process, limit: Bytes) -> Option<Bytes> {
        match self.rules.decisive(process).and_then(|rule| rule.hard_ceiling) {
            Some(0.0) => None,
            Some(times) => Some(limit.times(times)),
            None => self.termination.ceiling(limit),
        }
    }

    /// Time that `process`, which is in `breach` of a limit, must be over it before it gets a signal: the `for` of the rule. There
    /// is no wait above the hard ceiling, or while the machine, which has this `memory`, is short of it.
    pub fn must_last(&self, process: &Process, breach: &Breach, memory: &SystemMemory) -> Duration {
        let lasting = breach.by.and_then(|name| self.rules.named(name)).map(|rule| rule.lasting);
        let ceiling = self.ceiling(process, self.rules.limit_of(process, memory));
        let is_urgent = self.termination.is_short(memory)
            || ceiling.is_some_and(|ceiling| process.rss.saturating_sub(process.error) > ceiling);
        lasting.filter(|_| !is_urgent).unwrap_or_default()
    }

    /// Whether [`Settings::follow`] would change anything at `now`.
    pub fn is_behind(&self, now: &Zoned) -> bool {
        let Pace { check_interval, limits } = self.schedule.at(now);
        check_interval != self.check_interval || limits != self.rules.limits
    }
}

/// `[log]`, and from `[settings]` what v1 had there of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Log {
    /// `settings.log_file`: absolute; `None` if it was set to the empty string.
    pub file: Option<PathBuf>,
    /// Format of the file and the console.
    pub format: LogFormat,
    /// `settings.enable_syslog`: the journal, or syslog if there is no journal.
    pub system_log: bool,
    /// Minimum severity to log.
    pub level: LogLevel,
    /// Lines a minute for each user and kind of event; `None`: no bound.
    pub lines_per_minute: Option<u32>,
    /// Whether events have the command line of the process that they are about.
    pub command_lines: bool,
}

impl Termination {
    /// The size from which on a victim with this `limit` has no grace period; `None`: no size ends it.
    pub fn ceiling(&self, limit: Bytes) -> Option<Bytes> {
        Some(limit.times(self.hard_ceiling?))
    }

    /// Whether the machine is so short of memory that nothing waits: `reserve_percent`.
    pub fn is_short(&self, memory: &SystemMemory) -> bool {
        self.reserve_percent.is_some_and(|reserve| memory.available.percent_of(memory.total) < reserve)
    }
}

/// `[history]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct History {
    /// For how many days; 0: nothing is kept.
    pub days: u32,
    /// The largest file.
    pub bytes: Bytes,
}

/// `[status]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The group that may ask, besides root, as it was typed.
    pub group: Option<String>,
    /// Its gid; `None` if this machine does not know it.
    pub gid: Option<u32>,
    /// Whether it may also use `memmon exempt`.
    pub exempt: bool,
    /// Whether every user may ask about that user's own processes.
    pub mine: bool,
}

impl Default for Status {
    fn default() -> Self {
        Self { group: None, gid: None, exempt: false, mine: true }
    }
}
