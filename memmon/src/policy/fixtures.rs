//! Processes and rules for tests: one process that is over its limit and not protected, and arbitrary ones.
//!
//! The arbitrary ones use few values, so that rules often match processes.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    ArgPatterns, CgroupPatterns, ExePatterns, LimitRule, Limits, Matcher, NamePatterns, RuleLimit, Rules,
    Scope, UnitPatterns, Whitelist,
};
use crate::model::{
    Action, Bytes, Exempt, Exemption, Fact, Gid, Inherited, Launch, MatchFacts, Measure, Name, Names, Phrase,
    Pid, Process, ProcessId, Reading, RuleName, Signal, Snapshot, StartTime, SystemMemory, Uid, UnixTime,
    testing,
};

pub(crate) const MEMORY: SystemMemory =
    SystemMemory { total: Bytes(16 * Bytes::GIB), available: Bytes(8 * Bytes::GIB) };

/// Limits of 2 GB and 100 %, without any protection.
pub(crate) fn rules() -> Rules {
    Rules {
        limits: Limits::new(100.0, Bytes(2 * Bytes::GIB)).unwrap(),
        measure: Measure::Charged,
        whitelist: Whitelist::default(),
        scope: Scope::default(),
        honour_oom_score_adj: true,
        own_pid: Pid(99),
        rules: vec![],
        sums: vec![],
        exemptions: vec![],
    }
}

/// A rule that terminates above `limit`.
pub(crate) fn limit_rule(name: &str, matcher: Matcher, limit: RuleLimit) -> LimitRule {
    LimitRule {
        name: RuleName::new(name).unwrap(),
        matcher,
        limit,
        action: Action::Terminate,
        lasting: Duration::ZERO,
        signal: Signal::Term,
        grace: None,
        hard_ceiling: None,
        prefer: false,
        notify_user: None,
    }
}

/// A process that holds so many MiB, all of them its own.
pub(crate) fn reading(pid: u32, held: u64) -> Reading {
    let held = Bytes(held * Bytes::MIB);
    Reading { pid: Pid(pid), start: None, rss: held, held, shmem: Bytes::ZERO, error: Bytes::ZERO }
}

/// A firefox of user 1000, with 3 GB.
pub(crate) fn hog() -> Process {
    Process {
        parent: Pid(2000),
        rss: Bytes(3 * Bytes::GIB),
        names: Names {
            comm: "Isolated Web Co".into(),
            exe: Fact::Known("/usr/lib/firefox/firefox".into()),
            argv0: Fact::Known("/usr/bin/x-www-browser".into()),
            script: None,
        },
        cgroup: Fact::Known("/user.slice/user-1000.slice/app.scope".into()),
        facts: MatchFacts {
            groups: [Gid(1000), Gid(27)].into(),
            args: Fact::Known(vec!["/usr/bin/x-www-browser".into(), "--private".into()]),
            exe_file: Fact::Known("/usr/lib/firefox/firefox".into()),
            session: Fact::Absent,
            machine_fails: false,
        },
        ..testing::process(4242, 777)
    }
}

const UIDS: [u32; 4] = [0, 1, 1000, 1001];
const NAMES: [&[u8]; 10] = [
    b"sshd", b"ssh", b"a", b"ab", b"", b"/", b"[x]*", b"/usr/bin/a\xff", b"evil\n\x1b[31m\\",
    b"dir\xe2\x80\xae/ab",
];
const PATTERNS: [&str; 9] = ["sshd", "ssh", "a", "ab", "a*", "?", r"\[x\]\*", "*\n*", "{sshd,ab}"];
const CGROUPS: [&str; 4] = ["/", "/user.slice", "/user.slice/a.scope", "/system.slice/b.service"];
const CGROUP_PATTERNS: [&str; 4] = ["/user.slice/**", "/*", "**/a.scope", "/"];

fn uid() -> impl Strategy<Value = Uid> {
    select(&UIDS[..]).prop_map(Uid)
}

fn pid() -> impl Strategy<Value = Pid> {
    (1_u32..6).prop_map(Pid)
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        4 => select(&NAMES[..]).prop_map(Name::new),
        1 => vec(any::<u8>(), 0..20).prop_map(Name::new),
    ]
}

fn fact<T: Clone + std::fmt::Debug>(known: impl Strategy<Value = T>) -> impl Strategy<Value = Fact<T>> {
    prop_oneof![
        4 => known.prop_map(Fact::Known),
        1 => Just(Fact::Absent),
        1 => Just(Fact::Unreadable),
        1 => Just(Fact::Withheld),
    ]
}

/// A few bytes, and in rare cases nearly `u64::MAX`.
fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![9 => 0_u64..60, 1 => (u64::MAX - 2)..=u64::MAX].prop_map(Bytes)
}

pub(crate) fn limits() -> impl Strategy<Value = Limits> {
    let percent = prop_oneof![(1_u32..=100).prop_map(f64::from), 1e-9_f64..100.0];
    (percent, bytes())
        .prop_map(|(percent, bytes)| Limits::new(percent, bytes.max(Bytes(1))).expect("both are in range"))
}

pub(crate) fn memory() -> impl Strategy<Value = SystemMemory> {
    (bytes(), bytes()).prop_map(|(total, available)| SystemMemory { total, available })
}

pub(crate) fn any_process() -> impl Strategy<Value = Process> {
    let names = (name(), fact(name()), fact(name()));
    let names = names.prop_map(|(comm, exe, argv0)| Names { comm, exe, argv0, script: None });
    let cgroup = prop_oneof![4 => select(&CGROUPS[..]).prop_map(Name::from), 1 => name()];
    let score = prop_oneof![Just(-1000_i16), Just(0), -1000_i16..=1000];
    let error = prop_oneof![2 => Just(Bytes::ZERO), 1 => bytes()];
    let kernel_thread = prop::bool::weighted(0.1);
    let inherited = (bytes(), pid()).prop_map(|(bytes, elder)| Inherited { bytes, elder });
    let inherited = prop_oneof![3 => Just(Fact::Absent), 2 => fact(inherited)];
    let facts = (vec(select(&UIDS[..]), 0..3), fact(vec(name(), 0..3)), fact(name()));
    let facts = facts.prop_map(|(groups, args, exe_file)| MatchFacts {
        groups: groups.into_iter().map(Gid).collect(),
        args,
        exe_file,
        session: Fact::Absent,
        machine_fails: false,
    });
    let last = (kernel_thread, inherited, facts);
    (pid(), bytes(), error, uid(), uid(), names, fact(cgroup), fact(score), last).prop_map(
        |(pid, rss, error, real_uid, effective_uid, names, cgroup, oom_score_adj, last)| Process {
            id: ProcessId { pid, start: StartTime(1) },
            parent: Pid::INIT,
            rss,
            error,
            real_uid,
            effective_uid,
            names,
            cgroup,
            container: None,
            oom_score_adj,
            kernel_thread: last.0,
            inherited: last.1,
            holdings: None,
            launch: Launch::default(),
            parts: None,
            facts: last.2,
        },
    )
}

/// Any matcher, with `not` inside each other up to `depth`.
pub(crate) fn any_matcher(depth: u32) -> BoxedStrategy<Matcher> {
    let list = |patterns: &'static [&'static str]| option::weighted(0.2, vec(select(patterns), 1..3));
    let names = list(&PATTERNS).prop_map(|list| list.map(|list| NamePatterns::new(list).expect("patterns")));
    let exe = list(&["/usr/bin/*", "/**"]);
    let exe = exe.prop_map(|list| list.map(|list| ExePatterns::new(list).expect("patterns")));
    let args = list(&PATTERNS).prop_map(|list| list.map(|list| ArgPatterns::new(list).expect("patterns")));
    let uids = option::weighted(0.3, vec((uid(), uid()).prop_map(|(first, last)| first..=last), 0..3));
    let uids = uids.prop_map(|ranges| ranges.map(|ranges| ranges.into_iter().collect()));
    let groups = option::weighted(0.2, vec(select(&UIDS[..]), 0..2));
    let groups = groups.prop_map(|list| list.map(|list| list.into_iter().map(Gid).collect()));
    let cgroups = list(&CGROUP_PATTERNS);
    let cgroups = cgroups.prop_map(|list| list.map(|list| CgroupPatterns::new(list).expect("patterns")));
    let units = list(&["a.scope", "*.service"]);
    let units = units.prop_map(|list| list.map(|list| UnitPatterns::new(list).expect("patterns")));
    let not = if depth == 0 {
        Just(None).boxed()
    } else {
        option::weighted(0.2, any_matcher(depth - 1).prop_map(Box::new)).boxed()
    };
    (names, exe, args, uids, groups, cgroups, units, not)
        .prop_map(|(names, exe, args, uids, groups, cgroups, units, not)| Matcher {
            names,
            exe,
            args,
            uids,
            groups,
            cgroups,
            units,
            not,
        })
        .boxed()
}

pub(crate) fn any_limit_rule() -> impl Strategy<Value = LimitRule> {
    let own = (option::of((1_u32..=100).prop_map(f64::from)), bytes()).prop_map(|(percent, bytes)| {
        let bytes = (percent.is_none() || bytes.0 % 2 == 0).then_some(bytes.max(Bytes(1)));
        RuleLimit::Own { percent, bytes }
    });
    let limit = prop_oneof![3 => own, 1 => Just(RuleLimit::Thresholds), 1 => Just(RuleLimit::None)];
    let action = select(&[Action::Terminate, Action::Terminate, Action::Warn, Action::Stop][..]);
    let name = select(&["a", "b", "c"][..]).prop_map(|name| RuleName::new(name).expect("a name"));
    let ceiling = select(&[None, Some(0.0), Some(1.5)][..]);
    let all = (name, any_matcher(1), limit, action, any::<bool>(), ceiling);
    all.prop_map(|(name, matcher, limit, action, prefer, ceiling)| LimitRule {
        name,
        matcher,
        limit,
        action,
        lasting: Duration::ZERO,
        signal: crate::model::Signal::Term,
        grace: None,
        hard_ceiling: ceiling,
        prefer,
        notify_user: None,
    })
}

/// Mostly none; of processes with the start time that [`any_process`] has, and with another one.
fn any_exemptions() -> impl Strategy<Value = Vec<Exemption>> {
    let process = (pid(), 1_u64..3).prop_map(|(pid, start)| ProcessId { pid, start: StartTime(start) });
    let unit = select(&["a.scope", "b.service"][..]).prop_map(phrase);
    let of = prop_oneof![
        process.prop_map(Exempt::Process),
        uid().prop_map(Exempt::User),
        unit.prop_map(Exempt::Unit),
        Just(Exempt::Job(7)),
    ];
    let one = (1_u32..9, of, 0_u64..9).prop_map(|(id, of, until)| Exemption {
        id,
        of,
        until: UnixTime(until),
        by: Uid::ROOT,
        why: phrase("a batch"),
    });
    prop_oneof![2 => Just(vec![]), 1 => vec(one, 1..3)]
}

pub(crate) fn phrase(text: &str) -> Phrase {
    Phrase::try_from(text.to_owned()).expect("plain text")
}

pub(crate) fn any_rules() -> impl Strategy<Value = Rules> {
    let names =
        vec(select(&PATTERNS[..]), 0..3).prop_map(|names| NamePatterns::new(names).expect("patterns"));
    let pids = vec(pid(), 0..2).prop_map(|pids| pids.into_iter().collect());
    let users = vec(uid(), 0..2).prop_map(|uids| uids.into_iter().collect());
    let also = option::weighted(0.3, any_matcher(1)).prop_map(|matcher| {
        let matcher = matcher.unwrap_or_default();
        Matcher { names: None, not: None, ..matcher }
    });
    let whitelist =
        (pids, names, users, any::<bool>(), also).prop_map(|(pids, names, users, protect_root, also)| {
            Whitelist { pids, names, users, protect_root, also }
        });
    let uids = vec((uid(), uid()).prop_map(|(first, last)| first..=last), 0..3)
        .prop_map(|ranges| ranges.into_iter().collect());
    let cgroups = vec(select(&CGROUP_PATTERNS[..]), 0..3)
        .prop_map(|patterns| CgroupPatterns::new(patterns).expect("patterns"));
    let scope = (option::weighted(0.3, uids), option::weighted(0.3, cgroups))
        .prop_map(|(uids, cgroups)| Scope { uids, cgroups });
    let measure = select(&[Measure::Charged, Measure::Rss][..]);
    (limits(), measure, whitelist, scope, any::<bool>(), pid(), any_exemptions()).prop_map(
        |(limits, measure, whitelist, scope, honour_oom_score_adj, own_pid, exemptions)| Rules {
            limits,
            measure,
            whitelist,
            scope,
            honour_oom_score_adj,
            own_pid,
            rules: vec![],
            sums: vec![],
            exemptions,
        },
    )
}

pub(crate) fn any_snapshot() -> impl Strategy<Value = Snapshot> {
    (memory(), vec(any_process(), 0..12)).prop_map(|(memory, processes)| Snapshot { memory, processes })
}

/// The same with rules of `[[rule]]`.
pub(crate) fn rules_with_rules() -> impl Strategy<Value = Rules> {
    (any_rules(), vec(any_limit_rule(), 1..4)).prop_map(|(rules, own)| Rules { rules: own, ..rules })
}
