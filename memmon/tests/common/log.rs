//! Configurations for a daemon under test, and its events as values.

use std::{collections::BTreeMap, env, time::Duration};

use serde_json::Value;

use super::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    hog::Hog,
};

/// The limit of [`config`].
pub const LIMIT: u64 = 32 << 20;

/// Time that a hog over its limit may live on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Every source that this build has.
pub const SOURCES: &[&str] = if cfg!(feature = "ebpf") { &["ebpf", "proc"] } else { &["proc"] };

/// The arguments for the source in which the kernel wakes memmon.
pub const EBPF: &[&str] = &["--source", "ebpf"];

/// An interval that allows no scan within a test, except for the first, and those after a reload or a lost event.
pub const RARELY: (&str, &str) = ("thresholds.check_interval", "3600");

/// The common configuration for tests, with `changes`: dotted keys and their values in TOML.
pub fn config(user: &TestUser, changes: &[(&str, &str)]) -> ScopedConfig {
    let mut keys = BTreeMap::from([
        ("thresholds.ram_gb_threshold", "0.03125"),
        ("thresholds.ram_percent_threshold", "100"),
        ("thresholds.check_interval", "0.1"),
        ("termination.grace", "0.4"),
        ("settings.log_file", "\"\""),
        ("settings.enable_syslog", "false"),
        ("log.format", "\"json\""),
        // The tests count events.
        ("log.lines_per_minute", "0"),
    ]);
    // The limit is small for two gears: `MEMMON_TEST_GEAR=two` runs the tests with them all the same.
    let gear = env::var("MEMMON_TEST_GEAR").map(|gear| format!("{gear:?}"));
    if let Ok(gear) = &gear {
        keys.insert("kernel.gear", gear);
    }
    keys.extend(changes.iter().copied());
    let text: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    ScopedConfig::new(user, &text.join("\n"))
}

impl Daemon {
    /// The answer to `memmon status --json`.
    pub fn status(&self) -> Value {
        let output = self.beside(env!("CARGO_BIN_EXE_memmon")).args(["status", "--json"]).output();
        let output = output.unwrap_or_else(|error| panic!("memmon status: {error}"));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Every event in JSON so far.
    pub fn events(&self) -> Vec<Value> {
        self.those_with("")
    }

    /// Every event whose line contains `text`.
    pub fn those_with(&self, text: &str) -> Vec<Value> {
        let lines = self.lines();
        let lines = lines.iter().filter(|line| line.contains(text));
        lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every event of that kind so far.
    pub fn every(&self, kind: &str) -> Vec<Value> {
        self.those_with(kind).into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Every event of that kind about one process so far.
    pub fn about(&self, kind: &str, pid: u32) -> Vec<Value> {
        self.every(kind).into_iter().filter(|event| event["pid"] == pid).collect()
    }

    /// Waits for the first event of that kind.
    pub fn event(&self, kind: &str) -> Value {
        eventually_some(kind, || self.every(kind).into_iter().next())
    }

    /// Waits for the first event of that kind about one process.
    pub fn reported(&self, kind: &str, pid: u32) -> Value {
        eventually_some(kind, || self.about(kind, pid).into_iter().next())
    }

    /// Waits until a scan that began after this call is over.
    pub fn scanned(&self) {
        // One scan may be in progress, and the line of another one may not have arrived yet.
        let enough = self.scans() + 3;
        eventually("three more scans", || self.scans() >= enough);
    }

    /// Number of completed scans.
    pub fn scans(&self) -> usize {
        self.every("scan_complete").len()
    }

    /// Waits until memmon has terminated a hog. Returns the signal that ended it, and the record.
    pub fn terminated(&self, hog: &mut Hog) -> (Option<i32>, Value) {
        self.reported("killing", hog.pid());
        let signal = hog.ended_by(SOON);
        (signal, self.reported("terminated", hog.pid()))
    }

    /// Asserts that no event mentions this process.
    pub fn never_mentioned(&self, pid: u32) {
        self.mentioned_once_each(pid, &[]);
    }

    /// Asserts that this process is mentioned by one event of each of these kinds, in this order, and by no other.
    pub fn mentioned_once_each(&self, pid: u32, kinds: &[&str]) {
        let about: Vec<Value> = self.events().into_iter().filter(|event| event["pid"] == pid).collect();
        let found: Vec<_> = about.iter().filter_map(|event| event["event"].as_str()).collect();
        assert_eq!(found, kinds, "events that mention pid {pid}: {about:#?}");
    }
}

fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = get();
        found.is_some()
    });
    found.unwrap_or_else(|| unreachable!("`eventually` waited for it"))
}
