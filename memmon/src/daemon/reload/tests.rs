//! Each key of the configuration is applied by a reload, or named as one that needs a restart.

use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::config::{self, FakeUsers, sections};

const USERS: FakeUsers = FakeUsers(&[("root", 0), ("alice", 1000)]);

const MACHINE: &str = "[machine]\navailable_percent = 7";
const NOTIFY: &str = "[notify]\nmail_to = ['a@b']\nhook = '/g'";
const RULE: &str = "[[rule]]\nname = 'one'\nuids = ['7']\ngb = 1";
const SCOPE: &str = "[scope]\nuids = ['7']";
const SUM: &str = "[[rule]]\nname = 'one'\nuids = ['7']\ngb = 1\nper = 'user'";
const WINDOW: &str = "[[schedule]]\nram_gb_threshold = 1";

/// Each key, with a configuration and a line that changes it by that key alone. A new key needs a line, and whoever adds it must
/// see to it that a reload applies it: most keys are read from the settings in force whenever they are needed. Outputs,
/// sockets and priorities, which are made from them, change in `apply`, or after it in the event loop.
const KEYS: [(&str, &str, &str); 93] = [
    ("thresholds.ram_percent_threshold", "[thresholds]", "ram_percent_threshold = 7"),
    ("thresholds.ram_gb_threshold", "[thresholds]", "ram_gb_threshold = 7"),
    ("thresholds.check_interval", "[thresholds]", "check_interval = 7"),
    ("thresholds.warn_at_percent", "[thresholds]", "warn_at_percent = 7"),
    ("thresholds.measure", "[thresholds]", "measure = 'rss'"),
    ("whitelist.pids", "[whitelist]", "pids = [7]"),
    ("whitelist.names", "[whitelist]", "names = ['x']"),
    ("whitelist.users", "[whitelist]", "users = ['7']"),
    ("whitelist.names_file", "[whitelist]", "names_file = 'names'"),
    ("whitelist.exe", "[whitelist]", "exe = ['/x']"),
    ("whitelist.args", "[whitelist]", "args = ['x']"),
    ("whitelist.uids", "[whitelist]", "uids = ['7']"),
    ("whitelist.groups", "[whitelist]", "groups = ['7']"),
    ("whitelist.cgroups", "[whitelist]", "cgroups = ['/x']"),
    ("whitelist.units", "[whitelist]", "units = ['x.service']"),
    ("whitelist.protect_root", "[whitelist]", "protect_root = true"),
    ("whitelist.honour_oom_score_adj", "[whitelist]", "honour_oom_score_adj = false"),
    ("settings.dry_run", "[settings]", "dry_run = true"),
    ("settings.log_file", "[settings]", "log_file = '/x'"),
    ("settings.enable_syslog", "[settings]", "enable_syslog = false"),
    ("scope.users", SCOPE, "users = ['9']"),
    ("scope.uids", "[scope]\nusers = ['9']", "uids = ['7']"),
    ("scope.cgroups", SCOPE, "cgroups = ['/x']"),
    ("machine.available_percent", "[machine]\navailable_gb = 1", "available_percent = 7"),
    ("machine.available_gb", MACHINE, "available_gb = 7"),
    ("machine.swap_free_percent", MACHINE, "swap_free_percent = 7"),
    ("machine.pressure_some", MACHINE, "pressure_some = 7"),
    ("machine.pressure_full", MACHINE, "pressure_full = 7"),
    ("machine.warn", MACHINE, "warn = { available_percent = 8 }"),
    ("machine.stop_writers", MACHINE, "stop_writers = true"),
    ("kernel.source", "[kernel]", "source = 'proc'"),
    ("kernel.max_processes", "[kernel]", "max_processes = 7"),
    ("kernel.gear", "[kernel]", "gear = 'always'"),
    ("kernel.instant", "[kernel]", "instant = false"),
    ("kernel.realtime", "[kernel]", "realtime = false"),
    ("termination.grace", "[termination]", "grace = 7"),
    ("termination.repeat_limit", "[termination]", "repeat_limit = 7"),
    ("termination.repeat_window", "[termination]", "repeat_window = 7"),
    ("termination.repeat_backoff", "[termination]", "repeat_backoff = 7"),
    ("termination.reclaim", "[termination]", "reclaim = false"),
    ("termination.hard_ceiling", "[termination]", "hard_ceiling = 7"),
    ("termination.reserve_percent", "[termination]", "reserve_percent = 7"),
    ("log.format", "[log]", "format = 'json'"),
    ("log.level", "[log]", "level = 'debug'"),
    ("log.lines_per_minute", "[log]", "lines_per_minute = 7"),
    ("log.command_lines", "[log]", "command_lines = false"),
    ("status.group", "[status]", "group = 'alice'"),
    ("status.exempt", "[status]\ngroup = 'alice'", "exempt = true"),
    ("status.mine", "[status]", "mine = false"),
    ("history.days", "[history]", "days = 7"),
    ("history.max_mb", "[history]", "max_mb = 7"),
    ("metrics.textfile", "[metrics]", "textfile = '/x.prom'"),
    ("metrics.listen", "[metrics]", "listen = '127.0.0.1:7'"),
    ("notify.interval", NOTIFY, "interval = 7"),
    ("notify.mail_to", "[notify]", "mail_to = ['c@d']"),
    ("notify.mail_from", NOTIFY, "mail_from = 'c@d'"),
    ("notify.smtp_host", NOTIFY, "smtp_host = 'e'"),
    ("notify.smtp_port", NOTIFY, "smtp_port = 7"),
    ("notify.smtp_starttls", NOTIFY, "smtp_starttls = true"),
    ("notify.smtp_auth_file", NOTIFY, "smtp_auth_file = '/f'\nsmtp_starttls = true"),
    ("notify.hook", "[notify]", "hook = '/h'"),
    ("notify.hook_user", NOTIFY, "hook_user = 'alice'"),
    ("notify.hook_timeout", NOTIFY, "hook_timeout = 7"),
    ("notify.terminal", "[notify]", "terminal = true"),
    ("schedule.days", WINDOW, "days = ['mon']"),
    ("schedule.from", WINDOW, "from = '07:00'"),
    ("schedule.to", WINDOW, "to = '07:00'"),
    ("schedule.check_interval", WINDOW, "check_interval = 7"),
    ("schedule.ram_percent_threshold", WINDOW, "ram_percent_threshold = 7"),
    ("schedule.ram_gb_threshold", "[[schedule]]\ncheck_interval = 7", "ram_gb_threshold = 7"),
    ("rule.name", "", RULE),
    ("rule.names", RULE, "names = ['x']"),
    ("rule.names_file", RULE, "names_file = 'names'"),
    ("rule.users", RULE, "users = ['9']"),
    ("rule.exe", RULE, "exe = ['/x']"),
    ("rule.args", RULE, "args = ['x']"),
    ("rule.uids", "[[rule]]\nname = 'one'\ngroups = ['7']\ngb = 1", "uids = ['7']"),
    ("rule.groups", RULE, "groups = ['7']"),
    ("rule.cgroups", RULE, "cgroups = ['/x']"),
    ("rule.units", RULE, "units = ['x.service']"),
    ("rule.not", RULE, "not = { names = ['x'] }"),
    ("rule.gb", "[[rule]]\nname = 'one'\nuids = ['7']\npercent = 1", "gb = 7"),
    ("rule.percent", RULE, "percent = 7"),
    ("rule.none", "", "[[rule]]\nname = 'one'\nuids = ['7']\nnone = true"),
    ("rule.for", RULE, "for = '7s'"),
    ("rule.per", RULE, "per = 'user'"),
    ("rule.strike", SUM, "strike = 'newest'"),
    ("rule.action", RULE, "action = 'warn'"),
    ("rule.signal", RULE, "signal = 'SIGINT'"),
    ("rule.grace", RULE, "grace = 7"),
    ("rule.hard_ceiling", RULE, "hard_ceiling = 7"),
    ("rule.prefer", RULE, "prefer = true"),
    ("rule.notify_user", RULE, "notify_user = 'both'"),
];

/// The keys that only a start applies.
const AT_START: [&str; 4] = ["kernel.source", "kernel.max_processes", "kernel.gear", "kernel.instant"];

fn settings(folder: &Path, text: &str) -> Settings {
    let file = folder.join("config.toml");
    fs::write(&file, text).unwrap();
    config::load(Some(&file), &USERS).unwrap_or_else(|error| panic!("{text}\n{error}")).settings
}

#[test]
fn a_reload_applies_each_key_or_names_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("names"), "x\n").unwrap();
    for (key, before, line) in KEYS {
        let running = settings(folder.path(), before);
        let asked = settings(folder.path(), &format!("{before}\n{line}\n"));
        assert_ne!(running, asked, "{key} changes nothing");
        let (in_force, left) = applicable(&running.kernel, asked.clone());
        if AT_START.contains(&key) {
            assert_eq!((&in_force, &left[..]), (&running, &[key][..]));
        } else {
            assert_eq!((&in_force, &left[..]), (&asked, &[][..]), "{key}");
        }
    }
}

#[test]
fn no_key_of_the_table_of_keys_is_left_out_above() {
    let sections = sections();
    let name = |section: &config::Section, key: &config::Key| format!("{}.{}", section.name, key.name);
    let all = sections.iter().flat_map(|section| section.keys.iter().map(|key| name(section, key)));
    let all: BTreeSet<_> = all.collect();
    let here: BTreeSet<_> = KEYS.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(all, here);
}
