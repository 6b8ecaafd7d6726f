//! memmon in other namespaces than the machine's: it sends no signal if a pid, a uid or a path may have another meaning there.

use std::{
    process::{Command, Output},
    time::Duration,
};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    log::config,
};

const ONCE: &[&str] = &["--once", "--source", "proc"];
const UNSHARE: &str = "unshare";
/// The exit code for "cannot enforce" in exit.rs.
const CANNOT_ENFORCE: i32 = 4;

/// Runs one enforcing scan that is expected to be refused, and returns its output.
fn refused(launcher: &[&str], config: &ScopedConfig) -> String {
    let mut daemon = Daemon::spawn_by(launcher, config, ONCE);
    let status = daemon.ended(Duration::from_secs(20));
    let printed = daemon.last_words().join("\n");
    assert_eq!(status.code(), Some(CANNOT_ENFORCE), "{printed}");
    assert!(printed.contains("cannot enforce this configuration here"), "{printed}");
    printed
}

fn doctor(launcher: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = Command::new(launcher[0])
        .args(&launcher[1..])
        .args([env!("CARGO_BIN_EXE_memmon"), "doctor"])
        .output()
        .unwrap();
    (status.code(), String::from_utf8(stdout).unwrap())
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

const FOREIGN_PROC: [&str; 4] = [UNSHARE, "--pid", "--fork", "--kill-child"];

#[test]
#[ignore = "kernel: needs root"]
fn a_proc_of_another_pid_namespace_is_not_enforced_by() {
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let printed = refused(&FOREIGN_PROC, &config(&user, &[]));
    assert!(printed.contains("/proc is not the one of memmon's pid namespace"), "{printed}");
    assert!(printed.contains("--mount-proc"), "the remedy: {printed}");
    assert!(hog.is_alive());

    let (code, text) = doctor(&FOREIGN_PROC);
    assert_eq!(code, Some(CANNOT_ENFORCE), "{text}");
    assert_eq!(last_line(&text), "memmon can watch here, but not enforce: see the lines marked !!");

    // A dry run sends no signal.
    let arguments = ["--once", "--source", "proc", "--dry-run"];
    let mut dry = Daemon::spawn_by(&FOREIGN_PROC, &config(&user, &[]), &arguments);
    assert!(dry.ended(Duration::from_secs(20)).success(), "{:?}", dry.lines());
    assert_eq!(dry.about("killing", hog.pid()).len(), 1);
    assert!(hog.is_alive());
}

#[test]
#[ignore = "kernel: needs root"]
fn a_pid_namespace_with_its_own_proc_is_enforced_in() {
    let launcher = [UNSHARE, "--pid", "--fork", "--kill-child", "--mount-proc"];
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let mut inside = Daemon::spawn_by(&launcher, &config(&user, &[]), ONCE);
    assert!(inside.ended(Duration::from_secs(20)).success(), "{:?}", inside.lines());
    let degraded = inside.every("degraded");
    let part =
        |event: &&serde_json::Value| event["what"].to_string().contains("only the processes of its own");
    assert!(degraded.iter().any(|event| part(&event)), "{degraded:?}");
    assert!(hog.is_alive(), "the hog is not visible");

    let (code, text) = doctor(&launcher);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        last_line(&text),
        "memmon can watch and enforce in its own pid namespace only: see the lines marked !"
    );
}

/// The kernel discards a SIGTERM without a handler to the first process of a pid namespace, as a container has one.
#[test]
#[ignore = "kernel: needs root and mounts"]
fn no_grace_is_wasted_on_the_first_process_of_a_pid_namespace_that_cannot_get_sigterm() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "600")]), &[]);
    let saved = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(saved.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let handler = format!("save-on-term {} ", saved.path().display());
    for (handler, cause) in [("", "kill"), (&*handler, "term")] {
        let container = user.hog_after("new-pids", &format!("fork {handler}anon 40M hold end hold"));
        let init = container.child("fork");
        let record = daemon.reported("terminated", init);
        assert_eq!(record["cause"], cause, "{record}");
        assert_eq!(record["namespace_init"]["handles_term"], !handler.is_empty(), "{record}");
        assert!(container.is_alive());
    }
    assert_eq!(std::fs::read_to_string(saved.path()).unwrap(), "saved");
    daemon.stop();
    // Most init programs block the signal and wait for it.
    let container = user.hog_after("new-pids", "fork anon 40M wait-term end hold");
    let init = container.child("fork");
    container.line("1 begin wait-term");
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "600")]), &[]);
    assert_eq!(daemon.reported("terminated", init)["cause"], "term");
    daemon.stop();
}

/// The pid that `podman exec … ps` shows, and the user that runs it there.
#[test]
#[ignore = "kernel: needs root"]
fn a_record_has_the_pid_and_the_uid_inside_the_namespaces_of_a_process() {
    let user = TestUser::claim();
    let daemon = Daemon::start(&config(&user, &[]), &[]);
    // The map of uids is read only of a process in a pid namespace.
    let of_users = user.hog("exec hog new-users new-pids fork anon 40M hold end hold");
    let record = daemon.reported("terminated", of_users.child("fork"));
    assert_eq!((&record["uid"], &record["uid_inside"]), (&user.uid.into(), &0.into()), "{record}");
    assert_eq!(record["pid_inside"], 1, "{record}");
    let text = record["message"].as_str().unwrap();
    assert!(!text.contains("UID inside"), "it is in the line below: {text}");

    // The first process of the namespace is small, and its child is not.
    let container = user.hog_after("new-pids", "fork fork anon 40M hold end hold end hold");
    let inner = || daemon.every("terminated").into_iter().find(|record| record["pid_inside"] == 2);
    eventually("the end of the inner process", || inner().is_some());
    let record = inner().unwrap();
    assert_eq!(record.get("uid_inside"), None, "{record}");
    assert_eq!(record.get("namespace_init"), None, "{record}");
    assert!(container.is_alive());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn uids_of_another_user_namespace_are_not_enforced_by() {
    let user = TestUser::claim();
    let hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let printed = refused(&[UNSHARE, "--user", "--map-root-user"], &config(&user, &[]));
    assert!(printed.contains("a user namespace that does not map every uid in sight"), "{printed}");
    // A user namespace with its own pid namespace, but without a mapping for the users of /etc/passwd.
    let alone = [UNSHARE, "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let printed = refused(&alone, &config(&user, &[]));
    assert!(printed.contains("a user namespace that does not map every uid in sight"), "{printed}");
    assert!(hog.is_alive());
    let (code, text) = doctor(&alone);
    assert_eq!(code, Some(CANNOT_ENFORCE), "{text}");
}

#[test]
#[ignore = "kernel: needs root"]
fn clocks_of_another_time_namespace_take_ebpf_away_but_not_enforcing() {
    let launcher =
        [UNSHARE, "--time", "--boottime", "100000", "--monotonic", "50000", "--fork", "--kill-child"];
    let user = TestUser::claim();
    let mut hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let mut inside = Daemon::spawn_by(&launcher, &config(&user, &[]), &["--once", "--source", "auto"]);
    assert!(inside.ended(Duration::from_secs(20)).success(), "{:?}", inside.lines());
    assert_eq!(inside.event("started")["source"], "proc");
    assert_eq!(hog.ended_by(Duration::from_secs(5)), Some(libc::SIGTERM));
    assert_eq!(inside.about("terminated", hog.pid()).len(), 1);
    let (_, text) = doctor(&launcher);
    assert!(text.contains("time namespace    memmon is in a time namespace"), "{text}");
}

/// Without CAP_SYS_PTRACE every executable of another user looks like one that its owner hides.
#[test]
#[ignore = "kernel: needs root"]
fn executables_that_memmon_cannot_see_are_not_enforced_by() {
    let launcher = ["setpriv", "--bounding-set", "-sys_ptrace"];
    let user = TestUser::claim();
    let mut hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let exe = std::fs::read_link(format!("/proc/{}/exe", hog.pid())).unwrap();
    let exe = exe.display();
    for (key, value) in [
        ("whitelist.exe", format!("[\"{exe}\"]")),
        ("rule", format!("[{{ name = \"db\", exe = [\"{exe}\"], none = true }}]")),
    ] {
        let printed = refused(&launcher, &config(&user, &[(key, &value)]));
        assert!(printed.contains("CAP_SYS_PTRACE"), "{key}: {printed}");
        assert!(hog.is_alive());
    }
    let mut without = Daemon::spawn_by(&launcher, &config(&user, &[]), ONCE);
    assert!(without.ended(Duration::from_secs(20)).success(), "{:?}", without.lines());
    assert_eq!(hog.ended_by(Duration::from_secs(5)), Some(libc::SIGTERM));
}

#[test]
#[ignore = "kernel: needs root"]
fn paths_of_another_cgroup_namespace_are_not_enforced_by() {
    let launcher = [UNSHARE, "--cgroup"];
    let user = TestUser::claim();
    let mut hog = user.hog("anon 40M hold");
    hog.begun("hold");
    let printed = refused(&launcher, &config(&user, &[]).and_in_cgroup("/**"));
    assert!(printed.contains("no path of a cgroup is the one that `cgroups` or `units` names"), "{printed}");
    // A list that protects must not become one that matches nothing.
    for (key, value) in [
        ("whitelist.cgroups", "[\"/db.service\"]"),
        ("whitelist.units", "[\"db.service\"]"),
        ("rule", "[{ name = \"db\", cgroups = [\"/db.service\"], none = true }]"),
        ("rule", "[{ name = \"db\", names = [\"*\"], not = { units = [\"db.service\"] }, gb = 0.01 }]"),
    ] {
        let printed = refused(&launcher, &config(&user, &[(key, value)]));
        assert!(printed.contains("memmon is in a cgroup namespace"), "{key}: {printed}");
    }
    assert!(hog.is_alive());
    // Nothing else depends on the cgroup namespace.
    let mut inside = Daemon::spawn_by(&launcher, &config(&user, &[]), ONCE);
    assert!(inside.ended(Duration::from_secs(20)).success(), "{:?}", inside.lines());
    assert_eq!(hog.ended_by(Duration::from_secs(5)), Some(libc::SIGTERM));
}
