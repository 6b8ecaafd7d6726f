//! Reloads while hogs run: what a new configuration stops, what it starts, and what continues by the old rules.

use std::{
    fs::{self, File},
    os::unix::{fs::symlink, net::UnixDatagram},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{SOURCES, config},
    status_field,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);
const KILL: Option<i32> = Some(libc::SIGKILL);

/// A user by name, which needs the name service.
const NAMED: (&str, &str) = ("whitelist.users", "[\"nobody\"]");
const DRY: (&str, &str) = ("settings.dry_run", "true");

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_reload_to_dry_run_stops_before_sigkill_and_one_from_it_begins_again() {
    const SECONDS: u64 = 5;
    const GRACE: (&str, &str) = ("termination.grace", "5");
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("ignore-term anon 40M hold");
        let daemon = Daemon::start(&config(&user, &[GRACE]), &["--source", source]);
        daemon.reported("killing", hog.pid());
        let asked = Instant::now();
        daemon.reload(&config(&user, &[GRACE, DRY]));
        let let_go = daemon.reported("let_go", hog.pid());
        assert!(asked.elapsed() < Duration::from_secs(SECONDS), "the machine is too slow for this test");
        assert_eq!(let_go["after_term"], true);
        // Its grace period passes, with scans that see the process.
        thread::sleep(Duration::from_secs(SECONDS + 1));
        daemon.scanned();
        assert!(hog.is_alive() && daemon.about("grace_over", hog.pid()).is_empty());
        let reported = daemon.about("killing", hog.pid());
        assert_eq!(reported.len(), 2, "once enforcing, once in dry run: {reported:#?}");
        assert_eq!((&reported[0]["dry_run"], &reported[1]["dry_run"]), (&false.into(), &true.into()));

        daemon.reload(&config(&user, &[GRACE]));
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, KILL);
        let seconds = record["signal_to_exit_seconds"].as_f64();
        assert!(seconds >= Some(SECONDS as f64), "with the whole grace period: {record:#}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_reload_to_enforcing_gets_ready_for_it_as_a_start_does() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("anon 40M hold");
        let daemon = Daemon::start(&config(&user, &[DRY]), &["--source", source]);
        assert_eq!(daemon.reported("killing", hog.pid())["dry_run"], true);
        let locked = || status_field(daemon.pid(), "VmLck:").unwrap();
        let score = || fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid())).unwrap();
        assert_eq!((locked().as_str(), score().trim()), ("0 kB", "0"));
        daemon.reload(&config(&user, &[]));
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        assert_ne!(locked(), "0 kB");
        // Without CAP_SYS_RESOURCE the score stays as it is, and memmon logs that.
        let printed = |event: &Value| event["what"].as_str().unwrap().starts_with("oom_score_adj stays");
        assert!(score().trim() == "-900" || daemon.every("degraded").iter().any(printed), "{}", score());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_command_lines_dry_run_is_not_a_reloads_to_undo() {
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    let daemon = Daemon::start(&config(&user, &[DRY]), &["--dry-run"]);
    daemon.reported("killing", hog.pid());
    daemon.reload(&config(&user, &[]));
    daemon.event("reloaded");
    eventually("the second line", || daemon.about("killing", hog.pid()).len() == 2);
    assert!(daemon.every("killing").iter().all(|event| event["dry_run"] == true));
    assert!(hog.is_alive());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn victims_whose_rule_only_warns_or_stops_now_get_no_sigkill() {
    const SECONDS: u64 = 6;
    const GRACE: (&str, &str) = ("termination.grace", "6");
    for source in SOURCES {
        let user = TestUser::claim();
        // Of three rules the first two are changed: the third shows that the grace is over.
        let rules = |sum: &str, stop: &str| {
            format!(
                "[{{ name = \"all\", uids = [\"{0}\"], names = [\"batch\"], per = \"user\", strike = \"all\", gb = 0.04, \
                  action = \"{sum}\" }}, {{ name = \"stop\", names = [\"stop\"], gb = 0.03, action = \"{stop}\" }}, \
                  {{ name = \"end\", names = [\"end\"], gb = 0.03 }}]",
                user.uid
            )
        };
        let hog = |name: &str, mib: u32| user.holding(&format!("rename {name} ignore-term anon {mib}M hold"));
        let batch = [hog("batch", 24), hog("batch", 24)];
        let (stop, mut end) = (hog("stop", 40), hog("end", 40));
        let before = rules("terminate", "terminate");
        let daemon = Daemon::start(&config(&user, &[GRACE, ("rule", &before)]), &["--source", source]);
        for victim in batch.iter().chain([&stop, &end]) {
            daemon.reported("killing", victim.pid());
        }
        let asked = Instant::now();
        daemon.reload(&config(&user, &[GRACE, ("rule", &rules("warn", "stop"))]));
        daemon.event("reloaded");
        assert!(asked.elapsed() < Duration::from_secs(SECONDS), "the machine is too slow for this test");
        assert_eq!(daemon.terminated(&mut end).0, KILL);
        for spared in batch.iter().chain([&stop]) {
            daemon.reported("spared", spared.pid());
            assert!(spared.is_alive());
        }
        daemon.reported("stopped", stop.pid());
        eventually("it is stopped", || stop.state() == 'T');
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn victims_finish_under_the_former_settings_unless_they_are_protected_now() {
    const GRACE: (&str, &str) = ("termination.grace", "5");
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("rename held ignore-term anon 40M hold");
        let spared = user.hog("rename spared ignore-term anon 40M hold");
        let daemon = Daemon::start(&config(&user, &[GRACE]), &["--source", source]);
        daemon.reported("killing", hog.pid());
        daemon.reported("killing", spared.pid());
        let changes = [
            ("termination.grace", "600"),
            ("thresholds.ram_gb_threshold", "0.5"),
            ("whitelist.names", "[\"spared\"]"),
        ];
        daemon.reload(&config(&user, &changes));
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, KILL, "40 MB were over the limit when its termination began");
        assert_eq!(record["limit_bytes"], crate::common::log::LIMIT);
        assert_eq!(daemon.reported("now_protected", spared.pid())["protection"]["rule"], "name");
        assert!(spared.is_alive());
        // A new process is judged by the new configuration.
        let small = user.hog("anon 60M hold");
        small.begun("hold");
        daemon.scanned();
        daemon.never_mentioned(small.pid());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_configuration_that_is_no_file_fails_a_reload_and_ends_no_reloading() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[DRY]), &["--source", "proc"]);
    let (place, aside) = (daemon.dir().join("config.toml"), daemon.dir().join("aside"));
    fs::rename(&place, &aside).unwrap();
    let refused = |count: usize, why: &str| {
        daemon.signal(Signal::SIGHUP);
        eventually(why, || daemon.every("reload_failed").len() == count);
        let error = daemon.every("reload_failed").pop().unwrap()["error"].to_string();
        assert!(error.contains(why), "{error}");
    };
    mkfifo(&place, Mode::S_IRWXU).unwrap();
    refused(1, "it is a FIFO, not a regular file");
    fs::remove_file(&place).unwrap();
    fs::create_dir(&place).unwrap();
    refused(2, "it is a directory, not a regular file");
    fs::remove_dir(&place).unwrap();
    symlink("/dev/zero", &place).unwrap();
    refused(3, "it is a device, not a regular file");
    fs::remove_file(&place).unwrap();
    File::create(&place).unwrap().set_len(1 << 40).unwrap();
    refused(4, "it has more than 256KB");
    fs::remove_file(&place).unwrap();
    symlink("config.toml", &place).unwrap();
    refused(5, "Too many levels of symbolic links");
    fs::remove_file(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.event("reloaded");
    daemon.stop();
}

/// A name service that does not answer, in the daemon's mounts only: the file of users is a FIFO without a writer.
struct Silent<'a>(&'a Daemon, Option<File>);

impl<'a> Silent<'a> {
    fn of(daemon: &'a Daemon) -> Self {
        let silent = Self(daemon, None);
        mkfifo(&silent.place(), Mode::S_IRWXU).unwrap();
        silent.succeeds("mount", &["--bind", silent.place().to_str().unwrap(), "/etc/passwd"]);
        silent
    }

    /// Answers the reader that waits, if there is one.
    fn speaks(&mut self) {
        self.succeeds("umount", &["--lazy", "/etc/passwd"]);
        // Both ends are open, so no reader waits in open(2), now or later.
        self.1 = Some(File::options().read(true).write(true).open(self.place()).unwrap());
        fs::remove_file(self.place()).unwrap();
    }

    fn place(&self) -> PathBuf {
        self.0.dir().join("passwd")
    }

    fn succeeds(&self, program: &str, arguments: &[&str]) {
        assert!(self.0.beside(program).args(arguments).status().unwrap().success(), "{program}");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_name_service_that_does_not_answer_holds_up_the_reload_and_nothing_else() {
    for source in SOURCES {
        let user = TestUser::claim();
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let file = format!("{log:?}");
        let with = |changes: &[_]| config(&user, &[changes, &[("settings.log_file", &*file)]].concat());
        let daemon = Daemon::start(&with(&[]), &["--source", source]);
        // From here on the log has the name of this user.
        assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
        let mut silent = Silent::of(&daemon);
        fs::rename(&log, folder.path().join("log.1")).unwrap();
        // As an older logrotate snippet does: this signal reloads nothing.
        daemon.signal(Signal::SIGHUP);
        // Signals that come before it was handled would be one with it.
        daemon.line("the reason", |line| line.contains("so the configuration was not reloaded"));
        eventually("the log by its name", || log.exists());
        daemon.reload(&with(&[NAMED]));
        // Signals are not delayed, at the crossing or at the end of the grace period.
        for _ in 0..2 {
            assert_eq!(daemon.terminated(&mut user.hog("ignore-term anon 40M hold")).0, KILL);
            let late = |event: &Value| event["what"].as_str().unwrap().contains("does not answer");
            eventually("a report of it", || daemon.every("degraded").iter().any(late));
        }
        assert!(daemon.every("reloaded").is_empty());

        // However many reloads are requested meanwhile, one more is done.
        daemon.reload(&with(&[NAMED, DRY]));
        daemon.scanned();
        daemon.signal(Signal::SIGHUP);
        daemon.scanned();
        silent.speaks();
        eventually("both reloads", || daemon.every("reloaded").len() == 2);
        daemon.scanned();
        assert_eq!(daemon.every("reloaded").len(), 2);
        let spared = user.hog("anon 40M hold");
        assert_eq!(daemon.reported("killing", spared.pid())["dry_run"], true, "the last one counts");

        let _silent_again = Silent::of(&daemon);
        daemon.reload(&with(&[NAMED]));
        daemon.scanned();
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn the_service_manager_learns_of_the_begin_and_the_end_of_a_reload() {
    let user = TestUser::claim();
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    let receives = |patience| {
        manager.set_read_timeout(Some(patience)).unwrap();
        let mut text = [0; 256];
        let length = manager.recv(&mut text).ok()?;
        Some(String::from_utf8(text[..length].to_vec()).unwrap())
    };
    let next = || receives(crate::common::PATIENCE).unwrap();
    let reloading = || {
        let printed = next();
        let began =
            printed.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{printed}"));
        assert!(began.trim_end().parse::<u64>().unwrap() > 0, "{printed}");
    };
    let daemon = Daemon::spawn_prepared(&config(&user, &[]), &["--source", "proc"], |command| {
        command.env("NOTIFY_SOCKET", &place);
    });
    assert_eq!(next(), "READY=1\n");
    let mut silent = Silent::of(&daemon);
    daemon.reload(&config(&user, &[NAMED]));
    reloading();
    assert_eq!(receives(Duration::from_millis(300)), None, "it is on its way");
    silent.speaks();
    assert_eq!(next(), "READY=1\n");
    daemon.reload(&config(&user, &[("thresholds.chek_interval", "1")]));
    reloading();
    assert_eq!(next(), "READY=1\n");
    daemon.event("reload_failed");
    daemon.stop();
    assert_eq!(next(), "STOPPING=1\n");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_fragment_that_is_added_is_in_force_after_a_reload_and_a_broken_one_changes_nothing() {
    let user = TestUser::claim();
    let config = config(&user, &[]);
    let daemon = Daemon::start(&config, &["--source", "proc"]);
    assert!(daemon.every("started")[0].get("fragments").is_none());
    daemon.write_fragment("10-free.toml", "[[rule]]\nname = 'free'\nnames = ['free-*']\nnone = true\n");
    daemon.write_fragment("10-free.toml~", "this is no TOML");
    daemon.signal(Signal::SIGHUP);
    eventually("the reload", || !daemon.every("reloaded").is_empty());
    let fragment = |name: &str| daemon.dir().join("conf.d").join(name).display().to_string();
    assert_eq!(daemon.every("reloaded")[0]["fragments"], serde_json::json!([fragment("10-free.toml")]));
    assert_eq!(daemon.status()["config"]["fragments"], serde_json::json!([fragment("10-free.toml")]));
    let mut free = user.hog("rename free-1 anon 40M hold");
    free.begun("hold");
    assert_eq!(
        daemon.terminated(&mut user.hog("anon 40M hold")).0,
        TERM,
        "the thresholds hold for all others"
    );

    // Its key is set by the main file already, and it has a mistake, too.
    daemon.write_fragment("20-broken.toml", "[termination]\ngrace = 1\nrepeat_limt = 3\n");
    daemon.signal(Signal::SIGHUP);
    eventually("the error", || !daemon.every("reload_failed").is_empty());
    let error = daemon.every("reload_failed")[0]["error"].as_str().unwrap().to_owned();
    for expected in [
        format!("{}:2:1", fragment("20-broken.toml")),
        format!("{}:3:1", fragment("20-broken.toml")),
        format!("{} has it in line", daemon.dir().join("config.toml").display()),
    ] {
        assert!(error.contains(&expected), "{expected}: {error}");
    }
    daemon.scanned();
    assert!(free.is_alive(), "the rule of the fragment stays in force");

    fs::remove_file(fragment("20-broken.toml")).unwrap();
    fs::remove_file(fragment("10-free.toml")).unwrap();
    daemon.signal(Signal::SIGHUP);
    assert_eq!(daemon.terminated(&mut free).0, TERM, "its rule is gone");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn what_only_a_start_applies_is_named_until_it_is_as_before() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[DRY]), &["--source", "proc"]);
    let is_named = |changes: &[_], keys: Option<&str>| {
        daemon.reload(&config(&user, &[changes, &[DRY]].concat()));
        let text = keys.map(|keys| format!("what has changed in {keys}: "));
        // An answer may be some moments old.
        eventually(keys.unwrap_or("nothing"), || {
            let degraded = daemon.status()["degraded"].to_string();
            text.as_ref().map_or(!degraded.contains("a restart is needed"), |text| degraded.contains(text))
        });
        let printed =
            |event: &Value| text.as_ref().is_some_and(|text| event["what"].to_string().contains(text));
        eventually("the log line", || text.is_none() || daemon.every("degraded").iter().any(printed));
    };
    let changes =
        [("kernel.instant", "false"), ("kernel.max_processes", "9999"), ("kernel.realtime", "false")];
    is_named(&changes, Some("kernel.max_processes, kernel.instant"));
    is_named(&[("kernel.gear", "\"always\"")], Some("kernel.gear"));
    // The option of the command line is in force in place of this key, before and after.
    is_named(&[("kernel.source", "\"auto\"")], None);
    daemon.stop();
}
