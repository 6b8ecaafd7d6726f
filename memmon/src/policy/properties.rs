//! Properties that hold for every process and every configuration.

use proptest::prelude::*;

use super::{
    Limits, Matched, Matcher, Rules, decide, explain,
    fixtures::{any_limit_rule, any_process, any_rules, any_snapshot, limits, memory, rules_with_rules},
    judge, suspects,
};
use crate::model::{
    Action, Bytes, Doubt, Exempt, Fact, Name, Process, Protection, Reading, Survey, SystemMemory, Uid,
    Verdict,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_protected_process_is_never_selected(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let verdict = judge(&rules, &process, &memory);
        if is_protected(&rules, &process) {
            prop_assert!(matches!(verdict, Verdict::Protected(_)), "{verdict:?}");
        } else {
            prop_assert!(!matches!(verdict, Verdict::Protected(_)), "{verdict:?}");
        }
    }

    #[test]
    fn exactly_the_processes_over_beyond_doubt_are_terminated(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let verdict = judge(&rules, &process, &memory);
        let least = process.charged().saturating_sub(process.error);
        let expected = is_over(&rules.limits, least, &memory)
            && !is_protected(&rules, &process)
            && !is_in_doubt(&rules, &process);
        prop_assert_eq!(matches!(verdict, Verdict::Terminate(_)), expected, "{:?}", verdict);
        let may_be_over = is_over(&rules.limits, process.rss.saturating_add(process.error), &memory);
        if matches!(verdict, Verdict::Unsure(_)) {
            prop_assert!(may_be_over);
        }
        if matches!(verdict, Verdict::Within) {
            prop_assert!(!is_over(&rules.limits, process.rss, &memory));
        }
    }

    /// Whatever an ordinary user withholds of the names, it is as if the process had none.
    #[test]
    fn facts_that_the_owner_withholds_protect_no_process(
        mut rules in any_rules(), mut process in any_process(), memory in memory(), both: bool,
    ) {
        rules.scope.cgroups = None;
        if process.real_uid == Uid::ROOT {
            process.real_uid = Uid(1000);
        }
        if both {
            process.names.exe = Fact::Unreadable;
        }
        process.names.argv0 = Fact::Unreadable;
        process.settle();
        let mut nameless = process.clone();
        let Process { names, facts, cgroup, .. } = &mut nameless;
        for fact in [&mut names.exe, &mut names.argv0, &mut facts.exe_file, cgroup] {
            if *fact == Fact::Withheld {
                *fact = Fact::Absent;
            }
        }
        if facts.args == Fact::Withheld {
            facts.args = Fact::Absent;
        }
        let verdict = judge(&rules, &process, &memory);
        prop_assert_eq!(&verdict, &judge(&rules, &nameless, &memory));
        prop_assert!(!matches!(verdict, Verdict::Unsure(Doubt::NameUnreadable(_))), "{:?}", verdict);
    }

    /// The end of a doubt takes no protection away that is certain, and never one of uids.
    #[test]
    fn the_end_of_a_doubt_lifts_no_protection(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let mut settled = process.clone();
        settled.settle();
        let (before, after) = (judge(&rules, &process, &memory), judge(&rules, &settled, &memory));
        match before {
            Verdict::Unsure(
                Doubt::NameUnreadable(_)
                | Doubt::FactUnreadable(_)
                | Doubt::CgroupUnreadable
                | Doubt::InheritanceUnreadable,
            ) => {}
            before => prop_assert_eq!(before, after),
        }
    }

    #[test]
    fn inherited_memory_never_ends_a_process(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let verdict = judge(&rules, &process, &memory);
        // An elder takes what is its own, and nothing else: without it all is as it would be with that much less.
        let own = Process { rss: process.charged(), inherited: Fact::Absent, ..process.clone() };
        let terminated = |verdict: &Verdict| matches!(verdict, Verdict::Terminate(_));
        if process.inherited != Fact::Unreadable {
            prop_assert_eq!(terminated(&verdict), terminated(&judge(&rules, &own, &memory)));
        }
        if let Verdict::Inherits(inherited) = verdict {
            prop_assert!(!is_over(&rules.limits, own.rss.saturating_sub(own.error), &memory));
            let all = Process { inherited: Fact::Absent, ..process.clone() };
            prop_assert!(!matches!(judge(&rules, &all, &memory), Verdict::Within | Verdict::Protected(_)));
            prop_assert_eq!(Fact::Known(inherited), process.inherited);
        }
    }

    /// An exemption changes nothing for another process, least of all for one that got the pid of an exempt one later.
    #[test]
    fn an_exemption_is_never_another_process_s(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let mut without = rules.clone();
        without.exemptions.retain(|exemption| is_exempt(&exemption.of, &process));
        let doubted = matches!(process.cgroup, Fact::Unreadable | Fact::Withheld);
        if !doubted {
            prop_assert_eq!(judge(&rules, &process, &memory), judge(&without, &process, &memory));
        }
        let verdict = judge(&rules, &process, &memory);
        if let Verdict::Protected(Protection::Exempt(exemption)) = &verdict {
            prop_assert!(is_exempt(&exemption.of, &process));
            let none = Rules { exemptions: vec![], ..rules.clone() };
            prop_assert!(!matches!(judge(&none, &process, &memory), Verdict::Protected(_)));
        }
    }

    #[test]
    fn each_process_is_judged_independently_of_the_order(rules in any_rules(), snapshot in any_snapshot()) {
        let verdicts = decide(&rules, &snapshot);
        let mut reversed = snapshot.clone();
        reversed.processes.reverse();
        let again = decide(&rules, &reversed);
        prop_assert_eq!(verdicts.len(), snapshot.processes.len());
        prop_assert!(verdicts.iter().eq(again.iter().rev()));
        for ((process, verdict), expected) in verdicts.iter().zip(&snapshot.processes) {
            prop_assert_eq!(*process, expected);
            prop_assert_eq!(verdict, &judge(&rules, expected, &snapshot.memory));
        }
    }

    #[test]
    fn higher_limits_never_select_more(
        mut rules in any_rules(), process in any_process(), memory in memory(), other in limits(),
    ) {
        let before = judge(&rules, &process, &memory);
        let (percent, bytes) = (rules.limits.percent(), rules.limits.bytes());
        rules.limits = Limits::new(percent.max(other.percent()), bytes.max(other.bytes())).expect("both were");
        if matches!(judge(&rules, &process, &memory), Verdict::Terminate(_)) {
            prop_assert!(matches!(before, Verdict::Terminate(_)), "{before:?}");
        }
    }

    #[test]
    fn explain_agrees_with_judge(rules in any_rules(), process in any_process(), memory in memory()) {
        let explanation = explain(&rules, &process, &memory);
        prop_assert_eq!(&explanation.verdict, &judge(&rules, &process, &memory));
        prop_assert_eq!(explanation.steps.len(), 12);
    }

    #[test]
    fn every_process_not_within_its_limits_was_a_suspect(rules in any_rules(), snapshot in any_snapshot()) {
        let reading = |process: &Process| {
            let Process { id, rss, error, .. } = *process;
            Reading { pid: id.pid, start: Some(id.start), rss, held: rss, shmem: Bytes::ZERO, error }
        };
        let readings: Vec<_> = snapshot.processes.iter().map(reading).collect();
        let suspects = suspects(&rules, &Survey { memory: snapshot.memory, readings });
        for (process, verdict) in decide(&rules, &snapshot) {
            if matches!(verdict, Verdict::Terminate(_) | Verdict::Unsure(_)) {
                prop_assert!(suspects.contains(&reading(process)));
            }
        }
        for suspect in suspects {
            prop_assert!(is_over(&rules.limits, suspect.rss.saturating_add(suspect.error), &snapshot.memory));
        }
    }

    #[test]
    fn every_termination_is_explained_with_alternatives(
        rules in any_rules(), process in any_process(), memory in memory(),
    ) {
        let explanation = explain(&rules, &process, &memory);
        if matches!(explanation.verdict, Verdict::Terminate(_)) {
            prop_assert!(explanation.otherwise.len() >= 3, "{:?}", explanation.otherwise);
            for otherwise in explanation.otherwise {
                prop_assert!(!matches!(otherwise.verdict, Verdict::Terminate(_)), "{otherwise:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_rule_strikes_a_protected_process(
        rules in rules_with_rules(), process in any_process(), memory in memory(),
    ) {
        let verdict = judge(&rules, &process, &memory);
        prop_assert_eq!(matches!(verdict, Verdict::Protected(_)), is_protected(&rules, &process), "{:?}", verdict);
        prop_assert_eq!(explain(&rules, &process, &memory).verdict, verdict);
    }

    #[test]
    fn a_rule_below_changes_nothing_for_a_process_that_one_above_matches(
        rules in rules_with_rules(), more in any_limit_rule(), process in any_process(), memory in memory(),
    ) {
        let mut longer = rules.clone();
        longer.rules.push(more);
        if rules.decisive(&process).is_some() {
            prop_assert_eq!(judge(&rules, &process, &memory), judge(&longer, &process, &memory));
            prop_assert_eq!(rules.limit_of(&process, &memory), longer.limit_of(&process, &memory));
        }
    }

    #[test]
    fn no_process_that_a_rule_strikes_or_warns_of_is_missing_among_the_suspects(
        rules in rules_with_rules(), snapshot in any_snapshot(),
    ) {
        let reading = |process: &Process| {
            let Process { id, rss, error, .. } = *process;
            Reading { pid: id.pid, start: Some(id.start), rss, held: rss, shmem: Bytes::ZERO, error }
        };
        let readings: Vec<_> = snapshot.processes.iter().map(reading).collect();
        let suspects = suspects(&rules, &Survey { memory: snapshot.memory, readings });
        let mut reversed = snapshot.clone();
        reversed.processes.reverse();
        let verdicts = decide(&rules, &snapshot);
        prop_assert!(verdicts.iter().eq(decide(&rules, &reversed).iter().rev()), "the order makes no difference");
        for (process, verdict) in verdicts {
            let is_over = match &verdict {
                Verdict::Terminate(_) | Verdict::Stop(_) | Verdict::Warn(_) => true,
                Verdict::Unsure(doubt) => matches!(doubt, Doubt::WithinError { .. }),
                _ => false,
            };
            prop_assert!(!is_over || suspects.contains(&reading(process)), "{verdict:?}");
        }
    }

    /// Checks by the rules one by one, as plainly as possible, for a process of which everything is known.
    #[test]
    fn the_first_rule_that_matches_decides(
        rules in rules_with_rules(), process in any_process(), memory in memory(),
    ) {
        let first = rules.rules.iter().find(|rule| rule.matcher.matches(&process) == Matched::Yes);
        let is_clear = rules.rules.iter().all(|rule| {
            matches!(rule.matcher.matches(&process), Matched::Yes | Matched::No(_))
        });
        if is_clear && !is_protected(&rules, &process) {
            let limit = rules.limit_under(first, &memory).map_or(Bytes::MAX, |(_, limit)| limit);
            prop_assert_eq!(rules.limit_of(&process, &memory), limit);
            let verdict = judge(&rules, &process, &memory);
            if let Verdict::Terminate(breach) | Verdict::Stop(breach) | Verdict::Warn(breach) = &verdict {
                prop_assert_eq!((breach.limit, breach.by), (limit, first.map(|rule| rule.name)));
                prop_assert!(process.rss > limit);
                let warns = first.is_some_and(|rule| rule.action == Action::Warn);
                prop_assert_eq!(matches!(verdict, Verdict::Warn(_)), warns);
                let stops = first.is_some_and(|rule| rule.action == Action::Stop);
                let ceiling = first.and_then(|rule| rule.hard_ceiling).filter(|times| *times > 0.0);
                let rss = process.own().saturating_sub(process.error);
                let is_beyond = ceiling.is_some_and(|times| rss > limit.times(times));
                prop_assert_eq!(matches!(verdict, Verdict::Stop(_)), stops && !is_beyond);
            }
        }
    }

    /// For a process of which everything is known.
    #[test]
    fn a_rule_that_stops_touches_the_same_processes_as_one_that_ends(
        rules in rules_with_rules(), process in any_process(), memory in memory(),
    ) {
        let is_clear = rules.rules.iter().all(|rule| {
            matches!(rule.matcher.matches(&process), Matched::Yes | Matched::No(_))
        });
        let mut ending = rules.clone();
        for rule in ending.rules.iter_mut().filter(|rule| rule.action == Action::Stop) {
            rule.action = Action::Terminate;
        }
        let (verdict, ended) = (judge(&rules, &process, &memory), judge(&ending, &process, &memory));
        if let (true, Verdict::Stop(breach)) = (is_clear, &verdict) {
            prop_assert_eq!(&ended, &Verdict::Terminate(*breach));
            // Inherited memory never makes the difference between a stop and an end.
            let more = Bytes(1 << 50);
            let inherited = crate::model::Inherited { bytes: more, elder: crate::model::Pid(1) };
            let inherits = Process {
                rss: process.rss.saturating_add(more), inherited: Fact::Known(inherited), ..process.clone()
            };
            // Sizes that the sum of both cannot hold do not exist.
            if process.inherited == Fact::Absent && process.holdings.is_none() && process.rss < more {
                prop_assert!(matches!(judge(&rules, &inherits, &memory), Verdict::Stop(_)));
            }
        } else if is_clear {
            prop_assert_eq!(&ended, &verdict);
        }
    }

    #[test]
    fn one_look_is_enough_for_the_limit_that_counts(
        rules in rules_with_rules(), process in any_process(), memory in memory(),
    ) {
        let looks = std::cell::RefCell::new(vec![]);
        let found = rules.confirm(&memory, |limit| {
            looks.borrow_mut().push(limit);
            Ok::<_, ()>(process.clone())
        });
        prop_assert_eq!(found.as_ref(), Ok(&process));
        let limit = rules.limit_of(&process, &memory);
        let looks = looks.into_inner();
        prop_assert_eq!(looks[0], Bytes::MAX);
        prop_assert_eq!(looks.len() > 1, process.rss + process.error > limit);
        prop_assert!(looks[1..].iter().all(|look| *look == limit));
    }
}

/// The same rules, implemented a second time and as plainly as possible.
fn is_protected(rules: &Rules, process: &Process) -> bool {
    let uids = [process.real_uid, process.effective_uid];
    let whitelist = &rules.whitelist;
    let out_of_scope =
        rules.scope.uids.as_ref().is_some_and(|range| uids.iter().any(|uid| !range.contains(*uid)))
            || rules.scope.cgroups.as_ref().is_some_and(|patterns| match &process.cgroup {
                Fact::Known(path) => !patterns.matches(path.as_bytes()),
                Fact::Absent => true,
                Fact::Unreadable | Fact::Withheld => false,
            });
    let user_listed = uids.iter().any(|uid| *uid != Uid::ROOT && whitelist.users.contains(uid));
    let name_listed = known_names(process).any(|name| {
        whitelist.names.entries().iter().any(|pattern| matches_plainly(pattern.as_bytes(), &name))
    });
    process.id.pid.0 == 1
        || process.kernel_thread
        || process.id.pid == rules.own_pid
        || out_of_scope
        || whitelist.pids.contains(&process.id.pid)
        || name_listed
        || user_listed
        || is_matched(&whitelist.also, process)
        || whitelist.protect_root && uids.contains(&Uid::ROOT)
        || rules.honour_oom_score_adj && process.oom_score_adj == Fact::Known(-1000)
        || rules.exemptions.iter().any(|exemption| is_exempt(&exemption.of, process))
}

/// The units of the fixtures are the last parts of their paths; none of these is a job's.
fn is_exempt(of: &Exempt, process: &Process) -> bool {
    match of {
        Exempt::Process(id) => *id == process.id,
        Exempt::User(uid) => [process.real_uid, process.effective_uid].contains(uid),
        Exempt::Unit(unit) => process
            .cgroup
            .known()
            .is_some_and(|path| path.as_bytes().ends_with(format!("/{unit}").as_bytes())),
        Exempt::Job(_) => false,
    }
}

/// The other keys of the whitelist, each on its own.
fn is_matched(also: &Matcher, process: &Process) -> bool {
    let cgroup = process.cgroup.known();
    let uids = [process.real_uid, process.effective_uid];
    also.exe.as_ref().is_some_and(|exe| {
        let path = process.names.exe.known().filter(|path| Some(*path) == process.facts.exe_file.known());
        path.is_some_and(|path| exe.find(path.as_bytes()).is_some())
    }) || also
        .args
        .as_ref()
        .is_some_and(|args| process.facts.args.known().is_some_and(|list| args.find(list).is_some()))
        || also.uids.as_ref().is_some_and(|ranges| uids.iter().any(|uid| ranges.contains(*uid)))
        || also.groups.as_ref().is_some_and(|groups| !groups.is_disjoint(&process.facts.groups))
        || also
            .cgroups
            .as_ref()
            .is_some_and(|globs| cgroup.is_some_and(|path| globs.matches(path.as_bytes())))
        || also.units.as_ref().is_some_and(|globs| cgroup.is_some_and(|path| globs.find(path).is_some()))
}

/// Whether one of these keys could match by a fact that is not known, for a reason that is not the owner's.
fn is_matched_in_doubt(also: &Matcher, process: &Process) -> bool {
    let unclear = |unreadable: bool, withheld: bool| unreadable || withheld && process.real_uid == Uid::ROOT;
    let (exe, facts) = (&process.names.exe, &process.facts);
    let unclear_exe = match exe {
        Fact::Known(path) => {
            also.exe.as_ref().is_some_and(|exe| exe.find(path.as_bytes()).is_some())
                && unclear(facts.exe_file == Fact::Unreadable, facts.exe_file == Fact::Withheld)
        }
        Fact::Absent => false,
        Fact::Unreadable => true,
        Fact::Withheld => process.real_uid == Uid::ROOT,
    };
    also.exe.is_some() && unclear_exe
        || also.args.is_some() && unclear(facts.args == Fact::Unreadable, facts.args == Fact::Withheld)
        || (also.cgroups.is_some() || also.units.is_some())
            && unclear(process.cgroup == Fact::Unreadable, process.cgroup == Fact::Withheld)
}

fn is_in_doubt(rules: &Rules, process: &Process) -> bool {
    let names = [&process.names.exe, &process.names.argv0];
    let name_unclear = names.contains(&&Fact::Unreadable)
        || names.contains(&&Fact::Withheld) && process.real_uid == Uid::ROOT;
    let by_cgroup = rules.exemptions.iter().any(|one| matches!(one.of, Exempt::Unit(_) | Exempt::Job(_)));
    let cgroup_unclear = process.cgroup == Fact::Unreadable
        || process.cgroup == Fact::Withheld && process.real_uid == Uid::ROOT;
    is_matched_in_doubt(&rules.whitelist.also, process)
        || by_cgroup && cgroup_unclear
        || !rules.whitelist.names.entries().is_empty() && name_unclear
        || rules.scope.cgroups.is_some() && matches!(process.cgroup, Fact::Unreadable | Fact::Withheld)
        || rules.honour_oom_score_adj && process.oom_score_adj.known().is_none()
        || process.inherited == Fact::Unreadable
}

/// v1's rule: above the share, or above the absolute limit.
fn is_over(limits: &Limits, rss: Bytes, memory: &SystemMemory) -> bool {
    let exceeds_share = memory.total.0 > 0 && rss.0 as f64 * 100.0 > limits.percent() * memory.total.0 as f64;
    exceeds_share || rss > limits.bytes()
}

fn known_names(process: &Process) -> impl Iterator<Item = Vec<u8>> {
    let last = |name: &Name| name.as_bytes().split(|byte| *byte == b'/').next_back().unwrap().to_vec();
    let names = &process.names;
    let paths = [names.exe.known(), names.argv0.known()].into_iter().flatten().map(last);
    paths.chain([names.comm.as_bytes().to_vec()]).collect::<Vec<_>>().into_iter()
}

/// Matches the few kinds of glob that the fixtures use.
fn matches_plainly(pattern: &[u8], name: &[u8]) -> bool {
    if pattern == b"{sshd,ab}" {
        return name == b"sshd" || name == b"ab";
    }
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|skipped| matches_plainly(rest, &name[skipped..])),
        ([b'?', rest @ ..], [_, others @ ..]) => matches_plainly(rest, others),
        ([b'\\', escaped, rest @ ..], [byte, others @ ..]) => {
            escaped == byte && matches_plainly(rest, others)
        }
        ([literal, rest @ ..], [byte, others @ ..]) => literal == byte && matches_plainly(rest, others),
        _ => false,
    }
}
