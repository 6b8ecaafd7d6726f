//! `memmon explain --user`, `--unit` and `--rule`: many processes at once. Shows the rule that decides about each of them,
//! the processes over their limit, and the sums in which they count, with the others in there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Known, action_of, sums,
    words::{joined_lines, rule_limit, wrapped},
};
use crate::{
    config::Users,
    inspect::Onlooker,
    model::{Bytes, Per, Process, ProcessId, RuleName, SystemMemory, Uid, Verdict, units::processes},
    policy::{self, Coverage, Matched, Matcher, Rules, Sum},
    status::why,
};

/// Number of processes that a line names.
const SHOWN: usize = 5;
/// Column of the processes, behind the rule.
const VALUES: usize = 24;

/// The processes that a user asks about.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Asked {
    /// Their common property, as a phrase that is safe to show.
    pub(in crate::cli) what: String,
    /// The processes.
    pub(in crate::cli) matcher: Matcher,
    /// The rule, if they are those of one.
    pub(in crate::cli) rule: Option<RuleName>,
}

/// The result of one look at the machine.
#[derive(Debug)]
pub(in crate::cli) struct Found {
    memory: SystemMemory,
    /// All processes of the machine.
    processes: Vec<Process>,
    /// Processes that were asked for and may be over their limit, with their verdicts.
    over: Vec<(Process, Verdict)>,
    /// The sums in which any that was asked for counts.
    sums: Vec<Sum>,
}

impl Asked {
    fn has(&self, process: &Process) -> bool {
        self.matcher.matches(process) == Matched::Yes
    }
}

/// Looks at the processes that are `asked` for.
///
/// # Errors
/// /proc cannot be read.
pub(in crate::cli) fn find(onlooker: &Onlooker, asked: &Asked) -> anyhow::Result<Found> {
    let (memory, rules) = (onlooker.memory()?, onlooker.rules());
    let processes = onlooker.all()?;
    let wanted: Vec<_> = processes.iter().filter(|process| asked.has(process)).collect();
    let over = wanted
        .iter()
        .filter(|process| process.rss + process.error > rules.limit_of(process, &memory))
        .filter_map(|process| onlooker.process(process.id.pid, Some(process.id.start), &memory).ok())
        .map(|process| (policy::judge(rules, &process, &memory), process))
        .filter(|(verdict, _)| !matches!(verdict, Verdict::Within))
        .map(|(verdict, process)| (process, verdict))
        .collect();
    let ids: BTreeSet<ProcessId> = wanted.iter().map(|process| process.id).collect();
    let mut sums = onlooker.sums(Some(&ids), &memory)?;
    sums.retain(|sum| asked.rule.is_none_or(|rule| rule == sum.rule) || !is_of_sums(rules, asked.rule));
    Ok(Found { memory, processes, over, sums })
}

/// Whether the rule is one for sums.
fn is_of_sums(rules: &Rules, rule: Option<RuleName>) -> bool {
    rules.sums.iter().any(|sum| Some(sum.rule.name) == rule)
}

/// The rule that decides about some of the processes.
#[derive(Debug, Serialize)]
struct Decides<'a> {
    /// `None`: `[thresholds]`.
    rule_name: Option<RuleName>,
    per: Option<Per>,
    limit_bytes: Option<Bytes>,
    #[serde(skip)]
    limit: String,
    processes: Vec<Part<'a>>,
}

#[derive(Debug, Serialize)]
struct Part<'a> {
    #[serde(flatten)]
    id: ProcessId,
    comm: &'a crate::model::Name,
    uid: Uid,
    rss_bytes: Bytes,
}

/// Explains the processes that are `asked` for: for people, or as one JSON object.
///
/// # Errors
/// JSON that cannot be written (no figure here is one that JSON has no way to write).
pub(in crate::cli) fn explain(
    rules: &Rules,
    asked: &Asked,
    found: &Found,
    known: &Known,
    json: bool,
    users: &dyn Users,
) -> serde_json::Result<String> {
    let Known { rules_from, throttled, .. } = known;
    let coverage = policy::coverage(rules, &found.processes);
    let decides = decides(rules, asked, found, &coverage);
    let covered = asked.rule.and_then(|rule| coverage.iter().find(|one| one.rule == rule));
    let unclear = found.processes.iter().filter(|process| {
        matches!(asked.matcher.matches(process), Matched::Withheld(_) | Matched::Unknown(_))
    });
    let unclear = unclear.count();
    if json {
        return as_json(asked, found, rules_from, &decides, covered, unclear);
    }
    let mut lines = wrapped(String::new(), &format!("by the rules of {rules_from}"), 2);
    lines.push(String::new());
    lines.extend(wrapped(String::new(), &heading(asked, found, unclear), 2));
    lines.extend(covered.and_then(too_late).into_iter().flat_map(|text| wrapped("  ".to_owned(), &text, 4)));
    if !decides.is_empty() {
        lines.push(String::new());
    }
    for one in &decides {
        let name = one.rule_name.map_or_else(|| "[thresholds]".to_owned(), |rule| format!("rule {rule}"));
        let text = format!("{}: {}", one.limit, list(&one.processes));
        lines.extend(wrapped(format!("  {name:<20}  "), &text, VALUES));
    }
    if !found.over.is_empty() {
        lines.extend([String::new(), "over their limit:".to_owned()]);
    }
    for (process, verdict) in &found.over {
        let outcome =
            if matches!(verdict, Verdict::Terminate(_)) { "would be terminated" } else { "left alone" };
        let text = format!(
            "{} {} of {}, {}: {outcome}, {}",
            process.id.pid,
            process.names.comm,
            users.with_uid(process.real_uid),
            process.rss,
            why(verdict)
        );
        lines.extend(wrapped("  ".to_owned(), &text, 4));
    }
    for sum in &found.sums {
        lines.push(String::new());
        lines.extend(sums::paragraph(sum, None, users, throttled));
    }
    Ok(joined_lines(lines))
}

/// The rules that decide about the processes that are `asked` for, in their order, and at last `[thresholds]`.
fn decides<'a>(
    rules: &Rules,
    asked: &Asked,
    found: &'a Found,
    coverage: &[Coverage<'a>],
) -> Vec<Decides<'a>> {
    let mut by_rule: BTreeMap<Option<RuleName>, Vec<&'a Process>> = BTreeMap::new();
    for covered in coverage {
        let parts = covered.decides.iter().filter(|process| asked.has(process));
        by_rule.entry(Some(covered.rule)).or_default().extend(parts);
    }
    let without = |process: &&Process| asked.has(process) && rules.decisive(process).is_none();
    by_rule.insert(None, found.processes.iter().filter(without).collect());
    let order = coverage.iter().map(|covered| (Some(covered.rule), covered.per)).chain([(None, None)]);
    let decides = order.filter_map(|(rule_name, per)| {
        let mut processes = by_rule.remove(&rule_name).filter(|processes| !processes.is_empty())?;
        processes.sort_by_key(|process| (Reverse(process.rss), process.id));
        let rule = rule_name.and_then(|name| rules.named(name));
        let limit_bytes = rules.limit_under(rule, &found.memory).map(|(_, limit)| limit);
        let per_text = per.map(|per| format!("per {}, ", per.as_str())).unwrap_or_default();
        let limit = match (rule, limit_bytes) {
            (Some(rule), _) => rule_limit(rule, rules, &found.memory),
            (None, limit) => format!("over {}", limit.unwrap_or(Bytes::MAX)),
        };
        let part = |process: &'a Process| Part {
            id: process.id,
            comm: &process.names.comm,
            uid: process.real_uid,
            rss_bytes: process.rss,
        };
        let processes = processes.into_iter().map(part).collect();
        Some(Decides { rule_name, per, limit_bytes, limit: per_text + &limit, processes })
    });
    decides.collect()
}

fn heading(asked: &Asked, found: &Found, unclear: usize) -> String {
    let members = found.processes.iter().filter(|process| asked.has(process));
    let (count, resident) =
        members.fold((0, Bytes::ZERO), |(count, sum), process| (count + 1, sum + process.rss));
    let processes = match count {
        0 => "no process right now".to_owned(),
        count => format!("{count} {} with {resident} resident", processes(count)),
    };
    let unclear = match unclear {
        0 => String::new(),
        count => format!("; {count} more may belong to it, which could not be read"),
    };
    format!("{}: {processes}{unclear}", asked.what)
}

/// The processes that a rule matches after another one did.
fn too_late(covered: &Coverage<'_>) -> Option<String> {
    let earlier: Vec<_> = covered.earlier.iter().map(ToString::to_string).collect();
    (covered.too_late > 0).then(|| {
        let be = if covered.too_late == 1 { "is" } else { "are" };
        format!("{} of them {be} matched by {}, which comes before it", covered.too_late, earlier.join(", "))
    })
}

fn list(parts: &[Part<'_>]) -> String {
    let shown = parts.iter().take(SHOWN);
    let shown: Vec<_> =
        shown.map(|part| format!("{} {} {}", part.id.pid, part.comm, part.rss_bytes)).collect();
    let count = parts.len();
    let more = match count.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{count} {}: {}{more}", processes(count), shown.join(", "))
}

fn as_json(
    asked: &Asked,
    found: &Found,
    rules_from: &str,
    decides: &[Decides<'_>],
    covered: Option<&Coverage<'_>>,
    unclear: usize,
) -> serde_json::Result<String> {
    let over = found.over.iter().map(|(process, verdict)| {
        json!({ "pid": process.id.pid, "start": process.id.start, "comm": process.names.comm,
                "uid": process.real_uid, "rss_bytes": process.rss, "action": action_of(verdict),
                "why": why(verdict) })
    });
    let object = json!({
        "about": asked.what,
        "rules_from": rules_from,
        "memory": found.memory,
        "decides": decides,
        "matched_by_earlier": covered.map(|covered| covered.too_late),
        "earlier": covered.map(|covered| &covered.earlier),
        "uncertain": unclear,
        "over": over.collect::<Vec<Value>>(),
        "sums": found.sums.iter().map(sums::shown).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&object)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, FakeUsers},
        model::{Fact, Name, Pid},
        policy::fixtures::{MEMORY, hog},
    };

    fn process(pid: u32, comm: &str, uid: u32, mib: u64) -> Process {
        let mut process = hog();
        process.id.pid = Pid(pid);
        process.names.comm = Name::from(comm);
        (process.names.exe, process.names.argv0) = (Fact::Absent, Fact::Absent);
        (process.real_uid, process.effective_uid, process.rss) = (Uid(uid), Uid(uid), Bytes(mib << 20));
        process
    }

    const RULES: &str = "
        rule = [
            { name = 'web', names = ['web*'], none = true },
            { name = 'late', names = ['web-1', 'job'], gb = 1 },
            { name = 'students', uids = ['1000-1999'], per = 'user', gb = 2 },
        ]
        [whitelist]
        names = ['database']";

    fn shown(asked: &Asked, json: bool) -> String {
        let loaded = config::parse(RULES, std::path::Path::new("c"), &FakeUsers(&[])).unwrap();
        let rules = loaded.settings.rules;
        let processes = vec![
            process(1, "web-1", 1000, 700),
            process(2, "web-2", 1001, 100),
            process(3, "job", 1000, 1100),
            process(4, "x", 1000, 50),
            process(5, "database", 1000, 300),
        ];
        let wanted = |process: &&Process| asked.has(process);
        let over = processes.iter().filter(wanted).filter(|process| process.id.pid == Pid(3));
        let over = over.map(|process| (process.clone(), policy::judge(&rules, process, &MEMORY))).collect();
        let groups = policy::groups(&rules, &MEMORY, &processes);
        let has = |sum: &Sum| {
            let members = sum.members.iter();
            members.map(|member| &member.process).any(|process| asked.has(process))
        };
        let sums = groups.iter().map(|group| Sum::new(&rules, &MEMORY, group)).filter(has).collect();
        let found = Found { memory: MEMORY, processes, over, sums };
        let known = Known { rules_from: "config.toml".to_owned(), ..Known::default() };
        explain(&rules, asked, &found, &known, json, &FakeUsers(&[("john", 1000)])).unwrap()
    }

    fn of_user(uid: u32) -> Asked {
        let uids = Some([Uid(uid)..=Uid(uid)].into_iter().collect());
        Asked { what: format!("user {uid}"), matcher: Matcher { uids, ..Matcher::default() }, rule: None }
    }

    #[test]
    fn a_user_is_shown_with_what_decides_and_with_the_sums() {
        insta::assert_snapshot!(shown(&of_user(1000), false), @"
        by the rules of config.toml

        user 1000: 4 processes with 2.10GB resident

          rule web              no limit: 1 process: 1 web-1 0.68GB
          rule late             over 1.00GB: 1 process: 3 job 1.07GB
          rule students         per user, over 2.00GB: 4 processes: 3 job 1.07GB, 1
                                web-1 0.68GB, 5 database 0.29GB, 4 x 50.0MB
          [thresholds]          over 1.60GB: 2 processes: 5 database 0.29GB, 4 x 50.0MB

        over their limit:
          3 job of john (1000), 1.07GB: would be terminated, rule late

        rule students: user john (1000) holds 2.10GB, limit 2.00GB: exceeded, and pid 3
          ends (4 processes: 3 job 1.07GB, 1 web-1 0.68GB, 5 database 0.29GB, 4 x
          50.0MB)
          would end first: 3 job 1.07GB, 4 x 50.0MB (the largest first, as few as it
            takes)
          2 protected processes count, with 0.98GB, and would not end
          would be within its limit with 102.0MB less, or with gb = 2.10 in rule
            students
        ");
    }

    #[test]
    fn a_rule_is_shown_with_what_comes_before_it() {
        let loaded = config::parse(RULES, std::path::Path::new("c"), &FakeUsers(&[])).unwrap();
        let late = RuleName::new("late").unwrap();
        let matcher = loaded.settings.rules.named(late).unwrap().matcher.clone();
        let asked = Asked { what: "rule late".to_owned(), matcher, rule: Some(late) };
        insta::assert_snapshot!(shown(&asked, false), @"
        by the rules of config.toml

        rule late: 2 processes with 1.76GB resident
          1 of them is matched by web, which comes before it

          rule web              no limit: 1 process: 1 web-1 0.68GB
          rule late             over 1.00GB: 1 process: 3 job 1.07GB
          rule students         per user, over 2.00GB: 2 processes: 3 job 1.07GB, 1
                                web-1 0.68GB

        over their limit:
          3 job of john (1000), 1.07GB: would be terminated, rule late

        rule students: user john (1000) holds 2.10GB, limit 2.00GB: exceeded, and pid 3
          ends (4 processes: 3 job 1.07GB, 1 web-1 0.68GB, 5 database 0.29GB, 4 x
          50.0MB)
          would end first: 3 job 1.07GB, 4 x 50.0MB (the largest first, as few as it
            takes)
          2 protected processes count, with 0.98GB, and would not end
          would be within its limit with 102.0MB less, or with gb = 2.10 in rule
            students
        ");
        let json: Value = serde_json::from_str(&shown(&asked, true)).unwrap();
        assert_eq!((&json["matched_by_earlier"], &json["earlier"]), (&json!(1), &json!(["web"])));
        assert_eq!(json["decides"][1]["processes"][0]["pid"], 3);
        assert_eq!(json["sums"][0]["order"], json!([3, 4]));
        assert_eq!(json["over"][0]["action"], "terminate");
    }

    #[test]
    fn nobody_is_shown_as_nobody() {
        let text = shown(&of_user(7), false);
        assert_eq!(text, "by the rules of config.toml\n\nuser 7: no process right now\n");
    }
}
