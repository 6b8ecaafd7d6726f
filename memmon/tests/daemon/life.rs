//! The lifetime of a daemon: one per machine, reloads, and refused starts.

use std::{os::unix::process::CommandExt, path::Path};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    hog::Hog,
    log::{SOON, SOURCES, config},
};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde_json::Value;

const TERM: Option<i32> = Some(libc::SIGTERM);

/// The exit code and all output.
fn refused(mut daemon: Daemon) -> (Option<i32>, String) {
    let status = daemon.ended(SOON);
    (status.code(), daemon.last_words().join("\n"))
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_reload_counts_at_once_and_a_bad_one_changes_nothing() {
    for source in SOURCES {
        let user = TestUser::claim();
        let with = |gb| {
            let changes = [("thresholds.ram_gb_threshold", gb), ("thresholds.check_interval", "3600")];
            config(&user, &changes)
        };
        let mut hog = user.hog("anon 40M hold");
        hog.begun("hold");
        let daemon = Daemon::start(&with("0.5"), &["--source", source]);
        daemon.event("scan_complete");
        daemon.never_mentioned(hog.pid());
        daemon.reload(&with("0.03125"));
        assert_eq!(daemon.terminated(&mut hog).0, TERM);
        assert!(daemon.event("reloaded")["config"].as_str().unwrap().ends_with("/config.toml"));

        let typo = [("thresholds.ram_gb_treshold", "0.5"), ("thresholds.check_interval", "0.1")];
        daemon.reload(&config(&user, &typo));
        let error = daemon.event("reload_failed")["error"].as_str().unwrap().to_owned();
        assert!(error.contains("/config.toml:") && error.contains(":12\n"), "file, line and column: {error}");
        assert!(error.contains("`ram_gb_treshold`") && error.contains("`ram_gb_threshold`"), "{error}");
        daemon.reload(&config(&user, &[("thresholds.ram_gb_threshold", "0.03125")]));
        assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_probable_mistake_is_no_degradation_and_what_does_not_work_is_one() {
    let user = TestUser::claim();
    let with =
        |names| config(&user, &[("whitelist.names", names), ("settings.log_file", "\"/nowhere/log\"")]);
    let daemon = Daemon::start(&with("[\"docker\"]"), &["--source", "proc"]);
    let reports = |kind: &str, part: &str| {
        daemon.every(kind).iter().filter(|event| event["what"].to_string().contains(part)).count()
    };
    let warnings = |part: &str, count: usize| {
        let what = format!("{count} warnings with {part}");
        crate::common::eventually(&what, || reports("config_warning", part) == count);
        assert_eq!(reports("degraded", part), 0);
    };
    warnings("dockerd", 1);
    daemon.reload(&with("[\"apache\"]"));
    warnings("apache2", 1);
    assert!(reports("degraded", "/nowhere") >= 1 && reports("config_warning", "/nowhere") == 0);
    let message = daemon.event("config_warning")["message"].to_string();
    assert!(message.starts_with("\"Warning about the configuration: "), "{message}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_state_folder_that_cannot_be_used_is_reported_at_the_start_and_by_doctor() {
    let user = TestUser::claim();
    for (shell, why) in
        [("mkdir -m 500 /var/lib/memmon", "Permission denied"), ("touch /var/lib/memmon", "is no folder")]
    {
        let daemon = Daemon::start_as_unit(shell, &config(&user, &[]), &["--source", "proc", "--dry-run"]);
        let is_it =
            |text: &str| text.contains("nothing can be kept in /var/lib/memmon") && text.contains(why);
        daemon.line(why, |line| line.contains("\"degraded\"") && is_it(line));
        assert!(is_it(&daemon.status()["degraded"].to_string()));
        // The test has the right to write to any folder.
        if shell.starts_with("touch") {
            let doctor = daemon.beside(env!("CARGO_BIN_EXE_memmon")).arg("doctor").output().unwrap();
            assert!(is_it(&String::from_utf8(doctor.stdout).unwrap()));
        }
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_second_daemon_is_refused_and_a_look_beside_it_is_not() {
    for source in SOURCES {
        let user = TestUser::claim();
        let config = config(&user, &[]);
        let first = Daemon::start(&config, &["--source", source]);
        for arguments in [&["--source", source][..], &["--dry-run"]] {
            let (code, printed) = refused(first.spawn_beside(&config, arguments));
            assert_eq!(code, Some(3), "{printed}");
            assert!(printed.contains(&format!("another memmon (pid {})", first.pid())), "{printed}");
            assert!(
                printed.contains("systemctl stop memmon") && !printed.contains("\"started\""),
                "{printed}"
            );
        }
        let mut look = first.spawn_beside(&config, &["--once", "--dry-run", "--source", source]);
        assert!(look.ended(SOON).success());
        look.event("scan_complete");
        // The first daemon is not affected.
        assert_eq!(first.terminated(&mut user.hog("anon 40M hold")).0, TERM);
        let pin = format!("/proc/{}/root", first.pid()) + "/sys/fs/bpf/memmon/processes";
        assert_eq!(Path::new(&pin).exists(), *source == "ebpf", "the single scan removed the pin");
        first.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn a_wrong_configuration_starts_nothing() {
    let user = TestUser::claim();
    let daemon = Daemon::spawn(&config(&user, &[("settings.dry_rum", "false")]), &[]);
    let (code, printed) = refused(daemon);
    assert_eq!(code, Some(2), "{printed}");
    assert!(
        printed.contains("`dry_rum`") && printed.contains("`dry_run`"),
        "with the nearest key: {printed}"
    );
    assert!(!printed.contains("started") && !printed.contains("Scan"), "{printed}");
}

/// Runs memmon as the test's own user, without any capability.
fn as_user(user: &TestUser, config: &ScopedConfig, arguments: &[&str]) -> Daemon {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.uid));
    #[expect(unsafe_code, reason = "runs between fork and exec")]
    Daemon::spawn_prepared(config, arguments, |command| {
        let become_user = move || {
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
            // SAFETY: one integer; the change of credentials has undone it.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(())
        };
        // SAFETY: system calls only, nothing is allocated.
        unsafe { command.pre_exec(become_user) };
    })
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn without_rights_it_polls_proc_reports_missing_features_and_reaches_its_own_processes() {
    let (user, stranger) = (TestUser::claim(), TestUser::claim());
    let dry = as_user(&user, &config(&user, &[]), &["--dry-run"]);
    let started: Value = serde_json::from_str(&dry.started()).unwrap();
    assert_eq!((&started["source"], &started["dry_run"]), (&"proc".into(), &true.into()));
    let reason = started["reason"].as_str().unwrap();
    assert!(reason.starts_with("no ebpf: ") && reason.contains("CAP_BPF"), "{reason}");
    dry.event("scan_complete");
    let missing: Vec<String> = dry.every("degraded").iter().map(|event| event["what"].to_string()).collect();
    assert!(missing.iter().any(|what| what.contains("CAP_KILL")), "{missing:?}");
    assert!(missing.iter().any(|what| what.contains("CAP_SYS_PTRACE")), "{missing:?}");
    dry.stop();

    let other = stranger.hog("anon 40M hold");
    let daemon = as_user(&user, &config(&user, &[]), &[]);
    daemon.started();
    assert_eq!(daemon.terminated(&mut user.hog("anon 40M hold")).0, TERM);
    daemon.never_mentioned(other.pid());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root"]
fn a_scan_does_not_wait_for_processes_out_of_reach() {
    let (user, stranger) = (TestUser::claim(), TestUser::claim());
    let hog = user.hog("anon 40M hold");
    hog.begun("hold");
    // Names would leave it in doubt, because it may not read that of the executable.
    let mut once = as_user(&stranger, &config(&user, &[("whitelist.names", "[]")]), &["--once"]);
    assert!(once.ended(SOON).success());
    assert_eq!(once.reported("signal_failed", hog.pid())["signal"], "SIGTERM");
    assert_eq!(once.event("stopping")["reason"], "one scan was asked for");
    assert!(hog.is_alive());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_out_of_reach_counts_in_its_sum_and_another_one_ends() {
    let (user, stranger) = (TestUser::claim(), TestUser::claim());
    let rule = format!("[{{ name = \"together\", uids = [\"{}\"], per = \"user\", gb = 0.1 }}]", user.uid);
    let keys = [("rule", rule.as_str()), ("whitelist.names", "[]"), ("thresholds.ram_gb_threshold", "1.0")];
    // kill(2): the sender's uid must be the real or the saved one of the process.
    let reachable = |mib| Hog::start(&format!("anon {mib}M uid {0}:{0}:{1} hold", user.uid, stranger.uid));
    let largest = user.hog("anon 60M hold");
    let (mut next, smallest) = (reachable(40), reachable(20));
    for hog in [&largest, &next, &smallest] {
        hog.begun("hold");
    }
    let daemon = as_user(&stranger, &config(&user, &keys), &[]);
    assert_eq!(daemon.reported("signal_failed", largest.pid())["signal"], "SIGTERM");
    assert_eq!(next.ended_by(SOON), Some(libc::SIGTERM));
    daemon.stop();
    assert!(largest.is_alive() && smallest.is_alive());
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn where_it_cannot_be_done_a_start_is_refused() {
    let user = TestUser::claim();
    let (code, printed) = refused(as_user(&user, &config(&user, &[]), &["--source", "ebpf"]));
    assert_eq!(code, Some(4), "{printed}");
    assert!(printed.contains("CAP_BPF"), "{printed}");

    let without_pidfds = |config: &ScopedConfig, arguments: &[&str]| {
        #[expect(unsafe_code, reason = "runs between fork and exec")]
        Daemon::spawn_prepared(config, arguments, |command| {
            // SAFETY: system calls only, nothing is allocated.
            unsafe { command.pre_exec(|| refuse(libc::SYS_pidfd_send_signal)) };
        })
    };
    let (code, printed) = refused(without_pidfds(&config(&user, &[]), &[]));
    assert_eq!(code, Some(4), "{printed}");
    assert!(printed.contains("pidfd_send_signal") && printed.contains("--dry-run"), "{printed}");
    assert!(!printed.contains("\"started\""), "{printed}");
    let watches = without_pidfds(&config(&user, &[]), &["--dry-run"]);
    watches.started();
    watches.stop();

    // A reload does not start enforcing either.
    let dry = |dry_run| config(&user, &[("settings.dry_run", dry_run)]);
    let watches = without_pidfds(&dry("true"), &[]);
    watches.started();
    watches.reload(&dry("false"));
    let error = watches.event("reload_failed")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("pidfd_send_signal") && error.contains("dry"), "{error}");
    let hog = user.hog("anon 40M hold");
    assert_eq!(watches.reported("killing", hog.pid())["dry_run"], true);
    assert!(watches.every("reloaded").is_empty() && hog.is_alive());
    watches.stop();
}

/// Docker's and containerd's default profiles refuse bpf(2), also to a container with CAP_BPF if they are old.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_profile_that_refuses_bpf_is_named_with_what_allows_it() {
    let user = TestUser::claim();
    #[expect(unsafe_code, reason = "runs between fork and exec")]
    let daemon = Daemon::spawn_prepared(&config(&user, &[]), &["--dry-run"], |command| {
        // SAFETY: system calls only, nothing is allocated.
        unsafe { command.pre_exec(|| refuse(libc::SYS_bpf)) };
    });
    let started = daemon.event("started");
    assert_eq!(started["source"], "proc", "{started}");
    assert!(started["reason"].as_str().unwrap().starts_with("no ebpf: bpf is refused"), "{started}");
    let what = daemon.event("degraded")["what"].to_string();
    assert!(what.contains("bpf is refused") && what.contains("seccompProfile of a pod"), "{what}");
    daemon.stop();
}

/// Refuses a system call, as the seccomp profile of a container may.
#[expect(unsafe_code, reason = "runs between fork and exec")]
#[expect(clippy::cast_possible_truncation, reason = "constants of the kernel's, all of them small")]
fn refuse(call: libc::c_long) -> std::io::Result<()> {
    let op = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0), // the number of the call
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call.cast_unsigned() as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, refusal),
        op(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program and its four instructions outlive the call, which copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
