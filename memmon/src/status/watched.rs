//! Messages about the processes that the daemon watches closely: those that grow towards their limit, and those that come
//! back too often.

use serde::{Deserialize, Serialize};

use super::text::Text;
use crate::model::{Bytes, Origin, Process, ProcessId, RuleName, StartTime, Uid};

/// The growth rate of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// The rate over its last readings; `None` if that is less than their possible error.
    #[serde(default, rename = "growth_bytes_per_second")]
    pub bytes_per_second: Option<f64>,
    /// Until it is at its limit, if it goes on like that.
    #[serde(default)]
    pub seconds_to_limit: Option<f64>,
}

/// A process that grows towards its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowingProcess {
    /// The process.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// Resident memory.
    pub rss_bytes: Bytes,
    /// Its growth rate.
    #[serde(flatten)]
    pub growth: Growth,
}

/// A program whose termination is delayed, because it came back after each termination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// The executable, or the comm where that was unknown.
    pub program: Text,
    /// The script or module that it runs, if it is an interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Text>,
    /// The cgroup of its unit, if it has one.
    pub cgroup: Option<Text>,
    /// The name of its container in its Kubernetes pod, whose cgroup `cgroup` is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Text>,
    /// systemd's unit.
    pub unit: Option<Text>,
    /// Whose, by the real uid.
    pub uid: Uid,
    /// The `[[rule]]` under which it was terminated; `None`: `[thresholds]`.
    #[serde(default, rename = "rule_name", skip_serializing_if = "Option::is_none")]
    pub rule: Option<Text>,
    /// Number of its terminations.
    pub times: u32,
    /// Time from the last termination to the next.
    pub wait_seconds: f64,
    /// The part of that which is left.
    pub left_seconds: f64,
    /// A process that started before this time, in seconds since boot, did not come back.
    pub since_boot_seconds: f64,
}

impl Waiting {
    /// The container in its pod, or else the unit.
    pub fn place(&self) -> Option<String> {
        match (&self.container, &self.cgroup, &self.unit) {
            (Some(container), Some(pod), _) => Some(format!("container {container} in {pod}")),
            (_, _, unit) => unit.as_ref().map(ToString::to_string),
        }
    }

    /// Whether `process`, which exceeds the limit of `rule`, is one of those.
    pub fn has(&self, process: &Process, rule: Option<RuleName>) -> bool {
        let Origin { program, script, cgroup, container, uid } = Origin::of(process);
        let came_back = (process.id.start.since_boot() + StartTime::TICK).as_secs_f64();
        self.program == Text::from(&program)
            && self.script == script.as_ref().map(Text::from)
            && self.cgroup == cgroup.as_ref().map(Text::from)
            && self.container == container.as_ref().map(Text::from)
            && self.uid == uid
            && self.rule.as_ref().map(Text::as_str) == rule.as_ref().map(RuleName::as_str)
            && came_back > self.since_boot_seconds
    }
}

/// A process that is over its limit and stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OverLimit {
    /// The process.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its comm.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// Its resident memory at the last look.
    pub rss_bytes: Bytes,
    /// Whether it would be terminated, if this was not a dry run.
    pub would_terminate: bool,
    /// The rule that protects it, or the limit that it exceeds.
    pub why: Text,
}

/// A process that was stopped because it is over the limit of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoppedProcess {
    /// The process.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its comm.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// Its resident memory before it was stopped.
    pub rss_bytes: Bytes,
    /// Its limit.
    pub limit_bytes: Bytes,
    /// The rule.
    pub rule: Option<Text>,
    /// Number of times that memmon has stopped it; 0 if another process did.
    pub times: u32,
    /// Time since it was stopped last.
    pub since_seconds: f64,
    /// Whether someone has continued it.
    pub continued: bool,
    /// The memory up to which it may go on then.
    pub may_have_bytes: Bytes,
}

/// The terminations that a dry run would have made on one day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryRunDay {
    /// The day in local time: `2025-10-06`.
    pub day: Text,
    /// Terminations that would have been.
    pub times: u64,
    /// Processes that would have been stopped.
    #[serde(default)]
    pub stops: u64,
    /// Cgroups that would have been slowed down.
    #[serde(default)]
    pub throttles: u64,
    /// The programs, by user, the most frequent first.
    pub programs: Vec<DryRunProgram>,
}

/// The terminations of one program and user that a dry run would have made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryRunProgram {
    /// The comm.
    pub comm: Text,
    /// The real uid.
    pub uid: Uid,
    /// Number of terminations.
    pub times: u64,
    /// The largest of them.
    pub largest_bytes: Bytes,
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
