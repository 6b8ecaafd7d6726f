//! `memmon exempt` with a real daemon: its effect, its duration, and the users that may use it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use crate::common::{
    PATIENCE, TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually, fill,
};
use nix::sys::signal::Signal;

/// A limit of 40 MB, a scan every 0.2 s, and no delay of a second termination.
fn config(user: &TestUser, more: &str) -> ScopedConfig {
    let text = format!(
        "thresholds = {{ ram_gb_threshold = 0.04, check_interval = 0.2 }}\nsettings.enable_syslog = false\n\
         log.format = \"json\"\ntermination.repeat_limit = 0\nstatus.group = \"{}\"\n{more}\n",
        user.uid
    );
    ScopedConfig::new(user, &text)
}

fn start(user: &TestUser) -> Daemon {
    let daemon = Daemon::start(&config(user, ""), &["--source", "proc"]);
    eventually("an answer", || exempt(&daemon, &["--list"]).status.success());
    daemon
}

fn exempt(daemon: &Daemon, arguments: &[&str]) -> Output {
    daemon.beside(env!("CARGO_BIN_EXE_memmon")).arg("exempt").args(arguments).output().unwrap()
}

/// The same as a user that is not root.
fn exempt_as(daemon: &Daemon, uid: u32, arguments: &[&str]) -> Output {
    let (pid, id) = (daemon.pid().to_string(), uid.to_string());
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", &pid, "-m", "-S", &id, "-G", &id]).arg(env!("CARGO_BIN_EXE_memmon")).arg("exempt");
    command.args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
#[ignore = "kernel: needs root"]
fn an_exempt_process_stays_until_its_time_is_over() {
    let user = TestUser::claim();
    let daemon = start(&user);
    let uid = user.uid.to_string();
    let output = exempt(&daemon, &["--user", &uid, "--for", "2h", "--why", "until the hog runs"]);
    assert!(output.status.success(), "{}", printed(&output));
    let mut hog = user.holding("anon 60M hold");
    let pid = hog.pid().to_string();
    let output = exempt(&daemon, &[&pid, "--for", "6s", "--why", "a batch, ticket 7"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert!(printed(&output).starts_with(&format!("exemption 2: PID={pid}, until ")), "{}", printed(&output));
    let output = exempt(&daemon, &["--end", "1"]);
    assert!(output.status.success(), "{}", printed(&output));
    daemon.line("the record", |line| {
        line.contains("\"over_but_protected\"") && line.contains("\"why\":\"a batch, ticket 7\"")
    });
    let status = daemon.beside(env!("CARGO_BIN_EXE_memmon")).arg("status").output().unwrap();
    let flat = printed(&status).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&format!("Exempt: exemption 2: PID={pid}, until ")), "{flat}");
    let explained = daemon.beside(env!("CARGO_BIN_EXE_memmon")).args(["explain", &pid]).output().unwrap();
    let flat = printed(&explained).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("left alone: it is exempt until ") && flat.contains("because \"a batch"), "{flat}");
    // It ends by itself.
    daemon
        .line("the end", |line| line.contains("\"exemption_ended\"") && line.contains("\"end\":\"expired\""));
    assert_eq!(hog.ended_by(PATIENCE), Some(libc::SIGTERM));
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn an_exemption_survives_a_restart_and_ends_when_it_is_ended() {
    let user = TestUser::claim();
    let first = start(&user);
    let uid = user.uid.to_string();
    let output = exempt(&first, &["--user", &uid, "--for", "2h", "--why", "a batch"]);
    assert!(output.status.success(), "{}", printed(&output));
    // The second one continues where the first one was killed, with its numbers.
    first.signal(Signal::SIGKILL);
    let second = first.spawn_beside(&config(&user, ""), &["--source", "proc"]);
    second.line("the start", |line| line.contains("\"event\":\"started\""));
    let listed = || exempt(&second, &["--list", "--json"]);
    eventually("an answer", || listed().status.success());
    assert!(printed(&listed()).contains(&format!("\"uid\": {uid}")), "{}", printed(&listed()));
    let mut hog = user.holding("anon 60M hold");
    second.line("the record", |line| line.contains("\"over_but_protected\"") && line.contains("\"exempt\""));
    // A reload keeps it, too.
    second.reload(&config(&user, "termination.grace = 1"));
    second.line("the reload", |line| line.contains("\"event\":\"reloaded\""));
    second.scanned();
    assert!(hog.is_alive());
    let output = exempt(&second, &["--end", "2"]);
    assert!(!output.status.success() && printed(&output).contains("no exemption 2"), "{}", printed(&output));
    let output = exempt(&second, &["--end", "1"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(hog.ended_by(PATIENCE), Some(libc::SIGTERM));
    let output = exempt(&second, &["1", "--for", "2h", "--why", "another one"]);
    assert!(printed(&output).starts_with("exemption 2: PID=1,"), "{}", printed(&output));
    second.stop();
}

/// Without that, a restart would end the process although the reason is gone.
#[test]
#[ignore = "kernel: needs root"]
fn an_exemption_is_stored_when_a_full_disk_has_room_again() {
    let user = TestUser::claim();
    let first = start(&user);
    let state = PathBuf::from(format!("/proc/{}/root/var/lib/memmon", first.pid()));
    fs::create_dir_all(&state).unwrap();
    let full = state.join("full");
    fill(&full);
    let uid = user.uid.to_string();
    let output = exempt(&first, &["--user", &uid, "--for", "2h", "--why", "a batch"]);
    assert!(
        !output.status.success() && printed(&output).contains("would not survive"),
        "{}",
        printed(&output)
    );
    let reason = "exemptions would not survive a restart of memmon";
    first.line("the report", |line| line.contains("\"degraded\"") && line.contains(reason));
    fs::remove_file(&full).unwrap();
    eventually("a file that has it", || {
        let stored = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        stored(&state.join("exemptions.json")).contains("a batch")
    });
    eventually("no report of it", || !first.status()["degraded"].to_string().contains(reason));
    first.signal(Signal::SIGKILL);
    let second = first.spawn_beside(&config(&user, ""), &["--source", "proc"]);
    let hog = user.holding("anon 60M hold");
    second.line("the record", |line| line.contains("\"over_but_protected\"") && line.contains("\"exempt\""));
    assert!(hog.is_alive());
    second.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_victim_that_is_exempt_in_its_grace_gets_no_sigkill() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, "termination.grace = 20"), &["--source", "proc"]);
    let hog = user.holding("ignore-term anon 60M hold");
    daemon.line("SIGTERM", |line| line.contains("\"event\":\"killing\""));
    let output = exempt(&daemon, &[&hog.pid().to_string(), "--for", "2h", "--why", "a batch"]);
    assert!(output.status.success(), "{}", printed(&output));
    daemon.line("the record", |line| line.contains("\"now_protected\"") && line.contains("\"exempt\""));
    assert!(hog.is_alive());
    daemon.stop();
}

/// Tools such as htop list threads, and each of them has an entry in /proc.
#[test]
#[ignore = "kernel: needs root"]
fn an_exemption_that_would_protect_nothing_is_refused() {
    let user = TestUser::claim();
    let daemon = start(&user);
    let hog = user.holding("threads 1 1M hold");
    let pid = hog.pid().to_string();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let thread = names.into_iter().find(|name| *name != pid).unwrap();
    let unit = "postgresql@*.service";
    for (of, why) in [
        (vec![&*thread], format!("pid {thread} cannot be exempt: it is a thread of pid {pid}")),
        (vec!["--unit", unit], format!("{unit} is no unit: an exemption is for one unit")),
    ] {
        let output = exempt(&daemon, &[&of[..], &["--for", "2h", "--why", "a batch"]].concat());
        assert!(!output.status.success() && printed(&output).contains(&why), "{}", printed(&output));
    }
    assert!(printed(&exempt(&daemon, &["--list"])).starts_with("There are no exemptions"));
    let explained = daemon.beside(env!("CARGO_BIN_EXE_memmon")).args(["explain", &thread]).output().unwrap();
    let why = format!("pid {thread} cannot be explained: it is a thread of pid {pid}");
    assert!(!explained.status.success() && printed(&explained).contains(&why), "{}", printed(&explained));
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn only_root_and_a_group_with_that_right_may_exempt() {
    let user = TestUser::claim();
    let daemon = start(&user);
    let uid = user.uid.to_string();
    let order = ["--user", &*uid, "--for", "2h", "--why", "mine"];
    // The group may ask, and no more.
    let listed = exempt_as(&daemon, user.uid, &["--list"]);
    assert!(listed.status.success(), "{}", printed(&listed));
    let refused = exempt_as(&daemon, user.uid, &order);
    assert!(
        !refused.status.success() && printed(&refused).contains("only root may do that"),
        "{}",
        printed(&refused)
    );
    assert!(printed(&exempt(&daemon, &["--list"])).starts_with("There are no exemptions"));

    daemon.reload(&config(&user, "status.exempt = true"));
    eventually("the right", || exempt_as(&daemon, user.uid, &order).status.success());
    daemon.line("the record", |line| {
        line.contains("\"event\":\"exempted\"") && line.contains(&format!("\"by\":{uid}"))
    });
    daemon.stop();
}
