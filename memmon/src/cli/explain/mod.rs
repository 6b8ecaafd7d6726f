//! `memmon explain`: the result of every rule for a process, the verdict, and changes that would lead to another one. It
//! only makes text from data: policy has decided it all.

pub(super) mod groups;
pub(super) mod machine;
mod parts;
mod sums;
mod words;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt::Write as _};

use serde::Serialize;

use self::words::{
    asked, because, change, fact_name, list, matched, or_none, quoted, quoted_list, rule_limit, unclear,
};
pub(super) use self::words::{joined_lines, wrapped};
use crate::{
    config::Users,
    enforce,
    inspect::{Details, Onlooker},
    model::{
        Breach, Bytes, Container, ContainerNames, Fact, Inherited, Limit, Name, NamespaceInit, Process,
        ProcessId, Protection, Signal, SlurmJob, Snapshot, Uid, Verdict, Workload,
        units::{Rate, Span, apart},
    },
    policy::{self, Asked, Explanation, Finding, Matched, Matcher, Otherwise, Rule, Rules, Step, Sum},
    report::ContainerFiles,
    status::{Growth, ThrottledCgroup, Waiting},
};

/// Every process of `snapshot` explained, one after the other: for people, or as one JSON array.
///
/// # Errors
/// JSON that cannot be written (no figure here is one that JSON has no way to write).
pub(super) fn explain(
    rules: &Rules,
    snapshot: &Snapshot,
    json: bool,
    users: &dyn Users,
    known: &Known,
) -> serde_json::Result<String> {
    let explained = |process| {
        let explanation = policy::explain(rules, process, &snapshot.memory);
        Explained {
            rules_from: &known.rules_from,
            held_back: held_back(&explanation, &known.held_back),
            growth: known.growths.get(&process.id).filter(|growth| growth.bytes_per_second.is_some()),
            details: known.details.get(&process.id),
            container: known.containers.get(&process.id),
            sums: known.sums.iter().filter(|sum| has(sum, process.id)).map(sums::shown).collect(),
            sums_of: known.sums.iter().filter(|sum| has(sum, process.id)).collect(),
            throttled: &known.throttled,
            explanation,
        }
    };
    let explanations: Vec<_> = snapshot.processes.iter().map(explained).collect();
    if json {
        return Ok(serde_json::to_string_pretty(&explanations)? + "\n");
    }
    let texts: Vec<_> = explanations.iter().map(|explanation| text(explanation, users)).collect();
    let source = wrapped(String::new(), &format!("by the rules of {}", known.rules_from), 2).join("\n");
    Ok(format!("{source}\n\n{}", texts.join("\n")))
}

/// The origin of the rules, and the facts that a daemon has and one look does not show; empty if no daemon can be asked.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The file or the daemon that the rules are of, as a phrase that is safe to show.
    pub(super) rules_from: String,
    /// The programs whose termination it delays.
    pub(super) held_back: Vec<Waiting>,
    /// The cgroups that it has slowed down.
    pub(super) throttled: Vec<ThrottledCgroup>,
    /// The growth rates of those processes that it has readings of.
    pub(super) growths: HashMap<ProcessId, Growth>,
    /// The sums in which any of the processes counts.
    pub(super) sums: Vec<Sum>,
    /// The memory of each process in detail, as far as it could be read.
    pub(super) details: HashMap<ProcessId, Details>,
    /// The names of the container that each process is in, as far as they are known.
    pub(super) containers: HashMap<ProcessId, ContainerNames>,
}

/// The details of these processes.
pub(super) fn details(onlooker: &Onlooker, processes: &[Process]) -> HashMap<ProcessId, Details> {
    let details = |process: &Process| Some((process.id, onlooker.details(process)?));
    processes.iter().filter_map(details).collect()
}

/// The names of the containers that these processes are in, as far as the files of this machine have them for this user.
pub(super) fn containers(
    files: &ContainerFiles,
    processes: &[Process],
) -> HashMap<ProcessId, ContainerNames> {
    let names = |process: &Process| {
        let names = files.names_of(&process.cgroup.known().and_then(Workload::of)?);
        let by_mounts = ContainerNames { name: process.container.clone(), ..ContainerNames::default() };
        let names = names.or(&by_mounts);
        (names != ContainerNames::default()).then_some((process.id, names))
    };
    processes.iter().filter_map(names).collect()
}

/// An explanation with facts that policy does not know: earlier terminations, and growth.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    explanation: Explanation<'a>,
    rules_from: &'a str,
    growth: Option<&'a Growth>,
    details: Option<&'a Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a ContainerNames>,
    held_back: Option<&'a Waiting>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sums: Vec<sums::Shown>,
    #[serde(skip)]
    sums_of: Vec<&'a Sum>,
    #[serde(skip)]
    throttled: &'a [ThrottledCgroup],
}

/// A sum as one line.
pub(super) fn sum_line(sum: &Sum, users: &dyn Users) -> String {
    format!("rule {}: {}", sum.rule, sums::sentence(sum, None, users))
}

/// A sum as JSON shows it.
pub(super) fn sum_shown(sum: &Sum) -> impl Serialize {
    sums::shown(sum)
}

fn has(sum: &Sum, process: ProcessId) -> bool {
    sum.members.iter().any(|member| member.process.id == process)
}

/// The delay that protects a process for now which would be terminated otherwise.
fn held_back<'a>(explanation: &Explanation<'_>, held: &'a [Waiting]) -> Option<&'a Waiting> {
    let Explanation { process, memory, verdict, .. } = explanation;
    let Verdict::Terminate(breach) = verdict else { return None };
    held.iter().find(|waiting| waiting.has(process, breach.by) && !enforce::is_urgent(breach, memory))
}

/// Column of the reasons, behind the rule and its outcome.
const REASONS: usize = 36;

fn text(reported: &Explained<'_>, users: &dyn Users) -> String {
    let Explained { explanation, rules_from: _, growth, details, container, held_back, sums: _, .. } =
        reported;
    let Explained { sums_of, throttled, .. } = reported;
    let mut lines = subject(explanation, *container, users);
    for (name, text) in
        details.map(|details| parts::lines(details, explanation.rules.measure)).into_iter().flatten()
    {
        lines.extend(wrapped(format!("  {name:<9} "), &text, 12));
    }
    lines.extend(growth.and_then(slope));
    lines.push(String::new());
    let mut rules_asked = Vec::new();
    for Asked { rule, matched } in &explanation.asked {
        let (outcome, why) = asked(matched);
        let row = format!("  {:<22}  {outcome:<8}  ", format!("rule {rule}"));
        let limit = explanation
            .rules
            .named(*rule)
            .map(|rule| rule_limit(rule, explanation.rules, explanation.memory))
            .unwrap_or_default();
        rules_asked.push((row, if matched == &Matched::Yes { limit } else { why }));
    }
    let members_of: Vec<_> = sums_of.iter().map(|sum| sum.rule).collect();
    rules_asked.extend(sums::asked(explanation.rules, explanation.process, explanation.memory, &members_of));
    for step in explanation.steps.iter().filter(|step| is_shown(step, explanation.rules)) {
        // The rules are asked right before the thresholds.
        if step.rule == Rule::Limits {
            for (row, why) in rules_asked.drain(..) {
                lines.extend(wrapped(row, &why, REASONS));
            }
        }
        let row = format!("  {:<22}  {:<8}  ", step.rule.key(), outcome(step));
        lines.extend(wrapped(row, &reason(step, explanation, users), REASONS));
    }
    lines.push(String::new());
    lines.extend(wrapped(String::new(), &verdict(explanation, users), 2));
    if let Some(waiting) = held_back {
        let place = waiting.place().map(|place| format!(" of {place}")).unwrap_or_default();
        let (left, times) = (Span::from_seconds(waiting.left_seconds), waiting.times);
        let why = format!(
            "not before {left} from now: its like{place} was terminated {times} times and comes back"
        );
        lines.extend(wrapped("  ".to_owned(), &why, 4));
    }
    for sum in sums_of {
        lines.extend(sums::paragraph(sum, Some(explanation.process.id), users, throttled));
    }
    let mut heading = "";
    for otherwise in &explanation.otherwise {
        let this = consequence(otherwise);
        if this != heading {
            lines.push(this.to_owned());
            heading = this;
        }
        let changes: Vec<_> =
            otherwise.changes.iter().map(|made| change(made, explanation.process, users)).collect();
        lines.extend(wrapped("  ".to_owned(), &changes.join(", and "), 4));
    }
    joined_lines(lines)
}

/// Its growth rate, and the consequence.
fn slope(growth: &Growth) -> Option<String> {
    let rate = Rate(growth.bytes_per_second?);
    let left = growth.seconds_to_limit.map(|left| format!(", at its limit in {}", Span::from_seconds(left)));
    Some(format!("  growth    {rate}{}", left.unwrap_or_default()))
}

/// The process that it is about.
fn subject(
    explanation: &Explanation<'_>,
    container: Option<&ContainerNames>,
    users: &dyn Users,
) -> Vec<String> {
    let Explanation { process, memory, .. } = explanation;
    let shown = |fact: &Fact<Name>| match fact {
        Fact::Known(name) => name.to_string(),
        Fact::Absent => "(none)".to_owned(),
        Fact::Unreadable => "(unreadable)".to_owned(),
        // By its owner, or because this memmon has not the right to read it.
        Fact::Withheld => "(withheld from memmon)".to_owned(),
    };
    let (real, effective) = (process.real_uid, process.effective_uid);
    let mut user = users.with_uid(real);
    if effective != real {
        _ = write!(user, ", in effect {}", users.with_uid(effective));
    }
    let share = process.rss.percent_of(memory.total);
    let mut resident = format!("{} of {} ({share:.2}%)", process.rss, memory.total);
    if process.error > Bytes::ZERO {
        _ = write!(resident, ", give or take {}", process.error);
    }
    let mut workload = process.cgroup.known().and_then(Workload::of);
    if let (Some(found), Some(names)) =
        (workload.as_mut().and_then(|workload| workload.container.as_mut()), container)
    {
        found.names = names.clone();
    }
    let head = [
        format!("pid {}, {}", process.id.pid, process.names.comm),
        format!("  exe       {}", shown(&process.names.exe)),
        format!("  argv[0]   {}", shown(&process.names.argv0)),
        format!("  user      {user}"),
        format!("  cgroup    {}", shown(&process.cgroup)),
    ];
    let resident = format!("  resident  {resident}");
    let init = process.launch.init.map(|init| format!("  first     {}", as_init(init)));
    head.into_iter().chain(workload.iter().flat_map(works_for)).chain(init).chain([resident]).collect()
}

/// The consequences for a process that is the first of a pid namespace.
const fn as_init(init: NamespaceInit) -> &'static str {
    if init.takes(Signal::Term) {
        "of its pid namespace: all processes there end with it"
    } else {
        "of its pid namespace: all processes there end with it, and as it neither handles nor blocks SIGTERM, only SIGKILL ends it"
    }
}

/// The job and the container that a process belongs to. Its unit shows in its cgroup.
fn works_for(workload: &Workload) -> Vec<String> {
    let Workload { unit: _, slurm, container } = workload;
    let slurm = slurm.as_ref().map(|SlurmJob { job, step, task, node }| {
        let step = step.as_ref().map(|step| format!(", step {step}")).unwrap_or_default();
        let task = task.map(|task| format!(", task {task}")).unwrap_or_default();
        let node = node.as_ref().map(|node| format!(" on node {node}")).unwrap_or_default();
        format!("  job       {job} of Slurm{step}{task}{node}")
    });
    let container = container.as_ref().map(|Container { id, runtime, pod, names }| {
        let ContainerNames { name, pod_name, namespace } = names;
        let runtime = runtime.map(|runtime| format!(" of {}", runtime.as_str())).unwrap_or_default();
        let name = name.as_ref().map(|name| format!(", named {name}")).unwrap_or_default();
        let pod = match (pod_name, pod) {
            (Some(name), Some(uid)) => format!(", in pod {name} ({uid})"),
            (Some(one), None) | (None, Some(one)) => format!(", in pod {one}"),
            (None, None) => String::new(),
        };
        let namespace = namespace.as_ref().map(|name| format!(" of namespace {name}")).unwrap_or_default();
        format!("  container {id}{runtime}{name}{pod}{namespace}")
    });
    slurm.into_iter().chain(container).collect()
}

/// The step for the other keys of the whitelist is left out if none is given.
fn is_shown(step: &Step, rules: &Rules) -> bool {
    step.rule != Rule::Matches || rules.whitelist.also != Matcher::default()
}

/// The keys of a matcher as they are written in the configuration.
fn matcher(matcher: &Matcher) -> String {
    let Matcher { names, exe, args, uids, groups, cgroups, units, not } = matcher;
    let lists = [
        ("names", names.as_ref().map(|list| quoted_list(list.entries()))),
        ("exe", exe.as_ref().map(|list| quoted_list(list.entries()))),
        ("args", args.as_ref().map(|list| quoted_list(list.entries()))),
        ("uids", uids.as_ref().map(|uids| or_none(uids.to_string()))),
        ("groups", groups.as_ref().map(|groups| list(groups.iter().map(ToString::to_string)))),
        ("cgroups", cgroups.as_ref().map(|list| quoted_list(list.entries()))),
        ("units", units.as_ref().map(|list| quoted_list(list.entries()))),
        ("not", not.as_ref().map(|not| self::matcher(not))),
    ];
    let lists = lists.into_iter().filter_map(|(key, list)| Some(format!("{key} {}", list?)));
    or_none(lists.collect::<Vec<_>>().join("; "))
}

/// The limit of a breach as its key, with the rule if it is one of a rule.
fn limit_key(breach: &Breach) -> String {
    match (breach.by, breach.rule) {
        (None, limit) => limit.key().to_owned(),
        (Some(rule), Limit::Percent) => format!("percent of rule {rule},"),
        (Some(rule), Limit::Gb) => format!("gb of rule {rule},"),
        (Some(rule), Limit::Machine) => format!("[machine], rule {rule},"),
    }
}

const fn outcome(step: &Step) -> &'static str {
    match (step.rule, &step.finding) {
        (Rule::Scope, Finding::Clear) => "inside",
        (Rule::Scope, Finding::Protects(_)) => "outside",
        (_, Finding::Clear) => "no",
        (_, Finding::Protects(_)) => "protects",
        (_, Finding::Doubts(_)) => "unclear",
        (_, Finding::Within) => "within",
        (_, Finding::Inherits(_)) => "inherited",
        (_, Finding::Uncharged(_)) => "uncharged",
        (_, Finding::Exceeds(_) | Finding::Stops(_) | Finding::Warns(_)) => "exceeded",
    }
}

/// The values that the rule compared: the configured one, and the process's if it is not on the screen already.
fn reason(step: &Step, explanation: &Explanation<'_>, users: &dyn Users) -> String {
    let Explanation { process, memory, rules, .. } = explanation;
    let whitelist = &rules.whitelist;
    match (step.rule, &step.finding) {
        (Rule::Names, Finding::Protects(Protection::Name { pattern, field, name })) => {
            matched(pattern, *field, name)
        }
        (_, Finding::Doubts(doubt)) => unclear(doubt),
        (Rule::Init | Rule::KernelThread, _) => "never touched".to_owned(),
        (Rule::Memmon, _) => format!("pid {}", rules.own_pid),
        (Rule::Scope, _) => {
            let uids = rules.scope.uids.as_ref().map(|uids| format!("uids {}", or_none(uids.to_string())));
            let cgroups = rules.scope.cgroups.as_ref();
            let cgroups = cgroups.map(|patterns| format!("cgroups {}", quoted_list(patterns.entries())));
            let parts: Vec<_> = uids.into_iter().chain(cgroups).collect();
            if parts.is_empty() { "everything".to_owned() } else { parts.join("; ") }
        }
        (Rule::Pids, _) => list(whitelist.pids.iter().map(ToString::to_string)),
        (Rule::Names, _) => quoted_list(whitelist.names.entries()),
        (Rule::Users, _) => list(whitelist.users.iter().map(|uid| match *uid {
            Uid::ROOT => "root (0, see protect_root)".to_owned(),
            uid => users.with_uid(uid),
        })),
        (Rule::Matches, Finding::Protects(Protection::Match { key, pattern })) => {
            format!("its {} matches {} in {}", fact_name(*key), quoted(pattern.as_bytes()), key.as_str())
        }
        (Rule::Matches, _) => matcher(&whitelist.also),
        (Rule::ProtectRoot, _) => whitelist.protect_root.to_string(),
        (Rule::OomScoreAdj, _) if !rules.honour_oom_score_adj => "not honoured".to_owned(),
        (Rule::OomScoreAdj, _) => match process.oom_score_adj {
            Fact::Known(-1000) => "-1000".to_owned(),
            Fact::Known(score) => format!("{score}; -1000 would protect"),
            Fact::Absent | Fact::Unreadable | Fact::Withheld => "unreadable".to_owned(),
        },
        (Rule::Exempt, Finding::Protects(protection)) => because(protection, users),
        (Rule::Exempt, _) => list(rules.exemptions.iter().map(|one| one.of.to_string())),
        (Rule::Limits, _) => {
            let share = rules.limits.share_of(memory.total);
            let (percent, bytes) = (rules.limits.percent(), rules.limits.bytes());
            format!("over {share} ({percent}% of memory) or {bytes}")
        }
    }
}

/// The verdict as a sentence.
fn verdict(explanation: &Explanation<'_>, users: &dyn Users) -> String {
    let Explanation { process, memory, rules, .. } = explanation;
    match &explanation.verdict {
        Verdict::Within => {
            let by = rules.decisive(process);
            let Some((rule, limit)) = rules.limit_under(by, memory) else {
                let name = by.map(|by| by.name.to_string()).unwrap_or_default();
                return format!("left alone: rule {name} gives it no limit");
            };
            let (rss, limit) = apart(process.rss, limit);
            let key =
                by.map_or_else(|| rule.key().to_owned(), |by| format!("the limit of rule {},", by.name));
            format!("left alone: {rss} resident does not exceed {key} {limit}")
        }
        Verdict::Inherits(Inherited { bytes, elder }) => {
            let limit = rules.limit_of(process, memory);
            let (own, limit) = apart(process.own(), limit);
            format!(
                "left alone: it was forked with {} that pid {elder} holds as well, and the other {own} do not exceed \
                 {limit}",
                *bytes
            )
        }
        Verdict::Uncharged(uncharged) => {
            let (rss, limit) = apart(process.rss, rules.limit_of(process, memory));
            format!(
                "left alone: {rss} resident exceeds {limit}, but its end would give back only {uncharged}"
            )
        }
        Verdict::Protected(protection) => format!("left alone: {}", because(protection, users)),
        Verdict::Unsure(doubt) => format!("left alone, in doubt: {}", unclear(doubt)),
        Verdict::Warn(breach) => {
            let (rss, limit) = apart(breach.rss, breach.limit);
            format!("left alone with a warning: {rss} resident exceeds {} {limit}", limit_key(breach))
        }
        Verdict::Stop(breach) => {
            let (rss, limit) = apart(breach.rss, breach.limit);
            format!("stopped (SIGSTOP): {rss} resident exceeds {} {limit}", limit_key(breach))
        }
        Verdict::Terminate(breach) => {
            let (rss, limit) = apart(breach.rss, breach.limit);
            let rule = breach.by.and_then(|name| rules.named(name));
            let lasting = rule.map(|rule| rule.lasting).filter(|lasting| !lasting.is_zero());
            let lasting = lasting.map(|lasting| format!(", if that lasts for {}", Span(lasting)));
            let signal = rule.map(|rule| rule.signal).filter(|signal| *signal != Signal::Term);
            let signal = signal.map(|signal| format!("; {signal} comes first")).unwrap_or_default();
            let (key, lasting) = (limit_key(breach), lasting.unwrap_or_default());
            format!("terminated: {rss} resident exceeds {key} {limit}{lasting}{signal}")
        }
    }
}

/// The action of a verdict, in one word.
const fn action_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) => "within",
        Verdict::Warn(_) => "warn",
        Verdict::Stop(_) => "stop",
        Verdict::Protected(_) => "protected",
        Verdict::Unsure(_) => "unsure",
        Verdict::Terminate(_) => "terminate",
    }
}

const fn consequence(otherwise: &Otherwise) -> &'static str {
    match otherwise.verdict {
        Verdict::Within | Verdict::Inherits(_) | Verdict::Uncharged(_) => "would be left alone",
        Verdict::Warn(_) => "would be left alone with a warning",
        Verdict::Stop(_) => "would be stopped",
        Verdict::Protected(_) => "would be protected",
        Verdict::Unsure(_) => "would be in doubt",
        Verdict::Terminate(_) => "would be terminated",
    }
}
