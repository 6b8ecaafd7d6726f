//! What tests ask of a daemon, and what it tells them, as values.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    TestUser,
    daemon::{Daemon, ScopedConfig},
    eventually,
    hog::Hog,
};

/// The limit of [`config`].
pub const LIMIT: u64 = 32 << 20;

/// How long a hog that is over may live on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Every source that this build has.
pub const SOURCES: &[&str] = if cfg!(feature = "ebpf") { &["ebpf", "proc"] } else { &["proc"] };

/// The source that the kernel wakes memmon by.
pub const EBPF: &[&str] = &["--source", "ebpf"];

/// No scan helps within a test but the first, and those that follow a reload or a loss.
pub const RARELY: (&str, &str) = ("thresholds.check_interval", "3600");

/// What tests have in common, but for `changes`: dotted keys and their values in TOML.
pub fn config(user: &TestUser, changes: &[(&str, &str)]) -> ScopedConfig {
    let mut keys = BTreeMap::from([
        ("thresholds.ram_gb_threshold", "0.03125"),
        ("thresholds.ram_percent_threshold", "100"),
        ("thresholds.check_interval", "0.1"),
        ("termination.grace", "0.4"),
        ("settings.log_file", "\"\""),
        ("settings.enable_syslog", "false"),
        ("log.format", "\"json\""),
    ]);
    keys.extend(changes.iter().copied());
    let text: Vec<String> = keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    ScopedConfig::new(user, &text.join("\n"))
}

impl Daemon {
    /// Everything that it said in JSON so far.
    pub fn events(&self) -> Vec<Value> {
        self.those_with("")
    }

    /// Everything with this text in it.
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
    pub fn told(&self, kind: &str, pid: u32) -> Value {
        eventually_some(kind, || self.about(kind, pid).into_iter().next())
    }

    /// Waits until a scan that began after this call is over.
    pub fn scanned(&self) {
        // One may be under way, and the end of one more may be on its way to us.
        let enough = self.scans() + 3;
        eventually("three more scans", || self.scans() >= enough);
    }

    /// The number of scans that are over.
    pub fn scans(&self) -> usize {
        self.every("scan_complete").len()
    }

    /// Waits for the end of a hog by memmon: the signal that ended it, and the record.
    pub fn terminated(&self, hog: &mut Hog) -> (Option<i32>, Value) {
        self.told("killing", hog.pid());
        let signal = hog.ended_by(SOON);
        (signal, self.told("terminated", hog.pid()))
    }

    /// Demands that memmon did not even think of this process.
    pub fn never_mentioned(&self, pid: u32) {
        let about: Vec<Value> = self.events().into_iter().filter(|event| event["pid"] == pid).collect();
        assert!(about.is_empty(), "pid {pid} was to be left alone: {about:#?}");
    }
}

fn eventually_some<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = get();
        found.is_some()
    });
    found.unwrap_or_else(|| unreachable!("waited for"))
}
