//! Victims in a frozen cgroup: they do not exit after SIGKILL, like a process that hangs in the kernel, so there is time to
//! check what memmon reports about their memory.

use std::{fs, path::PathBuf, process};

use serde_json::Value;

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::Daemon,
    hog::Hog,
    log::{SOURCES, config},
};

/// The freezer of cgroup v1, which holds even a killed process; that of v2 lets it go.
const FREEZER: &str = "/sys/fs/cgroup/freezer";
const MIB: u64 = 1 << 20;

/// A cgroup of this test; it is thawed and removed at the end.
struct Freezer(PathBuf);

impl Freezer {
    fn new() -> Self {
        let path = PathBuf::from(FREEZER).join(format!("memmon-test-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn name(&self) -> String {
        format!("/{}", self.0.file_name().unwrap().to_str().unwrap())
    }

    fn freeze(&self, hog: &Hog) {
        fs::write(self.0.join("cgroup.procs"), hog.pid().to_string()).unwrap();
        self.set("FROZEN");
        let frozen = || fs::read_to_string(self.0.join("freezer.state")).unwrap() == "FROZEN\n";
        crate::common::eventually("the freezing", frozen);
    }

    fn set(&self, state: &str) {
        fs::write(self.0.join("freezer.state"), state).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        let _ = fs::remove_dir(&self.0);
    }
}

fn bytes(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or_else(|| panic!("no {key}: {event:#}"))
}

fn seconds(event: &Value, key: &str) -> f64 {
    event[key].as_f64().unwrap_or_else(|| panic!("no {key}: {event:#}"))
}

#[test]
#[ignore = "needs root and a cgroup v1 freezer"]
fn a_frozen_victim_is_reported_as_frozen_with_the_memory_that_stayed() {
    let freezer = Freezer::new();
    let user = TestUser::claim();
    let mut hog = user.hog("anon 60M shmem 150M hold");
    hog.begun("hold");
    freezer.freeze(&hog);
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "0.1")]), &["--source", "proc"]);
    let lingers = daemon.reported("lingers", hog.pid());
    assert_eq!(lingers["frozen_cgroup"], freezer.name(), "{lingers:#}");
    let message = lingers["message"].as_str().unwrap();
    assert!(message.contains("is frozen") && !message.contains("disk"), "{message}");
    // process_mrelease(2) returned 0 and left what is shared.
    let stayed = bytes(&lingers, "rss_bytes");
    assert!((150 * MIB..170 * MIB).contains(&stayed), "{lingers:#}");
    freezer.set("THAWED");
    let (signal, record) = daemon.terminated(&mut hog);
    assert!(signal.is_some());
    assert!((150 * MIB..170 * MIB).contains(&bytes(&record, "rss_after_reclaim_bytes")), "{record:#}");
    assert_eq!(record["reclaimed"], false, "{record:#}");
    assert_eq!(record["signal_to_memory_seconds"], record["signal_to_exit_seconds"]);
    assert!(record["message"].as_str().unwrap().contains("of its memory freed only at exit"), "{record:#}");
    daemon.stop();
}

#[test]
#[ignore = "needs root and a cgroup v1 freezer"]
fn the_private_memory_of_a_frozen_victim_is_back_before_its_exit() {
    let freezer = Freezer::new();
    let user = TestUser::claim();
    let mut hog = user.hog("anon 150M hold");
    hog.begun("hold");
    freezer.freeze(&hog);
    let daemon = Daemon::start(&config(&user, &[("termination.grace", "0.1")]), &["--source", "proc"]);
    daemon.reported("lingers", hog.pid());
    freezer.set("THAWED");
    let (_, record) = daemon.terminated(&mut hog);
    assert_eq!(record["reclaimed"], true, "{record:#}");
    assert!(bytes(&record, "rss_after_reclaim_bytes") < 7 * MIB, "{record:#}");
    let (memory, exit) =
        (seconds(&record, "signal_to_memory_seconds"), seconds(&record, "signal_to_exit_seconds"));
    assert!(memory < 3.0 && exit > 4.0, "{record:#}");
    daemon.stop();
}

/// A process in the freezer of v2 handles no SIGTERM, and the freezer lets it go when it is killed.
#[test]
#[ignore = "needs root and cgroup v2"]
fn a_victim_in_a_frozen_cgroup_of_v2_is_killed_and_all_of_its_memory_is_back() {
    let user = TestUser::claim();
    let cgroup = Cgroup::new("frozen", &["victim"]);
    for source in SOURCES {
        let mut hog = user.hog("save-on-term /dev/null anon 60M shmem 100M hold");
        hog.begun("hold");
        cgroup.take(&hog);
        cgroup.freeze();
        let daemon = Daemon::start(&config(&user, &[("termination.grace", "1")]), &["--source", source]);
        let (signal, record) = daemon.terminated(&mut hog);
        assert_eq!(signal, Some(libc::SIGKILL), "it could not answer SIGTERM: {record:#}");
        assert_eq!(daemon.about("grace_over", hog.pid()).len(), 1);
        assert!(daemon.about("lingers", hog.pid()).is_empty());
        assert!(bytes(&record, "peak_bytes") > 150 * MIB, "{record:#}");
        cgroup.thaw();
        daemon.stop();
    }
}
