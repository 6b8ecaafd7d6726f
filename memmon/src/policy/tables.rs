//! Tables for each rule: the processes that it protects, and those that it does not.

use super::{
    CgroupPatterns, ExePatterns, Limits, Matcher, NamePatterns, RuleLimit, Rules, UidRanges, decide,
    fixtures::{MEMORY, hog, limit_rule, rules},
    judge, suspects,
};
use crate::model::{
    Breach, Bytes, Doubt, Fact, Limit, Name, NameField, Pid, Process, ProcessId, Protection, Reading,
    Snapshot, StartTime, Survey, Uid, Verdict,
};

fn names(entries: &[&str]) -> NamePatterns {
    NamePatterns::new(entries.iter().copied()).unwrap()
}

fn cgroups(entries: &[&str]) -> Option<CgroupPatterns> {
    Some(CgroupPatterns::new(entries.iter().copied()).unwrap())
}

fn uids(first: u32, last: u32) -> Option<UidRanges> {
    Some([Uid(first)..=Uid(last)].into_iter().collect())
}

fn verdict(change: impl FnOnce(&mut Rules, &mut Process)) -> Verdict {
    let (mut rules, mut process) = (rules(), hog());
    change(&mut rules, &mut process);
    judge(&rules, &process, &MEMORY)
}

/// A fact that the owner of a process withholds neither spares it nor gives it a larger limit; one that root withholds is a
/// doubt.
#[test]
fn a_rule_that_may_match_counts_against_the_owner_who_withholds_it() {
    let exe = || Matcher { exe: Some(ExePatterns::new(["/usr/lib/**"]).unwrap()), ..Matcher::default() };
    let not_exe = || Matcher { not: Some(Box::new(exe())), ..Matcher::default() };
    let small = RuleLimit::Own { percent: None, bytes: Some(Bytes(1 << 20)) };
    let judged = |matcher: Matcher, limit, file: Fact<Name>, uid| {
        verdict(|rules, process| {
            rules.rules = vec![limit_rule("r", matcher, limit)];
            process.facts.exe_file = file;
            if limit == small {
                process.rss = Bytes(100 << 20);
            }
            (process.real_uid, process.effective_uid) = (Uid(uid), Uid(uid));
        })
    };
    let known = || Fact::Known(Name::from("/usr/lib/firefox/firefox"));
    let by = |verdict| match verdict {
        Verdict::Terminate(Breach { by, .. }) => Some(by.map(|rule| rule.to_string())),
        _ => None,
    };
    assert_eq!(judged(exe(), RuleLimit::None, known(), 1000), Verdict::Within);
    // Mounted there in a namespace of the user's own, or withheld.
    for file in [Fact::Absent, Fact::Withheld] {
        assert_eq!(by(judged(exe(), RuleLimit::None, file, 1000)), Some(None));
    }
    assert!(matches!(judged(exe(), RuleLimit::None, Fact::Withheld, 0), Verdict::Unsure(_)));
    assert!(matches!(judged(exe(), RuleLimit::None, Fact::Unreadable, 1000), Verdict::Unsure(_)));
    // The smaller limit holds for a process that it may hold for.
    for file in [Fact::Absent, Fact::Withheld] {
        assert_eq!(by(judged(not_exe(), small, file, 1000)), Some(Some("r".to_owned())));
    }
    assert_eq!(judged(not_exe(), small, known(), 1000), Verdict::Within);
}

/// A case's name, its difference from an unprotected hog, and the expected protection.
type Case = (&'static str, fn(&mut Rules, &mut Process), Option<Protection>);

#[test]
fn each_rule_protects_exactly_the_processes_it_names() {
    let named = |pattern: &str, field, name: &str| {
        Some(Protection::Name { pattern: pattern.into(), field, name: Name::from(name) })
    };
    let user = |uid| Some(Protection::User { uid: Uid(uid) });
    let cases: Vec<Case> = vec![
        ("a hog", |_, _| (), None),
        ("pid 1", |_, p| p.id.pid = Pid(1), Some(Protection::Init)),
        ("pid 2", |_, p| p.id.pid = Pid(2), None),
        ("kernel thread", |_, p| p.kernel_thread = true, Some(Protection::KernelThread)),
        ("memmon", |_, p| p.id.pid = Pid(99), Some(Protection::Memmon)),
        ("memmon's child", |_, p| p.parent = Pid(99), None),
        ("pid", |r, _| _ = r.whitelist.pids.insert(Pid(4242)), Some(Protection::Pid { pid: Pid(4242) })),
        ("parent's pid", |r, _| _ = r.whitelist.pids.insert(Pid(2000)), None),
        (
            "comm",
            |r, _| r.whitelist.names = names(&["Isolated*"]),
            named("Isolated*", NameField::Comm, "Isolated Web Co"),
        ),
        ("exe", |r, _| r.whitelist.names = names(&["firefox"]), named("firefox", NameField::Exe, "firefox")),
        (
            "argv0",
            |r, _| r.whitelist.names = names(&["x-www-*"]),
            named("x-www-*", NameField::Argv0, "x-www-browser"),
        ),
        ("substring", |r, _| r.whitelist.names = names(&["fire", "Isolated", "fox"]), None),
        ("case", |r, _| r.whitelist.names = names(&["Firefox"]), None),
        ("a path", |r, _| r.whitelist.names = names(&["/usr/lib/firefox/firefox"]), None),
        ("a folder", |r, _| r.whitelist.names = names(&["lib"]), None),
        ("user", |r, _| _ = r.whitelist.users.insert(Uid(1000)), user(1000)),
        ("another user", |r, _| _ = r.whitelist.users.insert(Uid(1001)), None),
        (
            "started by root's set-user-ID",
            |r, p| {
                r.whitelist.users.insert(Uid(1000));
                p.effective_uid = Uid(0);
            },
            user(1000),
        ),
        (
            "became a listed user",
            |r, p| {
                r.whitelist.users.insert(Uid(33));
                p.effective_uid = Uid(33);
            },
            user(33),
        ),
        (
            "root, listed as in v1",
            |r, p| {
                r.whitelist.users.insert(Uid::ROOT);
                (p.real_uid, p.effective_uid) = (Uid::ROOT, Uid::ROOT);
            },
            None,
        ),
        (
            "root, listed and protected",
            |r, p| {
                r.whitelist.users.insert(Uid::ROOT);
                r.whitelist.protect_root = true;
                (p.real_uid, p.effective_uid) = (Uid::ROOT, Uid::ROOT);
            },
            Some(Protection::Root),
        ),
        (
            "protect_root, real",
            |r, p| {
                r.whitelist.protect_root = true;
                p.real_uid = Uid::ROOT;
            },
            Some(Protection::Root),
        ),
        (
            "protect_root, effective",
            |r, p| {
                r.whitelist.protect_root = true;
                p.effective_uid = Uid::ROOT;
            },
            Some(Protection::Root),
        ),
        ("protect_root, alice", |r, _| r.whitelist.protect_root = true, None),
        ("-1000", |_, p| p.oom_score_adj = Fact::Known(-1000), Some(Protection::OomScoreAdj)),
        ("-999", |_, p| p.oom_score_adj = Fact::Known(-999), None),
        (
            "-1000 not honoured",
            |r, p| {
                r.honour_oom_score_adj = false;
                p.oom_score_adj = Fact::Known(-1000);
            },
            None,
        ),
    ];
    check(cases);
}

#[test]
fn scope_requires_both_uids_and_the_cgroup() {
    let cases: Vec<Case> = vec![
        ("in", |r, _| r.scope.uids = uids(1000, 1000), None),
        ("out", |r, _| r.scope.uids = uids(1001, 2000), Some(Protection::OutOfScope)),
        ("nobody", |r, _| r.scope.uids = Some(UidRanges::default()), Some(Protection::OutOfScope)),
        (
            "effective out",
            |r, p| {
                r.scope.uids = uids(1000, 1000);
                p.effective_uid = Uid(0);
            },
            Some(Protection::OutOfScope),
        ),
        (
            "real out",
            |r, p| {
                r.scope.uids = uids(1000, 1000);
                p.real_uid = Uid(0);
            },
            Some(Protection::OutOfScope),
        ),
        ("cgroup in", |r, _| r.scope.cgroups = cgroups(&["/system.slice/**", "/user.slice/**"]), None),
        ("cgroup out", |r, _| r.scope.cgroups = cgroups(&["/system.slice/**"]), Some(Protection::OutOfScope)),
        (
            "no cgroup",
            |r, p| {
                r.scope.cgroups = cgroups(&["/**"]);
                p.cgroup = Fact::Absent;
            },
            Some(Protection::OutOfScope),
        ),
        ("no cgroup, none asked for", |_, p| p.cgroup = Fact::Unreadable, None),
        (
            "cgroup in, uid out",
            |r, _| {
                r.scope.cgroups = cgroups(&["/**"]);
                r.scope.uids = uids(0, 0);
            },
            Some(Protection::OutOfScope),
        ),
    ];
    check(cases);
}

fn check(cases: Vec<Case>) {
    for (what, change, protection) in cases {
        match (verdict(change), protection) {
            (Verdict::Protected(found), Some(expected)) => assert_eq!(found, expected, "{what}"),
            (Verdict::Terminate(_), None) => {}
            (found, expected) => panic!("{what}: {found:?}, not {expected:?}"),
        }
    }
}

#[test]
fn a_doubt_matters_only_if_no_other_rule_decides() {
    let unsure = |doubt| Verdict::Unsure(doubt);
    let exe = Doubt::NameUnreadable(NameField::Exe);
    let listed = |r: &mut Rules, p: &mut Process| {
        r.whitelist.names = names(&["sshd"]);
        p.names.exe = Fact::Unreadable;
    };
    assert_eq!(verdict(listed), unsure(exe));
    assert!(
        matches!(verdict(|_, p| p.names.exe = Fact::Unreadable), Verdict::Terminate(_)),
        "no name listed"
    );
    let small = verdict(|r, p| {
        listed(r, p);
        p.rss = Bytes::ZERO;
    });
    assert_eq!(small, Verdict::Within);
    let by_another_name = verdict(|r, p| {
        listed(r, p);
        p.names.comm = "sshd".into();
    });
    assert!(matches!(by_another_name, Verdict::Protected(Protection::Name { field: NameField::Comm, .. })));
    let by_user = verdict(|r, p| {
        listed(r, p);
        r.whitelist.users.insert(Uid(1000));
    });
    assert_eq!(by_user, Verdict::Protected(Protection::User { uid: Uid(1000) }));
    let none = verdict(|r, p| {
        r.whitelist.names = names(&["sshd"]);
        (p.names.exe, p.names.argv0) = (Fact::Absent, Fact::Absent);
    });
    assert!(matches!(none, Verdict::Terminate(_)), "an absent name is not a doubt: {none:?}");

    let argv0 = verdict(|r, p| {
        r.whitelist.names = names(&["sshd"]);
        p.names.argv0 = Fact::Unreadable;
    });
    assert_eq!(argv0, unsure(Doubt::NameUnreadable(NameField::Argv0)));
    let cgroup = verdict(|r, p| {
        r.scope.cgroups = cgroups(&["/**"]);
        p.cgroup = Fact::Unreadable;
    });
    assert_eq!(cgroup, unsure(Doubt::CgroupUnreadable));
    for score in [Fact::Unreadable, Fact::Absent] {
        let verdict = verdict(|_, p| p.oom_score_adj = score);
        assert_eq!(verdict, unsure(Doubt::OomScoreAdjUnreadable));
    }
}

#[test]
fn over_means_above_the_limit_by_more_than_the_error() {
    const LIMIT: u64 = 2 * Bytes::GIB;
    let limit = Bytes(LIMIT);
    for (rss, error, expected) in [
        (LIMIT, 0, "within"),
        (LIMIT + 1, 0, "over"),
        (LIMIT - 5, 5, "within"),
        (LIMIT - 5, 6, "unsure"),
        (LIMIT + 5, 5, "unsure"),
        (LIMIT + 6, 5, "over"),
        (u64::MAX, u64::MAX, "unsure"),
        (0, 0, "within"),
    ] {
        let (rss, error) = (Bytes(rss), Bytes(error));
        let verdict = verdict(|_, p| (p.rss, p.error) = (rss, error));
        let percent = rss.percent_of(MEMORY.total);
        let expected = match expected {
            "within" => Verdict::Within,
            "unsure" => Verdict::Unsure(Doubt::WithinError { limit, rss, error }),
            _ => Verdict::Terminate(Breach { rule: Limit::Gb, limit, rss, percent, by: None }),
        };
        assert_eq!(verdict, expected, "{rss:?} {error:?}");
    }
}

#[test]
fn exceeding_either_limit_terminates() {
    let by = |percent, gb| {
        let bytes = Bytes(gb * Bytes::GIB);
        match verdict(|r, _| r.limits = Limits::new(percent, bytes).unwrap()) {
            Verdict::Terminate(breach) => Some((breach.rule, breach.percent)),
            _ => None,
        }
    };
    assert_eq!(by(10.0, 2), Some((Limit::Percent, 18.75)));
    assert_eq!(by(10.0, 4), Some((Limit::Percent, 18.75)));
    assert_eq!(by(50.0, 2), Some((Limit::Gb, 18.75)));
    assert_eq!(by(50.0, 3), None);
    assert_eq!(by(18.75, 4), None);
}

#[test]
fn a_suspect_is_over_if_its_error_is_added() {
    let reading = |pid, rss, error| {
        let rss = Bytes(rss);
        Reading { pid: Pid(pid), start: None, rss, held: rss, shmem: Bytes::ZERO, error: Bytes(error) }
    };
    let limit = 2 * Bytes::GIB;
    let readings = vec![
        reading(1, limit + 1, 0),
        reading(2, limit, 0),
        reading(3, limit - 9, 10),
        reading(4, 0, u64::MAX),
    ];
    let found = suspects(&rules(), &Survey { memory: MEMORY, readings });
    assert_eq!(found.iter().map(|reading| reading.pid.0).collect::<Vec<_>>(), [1, 3, 4]);
}

#[test]
fn verdicts_keep_the_snapshots_order() {
    let processes: Vec<_> =
        (3..6).map(|pid| Process { id: ProcessId { pid: Pid(pid), start: StartTime(1) }, ..hog() }).collect();
    let snapshot = Snapshot { memory: MEMORY, processes };
    let pids: Vec<_> = decide(&rules(), &snapshot).iter().map(|(process, _)| process.id.pid.0).collect();
    assert_eq!(pids, [3, 4, 5]);
}
