//! The words about sums.

use super::words::Field;
use crate::model::{Bytes, GroupKey, SumFigures, Uid};
use crate::report::event::{SumPart, SumThen};

/// `user john, 20 processes with 3.00GB`.
pub(super) fn held(sum: &SumFigures, user: &mut dyn FnMut(Uid) -> String) -> String {
    let SumFigures { rule: _, group, total, limit: _, members } = sum;
    format!("{}, {members} {} with {total}", name(group, user), processes(*members))
}

pub(super) fn sum_over(
    sum: &SumFigures,
    then: SumThen,
    protected: Bytes,
    largest: &[SumPart],
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let SumFigures { rule, group, total, limit, members } = sum;
    let parts = largest.iter().map(|SumPart { pid, comm, bytes }| format!("{pid} {} {bytes}", Field(comm)));
    let (whose, parts) = (name(group, user), parts.collect::<Vec<_>>().join(", "));
    let then = match then {
        SumThen::Terminate => "As few of them as it takes are terminated".to_owned(),
        SumThen::Warn => "Only a warning".to_owned(),
        SumThen::Unsure => "No signal, in doubt: it is not known yet how much of this memory is theirs alone, or whether those \
                            that would end are protected"
            .to_owned(),
        SumThen::Protected => {
            format!("Left alone: those that are protected hold {protected}, more than the limit alone")
        }
    };
    format!(
        "Over the limit together: {whose}, {members} {}, RAM={total}, Limit={limit}, Rule={rule}. {then}. The largest: {parts}",
        processes(*members)
    )
}

const fn processes(count: usize) -> &'static str {
    if count == 1 { "process" } else { "processes" }
}

fn name(group: &GroupKey, user: &mut dyn FnMut(Uid) -> String) -> String {
    match group {
        GroupKey::User { uid } => format!("user {}", user(*uid)),
        GroupKey::Unit { unit } => format!("unit {}", Field(unit)),
        GroupKey::Cgroup { cgroup } => format!("cgroup {}", Field(cgroup)),
        GroupKey::Session { session } => format!("session {session}"),
        GroupKey::Tree { root } => format!("pid {} and its descendants", root.pid),
        GroupKey::Program { exe: Some(exe), uid } => format!("{} of user {}", Field(exe), user(*uid)),
        GroupKey::Program { exe: None, uid } => {
            format!("programs of user {} whose path cannot be read", user(*uid))
        }
    }
}
