//! The text as a person reads it, and what must never be in it.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::{Known, explain};
use crate::{
    config::{FakeUsers, HostileUsers},
    model::{Bytes, Fact, Inherited, Name, NamespaceInit, Pid, Process, Snapshot, Uid},
    policy::{
        self, NamePatterns, Rules, Scope,
        fixtures::{MEMORY, any_rules, any_snapshot, hog, limit_rule, rules},
    },
    status::{Growth, Waiting},
};

const USERS: FakeUsers = FakeUsers(&[("root", 0), ("alice", 1000)]);

fn explained(change: impl FnOnce(&mut Rules, &mut Process)) -> String {
    let (mut rules, mut process) = (rules(), hog());
    rules.whitelist.pids.insert(Pid(1));
    rules.whitelist.names = NamePatterns::new(["systemd", "kernel", "init", "sshd", "docker"]).unwrap();
    rules.whitelist.users.insert(Uid::ROOT);
    change(&mut rules, &mut process);
    let snapshot = Snapshot { memory: MEMORY, processes: vec![process] };
    let known = Known { rules_from: "/etc/memmon/config.toml (no daemon)".to_owned(), ..Known::default() };
    let text = explain(&rules, &snapshot, false, &USERS, &known).unwrap();
    let (source, text) = text.split_once("\n\n").unwrap();
    assert_eq!(source, "by the rules of /etc/memmon/config.toml (no daemon)");
    text.to_owned()
}

#[test]
fn inherited_memory_is_shown_with_the_process_that_is_charged_for_it() {
    let text = explained(|_, process| {
        let inherited = Inherited { bytes: Bytes(5 * Bytes::GIB / 2), elder: Pid(4000) };
        process.inherited = Fact::Known(inherited);
    });
    let (_, verdict) = text.split_once("would protect\n").unwrap();
    assert_snapshot!(verdict, @r"
      memmon exempt           no        none
      thresholds              inherited  over 16.00GB (100% of memory) or 2.00GB

    left alone: it was forked with 2.50GB that pid 4000 holds as well, and the other
      0.50GB do not exceed 2.00GB
    would be terminated
      with more than 4.50GB resident
    ");
}

#[test]
fn a_hog_under_v1s_own_configuration() {
    let text = explained(|rules, _| {
        rules.limits = policy::Limits::new(10.0, Bytes(2 * Bytes::GIB)).unwrap();
    });
    assert_snapshot!(text, @r#"
    pid 4242, Isolated Web Co
      exe       /usr/lib/firefox/firefox
      argv[0]   /usr/bin/x-www-browser
      user      alice (1000)
      cgroup    /user.slice/user-1000.slice/app.scope
      resident  3.00GB of 16.00GB (18.75%)

      pid 1                   no        never touched
      kernel thread           no        never touched
      memmon itself           no        pid 99
      scope                   inside    everything
      whitelist.pids          no        1
      whitelist.names         no        "systemd", "kernel", "init", "sshd",
                                        "docker"
      whitelist.users         no        root (0, see protect_root)
      whitelist.protect_root  no        false
      oom_score_adj           no        0; -1000 would protect
      memmon exempt           no        none
      thresholds              exceeded  over 1.60GB (10% of memory) or 2.00GB

    terminated: 3.00GB resident exceeds ram_percent_threshold 1.60GB
    would be left alone
      with 1.60GB resident or less
      with ram_percent_threshold = 18.75, and with ram_gb_threshold = 3.00
    would be protected
      with "Isolated Web Co" in whitelist.names
      with 4242 in whitelist.pids
      with "alice" in whitelist.users
    "#);
}

#[test]
fn the_first_process_of_a_pid_namespace_takes_the_others_with_it() {
    let first = |handles_term: bool| {
        let text = explained(|_, process| {
            process.launch.init = Some(NamespaceInit { takes: u64::from(handles_term) << 14 });
        });
        text.lines().find_map(|line| line.strip_prefix("  first     ")).unwrap().to_owned()
    };
    assert_eq!(first(true), "of its pid namespace: all processes there end with it");
    assert!(first(false).ends_with("as it neither handles nor blocks SIGTERM, only SIGKILL ends it"));
}

#[test]
fn jobs_and_containers_are_named() {
    let head = |cgroup: &str| {
        let text = explained(|_, process| process.cgroup = Fact::Known(Name::from(cgroup)));
        let lines = text.lines().skip_while(|line| !line.contains("cgroup    ")).skip(1);
        lines.take_while(|line| !line.contains("resident")).map(str::trim).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(head("/system.slice/nginx.service"), "");
    assert_eq!(
        head("/system.slice/n1_slurmstepd.scope/job_2/step_batch/user/task_0"),
        "job       2 of Slurm, step batch, task 0 on node n1"
    );
    assert_eq!(
        head("/kubepods/pod11111111-2222-3333-4444-555555555555/crio-ab.scope"),
        "container ab of cri-o, in pod 11111111-2222-3333-4444-555555555555"
    );
}

#[test]
fn a_container_has_the_names_that_its_runtime_keeps() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("run/containerd/io.containerd.runtime.v2.task/k8s.io").join(ID);
    std::fs::create_dir_all(&bundle).unwrap();
    let annotations = "{\"annotations\":{\"io.kubernetes.cri.container-name\":\"web\",\
                       \"io.kubernetes.cri.sandbox-name\":\"sh\\nop\",\"io.kubernetes.cri.sandbox-namespace\":\"prod\"}}";
    std::fs::write(bundle.join("config.json"), annotations).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&bundle).unwrap());
    let files = crate::report::ContainerFiles { roots: vec![folder.path().to_owned()], owner };

    let cgroup = format!("/kubepods/pod11111111-2222-3333-4444-555555555555/cri-containerd-{ID}.scope");
    let process = Process { cgroup: Fact::Known(Name::from(&*cgroup)), ..hog() };
    let outside = Process { cgroup: Fact::Known(Name::from("/system.slice/nginx.service")), ..hog() };
    assert!(super::containers(&files, &[outside]).is_empty());
    let known =
        Known { containers: super::containers(&files, std::slice::from_ref(&process)), ..Known::default() };
    let snapshot = Snapshot { memory: MEMORY, processes: vec![process] };
    let shown = |json| explain(&rules(), &snapshot, json, &USERS, &known).unwrap();
    let line = format!(
        "  container {ID} of containerd, named web, in pod sh\\nop (11111111-2222-3333-4444-555555555555) of namespace prod\n"
    );
    assert!(shown(false).contains(&line), "{}", shown(false));
    let json: serde_json::Value = serde_json::from_str(&shown(true)).unwrap();
    let names = serde_json::json!({ "name": "web", "pod_name": "sh\\nop", "namespace": "prod" });
    assert_eq!(json[0]["container"], names);
}

#[test]
fn a_hostile_name_protected_twice() {
    let text = explained(|rules, process| {
        process.names.comm = Name::new(*b"sshd\n\x1b[2Jx\xff");
        (process.real_uid, process.effective_uid) = (Uid(1000), Uid(33));
        process.cgroup = Fact::Absent;
        rules.whitelist.names = NamePatterns::new(["sshd*", "nginx"]).unwrap();
        rules.whitelist.users.insert(Uid(33));
    });
    assert_snapshot!(text, @r#"
    pid 4242, sshd\n\u{1b}[2Jx\xff
      exe       /usr/lib/firefox/firefox
      argv[0]   /usr/bin/x-www-browser
      user      alice (1000), in effect uid 33
      cgroup    (none)
      resident  3.00GB of 16.00GB (18.75%)

      pid 1                   no        never touched
      kernel thread           no        never touched
      memmon itself           no        pid 99
      scope                   inside    everything
      whitelist.pids          no        1
      whitelist.names         protects  its comm "sshd\n\u{1b}[2Jx\xff" matches
                                        "sshd*"
      whitelist.users         protects  root (0, see protect_root), uid 33
      whitelist.protect_root  no        false
      oom_score_adj           no        0; -1000 would protect
      memmon exempt           no        none
      thresholds              exceeded  over 16.00GB (100% of memory) or 2.00GB

    left alone: its comm "sshd\n\u{1b}[2Jx\xff" matches "sshd*" in whitelist.names
    would be terminated
      without "sshd*" in whitelist.names, and without "33" in whitelist.users
    "#);
}

#[test]
fn in_doubt() {
    let text = explained(|rules, process| {
        process.names.exe = Fact::Unreadable;
        process.cgroup = Fact::Unreadable;
        process.error = Bytes(3 << 20);
        rules.scope = Scope {
            uids: Some([Uid(1000)..=Uid(59_999), Uid(47)..=Uid(47)].into_iter().collect()),
            cgroups: Some(policy::CgroupPatterns::new(["/user.slice/**"]).unwrap()),
        };
        rules.honour_oom_score_adj = false;
    });
    assert_snapshot!(text, @"
    pid 4242, Isolated Web Co
      exe       (unreadable)
      argv[0]   /usr/bin/x-www-browser
      user      alice (1000)
      cgroup    (unreadable)
      resident  3.00GB of 16.00GB (18.75%), give or take 3.0MB

      pid 1                   no        never touched
      kernel thread           no        never touched
      memmon itself           no        pid 99
      scope                   unclear   its cgroup is unreadable, and scope or a
                                        list of cgroups asks for it
      whitelist.pids          no        1
      whitelist.names         unclear   its exe is unreadable, and might be in
                                        whitelist.names
      whitelist.users         no        root (0, see protect_root)
      whitelist.protect_root  no        false
      oom_score_adj           no        not honoured
      memmon exempt           no        none
      thresholds              exceeded  over 16.00GB (100% of memory) or 2.00GB

    left alone, in doubt: its cgroup is unreadable, and scope or a list of cgroups
      asks for it
    would be left alone
      with 2.00GB resident or less
    would be terminated
      with a readable cgroup that is in scope, and with a readable exe that is not
        whitelisted
    ");
}

/// Without CAP_SYS_PTRACE memmon may not read it of other users' processes, and their owners withhold nothing.
#[test]
fn an_executable_that_memmon_may_not_read() {
    let text = explained(|_, process| process.names.exe = Fact::Withheld);
    assert!(text.contains("\n  exe       (withheld from memmon)\n"), "{text}");
}

#[test]
fn a_small_one_and_one_at_its_limit() {
    let sentences = |rss: u64, error: u64| {
        let text = explained(|_, process| (process.rss, process.error) = (Bytes(rss), Bytes(error)));
        text.split_once("\n\n").and_then(|(_, rest)| rest.split_once("\n\n")).unwrap().1.to_owned()
    };
    assert_snapshot!(sentences(5 << 20, 0), @"
    left alone: 5.0MB resident does not exceed ram_gb_threshold 2.00GB
    would be terminated
      with more than 2.00GB resident
    ");
    assert_snapshot!(sentences((2 << 30) + 4096, 0), @r#"
    terminated: 2147487744B resident exceeds ram_gb_threshold 2147483648B
    would be left alone
      with 2147483648B resident or less
      with ram_gb_threshold = 2.01
    would be protected
      with "Isolated Web Co" in whitelist.names
      with 4242 in whitelist.pids
      with "alice" in whitelist.users
    "#);
    assert_snapshot!(sentences(2 << 30, 4096), @"
    left alone, in doubt: 2.00GB resident, give or take 4KB, is too near to its
      limit 2.00GB
    would be left alone
      with 2147479552B resident or less
    would be terminated
      with more than 2147487744B resident
    ");
}

#[test]
fn a_delayed_termination_is_reported_only_if_it_is_delayed() {
    let waiting = |since_boot_seconds| Waiting {
        program: "/usr/lib/firefox/firefox".into(),
        script: None,
        cgroup: Some("/user.slice/user-1000.slice/app.scope".into()),
        container: None,
        unit: Some("app.scope".into()),
        uid: hog().real_uid,
        rule: None,
        times: 5,
        wait_seconds: 60.0,
        left_seconds: 43.0,
        since_boot_seconds,
    };
    let snapshot = Snapshot { memory: MEMORY, processes: vec![hog()] };
    let started = hog().id.start.since_boot().as_secs_f64();
    let known = |waiting| Known { held_back: vec![waiting], ..Known::default() };
    let explained =
        |rules: &Rules, waiting| explain(rules, &snapshot, false, &USERS, &known(waiting)).unwrap();
    let text = explained(&rules(), waiting(started));
    let printed =
        "  not before 43s from now: its like of app.scope was terminated 5 times and\n    comes back\n";
    assert!(text.contains(printed), "{text}");
    let json = explain(&rules(), &snapshot, true, &USERS, &known(waiting(started))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["held_back"]["times"], 5);
    let (mut in_pod, mut web) = (waiting(started), hog());
    let (pod, id) = ("/kubepods/burstable/pod12-3", "ab".repeat(32));
    (in_pod.cgroup, in_pod.container) = (Some(pod.into()), Some("web".into()));
    (web.cgroup, web.container) = (Fact::Known(format!("{pod}/{id}").as_str().into()), Some("web".into()));
    let snapshot_of = |process| Snapshot { memory: MEMORY, processes: vec![process] };
    let text = explain(&rules(), &snapshot_of(web), false, &USERS, &known(in_pod)).unwrap();
    let printed = "its like of container web in\n    /kubepods/burstable/pod12-3 was terminated 5 times";
    assert!(text.contains(printed), "{text}");
    // It was there before, it is another one, or it is not over its limit at all.
    let mut quiet = rules();
    quiet.limits = policy::Limits::new(100.0, Bytes(8 * Bytes::GIB)).unwrap();
    let other = Waiting { program: "/usr/bin/other".into(), ..waiting(started) };
    let of_another = Waiting { uid: Uid::ROOT, ..waiting(started) };
    let in_container = Waiting { container: Some("web".into()), ..waiting(started) };
    for (rules, waiting) in [
        (&rules(), waiting(started + 1.0)),
        (&rules(), other),
        (&rules(), of_another),
        (&rules(), in_container),
        (&quiet, waiting(started)),
    ] {
        assert!(!explained(rules, waiting).contains("not before"));
    }
}

#[test]
fn growth_is_reported_where_a_daemon_knows_it() {
    let snapshot = Snapshot { memory: MEMORY, processes: vec![hog()] };
    let reported = |bytes_per_second, seconds_to_limit, json| {
        let growths = [(hog().id, Growth { bytes_per_second, seconds_to_limit })].into();
        let known = Known { growths, ..Known::default() };
        explain(&rules(), &snapshot, json, &USERS, &known).unwrap()
    };
    let line = |text: String| text.lines().find(|line| line.contains("growth")).map(str::to_owned);
    let rate = Some(1_572_864.0);
    let printed = line(reported(rate, Some(43.0), false));
    assert_eq!(printed.as_deref(), Some("  growth    1.5MB/s, at its limit in 43s"));
    assert_eq!(line(reported(rate, None, false)).as_deref(), Some("  growth    1.5MB/s"));
    assert_eq!(line(reported(None, None, false)), None);
    let json: serde_json::Value = serde_json::from_str(&reported(rate, Some(43.0), true)).unwrap();
    assert_eq!(
        json[0]["growth"],
        serde_json::json!({ "growth_bytes_per_second": 1_572_864.0, "seconds_to_limit": 43.0 })
    );
}

#[test]
fn pid_1() {
    let text = explained(|_, process| process.id.pid = Pid(1));
    assert!(text.ends_with("\nleft alone: pid 1 is never touched\n"), "{text}");
}

#[test]
fn several_processes_are_several_texts_and_one_array() {
    let snapshot = Snapshot { memory: MEMORY, processes: vec![hog(), hog()] };
    let text = explain(&rules(), &snapshot, false, &USERS, &Known::default()).unwrap();
    assert_eq!(text.matches("terminated: 3.00GB resident").count(), 2);
    let json = explain(&rules(), &snapshot, true, &USERS, &Known::default()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    assert_eq!(json[1]["process"]["id"]["pid"], 4242);
    assert_eq!(json[1]["verdict"]["terminate"]["rule"], "gb");
    assert_eq!(json[1]["rules"]["limits"]["percent"], 100.0);
    let shrink = serde_json::json!({ "changes": [{ "shrink": { "to": 2_u64 << 30 } }], "verdict": "within" });
    assert_eq!(json[1]["otherwise"][0], shrink);
}

proptest! {
    #[test]
    fn nothing_of_a_process_reaches_a_terminal_unescaped(rules in any_rules(), snapshot in any_snapshot()) {
        let text = explain(&rules, &snapshot, false, &HostileUsers, &Known::default()).unwrap();
        for line in text.lines() {
            prop_assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
        let json = explain(&rules, &snapshot, true, &USERS, &Known::default()).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }
}

#[test]
fn the_first_signal_and_the_stop_of_a_rule_are_shown() {
    let shown = |keys: &str| {
        let text = format!("[[rule]]\nname = 'batch'\nuids = ['0-60000']\ngb = 1\n{keys}");
        let users = crate::config::FakeUsers(&[]);
        let loaded = crate::config::parse(&text, std::path::Path::new("c"), &users).unwrap();
        let rules = Rules { rules: loaded.settings.rules.rules, ..rules() };
        let snapshot = Snapshot { memory: MEMORY, processes: vec![hog()] };
        explain(&rules, &snapshot, false, &USERS, &Known::default()).unwrap().replace("\n  ", " ")
    };
    let signal = shown("signal = 'SIGINT'");
    assert!(
        signal.contains("over 1.00GB, SIGINT first") && signal.contains("1.00GB; SIGINT comes first"),
        "{signal}"
    );
    let stop = shown("action = 'stop'\nhard_ceiling = 100");
    assert!(stop.contains("over 1.00GB, stops it"), "{stop}");
    assert!(
        stop.contains("\nstopped (SIGSTOP): ") && stop.contains("exceeds gb of rule batch, 1.00GB"),
        "{stop}"
    );
    let ceiling = shown("action = 'stop'\nhard_ceiling = 1");
    assert!(ceiling.contains("\nterminated: "), "{ceiling}");
}

#[test]
fn a_sum_is_shown_with_the_other_processes_in_it() {
    let rule = policy::SumRule {
        rule: limit_rule(
            "students",
            policy::Matcher {
                uids: Some([Uid(1000)..=Uid(1999)].into_iter().collect()),
                ..policy::Matcher::default()
            },
            policy::RuleLimit::Own { percent: None, bytes: Some(Bytes(2 * Bytes::GIB)) },
        ),
        per: crate::model::Per::User,
        strike: policy::Strike::Largest,
    };
    let rules = Rules { sums: vec![rule], ..rules() };
    let process = |pid: u32, mib: u64| {
        let id = crate::model::ProcessId { pid: Pid(pid), ..hog().id };
        Process { id, rss: Bytes(mib << 20), ..hog() }
    };
    let processes = vec![process(70, 1900), process(71, 300), process(72, 200)];
    let sums = || -> Vec<_> {
        let groups = policy::groups(&rules, &MEMORY, &processes);
        groups.iter().map(|group| policy::Sum::new(&rules, &MEMORY, group)).collect()
    };
    let shown = |at: usize, json: bool| {
        let known = Known { sums: sums(), ..Known::default() };
        let snapshot = Snapshot { memory: MEMORY, processes: vec![processes[at].clone()] };
        explain(&rules, &snapshot, json, &USERS, &known).unwrap()
    };
    let sentence = |at| {
        let text = shown(at, false);
        let (_, rest) = text.split_once("\nrule students").unwrap();
        rest.split("\nwould ").next().unwrap().to_owned()
    };
    assert_snapshot!(sentence(0), @r"
    : user alice (1000) holds 2.34GB, limit 2.00GB: exceeded, and this
      process ends for it (2 other processes: 71 Isolated Web Co 0.29GB, 72 Isolated
      Web Co 0.20GB)
      would end first: 70 Isolated Web Co 1.86GB, 71 Isolated Web Co 0.29GB, 72
        Isolated Web Co 0.20GB (the largest first, as few as it takes)
      would be within its limit with 0.34GB less, or with gb = 2.35 in rule students
    ");
    assert_snapshot!(sentence(2), @r"
    : user alice (1000) holds 2.34GB, limit 2.00GB: exceeded, and pid
      70 ends, but not this one (2 other processes: 70 Isolated Web Co 1.86GB, 71
      Isolated Web Co 0.29GB)
      would end first: 70 Isolated Web Co 1.86GB, 71 Isolated Web Co 0.29GB, 72
        Isolated Web Co 0.20GB (the largest first, as few as it takes)
      would be within its limit with 0.34GB less, or with gb = 2.35 in rule students
    ");
    let mut throttled = rules.clone();
    for sum in &mut throttled.sums {
        (sum.rule.action, sum.rule.hard_ceiling) = (crate::model::Action::Throttle, Some(2.0));
    }
    let known = policy::groups(&throttled, &MEMORY, &processes);
    let known = known.iter().map(|group| policy::Sum::new(&throttled, &MEMORY, group)).collect();
    let snapshot = Snapshot { memory: MEMORY, processes: vec![processes[2].clone()] };
    let text = explain(&throttled, &snapshot, false, &USERS, &Known { sums: known, ..Known::default() });
    let text = text.unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains(
            "rule students: user alice (1000) holds 2.34GB, limit 2.00GB: exceeded, its cgroup is slowed down (2 other \
             processes: 70 Isolated Web Co 1.86GB, 71 Isolated Web Co 0.29GB) with more than 4.00GB would end first: 70 Isolated \
             Web Co 1.86GB, 71"
        ),
        "{text}"
    );
    // Its memory.high holds the sum below the limit.
    for sum in &mut throttled.sums {
        sum.rule.limit = policy::RuleLimit::Own { percent: None, bytes: Some(Bytes(4 << 30)) };
    }
    let known = policy::groups(&throttled, &MEMORY, &processes);
    let sums: Vec<_> = known.iter().map(|group| policy::Sum::new(&throttled, &MEMORY, group)).collect();
    let cgroup = crate::status::ThrottledCgroup {
        rule: "students".into(),
        group: (&sums[0].key).into(),
        throttled_cgroup: "/user.slice".into(),
        limit_bytes: Bytes(4 << 30),
        high_bytes: Bytes(4 << 30),
        before_bytes: None,
        times: 1,
        since_seconds: 2.0,
        slowed: Some(17),
    };
    let of_another = crate::status::ThrottledCgroup { rule: "others".into(), ..cgroup.clone() };
    for (cgroups, expected) in [(vec![of_another.clone(), cgroup], true), (vec![of_another], false)] {
        let known = Known { sums: sums.clone(), throttled: cgroups, ..Known::default() };
        let text = explain(&throttled, &snapshot, false, &USERS, &known).unwrap();
        assert!(text.contains("limit 4.00GB: within"), "{text}");
        let line = "\n  its cgroup is slowed down now: memory.high=4.00GB, before max\n";
        assert_eq!(text.contains(line), expected, "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&shown(2, true)).unwrap();
    let sum = &json[0]["sums"][0];
    assert_eq!((&sum["state"], &sum["per"], &sum["members"]), (&"over".into(), &"user".into(), &3.into()));
    assert_eq!((&sum["processes"][0]["pid"], &sum["processes"][0]["is_next"]), (&70.into(), &true.into()));
}
