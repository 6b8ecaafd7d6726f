//! The messages of docs/status-protocol.md, in both directions. Everything here is pure.

use std::{fmt, os::unix::ffi::OsStrExt as _, path::Path};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::rules::RulesInForce;
use super::watched::{Climber, DryRunDay, Growth, OverLimit, Waiting};
use crate::model::{
    Bytes, Doubt, Escaped, Inherited, Limit, Name, Parts, Pid, Process, ProcessId, Protection, SystemMemory,
    Uid, Verdict,
};

/// The version of the protocol. A client ignores keys that it does not know.
pub(super) const VERSION: u64 = 1;

/// A query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// How the daemon is.
    Status,
    /// The processes nearest their limit.
    Processes,
}

impl Query {
    /// The name in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Processes => "processes",
        }
    }

    /// The request line, without its end.
    pub(super) fn request(self) -> String {
        format!(r#"{{"v":{VERSION},"get":"{}"}}"#, self.as_str())
    }
}

/// Parses the request `line`; the error is the answer to the client.
pub(super) fn request(line: &[u8]) -> Result<Query, Refusal> {
    #[derive(Deserialize)]
    struct Request {
        v: u64,
        get: String,
    }
    let refusal = |code, message: &str| Refusal { code: Text::from(code), message: Text::from(message) };
    let Ok(Request { v, get }) = serde_json::from_slice(line) else {
        return Err(refusal("garbage", r#"expected one line such as {"v":1,"get":"status"}"#));
    };
    if v != VERSION {
        return Err(refusal("version", "this memmon speaks version 1"));
    }
    [Query::Status, Query::Processes]
        .into_iter()
        .find(|known| known.as_str() == get)
        .ok_or_else(|| refusal("unknown", r#"expected "get" to be "status" or "processes""#))
}

/// An answer as the line to send, with its end.
pub fn answer(body: &Body) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        v: u64,
        #[serde(flatten)]
        body: &'a Body,
    }
    // Every type in here can be serialized: a failure would be a bug in this file.
    let line = serde_json::to_string(&Answer { v: VERSION, body });
    line.unwrap_or_else(|_| r#"{"v":1,"error":{"code":"internal","message":"no answer"}}"#.to_owned()) + "\n"
}

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The answer to [`Query::Status`].
    Status(Box<Status>),
    /// The answer to [`Query::Processes`].
    Processes(Table),
    /// A refusal. The connection is closed after it.
    Error(Refusal),
}

/// Reason why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One word, for programs.
    pub code: Text,
    /// A sentence, for people.
    pub message: Text,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// memmon's version.
    pub version: Text,
    /// The daemon.
    pub pid: Pid,
    /// Time since it started to watch.
    pub uptime_seconds: f64,
    /// Whether memmon sends no signals.
    pub dry_run: bool,
    /// The only reason for that is that nobody has run `memmon enable` yet.
    #[serde(default)]
    pub awaits_enable: bool,
    /// The source of readings, with the reason.
    pub source: Source,
    /// Limitations.
    pub degraded: Vec<Text>,
    /// The configuration in force.
    pub config: Configuration,
    /// The limits in force.
    pub limit: Thresholds,
    /// Time between two scans.
    pub check_interval_seconds: f64,
    /// The machine's memory at the last scan.
    pub memory: Option<SystemMemory>,
    /// Numbers of processes, terminations and scans.
    pub counts: Counts,
    /// The last scan.
    pub last_scan: Option<Scan>,
    /// The processes that are being terminated.
    pub in_flight: Vec<Victim>,
    /// Processes that grow towards their limit and could be terminated there, the next one first.
    #[serde(default)]
    pub climbing: Vec<Climber>,
    /// Programs whose termination is delayed, because they were terminated repeatedly.
    #[serde(default)]
    pub held_back: Vec<Waiting>,
    /// Processes that are over their limit and stay: protected, or in dry run. The largest first.
    #[serde(default)]
    pub over_limit: Vec<OverLimit>,
    /// What a dry run would have terminated in the last days, the latest day first.
    #[serde(default)]
    pub dry_run_days: Vec<DryRunDay>,
    /// The latest terminations, the last one first: the fields of the JSON log, and `at_unix_seconds`.
    pub recent: Vec<Value>,
    /// Usage of the kernel map; none without one.
    pub map: Option<MapUsage>,
    /// What was lost since the start.
    pub lost: Dropped,
}

/// The source of readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which.
    pub name: crate::model::Source,
    /// The reason for it.
    pub reason: Text,
    /// The gear of the kernel side that is in use; none if there is no kernel side, or in an answer of an older memmon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gear: Option<crate::model::Gear>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its file; none for the built-in defaults.
    pub file: Option<Text>,
    /// 1 at the start, one more with each reload that succeeded.
    pub generation: u64,
    /// Its warnings.
    pub warnings: Vec<Text>,
    /// The error of the last reload; none if it succeeded.
    pub last_error: Option<Text>,
    /// What it comes to, besides the limits; none from a daemon that does not send it.
    #[serde(default)]
    pub rules: Option<RulesInForce>,
}

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// The lower one of the two on this machine.
    pub rule: Limit,
    /// The lower limit.
    pub limit_bytes: Bytes,
    /// The percent limit, in percent of all memory.
    pub ram_percent_threshold: f64,
    /// The absolute limit in bytes.
    pub ram_gb_threshold_bytes: Bytes,
}

/// Numbers of processes, terminations and scans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Processes with memory, at the last scan.
    pub processes: usize,
    /// Terminations in progress.
    pub in_flight: usize,
    /// Terminations that ended since the start.
    pub terminated: u64,
    /// Scans since the start.
    pub scans: u64,
}

/// Result and cost of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// Time since it was over.
    pub seconds_ago: f64,
    /// Time from its start to its end.
    pub wall_seconds: f64,
    /// CPU time of the daemon's own thread.
    pub cpu_seconds: f64,
    /// Number of processes that were read.
    pub scanned: usize,
    /// Number of processes that were sent SIGTERM.
    pub killed: usize,
}

/// A process that is being terminated, with the phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Victim {
    /// Its identity.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// `confirming`, `grace`, `killed` or `out_of_reach`.
    pub phase: Text,
    /// Time since the phase began, if it is known.
    pub since_seconds: Option<f64>,
    /// Time until the grace period ends.
    pub left_seconds: Option<f64>,
}

/// Usage of the kernel map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUsage {
    /// Number of processes in it.
    pub entries: usize,
    /// Maximum number of processes.
    pub capacity: u32,
}

/// What was lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Events that were not logged, because the log could not keep up.
    pub log_events: u64,
    /// Crossings that did not fit into the kernel's ring.
    pub crossings: u64,
    /// Processes that did not fit into the kernel map.
    pub map_entries: u64,
}

/// The processes nearest their limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// The limit.
    pub limit_bytes: Bytes,
    /// Number of processes with memory, including those that are not in the table.
    pub processes: usize,
    /// Number of processes over the limit, for any verdict, including those that are not in the table.
    pub over: usize,
    /// The rows, the process nearest to its limit first.
    pub rows: Vec<Row>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its identity.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// Its resident memory.
    pub rss_bytes: Bytes,
    /// The maximum error of that.
    pub error_bytes: Bytes,
    /// The parts of its memory, if they could be read.
    #[serde(flatten)]
    pub parts: Option<Parts>,
    /// Its growth rate.
    #[serde(flatten)]
    pub growth: Growth,
    /// The verdict.
    pub verdict: VerdictKind,
    /// The reason for the verdict, in a few words.
    pub why: Text,
    /// The phase of its termination: see [`Victim::phase`].
    pub phase: Option<Text>,
}

impl Row {
    /// The row for a process and policy's verdict.
    pub fn new(process: &Process, parts: Option<Parts>, verdict: &Verdict) -> Self {
        Self {
            id: process.id,
            comm: Text::from(&process.names.comm),
            uid: process.real_uid,
            rss_bytes: process.rss,
            error_bytes: process.error,
            parts,
            growth: Growth::default(),
            verdict: VerdictKind::of(verdict),
            why: Text(why(verdict)),
            phase: None,
        }
    }
}

/// A verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// It is to be terminated or, in dry run, would be.
    Terminate,
    /// It may be over its limit, but is left alone.
    Unsure,
    /// Within its limit.
    Within,
    /// Never touched.
    Protected,
}

impl VerdictKind {
    const fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) => Self::Within,
            Verdict::Protected(_) => Self::Protected,
            Verdict::Unsure(_) => Self::Unsure,
            Verdict::Terminate(_) => Self::Terminate,
        }
    }
}

impl fmt::Display for VerdictKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Terminate => "terminate",
            Self::Unsure => "unsure",
            Self::Within => "within",
            Self::Protected => "protected",
        })
    }
}

/// The reason for a verdict, in a few words; empty for a process within its limit.
pub fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Within => String::new(),
        Verdict::Uncharged(uncharged) => format!("its end would give back {}", uncharged.charged),
        Verdict::Inherits(Inherited { elder, .. }) => format!("shares memory with pid {elder}, its elder"),
        Verdict::Protected(protection) => match protection {
            Protection::Init => "pid 1".to_owned(),
            Protection::KernelThread => "kernel thread".to_owned(),
            Protection::Memmon => "memmon itself".to_owned(),
            Protection::OutOfScope => "out of scope".to_owned(),
            Protection::Pid { .. } => "whitelist.pids".to_owned(),
            Protection::Name { pattern, .. } => {
                format!("whitelist.names: {}", Escaped(pattern.as_bytes()))
            }
            Protection::User { .. } => "whitelist.users".to_owned(),
            Protection::Match { key, .. } => format!("whitelist.{}", key.as_str()),
            Protection::Root => "protect_root".to_owned(),
            Protection::OomScoreAdj => "oom_score_adj -1000".to_owned(),
        },
        Verdict::Unsure(doubt) => match doubt {
            Doubt::NameUnreadable(_) => "a name is unreadable".to_owned(),
            Doubt::FactUnreadable(key) => format!("what {} compares is unreadable", key.as_str()),
            Doubt::CgroupUnreadable => "its cgroup is unreadable".to_owned(),
            Doubt::OomScoreAdjUnreadable => "its oom_score_adj is unreadable".to_owned(),
            Doubt::SharedMemoryUnknown => "its shared memory is being looked up".to_owned(),
            Doubt::SharedMemoryUnreadable { .. } => "its shared memory cannot be looked up".to_owned(),
            Doubt::InheritanceUnreadable => "what it inherited is unreadable".to_owned(),
            Doubt::WithinError { .. } => "too near to the limit to tell".to_owned(),
        },
        Verdict::Terminate(breach) => match breach.rule {
            Limit::Percent => "ram_percent_threshold".to_owned(),
            Limit::Gb => "ram_gb_threshold".to_owned(),
        },
    }
}

/// Text that is safe to show: escaped by the writer, and again freed of control characters by the reader, because any
/// program may answer on a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// An absolute path, because client and daemon may have different working directories.
    pub fn path(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::harmless(&Escaped(path.as_os_str().as_bytes()).to_string())
    }

    /// `text` with only its control characters escaped: text that is escaped already stays as it is.
    pub fn harmless(text: &str) -> Self {
        let mut shown = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\\' => shown.push('\\'),
                _ => shown.push_str(&Escaped(character.encode_utf8(&mut [0; 4]).as_bytes()).to_string()),
            }
        }
        Self(shown)
    }

    /// The text, safe to show.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Name> for Text {
    fn from(name: &Name) -> Self {
        Self(name.to_string())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::harmless(text)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::harmless(&text))
    }
}
