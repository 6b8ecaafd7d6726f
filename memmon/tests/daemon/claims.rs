//! Two memmons of one kernel do not enforce limits for the same users, whatever their /run, their mounts and their sources are.

use std::{fs::File, io::Write as _, os::unix::fs::fchown, process};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::common::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    log::{SOON, SOURCES, config},
};

/// The exit code for "already running" in exit.rs.
const ALREADY_RUNNING: i32 = 3;

/// Starts a memmon with mounts of its own, which is expected to be refused because of the process `pid`.
fn refused(config: &ScopedConfig, source: &str, pid: u32) {
    let mut second = Daemon::spawn(config, &["--source", source]);
    let code = second.ended(SOON).code();
    let printed = second.last_words().join("\n");
    assert_eq!(code, Some(ALREADY_RUNNING), "{printed}");
    let expected =
        format!("another memmon (pid {pid}), in a container or with another /run, enforces limits");
    assert!(printed.contains(&expected) && !printed.contains("\"started\""), "{printed}");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_second_one_with_other_mounts_is_refused_if_it_enforces_for_the_same_users() {
    let (user, other_user) = (TestUser::claim(), TestUser::claim());
    let (config, others) = (config(&user, &[]), config(&other_user, &[]));
    for first_source in SOURCES {
        let first = Daemon::start(&config, &["--source", first_source]);
        for source in SOURCES {
            refused(&config, source, first.pid());
        }
        // Other users, or no signals.
        let beside =
            [Daemon::start(&others, &["--source", first_source]), Daemon::start(&config, &["--dry-run"])];
        first.terminated(&mut user.hog("anon 40M hold"));
        beside[0].terminated(&mut other_user.hog("anon 40M hold"));
        first.stop();
        beside.into_iter().for_each(|daemon| drop(daemon.stop()));
        // The claim ends with its process.
        Daemon::start(&config, &["--source", first_source]).stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_dry_run_does_not_become_the_second_one_by_a_reload() {
    let user = TestUser::claim();
    let (dry, enforcing) = (config(&user, &[("settings.dry_run", "true")]), config(&user, &[]));
    for source in SOURCES {
        let arguments = &["--source", *source];
        let (first, second) = (Daemon::start(&enforcing, arguments), Daemon::start(&dry, arguments));
        second.reload(&enforcing);
        let error = second.event("reload_failed")["error"].as_str().unwrap().to_owned();
        assert!(error.contains(&format!("another memmon (pid {})", first.pid())), "{error}");
        assert_eq!(second.status()["dry_run"], true);
        // The refusal has left no claim.
        first.reload(&enforcing);
        first.event("reloaded");
        assert!(first.every("reload_failed").is_empty());

        first.reload(&dry);
        first.line("the dry run", |line| line.contains("\"reloaded\"") && line.contains("\"dry_run\":true"));
        second.reload(&enforcing);
        second.event("reloaded");
        second.terminated(&mut user.hog("anon 40M hold"));
        first.reload(&enforcing);
        first.event("reload_failed");
        refused(&enforcing, source, second.pid());
        first.stop();
        second.stop();
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn of_two_that_start_at_once_one_enforces() {
    let user = TestUser::claim();
    let config = config(&user, &[]);
    for _ in 0..5 {
        let mut both = [(); 2].map(|()| Daemon::spawn(&config, &["--source", "proc"]));
        let place = [0, 1].into_iter().find(|&place| {
            let other: &Daemon = &both[1 - place];
            other
                .line("its start, or a refusal", |line| {
                    line.contains("\"started\"") || line.contains("another memmon")
                })
                .contains("another memmon")
        });
        // Either the second of the pair was refused, or the first.
        let place = place.expect("both enforce");
        assert_eq!(both[1 - place].ended(SOON).code(), Some(ALREADY_RUNNING));
        both[place].started();
        both[place].terminated(&mut user.hog("anon 40M hold"));
    }
}

#[test]
#[ignore = "kernel: needs root"]
fn only_files_of_root_count() {
    let user = TestUser::claim();
    let config = config(&user, &[]);
    let mut claim: File = memfd_create("memmon-claim", MFdFlags::MFD_CLOEXEC).unwrap().into();
    write!(claim, "{{\"stage\":\"enforcing\",\"uids\":[[{0},{0}]]}}", user.uid).unwrap();
    fchown(&claim, Some(user.uid), None).unwrap();
    Daemon::start(&config, &["--source", "proc"]).stop();
    fchown(&claim, Some(0), None).unwrap();
    refused(&config, "proc", process::id());
}

/// Otherwise everybody who is root in a container could keep memmon from starting.
#[test]
#[ignore = "kernel: needs root and mounts"]
fn one_in_a_container_is_named_and_keeps_none_outside_from_enforcing() {
    let user = TestUser::claim();
    let config = config(&user, &[]);
    let launcher = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let inside = Daemon::start_by(&launcher, &config, &["--source", "proc"]);
    let outside = Daemon::start(&config, &["--source", "proc"]);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", inside.pid())).unwrap();
    let what = format!("another memmon (pid {}) enforces limits in a container", children.trim());
    outside.line("the warning", |line| line.contains("\"degraded\"") && line.contains(&what));
    outside.terminated(&mut user.hog("anon 40M hold"));
    outside.stop();
}
