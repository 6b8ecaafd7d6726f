//! Tests of the helpers on whose safety the other tests rely.

use std::{fs, panic, path::Path, process::Command, time::Duration};

use crate::common::{
    TestUser,
    daemon::{ScopedConfig, in_private_mounts},
    descends_from, eventually,
    hog::Hog,
    processes_of, status_field,
};

fn panics(run: impl FnOnce() + panic::UnwindSafe) -> bool {
    panic::catch_unwind(run).is_err()
}

#[test]
#[ignore = "kernel: needs root"]
fn a_user_is_claimed_once_and_hogs_run_under_it() {
    let (one, other) = (TestUser::claim(), TestUser::claim());
    assert_ne!(one.uid, other.uid);
    let hog = one.hog("anon 20M fork anon 5M hold end hold");
    let child = hog.child("fork");
    hog.line(&format!("{child} begin hold"));
    let mut found = processes_of(one.uid);
    found.sort_unstable();
    let mut started = [hog.pid(), child];
    started.sort_unstable();
    assert_eq!(found, started);
    assert!(found.iter().all(|&pid| descends_from(pid, std::process::id())));
    drop(hog);
    eventually("the end of the child with its parent", || processes_of(one.uid).is_empty());
}

#[test]
#[ignore = "kernel: needs root"]
fn no_configuration_without_this_very_scope() {
    let user = TestUser::claim();
    ScopedConfig::new(&user, "[settings]\ndry_run = false\n");
    for text in [
        "[scope]\nusers = [\"root\"]",
        "scope = {}",
        "scope.users = [\"0\"]",
        "[scope]\ncgroups = [\"/**\"]",
        "[settings]\n\"\"\"",
        "x = '''",
        "[scope.",
    ] {
        assert!(panics(|| drop(ScopedConfig::new(&user, text))), "{text}");
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn the_mounts_of_a_daemon_are_its_own() {
    crate::common::require_root();
    let mounts = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let before = mounts();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ls -A /run /var/log; echo end; touch /run/left /var/log/left; cat /proc/self/mounts"]);
    in_private_mounts(&mut command);
    let printed = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(printed.starts_with("/run:\n\n/var/log:\nend\n"), "not empty: {printed}");
    assert!(printed.contains(" /sys/fs/bpf bpf "), "{printed}");
    assert_eq!(mounts(), before, "the mounts are visible outside");
    assert!(!Path::new("/run/left").exists() && !Path::new("/var/log/left").exists());
}

#[test]
fn a_hog_holds_what_it_says_and_ends_with_its_guard() {
    let hog = Hog::start("anon 30M shmem 10M threads 2 5M rename a\\nb\\x1b[31m hold");
    hog.begun("hold");
    let kib = |key| status_field(hog.pid(), key).and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    assert!(kib("RssAnon:").is_some_and(|kib| (40 << 10..50 << 10).contains(&kib)), "{:?}", kib("RssAnon:"));
    assert!(
        kib("RssShmem:").is_some_and(|kib| (10 << 10..11 << 10).contains(&kib)),
        "{:?}",
        kib("RssShmem:")
    );
    let pid = hog.pid();
    assert_eq!(fs::read(format!("/proc/{pid}/comm")).unwrap(), b"a\nb\x1b[31m\n");
    drop(hog);
    assert!(status_field(pid, "State:").is_none());
}

#[test]
fn a_leader_that_exits_leaves_a_zombie_with_a_living_thread() {
    let mut hog = Hog::start("leader-exits anon 20M hold");
    hog.begun("hold");
    assert_eq!(hog.state(), 'Z');
    assert_eq!(status_field(hog.pid(), "VmRSS:"), None, "the leader still has memory");
    hog.release();
    assert!(hog.ended(Duration::from_secs(5)).success());
}
