//! Settings as they are in force, written as a configuration that could be loaded again.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use crate::{
    config::{History, Kernel, Log, Metrics, Notify, Pace, Settings, Status, Termination, Users, Window},
    model::{Bytes, Escaped, Hook, Mail, Per, Uid},
    policy::{
        ArgPatterns, CgroupPatterns, ExePatterns, LimitRule, Matcher, NamePatterns, RuleLimit, Rules, Scope,
        Strike, SumRule, UidRanges, UnitPatterns, Whitelist,
        machine::{Levels, MachineLimits},
    },
};

/// The settings as a configuration file that means the same.
pub(super) fn write_settings(settings: &Settings, users: &dyn Users, out: &mut dyn Write) -> io::Result<()> {
    let Settings {
        rules,
        check_interval,
        warn_at_percent,
        schedule,
        dry_run,
        awaits_enable: _,
        log,
        machine,
        kernel,
        termination,
        status,
        history,
        metrics,
        notify,
    } = settings;
    let Rules {
        limits,
        measure,
        whitelist,
        scope,
        honour_oom_score_adj,
        own_pid: _,
        rules,
        sums,
        exemptions: _,
    } = rules;
    section(out, "thresholds")?;
    key(out, "ram_percent_threshold", limits.percent())?;
    key(out, "ram_gb_threshold", gigabytes(limits.bytes()))?;
    key(out, "check_interval", check_interval.as_secs_f64())?;
    key(out, "warn_at_percent", warn_at_percent.unwrap_or(0.0))?;
    key(out, "measure", quoted(measure.as_str()))?;
    for window in &schedule.windows {
        write_window(window, out)?;
    }
    for rule in rules {
        write_rule(rule, None, out)?;
    }
    for SumRule { rule, per, strike } in sums {
        write_rule(rule, Some((*per, *strike)), out)?;
    }
    write_whitelist(whitelist, *honour_oom_score_adj, users, out)?;
    let Log { file, format, system_log, level, lines_per_minute, command_lines } = log;
    section(out, "settings")?;
    key(out, "dry_run", dry_run)?;
    key(out, "log_file", quoted_path(file.as_deref()))?;
    key(out, "enable_syslog", system_log)?;
    write_scope(scope, out)?;
    match machine {
        Some(machine) => write_machine(machine, out),
        None => writeln!(out, "\n# no [machine]: memmon does not ask whether the machine is short of memory"),
    }?;
    write_kernel(*kernel, out)?;
    write_termination(*termination, out)?;
    section(out, "log")?;
    key(out, "format", quoted(format.as_str()))?;
    key(out, "level", quoted(level.as_str()))?;
    key(out, "lines_per_minute", lines_per_minute.unwrap_or(0))?;
    key(out, "command_lines", command_lines)?;
    let Status { group, gid: _, exempt, mine } = status;
    section(out, "status")?;
    key(out, "group", quoted(group.as_deref().unwrap_or_default()))?;
    key(out, "exempt", exempt)?;
    key(out, "mine", mine)?;
    let History { days, bytes } = history;
    section(out, "history")?;
    key(out, "days", days)?;
    key(out, "max_mb", bytes.0 / Bytes::MIB)?;
    let Metrics { textfile, listen } = metrics;
    section(out, "metrics")?;
    key(out, "textfile", quoted_path(textfile.as_deref()))?;
    key(out, "listen", quoted(&listen.as_ref().map(ToString::to_string).unwrap_or_default()))?;
    write_notify(notify, users, out)
}

fn write_window(window: &Window, out: &mut dyn Write) -> io::Result<()> {
    let Window { days, from, to, pace: Pace { check_interval, limits } } = window;
    section(out, "[schedule]")?;
    key(out, "days", list(days.names().map(quoted)))?;
    key(out, "from", quoted(&from.to_string()))?;
    key(out, "to", quoted(&to.to_string()))?;
    key(out, "check_interval", check_interval.as_secs_f64())?;
    key(out, "ram_percent_threshold", limits.percent())?;
    key(out, "ram_gb_threshold", gigabytes(limits.bytes()))
}

fn write_whitelist(
    whitelist: &Whitelist,
    honour_oom_score_adj: bool,
    known: &dyn Users,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Whitelist { pids, names, users, protect_root, also } = whitelist;
    section(out, "whitelist")?;
    key(out, "pids", list(pids))?;
    key(out, "names", list(names.entries().iter().map(|name| quoted(name))))?;
    key(out, "users", list(users.iter().map(|uid| quoted(&name_of(*uid, known)))))?;
    write_matcher(also, out)?;
    key(out, "protect_root", protect_root)?;
    key(out, "honour_oom_score_adj", honour_oom_score_adj)
}

fn write_scope(scope: &Scope, out: &mut dyn Write) -> io::Result<()> {
    if *scope == Scope::default() {
        return writeln!(out, "\n# no [scope]: every process that is not whitelisted");
    }
    let Scope { uids, cgroups } = scope;
    section(out, "scope")?;
    if let Some(uids) = uids {
        key(out, "uids", list(typed(uids)))?;
    }
    if let Some(cgroups) = cgroups {
        key(out, "cgroups", list(cgroups.entries().iter().map(|glob| quoted(glob))))?;
    }
    Ok(())
}

fn write_kernel(kernel: Kernel, out: &mut dyn Write) -> io::Result<()> {
    let Kernel { source, max_processes, gear, instant, realtime } = kernel;
    section(out, "kernel")?;
    key(out, "source", quoted(source.as_str()))?;
    match max_processes {
        Some(count) => key(out, "max_processes", count)?,
        None => writeln!(out, "# max_processes: four times as many as run at the start, at least 8192")?,
    }
    key(out, "gear", quoted(gear.as_str()))?;
    key(out, "instant", instant)?;
    key(out, "realtime", realtime)
}

fn write_termination(termination: Termination, out: &mut dyn Write) -> io::Result<()> {
    let Termination {
        grace,
        repeat_limit,
        repeat_window,
        repeat_backoff,
        reclaim,
        hard_ceiling,
        reserve_percent,
    } = termination;
    section(out, "termination")?;
    key(out, "grace", grace.as_secs_f64())?;
    key(out, "repeat_limit", repeat_limit)?;
    key(out, "repeat_window", repeat_window.as_secs_f64())?;
    key(out, "repeat_backoff", repeat_backoff.as_secs_f64())?;
    key(out, "reclaim", reclaim)?;
    key(out, "hard_ceiling", hard_ceiling.unwrap_or(0.0))?;
    key(out, "reserve_percent", reserve_percent.unwrap_or(0.0))
}

fn write_machine(machine: &MachineLimits, out: &mut dyn Write) -> io::Result<()> {
    let levels = |levels: &Levels| {
        let Levels { available_percent, available, swap_free_percent, pressure_some, pressure_full } = levels;
        let shown = |percent: &Option<f64>| percent.unwrap_or(0.0).to_string();
        [
            ("available_percent", shown(available_percent)),
            ("available_gb", available.map_or_else(|| "0".to_owned(), gigabytes)),
            ("swap_free_percent", shown(swap_free_percent)),
            ("pressure_some", shown(pressure_some)),
            ("pressure_full", shown(pressure_full)),
        ]
    };
    section(out, "machine")?;
    for (name, value) in levels(&machine.act) {
        key(out, name, value)?;
    }
    let warn: Vec<_> =
        levels(&machine.warn).into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    key(out, "warn", format!("{{ {} }}", warn.join(", ")))?;
    key(out, "stop_writers", machine.stop_writers)
}

fn write_rule(rule: &LimitRule, sum: Option<(Per, Strike)>, out: &mut dyn Write) -> io::Result<()> {
    let LimitRule { name, matcher, limit, action, signal, lasting, grace, hard_ceiling, prefer, notify_user } =
        rule;
    section(out, "[rule]")?;
    key(out, "name", quoted(name.as_str()))?;
    write_matcher(matcher, out)?;
    if let Some((per, strike)) = sum {
        key(out, "per", quoted(per.as_str()))?;
        key(out, "strike", quoted(strike.as_str()))?;
        let noticed = match per.is_kept_by_kernel() {
            true => "with eBPF, the kernel wakes memmon when the processes hold that much together",
            false => "memmon looks at what the processes hold together, at least once a second",
        };
        writeln!(out, "# {noticed}")?;
    }
    match limit {
        RuleLimit::None => key(out, "none", true)?,
        RuleLimit::Thresholds => writeln!(out, "# the limits of [thresholds]")?,
        RuleLimit::Own { percent, bytes } => {
            if let Some(percent) = percent {
                key(out, "percent", percent)?;
            }
            if let Some(bytes) = bytes {
                key(out, "gb", gigabytes(*bytes))?;
            }
        }
    }
    key(out, "for", lasting.as_secs_f64())?;
    key(out, "action", quoted(action.as_str()))?;
    key(out, "signal", quoted(signal.as_str()))?;
    if let Some(grace) = grace {
        key(out, "grace", grace.as_secs_f64())?;
    }
    if let Some(times) = hard_ceiling {
        key(out, "hard_ceiling", times)?;
    }
    if *prefer {
        key(out, "prefer", true)?;
    }
    if let Some(when) = notify_user {
        key(out, "notify_user", quoted(when.as_str()))?;
    }
    if let Some(not) = &matcher.not {
        section(out, "rule.not")?;
        write_matcher(not, out)?;
    }
    Ok(())
}

/// The keys of a matcher that are given, but `not`.
fn write_matcher(matcher: &Matcher, out: &mut dyn Write) -> io::Result<()> {
    let Matcher { names, exe, args, uids, groups, cgroups, units, not: _ } = matcher;
    let lists = [
        ("names", names.as_ref().map(NamePatterns::entries)),
        ("exe", exe.as_ref().map(ExePatterns::entries)),
        ("args", args.as_ref().map(ArgPatterns::entries)),
        ("cgroups", cgroups.as_ref().map(CgroupPatterns::entries)),
        ("units", units.as_ref().map(UnitPatterns::entries)),
    ];
    for (name, entries) in lists {
        if let Some(entries) = entries {
            key(out, name, list(entries.iter().map(|entry| quoted(entry))))?;
        }
    }
    if let Some(uids) = uids {
        key(out, "uids", list(typed(uids)))?;
    }
    if let Some(groups) = groups {
        key(out, "groups", list(groups.iter().map(|group| quoted(&group.to_string()))))?;
    }
    Ok(())
}

/// Ranges of uids as they are typed.
fn typed(uids: &UidRanges) -> Vec<String> {
    uids.to_string().split(", ").filter(|range| !range.is_empty()).map(quoted).collect()
}

fn write_notify(notify: &Notify, users: &dyn Users, out: &mut dyn Write) -> io::Result<()> {
    let Notify { interval, mail, hook, terminal } = notify;
    section(out, "notify")?;
    key(out, "interval", interval.as_secs_f64())?;
    key(out, "terminal", terminal)?;
    if let Some(Mail { to, from, host, port, starttls, auth_file }) = mail {
        key(out, "mail_to", list(to.iter().map(|address| quoted(address))))?;
        if let Some(from) = from {
            key(out, "mail_from", quoted(from))?;
        }
        key(out, "smtp_host", quoted(host))?;
        key(out, "smtp_port", port)?;
        key(out, "smtp_starttls", starttls)?;
        key(out, "smtp_auth_file", quoted_path(auth_file.as_deref()))?;
    }
    if let Some(Hook { command, user, timeout }) = hook {
        key(out, "hook", quoted(&command.to_string_lossy()))?;
        if let Some(uid) = user {
            key(out, "hook_user", quoted(&name_of(*uid, users)))?;
        }
        key(out, "hook_timeout", timeout.as_secs_f64())?;
    }
    Ok(())
}

fn name_of(uid: Uid, users: &dyn Users) -> String {
    users.name(uid).unwrap_or_else(|| uid.to_string())
}

fn section(out: &mut dyn Write, name: &str) -> io::Result<()> {
    writeln!(out, "\n[{name}]")
}

fn key(out: &mut dyn Write, name: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "{name:21} = {value}")
}

fn list(items: impl IntoIterator<Item: Display>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// The empty string if there is none; the configuration takes no path that is not UTF-8.
fn quoted_path(path: Option<&Path>) -> String {
    quoted(path.and_then(Path::to_str).unwrap_or_default())
}

/// `text` as a basic string of TOML; what [`Escaped`] would escape is escaped, in TOML's way.
fn quoted(text: &str) -> String {
    let mut string = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => string.extend(['\\', character]),
            _ if Escaped(character.encode_utf8(&mut [0; 4]).as_bytes()).to_string().starts_with('\\') => {
                string.push_str(&format!("\\U{:08x}", u32::from(character)));
            }
            _ => string.push(character),
        }
    }
    string + "\""
}

/// The shortest number of gigabytes that means just so many bytes: 0.1, not 0.09999999962747097.
fn gigabytes(bytes: Bytes) -> String {
    let gb = bytes.0 as f64 / Bytes::GIB as f64;
    let mut shortest = (0..12).map(|decimals| format!("{gb:.decimals$}"));
    shortest.find(|text| text.parse().is_ok_and(|gb| Bytes::from_gb(gb) == bytes)).unwrap_or(gb.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, FakeUsers};

    const USERS: FakeUsers = FakeUsers(&[("root", 0), ("alice", 1000)]);

    /// `check` leaves out no key of the file, whatever its value is.
    #[test]
    fn every_key_of_the_shipped_configuration_is_printed() {
        let shipped = include_str!("../../../config.toml");
        let meant = config::parse(shipped, Path::new("a"), &USERS).unwrap().settings;
        let mut printed = Vec::new();
        write_settings(&meant, &USERS, &mut printed).unwrap();
        let printed: toml::Table = str::from_utf8(&printed).unwrap().parse().unwrap();
        let keys: toml::Table = shipped.parse().unwrap();
        // Mail and the hook are printed if there are any.
        let is_optional = |key: &str| key.starts_with("smtp_") || key == "hook_timeout";
        for (section, keys) in &keys {
            for key in keys.as_table().unwrap().keys().filter(|key| !is_optional(key)) {
                assert!(printed[section].get(key).is_some(), "{section}.{key}");
            }
        }
    }

    #[test]
    fn the_output_is_a_configuration_that_means_the_same() {
        let text = r#"
            thresholds = { ram_percent_threshold = 12.25, ram_gb_threshold = 0.3, check_interval = 0.5, warn_at_percent = 55, measure = "rss" }
            whitelist = { pids = [1, 7], names = ["a\"b\\\\", "tab\t*", "é\u202e"], users = ["alice", "9"], exe = ["/opt/*"], args = ["serve*"], uids = ["9-11"], groups = ["0"], cgroups = ["/b/*"], units = ["a@*.service"], protect_root = true, honour_oom_score_adj = false }
            rule = [
                { name = "one", names = ["x"], not = { users = ["alice"] }, gb = 1.5, percent = 3, for = 2, action = "stop", signal = "SIGHUP", grace = 4, hard_ceiling = 3, prefer = true, notify_user = "both" },
                { name = "two", units = ["user@*.service"], per = "unit", strike = "newest", gb = 9 },
            ]
            settings = { dry_run = true, log_file = "/tmp/\u001b\\x", enable_syslog = false }
            schedule = [
                { days = ["sat-mon"], from = 22:30:00, to = "06:00", check_interval = 1.5 },
                { ram_percent_threshold = 0.5, ram_gb_threshold = 0.1 },
            ]
            scope = { users = ["alice"], uids = ["5-7"], cgroups = ["/a/**"] }
            machine = { available_percent = 0, available_gb = 0.75, swap_free_percent = 0, warn = { available_gb = 2, pressure_some = 3.5 }, stop_writers = true }
            kernel = { source = "proc", max_processes = 99, gear = "always", instant = false, realtime = true }
            termination = { grace = 1.5, repeat_limit = 0, repeat_window = 2.5, repeat_backoff = 3, reclaim = false, hard_ceiling = 0, reserve_percent = 1.5 }
            log = { format = "json", level = "debug", lines_per_minute = 7, command_lines = false }
            status = { group = "alice", exempt = true, mine = false }
            history = { days = 3, max_mb = 5 }
            notify = { interval = 5, mail_to = ["a@b"], mail_from = "c@d", smtp_host = "e", smtp_port = 587, smtp_starttls = true, smtp_auth_file = "/f", hook = "/g", hook_user = "alice", hook_timeout = 3, terminal = true }
            metrics = { textfile = "/var/lib/x.prom", listen = "[::1]:9819" }
        "#;
        for text in [text, ""] {
            let meant = config::parse(text, Path::new("a"), &USERS).unwrap().settings;
            let mut printed = Vec::new();
            write_settings(&meant, &USERS, &mut printed).unwrap();
            let printed = String::from_utf8(printed).unwrap();
            assert!(!printed.contains(['\u{1b}', '\t', '\u{202e}']), "{printed}");
            let again =
                config::parse(&printed, Path::new("b"), &USERS).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again.settings, meant, "{printed}");
        }
    }
}
