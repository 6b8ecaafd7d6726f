//! The log of a running daemon: its format, its file, and that no problem with it ever stops enforcement.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    log::{LIMIT, SOON, SOURCES, config},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);

/// A configuration that writes in `format` to this file, in an existing folder.
fn to_file(user: &TestUser, file: &Path, format: &str) -> ScopedConfig {
    let (file, format) = (format!("{file:?}"), format!("{format:?}"));
    config(user, &[("settings.log_file", &file), ("log.format", &format)])
}

/// Every run of digits as one `#`.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            other => shape.push(other),
        }
    }
    shape
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_three_lines_of_v1_are_in_the_file_and_only_for_some_eyes() {
    for source in SOURCES {
        let user = TestUser::claim();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("memory_monitor.log");
        let daemon = Daemon::start(&to_file(&user, &log, "text"), &["--source", source]);
        let mut hog = user.hog("anon 40M hold");
        assert_eq!(hog.ended_by(SOON), TERM);
        eventually("the record in the file", || read(&log).contains("Terminated: "));
        assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o7777, 0o640);
        daemon.stop();

        let text = read(&log);
        let lines: Vec<&str> = text.lines().collect();
        // The kernel may wake the daemon between two scans, so each line is looked up by itself.
        let one = |word: &str| lines.iter().find(|line| line.contains(word)).unwrap();
        let shapes = ["System Memory", "Killing", "Scan complete"].map(|word| shape(one(word)));
        assert_eq!(
            shapes,
            [
                "#-#-# #:#:# - INFO - System Memory: #.#% used (#.#GB / #.#GB)",
                "#-#-# #:#:# - WARNING - Killing process: PID=#, Name=hog, User=#, RAM=#.#GB (#.#%)",
                "#-#-# #:#:# - INFO - Scan complete. Scanned: #, Killed: #",
            ],
            "{text}"
        );
        assert!(one("Killing").contains(&format!("PID={}, Name=hog, User={},", hog.pid(), user.uid)));
        assert!(lines.last().unwrap().ends_with("memmon stops: SIGTERM"), "{text}");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn each_line_of_json_is_an_object_with_typed_fields() {
    let user = TestUser::claim();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let daemon = Daemon::start(&to_file(&user, &log, "json"), &[]);
    let mut hog = user.hog("anon 40M hold");
    let pid = hog.pid();
    assert_eq!(daemon.terminated(&mut hog).0, TERM);
    let console = daemon.stop();

    let text = read(&log);
    assert_eq!(text.lines().collect::<Vec<_>>(), console, "the console and the file have the same");
    let objects: Vec<Value> = console.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for object in &objects {
        assert!(["time", "level", "event", "message"].iter().all(|key| object[key].is_string()), "{object}");
    }
    let one = |event: &str| objects.iter().find(|object| object["event"] == event).unwrap();
    let killing = one("killing");
    assert_eq!((killing["pid"].as_u64(), killing["uid"].as_u64()), (Some(pid.into()), Some(user.uid.into())));
    assert_eq!((killing["comm"].as_str(), killing["dry_run"].as_bool()), (Some("hog"), Some(false)));
    assert!(killing["rss_bytes"].as_u64() > Some(LIMIT) && killing["percent"].is_f64(), "{killing}");
    assert!(killing["exe"].as_str().unwrap().ends_with("/examples/hog"), "{killing}");
    let memory = one("system_memory");
    assert!(memory["available_bytes"].as_u64() < memory["total_bytes"].as_u64(), "{memory}");
    let scan = one("scan_complete");
    assert!(scan["scanned"].as_u64() > Some(2) && scan["killed"].is_u64(), "{scan}");
    let started = one("started");
    assert_eq!(
        (started["limit_bytes"].as_u64(), started["interval_seconds"].as_f64()),
        (Some(LIMIT), Some(0.1))
    );
}

#[test]
#[ignore = "kernel: needs root"]
fn a_warning_of_every_scan_is_written_once_and_counted() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[]), &["--source", "proc"]);
    let hog = user.hog("anon 5M wait-term anon 40M hold");
    hog.begun("wait-term");
    // Only the daemon cannot read the owner.
    let status = format!("/proc/{}/status", hog.pid());
    assert!(daemon.beside("mount").args(["--bind", "/dev/null", &status]).status().unwrap().success());
    hog.term();
    daemon.reported("unconfirmed", hog.pid());
    for _ in 0..3 {
        daemon.scanned();
    }
    assert!(hog.is_alive());
    assert_eq!(daemon.about("unconfirmed", hog.pid()).len(), 1);
    let (pid, lines) = (hog.pid(), daemon.stop());
    let about = |line: &&String| line.contains(&format!("PID={pid}:"));
    let lines: Vec<Value> =
        lines.iter().filter(about).map(|line| serde_json::from_str(line).unwrap()).collect();
    let [warning, repeated] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&warning["event"], &warning["level"]), (&"unconfirmed".into(), &"WARNING".into()));
    assert_eq!((&repeated["event"], &repeated["text"]), (&"repeated".into(), &warning["message"]));
    assert!(repeated["times"].as_u64() >= Some(8), "{repeated}");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_rotation_starts_a_new_file_and_never_reloads() {
    let user = TestUser::claim();
    let dir = tempfile::tempdir().unwrap();
    let (log, old) = (dir.path().join("log"), dir.path().join("log.1"));
    let daemon = Daemon::start(&to_file(&user, &log, "text"), &[]);
    eventually("a scan in the file", || read(&log).contains("Scan complete"));
    // The configuration is edited, but not reloaded.
    daemon.edit(&to_file(&user, &log, "json"));
    fs::rename(&log, &old).unwrap();
    eventually("a scan in the new file", || read(&log).contains("Scan complete"));
    let before = read(&old);

    // The scripts of older packages send SIGHUP right after the rename.
    fs::rename(&log, dir.path().join("log.2")).unwrap();
    daemon.signal(Signal::SIGHUP);
    daemon.line("the reason", |line| line.contains("so the configuration was not reloaded"));
    eventually("more in the new file", || read(&log).matches("Scan complete").count() > 3);
    assert_eq!(read(&old), before, "the old file is left to logrotate");
    assert!(!read(&log).contains("Configuration reloaded") && !read(&log).contains("{\""));

    daemon.signal(Signal::SIGHUP);
    eventually("the reload that was asked for", || read(&log).contains("\"event\":\"reloaded\""));
    daemon.stop();
}

/// A shell loop of one user, which starts a hog again and again.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_users_loop_has_a_bounded_number_of_lines_a_minute_and_terminations_are_on_every_level() {
    const HOGS: usize = 12;
    let user = TestUser::claim();
    let changes = [
        ("log.format", "\"text\""),
        ("log.level", "\"error\""),
        ("log.lines_per_minute", "3"),
        ("termination.repeat_limit", "0"),
    ];
    // At this level nothing is logged at the start.
    let daemon = Daemon::spawn(&config(&user, &changes), &[]);
    for _ in 0..HOGS {
        assert_eq!(user.hog("anon 40M hold").ended_by(SOON), TERM);
    }
    let lines = daemon.stop();
    for (kind, severity) in [("Killing process: ", "WARNING"), ("Terminated: ", "INFO")] {
        let starts = format!(" - {severity} - {kind}");
        let written = lines.iter().filter(|line| line.contains(&starts)).count();
        // A minute may begin in between.
        assert!((3..=6).contains(&written), "{lines:#?}");
        let counts = lines.iter().filter(|line| line.contains("Left out ") && line.contains(kind));
        let counted = counts.map(|line| {
            let (_, rest) = line.split_once("Left out ").unwrap();
            rest.split(' ').next().unwrap().parse::<usize>().unwrap()
        });
        assert_eq!(written + counted.sum::<usize>(), HOGS, "{lines:#?}");
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_vanished_folder_is_reported_and_hogs_end_all_the_same() {
    let user = TestUser::claim();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let log = folder.join("log");
    let daemon = Daemon::start(&to_file(&user, &log, "json"), &[]);
    eventually("the file", || log.exists());
    fs::remove_dir_all(&folder).unwrap();
    let trouble = daemon.event("sink_trouble");
    assert_eq!(trouble["sink"], "file");
    assert!(trouble["error"].as_str().unwrap().contains("No such file"), "{trouble}");
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    fs::create_dir(&folder).unwrap();
    eventually("the file again", || read(&log).contains("scan_complete"));
    let works = || daemon.every("sink_trouble").into_iter().find(|event| event["error"].is_null());
    eventually("word that it works again", || works().is_some_and(|event| event["lost"].as_u64() > Some(0)));
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_full_disk_is_reported_and_hogs_end_all_the_same() {
    let user = TestUser::claim();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("small");
    fs::create_dir(&folder).unwrap();
    let log = folder.join("log");
    let daemon = Daemon::start(&to_file(&user, &log, "json"), &[]);
    // Only the daemon sees this mount.
    let mount = ["-t", "tmpfs", "-o", "size=16k,mode=755", "tmpfs"];
    assert!(daemon.beside("mount").args(mount).arg(&folder).status().unwrap().success());
    daemon.signal(Signal::SIGHUP);
    let trouble = daemon.event("sink_trouble");
    assert_eq!(trouble["sink"], "file");
    assert!(trouble["error"].as_str().unwrap().contains("No space left"), "{trouble}");
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);

    let seen = |path: &Path| PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), path.display()));
    assert_eq!(fs::metadata(seen(&log)).unwrap().len(), 16 << 10, "it is full");
    fs::write(seen(&log), "").unwrap();
    let works = || daemon.every("sink_trouble").into_iter().find(|event| event["error"].is_null());
    eventually("word that it works again", || works().is_some_and(|event| event["lost"].as_u64() > Some(0)));
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn at_debug_an_attach_a_scan_a_wake_a_confirmation_and_a_reload_leave_traces() {
    let user = TestUser::claim();
    let with_level = |level| config(&user, &[("log.level", level), ("settings.dry_run", "true")]);
    let debug = with_level("\"debug\"");
    let daemon = Daemon::start(&debug, &["--source", "ebpf"]);
    daemon.scanned();
    let mut hog = user.hog("anon 40M hold");
    daemon.reported("killing", hog.pid());
    daemon.reload(&debug);
    let trace = |name: &str, fields: &[&str]| {
        let name = format!("{name} took ");
        daemon.line(&name, |line| line.contains(&name) && fields.iter().all(|field| line.contains(field)));
    };
    let pid = format!("pid={}", hog.pid());
    trace("attach", &["source=", "capacity="]);
    trace("scan", &["processes=", "suspects="]);
    trace("wake", &[&pid, "rss_bytes=", "late="]);
    trace("wake > confirm", &[&pid, "rss_bytes=", "error_bytes="]);
    trace("reload", &["applied=true"]);

    // The reload itself is the last line that could be a trace.
    daemon.reload(&with_level("\"info\""));
    daemon.scanned();
    let quiet = daemon.lines().len();
    hog.release();
    daemon.scanned();
    daemon.scanned();
    let lines = daemon.stop();
    assert!(lines[quiet..].iter().all(|line| !line.contains("DEBUG")), "{lines:#?}");
}
