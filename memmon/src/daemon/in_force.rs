//! The rules in force, to the wire and back: an onlooker judges by what the daemon judges by, and not by a file that the
//! daemon may never have read.

use crate::{
    model::{Gid, Pid, Uid},
    policy::{
        ArgPatterns, CgroupPatterns, ExePatterns, Limits, Matcher, NamePatterns, Rules, Scope, UidRanges,
        UnitPatterns, Whitelist,
    },
    status::{MatcherInForce, RulesInForce, Status, Thresholds},
};

/// All of `rules` but the limits.
pub(super) fn on_the_wire(rules: &Rules) -> RulesInForce {
    let Rules { limits: _, measure, whitelist, scope, honour_oom_score_adj, own_pid: _ } = rules;
    let Whitelist { pids, names, users, protect_root, also } = whitelist;
    let Scope { uids, cgroups } = scope;
    RulesInForce {
        measure: *measure,
        pids: pids.iter().map(|pid| pid.0).collect(),
        names: names.entries().to_vec(),
        users: users.iter().map(|uid| uid.0).collect(),
        also: matcher_on_the_wire(also),
        protect_root: *protect_root,
        honour_oom_score_adj: *honour_oom_score_adj,
        scope_uids: uids.as_ref().map(pairs),
        scope_cgroups: cgroups.as_ref().map(|cgroups| cgroups.entries().to_vec()),
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

/// The rules that the daemon judges by; none if it does not send them (an older one), or what it sends is none.
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
        protect_root,
        honour_oom_score_adj,
        scope_uids,
        scope_cgroups,
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
            honour_oom_score_adj = false"#;
        let nobody = "scope.users = ['mallory']\nwhitelist = { pids = [], names = [], users = [] }";
        for text in [everything, nobody, ""] {
            let rules = config::parse(text, Path::new("c"), &FakeUsers(&[])).unwrap().settings.rules;
            let line = serde_json::to_string(&on_the_wire(&rules)).unwrap();
            let back = from_the_wire(serde_json::from_str(&line).unwrap(), rules.limits, rules.own_pid);
            assert_eq!(back, Some(rules), "{line}");
        }
    }

    #[test]
    fn what_can_be_no_rules_is_none() {
        let limits = Limits::new(10.0, crate::model::Bytes(1)).unwrap();
        let wrong = RulesInForce { names: vec!["[".to_owned()], ..RulesInForce::default() };
        assert_eq!(from_the_wire(wrong, limits, Pid(7)), None);
    }
}
