//! The table of keys: a row for each key of the configuration, with its kind, its default, the values that it may have, and a
//! sentence about it. Parsing, errors, hints, `memmon check` and memmon.toml(5) read it; tests compare /config.toml and
//! README.md with it.
//!
//! A row is also a field of the struct of its section, of the type that its kind has. A field of the type [`Given`] or of an
//! `Option` of a list is `None` if the key is left out; all others then have the default.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    key::{
        Allowed::{self, Any, Ending, Listing},
        Key, Section, default, example, range, range_or,
    },
    kinds::{LogLevel, Span},
    schedule::Minute,
    toml_document::{Field, Given, Keys, List, Taken, section},
};
use crate::{
    model::{
        Action, GearChoice, Listen, LogFormat, Measure, NotifyUser, Per, RuleName, Signal, SourceChoice,
        seconds::as_seconds,
    },
    policy::Strike,
};

/// The kernel's PID_MAX_LIMIT on 64 bits (linux/threads.h): no pid reaches it.
const PID_MAX: f64 = 4_194_304.0;
/// A day in seconds.
const DAY: f64 = 86_400.0;
/// An hour in seconds.
const HOUR: f64 = 3600.0;

/// Below 0.01 % or a megabyte nearly every process is over the limit, so a smaller value is a mistake.
const PERCENT: Allowed = range("percent of all memory", 0.01, 100.0);
const GIGABYTES: Allowed = range("gigabytes of 2^30 bytes", 0.001, 1e9);
const INTERVAL: Allowed = range("seconds between scans", 0.1, DAY);
/// Below 1 a victim would be beyond its ceiling before it is beyond its limit.
const CEILING: Allowed = range_or("none", "times its limit", 1.0, 1000.0);

/// Defines the struct of a section: its heading and purpose (none for keys that several sections share), and its rows. After
/// `..` the keys of another struct follow.
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $Name:ident $(for $heading:literal, $about:literal)? {
            $($(#[$attribute:meta])* $key:ident $(as $name:literal)?: $type:ty, $value:expr, $allowed:expr, $help:literal;)*
            $(
                .. $shared:ident: $Shared:ty;
                $($later:ident $(as $later_name:literal)?: $later_type:ty, $later_value:expr, $later_allowed:expr, $later_help:literal;)*
            )?
        }
    ) => {
        $(#[$meta])*
        $vis struct $Name {
            $(
                #[doc = $help]
                $(#[$attribute])*
                $vis $key: $type,
            )*
            $(
                $vis $shared: $Shared,
                $($vis $later: $later_type,)*
            )?
        }

        impl Keys for $Name {
            const HEADING: &'static str = concat!($($heading)?);
            const ABOUT: &'static str = concat!($($about)?);

            fn keys() -> Vec<&'static Key> {
                let keys = [$(keys!(@row $key $($name)?: $type, $value, $allowed, $help)),*].into_iter();
                $(
                    let later =
                        [$(keys!(@row $later $($later_name)?: $later_type, $later_value, $later_allowed, $later_help)),*];
                    let keys = keys.chain(<$Shared>::keys()).chain(later);
                )?
                keys.collect()
            }

            fn take(section: &mut Taken<'_, '_, '_>) -> Self {
                Self {
                    $($key: Field::take(keys!(@row $key $($name)?: $type, $value, $allowed, $help), section),)*
                    $(
                        $shared: <$Shared>::take(section),
                        $($later: Field::take(
                            keys!(@row $later $($later_name)?: $later_type, $later_value, $later_allowed, $later_help),
                            section,
                        ),)*
                    )?
                }
            }

            fn shown(&self) -> Vec<Option<String>> {
                let values = [
                    $(Field::shown(&self.$key, keys!(@row $key $($name)?: $type, $value, $allowed, $help))),*
                ].into_iter();
                $(
                    let later = [$(Field::shown(
                        &self.$later,
                        keys!(@row $later $($later_name)?: $later_type, $later_value, $later_allowed, $later_help),
                    )),*];
                    let values = values.chain(self.$shared.shown()).chain(later);
                )?
                values.collect()
            }
        }
    };
    (@row $key:ident $($name:literal)?: $type:ty, $value:expr, $allowed:expr, $help:literal) => {{
        const KEY: &Key = &Key {
            name: keys!(@name $key $($name)?),
            kind: <$type as Field>::KIND,
            value: $value,
            allowed: $allowed,
            help: $help,
        };
        KEY
    }};
    (@name $key:ident) => { stringify!($key) };
    (@name $key:ident $name:literal) => { $name };
}

/// The sections, in the order of the shipped configuration.
pub fn sections() -> Vec<Section> {
    vec![
        section::<Thresholds>(),
        section::<Whitelist>(),
        section::<Settings>(),
        section::<Scope>(),
        section::<Machine>(),
        section::<Kernel>(),
        section::<Termination>(),
        section::<Log>(),
        section::<Status>(),
        section::<History>(),
        section::<Metrics>(),
        section::<Notify>(),
        section::<Window>(),
        section::<Rule>(),
    ]
}

keys! {
    #[derive(Debug)]
    pub(super) struct Thresholds for "[thresholds]", "a process that exceeds either limit is over the limit" {
        ram_percent_threshold: Given<f64>, default("10.0"), PERCENT,
            "percent of all memory, so that the same file fits machines of any size";
        ram_gb_threshold: Given<f64>, default("2.0"), GIGABYTES,
            "gigabytes of 2^30 bytes, so that a large machine does not mean large hogs";
        check_interval: Duration, default("30"), INTERVAL,
            "seconds between scans; with eBPF a crossing is seen at once, at any interval";
        warn_at_percent: Option<f64>, default("80"), range_or("no warning", "percent of its limit", 1.0, 100.0),
            "percent of its limit at which a growing process is reported, once; 0: never";
        measure: Measure, default("\"charged\""), Any,
            "\"charged\": RSS over the limit, and 95 % of it would come back; \"rss\": RSS alone, as in v1";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Whitelist for "[whitelist]", "processes that memmon leaves alone, at any size" {
        pids: Option<List<u32>>, default("[1]"), range("process ids", 1.0, PID_MAX),
            "a pid names a process only until it exits: useful for pid 1, and little else";
        names: Option<List<String>>,
            // v1's five, then package managers: ended in the middle of an upgrade, each leaves a machine with half of it.
            default("[\"systemd\", \"kernel\", \"init\", \"sshd\", \"docker\", \"apt\", \"apt-get\", \"dpkg\", \"dpkg-deb\", \
                \"unattended-upgr\", \"dnf\", \"dnf5\", \"rpm\", \"zypper\", \"pacman\", \"snapd\", \"packagekitd\"]"), Any,
            "the whole comm, or basename of the executable or argv[0]; globs such as \"postgres*\"; another list replaces this \
             one: repeat the names that are still needed";
        users: Option<List<String>>, default("[\"root\"]"), Any,
            "names, or uids as strings; \"root\" also needs protect_root = true";
        names_file: Given<String>, example("\"names\""), Listing,
            "more names, one or a glob per line, in that file beside this one; # begins a comment";
        .. lists: Lists;
        protect_root: bool, default("false"), Any,
            "true: leave alone all processes of root; false: root's services may leak, too";
        honour_oom_score_adj: bool, default("true"), Any,
            "leave alone processes that are exempt from the kernel's OOM killer (oom_score_adj = -1000)";
    }
}

keys! {
    /// Conditions on a process that `[whitelist]` and rules have in common.
    #[derive(Debug, Default)]
    pub(super) struct Lists {
        exe: Option<List<String>>, example("[\"/usr/lib/postgresql/*/bin/postgres\"]"), Any,
            "paths of executables, as pid 1 sees them; a copy elsewhere does not match";
        args: Option<List<String>>, example("[\"*/backup.py\"]"), Any,
            "one argument, or the whole command line; every user can give their processes such arguments";
        uids: Option<List<String>>, example("[\"100-199\"]"), Any, "ranges include both ends";
        groups: Option<List<String>>, example("[\"dba\"]"), Any,
            "Unix groups, supplementary ones too; names, or gids as strings";
        cgroups: Option<List<String>>, example("[\"/system.slice/**\"]"), Any,
            "`*` stays within one level, `/**` is a cgroup and all below it";
        units: Option<List<String>>, example("[\"nginx.service\"]"), Any,
            "systemd units; \"user@1000.service/app-*.scope\" of a user's manager";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Settings for "[settings]", "" {
        dry_run: bool, default("false"), Any,
            "true: only log which processes would be terminated, also after `memmon enable`";
        log_file: Option<PathBuf>, default("\"/var/log/memory_monitor.log\""), Any,
            "an absolute path; \"\" for no file";
        enable_syslog: bool, default("true"), Any, "log to the journal, or to syslog if there is no journal";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Scope for "[scope]",
        "limits which processes memmon may touch at all. Without it: every process that is not whitelisted. A process must \
         belong to one of the users or uids and, if cgroups are given, be in one of them. An empty scope is an error"
    {
        users: Option<List<String>>, example("[\"alice\", \"47001\"]"), Any, "names, or uids as strings";
        uids: Option<List<String>>, example("[\"1000-59999\"]"), Any, "ranges include both ends";
        cgroups: Option<List<String>>, example("[\"/user.slice/**\"]"), Any,
            "`*` stays within one level, `/**` is a cgroup and all below it";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Machine for "[machine]",
        "ends processes if the machine as a whole is short of memory; off without this section. The process, user, unit or \
         session that has grown most since the machine was well comes first. One process ends at a time, and no more than it \
         takes; never one that is protected or that did not grow. `memmon explain --machine` shows the order"
    {
        .. levels: Levels;
        warn: Option<Levels>, example("{ available_percent = 10.0 }"), Any,
            "the levels for a warning, by the same keys; by default twice as far away";
        stop_writers: Given<bool>, default("false"), Any,
            "true: SIGSTOP to a process that fills a tmpfs, if no process's end would give memory back";
    }
}

keys! {
    #[derive(Debug, Default)]
    pub(super) struct Levels {
        // Above half of all memory, available memory is no sign of a shortage.
        available_percent: Given<Option<f64>>, default("5.0"), range_or("none", "percent of all memory", 0.1, 50.0),
            "percent of all memory: act if less is available";
        available_gb: Given<Option<f64>>, default("0"), range_or("none", "gigabytes of 2^30 bytes", 0.001, 1e9),
            "the same in gigabytes, up to half of all memory; the higher one of the two counts, and if only this is set, it \
             alone; 0: off";
        swap_free_percent: Given<Option<f64>>, default("10.0"), range_or("none", "percent of all swap", 0.01, 100.0),
            "percent of all swap: act only if less of it is free, too; 0: memory alone counts";
        pressure_some: Given<Option<f64>>, default("0"), range_or("none", "percent of the time", 0.01, 100.0),
            "percent of ten seconds in which a process waited for memory (/proc/pressure/memory), while available memory is \
             below its level for a warning; 0: off";
        pressure_full: Given<Option<f64>>, default("20.0"), range_or("none", "percent of the time", 0.01, 100.0),
            "the same, in which all processes waited";
    }
}

keys! {
    /// `[kernel]`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
    pub struct Kernel for "[kernel]", "" {
        source: SourceChoice, default("\"auto\""), Any,
            "\"ebpf\" or \"proc\": only this source; \"auto\": the best one that works here, and the log says which";
        max_processes: Option<u32>, example("32768"), range("a number of processes", 1.0, PID_MAX),
            "capacity of the kernel map; by default four times as many as run at the start, 8192 to 65536";
        gear: GearChoice, default("\"auto\""), Any,
            "\"auto\": exact counting only near a limit; \"always\": at all times; \"two\": as auto, with small limits, too";
        instant: bool, default("true"), Any,
            "the kernel wakes memmon at a crossing; false: processes are judged at scans only";
        realtime: bool, default("true"), Any,
            "while no processor is idle, or no process near its limit, crossings come before all normal processes (SCHED_FIFO); \
             false: nice -20";
    }
}

keys! {
    /// `[termination]`.
    #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
    pub struct Termination for "[termination]", "" {
        #[serde(serialize_with = "as_seconds")]
        grace: Duration, default("5"), range("seconds from SIGTERM to SIGKILL", 0.1, HOUR),
            "seconds from SIGTERM to SIGKILL: time for the process to save its work and exit";
        repeat_limit: u32, default("5"), range_or("no delay", "a number of terminations", 1.0, 1000.0),
            "terminations within `repeat_window` that make a program which a supervisor restarts a repeat offender; its further \
             terminations are delayed; 0: no delay";
        #[serde(serialize_with = "as_seconds")]
        repeat_window: Duration, default("600"), range("seconds", 1.0, DAY),
            "seconds in which terminations count towards `repeat_limit`";
        #[serde(serialize_with = "as_seconds")]
        repeat_backoff: Duration, default("60"), range("seconds from one termination to the next", 1.0, DAY),
            "seconds of the first delay, doubled each time up to 16 times this; no delay while memory is short";
        reclaim: bool, default("true"), Any,
            "free a killed process's memory ahead of its exit (process_mrelease, Linux 5.15)";
        hard_ceiling: Option<f64>, default("2.0"), CEILING,
            "times its limit: a victim that grows past this during its grace is killed at once; 0: off";
        reserve_percent: Option<f64>, default("3.0"), range_or("none", "percent of all memory", 0.1, 50.0),
            "percent of all memory: with less available, victims are killed at once; 0: off";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Log for "[log]", "" {
        format: LogFormat, default("\"text\""), Any, "\"json\": one object per line, for programs";
        level: LogLevel, default("\"info\""), Any,
            "\"debug\", \"info\", \"warning\" or \"error\": the minimum severity to log";
        lines_per_minute: Option<u32>, default("20"), range_or("no bound", "a number of lines", 1.0, 100_000.0),
            "lines a minute for each user and kind of event, the others are counted; 0: no bound";
        command_lines: bool, default("true"), Any, "log the command lines of processes; they may hold passwords";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Status for "[status]", "access to `memmon status`, `memmon top`, `memmon history` and `memmon replay`" {
        group: Given<String>, default("\"\""), Any, "a group that may use them besides root; \"\" for root alone";
        exempt: Given<bool>, default("false"), Any, "true: that group may also use `memmon exempt`";
        mine: bool, default("true"), Any,
            "every user may see their own processes: `memmon status --mine` and `memmon history --mine`";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct History for "[history]", "what `memmon history` and `memmon replay` show: /var/lib/memmon/history.redb" {
        days: u32, default("90"), range_or("nothing", "a number of days", 1.0, 3650.0),
            "for how long it is kept; 0: nothing is kept";
        max_mb: u32, default("16"), range("a number of megabytes", 2.0, 1024.0), "the largest size of its file";
    }
}

keys! {
    /// `[metrics]`: nothing by default.
    #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
    pub struct Metrics for "[metrics]", "for Prometheus; the unit must allow it: memmon(8), SYSTEMD; contrib/ has a dashboard" {
        textfile: Option<PathBuf>, example("\"/var/lib/prometheus/node-exporter/memmon.prom\""), Ending(".prom"),
            "for node_exporter's textfile collector";
        listen: Option<Listen>, example("\"127.0.0.1:9819\""), Any,
            "metrics at /metrics, on loopback only, or \"/run/memmon/metrics.sock\"";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Notify for "[notify]",
        "notifications of terminations besides the logs; the unit must allow it: memmon(8), SYSTEMD"
    {
        interval: Duration, default("300"), range("seconds between two messages", 1.0, DAY),
            "seconds between two messages; events in between become one message";
        mail_to: Option<List<String>>, example("[\"admin@example.com\"]"), Any,
            "recipients of mail; \"%u@example.com\": the user of each process, about their own processes only";
        mail_from: Given<String>, example("\"monitor@example.com\""), Any, "by default: memmon at this host";
        smtp_host: Given<String>, default("\"localhost\""), Any, "the mail relay";
        smtp_port: Given<u16>, default("25"), range("a port", 1.0, 65_535.0), "its port: 25, or 587 with authentication";
        smtp_starttls: Given<bool>, default("false"), Any, "true: nothing is sent unencrypted";
        smtp_auth_file: Given<Option<PathBuf>>, example("\"/etc/memmon/smtp\""), Any,
            "mode 0600: the user name on the first line, the password on the second";
        hook: Given<Option<PathBuf>>, example("\"/usr/local/lib/memmon/hook\""), Any,
            "run without a shell, with MEMMON_* in its environment and the events as JSON on its standard input; only root may \
             write to it";
        hook_user: Given<String>, default("\"nobody\""), Any, "the user that runs it";
        hook_timeout: Given<Duration>, default("10"), range("seconds that the hook may take", 0.1, HOUR),
            "seconds until it is killed";
        terminal: bool, default("false"), Any,
            "true: a line on the terminal of a process, if its user allows messages (mesg)";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Window for "[[schedule]]",
        "changes interval and limits by time of day; there may be several. The first window that contains the local \
         time applies. Outside of all windows, and for keys that a window leaves out, [thresholds] applies"
    {
        days: Option<List<String>>, example("[\"mon-fri\"]"), Any,
            "the days on which the window begins; by default every day";
        from: Given<Option<Minute>>, example("\"09:00\""), Any, "by default midnight";
        to: Given<Option<Minute>>, example("\"17:00\""), Any,
            "by default the end of the day; if before `from`, on the next day";
        check_interval: Given<Duration>, example("15"), INTERVAL,
            "seconds between two scans";
        ram_percent_threshold: Given<f64>, example("5.0"), PERCENT,
            "percent of all memory";
        ram_gb_threshold: Given<f64>, example("1.0"), GIGABYTES, "GB";
    }
}

keys! {
    #[derive(Debug)]
    pub(super) struct Rule for "[[rule]]",
        "gives some processes another limit; there may be several, and the first one that matches a process decides. All \
         keys must match, and of each list one entry: names, exe, args, users, uids, groups, cgroups, units as under \
         [whitelist]. A rule never overrides [whitelist] or [scope]"
    {
        name: Given<RuleName>, example("\"browsers\""), Any,
            "letters, digits, dots, hyphens and underscores: shown in logs and by `memmon explain`";
        .. matcher: Matcher;
        not: Option<Matcher>, example("{ users = [\"kiosk\"] }"), Any, "processes that the rule does not match";
        gb: Given<f64>, example("4.0"), GIGABYTES,
            "the limit; without gb, percent and none it is that of [thresholds]";
        percent: Given<f64>, example("25.0"), PERCENT,
            "or percent of all memory; the lower limit counts";
        none: Given<bool>, default("false"), Any, "true: no limit";
        lasting as "for": Given<Span>, example("\"10s\""), range("a time in seconds", 0.0, HOUR),
            "how long a process must be over the limit before SIGTERM; not above the hard ceiling";
        per: Given<Option<Per>>, default("\"process\""), Any,
            "or a sum, the memory held together: \"user\", \"unit\", \"cgroup\", \"session\", \"tree\", \"program\"";
        strike: Given<Strike>, default("\"largest\""), Any,
            "which process of a sum ends first; or \"newest\", \"growing\", or \"all\" at once";
        action: Given<Action>, default("\"terminate\""), Any,
            "\"warn\": only report it; \"stop\": SIGSTOP, and the end only above the hard ceiling; \"throttle\" (of a unit or \
             cgroup): its memory.high, and an end only above the ceiling";
        signal: Given<Signal>, default("\"SIGTERM\""), Any,
            "the first signal; or \"SIGINT\", \"SIGHUP\", \"SIGQUIT\", \"SIGUSR1\", \"SIGUSR2\", \"SIGXCPU\"";
        grace: Given<Duration>, example("20"), range("seconds from the first signal to SIGKILL", 0.1, HOUR),
            "as under [termination]";
        hard_ceiling: Given<Option<f64>>, example("2.0"), CEILING,
            "as under [termination]";
        prefer: Given<bool>, default("false"), Any,
            "true: these processes end before all others if the machine is short of memory ([machine])";
        notify_user: Given<NotifyUser>, example("\"both\""), Any,
            "notify users near the limit and afterwards ([notify]); or \"before\", \"after\", \"never\"";
    }
}

keys! {
    /// Conditions on a process.
    #[derive(Debug, Default)]
    pub(super) struct Matcher {
        names: Option<List<String>>, example("[\"firefox*\", \"chrom*\"]"), Any, "a rule needs at least one of these keys";
        names_file: Given<String>, example("\"names\""), Listing, "as under [whitelist]";
        users: Option<List<String>>, example("[\"alice\"]"), Any, "names, or uids as strings";
        .. lists: Lists;
    }
}
