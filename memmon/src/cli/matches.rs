//! The processes that each rule decides about right now, for `memmon check`.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::{
    config::Users,
    model::{Name, Per, Pid, RuleName, StartTime, Uid, units::processes},
    policy::Coverage,
};

/// Number of processes of a rule that are shown by name.
const SHOWN: usize = 4;

/// A rule, and the processes that it decides about.
#[derive(Clone, Debug)]
pub(super) struct RuleMatches {
    rule: RuleName,
    per: Option<Per>,
    processes: Vec<(Pid, StartTime, Name, Uid)>,
    /// Number of processes that it matches after another rule.
    too_late: usize,
    /// The other rules.
    earlier: Vec<RuleName>,
    unclear: usize,
}

impl From<Coverage<'_>> for RuleMatches {
    fn from(coverage: Coverage<'_>) -> Self {
        let Coverage { rule, per, decides, too_late, earlier, unclear } = coverage;
        let processes = decides
            .into_iter()
            .map(|process| (process.id.pid, process.id.start, process.names.comm.clone(), process.real_uid))
            .collect();
        Self { rule, per, processes, too_late, earlier: earlier.into_iter().collect(), unclear }
    }
}

/// Writes them; nothing if there is no rule.
///
/// # Errors
/// Those of writing.
pub(super) fn write(matches: &[RuleMatches], users: &dyn Users, out: &mut dyn Write) -> io::Result<()> {
    if matches.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nThe processes that each rule matches first now:")?;
    for RuleMatches { rule, per, processes: matched, too_late, earlier, unclear } in matches {
        write!(out, "  {rule}")?;
        if let Some(per) = per {
            write!(out, " (per {}, with eBPF noticed by {})", per.as_str(), per.noticed_by())?;
        }
        match matched.len() {
            0 if *too_late == 0 => write!(out, ": no process")?,
            0 => {
                let earlier: Vec<_> = earlier.iter().map(ToString::to_string).collect();
                write!(
                    out,
                    ": no process, as the {too_late} that it matches are those of {} above it",
                    earlier.join(", ")
                )?;
            }
            count => write!(out, ": {count} {}", processes(count))?,
        }
        for (index, (pid, _, name, uid)) in matched.iter().take(SHOWN).enumerate() {
            let user = users.shown(*uid);
            write!(out, "{} {pid} {name} ({user})", if index == 0 { ":" } else { "," })?;
        }
        match matched.len().saturating_sub(SHOWN) {
            0 => {}
            more => write!(out, " and {more} more")?,
        }
        match unclear {
            0 => writeln!(out)?,
            count => writeln!(out, "; {count} more may match, which could not be read")?,
        }
    }
    Ok(())
}

pub(super) fn as_json(matches: &[RuleMatches]) -> Value {
    let one = |one: &RuleMatches| {
        let RuleMatches { rule, per, processes, too_late, earlier, unclear } = one;
        let processes: Vec<_> = processes
            .iter()
            .map(|(pid, start, name, uid)| json!({ "pid": pid, "start": start, "name": name, "uid": uid }))
            .collect();
        json!({
            "rule": rule,
            "per": per.map(Per::as_str),
            "noticed_by": per.map(Per::noticed_by),
            "processes": processes,
            "matched_by_earlier": too_late,
            "earlier": earlier,
            "uncertain": unclear,
        })
    };
    matches.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{self, FakeUsers, HostileUsers},
        model::{Fact, Process},
        policy::{coverage, fixtures::hog},
    };

    fn process(pid: u32, comm: &str) -> Process {
        let mut process = hog();
        process.id.pid = Pid(pid);
        process.names.comm = Name::from(comm);
        (process.names.exe, process.names.argv0) = (Fact::Absent, Fact::Absent);
        process
    }

    #[test]
    fn the_first_rule_of_each_kind_that_matches_has_the_process() {
        let text = "rule = [
            { name = 'web', names = ['web*'], none = true },
            { name = 'late', names = ['web-1', 'web-2'], gb = 1 },
            { name = 'free', names = ['nobody-has-this'], none = true },
            { name = 'sum', names = ['web-2', 'db'], per = 'user', gb = 1 },
        ]";
        let loaded = config::parse(text, std::path::Path::new("c"), &FakeUsers(&[])).unwrap();
        let mut withheld = process(7, "x");
        withheld.names.exe = Fact::Unreadable;
        let processes = [process(1, "web-1"), process(2, "web-2"), process(3, "db"), withheld];
        let found = coverage(&loaded.settings.rules, &processes);
        let matches: Vec<_> = found.into_iter().map(RuleMatches::from).collect();
        let mut out = Vec::new();
        write(&matches, &FakeUsers(&[("john", 1000)]), &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"

        The processes that each rule matches first now:
          web: 2 processes: 1 web-1 (john), 2 web-2 (john); 1 more may match, which could not be read
          late: no process, as the 2 that it matches are those of web above it; 1 more may match, which could not be read
          free: no process; 1 more may match, which could not be read
          sum (per user, with eBPF noticed by the kernel): 2 processes: 2 web-2 (john), 3 db (john); 1 more may match, which could not be read
        ");
        let json = as_json(&matches);
        assert_eq!((&json[0]["rule"], &json[0]["processes"][1]["pid"]), (&json!("web"), &json!(2)));
        assert_eq!((&json[1]["matched_by_earlier"], &json[1]["earlier"]), (&json!(2), &json!(["web"])));
        assert_eq!((&json[3]["per"], &json[3]["uncertain"]), (&json!("user"), &json!(1)));
    }

    #[test]
    fn many_processes_are_counted_and_without_rules_nothing_is_written() {
        let loaded = config::parse(
            "rule = [{ name = 'web', names = ['web-*'], none = true }]",
            std::path::Path::new("c"),
            &FakeUsers(&[]),
        );
        let processes: Vec<_> = (1..=9).map(|pid| process(pid, "web-\u{1b}")).collect();
        let rules = loaded.unwrap().settings.rules;
        let matches: Vec<_> = coverage(&rules, &processes).into_iter().map(RuleMatches::from).collect();
        let mut out = Vec::new();
        write(&matches, &HostileUsers, &mut out).unwrap();
        write(&[], &HostileUsers, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r"web: 9 processes: 1 web-\u{1b} (\u{1b}]0;") && text.ends_with(" and 5 more\n"),
            "{text}"
        );
    }
}
