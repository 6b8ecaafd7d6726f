//! Rules with `action = "stop"`. In each test the limit is 32 MiB.

use std::{fs, os::unix::fs::chown, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::{Daemon, ScopedConfig},
    eventually,
    hog::Hog,
    log::{RARELY, SOURCES, config},
};

const RULES: &str = r#"[{ name = "paused", names = ["paused"], action = "stop" }]"#;

fn with_stop(user: &TestUser, more: &[(&str, &str)]) -> ScopedConfig {
    config(user, &[&[("rule", RULES), ("termination.hard_ceiling", "2.0")], more].concat())
}

/// As an administrator or the user would do it.
fn continue_it(hog: &Hog) {
    kill(Pid::from_raw(i32::try_from(hog.pid()).unwrap()), Signal::SIGCONT).unwrap();
}

fn is_stopped(hog: &Hog) -> bool {
    hog.state() == 'T'
}

fn listed(daemon: &Daemon) -> Vec<Value> {
    daemon.status()["stopped"].as_array().unwrap().clone()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_is_stopped_once_and_again_only_after_it_grew_until_its_ceiling_ends_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        // With the kernel as the source, no scan is needed.
        let rarely = if *source == "ebpf" { vec![RARELY] } else { vec![] };
        let ceiling = [("termination.hard_ceiling", "4.0")];
        let daemon =
            Daemon::start(&with_stop(&user, &[&ceiling[..], &rarely].concat()), &["--source", source]);
        daemon.event("scan_complete");
        let mut hog = user.hog("rename paused anon 24M grow 200M 6M/s hold");
        let event = daemon.reported("stopped", hog.pid());
        assert_eq!(
            (&event["rule_name"], &event["times"], &event["already"]),
            (&"paused".into(), &1.into(), &false.into())
        );
        assert!((32 << 20..128 << 20).contains(&event["rss_bytes"].as_u64().unwrap()), "{event}");
        eventually("it is stopped", || is_stopped(&hog));
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert_eq!(daemon.about("stopped", hog.pid()).len(), 1, "not again and again");
        let stopped = listed(&daemon);
        assert_eq!((&stopped[0]["pid"], &stopped[0]["continued"]), (&hog.pid().into(), &false.into()));

        continue_it(&hog);
        eventually("it is stopped for the second time", || daemon.about("stopped", hog.pid()).len() == 2);
        assert_eq!(daemon.about("stopped", hog.pid())[1]["times"], 2);
        let continued = &daemon.about("continued", hog.pid())[0];
        let grew = |event: &Value| event["rss_bytes"].as_u64().unwrap();
        let events = daemon.about("stopped", hog.pid());
        assert_eq!(continued["may_have_bytes"].as_u64().unwrap(), grew(&events[0]) + (8 << 20));
        assert!(grew(&events[1]) > grew(&events[0]) + (8 << 20));

        eventually("above its ceiling it is terminated", || {
            if is_stopped(&hog) {
                continue_it(&hog);
            }
            !daemon.about("killing", hog.pid()).is_empty()
        });
        let (_, record) = daemon.terminated(&mut hog);
        assert!(record["rss_at_term_bytes"].as_u64().unwrap() > 128 << 20, "{record}");
        let times = daemon.about("stopped", hog.pid()).len();
        assert!((2..=12).contains(&times), "{times}: each time a quarter of the limit more");
        assert_eq!(listed(&daemon), Vec::<Value>::new());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_stopped_process_stays_stopped_after_memmon_and_one_that_shrank_is_forgotten() {
    for source in SOURCES {
        let user = TestUser::claim();
        let by_itself = user.hog("rename paused anon 40M stop hold");
        by_itself.begun("stop");
        eventually("it has stopped itself", || is_stopped(&by_itself));
        let kept = user.hog("rename kept-paused anon 40M hold");
        kept.begun("hold");
        let more = [("whitelist.names", "[\"kept-*\"]")];

        let daemon = Daemon::start(&with_stop(&user, &more), &["--source", source, "--dry-run"]);
        let shrinks = user.hog("rename paused anon 40M wait-term free hold");
        shrinks.begun("wait-term");
        let event = daemon.reported("stopped", shrinks.pid());
        assert_eq!(event["dry_run"], true);
        assert!(!is_stopped(&shrinks) && listed(&daemon).is_empty());
        daemon.stop();

        let daemon = Daemon::start(&with_stop(&user, &more), &["--source", source]);
        assert_eq!(daemon.reported("stopped", by_itself.pid())["already"], true);
        daemon.reported("stopped", shrinks.pid());
        eventually("it is stopped", || is_stopped(&shrinks));
        assert_eq!(listed(&daemon).len(), 2);
        continue_it(&shrinks);
        eventually("it is seen to run", || !daemon.about("continued", shrinks.pid()).is_empty());
        shrinks.term();
        shrinks.begun("hold");
        eventually("within its limit it is listed no longer", || listed(&daemon).len() == 1);
        assert!(!is_stopped(&shrinks) && !is_stopped(&kept) && kept.is_alive());
        assert_eq!(daemon.every("killing"), Vec::<Value>::new());
        let last = daemon.stop().join("\n");
        let how = format!("to continue them: kill -CONT {}", by_itself.pid());
        assert!(last.contains("stopped processes stay stopped") && last.contains(&how), "{last}");
        assert!(is_stopped(&by_itself));
        continue_it(&by_itself);
        by_itself.begun("hold");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_is_found_above_its_ceiling_is_terminated_and_not_stopped() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut large = user.hog("rename paused anon 80M hold");
        large.begun("hold");
        let daemon = Daemon::start(&with_stop(&user, &[]), &["--source", source]);
        let (signal, record) = daemon.terminated(&mut large);
        assert_eq!((signal, &record["rule_name"]), (Some(libc::SIGTERM), &"paused".into()));
        assert_eq!(daemon.every("stopped"), Vec::<Value>::new());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_is_continued_to_handle_sigterm_unless_memmon_has_stopped_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        let dir = tempfile::tempdir().unwrap();
        chown(dir.path(), Some(user.uid), None).unwrap();
        let [saved, unsaved] = ["saved", "unsaved"].map(|name| dir.path().join(name));
        let script = |name: &str, file: &Path, more: &str| {
            format!("rename {name} save-on-term {} anon 40M {more} hold", file.display())
        };
        let mut by_itself = user.hog(&script("job", &saved, "stop"));
        by_itself.begun("stop");
        eventually("it has stopped itself", || is_stopped(&by_itself));
        let dry_run = Daemon::start(&with_stop(&user, &[]), &["--source", source, "--dry-run"]);
        dry_run.reported("killing", by_itself.pid());
        dry_run.stop();
        assert!(is_stopped(&by_itself));

        let grace = [("termination.grace", "5")];
        let daemon = Daemon::start(&with_stop(&user, &grace), &["--source", source]);
        let (signal, record) = daemon.terminated(&mut by_itself);
        assert_eq!((signal, &record["cause"]), (None, &"term".into()), "{record:#}");
        assert_eq!(fs::read_to_string(&saved).unwrap(), "saved");

        let mut by_memmon = user.hog(&script("paused", &unsaved, ""));
        daemon.reported("stopped", by_memmon.pid());
        eventually("it is stopped", || is_stopped(&by_memmon));
        daemon.reload(&with_stop(&user, &[("rule", "[]")]));
        let (signal, record) = daemon.terminated(&mut by_memmon);
        assert_eq!((signal, &record["cause"]), (Some(libc::SIGKILL), &"kill".into()), "{record:#}");
        assert!(!unsaved.exists());
        daemon.stop();
    }
}

/// A killed memmon and a new one: the process is not another one's, which would be continued to handle SIGTERM.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn what_memmon_has_stopped_is_its_own_after_a_restart() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.holding("rename paused anon 40M hold");
        let settings = with_stop(&user, &[]);
        let first = Daemon::start(&settings, &["--source", source]);
        first.reported("stopped", hog.pid());
        eventually("it is kept", || {
            let file = first.beside("cat").arg("/var/lib/memmon/stopped.json").output().unwrap();
            String::from_utf8_lossy(&file.stdout).contains(&hog.pid().to_string())
        });
        first.signal(Signal::SIGKILL);
        let second = first.spawn_beside(&settings, &["--source", source]);
        second.scanned();
        assert_eq!(listed(&second)[0]["times"], 1);
        assert_eq!(second.about("stopped", hog.pid()), Vec::<Value>::new());
        second.reload(&with_stop(&user, &[("rule", "[]")]));
        let (signal, record) = second.terminated(&mut hog);
        assert_eq!((signal, &record["cause"]), (Some(libc::SIGKILL), &"kill".into()), "{record:#}");
        second.stop();
    }
}

/// It handles no signal before it is thawed.
#[test]
#[ignore = "needs root and cgroup v2"]
fn a_frozen_process_that_is_sent_sigstop_is_not_reported_as_continued() {
    for source in SOURCES {
        let user = TestUser::claim();
        let cgroup = Cgroup::new("frozen-stop", &["paused"]);
        let hog = user.holding("rename paused anon 40M hold");
        cgroup.take(&hog);
        cgroup.freeze();
        let daemon = Daemon::start(&with_stop(&user, &[]), &["--source", source]);
        assert_eq!(daemon.reported("stopped", hog.pid())["already"], false);
        // Longer than memmon waits until all threads have stopped.
        std::thread::sleep(std::time::Duration::from_secs(1));
        daemon.scanned();
        assert_eq!(daemon.about("continued", hog.pid()), Vec::<Value>::new());
        assert_eq!(listed(&daemon)[0]["continued"], false);
        cgroup.thaw();
        eventually("it is stopped", || is_stopped(&hog));
        assert_eq!(daemon.about("stopped", hog.pid()).len(), 1);
        daemon.stop();
    }
}
