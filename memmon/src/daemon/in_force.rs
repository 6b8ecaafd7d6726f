//! The rules in force, to the wire and back: an onlooker judges by what the daemon judges by, and not by a file that the
//! daemon may never have read.

use std::time::Duration;

use crate::{
    model::{Action, Gid, NotifyUser, Per, Pid, RuleName, Signal, Uid},
    policy::{
        ArgPatterns, CgroupPatterns, ExePatterns, LimitRule, Limits, Matcher, NamePatterns, RuleLimit, Rules,
        Scope, Strike, SumRule, UidRanges, UnitPatterns, Whitelist,
    },
    status::{MatcherInForce, RuleInForce, RulesInForce, Status, SumRuleInForce, Thresholds},
};

/// All of `rules` but the limits.
pub(super) fn on_the_wire(rules: &Rules) -> RulesInForce {
    let Rules {
        limits: _,
        measure,
        whitelist,
        scope,
        honour_oom_score_adj,
        own_pid: _,
        rules,
        sums,
        exemptions,
    } = rules;
    let Whitelist { pids, names, users, protect_root, also } = whitelist;
    let Scope { uids, cgroups } = scope;
    RulesInForce {
        measure: *measure,
        pids: pids.iter().map(|pid| pid.0).collect(),
        names: names.entries().to_vec(),
        users: users.iter().map(|uid| uid.0).collect(),
        also: matcher_on_the_wire(also),
        rules: rules.iter().map(rule_on_the_wire).collect(),
        sums: sums
            .iter()
            .map(|SumRule { rule, per, strike }| SumRuleInForce {
                rule: rule_on_the_wire(rule),
                per: per.as_str().to_owned(),
                strike: strike.as_str().to_owned(),
            })
            .collect(),
        protect_root: *protect_root,
        honour_oom_score_adj: *honour_oom_score_adj,
        scope_uids: uids.as_ref().map(pairs),
        scope_cgroups: cgroups.as_ref().map(|cgroups| cgroups.entries().to_vec()),
        exemptions: exemptions.clone(),
    }
}

fn pairs(uids: &UidRanges) -> Vec<(u32, u32)> {
    uids.ranges().map(|range| (range.start().0, range.end().0)).collect()
}

fn ranges(pairs: Vec<(u32, u32)>) -> UidRanges {
    pairs.into_iter().map(|(first, last)| Uid(first)..=Uid(last)).collect()
}

fn matcher_on_the_wire(matcher: &Matcher) -> MatcherInForce {
    let Matcher { names, exe, args, uids, groups, cgroups, units, not } = matcher;
    MatcherInForce {
        names: names.as_ref().map(|list| list.entries().to_vec()),
        exe: exe.as_ref().map(|list| list.entries().to_vec()),
        args: args.as_ref().map(|list| list.entries().to_vec()),
        uids: uids.as_ref().map(pairs),
        groups: groups.as_ref().map(|groups| groups.iter().map(|group| group.0).collect()),
        cgroups: cgroups.as_ref().map(|list| list.entries().to_vec()),
        units: units.as_ref().map(|list| list.entries().to_vec()),
        not: not.as_ref().map(|not| Box::new(matcher_on_the_wire(not))),
    }
}

fn rule_on_the_wire(rule: &LimitRule) -> RuleInForce {
    let LimitRule { name, matcher, limit, action, signal, lasting, grace, hard_ceiling, prefer, notify_user } =
        rule;
    let (percent, bytes) = match limit {
        RuleLimit::Own { percent, bytes } => (*percent, *bytes),
        RuleLimit::Thresholds | RuleLimit::None => (None, None),
    };
    RuleInForce {
        name: name.to_string(),
        matcher: matcher_on_the_wire(matcher),
        none: *limit == RuleLimit::None,
        percent,
        bytes,
        action: action.as_str().to_owned(),
        signal: signal.to_string(),
        for_seconds: lasting.as_secs_f64(),
        grace_seconds: grace.map(|grace| grace.as_secs_f64()),
        hard_ceiling: *hard_ceiling,
        prefer: *prefer,
        notify_user: notify_user.map(|when| when.as_str().to_owned()),
    }
}

fn rule_from_the_wire(rule: RuleInForce) -> Option<LimitRule> {
    let RuleInForce {
        name,
        matcher,
        none,
        percent,
        bytes,
        action,
        signal,
        for_seconds,
        grace_seconds,
        hard_ceiling,
        prefer,
        notify_user,
    } = rule;
    let is_own = percent.is_some() || bytes.is_some();
    Some(LimitRule {
        name: RuleName::new(&name)?,
        matcher: matcher_from_the_wire(matcher)?,
        limit: match none {
            true => RuleLimit::None,
            false if is_own => RuleLimit::Own { percent, bytes },
            false => RuleLimit::Thresholds,
        },
        action: Action::of(&action)?,
        signal: Signal::FIRST.into_iter().find(|one| one.as_str() == signal)?,
        lasting: Duration::try_from_secs_f64(for_seconds).ok()?,
        grace: match grace_seconds {
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).ok()?),
            None => None,
        },
        hard_ceiling,
        prefer,
        notify_user: match notify_user {
            Some(word) => Some(NotifyUser::of(&word)?),
            None => None,
        },
    })
}

fn sum_from_the_wire(sum: SumRuleInForce) -> Option<SumRule> {
    let SumRuleInForce { rule, per, strike } = sum;
    Some(SumRule { rule: rule_from_the_wire(rule)?, per: Per::of(&per)?, strike: Strike::of(&strike)? })
}

fn matcher_from_the_wire(matcher: MatcherInForce) -> Option<Matcher> {
    let MatcherInForce { names, exe, args, uids, groups, cgroups, units, not } = matcher;
    macro_rules! list {
        ($list:expr, $patterns:ty) => {
            match $list {
                Some(list) => Some(<$patterns>::new(list.iter().map(String::as_str)).ok()?),
                None => None,
            }
        };
    }
    let not = match not {
        Some(not) => Some(Box::new(matcher_from_the_wire(*not)?)),
        None => None,
    };
    Some(Matcher {
        names: list!(names, NamePatterns),
        exe: list!(exe, ExePatterns),
        args: list!(args, ArgPatterns),
        uids: uids.map(ranges),
        groups: groups.map(|groups| groups.into_iter().map(Gid).collect()),
        cgroups: list!(cgroups, CgroupPatterns),
        units: list!(units, UnitPatterns),
        not,
    })
}

/// The rules that the daemon judges by; `None` if it does not send them (an older one), or if they are not valid.
pub fn rules_of(status: &Status) -> Option<Rules> {
    let Thresholds { ram_percent_threshold, ram_gb_threshold_bytes, .. } = status.limit;
    let limits = Limits::new(ram_percent_threshold, ram_gb_threshold_bytes).ok()?;
    from_the_wire(status.config.rules.clone()?, limits, status.pid)
}

fn from_the_wire(rules: RulesInForce, limits: Limits, own_pid: Pid) -> Option<Rules> {
    let RulesInForce {
        measure,
        pids,
        names,
        users,
        also,
        rules,
        sums,
        protect_root,
        honour_oom_score_adj,
        scope_uids,
        scope_cgroups,
        exemptions,
    } = rules;
    let cgroups = scope_cgroups.map(|globs| CgroupPatterns::new(globs.iter().map(String::as_str)));
    Some(Rules {
        limits,
        measure,
        whitelist: Whitelist {
            pids: pids.into_iter().map(Pid).collect(),
            names: NamePatterns::new(names.iter().map(String::as_str)).ok()?,
            users: users.into_iter().map(Uid).collect(),
            protect_root,
            also: matcher_from_the_wire(also)?,
        },
        scope: Scope { uids: scope_uids.map(ranges), cgroups: cgroups.transpose().ok()? },
        honour_oom_score_adj,
        own_pid,
        rules: rules.into_iter().map(rule_from_the_wire).collect::<Option<_>>()?,
        sums: sums.into_iter().map(sum_from_the_wire).collect::<Option<_>>()?,
        exemptions,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, FakeUsers};

    #[test]
    fn rules_come_back_from_the_wire_as_they_were() {
        let everything = r#"
            thresholds = { ram_percent_threshold = 12.25, ram_gb_threshold = 0.3, measure = "rss" }
            scope = { uids = ["5-7", "9"], cgroups = ["/a/**", "**/b"] }
            [whitelist]
            pids = [1, 7]
            names = ["a\"b\\\\", "tab\t\u202e*"]
            users = ["7", "9"]
            exe = ["/usr/lib/*/x"]
            args = ["--a b"]
            uids = ["5-6"]
            groups = ["44"]
            cgroups = ["/c/**"]
            units = ["user@7.service/x-*.scope"]
            protect_root = true
            honour_oom_score_adj = false
            [[rule]]
            name = "a"
            names = ["x*"]
            not = { users = ["7"], exe = ["/a/*"] }
            percent = 12.5
            for = "10s"
            signal = "SIGINT"
            grace = 20
            hard_ceiling = 0
            [[rule]]
            name = "b"
            units = ["x.service"]
            none = true
            [[rule]]
            name = "sum"
            uids = ["1000-60000"]
            per = "unit"
            strike = "growing"
            gb = 2.5
            [[rule]]
            name = "c"
            args = ["y"]
            action = "warn"
            gb = 0.5"#;
        let nobody = "scope.users = ['mallory']\nwhitelist = { pids = [], names = [], users = [] }";
        for text in [everything, nobody, ""] {
            let rules = config::parse(text, Path::new("c"), &FakeUsers(&[])).unwrap().settings.rules;
            let line = serde_json::to_string(&on_the_wire(&rules)).unwrap();
            let back = from_the_wire(serde_json::from_str(&line).unwrap(), rules.limits, rules.own_pid);
            assert_eq!(back, Some(rules), "{line}");
        }
    }

    #[test]
    fn rules_that_are_not_valid_are_none() {
        let limits = Limits::new(10.0, crate::model::Bytes(1)).unwrap();
        let wrong = RulesInForce { names: vec!["[".to_owned()], ..RulesInForce::default() };
        assert_eq!(from_the_wire(wrong, limits, Pid(7)), None);
    }
}
