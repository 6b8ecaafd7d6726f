//! `memmon replay` with a real daemon: its samples are judged again by its own configuration, by a lower limit and by a
//! higher one.

use std::{collections::BTreeSet, fs, path::PathBuf};

use crate::common::{
    PATIENCE, TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    hog::Hog,
};
use serde_json::Value;

/// A limit for the processes of the user, and a scan every 0.2 s.
fn text(user: &TestUser, limit: &str) -> String {
    format!(
        "thresholds = {{ ram_percent_threshold = 100, ram_gb_threshold = {limit}, check_interval = 0.2 }}\n\
         settings.enable_syslog = false\nlog.format = \"json\"\ntermination.repeat_limit = 0\n\
         [[rule]]\nname = \"lasting\"\nusers = [\"{}\"]\nnames = [\"lasting\"]\ngb = 0.02\nfor = 300\n",
        user.uid
    )
}

fn hog(user: &TestUser, script: &str) -> Hog {
    let hog = user.hog(script);
    hog.begun("hold");
    hog
}

/// Replays by the configuration `text`. Returns the processes of the user that it would have ended, and those
/// that would have lived.
fn replay(daemon: &Daemon, user: &TestUser, text: &str) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let path = daemon.dir().join("other.toml");
    fs::write(&path, format!("{text}[scope]\nusers = [\"{}\"]\n", user.uid)).unwrap();
    let mut command = daemon.beside(env!("CARGO_BIN_EXE_memmon"));
    let output = command.args(["replay", "--since", "1h", "--json", "--config"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["judged"].as_u64() > Some(0), "{found}");
    let pids = |key: &str| {
        let fates = found[key].as_array().unwrap().iter();
        fates.filter(|fate| fate["uid"] == user.uid).map(|fate| fate["pid"].as_u64().unwrap()).collect()
    };
    (pids("ended"), pids("lived"))
}

#[test]
#[ignore = "kernel: needs root"]
fn what_was_seen_is_judged_again_by_other_limits() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&ScopedConfig::new(&user, &text(&user, "0.08")), &["--source", "proc"]);
    let small = hog(&user, "rename small anon 50M hold");
    let lasting = hog(&user, "rename lasting anon 30M hold");
    let mut victim = user.hog("rename worker anon 120M hold");
    assert_eq!(victim.ended_by(PATIENCE), Some(libc::SIGTERM));
    daemon.event("terminated");
    let [small, lasting, victim] = [small.pid(), lasting.pid(), victim.pid()].map(u64::from);
    let set = |pids: &[u64]| pids.iter().copied().collect::<BTreeSet<_>>();

    // Looks come some seconds apart.
    eventually("a look at both", || replay(&daemon, &user, &text(&user, "0.04")).0 == set(&[small, victim]));
    let same = text(&user, "0.08");
    assert_eq!(replay(&daemon, &user, &same), (set(&[victim]), set(&[])), "as it was");
    let at_once = same.replace("for = 300\n", "");
    assert_eq!(replay(&daemon, &user, &at_once), (set(&[lasting, victim]), set(&[])));
    assert_eq!(replay(&daemon, &user, &text(&user, "8")), (set(&[]), set(&[victim])));
    daemon.stop();
}

/// Nothing is opened or written while nothing is above a quarter of its limit.
#[test]
#[ignore = "kernel: needs root"]
fn a_daemon_that_sees_nothing_near_a_limit_keeps_nothing() {
    let user = TestUser::claim();
    let far = "thresholds = { ram_percent_threshold = 100, ram_gb_threshold = 4000, check_interval = 0.2 }\n\
               settings.enable_syslog = false\nlog.format = \"json\"\n";
    let daemon = Daemon::start(&ScopedConfig::new(&user, far), &["--source", "proc"]);
    let _hog = hog(&user, "anon 20M hold");
    for _ in 0..3 {
        daemon.scanned();
    }
    assert!(!PathBuf::from(format!("/proc/{}/root/var/lib/memmon", daemon.pid())).exists());
    daemon.stop();
}
