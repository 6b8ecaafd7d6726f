//! The keys as they were typed: each key of the file, with its place, or none.

use std::ops::Range;

use toml::Spanned;

use super::{
    problems::Problems,
    toml_document::{BOOLEAN, Document, INTEGER, List, NUMBER, SPAN, STRING, Section, TIME},
};

/// A configuration file. v1's sections come first.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) thresholds: Thresholds,
    pub(super) whitelist: Whitelist,
    pub(super) settings: Settings,
    /// Each with the place of its heading.
    pub(super) schedule: Vec<(Window, Range<usize>)>,
    /// Each with the place of its heading.
    pub(super) rules: Vec<(Rule, Range<usize>)>,
    /// With the place of its heading if it is empty, because an empty section differs from a missing one.
    pub(super) scope: (Scope, Option<Range<usize>>),
    /// With the place of its heading if it is empty, because an empty section differs from a missing one.
    pub(super) machine: (Machine, Option<Range<usize>>),
    pub(super) kernel: Kernel,
    pub(super) termination: Termination,
    pub(super) log: Log,
    pub(super) status: Status,
    pub(super) history: History,
    pub(super) metrics: Metrics,
    pub(super) notify: Notify,
}

#[derive(Debug)]
pub(super) struct Thresholds {
    pub(super) ram_percent_threshold: Option<Spanned<f64>>,
    pub(super) ram_gb_threshold: Option<Spanned<f64>>,
    pub(super) check_interval: Option<Spanned<f64>>,
    pub(super) warn_at_percent: Option<Spanned<f64>>,
    pub(super) measure: Option<Spanned<String>>,
}

#[derive(Debug)]
pub(super) struct Whitelist {
    pub(super) pids: Option<List<i64>>,
    pub(super) names: Option<List<String>>,
    pub(super) users: Option<List<String>>,
    /// The other keys, without `users` and `names`.
    pub(super) also: Matcher,
    pub(super) protect_root: Option<Spanned<bool>>,
    pub(super) honour_oom_score_adj: Option<Spanned<bool>>,
}

/// Conditions on a process.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    pub(super) names: Option<List<String>>,
    /// Taken by `names_files`, which adds its names to `names`.
    pub(super) names_file: Option<Spanned<String>>,
    pub(super) exe: Option<List<String>>,
    pub(super) args: Option<List<String>>,
    pub(super) users: Option<List<String>>,
    pub(super) uids: Option<List<String>>,
    pub(super) groups: Option<List<String>>,
    pub(super) cgroups: Option<List<String>>,
    pub(super) units: Option<List<String>>,
}

/// `[[rule]]`.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Option<Spanned<String>>,
    pub(super) matcher: Matcher,
    pub(super) not: Option<Matcher>,
    pub(super) per: Option<Spanned<String>>,
    pub(super) strike: Option<Spanned<String>>,
    pub(super) gb: Option<Spanned<f64>>,
    pub(super) percent: Option<Spanned<f64>>,
    pub(super) none: Option<Spanned<bool>>,
    pub(super) lasting: Option<Spanned<f64>>,
    pub(super) action: Option<Spanned<String>>,
    pub(super) signal: Option<Spanned<String>>,
    pub(super) grace: Option<Spanned<f64>>,
    pub(super) hard_ceiling: Option<Spanned<f64>>,
    pub(super) prefer: Option<Spanned<bool>>,
    pub(super) notify_user: Option<Spanned<String>>,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) dry_run: Option<Spanned<bool>>,
    pub(super) log_file: Option<Spanned<String>>,
    pub(super) enable_syslog: Option<Spanned<bool>>,
}

#[derive(Debug)]
pub(super) struct Window {
    pub(super) days: Option<List<String>>,
    pub(super) from: Option<Spanned<String>>,
    pub(super) to: Option<Spanned<String>>,
    pub(super) check_interval: Option<Spanned<f64>>,
    pub(super) ram_percent_threshold: Option<Spanned<f64>>,
    pub(super) ram_gb_threshold: Option<Spanned<f64>>,
}

#[derive(Debug)]
pub(super) struct Scope {
    pub(super) users: Option<List<String>>,
    pub(super) uids: Option<List<String>>,
    pub(super) cgroups: Option<List<String>>,
}

/// `[machine]`.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) levels: Levels,
    pub(super) warn: Option<Levels>,
    pub(super) stop_writers: Option<Spanned<bool>>,
}

#[derive(Debug, Default)]
pub(super) struct Levels {
    pub(super) available_percent: Option<Spanned<f64>>,
    pub(super) available_gb: Option<Spanned<f64>>,
    pub(super) swap_free_percent: Option<Spanned<f64>>,
    pub(super) pressure_some: Option<Spanned<f64>>,
    pub(super) pressure_full: Option<Spanned<f64>>,
}

impl Levels {
    /// Whether no key is there.
    pub(super) const fn is_empty(&self) -> bool {
        let Self { available_percent, available_gb, swap_free_percent, pressure_some, pressure_full } = self;
        available_percent.is_none()
            && available_gb.is_none()
            && swap_free_percent.is_none()
            && pressure_some.is_none()
            && pressure_full.is_none()
    }
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) source: Option<Spanned<String>>,
    pub(super) max_processes: Option<Spanned<i64>>,
    pub(super) gear: Option<Spanned<String>>,
    pub(super) instant: Option<Spanned<bool>>,
    pub(super) realtime: Option<Spanned<bool>>,
}

#[derive(Debug)]
pub(super) struct Termination {
    pub(super) grace: Option<Spanned<f64>>,
    pub(super) repeat_limit: Option<Spanned<i64>>,
    pub(super) repeat_window: Option<Spanned<f64>>,
    pub(super) repeat_backoff: Option<Spanned<f64>>,
    pub(super) reclaim: Option<Spanned<bool>>,
    pub(super) hard_ceiling: Option<Spanned<f64>>,
    pub(super) reserve_percent: Option<Spanned<f64>>,
}

#[derive(Debug)]
pub(super) struct Log {
    pub(super) format: Option<Spanned<String>>,
    pub(super) level: Option<Spanned<String>>,
    pub(super) lines_per_minute: Option<Spanned<i64>>,
    pub(super) command_lines: Option<Spanned<bool>>,
}

#[derive(Debug)]
pub(super) struct Status {
    pub(super) group: Option<Spanned<String>>,
    pub(super) exempt: Option<Spanned<bool>>,
    pub(super) mine: Option<Spanned<bool>>,
}

#[derive(Debug)]
pub(super) struct History {
    pub(super) days: Option<Spanned<i64>>,
    pub(super) max_mb: Option<Spanned<i64>>,
}

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) textfile: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug)]
pub(super) struct Notify {
    pub(super) interval: Option<Spanned<f64>>,
    pub(super) mail_to: Option<List<String>>,
    pub(super) mail_from: Option<Spanned<String>>,
    pub(super) smtp_host: Option<Spanned<String>>,
    pub(super) smtp_port: Option<Spanned<i64>>,
    pub(super) smtp_starttls: Option<Spanned<bool>>,
    pub(super) smtp_auth_file: Option<Spanned<String>>,
    pub(super) hook: Option<Spanned<String>>,
    pub(super) hook_user: Option<Spanned<String>>,
    pub(super) hook_timeout: Option<Spanned<f64>>,
    pub(super) terminal: Option<Spanned<bool>>,
}

/// Reads `document`, and notes every key that is unknown, misplaced or of the wrong type.
pub(super) fn read(mut document: Document<'_>, problems: &mut Problems<'_>) -> Typed {
    let (thresholds, _) = document.section("thresholds", problems, |section| Thresholds {
        ram_percent_threshold: section.take("ram_percent_threshold", &NUMBER),
        ram_gb_threshold: section.take("ram_gb_threshold", &NUMBER),
        check_interval: section.take("check_interval", &NUMBER),
        warn_at_percent: section.take("warn_at_percent", &NUMBER),
        measure: section.take("measure", &STRING),
    });
    let (whitelist, _) = document.section("whitelist", problems, |section| Whitelist {
        pids: section.take_list("pids", &INTEGER),
        names: section.take_list("names", &STRING),
        users: section.take_list("users", &STRING),
        also: Matcher {
            names: None,
            names_file: section.take_listing("names_file", &STRING),
            users: None,
            exe: section.take_list("exe", &STRING),
            args: section.take_list("args", &STRING),
            uids: section.take_list("uids", &STRING),
            groups: section.take_list("groups", &STRING),
            cgroups: section.take_list("cgroups", &STRING),
            units: section.take_list("units", &STRING),
        },
        protect_root: section.take("protect_root", &BOOLEAN),
        honour_oom_score_adj: section.take("honour_oom_score_adj", &BOOLEAN),
    });
    let (settings, _) = document.section("settings", problems, |section| Settings {
        dry_run: section.take("dry_run", &BOOLEAN),
        log_file: section.take("log_file", &STRING),
        enable_syslog: section.take("enable_syslog", &BOOLEAN),
    });
    let schedule = document.sections("schedule", problems, |section| Window {
        days: section.take_list("days", &STRING),
        from: section.take("from", &TIME),
        to: section.take("to", &TIME),
        check_interval: section.take("check_interval", &NUMBER),
        ram_percent_threshold: section.take("ram_percent_threshold", &NUMBER),
        ram_gb_threshold: section.take("ram_gb_threshold", &NUMBER),
    });
    let rules = document.sections("rule", problems, |section| Rule {
        name: section.take("name", &STRING),
        matcher: matcher(section),
        not: section.take_table("not", "names = [\"…\"]", matcher),
        per: section.take("per", &STRING),
        strike: section.take("strike", &STRING),
        gb: section.take("gb", &NUMBER),
        percent: section.take("percent", &NUMBER),
        none: section.take("none", &BOOLEAN),
        lasting: section.take("for", &SPAN),
        action: section.take("action", &STRING),
        signal: section.take("signal", &STRING),
        grace: section.take("grace", &NUMBER),
        hard_ceiling: section.take("hard_ceiling", &NUMBER),
        prefer: section.take("prefer", &BOOLEAN),
        notify_user: section.take("notify_user", &STRING),
    });
    let scope = document.section("scope", problems, |section| Scope {
        users: section.take_list("users", &STRING),
        uids: section.take_list("uids", &STRING),
        cgroups: section.take_list("cgroups", &STRING),
    });
    let machine = document.section("machine", problems, |section| Machine {
        levels: levels(section),
        warn: section.take_table("warn", "available_percent = 10", levels),
        stop_writers: section.take("stop_writers", &BOOLEAN),
    });
    let (kernel, _) = document.section("kernel", problems, |section| Kernel {
        source: section.take("source", &STRING),
        max_processes: section.take("max_processes", &INTEGER),
        gear: section.take("gear", &STRING),
        instant: section.take("instant", &BOOLEAN),
        realtime: section.take("realtime", &BOOLEAN),
    });
    let (termination, _) = document.section("termination", problems, |section| Termination {
        grace: section.take("grace", &NUMBER),
        repeat_limit: section.take("repeat_limit", &INTEGER),
        repeat_window: section.take("repeat_window", &NUMBER),
        repeat_backoff: section.take("repeat_backoff", &NUMBER),
        reclaim: section.take("reclaim", &BOOLEAN),
        hard_ceiling: section.take("hard_ceiling", &NUMBER),
        reserve_percent: section.take("reserve_percent", &NUMBER),
    });
    let (log, _) = document.section("log", problems, |section| Log {
        format: section.take("format", &STRING),
        level: section.take("level", &STRING),
        lines_per_minute: section.take("lines_per_minute", &INTEGER),
        command_lines: section.take("command_lines", &BOOLEAN),
    });
    let (status, _) = document.section("status", problems, |section| Status {
        group: section.take("group", &STRING),
        exempt: section.take("exempt", &BOOLEAN),
        mine: section.take("mine", &BOOLEAN),
    });
    let (history, _) = document.section("history", problems, |section| History {
        days: section.take("days", &INTEGER),
        max_mb: section.take("max_mb", &INTEGER),
    });
    let (metrics, _) = document.section("metrics", problems, |section| Metrics {
        textfile: section.take("textfile", &STRING),
        listen: section.take("listen", &STRING),
    });
    let (notify, _) = document.section("notify", problems, |section| Notify {
        interval: section.take("interval", &NUMBER),
        mail_to: section.take_list("mail_to", &STRING),
        mail_from: section.take("mail_from", &STRING),
        smtp_host: section.take("smtp_host", &STRING),
        smtp_port: section.take("smtp_port", &INTEGER),
        smtp_starttls: section.take("smtp_starttls", &BOOLEAN),
        smtp_auth_file: section.take("smtp_auth_file", &STRING),
        hook: section.take("hook", &STRING),
        hook_user: section.take("hook_user", &STRING),
        hook_timeout: section.take("hook_timeout", &NUMBER),
        terminal: section.take("terminal", &BOOLEAN),
    });
    document.finish(problems);
    Typed {
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
    }
}

fn levels(section: &mut Section<'_, '_, '_>) -> Levels {
    Levels {
        available_percent: section.take("available_percent", &NUMBER),
        available_gb: section.take("available_gb", &NUMBER),
        swap_free_percent: section.take("swap_free_percent", &NUMBER),
        pressure_some: section.take("pressure_some", &NUMBER),
        pressure_full: section.take("pressure_full", &NUMBER),
    }
}

fn matcher(section: &mut Section<'_, '_, '_>) -> Matcher {
    Matcher {
        names: section.take_list("names", &STRING),
        names_file: section.take_listing("names_file", &STRING),
        exe: section.take_list("exe", &STRING),
        args: section.take_list("args", &STRING),
        users: section.take_list("users", &STRING),
        uids: section.take_list("uids", &STRING),
        groups: section.take_list("groups", &STRING),
        cgroups: section.take_list("cgroups", &STRING),
        units: section.take_list("units", &STRING),
    }
}
