//! `[[rule]]`: other limits for some processes, or for what they hold together, and what follows.

use std::{collections::BTreeMap, ops::Range};

use toml::Spanned;

use super::{
    hints::nearest, keys, matcher::coverage, toml_document::Given, values::Reader, warning::Concern,
};
use crate::{
    model::{Action, Bytes, NotifyUser, Per, RuleName},
    policy::{LimitRule, Matcher, RuleLimit, Strike, SumRule},
};

impl Reader<'_, '_> {
    /// The rules for single processes and those for sums, in the order of the file.
    /// `reaches_users`: whether a notification can reach the users of processes at all.
    pub(super) fn rules(
        &mut self,
        typed: Vec<(keys::Rule, Range<usize>)>,
        reaches_users: bool,
    ) -> (Vec<LimitRule>, Vec<SumRule>) {
        let mut names: BTreeMap<RuleName, Range<usize>> = BTreeMap::new();
        let (mut rules, mut sums): (Vec<LimitRule>, Vec<SumRule>) = (Vec::new(), Vec::new());
        for (rule, place) in typed {
            let named_at = rule.name.as_ref().map_or_else(|| place.clone(), Spanned::span);
            if let Some(typed) = rule.notify_user.as_ref().filter(|_| !reaches_users) {
                let without = "notify.terminal, or an address with %u in notify.mail_to";
                self.warn(&typed.span(), Concern::NoEffect { key: "notify_user", without });
            }
            let Some((rule, sum)) = self.rule(rule, &place) else { continue };
            if let Some(first) = names.insert(rule.name, named_at.clone()) {
                let first = self.problems.stands_at(&first);
                let help =
                    format!("{first}; each rule has a name of its own, by which logs and metrics show it");
                self.problems.add(named_at, format!("there is a rule `{}` already", rule.name), help);
                continue;
            }
            // Rules of different kinds do not compete.
            let of_kind: Vec<&LimitRule> = match &sum {
                None => rules.iter().collect(),
                Some((per, _)) => sums.iter().filter(|sum| sum.per == *per).map(|sum| &sum.rule).collect(),
            };
            if let Some(first) = of_kind.iter().find(|first| shadows(&first.matcher, &rule.matcher)) {
                let (rule, by) = (rule.name.to_string(), first.name.to_string());
                self.warn(&named_at, Concern::Shadowed { rule, by });
            }
            match sum {
                None => rules.push(rule),
                Some((per, strike)) => sums.push(SumRule { rule, per, strike }),
            }
        }
        (rules, sums)
    }

    /// A rule; for a sum with what that is taken over, and which process ends first.
    fn rule(
        &mut self,
        typed: keys::Rule,
        place: &Range<usize>,
    ) -> Option<(LimitRule, Option<(Per, Strike)>)> {
        let keys::Rule {
            name,
            matcher,
            not,
            per,
            strike,
            gb,
            percent,
            none,
            lasting,
            action,
            signal,
            grace,
            hard_ceiling,
            prefer,
            notify_user,
        } = typed;
        let is_flawed = !self.problems.failed(place).is_empty();
        let sum = self.sum(per, strike, is_flawed)?;
        let name = self.rule_name(name, place);
        let flaws = self.flaws(&matcher, "rule") + not.as_ref().map_or(0, |not| self.flaws(not, "not"));
        let mut matcher = self.matcher(matcher);
        matcher.not = not.map(|not| Box::new(self.matcher(not)));
        if matcher == Matcher::default() && flaws == 0 {
            let help = if sum.is_some() {
                "name the processes that count: names, exe, args, users, uids, groups, cgroups or units; of all users but the \
                 system's, uids = [\"1000-60000\"]"
            } else {
                "name the processes that it is about: names, exe, args, users, uids, groups, cgroups or units; the \
                 limits of all others are those of [thresholds]"
            };
            self.add_unless(is_flawed, place, "this rule matches every process", help);
            return None;
        }
        let no_limit = none.as_ref().is_some_and(|none| *none.get_ref());
        for (key, other) in [("gb", gb.as_ref()), ("percent", percent.as_ref())] {
            if let Some(other) = other.filter(|_| no_limit) {
                let help = "`none = true` means that there is no limit: remove one of the two".to_owned();
                self.problems.add(other.span(), format!("`{key}` contradicts `none`"), help);
            }
        }
        if sum.is_some() && gb.is_none() && percent.is_none() && none.is_none() {
            let help = "give it gb or percent: what its processes may hold together; or none = true, so that they count in no \
                        sum of a rule below";
            self.add_unless(is_flawed, place, "this rule has no limit for its sum", help);
            return None;
        }
        let sets_anything = [
            gb.is_some(),
            percent.is_some(),
            none.is_some(),
            lasting.is_some(),
            action.is_some(),
            signal.is_some(),
            grace.is_some(),
            hard_ceiling.is_some(),
            prefer.is_some(),
            notify_user.is_some(),
        ];
        if !sets_anything.contains(&true) {
            let help = "give it a limit (gb, percent, or none = true), for, action, signal, grace, hard_ceiling, prefer or notify_user";
            self.add_unless(is_flawed, place, "this rule changes nothing", help);
            return None;
        }
        let limit = if no_limit {
            RuleLimit::None
        } else if percent.is_none() && gb.is_none() {
            RuleLimit::Thresholds
        } else {
            let bytes = gb.map(|gb| Bytes::from_gb(gb.into_inner()));
            RuleLimit::Own { percent: percent.map(Spanned::into_inner), bytes }
        };
        let action_at = action.as_ref().map(Spanned::span);
        let action = action.map(Spanned::into_inner).unwrap_or_default();
        let per = sum.as_ref().map(|(per, _)| *per);
        let misplaced = match (action, per) {
            (Action::Stop, Some(_)) => Some((
                "`stop` is for single processes",
                "stopped processes keep their memory, so that a sum would not fall until all of them are stopped: remove \
                 `per`, or use action = \"terminate\" or \"warn\"",
            )),
            (Action::Throttle, None | Some(Per::User | Per::Session | Per::Tree | Per::Program)) => Some((
                "`throttle` is for units and cgroups",
                "it lowers the memory.high of a cgroup, which holds for all processes in it: add per = \"unit\" or \
                 per = \"cgroup\", or use another action",
            )),
            _ => None,
        };
        if let Some((problem, help)) = misplaced {
            // The rule may be for a sum, with a misspelt `per`.
            let is_excused = is_flawed && per.is_none();
            self.add_unless(is_excused, &action_at.unwrap_or_else(|| place.clone()), problem, help);
            return None;
        }
        let prefer = self.prefers(prefer, no_limit, action, sum.is_some());
        let notify_user = self.notify_user(notify_user, sum.is_some());
        let spares = sum.is_none() && matcher.not.is_none() && (no_limit || action == Action::Warn);
        let is_all = || coverage(&matcher).into_iter().flatten().all(|is_every| is_every);
        if let Some(name) = name.as_ref().filter(|_| spares && flaws == 0 && is_all()) {
            self.warn(place, Concern::RuleSparesAll { rule: name.to_string() });
        }
        let rule = LimitRule {
            name: name?,
            matcher,
            limit,
            action,
            signal: signal.map(Spanned::into_inner).unwrap_or_default(),
            lasting: lasting.map(|typed| typed.into_inner().0).unwrap_or_default(),
            grace: grace.map(Spanned::into_inner),
            hard_ceiling: hard_ceiling.map(|typed| typed.into_inner().unwrap_or(0.0)),
            prefer,
            notify_user,
        };
        Some((rule, sum))
    }

    /// The times at which the users of the rule's processes are notified.
    fn notify_user(&mut self, typed: Given<NotifyUser>, sum: bool) -> Option<NotifyUser> {
        let typed = typed?;
        if sum {
            let help = "the rule for single processes that matches a process decides when its user is notified: remove it \
                        here, and add a rule without `per`";
            self.problems.add(typed.span(), "`notify_user` contradicts `per`", help);
        }
        Some(typed.into_inner())
    }

    /// Whether the rule's processes end first if the machine is short of memory. One that is never ended is not preferred.
    fn prefers(&mut self, typed: Given<bool>, no_limit: bool, action: Action, sum: bool) -> bool {
        let Some(typed) = typed.filter(|typed| *typed.get_ref()) else { return false };
        let contradicts = if no_limit {
            "none"
        } else if action == Action::Warn {
            "action"
        } else if sum {
            "per"
        } else {
            return true;
        };
        let help = "it is for single processes that memmon may end: remove one of the two";
        self.problems.add(typed.span(), format!("`prefer` contradicts `{contradicts}`"), help);
        false
    }

    /// The kind of group that a sum is taken over, and the process that ends first. The inner `None` is for a rule about
    /// single processes, the outer one after an error.
    #[expect(clippy::option_option, reason = "the outer one is for `?`")]
    fn sum(
        &mut self,
        per: Given<Option<Per>>,
        strike: Given<Strike>,
        is_flawed: bool,
    ) -> Option<Option<(Per, Strike)>> {
        if let Some(per) = per.and_then(Spanned::into_inner) {
            return Some(Some((per, strike.map(Spanned::into_inner).unwrap_or_default())));
        }
        if let Some(strike) = strike {
            let help = "it is the order in which the processes of a sum end: add per = \"user\", \"unit\", \"cgroup\", \
                        \"session\", \"tree\" or \"program\", or remove it";
            self.add_unless(is_flawed, &strike.span(), "`strike` is for a sum", help);
            return None;
        }
        Some(None)
    }

    fn rule_name(&mut self, name: Given<RuleName>, place: &Range<usize>) -> Option<RuleName> {
        let mut failed = self.problems.failed(place).iter();
        let is_misspelt = failed.any(|key| nearest(key, ["name", "names"].into_iter()) == Some("name"));
        if name.is_none() && !is_misspelt {
            let help = "add name = \"…\": logs, `memmon explain` and `memmon check` show the rule by it";
            self.problems.add(place.clone(), "this rule has no name", help);
        }
        name.map(Spanned::into_inner)
    }

    /// Reports that something is missing, unless it `is_excused`: one mistake is reported once, as the key that is misspelt or
    /// has a value that was refused.
    pub(super) fn add_unless(&mut self, is_excused: bool, place: &Range<usize>, problem: &str, help: &str) {
        if !is_excused {
            self.problems.add(place.clone(), problem, help);
        }
    }

    /// Refuses empty lists, which could mean all processes or none. Returns the number of empty lists.
    fn flaws(&mut self, matcher: &keys::Matcher, section: &str) -> usize {
        let keys::Matcher { names, names_file: _, users, lists } = matcher;
        let keys::Lists { exe, args, uids, groups, cgroups, units } = lists;
        let help = format!("name at least one; without this key the {section} does not look at it");
        self.refuse_empty(&[names, exe, args, users, uids, groups, cgroups, units], &help)
    }
}

/// Whether `first` certainly matches every process that `second` does: every key that it has is the same in both.
fn shadows(first: &Matcher, second: &Matcher) -> bool {
    let Matcher { names, exe, args, uids, groups, cgroups, units, not } = first;
    (names.is_none() || *names == second.names)
        && (exe.is_none() || *exe == second.exe)
        && (args.is_none() || *args == second.args)
        && (uids.is_none() || *uids == second.uids)
        && (groups.is_none() || *groups == second.groups)
        && (cgroups.is_none() || *cgroups == second.cgroups)
        && (units.is_none() || *units == second.units)
        && (not.is_none() || *not == second.not)
}
