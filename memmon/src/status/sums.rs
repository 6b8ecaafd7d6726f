//! The sums in force as they are on the wire.

use serde::{Deserialize, Serialize};

use super::text::Text;
use super::watched::Growth;
use crate::model::{Bytes, GroupKey, Per, Pid, ProcessId, StartTime, Uid};

/// Memory that several processes hold together under one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SumInForce {
    /// The rule.
    #[serde(rename = "rule_name")]
    pub rule: Text,
    /// The group.
    #[serde(flatten)]
    pub group: SumGroup,
    /// Number of processes.
    pub members: usize,
    /// The memory that they hold at most: a process that was not looked at closely counts with all of its resident memory.
    pub total_bytes: Bytes,
    /// The limit.
    pub limit_bytes: Bytes,
    /// The total as a share of the limit.
    pub share_percent: f64,
    /// The growth.
    #[serde(flatten)]
    pub growth: Growth,
    /// The action above the limit: the `action` of the rule.
    pub action: Text,
    /// The largest processes.
    pub largest: Vec<SumMember>,
}

/// A cgroup that a rule has slowed down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThrottledCgroup {
    /// The rule.
    #[serde(rename = "rule_name")]
    pub rule: Text,
    /// The group whose sum exceeded its limit.
    #[serde(flatten)]
    pub group: SumGroup,
    /// The path of the cgroup.
    pub throttled_cgroup: Text,
    /// The limit of the rule.
    pub limit_bytes: Bytes,
    /// Its `memory.high`.
    pub high_bytes: Bytes,
    /// The one that comes back; none: it had none (`max`).
    pub before_bytes: Option<Bytes>,
    /// Number of times that memmon has set it.
    pub times: u32,
    /// Time since that.
    pub since_seconds: f64,
    /// Number of times that the kernel has slowed down processes in it since the cgroup exists; none if that is not known.
    pub slowed: Option<u64>,
}

/// A process of a sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SumMember {
    /// Its identity.
    #[serde(flatten)]
    pub id: ProcessId,
    /// Its name.
    pub comm: Text,
    /// Its real uid.
    pub uid: Uid,
    /// The memory that it counts with.
    pub bytes: Bytes,
}

/// A group of processes: `per`, and what distinguishes it from the other groups of that kind. The keys are those of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumGroup {
    /// The kind of the group.
    pub per: Per,
    /// The user of a `user` or a `program`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// The unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Text>,
    /// The path of the cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Text>,
    /// The audit session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u32>,
    /// The root of a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<Pid>,
    /// Its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartTime>,
    /// The executable; `None` for the programs with a hidden path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Text>,
}

impl From<&GroupKey> for SumGroup {
    fn from(key: &GroupKey) -> Self {
        let per = key.per();
        let none = Self {
            per,
            uid: None,
            unit: None,
            cgroup: None,
            session: None,
            pid: None,
            start: None,
            exe: None,
        };
        match key {
            GroupKey::User { uid } => Self { uid: Some(*uid), ..none },
            GroupKey::Unit { unit } => Self { unit: Some(unit.into()), ..none },
            GroupKey::Cgroup { cgroup } => Self { cgroup: Some(cgroup.into()), ..none },
            GroupKey::Session { session } => Self { session: Some(*session), ..none },
            GroupKey::Tree { root } => Self { pid: Some(root.pid), start: Some(root.start), ..none },
            GroupKey::Program { exe, uid } => {
                Self { uid: Some(*uid), exe: exe.as_ref().map(Text::from), ..none }
            }
        }
    }
}

impl SumGroup {
    /// The group as text; `user` returns the name of a user.
    pub fn shown(&self, user: impl Fn(Uid) -> String) -> String {
        let uid = self.uid.map(user).unwrap_or_default();
        let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.per {
            Per::User => format!("user {uid}"),
            Per::Unit => format!("unit {}", text(&self.unit)),
            Per::Cgroup => format!("cgroup {}", text(&self.cgroup)),
            Per::Session => format!("session {}", self.session.unwrap_or_default()),
            Per::Tree => {
                format!("pid {} with its descendants", self.pid.map_or(0, |pid| pid.0))
            }
            Per::Program if self.exe.is_none() => format!("programs with a hidden path of user {uid}"),
            Per::Program => format!("{} of user {uid}", text(&self.exe)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn a_group_on_the_wire_is_that_of_a_record_and_reads_the_same() {
        let (uid, root) = (Uid(1000), ProcessId { pid: Pid(7), start: StartTime(9) });
        let name = |text: &str| Name::from(text);
        for key in [
            GroupKey::User { uid },
            GroupKey::Unit { unit: name("a.service") },
            GroupKey::Cgroup { cgroup: name("/a\u{1b}") },
            GroupKey::Session { session: 3 },
            GroupKey::Tree { root },
            GroupKey::Program { exe: Some(name("/bin/a")), uid },
        ] {
            let group = SumGroup::from(&key);
            let json = serde_json::to_value(&group).unwrap();
            assert_eq!(json, serde_json::to_value(&key).unwrap());
            assert_eq!(group.shown(|uid| uid.to_string()), key.to_string());
            assert_eq!(serde_json::from_value::<SumGroup>(json).unwrap(), group);
        }
        let hidden = GroupKey::Program { exe: None, uid };
        assert_eq!(SumGroup::from(&hidden).shown(|uid| uid.to_string()), hidden.to_string());
    }
}
