//! Rules with `per`: what several processes hold together. In each test the limit of `[thresholds]` for one process is 32 MiB.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{
    TestUser,
    daemon::Daemon,
    eventually,
    hog::Hog,
    log::{RARELY, SOON, SOURCES, config},
    processes_of, within,
};

const TERM: Option<i32> = Some(libc::SIGTERM);
const KILL: Option<i32> = Some(libc::SIGKILL);

/// A rule in TOML for the sum of the processes of these users.
fn rule(users: &[&TestUser], keys: &str) -> String {
    let uids: Vec<_> = users.iter().map(|user| format!("\"{}\"", user.uid)).collect();
    format!("[{{ name = \"together\", uids = [{}], {keys} }}]", uids.join(", "))
}

/// A limit of so many MiB, in `gb`.
fn gb(mib: u32) -> String {
    format!("gb = {}", f64::from(mib) / 1024.0)
}

fn many(user: &TestUser, count: usize, script: &str) -> Vec<Hog> {
    let hogs: Vec<_> = (0..count).map(|_| user.hog(script)).collect();
    for hog in &hogs {
        hog.begun("hold");
    }
    hogs
}

/// A process that has all of its memory when it becomes the user's, so that it is the largest from the first look on.
fn joins(user: &TestUser, mib: u32) -> Hog {
    Hog::start(&format!("anon {mib}M uid {} hold", user.uid))
}

/// Resident memory of a hog in KiB, by /proc; none if it has ended.
fn resident(hog: &Hog) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", hog.pid())).unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    rss.map_or(0, |rss| rss.trim().trim_end_matches(" kB").parse().unwrap())
}

fn alive(hogs: &[Hog]) -> usize {
    hogs.iter().filter(|hog| hog.is_alive()).count()
}

/// The JSON that a command prints about the daemon.
fn daemon_reports(daemon: &Daemon, arguments: &[&str]) -> Value {
    let output = daemon.beside(env!("CARGO_BIN_EXE_memmon")).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Waits until the sums were looked at a few times more.
fn looked_at(daemon: &Daemon) {
    daemon.scanned();
    std::thread::sleep(Duration::from_millis(300));
    daemon.scanned();
}

fn sum_of(record: &Value) -> (&str, u64, u64, u64) {
    let number = |key: &str| record["sum"][key].as_u64().unwrap();
    (
        record["sum"]["rule_name"].as_str().unwrap(),
        number("total_bytes") >> 20,
        number("limit_bytes") >> 20,
        number("members"),
    )
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn of_twenty_small_processes_over_a_users_sum_only_the_largest_ends() {
    for source in SOURCES {
        let (user, other) = (TestUser::claim(), TestUser::claim());
        let rules = rule(&[&user, &other], &format!("per = \"user\", {}", gb(160)));
        let kept = many(&user, 1, "rename kept anon 28M hold");
        let others = many(&other, 8, "anon 24M hold");
        let small = many(&user, 18, "anon 6M hold");
        let keys = [("rule", rules.as_str()), ("whitelist.names", "[\"kept\"]")];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        let explained = daemon
            .beside(env!("CARGO_BIN_EXE_memmon"))
            .args(["explain", &small[0].pid().to_string()])
            .output();
        let explained = String::from_utf8(explained.unwrap().stdout).unwrap();
        assert!(
            explained.contains("rule together: user ") && explained.contains("within (18 other"),
            "{explained}"
        );
        looked_at(&daemon);
        assert_eq!(alive(&small), 18, "136 MiB and what each program has are below the limit");
        let status: Value = daemon_reports(&daemon, &["status", "--json"]);
        let shown = status["sums"].as_array().unwrap();
        let of = |uid: u32| shown.iter().find(|sum| sum["uid"] == uid).unwrap();
        assert_eq!((&status["sums_in_force"], shown.len()), (&2.into(), 2), "{status:#}");
        assert!(of(other.uid)["share_percent"].as_f64().unwrap() >= 120.0, "it comes first: {status:#}");
        assert_eq!(of(user.uid)["members"], 19);
        let (total, limit) = (of(user.uid)["total_bytes"].as_u64(), of(user.uid)["limit_bytes"].as_u64());
        assert!((136..=160).contains(&(total.unwrap() >> 20)) && limit.unwrap() >> 20 == 160, "{status:#}");
        assert_eq!(of(user.uid)["largest"][0]["pid"], kept[0].pid(), "{status:#}");
        let mut largest = user.hog("anon 26M hold");
        let (signal, record) = daemon.terminated(&mut largest);
        assert_eq!(signal, TERM);
        let (rule, total, limit, members) = sum_of(&record);
        assert_eq!((rule, limit, members), ("together", 160, 20));
        assert!((160..190).contains(&total), "{total} MiB");
        assert_eq!((&record["sum"]["per"], &record["sum"]["uid"]), (&"user".into(), &user.uid.into()));
        assert_eq!((&record["rule_name"], &record["cause"]), (&"together".into(), &"term".into()));
        looked_at(&daemon);
        assert_eq!((alive(&small), alive(&kept), alive(&others)), (18, 1, 8));
        assert_eq!(daemon.every("killing").len(), 1);
        let over = daemon.every("sum_over");
        let of_users = |uid: u32, then: &str| {
            over.iter().filter(|event| event["uid"] == uid && event["then"] == then).count()
        };
        assert_eq!(of_users(user.uid, "terminate"), 1, "{over:#?}");
        // The other user is out of scope, and so protected.
        assert_eq!(of_users(other.uid, "protected"), 1, "reported once: {over:#?}");
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_sum_is_taken_again_after_each_end_and_an_end_that_takes_long_is_not_waited_for() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"user\", grace = 3, hard_ceiling = 0, {}", gb(100)));
        let mut stubborn = many(&user, 1, "ignore-term anon 27M hold");
        let mut hogs = many(&user, 4, "anon 24M hold");
        // 123 MiB: the largest alone suffices, and ignores SIGTERM; the next one follows after a second.
        let begun = Instant::now();
        let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str())]), &["--source", source]);
        daemon.reported("killing", stubborn[0].pid());
        looked_at(&daemon);
        assert_eq!(alive(&hogs), 4, "what is ending counts as ended");
        assert_eq!(stubborn[0].ended_by(SOON), KILL);
        assert!(begun.elapsed() >= Duration::from_secs(3));
        looked_at(&daemon);
        assert_eq!(alive(&hogs), 4);
        let mut more = joins(&user, 28);
        assert_eq!(more.ended_by(SOON), TERM);
        looked_at(&daemon);
        assert_eq!(alive(&hogs), 4);
        for hog in &mut hogs {
            hog.release();
        }
        daemon.stop();
    }
}

/// The process is over its own limit, too, but the rule for that would not end it yet.
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_victim_of_a_sum_that_is_no_longer_over_is_spared_if_its_own_rule_only_stops_it_or_has_time() {
    for source in SOURCES {
        for own in ["for = \"1h\"", "action = \"stop\""] {
            let user = TestUser::claim();
            let uid = user.uid;
            let rules = format!(
                "[{{ name = \"own\", uids = [\"{uid}\"], {}, {own} }}, \
                  {{ name = \"together\", uids = [\"{uid}\"], per = \"user\", grace = 2, {} }}]",
                gb(28),
                gb(60)
            );
            let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str())]), &["--source", source]);
            let other = user.hog("anon 22M wait-term free hold");
            other.begun("wait-term");
            let victim = Hog::start(&format!("ignore-term anon 40M uid {uid} hold"));
            assert_eq!(daemon.reported("killing", victim.pid())["sum"]["rule_name"], "together");
            other.term();
            daemon.reported("spared", victim.pid());
            looked_at(&daemon);
            assert!(victim.is_alive() && other.is_alive());
            daemon.stop();
        }
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_newest_or_all_end_if_the_rule_has_it_so() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = format!(
            "[{{ name = \"newest\", uids = [\"{0}\"], names = [\"young*\"], per = \"user\", strike = \"newest\", {1} }}, \
              {{ name = \"all\", uids = [\"{0}\"], names = [\"batch\"], per = \"user\", strike = \"all\", {1} }}]",
            user.uid,
            gb(60)
        );
        let old = many(&user, 2, "rename young-1 anon 26M hold");
        let batch = many(&user, 3, "rename batch anon 16M hold");
        let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str())]), &["--source", source]);
        looked_at(&daemon);
        assert_eq!((alive(&old), alive(&batch)), (2, 3));
        assert_eq!(daemon.terminated(&mut user.hog("rename young-2 anon 10M hold")).0, TERM);
        let mut last = user.hog("rename batch anon 20M hold");
        assert_eq!(daemon.terminated(&mut last).0, TERM);
        eventually("all of the batch have ended", || alive(&batch) == 0);
        looked_at(&daemon);
        assert_eq!(alive(&old), 2);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_tree_and_a_program_are_summed_and_shared_memory_counts_once() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = format!(
            "[{{ name = \"tree\", uids = [\"{0}\"], names = [\"root-of\"], per = \"tree\", {1} }}, \
              {{ name = \"program\", uids = [\"{0}\"], per = \"program\", {2} }}]",
            user.uid,
            gb(50),
            gb(200)
        );
        // Each of the five maps the 24 MiB, and one is charged for them; forked pages are charged to the parent.
        let shared = user.hog("shmem 24M fork hold end fork hold end fork hold end fork hold end hold");
        let shared_by = shared.children("fork", 4);
        let small = user.hog("rename root-of anon 20M fork anon 12M hold end hold");
        small.begun("hold");
        let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str())]), &["--source", source]);
        looked_at(&daemon);
        assert!(shared.is_alive() && small.is_alive(), "32 MiB in the tree, and 24 MiB once");
        assert_eq!(daemon.every("killing"), Vec::<Value>::new());
        let mut large = user.hog("rename root-of anon 8M fork anon 20M hold end fork anon 28M hold end hold");
        let children = large.children("fork", 2);
        eventually("the largest of the tree is being terminated", || {
            !daemon.about("terminated", children[1]).is_empty()
        });
        let record = &daemon.about("terminated", children[1])[0];
        assert_eq!((&record["sum"]["per"], &record["sum"]["pid"]), (&"tree".into(), &large.pid().into()));
        looked_at(&daemon);
        assert!(large.is_alive() && shared.is_alive());
        assert_eq!(daemon.every("killing").len(), 1, "{shared_by:?}");
        large.release();
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn of_two_sessions_of_a_user_only_the_one_that_holds_too_much_loses_a_process() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"session\", {}", gb(60)));
        let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str())]), &["--source", source]);
        let session = |parts: usize| {
            let script = format!("{} hold", "fork anon 24M hold end ".repeat(parts));
            user.hog_after(&format!("login {}", user.uid), &script)
        };
        let (small, large) = (session(2), session(3));
        let held = [small.children("fork", 2), large.children("fork", 3)];
        let lives = |pid: &&u32| std::path::Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
        let living = |children: &[u32]| children.iter().filter(lives).count();
        eventually("one of the larger session has ended", || living(&held[1]) < 3);
        looked_at(&daemon);
        assert_eq!((living(&held[0]), living(&held[1])), (2, 2), "{source}");
        let ended = daemon.every("terminated");
        assert_eq!(ended.len(), 1, "{ended:?}");
        assert_eq!(ended[0]["sum"]["per"], "session", "{ended:?}");
        assert!(small.is_alive() && large.is_alive());
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_sum_is_found_between_two_scans_and_a_warning_ends_nobody() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = format!(
            "[{{ name = \"warned\", uids = [\"{0}\"], names = [\"warned\"], per = \"user\", action = \"warn\", {1} }}, \
              {{ name = \"ended\", uids = [\"{0}\"], per = \"user\", {1} }}]",
            user.uid,
            gb(60)
        );
        let keys = [("rule", rules.as_str()), RARELY];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        daemon.event("scan_complete");
        let warned = many(&user, 3, "rename warned anon 24M hold");
        let mut hogs = many(&user, 2, "anon 24M hold");
        let (signal, _) = daemon.terminated(&mut joins(&user, 28));
        assert_eq!(signal, TERM);
        eventually("the warning", || daemon.every("sum_over").iter().any(|event| event["then"] == "warn"));
        assert_eq!(daemon.scans(), 1, "no scan found it");
        assert_eq!((alive(&warned), alive(&hogs)), (3, 2));
        hogs.iter_mut().for_each(Hog::release);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_storm_of_small_processes_over_a_sum_ends_and_a_dry_run_only_shows_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"user\", {}", gb(100)));
        let keys = [("rule", rules.as_str()), RARELY];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source, "--dry-run"]);
        let storm = |count: usize| format!("{} hold", "fork anon 5M hold end ".repeat(count));
        let hog = user.hog(&storm(24));
        let children = hog.children("fork", 24);
        eventually("a dry run shows the fewest", || daemon.every("killing").len() >= 4);
        let shown = daemon.every("killing");
        assert!(shown.len() <= 8, "{}", shown.len());
        assert!(shown.iter().all(|event| event["dry_run"] == true && event["sum"]["per"] == "user"));
        assert!(hog.is_alive(), "{children:?}");
        daemon.stop();

        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        let over = |kind: &str| daemon.every(kind).len();
        eventually("the sum is below its limit", || over("terminated") >= 4);
        std::thread::sleep(Duration::from_secs(1));
        assert!((4..=8).contains(&over("terminated")), "{}", over("terminated"));
        assert_eq!(over("killing"), over("terminated"));
        daemon.stop();
    }
}

/// The anonymous memory of all processes of a user in KiB, with each page once, by /proc.
fn held_by(user: &TestUser) -> u64 {
    let anon = |pid: u32| -> Option<u64> {
        let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let anon = smaps.lines().find_map(|line| line.strip_prefix("Pss_Anon:"))?;
        anon.trim().trim_end_matches(" kB").parse().ok()
    };
    processes_of(user.uid).into_iter().filter_map(anon).sum()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_storm_that_goes_on_stays_near_the_limit_and_no_more_end_than_it_takes() {
    // Looks at /proc rest for ten times the CPU time that they took, which in a debug build is long.
    for (source, most) in [("ebpf", 220), ("proc", 240)] {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"user\", {}", gb(200)));
        let daemon =
            Daemon::start(&config(&user, &[("rule", rules.as_str()), RARELY]), &["--source", source]);
        daemon.event("scan_complete");
        // One child after the other, 30 MiB/s, up to 288 MiB: from the limit to 1.2 times as much it takes 1.3 seconds.
        let storm = "grow 8K 40K/s fork anon 3M hold end ".repeat(96);
        let mut storm = user.hog(&format!("{storm} hold"));
        let ended = || daemon.every("terminated").len();
        let mut peak = 0;
        within(Duration::from_secs(60), "the storm is over, and its sum is below the limit", || {
            let held = held_by(&user);
            peak = peak.max(held);
            ended() >= 29 && held <= 200 << 10
        });
        println!("{source}: at most {} MiB, {} ended", peak >> 10, ended());
        assert!(peak <= most << 10, "{source}: {} MiB", peak >> 10);
        // For looks that would end too many.
        std::thread::sleep(Duration::from_secs(1));
        let left = held_by(&user) >> 10;
        assert!(left >= 190, "{source}: {left} MiB are left, {} ended", ended());
        storm.release();
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_counts_for_the_user_that_it_becomes_and_the_one_that_grows_ends_first() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"user\", strike = \"growing\", {}", gb(70)));
        // Root's until they get SIGTERM.
        let hogs: Vec<_> =
            (0..3).map(|_| Hog::start(&format!("anon 20M wait-term uid {} hold", user.uid))).collect();
        for hog in &hogs {
            hog.begun("wait-term");
        }
        let keys = [("rule", rules.as_str()), RARELY];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        daemon.event("scan_complete");
        for hog in &hogs {
            hog.term();
            hog.begun("hold");
        }
        let mut growing = user.hog("anon 4M grow 24M 4M/s hold");
        let (signal, record) = daemon.terminated(&mut growing);
        assert_eq!((signal, &record["sum"]["members"]), (TERM, &4.into()));
        assert_eq!(alive(&hogs), 3);
        assert_eq!(daemon.every("killing").len(), 1);
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_sum_that_grows_is_found_soon_after_it_crosses_its_limit() {
    for source in SOURCES {
        let user = TestUser::claim();
        let rules = rule(&[&user], &format!("per = \"user\", {}", gb(160)));
        let keys = [("rule", rules.as_str()), RARELY];
        let daemon = Daemon::start(&config(&user, &keys), &["--source", source]);
        daemon.event("scan_complete");
        // Together 60 MiB per second, up to 240 MiB.
        let hogs: Vec<_> = (0..10).map(|_| user.hog("grow 24M 6M/s hold")).collect();
        // Their growth until memmon has its turn depends on the machine: the test is that the looks come often.
        eventually("the sum exceeds its limit", || {
            hogs.iter().map(resident).sum::<u64>() > 160 << 10 || !daemon.every("killing").is_empty()
        });
        let crossed = Instant::now();
        let first = daemon.event("killing");
        assert!(crossed.elapsed() < Duration::from_secs(2), "{source}: {:?}", crossed.elapsed());
        let total = first["sum"]["total_bytes"].as_u64().unwrap() >> 20;
        assert!(total >= 160 && (*source == "proc" || total < 192), "{source}: {total} MiB");
        assert_eq!(daemon.scans(), 1, "no scan found it");
        drop(hogs);
        daemon.stop();
    }
}

#[cfg(feature = "ebpf")]
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_process_that_the_map_cannot_hold_takes_the_kernel_from_no_other_sum() {
    let (user, other) = (TestUser::claim(), TestUser::claim());
    // The kernel accounts their memory to the first of the two.
    let sharer = other.hog("anon 2M share hold");
    sharer.begun("hold");
    let keys = [("rule", &*rule(&[&user], &format!("per = \"user\", {}", gb(160)))), RARELY];
    let debug = ("log.level", "\"debug\"");
    let config = config(&user, &[&keys[..], &[debug]].concat());
    let daemon = Daemon::start(&config, crate::common::log::EBPF);
    daemon.line("a look", |line| line.contains("looked at the sums") && line.contains("is_watched=true"));
    daemon.stop();
}

#[cfg(feature = "ebpf")]
#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_kernel_wakes_memmon_at_the_crossing_of_a_users_or_a_cgroups_sum() {
    let (user, cgroup) = (TestUser::claim(), crate::common::cgroup::Cgroup::new("sums", &["inner"]));
    let rules = format!(
        "[{{ name = \"user\", uids = [\"{0}\"], per = \"user\", {1} }}, \
          {{ name = \"cgroup\", uids = [\"{0}\"], per = \"cgroup\", cgroups = [\"{2}/**\", \"{2}/inner\"], {3} }}]",
        user.uid,
        gb(200),
        cgroup.name(),
        gb(70)
    );
    let daemon = Daemon::start(&config(&user, &[("rule", rules.as_str()), RARELY]), crate::common::log::EBPF);
    daemon.event("scan_complete");
    let mut hogs: Vec<_> = (0..9).map(|_| user.hog("anon 2M wait-term anon 23M hold")).collect();
    for hog in &hogs {
        hog.begun("wait-term");
    }
    // Beyond the look that sees them, the next one is seconds away, and the next scan an hour.
    std::thread::sleep(Duration::from_secs(6));
    for hog in &hogs {
        hog.term();
    }
    let grown = Instant::now();
    assert_eq!(daemon.event("killing")["sum"]["rule_name"], "user");
    assert!(grown.elapsed() < Duration::from_secs(3), "{:?}", grown.elapsed());
    let ended = || daemon.every("terminated").len();
    eventually("the sum is below its limit", || alive(&hogs) <= 7 && ended() == 9 - alive(&hogs));
    hogs.retain(Hog::is_alive);

    // The memory of the processes moves with them.
    let before = ended();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(ended(), before);
    for hog in &hogs[..3] {
        cgroup.take(hog);
    }
    let moved = Instant::now();
    eventually("one of the cgroup ends", || {
        daemon.every("killing").iter().any(|killing| killing["sum"]["rule_name"] == "cgroup")
    });
    assert!(moved.elapsed() < Duration::from_secs(3), "{:?}", moved.elapsed());
    assert_eq!(daemon.scans(), 1, "no scan found it");
    daemon.stop();
}
