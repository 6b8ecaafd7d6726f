//! `memmon history` with a real daemon: while it runs, after a restart, and without one.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Output,
};

use crate::common::{
    PATIENCE, TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually, fill,
    hog::Hog,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// A limit of 40 MB, and a scan every 0.2 s.
/// Without warnings near the limit, which would be entries of their own if a scan came at the right time.
fn config(user: &TestUser, more: &str) -> ScopedConfig {
    let text = format!(
        "thresholds = {{ ram_gb_threshold = 0.04, check_interval = 0.2, warn_at_percent = 0 }}\nsettings.enable_syslog = false\n\
         log.format = \"json\"\ntermination.repeat_limit = 0\n{more}\n"
    );
    ScopedConfig::new(user, &text)
}

fn history(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.beside(env!("CARGO_BIN_EXE_memmon")).arg("history").args(arguments).output().unwrap()
}

fn found(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = history(daemon, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{}", printed(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn hog(user: &TestUser, script: &str) -> Hog {
    let hog = user.hog(script);
    hog.begun("hold");
    hog
}

/// The state directory, seen through the daemon's own mounts.
fn state(daemon: &Daemon) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root/var/lib/memmon", daemon.pid()))
}

#[test]
#[ignore = "kernel: needs root"]
fn terminations_are_known_after_restarts_and_without_a_daemon() {
    let user = TestUser::claim();
    let first = Daemon::start(&config(&user, ""), &["--source", "proc"]);
    let mut victim = user.hog("rename worker anon 60M hold");
    assert_eq!(victim.ended_by(PATIENCE), Some(libc::SIGTERM));
    first.event("terminated");
    eventually("the entry", || found(&first, &[])["matched"] == 1);
    let entry = found(&first, &["--since", "1h", "--user", &user.uid.to_string()])["entries"][0].clone();
    assert_eq!((&entry["what"], &entry["comm"]), (&"terminated".into(), &"worker".into()), "{entry}");
    assert_eq!((&entry["pid"], &entry["cause"]), (&victim.pid().into(), &"SIGTERM".into()), "{entry}");
    assert!(entry["peak_bytes"].as_u64() >= Some(60 << 20), "{entry}");
    assert_eq!(found(&first, &["--user", "0"])["matched"], 0);
    assert_eq!(found(&first, &["--would"])["matched"], 0);

    // The second one is a dry run, and knows what the first one did, which was killed.
    first.signal(Signal::SIGKILL);
    let second = first.spawn_beside(&config(&user, ""), &["--dry-run", "--source", "proc"]);
    second.event("started");
    let larger = hog(&user, "rename larger anon 70M hold");
    second.event("killing");
    eventually("an answer", || history(&second, &[]).status.success());
    eventually("both", || found(&second, &[])["matched"] == 2);
    let all = found(&second, &["--since", "yesterday"]);
    let totals = all["totals"].as_array().unwrap();
    assert_eq!(
        totals.iter().map(|total| total["comm"].as_str().unwrap()).collect::<Vec<_>>(),
        ["larger", "worker"],
        "{all}"
    );
    assert_eq!((&totals[0]["would_terminate"], &totals[1]["terminated"]), (&1.into(), &1.into()), "{all}");
    assert_eq!(found(&second, &["--would"])["entries"][0]["pid"], larger.pid());
    let text = printed(&history(&second, &[]));
    assert!(text.contains("would terminate") && text.contains("By program and user:"), "{text}");

    // Without a daemon root reads the file.
    let place = second.beside("sleep").arg("60").spawn().unwrap();
    second.stop();
    let mut command = std::process::Command::new("nsenter");
    let pid = place.id().to_string();
    command.args(["-t", &pid, "-m"]).arg(env!("CARGO_BIN_EXE_memmon")).args(["history", "--json"]);
    let output = command.output().unwrap();
    let mut place = place;
    place.kill().unwrap();
    place.wait().unwrap();
    let last: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)));
    assert_eq!(last["matched"], 2, "{last}");
}

/// Enforcement does not wait for the disk, and the lack of an entry is reported once and counted.
#[test]
#[ignore = "kernel: needs root"]
fn a_full_disk_delays_no_termination_and_is_reported_once() {
    let user = TestUser::claim();
    let daemon =
        Daemon::start(&config(&user, "metrics.listen = \"/run/memmon/m.sock\""), &["--source", "proc"]);
    let state = state(&daemon);
    fs::create_dir(&state).unwrap();
    let full = state.join("full");
    fill(&full);
    for _ in 0..2 {
        let mut victim = user.hog("anon 60M hold");
        assert_eq!(victim.ended_by(PATIENCE), Some(libc::SIGTERM));
    }
    let trouble =
        |line: &str| line.contains("\"degraded\"") && line.contains("the history cannot be written");
    daemon.line("the report", trouble);
    daemon.scanned();
    daemon.scanned();
    assert_eq!(daemon.lines().iter().filter(|line| trouble(line)).count(), 1);
    let socket = format!("/proc/{}/root/run/memmon/m.sock", daemon.pid());
    let mut metrics = String::new();
    eventually("the count", || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        metrics.clear();
        stream.read_to_string(&mut metrics).unwrap();
        metrics.contains("memmon_lost_history_total 2\n")
    });

    // It goes on when there is room again.
    fs::remove_file(&full).unwrap();
    let mut victim = user.hog("anon 60M hold");
    assert_eq!(victim.ended_by(PATIENCE), Some(libc::SIGTERM));
    eventually("the entry", || found(&daemon, &[])["matched"] == 1);
    daemon.stop();
}
