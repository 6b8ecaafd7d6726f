//! Turns typed keys into settings: ranges, units, names of users, and the defaults.

use std::{
    ops::{Range, RangeInclusive},
    path::PathBuf,
};

use toml::Spanned;

use super::{
    problems::Problems,
    raw::{self, Typed},
    schedule::Pace,
    settings::{History, Kernel, Log, LogFormat, LogLevel, Settings, Status, Termination},
    toml_document::List,
    users::Users,
    values::{Reader, uid},
    warning::{Concern, Warning},
};
use crate::{
    model::{Action, Bytes, GearChoice, Measure, Pid, SourceChoice, Uid},
    policy::{Limits, Rules, Scope, UidRanges},
};

/// v1's defaults, and those of the keys that v1 did not have. /config.toml says the same, and why.
pub(super) mod default {
    use std::time::Duration;

    pub(in crate::config) const PERCENT: f64 = 10.0;
    pub(in crate::config) const GB: f64 = 2.0;
    pub(in crate::config) const LINES_PER_MINUTE: u32 = 20;
    pub(in crate::config) const HISTORY_DAYS: u32 = 90;
    pub(in crate::config) const HISTORY_MB: u32 = 16;
    pub(in crate::config) const INTERVAL: Duration = Duration::from_secs(30);
    pub(in crate::config) const PIDS: [u32; 1] = [1];
    pub(in crate::config) const NAMES: [&str; 5] = ["systemd", "kernel", "init", "sshd", "docker"];
    /// Ended in the middle of an upgrade, each leaves a machine with half of it. v1's list had none of them; a file that
    /// lists names, as v1's own does, means what it lists, and is warned.
    pub(in crate::config) const PACKAGE_MANAGERS: [&str; 12] = [
        "apt",
        "apt-get",
        "dpkg",
        "dpkg-deb",
        "unattended-upgr",
        "dnf",
        "dnf5",
        "rpm",
        "zypper",
        "pacman",
        "snapd",
        "packagekitd",
    ];
    pub(in crate::config) const PROTECT_ROOT: bool = false;
    pub(in crate::config) const HONOUR_OOM_SCORE_ADJ: bool = true;
    pub(in crate::config) const DRY_RUN: bool = false;
    pub(in crate::config) const LOG_FILE: &str = "/var/log/memory_monitor.log";
    pub(in crate::config) const SYSTEM_LOG: bool = true;
    pub(in crate::config) const COMMAND_LINES: bool = true;
    pub(in crate::config) const GRACE: Duration = Duration::from_secs(5);
    pub(in crate::config) const REPEAT_LIMIT: u32 = 5;
    pub(in crate::config) const REPEAT_WINDOW: Duration = Duration::from_secs(600);
    pub(in crate::config) const REPEAT_BACKOFF: Duration = Duration::from_secs(60);
    pub(in crate::config) const RECLAIM: bool = true;
    pub(in crate::config) const WARN_AT_PERCENT: f64 = 80.0;
    pub(in crate::config) const INSTANT: bool = true;
    pub(in crate::config) const REALTIME: bool = false;
    pub(in crate::config) const HARD_CEILING: f64 = 2.0;
    pub(in crate::config) const RESERVE_PERCENT: f64 = 3.0;
}

/// The kernel's PID_MAX_LIMIT on 64 bits (linux/threads.h): no pid reaches it.
pub(super) const PID_MAX: u32 = 1 << 22;

/// The settings of `typed` on a machine with these `users`; `None` only if a key has no valid meaning, which is then in
/// `problems`. The problems of all other keys are reported all the same.
pub(super) fn settings(
    typed: Typed,
    users: &dyn Users,
    own_pid: Pid,
    problems: &mut Problems<'_>,
) -> Option<(Settings, Vec<Warning>)> {
    let Typed {
        thresholds,
        whitelist,
        settings,
        schedule,
        rules,
        scope,
        machine,
        kernel,
        termination,
        log,
        status,
        history,
        metrics,
        notify,
    } = typed;
    let raw::Thresholds { ram_percent_threshold, ram_gb_threshold, check_interval, warn_at_percent, measure } =
        thresholds;
    let raw::Settings { dry_run, log_file, enable_syslog } = settings;
    let raw::Kernel { source, max_processes, gear, instant, realtime } = kernel;
    let raw::Termination {
        grace,
        repeat_limit,
        repeat_window,
        repeat_backoff,
        reclaim,
        hard_ceiling,
        reserve_percent,
    } = termination;
    let raw::Log { format, level, lines_per_minute, command_lines } = log;
    let honour_oom_score_adj = whitelist.honour_oom_score_adj.as_ref().map(|typed| *typed.get_ref());

    let mut reader = Reader { users, problems, warnings: Vec::new() };
    let limits = default_limits()
        .and_then(|otherwise| reader.limits(ram_percent_threshold, ram_gb_threshold, otherwise));
    let check_interval = reader
        .seconds("check_interval", check_interval, "seconds between scans", INTERVALS)
        .unwrap_or(default::INTERVAL);
    let schedule = limits.map(|limits| reader.schedule(schedule, Pace { check_interval, limits }));
    let warn_at_percent = reader.or_off(
        "warn_at_percent",
        warn_at_percent,
        "percent of its limit, or 0 for no warning",
        &WARNINGS,
        default::WARN_AT_PERCENT,
    );
    let measure = reader.choice("measure", measure, &MEASURES, Measure::as_str);
    let names_at = whitelist.names.as_ref().map(Spanned::span);
    let whitelist = reader.whitelist(whitelist);
    let (mut own_rules, mut sums) = reader.rules(rules, notify.reaches_users());
    let scope = reader.scope(scope);
    let machine = reader.machine(machine);
    if let Some(span) = names_at {
        reader.warn_of_names_that_fell_away(&span, &whitelist, &scope);
    }
    let log = Log {
        file: reader.log_file(log_file),
        format: reader.choice("format", format, &FORMATS, LogFormat::as_str).unwrap_or_default(),
        system_log: enable_syslog.map_or(default::SYSTEM_LOG, Spanned::into_inner),
        level: reader.choice("level", level, &LEVELS, LogLevel::as_str).unwrap_or_default(),
        lines_per_minute: reader.lines_per_minute(lines_per_minute),
        command_lines: command_lines.map_or(default::COMMAND_LINES, Spanned::into_inner),
    };
    let kernel = Kernel {
        source: reader.choice("source", source, &SOURCES, SourceChoice::as_str).unwrap_or_default(),
        max_processes: reader.max_processes(max_processes),
        gear: reader.choice("gear", gear, &GEARS, GearChoice::as_str).unwrap_or_default(),
        instant: instant.map_or(default::INSTANT, Spanned::into_inner),
        realtime: realtime.map_or(default::REALTIME, Spanned::into_inner),
    };
    let termination = Termination {
        grace: reader
            .seconds("grace", grace, "seconds from SIGTERM to SIGKILL", GRACES)
            .unwrap_or(default::GRACE),
        repeat_limit: reader.repeat_limit(repeat_limit),
        repeat_window: reader
            .seconds("repeat_window", repeat_window, "seconds", WINDOWS)
            .unwrap_or(default::REPEAT_WINDOW),
        repeat_backoff: reader
            .seconds("repeat_backoff", repeat_backoff, "seconds from one termination to the next", WINDOWS)
            .unwrap_or(default::REPEAT_BACKOFF),
        reclaim: reclaim.map_or(default::RECLAIM, Spanned::into_inner),
        hard_ceiling: reader.or_off(
            "hard_ceiling",
            hard_ceiling,
            "times its limit, or 0 for none",
            &CEILINGS,
            default::HARD_CEILING,
        ),
        reserve_percent: reader.or_off(
            "reserve_percent",
            reserve_percent,
            "percent of all memory, or 0 for none",
            &RESERVES,
            default::RESERVE_PERCENT,
        ),
    };

    // Whether a process is stopped or terminated depends on it, and policy does not know [termination].
    let throttled = sums.iter_mut().map(|sum| &mut sum.rule).filter(|rule| rule.action == Action::Throttle);
    for rule in own_rules.iter_mut().filter(|rule| rule.action == Action::Stop).chain(throttled) {
        rule.hard_ceiling = rule.hard_ceiling.or(termination.hard_ceiling).or(Some(0.0));
    }
    let status = reader.status(status);
    let history = reader.history(history);
    let metrics = reader.metrics(metrics);
    let notify = reader.notify(notify);
    let Reader { mut warnings, .. } = reader;
    warnings.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let rules = Rules {
        limits: limits?,
        measure: measure.unwrap_or_default(),
        whitelist,
        scope,
        honour_oom_score_adj: honour_oom_score_adj.unwrap_or(default::HONOUR_OOM_SCORE_ADJ),
        own_pid,
        rules: own_rules,
        sums,
        // The daemon adds those of `memmon exempt`.
        exemptions: vec![],
    };
    let dry_run = dry_run.map_or(default::DRY_RUN, Spanned::into_inner);
    Some((
        Settings {
            rules,
            check_interval,
            warn_at_percent,
            schedule: schedule?,
            dry_run,
            awaits_enable: false,
            log,
            machine,
            kernel,
            termination,
            status,
            history,
            metrics,
            notify,
        },
        warnings,
    ))
}

/// Below 0.01 % or a megabyte nearly every process is over the limit, so a smaller value is a mistake.
pub(super) const PERCENTS: RangeInclusive<f64> = 0.01..=100.0;
pub(super) const GBS: RangeInclusive<f64> = 0.001..=1e9;
pub(super) const INTERVALS: RangeInclusive<f64> = 0.1..=86_400.0;
const WINDOWS: RangeInclusive<f64> = 1.0..=86_400.0;
const MOST_REPEATS: u32 = 1000;
pub(super) const GRACES: RangeInclusive<f64> = 0.1..=3600.0;
const WARNINGS: RangeInclusive<f64> = 1.0..=100.0;
/// Below 1 a victim would be beyond its ceiling before it is beyond its limit.
pub(super) const CEILINGS: RangeInclusive<f64> = 1.0..=1000.0;
const RESERVES: RangeInclusive<f64> = 0.1..=50.0;

const FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];
const LEVELS: [LogLevel; 4] = [LogLevel::Debug, LogLevel::Info, LogLevel::Warning, LogLevel::Error];
const MEASURES: [Measure; 2] = [Measure::Charged, Measure::Rss];
const GEARS: [GearChoice; 3] = [GearChoice::Auto, GearChoice::Always, GearChoice::Two];
const SOURCES: [SourceChoice; 3] = [SourceChoice::Auto, SourceChoice::Ebpf, SourceChoice::Proc];

fn default_limits() -> Option<Limits> {
    Limits::new(default::PERCENT, Bytes::from_gb(default::GB)).ok()
}

/// The keys, section by section.
impl Reader<'_, '_> {
    /// The limits that are raw, and of one that is not the one of `otherwise`.
    pub(super) fn limits(
        &mut self,
        percent: Option<Spanned<f64>>,
        gb: Option<Spanned<f64>>,
        otherwise: Limits,
    ) -> Option<Limits> {
        let span = percent.as_ref().map_or(0..0, Spanned::span);
        let percent = percent.map_or(Some(otherwise.percent()), |typed| {
            self.number("ram_percent_threshold", &typed, "percent of all memory", &PERCENTS)
        });
        let bytes = gb.map_or(Some(otherwise.bytes()), |typed| {
            self.number("ram_gb_threshold", &typed, "gigabytes of 2^30 bytes", &GBS).map(Bytes::from_gb)
        });
        let (percent, bytes) = (percent?, bytes?);
        if percent < 1.0 && !span.is_empty() {
            let value = self.problems.quote(span.clone());
            self.warn(&span, Concern::Fraction { value });
        }
        Limits::new(percent, bytes)
            .map_err(|error| self.problems.add(span, error.to_string(), "set both limits above 0"))
            .ok()
    }

    /// A number for which 0 means that it is not wanted.
    fn or_off(
        &mut self,
        key: &str,
        typed: Option<Spanned<f64>>,
        what: &str,
        range: &RangeInclusive<f64>,
        default: f64,
    ) -> Option<f64> {
        match typed {
            None => Some(default),
            Some(typed) if *typed.get_ref() == 0.0 => None,
            Some(typed) => self.number(key, &typed, what, range),
        }
    }

    /// `[scope]` narrows and never widens: left out, everything is in scope; but empty, or with an empty list, it is
    /// refused, because the administrator may want everything or nothing. A user that this machine
    /// does not know matches no process, and neither does a scope with such users only.
    fn scope(&mut self, (raw, empty): (raw::Scope, Option<Range<usize>>)) -> Scope {
        let raw::Scope { users, uids, cgroups } = raw;
        if let Some(heading) = empty {
            let help = "name users, uids or cgroups; without this section every process is in scope";
            self.problems.add(heading, "[scope] is empty", help);
        }
        for (key, list) in [("users", &users), ("uids", &uids), ("cgroups", &cgroups)] {
            if let Some(list) = list.as_ref().filter(|list| list.get_ref().is_empty()) {
                let help = "name at least one; without this key it does not narrow the scope";
                self.problems.add(list.span(), format!("`{key}` is an empty list"), help);
            }
        }
        let ranges = users.is_some() || uids.is_some();
        let mut in_scope = Vec::new();
        if let Some(list) = &uids {
            in_scope.extend(self.uid_ranges("scope.uids", list));
        }
        if let Some(list) = &users {
            in_scope.extend(self.users("scope.users", list).into_iter().map(|(uid, _)| uid..=uid));
            if in_scope.is_empty() {
                self.warn(&list.span(), Concern::NobodyInScope);
            }
        }
        let cgroups = cgroups.map(|list| self.cgroups("scope.cgroups", &list));
        Scope { uids: ranges.then(|| UidRanges::from_iter(in_scope)), cgroups }
    }

    pub(super) fn uid_ranges(&mut self, key: &'static str, list: &List<String>) -> Vec<RangeInclusive<Uid>> {
        let mut ranges = Vec::new();
        for (entry, span) in self.entries(key, list) {
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            match (uid(first.trim()), uid(last.trim())) {
                (Some(first), Some(last)) if first <= last => ranges.push(first..=last),
                (Some(first), Some(last)) => {
                    self.refuse("uids", &span, format!("the lower end goes first: \"{last}-{first}\""));
                }
                _ => {
                    self.refuse(
                        "uids",
                        &span,
                        "expected a uid or a range of them, \"1000-59999\"".to_owned(),
                    );
                }
            }
        }
        ranges
    }

    fn max_processes(&mut self, typed: Option<Spanned<i64>>) -> Option<u32> {
        let typed = typed?;
        let count = u32::try_from(*typed.get_ref()).ok().filter(|count| (1..=PID_MAX).contains(count));
        if count.is_none() {
            self.refuse(
                "max_processes",
                &typed.span(),
                format!("expected a number of processes, from 1 to {PID_MAX}"),
            );
        }
        count
    }

    /// If this machine does not know the group, only root may query the status.
    fn status(&mut self, typed: raw::Status) -> Status {
        let raw::Status { group, exempt, mine } = typed;
        let mine = mine.is_none_or(Spanned::into_inner);
        let exempt_at = exempt.as_ref().map(Spanned::span);
        let exempt = exempt.is_some_and(Spanned::into_inner);
        let Some(group) = group.filter(|group| !group.get_ref().is_empty()) else {
            if let Some(span) = exempt_at.filter(|_| exempt) {
                self.warn(&span, Concern::NoEffect { key: "status.exempt", without: "status.group" });
            }
            return Status { mine, ..Status::default() };
        };
        let span = group.span();
        let group = group.into_inner();
        let gid = uid(&group).map(|Uid(gid)| gid).or_else(|| self.users.gid(&group));
        if gid.is_none() {
            self.warn(&span, Concern::UnknownGroup { name: group.clone() });
        }
        Status { group: Some(group), gid, exempt, mine }
    }

    fn history(&mut self, typed: raw::History) -> History {
        let raw::History { days, max_mb } = typed;
        let days = self.whole("days", days, 0..=3650, "a number of days, or 0 to keep nothing");
        let megabytes = self.whole("max_mb", max_mb, 2..=1024, "a number of megabytes");
        let megabytes = u64::from(megabytes.unwrap_or(default::HISTORY_MB));
        History { days: days.unwrap_or(default::HISTORY_DAYS), bytes: Bytes(megabytes * Bytes::MIB) }
    }

    fn whole(
        &mut self,
        key: &str,
        typed: Option<Spanned<i64>>,
        range: RangeInclusive<u32>,
        what: &str,
    ) -> Option<u32> {
        let typed = typed?;
        let number = u32::try_from(*typed.get_ref()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let help = format!("expected {what}, from {} to {}", range.start(), range.end());
            self.refuse(key, &typed.span(), help);
        }
        number
    }

    fn lines_per_minute(&mut self, typed: Option<Spanned<i64>>) -> Option<u32> {
        const MOST: u32 = 100_000;
        let Some(typed) = typed else { return Some(default::LINES_PER_MINUTE) };
        let count = u32::try_from(*typed.get_ref()).ok().filter(|count| *count <= MOST);
        if count.is_none() {
            let help = format!("expected a number of lines up to {MOST}, or 0 for no bound");
            self.refuse("lines_per_minute", &typed.span(), help);
        }
        count.filter(|count| *count > 0)
    }

    fn repeat_limit(&mut self, typed: Option<Spanned<i64>>) -> u32 {
        let Some(typed) = typed else { return default::REPEAT_LIMIT };
        let count = u32::try_from(*typed.get_ref()).ok().filter(|count| *count <= MOST_REPEATS);
        count.unwrap_or_else(|| {
            let help =
                format!("expected a number of terminations up to {MOST_REPEATS}, or 0 for no end of them");
            self.refuse("repeat_limit", &typed.span(), help);
            default::REPEAT_LIMIT
        })
    }

    fn log_file(&mut self, typed: Option<Spanned<String>>) -> Option<PathBuf> {
        let Some(typed) = typed else { return Some(default::LOG_FILE.into()) };
        let path = typed.get_ref();
        let help = if path.is_empty() {
            return None;
        } else if !path.starts_with('/') {
            "expected a path from the root, \"/var/log/…\", or \"\" for no file"
        } else if path.ends_with('/') {
            "expected a file, not a directory"
        } else if path.contains('\0') {
            "no path can hold a NUL"
        } else {
            return Some(path.into());
        };
        self.refuse("log_file", &typed.span(), help.to_owned());
        None
    }
}
