//! Entries of the history: one for each termination, each that a dry run would have made, and each warning.

use serde::{Deserialize, Serialize};

use super::{Bytes, Pid, Sample, Uid, words::words};

words! {
    /// The kind of an entry.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum Happened {
        /// A process whose termination had begun is gone.
        Terminated = "terminated",
        /// A dry run would have terminated it.
        WouldTerminate = "would_terminate",
        /// It would have been terminated, but was exempt.
        Exempt = "exempt",
        /// It was over the limit of a rule that only warns.
        Warned = "warned",
        /// It came near its limit.
        NearLimit = "near_limit",
    }
}

impl Happened {
    /// Whether it is only a warning. Users cause many of them, so that they are kept apart from the others.
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::Warned | Self::NearLimit)
    }
}

/// One entry. Its texts are escaped where they were made, and whoever reads them from elsewhere escapes them again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The time of the event.
    pub at_unix_seconds: f64,
    /// The kind of the event.
    pub what: Happened,
    /// The process.
    pub pid: Pid,
    /// Its comm.
    pub comm: String,
    /// Its real uid.
    pub uid: Uid,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its Slurm job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// The id of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The name of its container; in Kubernetes, within its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// The name of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// The namespace of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The limit that it exceeded: `percent`, `gb`, `machine`, or the name of a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<Bytes>,
    /// The most memory that it was seen with.
    pub peak_bytes: Bytes,
    /// The cause of its end, as in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The time from the first signal to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_to_exit_seconds: Option<f64>,
}

impl Entry {
    /// Whether `container` is the name or id of its container, or the name of its pod.
    fn is_in(&self, container: &str) -> bool {
        let is_its_id =
            |id: &String| id == container || container.len() >= SHORT_ID && id.starts_with(container);
        self.container.as_ref().is_some_and(is_its_id)
            || [&self.container_name, &self.pod_name].into_iter().flatten().any(|name| name == container)
    }
}

/// Conditions on the entries to return. A condition that is not given matches every entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Select {
    /// Start of the period.
    pub since_unix_seconds: Option<f64>,
    /// The real uid.
    pub user: Option<Uid>,
    /// The unit.
    pub unit: Option<String>,
    /// The Slurm job.
    pub job: Option<u64>,
    /// The container: its name, the name of its pod, or the beginning of its id.
    pub container: Option<String>,
    /// Only what a dry run would have terminated.
    pub would: bool,
}

/// The shortest beginning of a container's id that selects it, as runtimes show ids.
const SHORT_ID: usize = 12;

impl Select {
    /// Whether `entry` is one of them.
    pub fn matches(&self, entry: &Entry) -> bool {
        let Self { since_unix_seconds, user, unit, job, container, would } = self;
        since_unix_seconds.is_none_or(|since| entry.at_unix_seconds >= since)
            && user.is_none_or(|user| entry.uid == user)
            && unit.as_ref().is_none_or(|unit| entry.unit.as_ref() == Some(unit))
            && job.is_none_or(|job| entry.job == Some(job))
            && container.as_ref().is_none_or(|container| entry.is_in(container))
            && (!would || entry.what == Happened::WouldTerminate)
    }
}

/// Samples, a page at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The samples, by time.
    pub samples: Vec<Sample>,
    /// Start of the next page; `None` for the last one.
    #[serde(default)]
    pub next: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The latest of the entries that were asked for, the oldest of them first.
    pub entries: Vec<Entry>,
    /// The number of all of them.
    pub matched: u64,
    /// All of them by program and user, the one with the largest peak first.
    pub totals: Vec<Total>,
    /// Age of the oldest entry that the history keeps; `None` if it keeps nothing.
    #[serde(default)]
    pub oldest_unix_seconds: Option<f64>,
}

/// The entries of one program of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// The comm; `None` for the programs that are too many to list.
    pub comm: Option<String>,
    /// The real uid.
    pub uid: Option<Uid>,
    /// Terminations.
    pub terminated: u64,
    /// Terminations that a dry run would have made, and those of exempt processes.
    pub would_terminate: u64,
    /// Warnings.
    pub warned: u64,
    /// The largest peak.
    pub peak_bytes: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_selected_by_its_name_its_pods_or_its_id() {
        let entry = r#"{"at_unix_seconds":1,"what":"terminated","pid":7,"comm":"x","uid":7,"peak_bytes":1,
            "container":"0123456789abcdef","container_name":"web","pod_name":"shop","namespace":"prod"}"#;
        let entry: Entry = serde_json::from_str(entry).unwrap();
        let selects = |container: &str| {
            Select { container: Some(container.to_owned()), ..Select::default() }.matches(&entry)
        };
        for container in ["web", "shop", "0123456789ab", "0123456789abcdef"] {
            assert!(selects(container), "{container}");
        }
        // An id is not abbreviated further than runtimes do.
        for container in ["0123456789a", "prod", "we", "0123456789ac", ""] {
            assert!(!selects(container), "{container}");
        }
        let outside = Entry { container: None, container_name: None, pod_name: None, ..entry.clone() };
        assert!(!Select { container: Some("web".to_owned()), ..Select::default() }.matches(&outside));
        assert!(Select::default().matches(&outside));
    }
}
