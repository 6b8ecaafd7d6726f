//! Why a verdict is what it is, and what would make it another one.
//!
//! Nothing here judges: the findings are the walk's, and what would change the verdict is found by making the change
//! and judging again.

use std::mem;

use serde::Serialize;

use super::{
    Limits, Matched, RuleLimit, Rules, Scope,
    rules::share,
    walk::{self, Finding, Rule, WALK},
};
use crate::model::{
    Bytes, Doubt, Escaped, Fact, Limit, MatchKey, Measure, Name, NameField, Pid, Process, Protection,
    RuleName, SystemMemory, Uid, Verdict,
};

/// A verdict with its reasons kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation<'a> {
    /// The process that is judged.
    pub process: &'a Process,
    /// On which machine.
    pub memory: &'a SystemMemory,
    /// By which rules.
    pub rules: &'a Rules,
    /// Every rule in the order in which they are asked, those after the one that decides included.
    pub steps: Vec<Step>,
    /// The rules of `[[rule]]` that were asked, in their order: up to the first that matches for certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<Asked>,
    /// What follows.
    pub verdict: Verdict,
    /// What would make it another verdict. Empty where nothing would.
    pub otherwise: Vec<Otherwise>,
}

/// What one rule found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The rule.
    pub rule: Rule,
    /// What it says of the process.
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

/// Changes that together make the verdict another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Otherwise {
    /// What would have to be different, all of it.
    pub changes: Vec<Change>,
    /// The verdict then.
    pub verdict: Verdict,
}

/// One thing that might be different.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The process has this much resident, or less.
    Shrink {
        /// The most.
        to: Bytes,
    },
    /// The process has more than this resident.
    Grow {
        /// What it exceeds.
        above: Bytes,
    },
    /// The process has so much more anonymous memory of its own.
    GrowOwn {
        /// How much.
        by: Bytes,
    },
    /// A threshold is set to this figure.
    SetLimit {
        /// Which threshold.
        limit: Limit,
        /// In the unit of its key: percent, or GB.
        to: f64,
    },
    /// The limit of a `[[rule]]` is set to this figure.
    SetRuleLimit {
        /// The rule.
        rule: RuleName,
        /// Which of its limits.
        limit: Limit,
        /// In the unit of its key: percent, or GB.
        to: f64,
    },
    /// In `whitelist.names`, spelt as a pattern that matches just this name.
    ListName(String),
    /// In `whitelist.pids`.
    ListPid(Pid),
    /// In `whitelist.users`.
    ListUser(Uid),
    /// `whitelist.protect_root` is true.
    ProtectRoot,
    /// The rule that protects does not: the entry is gone, the switch off, the process in scope.
    Lift(Protection),
    /// What was unreadable is read, and protects nobody.
    Read(Doubt),
}

/// The whole walk over the rules, the verdict that [`super::judge`] gives, and what would make it another one.
pub fn explain<'a>(rules: &'a Rules, process: &'a Process, memory: &'a SystemMemory) -> Explanation<'a> {
    let steps: Vec<_> = WALK
        .iter()
        .map(|(rule, check)| Step { rule: *rule, finding: check(rules, process, memory) })
        .collect();
    let verdict = walk::conclude(steps.iter().map(|step| step.finding.clone()));
    let case = Case { rules, process, memory };
    let otherwise = case
        .ideas(&verdict)
        .into_iter()
        .filter_map(|changes| {
            let then = case.judge_with(&changes)?;
            (mem::discriminant(&then) != mem::discriminant(&verdict))
                .then_some(Otherwise { changes, verdict: then })
        })
        .collect();
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

#[derive(Clone, Copy)]
struct Case<'a> {
    rules: &'a Rules,
    process: &'a Process,
    memory: &'a SystemMemory,
}

impl Case<'_> {
    /// The verdict if all of `changes` were so; `None` if they cannot be.
    fn judge_with(&self, changes: &[Change]) -> Option<Verdict> {
        let (mut rules, mut process) = (self.rules.clone(), self.process.clone());
        for change in changes {
            change.make(&mut rules, &mut process)?;
        }
        Some(walk::judge(&rules, &process, self.memory))
    }

    /// Changes that are likely to lead away from `verdict`. Whether they do is not for here to say.
    fn ideas(&self, verdict: &Verdict) -> Vec<Vec<Change>> {
        let limit = self.rules.limit_of(self.process, self.memory);
        let shrink = Change::Shrink { to: limit.saturating_sub(self.process.error) };
        let grow = Change::Grow { above: limit + self.process.error };
        match verdict {
            Verdict::Within if limit == Bytes::MAX => vec![],
            Verdict::Within => vec![vec![grow]],
            Verdict::Inherits(inherited) => {
                vec![vec![Change::Grow { above: limit + self.process.error + inherited.bytes }]]
            }
            // Memory of its own, beside what it has.
            Verdict::Uncharged(uncharged) => {
                let missing = Measure::least_charged(limit).saturating_sub(uncharged.charged);
                vec![vec![Change::GrowOwn { by: missing }]]
            }
            Verdict::Protected(_) => vec![self.lifts(verdict)],
            Verdict::Unsure(_) => vec![vec![shrink], vec![grow], self.lifts(verdict)],
            Verdict::Terminate(breach) | Verdict::Warn(breach) => {
                let list_user = match self.process.real_uid {
                    Uid::ROOT => Change::ProtectRoot,
                    uid => Change::ListUser(uid),
                };
                let mut ideas = vec![vec![shrink], self.higher_limits(breach.by)];
                ideas.extend(self.typeable_name().map(|name| vec![Change::ListName(name)]));
                ideas.extend([vec![Change::ListPid(self.process.id.pid)], vec![list_user]]);
                ideas
            }
        }
    }

    /// Everything that must be taken away before the verdict is of another kind: one protection may hide the next.
    fn lifts(&self, verdict: &Verdict) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut then = verdict.clone();
        while mem::discriminant(&then) == mem::discriminant(verdict) {
            let lift = match then {
                Verdict::Protected(protection) => Change::Lift(protection),
                Verdict::Unsure(doubt) => Change::Read(doubt),
                Verdict::Within
                | Verdict::Inherits(_)
                | Verdict::Uncharged(_)
                | Verdict::Warn(_)
                | Verdict::Terminate(_) => break,
            };
            changes.push(lift);
            match self.judge_with(&changes) {
                Some(verdict) => then = verdict,
                None => break,
            }
        }
        changes
    }

    /// Each limit that the process exceeds, set to the next higher hundredth that it would not. `by` is the rule that has them.
    fn higher_limits(&self, by: Option<RuleName>) -> Vec<Change> {
        let own = by.and_then(|name| Some((name, self.rules.named(name)?.limit)));
        if let Some((rule, RuleLimit::Own { percent, bytes })) = own {
            return self.higher_limits_of(rule, percent, bytes);
        }
        let Process { rss, error, .. } = *self.process;
        let (needed, total, limits) = (rss + error, self.memory.total, self.rules.limits);
        let mut changes = Vec::new();
        if total > Bytes::ZERO && needed > limits.share_of(total) {
            let is_enough =
                |percent| Limits::new(percent, needed).is_ok_and(|limits| limits.share_of(total) >= needed);
            let to = hundredth_above(needed.percent_of(total), is_enough);
            changes.push(Change::SetLimit { limit: Limit::Percent, to });
        }
        if needed > limits.bytes() {
            let to = hundredth_above(needed.0 as f64 / Bytes::GIB as f64, |gb| bytes_of_gb(gb) >= needed);
            changes.push(Change::SetLimit { limit: Limit::Gb, to });
        }
        changes
    }

    fn higher_limits_of(&self, rule: RuleName, percent: Option<f64>, bytes: Option<Bytes>) -> Vec<Change> {
        let Process { rss, error, .. } = *self.process;
        let (needed, total) = (rss + error, self.memory.total);
        let mut changes = Vec::new();
        if percent.is_some_and(|percent| total > Bytes::ZERO && needed > share(percent, total)) {
            let to = hundredth_above(needed.percent_of(total), |percent| share(percent, total) >= needed);
            changes.push(Change::SetRuleLimit { rule, limit: Limit::Percent, to });
        }
        if bytes.is_some_and(|bytes| needed > bytes) {
            let to = hundredth_above(needed.0 as f64 / Bytes::GIB as f64, |gb| bytes_of_gb(gb) >= needed);
            changes.push(Change::SetRuleLimit { rule, limit: Limit::Gb, to });
        }
        changes
    }

    /// A pattern for the first of the process's names that looks like what it is, so that it can be typed.
    fn typeable_name(&self) -> Option<String> {
        let names = &self.process.names;
        let basename = |fact| Fact::known(fact).map(Name::basename);
        [Some(names.comm.as_bytes()), basename(&names.exe), basename(&names.argv0)]
            .into_iter()
            .flatten()
            .filter_map(|name| str::from_utf8(name).ok())
            .find(|name| {
                !name.is_empty() && Escaped(name.as_bytes()).to_string() == name.replace('\\', r"\\")
            })
            .map(super::patterns::escape)
    }
}

impl Change {
    /// Makes it so; `None` where it cannot be.
    fn make(&self, rules: &mut Rules, process: &mut Process) -> Option<()> {
        match self {
            Self::Shrink { to } => process.rss = *to,
            Self::Grow { above } => {
                process.rss = Bytes(above.0.checked_add(1)?);
                process.holdings = None;
            }
            Self::GrowOwn { by } => {
                process.rss = process.rss + *by;
                let parts = &mut process.holdings.as_mut()?.parts;
                parts.anon = parts.anon + *by;
            }
            Self::SetLimit { limit, to } => {
                let (percent, bytes) = match limit {
                    Limit::Percent => (*to, rules.limits.bytes()),
                    Limit::Gb => (rules.limits.percent(), bytes_of_gb(*to)),
                    Limit::Machine => return None,
                };
                rules.limits = Limits::new(percent, bytes).ok()?;
            }
            Self::SetRuleLimit { rule, limit, to } => {
                let rule = rules.rules.iter_mut().find(|one| one.name == *rule)?;
                let RuleLimit::Own { percent, bytes } = &mut rule.limit else { return None };
                match limit {
                    Limit::Percent if *to <= 100.0 => *percent = Some(*to),
                    Limit::Percent | Limit::Machine => return None,
                    Limit::Gb => *bytes = Some(bytes_of_gb(*to)),
                }
            }
            Self::ListName(pattern) => rules.whitelist.names = rules.whitelist.names.with(pattern)?,
            Self::ListPid(pid) => _ = rules.whitelist.pids.insert(*pid),
            Self::ListUser(uid) => _ = rules.whitelist.users.insert(*uid),
            Self::ProtectRoot => rules.whitelist.protect_root = true,
            Self::Lift(protection) => lift(protection, rules)?,
            Self::Read(doubt) => read(doubt, rules, process)?,
        }
        Some(())
    }
}

fn lift(protection: &Protection, rules: &mut Rules) -> Option<()> {
    let whitelist = &mut rules.whitelist;
    match protection {
        Protection::Init | Protection::KernelThread | Protection::Memmon => return None,
        Protection::OutOfScope => rules.scope = Scope::default(),
        Protection::Pid { pid } => _ = whitelist.pids.remove(pid),
        Protection::Name { pattern, .. } => whitelist.names = whitelist.names.without(pattern)?,
        Protection::User { uid } => _ = whitelist.users.remove(uid),
        Protection::Match { key, .. } => whitelist.also.forget(*key),
        Protection::Root => whitelist.protect_root = false,
        Protection::OomScoreAdj => rules.honour_oom_score_adj = false,
    }
    Some(())
}

/// Makes the doubt's fact one that protects nobody.
fn read(doubt: &Doubt, rules: &mut Rules, process: &mut Process) -> Option<()> {
    match doubt {
        Doubt::NameUnreadable(NameField::Comm) | Doubt::WithinError { .. } => return None,
        Doubt::NameUnreadable(NameField::Exe) => process.names.exe = Fact::Absent,
        Doubt::NameUnreadable(NameField::Argv0) => process.names.argv0 = Fact::Absent,
        Doubt::FactUnreadable(MatchKey::Args) => process.facts.args = Fact::Absent,
        Doubt::FactUnreadable(_) => {
            process.facts.exe_file = Fact::Absent;
            process.names.exe = Fact::Absent;
        }
        Doubt::CgroupUnreadable => {
            rules.scope.cgroups = None;
            process.cgroup = Fact::Absent;
        }
        Doubt::OomScoreAdjUnreadable => process.oom_score_adj = Fact::Known(0),
        Doubt::InheritanceUnreadable => process.inherited = Fact::Absent,
        Doubt::SharedMemoryUnknown | Doubt::SharedMemoryUnreadable { .. } => process.holdings = None,
    }
    Some(())
}

/// The next higher hundredth of `figure`, or the one after it where rounding made the first too small.
fn hundredth_above(figure: f64, is_enough: impl Fn(f64) -> bool) -> f64 {
    let hundredths = (figure * 100.0).ceil();
    let next = hundredths / 100.0;
    if is_enough(next) { next } else { (hundredths + 1.0) / 100.0 }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
fn bytes_of_gb(gb: f64) -> Bytes {
    Bytes((gb * Bytes::GIB as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Names, StartTime},
        policy::{
            NamePatterns,
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
        assert_eq!(json["steps"][10]["finding"]["exceeds"]["rule"], "gb");
    }
}
