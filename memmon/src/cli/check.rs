//! `memmon check`: what a configuration means, what in it may not be meant, and the processes that are over its limits
//! right now.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use jiff::Zoned;
use serde_json::{Value, json};

use super::{
    exit::Exit,
    matches,
    over::{self, Running},
};
use crate::{
    config::{self, ConfigError, Loaded, Settings, Users, Warning},
    model::Escaped,
    policy::Rules,
};

/// Check a configuration: print the effective settings, and warnings about likely mistakes
///
/// Exit codes: 0 valid (with or without warnings), 2 invalid.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The file [default: /etc/memmon/config.toml if it exists, else the built-in defaults]
    pub path: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The parts of the check that depend on the machine.
pub(super) struct Machine<'a> {
    /// Requirements of the settings that this machine does not have or allow.
    pub preflight: &'a dyn Fn(&Settings) -> Vec<Warning>,
    /// The processes that are over a limit of these rules.
    pub running: &'a dyn Fn(&Rules) -> anyhow::Result<Running>,
    /// The service that uses this configuration is in dry run until `memmon enable`.
    pub awaits_enable: bool,
}

/// Checks a configuration, with the settings in force at `now`, and its effect on this `machine`; if that cannot be read,
/// the settings are checked all the same. Problems go to `err`, everything else and all JSON to `out`.
///
/// # Errors
/// Those of writing.
pub(super) fn check(
    args: &Args,
    users: &dyn Users,
    now: &Zoned,
    machine: &Machine<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match config::load(args.path.as_deref(), users) {
        Ok(mut loaded) => {
            loaded.warnings.extend((machine.preflight)(&loaded.settings));
            let mut in_force = loaded.settings.clone();
            in_force.follow(now);
            let rules = in_force.rules;
            let running = (machine.running)(&rules);
            if args.json {
                writeln!(out, "{}", as_json(&loaded, &rules, &running, machine.awaits_enable))?;
            } else {
                write_report(&loaded, &rules, &running, users, out)?;
                if machine.awaits_enable {
                    writeln!(
                        out,
                        "\nThe service is in dry run: it terminates nothing until `memmon enable` is run."
                    )?;
                }
            }
            Ok(Exit::Ok)
        }
        Err(error) => {
            if args.json {
                writeln!(out, "{}", error_as_json(&error))?;
            } else {
                writeln!(err, "{error}")?;
            }
            Ok(Exit::BadConfig)
        }
    }
}

fn write_report(
    loaded: &Loaded,
    rules: &Rules,
    running: &anyhow::Result<Running>,
    users: &dyn Users,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Loaded { settings, warnings, origin, fragments, digest: _ } = loaded;
    match origin {
        Some(file) => writeln!(out, "# {}", Escaped(file.as_os_str().as_bytes()))?,
        None => writeln!(out, "# built-in defaults, as there is no {}", config::DEFAULT_PATH)?,
    }
    for fragment in fragments {
        writeln!(out, "# {}", escaped(fragment))?;
    }
    config::write_settings(settings, users, out)?;
    if !warnings.is_empty() {
        writeln!(out, "\nWarnings:")?;
    }
    for warning in warnings {
        writeln!(out, "  {warning}")?;
    }
    writeln!(out)?;
    match running {
        Ok(running) => {
            over::write(rules, running, users, out)?;
            over::write_sums(rules, running, users, out)?;
            matches::write(&running.rules, users, out)
        }
        Err(error) => {
            writeln!(
                out,
                "What is running now could not be read: {}",
                Escaped(super::causes::whole(error).as_bytes())
            )
        }
    }
}

fn as_json(loaded: &Loaded, rules: &Rules, running: &anyhow::Result<Running>, awaits_enable: bool) -> Value {
    let Loaded { settings, warnings, origin, fragments, digest: _ } = loaded;
    let fragments: Vec<_> = fragments.iter().map(|path| escaped(path)).collect();
    let file = origin.as_deref().map(escaped);
    let warnings: Vec<_> = warnings
        .iter()
        .map(|warning| json!({ "file": warning.file.as_deref().map(escaped), "line": warning.line, "text": warning.concern.to_string(), "concern": warning.concern }))
        .collect();
    let running = match running {
        Ok(running) => {
            let (rule, limit) = rules.limit(&running.memory);
            let other = over::as_json(&running.otherwise(rules));
            json!({ "limit": limit, "rule": rule, "memory": running.memory, "over": running.over(rules), "sums": over::sums_as_json(running), "other_measure": other, "rules": matches::as_json(&running.rules) })
        }
        Err(error) => json!({ "error": super::causes::whole(error) }),
    };
    json!({ "ok": true, "file": file, "fragments": fragments, "settings": settings, "warnings": warnings, "running": running, "awaits_enable": awaits_enable })
}

fn error_as_json(error: &ConfigError) -> Value {
    match error {
        ConfigError::Unreadable { file, error } => {
            json!({ "ok": false, "file": escaped(file), "error": error.to_string() })
        }
        ConfigError::NoAnswer { file, user, error } => {
            json!({ "ok": false, "file": escaped(file), "user": user, "error": error.to_string() })
        }
        ConfigError::Invalid { file, problems, more } => {
            json!({ "ok": false, "file": escaped(file), "problems": problems, "more": more })
        }
    }
}

fn escaped(path: &Path) -> String {
    Escaped(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        config::FakeUsers,
        model::{Breach, Bytes, Fact, Name, Names, Pid, Process, Protection, SystemMemory, Uid, Verdict},
    };

    const USERS: FakeUsers = FakeUsers(&[("root", 0), ("alice", 1000)]);
    const GB: u64 = Bytes::GIB;

    fn process(pid: u32, comm: &str, uid: u32, rss: u64) -> Process {
        Process {
            parent: Pid(1),
            rss: Bytes(rss),
            real_uid: Uid(uid),
            effective_uid: Uid(uid),
            names: Names { comm: Name::from(comm), exe: Fact::Absent, argv0: Fact::Absent, script: None },
            cgroup: Fact::Known(Name::from("/")),
            ..crate::model::testing::process(pid, 7)
        }
    }

    fn machine(rules: &Rules) -> anyhow::Result<Running> {
        let memory = SystemMemory { total: Bytes(16 * GB), available: Bytes(4 * GB) };
        let hog = process(12_345, "chr\u{1b}me", 1000, 7 * GB / 2);
        let (rule, limit) = rules.limit(&memory);
        let breach = Breach { rule, limit, rss: hog.rss, percent: 21.875, by: None };
        let judged = vec![
            (process(9, "small", 47_001, GB / 100), Verdict::Within),
            (hog, Verdict::Terminate(breach)),
            (process(1, "systemd", 0, 4 * GB), Verdict::Protected(Protection::Init)),
        ];
        Ok(Running { memory, judged, sums: vec![], rules: vec![] })
    }

    /// The output of `memmon check` on its two streams for a file with this `text`, and its exit code.
    fn checked(text: &str, json: bool) -> (String, String, Exit) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let machine = Machine { preflight: &|_| vec![], running: &machine, awaits_enable: false };
        let exit =
            check(&Args { path: Some(file), json }, &USERS, &noon(), &machine, &mut out, &mut err).unwrap();
        let text = |stream| {
            String::from_utf8(stream).unwrap().replace(&*directory.path().to_string_lossy(), "/etc/memmon")
        };
        (text(out), text(err), exit)
    }

    fn noon() -> Zoned {
        "2025-10-03T12:00[UTC]".parse().unwrap()
    }

    #[test]
    fn the_effective_settings_the_warnings_and_the_processes_over_a_limit() {
        let text = "[thresholds]\nram_gb_threshold = 0.1\n[whitelist]\nnames = ['docker']\nusers = ['root', '47001']\n\
            [settings]\nlog_file = ''\n[scope]\nusers = ['alice']\nuids = ['5000-6000']";
        let (out, err, exit) = checked(text, false);
        assert_eq!((&*err, exit), ("", Exit::Ok));
        insta::assert_snapshot!(out, @r#"
        # /etc/memmon/config.toml

        [thresholds]
        ram_percent_threshold = 10
        ram_gb_threshold      = 0.1
        check_interval        = 30
        warn_at_percent       = 80
        measure               = "charged"

        [whitelist]
        pids                  = [1]
        names                 = ["docker"]
        users                 = ["root", "47001"]
        protect_root          = false
        honour_oom_score_adj  = true

        [settings]
        dry_run               = false
        log_file              = ""
        enable_syslog         = true

        [scope]
        uids                  = ["5000-6000", "1000"]

        # no [machine]: memmon does not ask whether the machine is short of memory

        [kernel]
        source                = "auto"
        gear                  = "auto"
        instant               = true
        realtime              = true
        # max_processes: capacity of the kernel map; by default four times as many as run at the start, 8192 to 65536

        [termination]
        grace                 = 5
        repeat_limit          = 5
        repeat_window         = 600
        repeat_backoff        = 60
        reclaim               = true
        hard_ceiling          = 2
        reserve_percent       = 3

        [log]
        format                = "text"
        level                 = "info"
        lines_per_minute      = 20
        command_lines         = true

        [status]
        group                 = ""
        exempt                = false
        mine                  = true

        [history]
        days                  = 90
        max_mb                = 16

        [metrics]
        textfile              = ""
        listen                = ""

        [notify]
        interval              = 300
        terminal              = false

        Warnings:
          line 4: "docker" matches only what is called exactly that; its daemon is "dockerd"
          line 4: whitelist.names takes the place of the default list, so that these are no longer protected: systemd, sshd; add those that this machine needs
          line 5: root is listed but not protected, as in v1: set protect_root = true to protect it

        On this machine, with 16.00GB of memory, 10% is 1.60GB; ram_gb_threshold is 0.10GB. The lower one is the limit.
        Over the limit of 0.10GB now (ram_gb_threshold, 16.00GB in all):
          PID=1, Name=systemd, User=root, RAM=4.00GB (25.00%): protected
          PID=12345, Name=chr\u{1b}me, User=alice, RAM=3.50GB (21.88%): would be terminated
        With measure = "rss", nothing of this would change.
        "#);
    }

    #[test]
    fn a_wrong_configuration_is_reported_on_the_error_stream_and_by_the_exit_code() {
        let (out, err, exit) = checked("[log]\nlevle = 'info'", false);
        assert_eq!((&*out, exit), ("", Exit::BadConfig));
        insta::assert_snapshot!(err, @"
        error: unknown key `levle` in [log]
         --> /etc/memmon/config.toml:2:1
          |
        2 | levle = 'info'
          | ^^^^^ did you mean `level`?
        ");
    }

    #[test]
    fn a_program_reads_one_object() {
        let (out, err, exit) = checked("whitelist.names = ['docker']\nsettings.log_file = ''", true);
        assert_eq!((&*err, exit, out.lines().count()), ("", Exit::Ok, 1));
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["file"], "/etc/memmon/config.toml");
        assert_eq!(report["settings"]["check_interval"], 30.0);
        assert_eq!(report["settings"]["rules"]["whitelist"]["names"], json!(["docker"]));
        assert_eq!(report["warnings"][0]["line"], 1);
        assert_eq!(report["warnings"][0]["concern"]["warning"], "other_name");
        assert_eq!(report["running"]["over"][1][0]["id"]["pid"], 12_345);
        assert_eq!(report["running"]["sums"], json!([]));

        let (out, _, exit) = checked("[log]\nlevle = 'info'", true);
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((exit, &report["ok"]), (Exit::BadConfig, &json!(false)));
        assert_eq!(report["problems"][0]["help"], "did you mean `level`?");
        assert_eq!(
            (&report["problems"][0]["line"], &report["problems"][0]["column"]),
            (&json!(2), &json!(1))
        );
    }

    #[test]
    fn settings_are_checked_even_where_the_machine_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let args = Args { path: Some(directory.path().join("config.toml")), json: false };
        fs::write(args.path.as_ref().unwrap(), "settings.log_file = ''").unwrap();
        let mut out = Vec::new();
        let unreadable = |_: &Rules| Err(anyhow::anyhow!("no /proc"));
        let machine = Machine { preflight: &|_| vec![], running: &unreadable, awaits_enable: true };
        assert_eq!(check(&args, &USERS, &noon(), &machine, &mut out, &mut io::sink()).unwrap(), Exit::Ok);
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.ends_with(
                "What is running now could not be read: no /proc\n\n\
                 The service is in dry run: it terminates nothing until `memmon enable` is run.\n"
            ),
            "{out}"
        );
    }
}
