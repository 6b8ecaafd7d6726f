//! The processes that are over the limit right now, for `memmon check` and `memmon enable`: what would become of each, also
//! with the other choice of `thresholds.measure`.

use std::{
    cmp::Reverse,
    io::{self, Write},
    mem,
};

use serde_json::{Value, json};

use super::{
    explain::{sum_line, sum_shown},
    matches::RuleMatches,
};
use crate::{
    config::Users,
    model::{Bytes, Measure, Process, SystemMemory, Verdict},
    policy::{self, Rules, Sum, SumVerdict},
};

/// The running processes, as policy judges them by the settings that are checked.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// The machine's memory.
    pub memory: SystemMemory,
    /// Processes, at least those over the limit, in any order.
    pub judged: Vec<(Process, Verdict)>,
    /// The sums that may exceed their limit.
    pub sums: Vec<Sum>,
    /// The processes that each rule decides about.
    pub rules: Vec<RuleMatches>,
}

/// Number of processes that are shown.
const ROWS: usize = 20;

/// Writes the processes that are over the limit right now, and the changes that the other choice of `thresholds.measure`
/// would make.
///
/// # Errors
/// Those of writing.
pub(super) fn write(
    rules: &Rules,
    running: &Running,
    users: &dyn Users,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (limit, bytes) = rules.limit(&running.memory);
    let share = rules.limits.share_of(running.memory.total);
    writeln!(
        out,
        "On this machine, with {} of memory, {}% is {share}; ram_gb_threshold is {}. The lower one is the limit.",
        running.memory.total,
        rules.limits.percent(),
        rules.limits.bytes(),
    )?;
    let (limit, total) = (limit.key(), running.memory.total);
    let over = running.over(rules);
    let has_rules = !rules.rules.is_empty();
    if over.is_empty() {
        let or = if has_rules { ", and none over that of its rule" } else { "" };
        return writeln!(out, "No process is over the limit of {bytes} now ({limit}, {total} in all){or}.");
    }
    let or = if has_rules { ", or over that of its rule" } else { "" };
    writeln!(out, "Over the limit of {bytes} now ({limit}, {total} in all){or}:")?;
    for (process, verdict) in over.iter().take(ROWS) {
        let Process { id, rss, real_uid, names, .. } = process;
        let user = users.shown(*real_uid);
        let percent = rss.percent_of(total);
        let outcome = outcome(process, verdict, rules, &running.memory);
        writeln!(out, "  PID={id}, Name={}, User={user}, RAM={rss} ({percent:.2}%): {outcome}", names.comm)?;
    }
    match over.len().saturating_sub(ROWS) {
        0 => {}
        more => writeln!(out, "  and {more} more")?,
    }
    write_otherwise(&running.otherwise(rules), rules, &running.memory, out)
}

/// Writes the sums of several processes that are over their limit right now; nothing if no rule limits a sum.
///
/// # Errors
/// Those of writing.
pub(super) fn write_sums(
    rules: &Rules,
    running: &Running,
    users: &dyn Users,
    out: &mut dyn Write,
) -> io::Result<()> {
    if rules.sums.is_empty() {
        return Ok(());
    }
    let over: Vec<_> = running.sums_over().collect();
    if over.is_empty() {
        return writeln!(out, "No sum of several processes is over its limit now.");
    }
    writeln!(out, "Sums of several processes over their limit now:")?;
    for sum in over.iter().take(ROWS) {
        writeln!(out, "  {}", sum_line(sum, users))?;
    }
    match over.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

impl Running {
    /// The sums that exceed their limit, or may.
    fn sums_over(&self) -> impl Iterator<Item = &Sum> {
        self.sums.iter().filter(|sum| sum.verdict() != SumVerdict::Within)
    }

    /// The processes over the limit of `[thresholds]` or of their own rule, the largest first. The lower one of the two counts:
    /// what a rule ends below the limit is to be seen beforehand, and so is what a rule spares above it.
    pub(super) fn over(&self, rules: &Rules) -> Vec<&(Process, Verdict)> {
        let (_, limit) = rules.limit(&self.memory);
        let is_over = |process: &Process| process.rss > limit.min(rules.limit_of(process, &self.memory));
        let mut over: Vec<_> = self.judged.iter().filter(|(process, _)| is_over(process)).collect();
        over.sort_by_key(|(process, _)| (Reverse(process.rss), process.id.pid));
        over
    }

    /// The changes that the other choice of `thresholds.measure` would make for the processes over the limit.
    pub(super) fn otherwise(&self, rules: &Rules) -> Otherwise<'_> {
        let measure = match rules.measure {
            Measure::Charged => Measure::Rss,
            Measure::Rss => Measure::Charged,
        };
        let other = Rules { measure, ..rules.clone() };
        let over = self.over(rules);
        let changed = over.iter().filter_map(|(process, verdict)| {
            let then = policy::judge(&other, process, &self.memory);
            (mem::discriminant(&then) != mem::discriminant(verdict)).then_some((process, then))
        });
        Otherwise { measure, over: over.len(), changed: changed.collect() }
    }
}

/// The same sums as [`write_sums`] shows, all of them, with the fields of `memmon explain --json`.
pub(super) fn sums_as_json(running: &Running) -> Value {
    running.sums_over().map(|sum| json!(sum_shown(sum))).collect()
}

/// The verdicts with another measure.
#[derive(Debug)]
pub(super) struct Otherwise<'a> {
    measure: Measure,
    /// Number of processes over the limit.
    over: usize,
    /// Processes with another verdict, with that verdict.
    changed: Vec<(&'a Process, Verdict)>,
}

pub(super) fn as_json(otherwise: &Otherwise<'_>) -> Value {
    let changed: Vec<_> = otherwise
        .changed
        .iter()
        .map(|(process, verdict)| json!({ "pid": process.id.pid, "start": process.id.start, "verdict": verdict }))
        .collect();
    json!({ "measure": otherwise.measure, "changed": changed })
}

fn write_otherwise(
    otherwise: &Otherwise<'_>,
    rules: &Rules,
    memory: &SystemMemory,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Otherwise { measure, over, changed } = otherwise;
    if changed.is_empty() {
        return writeln!(out, "With measure = \"{measure}\", nothing of this would change.");
    }
    writeln!(
        out,
        "With measure = \"{measure}\", the verdict on {} of these {over} would be another:",
        changed.len()
    )?;
    for (process, verdict) in changed.iter().take(ROWS) {
        let outcome = outcome(process, verdict, rules, memory);
        writeln!(out, "  PID={}, Name={}: {outcome}", process.id, process.names.comm)?;
    }
    match changed.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

fn outcome(process: &Process, verdict: &Verdict, rules: &Rules, memory: &SystemMemory) -> String {
    let text = match verdict {
        Verdict::Terminate(_) => "would be terminated",
        Verdict::Stop(_) => "would be stopped",
        Verdict::Warn(_) => "over the limit of a rule that only warns",
        Verdict::Protected(_) => "protected",
        Verdict::Unsure(_) => "left alone, as it is not certain",
        Verdict::Within => "within its limit",
        Verdict::Inherits(_) => "left alone, as it shares memory with the process that forked it",
        Verdict::Uncharged(uncharged) => {
            return format!("left alone, as its end would give back only {uncharged}");
        }
    };
    let rule = match verdict {
        Verdict::Terminate(breach) | Verdict::Stop(breach) | Verdict::Warn(breach) => breach.by,
        Verdict::Within => rules.decisive(process).map(|rule| rule.name),
        _ => None,
    };
    match (rule, rules.limit_of(process, memory)) {
        (None, _) => text.to_owned(),
        (Some(rule), Bytes::MAX) => format!("{text} (rule {rule}, no limit)"),
        (Some(rule), limit) => format!("{text} (rule {rule}, {limit})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{FakeUsers, HostileUsers},
        model::{Fact, Holdings, KeptObject, KeptWhy, Name, Parts, Pid, ProcessId, SharedMemory, StartTime},
        policy::fixtures::{MEMORY, hog, rules},
    };

    fn backend(pid: u32) -> Process {
        let mib = |count: u64| Bytes(count << 20);
        let largest =
            KeptObject { name: "/dev/zero".into(), bytes: mib(3000), why: KeptWhy::Elder { pid: Pid(812) } };
        let shared = SharedMemory { returned: mib(1), kept: mib(3000), largest: Some(largest) };
        let parts = Parts { anon: mib(14), file: mib(58), shmem: mib(3001), swap: Bytes::ZERO };
        let mut process = Process {
            id: ProcessId { pid: Pid(pid), start: StartTime(7) },
            rss: mib(3073),
            error: Bytes::ZERO,
            holdings: Some(Holdings { parts, shared: Fact::Known(shared), trouble: None }),
            ..hog()
        };
        process.names.comm = Name::from("postgres");
        process
    }

    fn written(measure: Measure, processes: Vec<Process>) -> (String, Value) {
        written_by(&Rules { measure, ..rules() }, processes)
    }

    fn written_by(rules: &Rules, processes: Vec<Process>) -> (String, Value) {
        let judged = processes.into_iter().map(|process| {
            let verdict = policy::judge(rules, &process, &MEMORY);
            (process, verdict)
        });
        let running = Running { memory: MEMORY, judged: judged.collect(), sums: vec![], rules: vec![] };
        let mut out = Vec::new();
        write(rules, &running, &HostileUsers, &mut out).unwrap();
        let hostile = String::from_utf8(std::mem::take(&mut out)).unwrap();
        assert!(!hostile.contains(['\u{1b}', '\u{202e}']), "{hostile}");
        write(rules, &running, &FakeUsers(&[("alice", 1000)]), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), as_json(&running.otherwise(rules)))
    }

    /// An administrator agrees to what is shown, so it must have what ends by a rule below the limit of all others.
    #[test]
    fn a_process_is_shown_over_the_limit_of_its_rule_and_one_that_its_rule_spares() {
        let file = "whitelist.names = []\n[thresholds]\nmeasure = 'rss'\nram_gb_threshold = 2.0\nram_percent_threshold = 100\n\
            [[rule]]\nname = 'tight'\nnames = ['tight*']\ngb = 1.0\n\
            [[rule]]\nname = 'wide'\nnames = ['wide']\ngb = 4.0\n\
            [[rule]]\nname = 'free'\nnames = ['free']\nnone = true";
        let rules =
            crate::config::parse(file, std::path::Path::new("c"), &FakeUsers(&[])).unwrap().settings.rules;
        let process = |pid, name: &str, mib: u64| {
            let id = ProcessId { pid: Pid(pid), start: StartTime(7) };
            let mut process = Process { id, rss: Bytes(mib << 20), error: Bytes::ZERO, ..hog() };
            process.names.comm = Name::from(name);
            process
        };
        let all = [
            process(1001, "free", 3000),
            process(1002, "wide", 2600),
            process(1003, "other", 2100),
            process(1004, "tight", 1200),
        ];
        let unseen = [process(1005, "other", 1900), process(1006, "tight", 1000)];
        let (text, _) = written_by(&rules, all.into_iter().chain(unseen.clone()).collect());
        let shown: Vec<_> = text.lines().filter_map(|line| line.split_once("PID=")).collect();
        let outcomes: Vec<_> = shown.iter().map(|(_, line)| line.rsplit_once(": ").unwrap().1).collect();
        assert_eq!(
            outcomes,
            [
                "within its limit (rule free, no limit)",
                "within its limit (rule wide, 4.00GB)",
                "would be terminated",
                "would be terminated (rule tight, 1.00GB)",
            ],
            "{text}"
        );
        assert!(text.contains("in all), or over that of its rule:\n"), "{text}");
        let (text, _) = written_by(&rules, unseen.into());
        assert!(text.ends_with("in all), and none over that of its rule.\n"), "{text}");
    }

    #[test]
    fn the_other_measure_is_shown_for_the_processes_that_it_would_change() {
        let (text, json) = written(Measure::Charged, vec![backend(813), hog()]);
        assert!(text.contains(
            "left alone, as its end would give back only 15.0MB; page cache stays (58.0MB), and so does shared memory"
        ), "{text}");
        assert!(text.ends_with(
            "With measure = \"rss\", the verdict on 1 of these 2 would be another:\n  PID=813, Name=postgres: would be terminated\n"
        ), "{text}");
        assert_eq!((&json["measure"], &json["changed"][0]["pid"]), (&json!("rss"), &json!(813)));
        let (text, _) = written(Measure::Rss, vec![backend(813), backend(814)]);
        assert!(
            text.contains("With measure = \"charged\", the verdict on 2 of these 2 would be another:\n"),
            "{text}"
        );
        let (text, json) = written(Measure::Charged, vec![hog()]);
        assert!(text.ends_with("With measure = \"rss\", nothing of this would change.\n"), "{text}");
        assert_eq!(json["changed"], json!([]));
    }
}
