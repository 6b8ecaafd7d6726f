//! The words about sums.

use super::words::{Field, dry_run_mark, one_line};
use crate::model::{Bytes, GroupKey, Name, RuleName, SumFigures, ThrottleEnd, Uid, WhyNot, units::processes};
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
        SumThen::Throttle => "Its cgroup is to be slowed down".to_owned(),
        SumThen::Warn => "Only a warning".to_owned(),
        SumThen::Unsure => "No signal, in doubt: it is not known yet how much of this memory is theirs alone, or whether those \
                            that would end are protected"
            .to_owned(),
        SumThen::Protected => {
            format!("Left alone: those that are protected or cannot be signalled hold {protected}, more than the limit alone")
        }
    };
    format!(
        "Over the limit together: {whose}, {members} {}, RAM={total}, Limit={limit}, Rule={rule}. {then}. The largest: {parts}",
        processes(*members)
    )
}

/// A cgroup is slowed down. `(high, before)`: its `memory.high`, and the one of before.
pub(super) fn throttles(
    sum: &SumFigures,
    throttled: &Name,
    (high, before): (Bytes, Option<Bytes>),
    times: u32,
    dry_run: bool,
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let SumFigures { rule, group: _, total: _, limit, members: _ } = sum;
    let (held, throttled) = (held(sum, user), Field(throttled));
    let times =
        if times > 1 { format!(", Times={times} (another one had changed it)") } else { String::new() };
    let before = or_max(before);
    format!(
        "{}Slowing down: {held}, Limit={limit}, Rule={rule}, Cgroup={throttled}, memory.high={high}, before {before}{times}",
        dry_run_mark(dry_run)
    )
}

pub(super) fn not_throttled(sum: &SumFigures, why: &WhyNot, user: &mut dyn FnMut(Uid) -> String) -> String {
    let (held, why) = (held(sum, user), one_line(&why.to_string()));
    format!("Not slowed down: {held}, Limit={}, Rule={}: {why}", sum.limit, sum.rule)
}

pub(super) fn throttle_ended(
    rule: RuleName,
    group: &GroupKey,
    throttled: &Name,
    high: Option<Bytes>,
    why: ThrottleEnd,
    user: &mut dyn FnMut(Uid) -> String,
) -> String {
    let (whose, throttled) = (name(group, user), Field(throttled));
    let again = match why {
        ThrottleEnd::Overridden | ThrottleEnd::Lower | ThrottleEnd::Gone => String::new(),
        _ => format!(", memory.high={} again", or_max(high)),
    };
    format!("Slowed down no longer: {whose}, Rule={rule}, Cgroup={throttled}{again}: {why}")
}

fn or_max(high: Option<Bytes>) -> String {
    high.map_or_else(|| "max".to_owned(), |high| high.to_string())
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
