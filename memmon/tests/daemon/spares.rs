//! Processes that memmon never touches, however much memory they have. In each test an unprotected hog is terminated, which
//! shows that the daemon enforces.

use std::fs;

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    is_dead,
    log::{LIMIT, SOURCES, config},
    status_field,
};

const TERM: Option<i32> = Some(libc::SIGTERM);

fn holding(hogs: &[Hog]) {
    for hog in hogs {
        hog.begun("hold");
        let kib =
            status_field(hog.pid(), "VmRSS:").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        assert!(kib.unwrap() << 10 > LIMIT, "it is over");
    }
}

/// Checks that after whole scans and the end of an unprotected hog, the `spared` processes live and the log has these `kinds` of
/// events about each, once.
fn left_alone(daemon: &Daemon, user: &TestUser, spared: &[Hog], kinds: &[&str]) {
    let mut control = user.hog("anon 40M hold");
    assert_eq!(daemon.terminated(&mut control).0, TERM);
    daemon.scanned();
    for hog in spared {
        daemon.mentioned_once_each(hog.pid(), kinds);
        assert!(hog.is_alive());
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn whitelisted_by_pid_comm_glob_and_argv0() {
    for source in SOURCES {
        let user = TestUser::claim();
        let spared = [
            user.hog("rename a-pid anon 40M hold"),
            user.hog("rename by-comm anon 40M hold"),
            user.hog("rename by-glob-7 anon 40M hold"),
            user.hog("exec by-argv0 anon 40M hold"),
        ];
        holding(&spared);
        let similar =
            ["by-comm-too", "by-glob", "by-argv"].map(|name| format!("rename {name} anon 40M hold"));
        let pids = format!("[{}]", spared[0].pid());
        let whitelist =
            [("whitelist.pids", &pids[..]), ("whitelist.names", r#"["by-comm", "by-glob-*", "by-argv0"]"#)];
        let daemon = Daemon::start(&config(&user, &whitelist), &["--source", source]);
        left_alone(&daemon, &user, &spared, &["over_but_protected"]);
        for script in &similar {
            assert_eq!(daemon.terminated(&mut user.hog(script)).0, TERM, "no name matches in part: {script}");
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn whitelisted_by_the_name_of_its_executable_or_by_user_until_a_reload() {
    for source in SOURCES {
        let user = TestUser::claim();
        let users = format!("[\"{}\"]", user.uid);
        for list in [("whitelist.names", r#"["hog"]"#), ("whitelist.users", &*users)] {
            let mut hog = user.holding("exec else rename other anon 40M hold");
            let daemon = Daemon::start(&config(&user, &[list]), &["--source", source]);
            daemon.scanned();
            daemon.mentioned_once_each(hog.pid(), &["over_but_protected"]);
            daemon.reload(&config(&user, &[]));
            assert_eq!(daemon.terminated(&mut hog).0, TERM);
            daemon.stop();
        }
    }
}

#[test]
#[ignore = "kernel: needs root, kernel BTF and CAP_SYS_RESOURCE"]
fn spared_by_the_oom_killer_too() {
    for source in SOURCES {
        let user = TestUser::claim();
        let spared = [user.hog_after("oom-adj -1000", "anon 40M hold")];
        holding(&spared);
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        left_alone(&daemon, &user, &spared, &["over_but_protected"]);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn out_of_scope() {
    for source in SOURCES {
        let (user, stranger) = (TestUser::claim(), TestUser::claim());
        let spared = [
            stranger.hog("anon 40M hold"),
            // A part of a user's name does not match.
            Hog::start(&format!("uid {}:{} anon 40M hold", user.uid, stranger.uid)),
            Hog::start(&format!("uid {}:{} anon 40M hold", stranger.uid, user.uid)),
        ];
        holding(&spared);
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        left_alone(&daemon, &user, &spared, &[]);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_small_child_of_a_hog() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("fork anon 5M hold end anon 40M hold");
        let child = hog.child("fork");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        eventually("the end of the child, which is the hog's own doing", || is_dead(child));
        daemon.scanned();
        daemon.never_mentioned(child);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn dry_run_is_reported_once_and_again_after_a_fall() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("rename dry anon 40M wait-term dontneed wait-term anon 45M hold");
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source, "--dry-run"]);
        let pid = hog.pid();
        let times = || daemon.about("killing", pid).len();

        let first = daemon.reported("killing", pid);
        daemon.scanned();
        assert_eq!(times(), 1, "once while it stays over");
        hog.term();
        hog.begun_again("wait-term");
        daemon.scanned();
        hog.term();
        hog.begun("hold");
        eventually("the second line", || times() == 2);
        daemon.scanned();
        assert_eq!(times(), 2);

        assert_eq!(first["dry_run"], true);
        let words = first["message"].as_str().unwrap();
        let beginning = format!("[DRY RUN] Killing process: PID={pid}, Name=dry, User={}, RAM=0.0", user.uid);
        assert!(words.starts_with(&beginning), "{words}");
        let mut kinds = daemon.events();
        kinds.retain(|event| event["pid"] == pid && event["event"] != "approaching");
        assert_eq!(kinds.len(), 2, "there are other events about it: {kinds:#?}");
        assert!(daemon.every("scan_complete").iter().all(|event| event["killed"] == 0));
        hog.release();
        assert!(hog.ended(crate::common::PATIENCE).success());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_hostile_name_stays_inside_its_line() {
    let name = r"a\nb\x1b[31m\x07\xff";
    for format in ["text", "json"] {
        for source in SOURCES {
            let user = TestUser::claim();
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("log");
            let mut hog = user.hog(&format!("rename {name} anon 40M hold"));
            hog.begun("hold");
            assert_eq!(fs::read(format!("/proc/{}/comm", hog.pid())).unwrap(), b"a\nb\x1b[31m\x07\xff\n");
            let changes =
                [("log.format", &format!("{format:?}")[..]), ("settings.log_file", &format!("{file:?}"))];
            let daemon = Daemon::start(&config(&user, &changes), &["--source", source]);
            assert_eq!(hog.ended_by(crate::common::PATIENCE), TERM);
            daemon.line("the record", |line| line.contains("Terminated: "));
            let mut printed = daemon.stop();
            let written = fs::read_to_string(&file).unwrap();
            printed.extend(written.lines().map(str::to_owned));
            assert!(printed.iter().all(|line| !line.contains(char::is_control)), "{printed:#?}");
            let about = |line: &&String| line.contains(&format!("PID={},", hog.pid()));
            // `Killing` and `Terminated`, on the console and in the file.
            let reported =
                |word: &str| printed.iter().filter(about).filter(|line| line.contains(word)).count();
            assert_eq!((reported("Killing process: "), reported("Terminated: ")), (2, 2), "{printed:#?}");
            let shown = r"Name=a\nb\u{1b}[31m\u{7}\xff, User=";
            let shown = if format == "json" { shown.replace('\\', r"\\") } else { shown.to_owned() };
            assert!(printed.iter().filter(about).all(|line| line.contains(&shown)), "{printed:#?}");
        }
    }
}
