//! The messages of docs/status-protocol.md, in both directions. Everything here is pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::MachineOrder;
use super::mine::Mine;
use super::order::{Done, Order};
use super::rules::RulesInForce;
use super::sums::{SumInForce, ThrottledCgroup};
use super::table::Table;
use super::text::Text;
use super::watched::{DryRunDay, GrowingProcess, OverLimit, StoppedProcess, Victim, Waiting};
use crate::model::{Bytes, History, Limit, Pid, Samples, Select, SystemMemory, words};

/// The version of the protocol. A client ignores keys that it does not know.
pub(super) const VERSION: u64 = 1;

words! {
    /// A query, with its name in a request.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
    pub enum Query {
        /// The daemon's state.
        Status = "status",
        /// The processes nearest their limit.
        Processes = "processes",
        /// The order in which processes would end if the machine was short of memory.
        Machine = "machine",
    }
}

impl Query {
    /// The request line, without its end.
    pub(super) fn request(self) -> String {
        format!(r#"{{"v":{VERSION},"get":"{self}"}}"#)
    }
}

/// A message with the version of the protocol.
#[derive(Serialize)]
struct Versioned<T> {
    v: u64,
    #[serde(flatten)]
    message: T,
}

impl<T: Serialize> Versioned<T> {
    /// The line to send, without its end. Every type in this file can be serialized; the daemon refuses an empty line.
    fn line(message: T) -> String {
        serde_json::to_string(&Self { v: VERSION, message }).unwrap_or_default()
    }
}

/// An order as the line to send, without its end.
pub(super) fn order(order: &Order) -> String {
    Versioned::line(order)
}

/// The question about a user's own processes, without its end.
pub(super) fn mine() -> String {
    format!(r#"{{"v":{VERSION},"get":"{MINE}"}}"#)
}

/// The question for a page of samples, from the key `first` on.
pub(super) fn samples(first: u64) -> String {
    format!(r#"{{"v":{VERSION},"get":"{SAMPLES}","first":{first}}}"#)
}

/// The names of the questions in a request.
const SAMPLES: &str = "samples";
const MINE: &str = "mine";
const HISTORY: &str = "history";

/// A question about the history as the line to send, without its end.
pub(super) fn history(select: &Select) -> String {
    #[derive(Serialize)]
    struct Question<'a> {
        get: &'static str,
        #[serde(flatten)]
        select: &'a Select,
    }
    Versioned::line(Question { get: HISTORY, select })
}

/// A client's request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    Query(Query),
    Order(Order),
    History(Select),
    Mine,
    Samples(u64),
}

/// Parses the request `line`; the error is the answer to the client.
pub(super) fn request(line: &[u8]) -> Result<Asked, Refusal> {
    #[derive(Deserialize)]
    struct Request {
        v: u64,
        get: Option<String>,
        r#do: Option<String>,
        first: Option<u64>,
    }
    let refusal = Refusal::new;
    let Ok(Request { v, get, r#do, first }) = serde_json::from_slice(line) else {
        return Err(refusal("garbage", r#"expected one line such as {"v":1,"get":"status"}"#));
    };
    if v != VERSION {
        return Err(refusal("version", "this memmon speaks version 1"));
    }
    let get = match (get, r#do) {
        (Some(get), None) => get,
        (None, Some(_)) => {
            let order = serde_json::from_slice(line);
            return order.map(Asked::Order).map_err(|error| refusal("garbage", &error.to_string()));
        }
        _ => return Err(refusal("garbage", r#"expected one line such as {"v":1,"get":"status"}"#)),
    };
    if get == HISTORY {
        let select = serde_json::from_slice(line);
        return select.map(Asked::History).map_err(|error| refusal("garbage", &error.to_string()));
    }
    if get == MINE {
        return Ok(Asked::Mine);
    }
    if get == SAMPLES {
        return Ok(Asked::Samples(first.unwrap_or_default()));
    }
    let known = r#"expected "get" to be "status", "processes", "machine", "history", "samples" or "mine""#;
    Query::of(&get).map(Asked::Query).ok_or_else(|| refusal("unknown", known))
}

/// An answer as the line to send, with its end.
pub fn answer(body: &Body) -> String {
    Versioned::line(body) + "\n"
}

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The answer to [`Query::Status`].
    Status(Box<Status>),
    /// The answer to [`Query::Processes`].
    Processes(Table),
    /// The answer to [`Query::Machine`]; null without `[machine]`.
    Machine(Option<Box<MachineOrder>>),
    /// The answer to a question about the history.
    History(Box<History>),
    /// The answer to a question for samples.
    Samples(Box<Samples>),
    /// The answer to a user that asks about its own processes.
    Mine(Box<Mine>),
    /// The answer to [`Order::Exempt`].
    Exempted(Done),
    /// The answer to [`Order::EndExemption`].
    ExemptionEnded(Done),
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

impl Refusal {
    /// A refusal with this code, and this message.
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: Text::from(code), message: Text::from(message) }
    }
}

/// The daemon's state.
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
    /// The only reason for that is that the administrator has not run `memmon enable` yet.
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
    pub climbing: Vec<GrowingProcess>,
    /// Programs whose termination is delayed, because they were terminated repeatedly.
    #[serde(default)]
    pub held_back: Vec<Waiting>,
    /// Processes that are over their limit and stay: protected, or in dry run. The largest first.
    #[serde(default)]
    pub over_limit: Vec<OverLimit>,
    /// Memory that processes hold together under rules with `per`, the largest share of a limit first.
    #[serde(default)]
    pub sums: Vec<SumInForce>,
    /// Number of such sums, including those that are not in the list.
    #[serde(default)]
    pub sums_in_force: usize,
    /// Processes that memmon has stopped, or found stopped over the limit of a rule that stops them.
    #[serde(default)]
    pub stopped: Vec<StoppedProcess>,
    /// Cgroups that a rule has slowed down.
    #[serde(default)]
    pub throttled: Vec<ThrottledCgroup>,
    /// The terminations that a dry run would have made in the last days, the latest day first.
    #[serde(default)]
    pub dry_run_days: Vec<DryRunDay>,
    /// The latest terminations, the last one first: the fields of the JSON log, and `at_unix_seconds`.
    pub recent: Vec<Value>,
    /// Usage of the kernel map; `None` without one.
    pub map: Option<MapUsage>,
    /// Events and processes that were lost since the start.
    pub lost: Dropped,
}

/// The source of readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The source.
    pub name: crate::model::Source,
    /// The reason for it.
    pub reason: Text,
    /// The gear of the kernel side that is in use; `None` if there is no kernel side, or in an answer of an older memmon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gear: Option<crate::model::Gear>,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    /// Its file; `None` for the built-in defaults.
    pub file: Option<Text>,
    /// The files in `conf.d` that were read after it.
    #[serde(default)]
    pub fragments: Vec<Text>,
    /// 1 at the start, one more with each reload that succeeded.
    pub generation: u64,
    /// Its warnings.
    pub warnings: Vec<Text>,
    /// The error of the last reload; `None` if it succeeded.
    pub last_error: Option<Text>,
    /// The other rules, besides the limits; `None` from a daemon that does not send them.
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

/// Usage of the kernel map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUsage {
    /// Number of processes in it.
    pub entries: usize,
    /// Maximum number of processes.
    pub capacity: u32,
}

/// Events and processes that were lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Events that were not logged, because the log could not keep up.
    pub log_events: u64,
    /// Crossings that did not fit into the kernel's ring.
    pub crossings: u64,
    /// Processes that did not fit into the kernel map.
    pub map_entries: u64,
}
