//! `--mine` with a real daemon and two users: each sees what is its own, and nothing of the other.

use std::process::Output;

use crate::common::{
    PATIENCE, TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
};
use serde_json::Value;

/// A limit of 40 MB for the processes of `user` alone, and a scan every 0.2 s.
fn config(user: &TestUser, more: &str) -> ScopedConfig {
    let text = format!(
        "thresholds = {{ ram_gb_threshold = 0.04, check_interval = 0.2 }}\nsettings.enable_syslog = false\n\
         log.format = \"json\"\ntermination.repeat_limit = 0\n{more}\n"
    );
    ScopedConfig::new(user, &text)
}

/// memmon as another user, beside the daemon.
fn memmon_as(daemon: &Daemon, user: &TestUser, arguments: &[&str]) -> Output {
    let (pid, id) = (daemon.pid().to_string(), user.uid.to_string());
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", &pid, "-m", "-S", &id, "-G", &id]).arg(env!("CARGO_BIN_EXE_memmon"));
    command.args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(daemon: &Daemon, user: &TestUser, arguments: &[&str]) -> Value {
    let output = memmon_as(daemon, user, arguments);
    assert!(output.status.success(), "{}", printed(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)))
}

/// The processes in an answer, besides the memmon that asked for it.
fn pids(mine: &Value) -> Vec<u64> {
    let rows = mine["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["comm"] != "memmon").map(|row| row["pid"].as_u64().unwrap()).collect()
}

#[test]
#[ignore = "kernel: needs root"]
fn each_of_two_users_sees_its_own_processes_and_terminations_only() {
    let (one, other) = (TestUser::claim(), TestUser::claim());
    let daemon = Daemon::start(&config(&one, ""), &["--source", "proc"]);
    eventually("an answer", || memmon_as(&daemon, &one, &["status", "--mine"]).status.success());
    let small = one.holding("rename small anon 20M hold");
    let others = other.holding("rename others anon 60M hold");
    let mut victim = one.hog("rename worker anon 60M hold");
    assert_eq!(victim.ended_by(PATIENCE), Some(libc::SIGTERM));
    daemon.event("terminated");

    let mine = json(&daemon, &one, &["status", "--mine", "--json"]);
    assert_eq!(
        (&mine["uid"], pids(&mine)),
        (&one.uid.into(), vec![u64::from(small.pid())]),
        "of the first: {mine}"
    );
    let of_other = json(&daemon, &other, &["status", "--mine", "--json"]);
    assert_eq!(pids(&of_other), [u64::from(others.pid())], "of the other: {of_other}");
    assert_eq!(of_other["rows"][0]["verdict"], "protected", "it is out of scope: {of_other}");
    let text = printed(&memmon_as(&daemon, &one, &["status", "--mine"]));
    assert!(text.contains("Name=small: ") && !text.contains("others"), "{text}");

    let history = ["history", "--mine", "--json"];
    // A scan may have found it near its limit before.
    let entries = || json(&daemon, &one, &history)["entries"].as_array().unwrap().clone();
    eventually("the entry", || entries().iter().any(|entry| entry["what"] == "terminated"));
    assert!(entries().iter().all(|entry| entry["comm"] == "worker"), "{:?}", entries());
    assert_eq!(json(&daemon, &other, &history)["matched"], 0);
    // A client may ask for another user there: it is answered about itself.
    let uid = one.uid.to_string();
    let asked = ["history", "--json", "--user", &uid, "--socket", "/run/memmon/mine.sock"];
    let found = json(&daemon, &other, &asked);
    assert_eq!((&found["matched"], &found["totals"]), (&0.into(), &serde_json::json!([])), "{found}");
    // A user gets no answer about the machine there, nor at the socket for root.
    for socket in ["mine.sock", "memmon.sock"] {
        let output = memmon_as(&daemon, &one, &["status", "--socket", &format!("/run/memmon/{socket}")]);
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", printed(&output));
    }

    // An administrator may turn it off, and on again.
    daemon.reload(&config(&one, "status.mine = false"));
    eventually("its end", || {
        printed(&memmon_as(&daemon, &one, &["status", "--mine"])).contains("no memmon answers")
    });
    daemon.reload(&config(&one, ""));
    eventually("an answer", || memmon_as(&daemon, &one, &["status", "--mine"]).status.success());
    daemon.stop();
}
