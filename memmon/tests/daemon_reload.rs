//! Another configuration while hogs are about: what it stops, what it begins, and what goes on by the rules of before.

mod support;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    TestUser,
    daemon::Daemon,
    eventually,
    said::{SOURCES, config},
    status_field,
};

const TERM: Option<i32> = Some(libc::SIGTERM);
const KILL: Option<i32> = Some(libc::SIGKILL);

const DRY: (&str, &str) = ("settings.dry_run", "true");

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_reload_to_dry_run_stops_before_sigkill_and_one_from_it_begins_anew() {
    const SECONDS: u64 = 5;
    const GRACE: (&str, &str) = ("termination.grace", "5");
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("ignore-term anon 40M hold");
        let daemon = Daemon::start(&config(&user, &[GRACE]), &["--source", source]);
        daemon.told("killing", hog.pid());
        let asked = Instant::now();
        daemon.reload(&config(&user, &[GRACE, DRY]));
        let let_go = daemon.told("let_go", hog.pid());
        assert!(asked.elapsed() < Duration::from_secs(SECONDS), "the machine is too slow for this test");
        assert_eq!(let_go["after_term"], true);
        // Its grace goes by, with scans that look at it.
        thread::sleep(Duration::from_secs(SECONDS + 1));
        daemon.scanned();
        assert!(hog.is_alive() && daemon.about("grace_over", hog.pid()).is_empty());
        let told = daemon.about("killing", hog.pid());
        assert_eq!(told.len(), 2, "once in earnest, once not: {told:#?}");
        assert_eq!((&told[0]["dry_run"], &told[1]["dry_run"]), (&false.into(), &true.into()));

        daemon.reload(&config(&user, &[GRACE]));
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, KILL);
        let seconds = record["signal_to_exit_seconds"].as_f64();
        assert!(seconds >= Some(SECONDS as f64), "with all of a grace: {record:#}");
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
        assert_eq!(daemon.told("killing", hog.pid())["dry_run"], true);
        let locked = || status_field(daemon.pid(), "VmLck:").unwrap();
        let score = || fs::read_to_string(format!("/proc/{}/oom_score_adj", daemon.pid())).unwrap();
        assert_eq!((locked().as_str(), score().trim()), ("0 kB", "0"));
        daemon.reload(&config(&user, &[]));
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        assert_ne!(locked(), "0 kB");
        // Without CAP_SYS_RESOURCE it stays, and that is said.
        let said = |event: &Value| event["what"].as_str().unwrap().starts_with("oom_score_adj stays");
        assert!(score().trim() == "-900" || daemon.every("degraded").iter().any(said), "{}", score());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_command_lines_dry_run_is_not_a_reloads_to_undo() {
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    let daemon = Daemon::start(&config(&user, &[DRY]), &["--dry-run"]);
    daemon.told("killing", hog.pid());
    daemon.reload(&config(&user, &[]));
    daemon.event("reloaded");
    eventually("the second line", || daemon.about("killing", hog.pid()).len() == 2);
    assert!(daemon.every("killing").iter().all(|event| event["dry_run"] == true));
    assert!(hog.is_alive());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn victims_under_way_finish_under_what_condemned_them_but_for_who_is_protected_now() {
    const GRACE: (&str, &str) = ("termination.grace", "5");
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("rename held ignore-term anon 40M hold");
        let spared = user.hog("rename spared ignore-term anon 40M hold");
        let daemon = Daemon::start(&config(&user, &[GRACE]), &["--source", source]);
        daemon.told("killing", hog.pid());
        daemon.told("killing", spared.pid());
        let changes = [
            ("termination.grace", "600"),
            ("thresholds.ram_gb_threshold", "0.5"),
            ("whitelist.names", "[\"spared\"]"),
        ];
        daemon.reload(&config(&user, &changes));
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, KILL, "40 MB were too much when it was condemned");
        assert_eq!(record["limit_bytes"], support::said::LIMIT);
        assert_eq!(daemon.told("now_protected", spared.pid())["protection"]["rule"], "name");
        assert!(spared.is_alive());
        // Whoever comes now is judged by what is in force now.
        let small = user.hog("anon 60M hold");
        small.begun("hold");
        daemon.scanned();
        daemon.never_mentioned(small.pid());
        daemon.stop();
    }
}
