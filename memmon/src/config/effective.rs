//! Settings as they are in force, put back into the keys that mean them: a configuration that could be loaded again.

use std::io::{self, Write};

use toml::Spanned;

use super::{
    History, Log, Pace, Settings, Status, Users, Window, keys,
    kinds::Span,
    toml_document::{Given, Keys, List},
};
use crate::{
    model::{Bytes, Hook, Mail, Notify, Per},
    policy::{
        ArgPatterns, CgroupPatterns, ExePatterns, LimitRule, Limits, Matcher, NamePatterns, RuleLimit, Rules,
        Scope, Strike, SumRule, UidRanges, UnitPatterns, Whitelist,
        machine::{Levels, MachineLimits},
    },
};

/// The settings as a configuration file that means the same.
pub(crate) fn write_settings(settings: &Settings, users: &dyn Users, out: &mut dyn Write) -> io::Result<()> {
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
    let (ram_percent_threshold, ram_gb_threshold) = thresholds(*limits);
    let (check_interval, warn_at_percent, measure) = (*check_interval, *warn_at_percent, *measure);
    write_keys(
        &keys::Thresholds {
            ram_percent_threshold,
            ram_gb_threshold,
            check_interval,
            warn_at_percent,
            measure,
        },
        out,
    )?;
    for window in &schedule.windows {
        write_keys(&window_keys(window), out)?;
    }
    for rule in rules {
        write_rule(rule, None, out)?;
    }
    for SumRule { rule, per, strike } in sums {
        write_rule(rule, Some((*per, *strike)), out)?;
    }
    write_keys(&whitelist_keys(whitelist, *honour_oom_score_adj, users), out)?;
    let Log { file, format, system_log, level, lines_per_minute, command_lines } = log;
    let (log_file, enable_syslog) = (file.clone(), *system_log);
    write_keys(&keys::Settings { dry_run: *dry_run, log_file, enable_syslog }, out)?;
    write_scope(scope, out)?;
    match machine {
        Some(machine) => write_keys(&machine_keys(machine), out),
        None => writeln!(out, "\n# no [machine]: memmon does not ask whether the machine is short of memory"),
    }?;
    write_keys(kernel, out)?;
    for (key, _) in keys::Kernel::keys().into_iter().zip(kernel.shown()).filter(|(_, value)| value.is_none())
    {
        writeln!(out, "# {}: {}", key.name, key.help)?;
    }
    write_keys(termination, out)?;
    let (format, level, lines_per_minute, command_lines) =
        (*format, *level, *lines_per_minute, *command_lines);
    write_keys(&keys::Log { format, level, lines_per_minute, command_lines }, out)?;
    let Status { group, gid: _, exempt, mine } = status;
    let group = given(group.clone().unwrap_or_default());
    write_keys(&keys::Status { group, exempt: given(*exempt), mine: *mine }, out)?;
    let History { days, bytes } = history;
    let max_mb = u32::try_from(bytes.0 / Bytes::MIB).unwrap_or(u32::MAX);
    write_keys(&keys::History { days: *days, max_mb }, out)?;
    write_keys(metrics, out)?;
    write_keys(&notify_keys(notify, users), out)
}

/// The keys of a section that have a value.
fn write_keys<K: Keys>(keys: &K, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", K::HEADING)?;
    for (key, value) in K::keys().into_iter().zip(keys.shown()) {
        if let Some(value) = value {
            writeln!(out, "{:21} = {value}", key.name)?;
        }
    }
    Ok(())
}

/// A value as if it stood in a file.
fn given<T>(value: T) -> Given<T> {
    Some(Spanned::new(0..0, value))
}

/// A list as if it stood in a file.
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> Option<List<String>> {
    list(items.into_iter().map(|item| item.to_string()))
}

fn list<T>(items: impl Iterator<Item = T>) -> Option<List<T>> {
    let entries = items.map(|item| Spanned::new(0..0, item)).collect();
    Some(List { key: String::new(), span: 0..0, entries })
}

fn thresholds(limits: Limits) -> (Given<f64>, Given<f64>) {
    (given(limits.percent()), given(gigabytes(limits.bytes())))
}

fn window_keys(window: &Window) -> keys::Window {
    let Window { days, from, to, pace: Pace { check_interval, limits } } = window;
    let (ram_percent_threshold, ram_gb_threshold) = thresholds(*limits);
    keys::Window {
        days: listed(days.names()),
        from: given(Some(*from)),
        to: given(Some(*to)),
        check_interval: given(*check_interval),
        ram_percent_threshold,
        ram_gb_threshold,
    }
}

fn whitelist_keys(whitelist: &Whitelist, honour_oom_score_adj: bool, known: &dyn Users) -> keys::Whitelist {
    let Whitelist { pids, names, users, protect_root, also } = whitelist;
    keys::Whitelist {
        pids: list(pids.iter().map(|pid| pid.0)),
        names: listed(names.entries()),
        users: listed(users.iter().map(|uid| known.name_or_uid(*uid))),
        names_file: None,
        lists: matcher_keys(also).lists,
        protect_root: *protect_root,
        honour_oom_score_adj,
    }
}

fn write_scope(scope: &Scope, out: &mut dyn Write) -> io::Result<()> {
    if *scope == Scope::default() {
        return writeln!(out, "\n# no [scope]: every process that is not whitelisted");
    }
    let Scope { uids, cgroups } = scope;
    let uids = uids.as_ref().and_then(|uids| listed(typed(uids)));
    let cgroups = cgroups.as_ref().and_then(|cgroups| listed(cgroups.entries()));
    write_keys(&keys::Scope { users: None, uids, cgroups }, out)
}

fn machine_keys(machine: &MachineLimits) -> keys::Machine {
    let levels = |levels: &Levels| {
        let Levels { available_percent, available, swap_free_percent, pressure_some, pressure_full } = levels;
        keys::Levels {
            available_percent: given(*available_percent),
            available_gb: given(available.map(gigabytes)),
            swap_free_percent: given(*swap_free_percent),
            pressure_some: given(*pressure_some),
            pressure_full: given(*pressure_full),
        }
    };
    let MachineLimits { warn, act, stop_writers } = machine;
    keys::Machine { levels: levels(act), warn: Some(levels(warn)), stop_writers: given(*stop_writers) }
}

fn write_rule(rule: &LimitRule, sum: Option<(Per, Strike)>, out: &mut dyn Write) -> io::Result<()> {
    let LimitRule { name, matcher, limit, action, signal, lasting, grace, hard_ceiling, prefer, notify_user } =
        rule;
    let (percent, bytes) = match limit {
        RuleLimit::Own { percent, bytes } => (*percent, *bytes),
        RuleLimit::None | RuleLimit::Thresholds => (None, None),
    };
    let keys = keys::Rule {
        name: given(*name),
        matcher: matcher_keys(matcher),
        not: matcher.not.as_deref().map(matcher_keys),
        gb: bytes.map(gigabytes).and_then(given),
        percent: percent.and_then(given),
        none: (*limit == RuleLimit::None).then_some(true).and_then(given),
        lasting: given(Span(*lasting)),
        per: sum.and_then(|(per, _)| given(Some(per))),
        strike: sum.and_then(|(_, strike)| given(strike)),
        action: given(*action),
        signal: given(*signal),
        grace: grace.and_then(given),
        hard_ceiling: hard_ceiling.and_then(|times| given(Some(times).filter(|times| *times != 0.0))),
        prefer: prefer.then_some(true).and_then(given),
        notify_user: notify_user.and_then(given),
    };
    write_keys(&keys, out)?;
    if let Some((per, _)) = sum {
        let noticed = match per.is_kept_by_kernel() {
            true => "with eBPF, the kernel wakes memmon when the processes hold that much together",
            false => "memmon looks at what the processes hold together, at least once a second",
        };
        writeln!(out, "# {noticed}")?;
    }
    if *limit == RuleLimit::Thresholds {
        writeln!(out, "# the limits of [thresholds]")?;
    }
    Ok(())
}

/// The keys of a matcher that are given, but `not`.
fn matcher_keys(matcher: &Matcher) -> keys::Matcher {
    let Matcher { names, exe, args, uids, groups, cgroups, units, not: _ } = matcher;
    let globs = |entries: Option<&[String]>| entries.and_then(listed);
    keys::Matcher {
        names: globs(names.as_ref().map(NamePatterns::entries)),
        names_file: None,
        users: None,
        lists: keys::Lists {
            exe: globs(exe.as_ref().map(ExePatterns::entries)),
            args: globs(args.as_ref().map(ArgPatterns::entries)),
            uids: uids.as_ref().and_then(|uids| listed(typed(uids))),
            groups: groups.as_ref().and_then(listed),
            cgroups: globs(cgroups.as_ref().map(CgroupPatterns::entries)),
            units: globs(units.as_ref().map(UnitPatterns::entries)),
        },
    }
}

/// Ranges of uids as they are typed.
fn typed(uids: &UidRanges) -> Vec<String> {
    uids.to_string().split(", ").filter(|range| !range.is_empty()).map(str::to_owned).collect()
}

/// Those of mail and of the hook if there are any.
fn notify_keys(notify: &Notify, users: &dyn Users) -> keys::Notify {
    let Notify { interval, mail, hook, terminal } = notify;
    let (mail, hook) = (mail.clone(), hook.clone());
    keys::Notify {
        interval: *interval,
        mail_to: mail.as_ref().and_then(|mail| listed(&mail.to)),
        mail_from: mail.as_ref().and_then(|mail| given(mail.from.clone()?)),
        smtp_host: mail.as_ref().and_then(|mail| given(mail.host.clone())),
        smtp_port: mail.as_ref().and_then(|mail| given(mail.port)),
        smtp_starttls: mail.as_ref().and_then(|mail| given(mail.starttls)),
        smtp_auth_file: mail.and_then(|Mail { auth_file, .. }| given(auth_file)),
        hook_user: hook.as_ref().and_then(|hook| given(users.name_or_uid(hook.user?))),
        hook_timeout: hook.as_ref().and_then(|hook| given(hook.timeout)),
        hook: hook.and_then(|Hook { command, .. }| given(Some(command))),
        terminal: *terminal,
    }
}

/// The shortest number of gigabytes that means just so many bytes: 0.1, not 0.09999999962747097.
fn gigabytes(bytes: Bytes) -> f64 {
    let gb = bytes.0 as f64 / Bytes::GIB as f64;
    let mut shortest = (0..12).filter_map(|decimals| format!("{gb:.decimals$}").parse().ok());
    shortest.find(|gb| Bytes::from_gb(*gb) == bytes).unwrap_or(gb)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
