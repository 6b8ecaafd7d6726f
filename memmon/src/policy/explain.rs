//! The reasons of a verdict, and the changes that would lead to another one.
//!
//! Nothing here judges: the findings are the walk's, and what would change the verdict is found by making the change
//! and judging again.

mod change;
mod otherwise;

use serde::Serialize;

use self::otherwise::otherwise;
pub use self::{change::Change, otherwise::Otherwise};
use super::{
    Matched, Rules,
    walk::{self, Finding, Rule, WALK},
};
use crate::model::{Process, RuleName, SystemMemory, Verdict};

/// A verdict with its reasons kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation<'a> {
    /// The process that is judged.
    pub process: &'a Process,
    /// On which machine.
    pub memory: &'a SystemMemory,
    /// The rules in force.
    pub rules: &'a Rules,
    /// Every rule in the order in which they are asked, those after the one that decides included.
    pub steps: Vec<Step>,
    /// The rules of `[[rule]]` that were asked, in their order: up to the first that matches for certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// The verdict that follows.
    pub verdict: Verdict,
    /// Changes that would lead to another verdict. Empty if there are none.
    pub otherwise: Vec<Otherwise>,
}

/// The finding of one rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The rule.
    pub rule: Rule,
    /// Its finding about the process.
    pub finding: Finding,
}

/// A `[[rule]]` that was asked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// Its name.
    pub rule: RuleName,
    /// Whether it matches.
    pub matched: Matched,
}

/// The whole walk over the rules, the verdict that [`super::judge`] gives, and what would make it another one.
pub fn explain<'a>(rules: &'a Rules, process: &'a Process, memory: &'a SystemMemory) -> Explanation<'a> {
    let steps: Vec<_> = WALK
        .iter()
        .map(|(rule, check)| Step { rule: *rule, finding: check(rules, process, memory) })
        .collect();
    let verdict = walk::conclude(steps.iter().map(|step| step.finding.clone()));
    let otherwise = otherwise(rules, process, memory, &verdict);
    let mut asked = Vec::new();
    for rule in &rules.rules {
        let matched = rule.matcher.matches(process);
        let decides = matched == Matched::Yes;
        asked.push(Asked { rule: rule.name, matched });
        if decides {
            break;
        }
    }
    Explanation { process, memory, rules, steps, asked, verdict, otherwise }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Bytes, Doubt, Fact, Limit, Name, NameField, Names, Pid, Protection, StartTime, Uid},
        policy::{
            Limits, NamePatterns,
            fixtures::{MEMORY, hog, rules},
        },
    };

    const GB: u64 = Bytes::GIB;

    fn otherwise(change: impl FnOnce(&mut Rules, &mut Process)) -> Vec<(Vec<Change>, &'static str)> {
        let (mut rules, mut process) = (rules(), hog());
        change(&mut rules, &mut process);
        let brief = |verdict| match verdict {
            Verdict::Within => "within",
            Verdict::Inherits(_) => "inherits",
            Verdict::Uncharged(_) => "uncharged",
            Verdict::Protected(_) => "protected",
            Verdict::Unsure(_) => "unsure",
            Verdict::Warn(_) => "warn",
            Verdict::Stop(_) => "stop",
            Verdict::Terminate(_) => "terminate",
        };
        let found = explain(&rules, &process, &MEMORY).otherwise;
        found.into_iter().map(|otherwise| (otherwise.changes, brief(otherwise.verdict))).collect()
    }

    #[test]
    fn a_hog_could_be_spared_in_five_ways() {
        assert_eq!(
            otherwise(|_, _| ()),
            [
                (vec![Change::Shrink { to: Bytes(2 * GB) }], "within"),
                (vec![Change::SetLimit { limit: Limit::Gb, to: 3.0 }], "within"),
                (vec![Change::ListName("Isolated Web Co".into())], "protected"),
                (vec![Change::ListPid(Pid(4242))], "protected"),
                (vec![Change::ListUser(Uid(1000))], "protected"),
            ]
        );
        let roots = otherwise(|_, process| process.real_uid = Uid::ROOT);
        assert!(roots.contains(&(vec![Change::ProtectRoot], "protected")), "{roots:?}");
    }

    #[test]
    fn both_limits_are_to_be_raised_where_both_are_exceeded() {
        let found = otherwise(|rules, process| {
            rules.limits = Limits::new(10.0, Bytes(2 * GB)).unwrap();
            (process.rss, process.error) = (Bytes(3 * GB), Bytes(1));
        });
        // One byte more than 18.75 % and 3.00 GB, as that is what it may have.
        let raised = vec![
            Change::SetLimit { limit: Limit::Percent, to: 18.76 },
            Change::SetLimit { limit: Limit::Gb, to: 3.01 },
        ];
        assert_eq!(found[1], (raised, "within"));
    }

    #[test]
    fn a_name_is_offered_only_as_it_could_be_typed() {
        let offered = |comm: &[u8], exe: &str| {
            let ways = otherwise(|_, process| {
                process.names = Names {
                    comm: Name::new(comm),
                    exe: Fact::Known(exe.into()),
                    argv0: Fact::Absent,
                    script: None,
                };
            });
            ways.into_iter().find_map(|(changes, _)| match changes.as_slice() {
                [Change::ListName(name)] => Some(name.clone()),
                _ => None,
            })
        };
        assert_eq!(offered(b"a*[b]", "/bin/x").as_deref(), Some(r"a\*\[b\]"));
        assert_eq!(offered(b"\xff", "/bin/x").as_deref(), Some("x"));
        assert_eq!(offered(b"a\nb", "/bin/x").as_deref(), Some("x"));
        assert_eq!(offered(b"", "/").as_deref(), None);
    }

    #[test]
    fn every_protection_must_go_before_a_process_is_judged_by_its_size() {
        let name = |pattern: &str| Protection::Name {
            pattern: pattern.into(),
            field: NameField::Exe,
            name: "firefox".into(),
        };
        let found = otherwise(|rules, process| {
            rules.whitelist.names = NamePatterns::new(["fire*", "firefox"]).unwrap();
            rules.whitelist.users.insert(Uid(1000));
            process.oom_score_adj = Fact::Known(-1000);
        });
        let lifted =
            [name("firefox"), name("fire*"), Protection::User { uid: Uid(1000) }, Protection::OomScoreAdj];
        assert_eq!(found, [(lifted.map(Change::Lift).to_vec(), "terminate")]);
    }

    #[test]
    fn nothing_makes_memmon_touch_what_it_never_touches() {
        assert_eq!(otherwise(|_, process| process.id.pid = Pid::INIT), []);
        assert_eq!(otherwise(|_, process| process.kernel_thread = true), []);
        assert_eq!(otherwise(|rules, process| rules.own_pid = process.id.pid), []);
    }

    #[test]
    fn a_doubt_ends_when_its_fact_is_read() {
        let found = otherwise(|rules, process| {
            rules.whitelist.names = NamePatterns::new(["sshd"]).unwrap();
            (process.names.exe, process.oom_score_adj) = (Fact::Unreadable, Fact::Unreadable);
        });
        let read = vec![
            Change::Read(Doubt::NameUnreadable(NameField::Exe)),
            Change::Read(Doubt::OomScoreAdjUnreadable),
        ];
        let shrunk = vec![Change::Shrink { to: Bytes(2 * GB) }];
        assert_eq!(found, [(shrunk, "within"), (read, "terminate")]);

        let found = otherwise(|_, process| (process.rss, process.error) = (Bytes(2 * GB), Bytes(10)));
        let (to, above) = (Bytes(2 * GB - 10), Bytes(2 * GB + 10));
        assert_eq!(
            found,
            [(vec![Change::Shrink { to }], "within"), (vec![Change::Grow { above }], "terminate")]
        );
    }

    #[test]
    fn json_names_rules_as_the_configuration_does() {
        let (rules, process) =
            (rules(), Process { id: crate::model::ProcessId { pid: Pid(1), start: StartTime(0) }, ..hog() });
        let explanation = explain(&rules, &process, &MEMORY);
        let json = serde_json::to_value(&explanation).unwrap();
        assert_eq!(json["verdict"]["protected"]["rule"], "init");
        assert_eq!(json["steps"][5], serde_json::json!({ "rule": "whitelist.names", "finding": "clear" }));
        assert_eq!(json["steps"][11]["finding"]["exceeds"]["rule"], "gb");
    }
}
