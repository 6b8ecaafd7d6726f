//! The table of the processes nearest their limit: the answer to [`super::Query::Processes`].

use serde::{Deserialize, Serialize};

use super::sharing::Sharing;
use super::text::Text;
use super::watched::Growth;
use crate::model::{
    Breach, Bytes, Doubt, Escaped, Inherited, Limit, Name, Parts, Process, ProcessId, Protection, RuleName,
    SystemMemory, Uid, Verdict, unit_path, words,
};

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
    /// The memory that its end would give back, if that is known: it is read for processes over the limit.
    #[serde(default)]
    pub charged_bytes: Option<Bytes>,
    /// The memory that it shares.
    #[serde(flatten)]
    pub sharing: Sharing,
    /// Its growth rate.
    #[serde(flatten)]
    pub growth: Growth,
    /// The verdict.
    pub verdict: VerdictKind,
    /// The reason for the verdict, in a few words.
    pub why: Text,
    /// The phase of its termination: see [`Victim::phase`].
    pub phase: Option<Text>,
    /// The `[[rule]]` that gives it its limit; `None`: `[thresholds]`.
    #[serde(default, rename = "rule_name")]
    pub rule: Option<Text>,
    /// Its limit; `None` if the rule gives it none. An older daemon sends neither this nor the rule.
    #[serde(default)]
    pub limit_bytes: Option<Bytes>,
    /// Its systemd unit, for one of a user with the user's manager before it.
    #[serde(default)]
    pub unit: Option<Text>,
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
            parts: parts.or_else(|| process.holdings.as_ref().map(|holdings| holdings.parts)),
            charged_bytes: process.holdings.as_ref().map(|_| process.charged()),
            sharing: Sharing::default(),
            growth: Growth::default(),
            verdict: VerdictKind::from(verdict),
            why: Text::harmless(&why(verdict)),
            phase: None,
            rule: None,
            limit_bytes: None,
            unit: process
                .cgroup
                .known()
                .and_then(|cgroup| unit_path(cgroup).map(|unit| Text::from(&Name::new(unit)))),
        }
    }

    /// The same with the limit that decides about the process.
    #[must_use]
    pub fn limited(self, rule: Option<RuleName>, limit: Bytes) -> Self {
        let rule = rule.map(|rule| Text::from(rule.as_str()));
        Self { rule, limit_bytes: (limit < Bytes::MAX).then_some(limit), ..self }
    }

    /// Its limit; `None` if it has none. `thresholds`: the limit of a process that no rule matches.
    pub fn limit(&self, thresholds: Bytes) -> Option<Bytes> {
        self.limit_bytes.or_else(|| self.rule.is_none().then_some(thresholds))
    }
}

words! {
    /// A verdict in one word.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum VerdictKind {
        /// It is to be terminated or, in dry run, would be.
        Terminate = "terminate",
        /// It may be over its limit, but is left alone.
        Unsure = "unsure",
        /// Within its limit.
        Within = "within",
        /// Never touched.
        Protected = "protected",
    }
}

impl From<&Verdict> for VerdictKind {
    fn from(verdict: &Verdict) -> Self {
        match verdict {
            // A warning leaves it as it is; `why` shows the rule.
            Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) | Verdict::Warn(_) => Self::Within,
            Verdict::Protected(_) => Self::Protected,
            Verdict::Unsure(_) => Self::Unsure,
            // `why` shows which of the two.
            Verdict::Terminate(_) | Verdict::Stop(_) => Self::Terminate,
        }
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
            Protection::Exempt(exemption) => format!("exempt until {}", exemption.until),
        },
        Verdict::Unsure(doubt) => match doubt {
            Doubt::NameUnreadable(_) => "a name is unreadable".to_owned(),
            Doubt::FactUnreadable(key) => format!("what {} compares is unreadable", key.as_str()),
            Doubt::CgroupUnreadable => "its cgroup is unreadable".to_owned(),
            Doubt::OomScoreAdjUnreadable => "its oom_score_adj is unreadable".to_owned(),
            Doubt::SharedMemoryUnknown => "its shared memory is being looked up".to_owned(),
            Doubt::SharedMemoryUnreadable { .. } => "its shared memory cannot be looked up".to_owned(),
            Doubt::InheritanceUnreadable => "what it inherited is unreadable".to_owned(),
            Doubt::WithinError { .. } => "too near to the limit to decide".to_owned(),
        },
        Verdict::Warn(breach) => format!("{}, only a warning", exceeded(breach)),
        Verdict::Stop(breach) => format!("{}, stops it", exceeded(breach)),
        Verdict::Terminate(breach) => exceeded(breach),
    }
}

/// The key whose limit was exceeded.
fn exceeded(breach: &Breach) -> String {
    match (breach.by, breach.rule) {
        (Some(rule), _) => format!("rule {rule}"),
        (None, Limit::Machine) => "machine".to_owned(),
        (None, limit) => limit.key().to_owned(),
    }
}
