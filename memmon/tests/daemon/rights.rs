//! Facts about processes of other users that root cannot read by the usual way with the capabilities of memmon's unit.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    hog::program,
    log::{SOURCES, config},
    status_field,
};
use memmon::model::{Capabilities, Capability};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

const TERM: Option<i32> = Some(libc::SIGTERM);

/// One line of /proc/PID/status.
fn of(daemon: &Daemon, key: &str) -> String {
    status_field(daemon.pid(), key).unwrap()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_daemon_with_the_rights_of_the_unit_has_no_more() {
    let user = TestUser::claim();
    let daemon = Daemon::start_as_unit(":", &config(&user, &[]), &[]);
    let unit = [Capability::KILL, Capability::SYS_PTRACE, Capability::PERFMON, Capability::BPF];
    let Capabilities(unit) = Capabilities::of(unit);
    // These stand for limits that a root without CAP_SYS_RESOURCE cannot raise.
    let Capabilities(instead) = Capabilities::of([Capability::IPC_LOCK, Capability::SYS_NICE]);
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let has = u64::from_str_radix(&of(&daemon, set), 16).unwrap();
        assert_eq!(has & !instead, unit, "{set} {has:x}");
    }
    assert_eq!((of(&daemon, "NoNewPrivs:"), of(&daemon, "Umask:")), ("1".to_owned(), "0027".to_owned()));
    // So the sockets that users may connect to are within reach, if memmon creates their directory itself.
    let runtime = fs::metadata(format!("/proc/{}/root/run/memmon", daemon.pid())).unwrap();
    assert_eq!(runtime.permissions().mode() & 0o7777, 0o755);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_program_in_a_home_that_only_its_user_may_enter_is_known_by_its_path() {
    for source in SOURCES {
        let user = TestUser::claim();
        let home = tempfile::tempdir().unwrap();
        let app = home.path().join("app");
        fs::copy(program(), &app).unwrap();
        chown(home.path(), Some(user.uid), Some(user.uid)).unwrap();
        fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
        let rules = format!("[{{ name = 'app', exe = ['{}'], none = true }}]", app.display());
        let spared = user.hog_by(&mut Command::new(&app), "", "anon 40M hold");
        spared.begun("hold");
        let config = config(&user, &[("rule", &rules)]);
        let daemon = Daemon::start_as_unit(":", &config, &["--source", source]);
        let mut other = user.hog("anon 40M hold");
        assert_eq!(daemon.terminated(&mut other).0, TERM);
        daemon.scanned();
        assert!(spared.is_alive());
        assert!(daemon.about("killing", spared.pid()).is_empty());
        daemon.stop();
    }
}

/// Makes a copy of the mounts, and does with it what a user can do in one of their own.
#[expect(unsafe_code, reason = "runs between fork and exec")]
fn in_copied_mounts(command: &mut Command, bound: Option<(PathBuf, PathBuf)>) {
    let prepare = move || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (none, no_data) = (None::<&str>, None::<&str>);
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, no_data)?;
        if let Some((from, to)) = &bound {
            mount(Some(from), to, none, MsFlags::MS_BIND, no_data)?;
        }
        Ok(())
    };
    // SAFETY: system calls only; short strings are copied to the stack, nothing is allocated.
    unsafe { command.pre_exec(prepare) };
}

/// As a service with PrivateTmp= has them, and many others.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_program_in_a_home_is_known_by_its_path_in_mounts_of_its_own_unless_its_user_mounted_it_there() {
    let user = TestUser::claim();
    let home = tempfile::tempdir().unwrap();
    let (app, other) = (home.path().join("app"), home.path().join("other"));
    for place in [&app, &other] {
        fs::copy(program(), place).unwrap();
    }
    chown(home.path(), Some(user.uid), Some(user.uid)).unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).unwrap();
    let rules = format!("[{{ name = 'app', exe = ['{}'], none = true }}]", app.display());
    let hog = |bound| {
        let mut command = Command::new(&app);
        in_copied_mounts(&mut command, bound);
        user.hog_by(&mut command, "", "anon 40M hold")
    };
    let spared = hog(None);
    spared.begun("hold");
    let daemon = Daemon::start_as_unit(":", &config(&user, &[("rule", &rules)]), &[]);
    let mut pretends = hog(Some((other, app.clone())));
    assert_eq!(daemon.terminated(&mut pretends).0, TERM);
    daemon.scanned();
    assert!(spared.is_alive());
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_environment_of_a_users_process_names_its_slurm_job() {
    let user = TestUser::claim();
    let slurm = "mkdir -p /run/slurm/conf; : > /run/slurm/conf/slurm.conf";
    let daemon = Daemon::start_as_unit(slurm, &config(&user, &[]), &[]);
    let mut command = Command::new(program());
    let mut hog = user.hog_by(command.env("SLURM_JOB_ID", "4711"), "", "anon 40M hold");
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!((signal, &record["slurm_job_id"]), (TERM, &4711.into()), "{record}");
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn terminals_that_memmon_may_not_write_to_are_reported_at_the_start() {
    let user = TestUser::claim();
    let daemon = Daemon::start_as_unit(":", &config(&user, &[("notify.terminal", "true")]), &[]);
    let warning = daemon.line("the warning", |line| line.contains("notify.terminal cannot be used"));
    assert!(warning.contains("memmon(8), SYSTEMD"), "{warning}");
    daemon.stop();
}
