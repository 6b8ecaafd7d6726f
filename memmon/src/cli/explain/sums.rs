//! How `memmon explain` and `memmon check` show the sums in which processes count.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

use super::words::Users;
use crate::{
    model::{Action, Bytes, GroupKey, Name, Pid, ProcessId, SumFigures, Verdict, units::apart},
    policy::{Member, Strike, Sum, SumVerdict},
};

/// How many processes of a sum the text shows.
const SHOWN: usize = 5;

/// A sum as JSON shows it.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    #[serde(flatten)]
    figures: SumFigures,
    /// What its processes hold at most; more than `total_bytes` if not all of it is known for certain.
    most_bytes: Bytes,
    state: &'static str,
    action: Action,
    strike: Strike,
    processes: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    pid: Pid,
    comm: Name,
    bytes: Bytes,
    is_protected: bool,
    is_next: bool,
}

pub(in crate::cli) fn shown(sum: &Sum) -> Shown {
    let next = next(sum);
    let part = |member: &&Member| Part {
        pid: member.process.id.pid,
        comm: member.process.names.comm.clone(),
        bytes: member.most,
        is_protected: matches!(member.guard, Verdict::Protected(_)),
        is_next: next.contains(&member.process.id),
    };
    Shown {
        figures: sum.figures(),
        most_bytes: sum.most(),
        state: match sum.verdict() {
            SumVerdict::Within => "within",
            SumVerdict::Unsure => "unsure",
            SumVerdict::Kept => "protected",
            SumVerdict::Over => "over",
        },
        action: sum.action,
        strike: sum.strike,
        processes: largest(sum).iter().map(part).collect(),
    }
}

/// A sum as one sentence; about a process of it, if there is one.
pub(in crate::cli) fn sentence(sum: &Sum, about: Option<ProcessId>, users: Users<'_>) -> String {
    let (whose, (_, limit)) = (whose(&sum.key, users), sum.limit);
    let (total, limit) = apart(sum.most(), limit);
    let others = largest(sum).into_iter().filter(|member| Some(member.process.id) != about);
    let others: Vec<_> = others
        .take(SHOWN)
        .map(|member| format!("{} {} {}", member.process.id.pid, member.process.names.comm, member.most))
        .collect();
    let count = sum.members.len() - usize::from(about.is_some());
    let others = match (count, about.is_some()) {
        (0, _) => "no other process".to_owned(),
        (count, with_about) => {
            let other = if with_about { "other " } else { "" };
            let processes = if count == 1 { "process" } else { "processes" };
            let rest = if count > others.len() { ", …" } else { "" };
            format!("{count} {other}{processes}: {}{rest}", others.join(", "))
        }
    };
    format!("{whose} holds {total}, limit {limit}: {} ({others})", outcome(sum, about))
}

fn outcome(sum: &Sum, about: Option<ProcessId>) -> String {
    let next = next(sum);
    match sum.verdict() {
        SumVerdict::Within => "within".to_owned(),
        SumVerdict::Unsure => "not certain yet".to_owned(),
        SumVerdict::Kept => "exceeded by protected processes alone, so no process is ended".to_owned(),
        SumVerdict::Over if sum.action == Action::Warn => "exceeded, only a warning".to_owned(),
        // Which one grows fastest is not known from one look.
        SumVerdict::Over if sum.strike == Strike::Growing => {
            "exceeded, those that grow fastest end".to_owned()
        }
        SumVerdict::Over => match about {
            Some(id) if next.contains(&id) => "exceeded, and this process ends for it".to_owned(),
            Some(_) => format!("exceeded, and {} ends, but not this one", pids(&next)),
            None => format!("exceeded, and {} ends", pids(&next)),
        },
    }
}

fn pids(processes: &BTreeSet<ProcessId>) -> String {
    match processes.len() {
        0 => "none of its processes".to_owned(),
        1 => processes.iter().map(|process| format!("pid {}", process.pid)).collect(),
        count => format!("each of {count} processes"),
    }
}

fn next(sum: &Sum) -> BTreeSet<ProcessId> {
    sum.strikes(&BTreeSet::new(), |_| 0.0).into_iter().collect()
}

fn largest(sum: &Sum) -> Vec<&Member> {
    let mut members: Vec<_> = sum.members.iter().collect();
    members.sort_by_key(|member| (Reverse(member.most), member.process.id));
    members
}

fn whose(group: &GroupKey, users: Users<'_>) -> String {
    match group {
        GroupKey::User { uid } => format!("user {}", users.show(*uid)),
        GroupKey::Program { exe: Some(exe), uid } => format!("{exe} of user {}", users.show(*uid)),
        other => other.to_string(),
    }
}
