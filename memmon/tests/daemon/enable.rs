//! An administrator decides whether memmon enforces: `memmon enable`, `memmon disable`, and a run that waits for it.

use std::{path::Path, process::Output};

use nix::sys::signal::Signal;

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{SOURCES, config},
};

fn memmon(daemon: &Daemon, arguments: &[&str]) -> (bool, String) {
    let file = daemon.dir().join("config.toml");
    let mut command = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
    command.args(arguments);
    if arguments[0] != "status" {
        command.arg("--config").arg(file);
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn it_terminates_nothing_before_enable_and_after_disable() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("anon 40M hold");
        // In /tmp everybody could write such a file, and /var/lib is the daemon's own.
        let folder = tempfile::tempdir_in("/usr/local").unwrap();
        let arguments = ["--source", source, "--dry-run-until-enabled"];
        let daemon = Daemon::start_in(folder, &config(&user, &[]), &arguments);
        assert!(daemon.started().contains("until `memmon enable` is run"), "{}", daemon.started());
        assert_eq!(daemon.reported("killing", hog.pid())["dry_run"], true);
        let (_, status) = memmon(&daemon, &["status"]);
        assert!(status.contains("  mode       dry run until `memmon enable`"), "{status}");

        // Nobody can be asked here.
        let (agreed, printed) = memmon(&daemon, &["enable"]);
        assert!(!agreed && printed.contains("nothing was changed"), "{printed}");
        let shown = format!("PID={}, Name=hog", hog.pid());
        assert!(printed.contains(&shown) && printed.contains("would be terminated"), "{printed}");
        assert!(!Path::new(&daemon.dir()).join("enabled").exists());
        daemon.signal(Signal::SIGHUP);
        daemon.event("reloaded");
        assert!(hog.is_alive());

        let (agreed, printed) = memmon(&daemon, &["enable", "--yes"]);
        assert!(agreed && printed.contains(&shown), "{printed}");
        daemon.signal(Signal::SIGHUP);
        daemon.terminated(&mut hog);
        let (_, status) = memmon(&daemon, &["status"]);
        assert!(status.contains("  mode       enforcing\n"), "{status}");

        let (done, printed) = memmon(&daemon, &["disable"]);
        assert!(done && printed.contains("is no longer enabled"), "{printed}");
        daemon.signal(Signal::SIGHUP);
        // The first one was to dry run, too.
        eventually("the third reload", || daemon.every("reloaded").len() == 3);
        let later = user.hog("anon 40M hold");
        assert_eq!(daemon.reported("killing", later.pid())["dry_run"], true);
        daemon.stop();
    }
}

/// An administrator agrees to that, too: rules end processes below the limit of all others, alone or together.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_question_is_preceded_by_what_rules_would_end() {
    let user = TestUser::claim();
    let rules = format!(
        "[{{ name = \"tight\", names = [\"hog\"], gb = 0.02 }}, \
          {{ name = \"together\", uids = [\"{}\"], per = \"user\", gb = 0.04 }}]",
        user.uid
    );
    let mut hogs = [user.hog("anon 24M hold"), user.hog("anon 24M hold")];
    let limits = [("rule", &*rules), ("thresholds.ram_gb_threshold", "1.0")];
    let daemon = Daemon::start(&config(&user, &limits), &["--source", "proc", "--dry-run-until-enabled"]);
    let (_, printed) = memmon(&daemon, &["enable"]);
    for hog in &mut hogs {
        let line = printed.lines().find(|line| line.contains(&format!("PID={}, Name=hog", hog.pid())));
        assert!(line.is_some_and(|line| line.contains("would be terminated (rule tight, ")), "{printed}");
    }
    assert!(printed.contains("now:\n  rule together: user "), "{printed}");
    let mut check = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
    let checked = check.args(["check", "--json"]).arg(daemon.dir().join("config.toml")).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let sum = &report["running"]["sums"][0];
    assert_eq!((&sum["rule_name"], &sum["state"]), (&"together".into(), &"over".into()), "{report}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_configuration_in_dry_run_is_not_enabled_and_a_file_of_others_enables_nothing() {
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    // Every user who may write to /tmp could have put it there.
    let daemon = Daemon::start(&config(&user, &[]), &["--source", "proc", "--dry-run-until-enabled"]);
    std::fs::write(daemon.dir().join("enabled"), "").unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.line("the warning", |line| line.contains("the file that enables it is not trusted"));
    daemon.scanned();
    assert!(hog.is_alive());
    assert_eq!(daemon.reported("killing", hog.pid())["dry_run"], true);
    let (agreed, printed) = memmon(&daemon, &["enable", "--yes"]);
    assert!(!agreed && printed.contains("cannot be written"), "{printed}");

    daemon.edit(&config(&user, &[("settings.dry_run", "true")]));
    let (agreed, printed) = memmon(&daemon, &["enable", "--yes"]);
    assert!(!agreed && printed.contains("set it to false, then enable memmon again"), "{printed}");
    assert!(hog.is_alive());
    daemon.stop();
}
