//! Finds changes that would lead to another verdict, by making them and judging again.

use std::mem;

use serde::Serialize;

use super::change::{Change, bytes_of_gb};
use crate::model::{
    Bytes, Escaped, Fact, Limit, Measure, Name, Process, RuleName, SystemMemory, Uid, Verdict,
};
use crate::policy::{Limits, RuleLimit, Rules, patterns, rules::share, walk};

/// Changes that together make the verdict another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Otherwise {
    /// The changes, all of which are needed.
    pub changes: Vec<Change>,
    /// The verdict then.
    pub verdict: Verdict,
}

/// Every change, or set of changes, that makes `verdict` another one: each was made, and judged again.
pub(super) fn otherwise(
    rules: &Rules,
    process: &Process,
    memory: &SystemMemory,
    verdict: &Verdict,
) -> Vec<Otherwise> {
    let case = Case { rules, process, memory };
    let ideas = case.ideas(verdict).into_iter();
    ideas
        .filter_map(|changes| {
            let then = case.judge_with(&changes)?;
            (mem::discriminant(&then) != mem::discriminant(verdict))
                .then_some(Otherwise { changes, verdict: then })
        })
        .collect()
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
            Verdict::Terminate(breach) | Verdict::Stop(breach) | Verdict::Warn(breach) => {
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
                | Verdict::Stop(_)
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
            .map(patterns::escape)
    }
}

/// The next higher hundredth of `figure`, or the one after it where rounding made the first too small.
fn hundredth_above(figure: f64, is_enough: impl Fn(f64) -> bool) -> f64 {
    let hundredths = (figure * 100.0).ceil();
    let next = hundredths / 100.0;
    if is_enough(next) { next } else { (hundredths + 1.0) / 100.0 }
}
