//! Tests of sums: the groups, which processes end, and properties of both.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    Group, Matcher, NamePatterns, RuleLimit, Rules, Strike, Sum, SumRule, SumVerdict,
    fixtures::{self, MEMORY, any_limit_rule, any_process, any_rules, limit_rule, memory},
    groups,
    sums::groups_by,
};
use crate::model::{
    Action, Bytes, Fact, GroupKey, Holdings, Inherited, Name, Parts, Per, Pid, Process, ProcessId, RuleName,
    SharedMemory, StartTime, SystemMemory, Uid, Verdict,
};

const MIB: u64 = 1 << 20;

fn rule(per: Per, limit: u64, strike: Strike) -> SumRule {
    let any = Matcher { uids: Some([Uid(0)..=Uid(u32::MAX)].into_iter().collect()), ..Matcher::default() };
    SumRule {
        rule: limit_rule("sum", any, RuleLimit::Own { percent: None, bytes: Some(Bytes(limit * MIB)) }),
        per,
        strike,
    }
}

fn process(pid: u32, uid: u32, mib: u64) -> Process {
    Process {
        id: ProcessId { pid: Pid(pid), start: StartTime(u64::from(pid)) },
        parent: Pid::INIT,
        rss: Bytes(mib * MIB),
        real_uid: Uid(uid),
        effective_uid: Uid(uid),
        ..fixtures::hog()
    }
}

fn with(sums: Vec<SumRule>) -> Rules {
    Rules { sums, ..fixtures::rules() }
}

fn sums(rules: &Rules, processes: &[Process]) -> Vec<Sum> {
    groups(rules, &MEMORY, processes).iter().map(|group| Sum::new(rules, &MEMORY, group)).collect()
}

fn struck(rules: &Rules, processes: &[Process], going: &[u32]) -> Vec<u32> {
    let id = |pid| processes.iter().find(|process| process.id.pid == Pid(pid)).unwrap().id;
    let going = going.iter().map(|pid| id(*pid)).collect();
    // Of two processes, the one with the even pid grows faster.
    let rate = |process: ProcessId| if process.pid.0.is_multiple_of(2) { 2.0 } else { 1.0 };
    let all = sums(rules, processes);
    all.iter().flat_map(|sum| sum.strikes(&going, rate)).map(|process| process.pid.0).collect()
}

#[test]
fn a_process_belongs_to_one_group_of_each_kind() {
    let mut process = fixtures::hog();
    process.facts.session = Fact::Known(3);
    let shown =
        |process: &Process| Per::ALL.map(|per| GroupKey::of(per, process).known().map(ToString::to_string));
    let expected = [
        "user 1000",
        "unit app.scope",
        "cgroup /user.slice/user-1000.slice/app.scope",
        "session 3",
        "pid 4242 with its descendants",
        "/usr/lib/firefox/firefox of user 1000",
    ];
    assert_eq!(shown(&process), expected.map(|text| Some(text.to_owned())));
    for (per, key) in Per::ALL.into_iter().zip(Per::ALL.map(|per| GroupKey::of(per, &process))) {
        assert_eq!(key.known().map(GroupKey::per), Some(per));
        assert_eq!(serde_json::to_value(key.known()).unwrap()["per"], per.as_str());
    }
    process.facts.session = Fact::Absent;
    process.cgroup = Fact::Unreadable;
    process.names.exe = Fact::Withheld;
    let [_, unit, cgroup, session, _, program] = shown(&process);
    assert_eq!([unit, cgroup, session], [None, None, None]);
    assert_eq!(program.as_deref(), Some("programs with a hidden path of user 1000"));
}

#[test]
fn the_fewest_end_that_bring_a_sum_below_its_limit_in_the_order_of_the_rule() {
    let processes =
        [process(2, 7, 30), process(3, 7, 10), process(4, 7, 50), process(5, 7, 5), process(6, 8, 99)];
    for (limit, strike, expected) in [
        (100, Strike::Largest, &[][..]),
        (95, Strike::Largest, &[]),
        (94, Strike::Largest, &[4]),
        (44, Strike::Largest, &[4, 2]),
        // The newest two do not suffice, and the third does so alone.
        (60, Strike::Newest, &[4]),
        (88, Strike::Newest, &[4]),
        (90, Strike::Newest, &[5]),
        (94, Strike::Growing, &[4]),
        (40, Strike::Growing, &[4, 2]),
        (94, Strike::All, &[4, 2, 3, 5]),
    ] {
        let rules = with(vec![SumRule {
            rule: super::LimitRule {
                matcher: Matcher {
                    uids: Some([Uid(7)..=Uid(7)].into_iter().collect()),
                    ..Matcher::default()
                },
                ..rule(Per::User, limit, strike).rule
            },
            per: Per::User,
            strike,
        }]);
        assert_eq!(struck(&rules, &processes, &[]), expected, "{limit} {strike:?}");
    }
    let rules = with(vec![rule(Per::User, 94, Strike::Largest)]);
    assert_eq!(struck(&rules, &processes, &[5]), [6], "one that is going already counts as gone");
    assert_eq!(struck(&rules, &processes, &[]), [4, 6], "each user's sum is its own");
}

#[test]
fn protected_processes_count_and_never_end() {
    let mut rules = with(vec![rule(Per::User, 100, Strike::Largest)]);
    rules.whitelist.names = NamePatterns::new(["database"]).unwrap();
    let mut processes = [process(2, 7, 90), process(3, 7, 20), process(4, 7, 30)];
    processes[0].names.comm = Name::from("database");
    assert_eq!(struck(&rules, &processes, &[]), [4, 3]);
    // The database alone holds too much: to end the others does not help.
    processes[0].rss = Bytes(101 * MIB);
    assert_eq!(struck(&rules, &processes, &[]), [0_u32; 0]);
    assert_eq!(sums(&rules, &processes)[0].verdict(), SumVerdict::Kept);
}

#[test]
fn a_doubt_keeps_its_place_in_the_order_and_is_not_ended() {
    let mut rules = with(vec![rule(Per::User, 100, Strike::Largest)]);
    rules.whitelist.names = NamePatterns::new(["database"]).unwrap();
    let mut processes = [process(2, 7, 90), process(3, 7, 20), process(4, 7, 30)];
    processes[0].names.exe = Fact::Unreadable;
    assert_eq!(struck(&rules, &processes, &[]), [0_u32; 0], "the largest would suffice, and is in doubt");
}

#[test]
fn a_sum_that_only_warns_ends_nobody() {
    let mut sum = rule(Per::User, 10, Strike::Largest);
    sum.rule.action = Action::Warn;
    let rules = with(vec![sum]);
    let processes = [process(2, 7, 90)];
    assert_eq!(sums(&rules, &processes)[0].verdict(), SumVerdict::Over);
    assert_eq!(struck(&rules, &processes, &[]), [0_u32; 0]);
}

#[test]
fn a_sum_that_is_throttled_ends_no_more_than_it_takes_to_be_below_its_ceiling() {
    let mut sum = rule(Per::Unit, 100, Strike::Largest);
    (sum.rule.action, sum.rule.hard_ceiling, sum.per) = (Action::Throttle, Some(2.0), Per::User);
    let struck_at = |ceiling, sizes: [u64; 3]| {
        let mut sum = sum.clone();
        sum.rule.hard_ceiling = Some(ceiling);
        let processes = [process(2, 7, sizes[0]), process(3, 7, sizes[1]), process(4, 7, sizes[2])];
        struck(&with(vec![sum]), &processes, &[])
    };
    assert_eq!(struck_at(2.0, [90, 70, 40]), [0_u32; 0], "200 of 200");
    assert_eq!(struck_at(2.0, [91, 70, 40]), [2], "the rest is above the limit and below the ceiling");
    assert_eq!(struck_at(2.0, [300, 210, 40]), [2, 3]);
    assert_eq!(struck_at(0.0, [300, 210, 40]), [0_u32; 0], "no ceiling");
}

#[test]
fn each_page_counts_once() {
    let rules = with(vec![rule(Per::User, 100, Strike::Largest)]);
    let parts = |anon: u64, shmem: u64| Parts {
        anon: Bytes(anon * MIB),
        shmem: Bytes(shmem * MIB),
        ..Parts::default()
    };
    let holds = |returned: u64| {
        Fact::Known(SharedMemory { returned: Bytes(returned * MIB), kept: Bytes::ZERO, largest: None })
    };
    let mut processes = [process(2, 7, 70), process(3, 7, 70), process(4, 7, 70)];
    // The eldest is charged for the segment that all three map.
    for (process, returned) in processes.iter_mut().zip([60, 0, 0]) {
        process.holdings = Some(Holdings { parts: parts(10, 60), shared: holds(returned), trouble: None });
    }
    let sum = &sums(&rules, &processes)[0];
    assert_eq!((sum.least(), sum.most()), (Bytes(90 * MIB), Bytes(90 * MIB)));
    assert_eq!(sum.verdict(), SumVerdict::Within);
    // Until that is known it is neither over nor within.
    processes[1].holdings.as_mut().unwrap().shared = Fact::Unreadable;
    let sum = &sums(&rules, &processes)[0];
    assert_eq!((sum.least(), sum.most()), (Bytes(90 * MIB), Bytes(150 * MIB)));
    assert_eq!(sum.verdict(), SumVerdict::Unsure);
}

#[test]
fn a_forked_process_counts_for_the_memory_that_it_did_not_inherit_and_for_no_file() {
    let rules = with(vec![rule(Per::User, 100, Strike::Largest)]);
    let mut forked = process(2, 7, 70);
    forked.inherited = Fact::Known(Inherited { bytes: Bytes(20 * MIB), elder: Pid(1) });
    let parts = Parts { anon: Bytes(25 * MIB), file: Bytes(45 * MIB), ..Parts::default() };
    for shared in [Fact::Absent, Fact::Unreadable] {
        forked.holdings = Some(Holdings { parts, shared, trouble: None });
        assert_eq!(sums(&rules, &[forked.clone()])[0].least(), Bytes(5 * MIB));
    }
}

#[test]
fn a_tree_is_a_process_that_matches_with_all_its_descendants() {
    let mut sum = rule(Per::Tree, 10, Strike::Largest);
    sum.rule.matcher = Matcher { names: Some(NamePatterns::new(["make"]).unwrap()), ..Matcher::default() };
    let rules = with(vec![sum]);
    let child = |pid, parent, comm: &str| {
        let mut process = process(pid, 7, 6);
        process.parent = Pid(parent);
        process.names.comm = Name::from(comm);
        process
    };
    let processes = [
        child(10, 1, "bash"),
        child(11, 10, "make"),
        child(12, 11, "make"),
        child(13, 12, "cc1"),
        child(20, 10, "make"),
        child(21, 10, "cc1"),
    ];
    let found: Vec<_> = sums(&rules, &processes)
        .into_iter()
        .map(|sum| {
            let members: Vec<_> = sum.members.iter().map(|member| member.process.id.pid.0).collect();
            (sum.key.to_string(), members)
        })
        .collect();
    let tree = |pid: u32| format!("pid {pid} with its descendants");
    assert_eq!(found, [(tree(11), vec![11, 12, 13]), (tree(20), vec![20])]);
    assert_eq!(struck(&rules, &processes, &[]), [13, 12], "the youngest of equals first");
}

/// Each process was compared with all of its ancestors: with 6000 that took seconds, in which memmon did nothing else.
#[test]
fn a_long_chain_of_processes_costs_no_more_than_as_many_beside_each_other() {
    let rules = with(vec![rule(Per::Tree, 1, Strike::Largest)]);
    let took = |parent: fn(u32) -> u32| {
        let child = |pid| Process { parent: Pid(parent(pid)), ..process(pid, 7, 1) };
        let processes: Vec<_> = (10..6010).map(child).collect();
        let begun = std::time::Instant::now();
        let trees = groups(&rules, &MEMORY, &processes);
        (trees.len(), trees[0].members.len(), begun.elapsed())
    };
    let (beside, chain) = (took(|_| 1), took(|pid| pid - 1));
    assert_eq!(((beside.0, beside.1), (chain.0, chain.1)), ((6000, 1), (1, 6000)));
    // It is less than half of it.
    assert!(chain.2 < beside.2 * 10, "{:?} and {:?}", chain.2, beside.2);
}

#[test]
fn of_one_kind_the_first_rule_that_matches_decides() {
    let mut free = rule(Per::User, 1, Strike::Largest);
    free.rule.matcher =
        Matcher { names: Some(NamePatterns::new(["firefox"]).unwrap()), ..Matcher::default() };
    free.rule.limit = RuleLimit::None;
    let units =
        SumRule { rule: rule(Per::Unit, 1, Strike::Largest).rule, ..rule(Per::Unit, 1, Strike::Largest) };
    let rules = with(vec![free, rule(Per::User, 1, Strike::Largest), units]);
    let mut other = process(3, 7, 20);
    other.names.exe = Fact::Known("/bin/other".into());
    other.names.argv0 = Fact::Absent;
    let processes = [process(2, 7, 90), other];
    let counted = |per: Per| {
        let all = sums(&rules, &processes);
        all.iter().filter(|sum| sum.key.per() == per).flat_map(|sum| sum.members.clone()).count()
    };
    assert_eq!((counted(Per::User), counted(Per::Unit)), (1, 2));
}

fn any_sum() -> impl Strategy<Value = SumRule> {
    let pers = select(&Per::ALL[..]);
    (any_limit_rule(), pers, select(&Strike::ALL[..])).prop_map(|(rule, per, strike)| {
        let limit = if rule.limit == RuleLimit::Thresholds { RuleLimit::None } else { rule.limit };
        let action = if rule.action == Action::Stop { Action::Throttle } else { rule.action };
        SumRule { rule: super::LimitRule { limit, action, ..rule }, per, strike }
    })
}

fn any_case() -> impl Strategy<Value = (Rules, Vec<Process>, SystemMemory)> {
    let processes = vec((any_process(), 1_u32..8, 1_u64..4), 0..10).prop_map(|processes| {
        let numbered = processes.into_iter().zip(2..);
        numbered
            .map(|((process, parent, start), pid)| Process {
                id: ProcessId { pid: Pid(pid), start: StartTime(start) },
                parent: Pid(parent),
                // A few of them can be added up.
                rss: Bytes(process.rss.0 >> 8),
                ..process
            })
            .collect()
    });
    (any_rules(), vec(any_sum(), 1..4), processes, memory()).prop_map(|(rules, sums, processes, memory)| {
        // Names are unique, as the configuration has it.
        let name = |(at, sum): (usize, SumRule)| {
            let name = RuleName::new(&format!("sum-{at}")).expect("a name");
            SumRule { rule: super::LimitRule { name, ..sum.rule }, ..sum }
        };
        (Rules { sums: sums.into_iter().enumerate().map(name).collect(), ..rules }, processes, memory)
    })
}

fn taken(rules: &Rules, memory: &SystemMemory, processes: &[Process]) -> Vec<Sum> {
    groups(rules, memory, processes).iter().map(|group| Sum::new(rules, memory, group)).collect()
}

fn rate(process: ProcessId) -> f64 {
    f64::from(process.pid.0 % 3)
}

/// The parts of a group that are compared.
type Outline = (RuleName, GroupKey, Vec<(ProcessId, bool)>);

fn outline(groups: &[Group<'_>]) -> Vec<Outline> {
    let members =
        |group: &Group<'_>| group.members.iter().map(|(process, sure)| (process.id, *sure)).collect();
    groups.iter().map(|group| (group.rule.rule.name, group.key.clone(), members(group))).collect()
}

#[test]
fn five_hundred_rules_find_their_processes_among_five_thousand() {
    let named = |index: u32, matcher: Matcher| {
        let mut sum = rule(Per::User, 1, Strike::Largest);
        sum.rule.name = RuleName::new(&format!("rule-{index}")).unwrap();
        sum.rule.matcher = matcher;
        sum
    };
    // The first 400 name a program, the others a user.
    let sums = (0..500).map(|index| {
        let names = || NamePatterns::new([format!("program-{index}").as_str()]).unwrap();
        let matcher = match index {
            0..400 => Matcher { names: Some(names()), ..Matcher::default() },
            _ => {
                Matcher { uids: Some([Uid(index)..=Uid(index)].into_iter().collect()), ..Matcher::default() }
            }
        };
        named(index, matcher)
    });
    let rules = with(sums.collect());
    let processes: Vec<_> = (0..5000)
        .map(|index| {
            let mut process = process(index + 2, 400 + index % 200, 1);
            process.names.comm = Name::from(format!("program-{}", index % 450).as_str());
            (process.names.exe, process.names.argv0) = (Fact::Absent, Fact::Absent);
            process
        })
        .collect();
    let mut found: std::collections::BTreeMap<String, BTreeSet<u32>> = std::collections::BTreeMap::new();
    for group in groups(&rules, &MEMORY, &processes) {
        let members = group.members.iter().map(|(process, _)| process.id.pid.0 - 2);
        found.entry(group.rule.rule.name.to_string()).or_default().extend(members);
    }
    for rule in 0..500 {
        let of_rule = (0..5000).filter(|index| match rule {
            0..400 => index % 450 == rule,
            // Processes that match no rule above.
            _ => index % 450 >= 400 && 400 + index % 200 == rule,
        });
        let expected: BTreeSet<u32> = of_rule.collect();
        assert_eq!(found.remove(&format!("rule-{rule}")).unwrap_or_default(), expected, "{rule}");
    }
}

proptest! {
    #[test]
    fn the_index_of_rules_changes_nothing((rules, processes, memory) in any_case()) {
        let (naive, indexed) = (
            groups_by(&rules, &memory, &processes, false),
            groups_by(&rules, &memory, &processes, true),
        );
        prop_assert_eq!(outline(&naive), outline(&indexed));
    }

    #[test]
    fn memory_of_protected_processes_alone_ends_no_process((rules, processes, memory) in any_case()) {
        for mut sum in taken(&rules, &memory, &processes) {
            let (_, limit) = sum.limit;
            let kept = sum.kept();
            if sum.verdict() == SumVerdict::Kept {
                prop_assert!(kept > limit);
                prop_assert_eq!(sum.strikes(&BTreeSet::new(), rate), vec![]);
            }
            if sum.verdict() == SumVerdict::Over {
                prop_assert!(kept <= limit, "ending others would not help");
            }
            // The same is true of those that cannot be signalled.
            let out_of_reach = sum.members.iter().map(|member| member.process.id).collect();
            let stuck = Sum { out_of_reach, ..sum.clone() };
            prop_assert!(!matches!(stuck.verdict(), SumVerdict::Over), "{:?}", stuck.verdict());
            prop_assert_eq!(stuck.strikes(&BTreeSet::new(), rate), vec![]);
            // If all of its processes are protected, none is ended, whatever it holds.
            sum.members.retain(|member| matches!(member.guard, Verdict::Protected(_)));
            prop_assert!(!matches!(sum.verdict(), SumVerdict::Over), "{:?}", sum.verdict());
            prop_assert_eq!(sum.strikes(&BTreeSet::new(), rate), vec![]);
        }
    }

    #[test]
    fn the_order_of_processes_does_not_matter((rules, processes, memory) in any_case()) {
        let mut reversed = processes.clone();
        reversed.reverse();
        let (one, other) = (taken(&rules, &memory, &processes), taken(&rules, &memory, &reversed));
        let strikes = |sums: &[Sum]| -> Vec<_> {
            sums.iter().map(|sum| sum.strikes(&BTreeSet::new(), rate)).collect()
        };
        prop_assert_eq!(strikes(&one), strikes(&other));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn no_process_that_may_be_protected_is_ever_chosen((rules, processes, memory) in any_case()) {
        for sum in taken(&rules, &memory, &processes) {
            for chosen in sum.strikes(&BTreeSet::new(), rate) {
                let process = processes.iter().find(|process| process.id == chosen).expect("one of them");
                prop_assert_eq!(super::guard(&rules, process, &memory), Verdict::Within);
                let over = Process { inherited: Fact::Absent, ..process.clone() };
                let alone = Rules { rules: vec![], ..rules.clone() };
                prop_assert!(!matches!(super::judge_as_over(&alone, &over, &memory), Verdict::Protected(_)));
            }
        }
    }

    #[test]
    fn no_more_are_chosen_than_it_takes((rules, processes, memory) in any_case()) {
        for sum in taken(&rules, &memory, &processes) {
            let chosen: BTreeSet<_> = sum.strikes(&BTreeSet::new(), rate).into_iter().collect();
            let limit = sum.ends_above;
            let has_ceiling = limit < Bytes::MAX;
            let fits = match sum.action {
                Action::Terminate => limit == sum.limit.1,
                Action::Throttle => limit >= sum.limit.1,
                Action::Warn | Action::Stop => !has_ceiling,
            };
            prop_assert!(fits);
            prop_assert!(chosen.is_empty() || sum.least() > limit);
            if sum.strike == Strike::All {
                continue;
            }
            for spared in &chosen {
                let others: BTreeSet<_> = chosen.iter().filter(|one| *one != spared).copied().collect();
                prop_assert!(sum.without(&others) > limit, "{spared:?} ends in vain");
            }
            let is_sure = sum.members.iter().all(|member| !matches!(member.guard, Verdict::Unsure(_)));
            let is_over = sum.verdict() == SumVerdict::Over;
            prop_assert!(sum.action != Action::Terminate || sum.ends() == is_over);
            if is_sure && sum.ends() {
                prop_assert!(sum.without(&chosen) <= limit);
                // The processes that end already are enough: no other one follows.
                prop_assert_eq!(sum.strikes(&chosen, rate), vec![]);
            }
        }
    }

    #[test]
    fn a_rule_below_changes_nothing_for_those_that_a_rule_above_matched(
        (rules, processes, memory) in any_case(), below in any_sum(),
    ) {
        let before = taken(&rules, &memory, &processes);
        let name = RuleName::new("below").expect("a name");
        let below = SumRule { rule: super::LimitRule { name, ..below.rule }, ..below };
        let per = below.per;
        let more = Rules { sums: rules.sums.iter().cloned().chain([below]).collect(), ..rules.clone() };
        let after = taken(&more, &memory, &processes);
        let (added, kept): (Vec<_>, Vec<_>) = after.into_iter().partition(|sum| sum.rule == name);
        prop_assert_eq!(&before, &kept);
        let is_decided = |id: ProcessId| {
            kept.iter().filter(|sum| sum.key.per() == per && sum.rule != name).any(|sum| {
                sum.members.iter().any(|member| member.process.id == id)
            })
        };
        for member in added.iter().flat_map(|sum| &sum.members).filter(|member| is_decided(member.process.id)) {
            // It counts below as well only if it is in doubt, or withheld, whether it does above.
            let matched = rules.sums.iter().filter(|sum| sum.per == per);
            let certain = matched.filter(|sum| sum.rule.matcher.matches(&member.process) == super::Matched::Yes);
            prop_assert!(per == Per::Tree || certain.count() == 0, "{:?}", member.process.id);
        }
    }

    #[test]
    fn a_process_counts_once_in_a_sum((rules, processes, memory) in any_case()) {
        for sum in taken(&rules, &memory, &processes) {
            let members: BTreeSet<_> = sum.members.iter().map(|member| member.process.id).collect();
            prop_assert_eq!(members.len(), sum.members.len());
            prop_assert!(sum.least() <= sum.most());
            if let GroupKey::User { uid } = sum.key {
                prop_assert!(sum.members.iter().all(|member| member.process.real_uid == uid));
            }
        }
    }
}
