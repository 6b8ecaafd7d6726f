//! The sums in which processes count, as `memmon explain` and `memmon check` show them.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::Serialize;

use super::words::{self, rule_limit, wrapped};
use crate::{
    config::Users,
    model::{
        Action, Bytes, GroupKey, Name, Per, Pid, Process, ProcessId, RuleName, SumFigures, SystemMemory,
        Verdict,
        units::{apart, processes},
    },
    policy::{Matched, Member, Rules, Strike, Sum, SumRule, SumVerdict},
    status::{SumGroup, Text, ThrottledCgroup},
};

/// Number of processes of a sum that the text shows.
const SHOWN: usize = 5;
/// Number of the processes that end first, in the text and in JSON.
const FIRST: (usize, usize) = (3, 20);

/// A sum as JSON shows it.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Shown {
    #[serde(flatten)]
    figures: SumFigures,
    /// The most that its processes may hold; more than `total_bytes` if not all of it is known for certain.
    most_bytes: Bytes,
    state: &'static str,
    action: Action,
    strike: Strike,
    /// The part that notices its crossing with eBPF: the kernel, or looks.
    noticed_by: &'static str,
    processes: Vec<Part>,
    /// The first that would be ended for it, in this order; empty if that depends on how fast each grows.
    order: Vec<Pid>,
    /// Memory that its protected processes hold.
    protected_bytes: Bytes,
    /// The amount above which the limit is exceeded; null if it is exceeded, or may be.
    room_bytes: Option<Bytes>,
    /// The amount that is too much; null if the limit is not certainly exceeded.
    excess_bytes: Option<Bytes>,
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
        noticed_by: sum.key.per().noticed_by(),
        processes: largest(sum).iter().map(part).collect(),
        order: first(sum, FIRST.1).iter().map(|member| member.process.id.pid).collect(),
        protected_bytes: sum.kept(),
        room_bytes: room(sum),
        excess_bytes: excess(sum),
    }
}

fn room(sum: &Sum) -> Option<Bytes> {
    (sum.verdict() == SumVerdict::Within).then(|| sum.limit.1.saturating_sub(sum.most()))
}

fn excess(sum: &Sum) -> Option<Bytes> {
    let is_over = matches!(sum.verdict(), SumVerdict::Over | SumVerdict::Kept);
    is_over.then(|| sum.least().saturating_sub(sum.limit.1))
}

/// The processes that would be ended first for it. One look does not show which one grows fastest.
fn first(sum: &Sum, most: usize) -> Vec<&Member> {
    match (sum.action, sum.strike) {
        (Action::Terminate | Action::Throttle, Strike::Largest | Strike::Newest | Strike::All) => {
            sum.order(&BTreeSet::new(), |_| 0.0).into_iter().take(most).collect()
        }
        _ => vec![],
    }
}

/// The rules for sums that match a process, and the reasons why others do not: of each kind the first one decides.
/// `counts_in`: the rules in whose sums it counts.
pub(super) fn asked(
    rules: &Rules,
    process: &Process,
    memory: &SystemMemory,
    counts_in: &[RuleName],
) -> Vec<(String, String)> {
    let mut decided: Vec<(Per, RuleName)> = Vec::new();
    let mut rows = Vec::new();
    for SumRule { rule, per, .. } in &rules.sums {
        let earlier = decided.iter().find(|(kind, _)| kind == per).map(|(_, earlier)| *earlier);
        let matched = rule.matcher.matches(process);
        let (outcome, why) = match (&matched, earlier) {
            (Matched::Yes, Some(earlier)) => ("no", format!("rule {earlier} comes before it")),
            (Matched::Yes, None) => ("matches", rule_limit(rule, rules, memory)),
            (Matched::No(_), _) if counts_in.contains(&rule.name) => {
                ("matches", format!("an ancestor of it, {}", rule_limit(rule, rules, memory)))
            }
            _ => words::asked(&matched),
        };
        if matched == Matched::Yes {
            decided.push((*per, rule.name));
        }
        let name = format!("rule {}", rule.name);
        rows.push((format!("  {name:<22}  {outcome:<8}  "), format!("per {}: {why}", per.as_str())));
    }
    rows
}

/// A sum in several lines: how it stands, which processes would end first and why, and what would change that. `throttled`:
/// the cgroups that the daemon has slowed down.
pub(in crate::cli) fn paragraph(
    sum: &Sum,
    about: Option<ProcessId>,
    users: &dyn Users,
    throttled: &[ThrottledCgroup],
) -> Vec<String> {
    let text = format!("rule {}: {}", sum.rule, sentence(sum, about, users));
    let more = [slowed_down(sum, throttled), ends_first(sum), kept(sum), change(sum)];
    let more = more.into_iter().flatten().flat_map(|text| wrapped("  ".to_owned(), &text, 4));
    wrapped(String::new(), &text, 2).into_iter().chain(more).collect()
}

/// A cgroup stays slowed down for a while when its sum is below the limit, where its `memory.high` holds it.
fn slowed_down(sum: &Sum, throttled: &[ThrottledCgroup]) -> Option<String> {
    let (rule, group) = (Text::from(sum.rule.as_str()), SumGroup::from(&sum.key));
    let one = throttled.iter().find(|one| one.rule == rule && one.group == group)?;
    let before = one.before_bytes.map_or_else(|| "max".to_owned(), |before| before.to_string());
    Some(format!("its cgroup is slowed down now: memory.high={}, before {before}", one.high_bytes))
}

fn ends_first(sum: &Sum) -> Option<String> {
    let above = match sum.action {
        Action::Terminate => String::new(),
        Action::Throttle if sum.ends_above < Bytes::MAX => format!("with more than {} ", sum.ends_above),
        _ => return None,
    };
    let why = match sum.strike {
        Strike::Largest => "the largest first",
        Strike::Newest => "the newest first",
        Strike::All => "all of them, the largest first",
        Strike::Growing => {
            return Some(format!(
                "{above}would end first: the one that grows fastest, and others as long as it takes"
            ));
        }
    };
    let first = first(sum, FIRST.0);
    let part =
        |member: &&Member| format!("{} {} {}", member.process.id.pid, member.process.names.comm, member.most);
    let parts: Vec<_> = first.iter().map(part).collect();
    (!parts.is_empty())
        .then(|| format!("{above}would end first: {} ({why}, as few as it takes)", parts.join(", ")))
}

fn kept(sum: &Sum) -> Option<String> {
    let kept = sum.members.iter().filter(|member| matches!(member.guard, Verdict::Protected(_))).count();
    let processes = if kept == 1 { "process counts" } else { "processes count" };
    (kept > 0).then(|| format!("{kept} protected {processes}, with {}, and would not end", sum.kept()))
}

/// A change that would lead to another verdict.
fn change(sum: &Sum) -> Option<String> {
    if let Some(room) = room(sum) {
        return Some(format!("would exceed its limit with more than {room} more"));
    }
    let excess = excess(sum)?;
    let gb = (sum.least().0 as f64 / Bytes::GIB as f64 * 100.0).ceil() / 100.0;
    Some(format!("would be within its limit with {excess} less, or with gb = {gb:.2} in rule {}", sum.rule))
}

/// A sum as one sentence; about a process of it, if there is one.
pub(in crate::cli) fn sentence(sum: &Sum, about: Option<ProcessId>, users: &dyn Users) -> String {
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
            let rest = if count > others.len() { ", …" } else { "" };
            format!("{count} {other}{}: {}{rest}", processes(count), others.join(", "))
        }
    };
    format!("{whose} holds {total}, limit {limit}: {} ({others})", outcome(sum, about))
}

fn outcome(sum: &Sum, about: Option<ProcessId>) -> String {
    let next = next(sum);
    match sum.verdict() {
        SumVerdict::Within => "within".to_owned(),
        SumVerdict::Unsure => "not certain yet".to_owned(),
        SumVerdict::Kept | SumVerdict::Over if sum.action == Action::Throttle && !sum.ends() => {
            "exceeded, its cgroup is slowed down".to_owned()
        }
        SumVerdict::Kept if !sum.ends() => {
            "exceeded by protected processes alone, so no process is ended".to_owned()
        }
        SumVerdict::Over if sum.action == Action::Warn => "exceeded, only a warning".to_owned(),
        // One look does not show which one grows fastest.
        SumVerdict::Kept | SumVerdict::Over if sum.strike == Strike::Growing => {
            "exceeded, those that grow fastest end".to_owned()
        }
        SumVerdict::Kept | SumVerdict::Over => match about {
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

fn whose(group: &GroupKey, users: &dyn Users) -> String {
    match group {
        GroupKey::User { uid } => format!("user {}", users.with_uid(*uid)),
        GroupKey::Program { exe: Some(exe), uid } => format!("{exe} of user {}", users.with_uid(*uid)),
        other => other.to_string(),
    }
}
