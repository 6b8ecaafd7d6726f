//! `[machine]`, on a machine that is always short of memory: what has grown ends, and nothing else.

use std::{
    fs,
    process::{Child, Command},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        statvfs::statvfs,
    },
    unistd::Pid,
};

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    log::{EBPF, RARELY, SOURCES, config},
    meminfo::{self, LEVELS, ShortMachine},
};

/// Memory of each process of the crowd, in MB.
const PART: u64 = 90;

/// Number of them that are too small a part of this machine's memory to be the cause of anything: less than one percent, or than
/// half a gigabyte.
fn harmless() -> usize {
    usize::try_from((meminfo::total() / 1024 / 100).min(512) / (PART + 1)).unwrap()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_crowd_ends_one_by_one_and_the_larger_idle_process_lives() {
    let machine = ShortMachine::new();
    for source in SOURCES {
        let user = TestUser::claim();
        let idle = user.hog("anon 250M hold");
        idle.begun("hold");
        let changes = [("thresholds.ram_gb_threshold", "1000"), LEVELS[0], LEVELS[1]];
        let daemon = machine.start(&config(&user, &changes), &["--source", source]);
        daemon.scanned();
        let mut crowd: Vec<_> =
            (0..harmless() + 2).map(|_| user.hog(&format!("anon {PART}M hold"))).collect();
        let alive = |crowd: &[crate::common::hog::Hog]| crowd.iter().filter(|hog| hog.is_alive()).count();
        eventually("most of the crowd has ended", || alive(&crowd) <= harmless());
        daemon.scanned();
        assert_eq!(alive(&crowd), harmless(), "no more of them end than caused it");
        assert!(idle.is_alive(), "it has not grown");

        let ended: Vec<_> = crowd.iter_mut().filter(|hog| !hog.is_alive()).collect();
        for hog in ended {
            let (signal, record) = daemon.terminated(hog);
            assert_eq!((signal, record["rule"].as_str()), (Some(libc::SIGTERM), Some("machine")));
            let culprit = daemon.reported("culprit", hog.pid());
            assert_eq!(culprit["reasons"], "available", "{culprit}");
            // It may still be growing.
            let growth = culprit["growth_bytes"].as_u64().unwrap();
            assert!((1 << 20..(PART + 2) << 20).contains(&growth), "{culprit}");
        }
        let output =
            daemon.beside(env!("CARGO_BIN_EXE_memmon")).args(["explain", "--machine", "--json"]).output();
        let order: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        let standing = |pid: u32| {
            let rows = order["rows"].as_array().unwrap();
            rows.iter().find(|row| row["pid"] == pid).map(|row| row["standing"].as_str().unwrap().to_owned())
        };
        assert_eq!(order["shortage"], "act");
        for hog in crowd.iter().filter(|hog| hog.is_alive()) {
            assert_eq!(standing(hog.pid()).as_deref(), Some("not_the_cause"), "{order}");
        }
        assert!(standing(idle.pid()).is_none_or(|standing| standing == "idle"), "{order}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_that_outgrew_its_own_limit_meanwhile_ends_for_that_when_memory_is_back() {
    let (machine, user) = (ShortMachine::new(), TestUser::claim());
    let changes =
        [RARELY, ("thresholds.ram_gb_threshold", "0.27"), ("termination.grace", "2"), LEVELS[0], LEVELS[1]];
    let daemon = machine.start(&config(&user, &changes), EBPF);
    let mut hog = user.hog("anon 260M wait-term anon 30M hold");
    daemon.reported("culprit", hog.pid());
    hog.begun("hold");
    machine.relieve();
    daemon.reported("spared", hog.pid());
    let (signal, record) = daemon.terminated(&mut hog);
    assert_eq!((signal, record["rule"].as_str()), (Some(libc::SIGTERM), Some("gb")));
    daemon.stop();
}

/// A file that is removed with the test.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// More megabytes than what other processes take and free meanwhile, but some containers have 64 MB in /dev/shm.
fn size_of_file() -> u64 {
    let room = statvfs("/dev/shm").unwrap();
    match (room.blocks_available() * room.fragment_size()) >> 20 {
        1000.. => 720,
        300.. => 240,
        _ => 48,
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_fills_a_tmpfs_is_stopped_by_choice_and_none_ends() {
    let size = size_of_file();
    let machine = ShortMachine::new();
    for (source, stops) in [("ebpf", true), ("proc", true), ("proc", false)] {
        let user = TestUser::claim();
        let changes = [
            ("thresholds.ram_gb_threshold", "1000"),
            LEVELS[0],
            LEVELS[1],
            ("machine.stop_writers", if stops { "true" } else { "false" }),
        ];
        let daemon = machine.start(&config(&user, &changes), &["--source", source]);
        daemon.scanned();
        let file = Left(format!("/dev/shm/memmon-test-{}", user.uid));
        let steps = format!("write {} {size}M {}M/s", file.0, size / 12);
        let hog = user.hog(&format!("{steps} hold"));
        hog.begun(&steps);
        if stops {
            let stopped = daemon.reported("stopped", hog.pid());
            assert_eq!(
                (&stopped["rule"], &stopped["dry_run"]),
                (&"machine".into(), &false.into()),
                "{stopped}"
            );
            eventually("it stands still", || hog.state() == 'T');
            let length = || fs::metadata(&file.0).unwrap().len();
            let written = length();
            assert!(written < size << 20, "{written} bytes were written");
            daemon.scanned();
            daemon.scanned();
            assert_eq!((length(), hog.state()), (written, 'T'), "and it stays so");
        } else {
            hog.begun("hold");
            assert!(daemon.about("stopped", hog.pid()).is_empty());
        }
        assert!(daemon.about("killing", hog.pid()).is_empty() && hog.is_alive());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_stopped_writer_that_someone_continues_is_stopped_again_before_a_scan() {
    let machine = ShortMachine::new();
    let user = TestUser::claim();
    let changes = [
        ("thresholds.ram_gb_threshold", "1000"),
        LEVELS[0],
        LEVELS[1],
        ("machine.stop_writers", "true"),
        RARELY,
    ];
    let daemon = machine.start(&config(&user, &changes), EBPF);
    daemon.event("scan_complete");
    let file = Left(format!("/dev/shm/memmon-test-{}", user.uid));
    let size = size_of_file();
    let hog = user.hog(&format!("write {} {size}M {}M/s hold", file.0, size / 12));
    for times in 1..=2 {
        eventually("it is stopped", || daemon.about("stopped", hog.pid()).len() == times);
        eventually("it stands still", || hog.state() == 'T');
        assert_eq!(daemon.about("stopped", hog.pid())[times - 1]["times"], times);
        kill(Pid::from_raw(hog.pid().cast_signed()), Signal::SIGCONT).unwrap();
    }
    assert!(fs::metadata(&file.0).unwrap().len() < size << 20 && daemon.scans() == 1);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn another_guard_is_named_at_start_and_by_check_and_doctor() {
    let user = TestUser::claim();
    // A process of root that looks like it: nothing here depends on what it does.
    let guard = Command::new("bash").args(["-c", "exec -a earlyoom sleep 600"]).spawn().unwrap();
    let guard = Ended(guard);
    let name = format!("earlyoom (pid {})", guard.0.id());
    let memmon = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_memmon")).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    eventually("doctor names it", || memmon(&["doctor"]).contains(&name));
    let config = config(&user, &[("machine.available_percent", "1")]);
    let daemon = Daemon::start(&config, &[]);
    let printed = daemon.line("the other guard", |line| line.contains(&name));
    assert!(
        printed.contains("it acts before memmon does") || printed.contains("either of the two"),
        "{printed}"
    );
    let checked = memmon(&["check", "--json", daemon.dir().join("config.toml").to_str().unwrap()]);
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    let warnings = checked["warnings"].as_array().unwrap();
    let found = warnings.iter().find(|warning| warning["concern"]["pid"] == guard.0.id());
    assert_eq!(found.unwrap()["concern"]["guard"], "earlyoom", "{checked}");
    daemon.stop();
}

/// Ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
