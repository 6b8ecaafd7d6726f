//! The messages of docs/status-protocol.md, both ways. Pure.

use std::{fmt, os::unix::ffi::OsStrExt as _, path::Path};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::watched::{Climber, Growth, Waiting};
use crate::model::{
    Bytes, Doubt, Escaped, Inherited, Limit, Name, Parts, Pid, Process, ProcessId, Protection, SystemMemory,
    Uid, Verdict,
};

/// The version of the protocol. What is added within it is ignored by those who do not know it.
pub(super) const VERSION: u64 = 1;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// How the daemon is.
    Status,
    /// The processes nearest their limit.
    Processes,
}

impl Query {
    /// As it is asked for.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Processes => "processes",
        }
    }

    /// The line that asks for it, without its end.
    pub(super) fn request(self) -> String {
        format!(r#"{{"v":{VERSION},"get":"{}"}}"#, self.as_str())
    }
}

/// What `line` asks for, or what to say to whoever sent it.
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

/// One answer as the line that is sent, with its end.
pub fn answer(body: &Body) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        v: u64,
        #[serde(flatten)]
        body: &'a Body,
    }
    // Every figure in here has a way to be written: a failure would be a slip of this file's.
    let line = serde_json::to_string(&Answer { v: VERSION, body });
    line.unwrap_or_else(|_| r#"{"v":1,"error":{"code":"internal","message":"no answer"}}"#.to_owned()) + "\n"
}

/// What an answer holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// To [`Query::Status`].
    Status(Box<Status>),
    /// To [`Query::Processes`].
    Processes(Table),
    /// To anything that is not answered. The connection is closed after it.
    Error(Refusal),
}

/// Why there is no answer.
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
    /// For how long it watches.
    pub uptime_seconds: f64,
    /// Nothing is signalled.
    pub dry_run: bool,
    /// Where readings come from, and why from there.
    pub source: Source,
    /// What works less well than it could.
    pub degraded: Vec<Text>,
    /// The configuration in force.
    pub config: Configuration,
    /// The limits in force.
    pub limit: Thresholds,
    /// Between two scans.
    pub check_interval_seconds: f64,
    /// The machine's memory at the last scan.
    pub memory: Option<SystemMemory>,
    /// How many of what.
    pub counts: Counts,
    /// The last scan.
    pub last_scan: Option<Scan>,
    /// Who is being terminated.
    pub in_flight: Vec<Victim>,
    /// Who grows towards its limit and could be terminated there, the first one first.
    #[serde(default)]
    pub climbing: Vec<Climber>,
    /// What is left alone for a while, as it comes back after each termination.
    #[serde(default)]
    pub held_back: Vec<Waiting>,
    /// The latest terminations, the last one first: what the JSON log has of each, and `at_unix_seconds`.
    pub recent: Vec<Value>,
    /// How full the kernel map is; none without one.
    pub map: Option<MapUsage>,
    /// What was lost since the start.
    pub lost: Dropped,
}

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Which.
    pub name: crate::model::Source,
    /// Why this one.
    pub reason: Text,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its file; none for the built-in defaults.
    pub file: Option<Text>,
    /// 1 at the start, one more with each reload that succeeded.
    pub generation: u64,
    /// What in it may not be meant.
    pub warnings: Vec<Text>,
    /// Why the last reload failed; none where it did not.
    pub last_error: Option<Text>,
}

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Which of the two is the lower one on this machine.
    pub rule: Limit,
    /// The lower one.
    pub limit_bytes: Bytes,
    /// In percent of all memory.
    pub ram_percent_threshold: f64,
    /// The other one, in bytes.
    pub ram_gb_threshold_bytes: Bytes,
}

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Processes with memory, at the last scan.
    pub processes: usize,
    /// Being terminated now.
    pub in_flight: usize,
    /// Gone since the start.
    pub terminated: u64,
    /// Since the start.
    pub scans: u64,
}

/// What a scan came to and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    /// When it was over.
    pub seconds_ago: f64,
    /// From its beginning to its end.
    pub wall_seconds: f64,
    /// Of the daemon's own thread.
    pub cpu_seconds: f64,
    /// Processes looked at.
    pub scanned: usize,
    /// Processes sent SIGTERM.
    pub killed: usize,
}

/// Who is being terminated, and how far that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Victim {
    /// Who.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// `confirming`, `grace`, `killed` or `out_of_reach`.
    pub phase: Text,
    /// How long it is in that phase, where that is known.
    pub since_seconds: Option<f64>,
    /// When its grace is over.
    pub left_seconds: Option<f64>,
}

/// How full the kernel map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUsage {
    /// Processes in it.
    pub entries: usize,
    /// Processes that it has room for.
    pub capacity: u32,
}

/// What was lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Events that no log got, as it could not keep up.
    pub log_events: u64,
    /// Crossings that found the kernel's ring full.
    pub crossings: u64,
    /// Processes that found no room in the kernel map.
    pub map_entries: u64,
}

/// The processes nearest their limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// The limit.
    pub limit_bytes: Bytes,
    /// Processes with memory, those that are not in the table included.
    pub processes: usize,
    /// Processes over the limit, whatever becomes of them.
    pub over: usize,
    /// The nearest first.
    pub rows: Vec<Row>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Who.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// Resident.
    pub rss_bytes: Bytes,
    /// How far that may be off.
    pub error_bytes: Bytes,
    /// What it is made of, where that could be read.
    #[serde(flatten)]
    pub parts: Option<Parts>,
    /// How fast it grows.
    #[serde(flatten)]
    pub growth: Growth,
    /// The verdict.
    pub verdict: VerdictKind,
    /// What decided it, in a few words.
    pub why: Text,
    /// How far its termination is: see [`Victim::phase`].
    pub phase: Option<Text>,
}

impl Row {
    /// A process as policy judged it.
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
    /// To be terminated, or, in dry run, would be.
    Terminate,
    /// Perhaps over, but left alone.
    Unsure,
    /// Within its limit.
    Within,
    /// Never touched.
    Protected,
}

impl VerdictKind {
    const fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Within | Verdict::Inherits(_) => Self::Within,
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

/// What decided a verdict, in a few words: nothing for those within their limit.
pub fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Within => String::new(),
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
            Protection::Root => "protect_root".to_owned(),
            Protection::OomScoreAdj => "oom_score_adj -1000".to_owned(),
        },
        Verdict::Unsure(doubt) => match doubt {
            Doubt::NameUnreadable(_) => "a name is unreadable".to_owned(),
            Doubt::CgroupUnreadable => "its cgroup is unreadable".to_owned(),
            Doubt::OomScoreAdjUnreadable => "its oom_score_adj is unreadable".to_owned(),
            Doubt::InheritanceUnreadable => "what it inherited is unreadable".to_owned(),
            Doubt::WithinError { .. } => "too near to the limit to tell".to_owned(),
        },
        Verdict::Terminate(breach) => match breach.rule {
            Limit::Percent => "ram_percent_threshold".to_owned(),
            Limit::Gb => "ram_gb_threshold".to_owned(),
        },
    }
}

/// Text that is safe to show: escaped where it was written, and freed of control characters where it was read, as
/// whoever answers on a socket may be anyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// A path from the root, as whoever asks stands elsewhere than who answers.
    pub fn path(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::harmless(&Escaped(path.as_os_str().as_bytes()).to_string())
    }

    /// `text`, whose controls, and nothing else, are escaped: what is escaped already stays as it is.
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

    /// As it can be shown.
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
