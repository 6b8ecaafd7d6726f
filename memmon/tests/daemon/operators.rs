//! Features for administrators: schedules, back-off of repeat offenders, hooks.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{
    PATIENCE, TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    hog::Supervisor,
    log::{SOON, SOURCES, config},
    within,
};
use jiff::{ToSpan as _, Zoned};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);

/// The test's configuration with a `[[schedule]]`, which a dotted key cannot express.
fn scheduled(user: &TestUser, window: &str) -> ScopedConfig {
    let text = format!(
        "thresholds = {{ ram_gb_threshold = 0.5, ram_percent_threshold = 100, check_interval = 3600 }}\n\
         settings = {{ log_file = \"\", enable_syslog = false }}\nlog.format = \"json\"\n{window}\n"
    );
    ScopedConfig::new(user, &text)
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_hour_comes_and_the_limit_with_it() {
    let user = TestUser::claim();
    // A full minute that is at least some seconds ahead.
    let soon = Zoned::now().saturating_add(80.seconds());
    let begins = Instant::now() + Duration::from_secs(80 - u64::from(soon.second().unsigned_abs()));
    let (from, to) = (soon.strftime("%H:%M"), soon.saturating_add(2.minutes()).strftime("%H:%M").to_string());
    let window = format!(
        "schedule = [{{ from = \"{from}\", to = \"{to}\", ram_gb_threshold = 0.03125 }}]\n\
         rule = [{{ name = \"lowest\", names = [\"nobody-has-this-name\"], gb = 0.0234375 }}]"
    );
    let daemon = Daemon::start(&scheduled(&user, &window), &["--source", SOURCES[0]]);
    daemon.event("scan_complete");
    assert_eq!(daemon.event("started")["limit_bytes"], 1_u64 << 29);
    // Not long before, because an idle process may be swapped out.
    thread::sleep((begins - Duration::from_secs(10)).saturating_duration_since(Instant::now()));
    let mut hog = user.hog("anon 40M hold");
    hog.begun("hold");
    // Its wake levels are those of half a gigabyte, and it is below all limits when the window begins.
    let mut grows = user.hog("anon 16M wait-term anon 40M hold");
    grows.begun("wait-term");
    daemon.never_mentioned(hog.pid());
    within(2 * PATIENCE, "the window begins", || !daemon.every("scheduled").is_empty());
    assert_eq!(daemon.event("scheduled")["limit_bytes"], 32 << 20);
    assert_eq!(daemon.terminated(&mut hog).0, TERM, "without waiting for the next scan");
    if SOURCES[0] == "ebpf" {
        grows.term();
        assert_eq!(daemon.terminated(&mut grows).0, TERM, "as soon as it exceeds the new limit");
    }

    // An invalid window is refused, and the old configuration stays in force.
    daemon.reload(&scheduled(&user, "schedule = [{ days = [\"mon\"], from = \"9:00\", to = \"9:00\" }]"));
    let error = daemon.event("reload_failed")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("config.toml:"), "{error}");
    assert_eq!(daemon.status()["limit"]["limit_bytes"], 32 << 20);
    daemon.stop();
}

fn memmon(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.beside(env!("CARGO_BIN_EXE_memmon")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a hook below /run, which is private to the daemon: it writes the output of `script` to the returned file.
fn hook(daemon: &Daemon, script: &str) -> String {
    let script = format!("#!/bin/sh\nexec >>/run/hooks/reported\n{script}\n");
    let place = "mkdir /run/hooks && chmod 755 /run/hooks && cat >/run/hooks/hook && chmod 755 /run/hooks/hook && \
                 touch /run/hooks/reported && chmod 666 /run/hooks/reported";
    let mut sh = daemon.beside("sh").args(["-c", place]).stdin(Stdio::piped()).spawn().unwrap();
    sh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(sh.wait().unwrap().success());
    format!("/proc/{}/root/run/hooks/reported", daemon.pid())
}

#[test]
#[ignore = "kernel: needs root"]
fn the_end_waits_for_a_notice_but_not_for_long() {
    // Both end by themselves, whatever happens to the daemon.
    for (script, is_sent) in [("sleep 1; echo sent", true), ("sleep 15; echo sent", false)] {
        let user = TestUser::claim();
        let changes = [("notify.hook", "\"/run/hooks/hook\""), ("notify.hook_timeout", "60")];
        let mut daemon = Daemon::start(&config(&user, &changes), &["--source", "proc"]);
        hook(&daemon, script);
        assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
        daemon.signal(Signal::SIGTERM);
        assert!(daemon.ended(SOON).success());
        let reported = daemon.beside("cat").arg("/run/hooks/reported").output().unwrap();
        assert_eq!(reported.stdout == b"sent\n", is_sent);
        let last_words = daemon.last_words().join("\n");
        let lost = last_words.contains("lost with the end of memmon: 1 of the notifications by hook");
        assert_eq!(lost, !is_sent, "{last_words}");
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_repeat_offender_is_delayed_and_reported_once() {
    let _supervisor = Supervisor::pretend();
    let user = TestUser::claim();
    let with = |limit| {
        config(
            &user,
            &[
                ("termination.repeat_limit", limit),
                ("termination.repeat_backoff", "15"),
                ("notify.hook", "\"/run/hooks/hook\""),
                ("notify.interval", "1"),
            ],
        )
    };
    let daemon = Daemon::start(&with("2"), &["--source", "proc"]);
    let reported = hook(&daemon, r#"printf '%s|%s|%s\n' "$MEMMON_EVENT" "$MEMMON_COUNT" "$MEMMON_SUBJECT""#);
    for _ in 0..2 {
        assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    }
    let mut third = user.hog("anon 40M hold");
    let held = daemon.reported("held_back", third.pid());
    let held_at = Instant::now();
    assert_eq!(
        (&held["times"], &held["wait_seconds"], &held["first"]),
        (&2.into(), &15.0.into(), &true.into())
    );
    assert!(third.is_alive());
    let status = daemon.status();
    assert_eq!(status["held_back"][0]["times"], 2, "{status}");
    assert!(status["held_back"][0]["left_seconds"].as_f64() <= Some(15.0), "{status}");
    let file = daemon.dir().join("config.toml");
    let pid = third.pid().to_string();
    let explained = memmon(&daemon, &["explain", "--config", file.to_str().unwrap(), &pid]);
    assert!(explained.contains("terminated 2 times and comes back"), "{explained}");
    // A process above twice its limit is not delayed; the delays of others continue and are not extended.
    assert!(daemon.terminated(&mut user.hog("anon 70M hold")).0.is_some());
    assert!(third.is_alive() || held_at.elapsed() > Duration::from_secs(14));
    within(2 * PATIENCE, "a wait ends", || !daemon.about("terminated", third.pid()).is_empty());
    assert!(held_at.elapsed() < Duration::from_secs(25), "{:?}", held_at.elapsed());
    assert_eq!(third.ended_by(Duration::ZERO), TERM);
    assert_eq!(daemon.about("held_back", third.pid()).len(), 1, "reported once, over many scans");

    // After a reload that disables back-off, no process is delayed.
    let mut fourth = user.hog("anon 40M hold");
    daemon.reported("held_back", fourth.pid());
    daemon.reload(&with("0"));
    assert_eq!(daemon.terminated(&mut fourth).0, TERM);

    let printed = || fs::read_to_string(&reported).unwrap();
    let count =
        || printed().lines().map(|line| line.split('|').nth(1).unwrap().parse::<u32>().unwrap()).sum::<u32>();
    // Five terminations, and one message about repeat offenders.
    eventually("six notices", || count() >= 6);
    daemon.scanned();
    assert_eq!(count(), 6, "{}", printed());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_record_shows_how_its_process_was_started() {
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    let session = nix::unistd::getsid(None).unwrap().as_raw();
    for (source, shown) in SOURCES.iter().flat_map(|source| [(source, true), (source, false)]) {
        let user = TestUser::claim();
        let keys = [
            ("log.command_lines", if shown { "true" } else { "false" }),
            ("notify.hook", "\"/run/hooks/hook\""),
            ("notify.interval", "1"),
        ];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        let reported = hook(&daemon, r#"printf '%s %s\n' "$MEMMON_USER" "$MEMMON_PARENT_PID"; cat"#);
        let mut hog = user.hog("anon 40M hold");
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, TERM);
        for event in [&daemon.about("killing", hog.pid())[0], &record] {
            assert_eq!(event["parent_pid"], std::process::id(), "{event}");
            assert_eq!(event["parent_comm"], comm.trim_end(), "{event}");
            // It has none if the leader is outside this pid namespace, as in a container.
            assert_eq!(event["session"].as_i64().unwrap_or(0), i64::from(session), "{event}");
            assert!(event["started"].as_str() > Some("2026"), "{event}");
            let line = event["command_line"].as_str();
            assert!(
                line.is_some() == shown && line.is_none_or(|line| line.ends_with(" anon 40M hold")),
                "{event}"
            );
        }
        eventually("the hook", || fs::read_to_string(&reported).is_ok_and(|text| text.lines().count() >= 2));
        let text = fs::read_to_string(&reported).unwrap();
        let (first, objects) = text.split_once('\n').unwrap();
        assert_eq!(first, format!("{} {}", user.uid, std::process::id()));
        let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects, [record], "what the log has");
        assert_eq!(daemon.stop().join("\n").contains("anon 40M hold"), shown);
    }
}

/// The script of an interpreter can be code from the command line, with a password in it.
#[test]
#[ignore = "kernel: needs root"]
fn no_part_of_a_command_line_is_shown_of_a_repeat_offender_if_that_is_off() {
    let _supervisor = Supervisor::pretend();
    for shown in [true, false] {
        let user = TestUser::claim();
        let keys = [
            ("termination.repeat_limit", "2"),
            ("termination.repeat_backoff", "600"),
            ("log.command_lines", if shown { "true" } else { "false" }),
        ];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", "proc"]);
        let code = "secret='hunter2'; kept = bytearray(b'x') * (40 << 20); import time; time.sleep(60)";
        let python = || {
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-c", code]).uid(user.uid).gid(user.uid);
            command.spawn().unwrap()
        };
        for _ in 0..2 {
            let mut child = python();
            daemon.reported("killing", child.id());
            child.wait().unwrap();
        }
        let mut third = python();
        daemon.reported("held_back", third.id());
        let status = daemon.status().to_string();
        third.kill().unwrap();
        third.wait().unwrap();
        assert_eq!(status.contains("hunter2"), shown, "{status}");
        assert_eq!(daemon.stop().join("\n").contains("hunter2"), shown);
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_program_without_a_supervisor_is_never_delayed() {
    for source in SOURCES {
        let user = TestUser::claim();
        let often = [("termination.repeat_limit", "2"), ("termination.repeat_backoff", "600")];
        let daemon = Daemon::start(&config(&user, &often), &["--source", source]);
        for _ in 0..6 {
            assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
        }
        assert_eq!(daemon.every("held_back"), Vec::<Value>::new());
        daemon.stop();
    }
}

/// Starts `python3 SCRIPT` as `user`, which takes 40 MB and sleeps.
fn python(user: &TestUser, script: &Path) -> Child {
    fs::write(script, "import time\nkept = bytearray(b'x') * (40 << 20)\ntime.sleep(60)\n").unwrap();
    Command::new("/usr/bin/python3").arg(script).uid(user.uid).gid(user.uid).spawn().unwrap()
}

#[test]
#[ignore = "kernel: needs root"]
fn a_job_array_under_one_supervisor_is_no_crash_loop() {
    let _supervisor = Supervisor::pretend();
    let user = TestUser::claim();
    let often = [("termination.repeat_limit", "2"), ("termination.repeat_backoff", "600")];
    let daemon = Daemon::start(&config(&user, &often), &["--source", "proc"]);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let terminated = |script: &str| {
        let mut job = python(&user, &folder.path().join(script));
        daemon.reported("killing", job.id());
        assert_eq!(job.wait().unwrap().signal(), TERM, "{script}");
    };
    (0..5).for_each(|job| terminated(&format!("job{job}.py")));
    assert_eq!(daemon.every("held_back"), Vec::<Value>::new());
    // The same program, started again and again, is delayed.
    terminated("service.py");
    terminated("service.py");
    let mut service = python(&user, &folder.path().join("service.py"));
    let held = daemon.reported("held_back", service.id());
    let script = folder.path().join("service.py");
    assert_eq!(held["script"], script.to_str().unwrap(), "{held}");
    terminated("thesis.py");
    service.kill().unwrap();
    service.wait().unwrap();
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn one_that_cannot_wait_has_its_grace_and_doubles_the_wait() {
    let _supervisor = Supervisor::pretend();
    for source in SOURCES {
        let user = TestUser::claim();
        let often = [
            ("termination.repeat_limit", "1"),
            ("termination.repeat_backoff", "600"),
            ("termination.grace", "1.5"),
        ];
        let daemon = Daemon::start(&config(&user, &often), &["--source", source]);
        daemon.terminated(&mut user.hog("anon 40M hold"));
        // It is above twice its limit, where the grace period of a process that was never delayed would end.
        let mut urgent = user.hog("ignore-term anon 70M hold");
        let killed = daemon.reported("grace_over", urgent.pid());
        assert_eq!(killed["urgency"], Value::Null, "{killed}");
        assert!(killed["grace_seconds"].as_f64() >= Some(1.5), "{killed}");
        urgent.ended(SOON);
        let waits = user.hog("anon 40M hold");
        assert_eq!(daemon.reported("held_back", waits.pid())["wait_seconds"], 1200.0);
        daemon.stop();
    }
}

/// A daemon with a hook, under the conditions of the unit: root without these capabilities (capabilities(7)). It has more
/// inherited state than a hook should have.
#[expect(unsafe_code, reason = "runs between fork and exec")]
fn with_a_hook(user: &TestUser, dropped: &'static [libc::c_ulong]) -> Daemon {
    let changes = [("notify.hook", "\"/run/hooks/hook\""), ("notify.interval", "1")];
    let daemon = Daemon::spawn_prepared(&config(user, &changes), &[], |command| {
        let prepare = move || {
            for capability in dropped {
                // SAFETY: integers only.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) };
            }
            // SAFETY: two integers; a descriptor that the parent of memmon did not close.
            unsafe { libc::dup2(2, 200) };
            let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
            setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
            fs::write("/proc/self/oom_score_adj", "300")
        };
        // SAFETY: system calls only, nothing is allocated.
        unsafe { command.pre_exec(prepare) };
    });
    daemon.started();
    daemon
}

const DAC_OVERRIDE: libc::c_ulong = 1;
const SETGID: libc::c_ulong = 6;
const SETUID: libc::c_ulong = 7;

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_hook_has_nothing_of_memmons() {
    let user = TestUser::claim();
    let daemon = with_a_hook(&user, &[DAC_OVERRIDE]);
    let script = "cat /proc/self/oom_score_adj; id -u; id -G; ulimit -Sn; ls /proc/self/fd | tr '\\n' ' '; \
                  grep -E 'SigBlk|CapEff' /proc/self/status; echo";
    let reported = hook(&daemon, script);
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    let printed = || fs::read_to_string(&reported).unwrap();
    eventually("the hook", || printed().ends_with("\n\n"));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let none = "0000000000000000";
    let expected =
        format!("0\n{}\n{}\n1024\n0 1 2 3 SigBlk:\t{none}\nCapEff:\t{none}\n\n", nobody.uid, nobody.gid);
    assert_eq!(printed(), expected);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_hook_that_the_unit_forbids_is_reported_with_what_allows_it() {
    let user = TestUser::claim();
    let daemon = with_a_hook(&user, &[SETGID, SETUID]);
    let reported = hook(&daemon, "echo ran");
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    let failed = || daemon.those_with("notification by hook failed");
    eventually("a report of it", || !failed().is_empty());
    let what = failed()[0]["what"].as_str().unwrap().to_owned();
    assert!(what.contains("/run/hooks/hook cannot be run as uid ") && what.contains("memmon(8)"), "{what}");
    assert_eq!(fs::read_to_string(&reported).unwrap(), "");
    daemon.stop();
}
