//! The record of a termination says what came back, and names the shared memory that was left behind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    log::{SOURCES, config},
};

const MIB: u64 = 1 << 20;
const BY_RSS: (&str, &str) = ("thresholds.measure", "\"rss\"");

/// A memory cgroup of this test.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let root = if root.join("memory").is_dir() { root.join("memory") } else { root.to_owned() };
        let group = root.join(format!("memmon-test-back-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        assert!(group.join("memory.stat").exists(), "this test needs the memory controller of cgroups");
        Self(group)
    }

    /// Moves a hog that waits at its step `stop` here, and lets it continue.
    fn take(&self, hog: &Hog) {
        hog.begun("stop");
        fs::write(self.0.join("cgroup.procs"), hog.pid().to_string()).unwrap();
        resume(hog);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..400 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A file in /dev/shm with a name of this test, which is removed at the end.
struct Shared(PathBuf);

impl Shared {
    fn new() -> Self {
        Self(format!("/dev/shm/memmon-test-{}", std::process::id()).into())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Lets a hog continue after its step `stop`.
fn resume(hog: &Hog) {
    eventually("the stop", || hog.state() == 'T');
    kill(Pid::from_raw(hog.pid().cast_signed()), Signal::SIGCONT).unwrap();
}

fn bytes(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// The part of a hog's record about memory that came back, its level and its message.
fn back(record: &Value) -> (&Value, &str, &str) {
    (&record["given_back"], record["level"].as_str().unwrap(), record["message"].as_str().unwrap())
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_expected_memory_comes_back_by_a_cgroup_of_its_own() {
    for source in SOURCES {
        let (user, group) = (TestUser::claim(), Group::new());
        let mut hog = user.hog("ignore-term stop anon 60M hold");
        group.take(&hog);
        hog.begun("hold");
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "1")]), &["--source", source]);
        let (_, record) = daemon.terminated(&mut hog);
        let (back, level, message) = back(&record);
        assert_eq!(level, "INFO", "{record:#}");
        assert!(bytes(&back["parts"]["anon_bytes"]) >= 60 * MIB, "{record:#}");
        assert!(message.contains("came back: ") && message.ends_with(", by its cgroup"), "{message}");
        let came = bytes(&back["cgroup_before_bytes"]) - bytes(&back["cgroup_after_bytes"]);
        let expected = bytes(&back["expected_bytes"]);
        assert!(
            expected.abs_diff(came) <= expected / 20,
            "expected {expected}, came back {came}: {record:#}"
        );
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn without_a_cgroup_of_its_own_the_machine_is_asked() {
    for source in SOURCES {
        let user = TestUser::claim();
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let (_, record) = daemon.terminated(&mut user.hog("shmem 60M hold"));
        let (back, level, message) = back(&record);
        assert_eq!(level, "INFO", "{record:#}");
        assert_eq!(back["cgroup_before_bytes"], Value::Null, "{record:#}");
        assert!(bytes(&back["parts"]["shmem_bytes"]) >= 30 * MIB, "{record:#}");
        assert!(bytes(&back["before"]["available_bytes"]) > 0, "{record:#}");
        assert!(bytes(&back["after"]["shmem_bytes"]) < bytes(&back["before"]["shmem_bytes"]), "{record:#}");
        assert!(message.contains("came back: "), "{message}");
        assert!(message.ends_with("what all other processes took and freed meanwhile"), "{message}");
        // Within what others do meanwhile.
        let free =
            |when: &str| bytes(&back[when]["available_bytes"]) + bytes(&back[when]["free_per_cpu_bytes"]);
        let came = free("after").saturating_sub(free("before"));
        assert!((20 * MIB..150 * MIB).contains(&came), "{record:#}");
        assert_eq!(back["left_behind"], Value::Array(vec![]), "{record:#}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_file_in_memory_that_stays_is_named() {
    for source in SOURCES {
        let (user, file) = (TestUser::claim(), Shared::new());
        let path = file.0.to_str().unwrap();
        // It ends at once by SIGTERM, and memmon has not looked at its maps: the file is a possibility.
        let mut hog = user.hog(&format!("tmpfs {path} 60M hold"));
        hog.begun("hold");
        let daemon = Daemon::start(&config(&user, &[BY_RSS]), &["--source", source]);
        let (_, record) = daemon.terminated(&mut hog);
        let (back, level, message) = back(&record);
        assert_eq!(level, "WARNING", "{record:#}");
        let left = &back["left_behind"][0];
        assert_eq!((left["name"].as_str(), left["owner"].as_u64()), (Some(path), Some(user.uid.into())));
        assert_eq!(left["certain"], false, "{record:#}");
        assert!(message.contains(&format!("may be what is left in the file {path} (")), "{message}");
        daemon.stop();
        fs::remove_file(&file.0).unwrap();

        // Its shared memory was looked at before its own memory exceeded the limit.
        let daemon = Daemon::start(&config(&user, &[]), &["--source", source]);
        let mut hog = user.hog(&format!("tmpfs {path} 60M stop anon 60M hold"));
        let reported = daemon.reported("uncharged", hog.pid());
        assert_eq!(reported["largest"]["name"], path);
        resume(&hog);
        let (_, record) = daemon.terminated(&mut hog);
        let left = &record["given_back"]["left_behind"][0];
        assert_eq!(
            (left["name"].as_str(), left["certain"].as_bool()),
            (Some(path), Some(true)),
            "{record:#}"
        );
        assert!(bytes(&left["bytes"]) >= 60 * MIB, "{record:#}");
        let message = record["message"].as_str().unwrap();
        assert!(message.contains(&format!("Left behind: 60.0MB in the file {path}.")), "{message}");
        assert!(message.ends_with(" or root can remove it"), "{message}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_system_v_segment_that_stays_is_named() {
    for source in SOURCES {
        let user = TestUser::claim();
        let mut hog = user.hog("sysv 60M hold");
        let id: u64 = hog.child("sysv").into();
        let daemon = Daemon::start(&config(&user, &[BY_RSS]), &["--source", source]);
        let (_, record) = daemon.terminated(&mut hog);
        let removed = Command::new("ipcrm").args(["-m", &id.to_string()]).status().unwrap();
        let (back, level, message) = back(&record);
        assert_eq!(level, "WARNING", "{record:#}");
        let left = &back["left_behind"][0];
        assert_eq!((left["segment"].as_u64(), left["owner"].as_u64()), (Some(id), Some(user.uid.into())));
        assert!(bytes(&left["bytes"]) >= 60 * MIB, "{record:#}");
        assert!(message.contains(&format!("remove it with `ipcrm -m {id}`")), "{message}");
        assert!(removed.success(), "the segment was still there");
        daemon.stop();
    }
}
