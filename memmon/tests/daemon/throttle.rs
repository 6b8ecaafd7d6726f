//! Rules with `action = "throttle"`, in a real unit of the unified hierarchy. Its files of the memory controller are made for
//! the test, because this machine may have that controller in the hierarchy of version 1.

use std::{
    fs,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    mount::{MsFlags, mount},
    sys::signal::Signal,
};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::common::{
    TestUser,
    cgroup::Cgroup,
    daemon::{Daemon, ScopedConfig, with_file},
    eventually,
    hog::Hog,
    log::{SOURCES, config},
};

/// The limit of the rule: 32 MiB.
const HIGH: &str = "33554432";

/// The files that memmon finds at /sys/fs/cgroup: one unit.
struct Files {
    folder: TempDir,
    unit: PathBuf,
}

impl Files {
    fn new(cgroup: &Cgroup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join(cgroup.name().trim_start_matches('/')).join("x.service");
        fs::create_dir_all(&unit).unwrap();
        fs::write(folder.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        let files = Self { folder, unit };
        files.write("memory.high", "max\n");
        files.write("memory.events", "low 0\nhigh 17\nmax 0\n");
        files.has(&[]);
        files
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.unit.join(file), text).unwrap();
    }

    /// These processes are in the unit.
    fn has(&self, processes: &[u32]) {
        let lines: Vec<_> = processes.iter().map(|pid| format!("{pid}\n")).collect();
        // As a whole, as the kernel would show it.
        self.write("draft", &lines.concat());
        fs::rename(self.unit.join("draft"), self.unit.join("cgroup.procs")).unwrap();
    }

    fn high(&self) -> String {
        fs::read_to_string(self.unit.join("memory.high")).unwrap().trim().to_owned()
    }

    fn becomes(&self, high: &str) {
        eventually("another memory.high", || self.high() == high);
    }
}

/// Has the command see `place` at /sys/fs/cgroup.
#[expect(unsafe_code, reason = "runs between fork and exec")]
fn with_cgroups(command: &mut Command, place: &Path) {
    let place = place.to_owned();
    let bind = move || {
        let (none, flags) = (None::<&str>, MsFlags::MS_BIND);
        Ok(mount(Some(&place), "/sys/fs/cgroup", none, flags, none)?)
    };
    // SAFETY: a system call only; paths are copied to the stack.
    unsafe { command.pre_exec(bind) };
}

fn start(config: &ScopedConfig, files: &Files, arguments: &[&str]) -> Daemon {
    let place = files.folder.path();
    let daemon = Daemon::spawn_prepared(config, arguments, |command| with_cgroups(command, place));
    daemon.started();
    daemon
}

fn throttles(user: &TestUser, more: &str) -> ScopedConfig {
    throttles_with(user, more, &[])
}

fn throttles_with(user: &TestUser, more: &str, keys: &[(&str, &str)]) -> ScopedConfig {
    let rule = format!(
        "[{{ name = \"slow\", uids = [\"{}\"], per = \"unit\", gb = 0.03125, action = \"throttle\" {more} }}]",
        user.uid
    );
    let common =
        [("rule", &*rule), ("thresholds.ram_gb_threshold", "1.0"), ("termination.hard_ceiling", "0")];
    config(user, &[&common, keys].concat())
}

fn in_unit(user: &TestUser, cgroup: &Cgroup, script: &str) -> Hog {
    let hog = user.hog(&format!("wait-term {script}"));
    hog.begun("wait-term");
    cgroup.take(&hog);
    hog.term();
    hog
}

fn whys(daemon: &Daemon) -> Vec<Value> {
    daemon.every("throttle_ended").into_iter().map(|event| event["why"].clone()).collect()
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_cgroup_of_a_unit_is_slowed_down_until_it_is_calm_and_nothing_ends() {
    for source in SOURCES {
        let user = TestUser::claim();
        let cgroup = Cgroup::new("throttle", &["x.service"]);
        let files = Files::new(&cgroup);
        let daemon = start(&throttles(&user, ""), &files, &["--source", source]);
        let hog = in_unit(&user, &cgroup, "anon 44M wait-term free hold");
        files.has(&[hog.pid()]);
        let event = daemon.event("throttled");
        assert_eq!(
            (
                &event["rule_name"], &event["unit"], &event["high_bytes"], &event["before_bytes"],
                &event["times"]
            ),
            (&"slow".into(), &"x.service".into(), &(32 << 20).into(), &Value::Null, &1.into())
        );
        assert_eq!(files.high(), HIGH);
        let listed = daemon.status()["throttled"].clone();
        assert_eq!((&listed[0]["unit"], &listed[0]["slowed"]), (&"x.service".into(), &17.into()), "{listed}");

        // systemd at a daemon-reload, say.
        files.write("memory.high", "268435456\n");
        eventually("it is set again", || daemon.every("throttled").len() == 2);
        files.becomes(HIGH);
        assert_eq!(daemon.every("throttled")[1]["before_bytes"], 256 << 20);

        // A process that the rule is not about comes into the unit, and leaves it again.
        files.has(&[hog.pid(), std::process::id()]);
        files.becomes("268435456");
        eventually("a reason", || daemon.event("not_throttled")["why"] == "outsider");
        assert_eq!(daemon.event("not_throttled")["outsider_pid"], std::process::id());
        files.has(&[hog.pid()]);
        files.becomes(HIGH);

        // Nobody knows which processes are in it.
        let list = files.unit.join("cgroup.procs");
        fs::remove_file(&list).unwrap();
        fs::create_dir(&list).unwrap();
        files.becomes("268435456");
        fs::remove_dir(&list).unwrap();
        files.has(&[hog.pid()]);
        files.becomes(HIGH);

        hog.term();
        files.becomes("268435456");
        eventually("three ends", || whys(&daemon).len() == 3);
        assert_eq!(whys(&daemon), ["guarded", "guarded", "calm"]);
        assert!(hog.is_alive() && daemon.every("killing").is_empty());
        assert_eq!(daemon.status()["throttled"], Value::Array(vec![]));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn the_former_value_comes_back_at_the_end_after_a_crash_and_without_the_rule() {
    let user = TestUser::claim();
    let cgroup = Cgroup::new("throttle-ends", &["x.service"]);
    let files = Files::new(&cgroup);
    files.write("memory.high", "134217728\n");
    let source = ["--source", "proc"];
    let first = start(&throttles(&user, ""), &files, &source);
    let hog = in_unit(&user, &cgroup, "anon 44M hold");
    files.has(&[hog.pid()]);
    first.event("throttled");
    let last = first.stop();
    assert!(last.iter().any(|line| line.contains("memory.high=0.12GB again: memmon ends")), "{last:#?}");
    assert_eq!(files.high(), "134217728");

    // A crash leaves it, and the next one goes on.
    let mut crashed = start(&throttles(&user, ""), &files, &source);
    crashed.event("throttled");
    crashed.signal(Signal::SIGKILL);
    crashed.ended(crate::common::log::SOON);
    assert_eq!(files.high(), HIGH);
    let next = crashed.spawn_beside(&throttles(&user, ""), &source);
    next.started();
    next.scanned();
    assert_eq!(files.high(), HIGH);
    assert_eq!(next.status()["throttled"][0]["before_bytes"], 128 << 20);
    assert!(whys(&next).is_empty() && next.every("throttled").is_empty());

    // A dry run slows nothing down any more, and reports it.
    next.reload(&throttles_with(&user, "", &[("settings.dry_run", "true")]));
    files.becomes("134217728");
    eventually("the report", || next.every("throttled").iter().any(|event| event["dry_run"] == true));
    next.reload(&throttles(&user, ""));
    files.becomes(HIGH);
    next.reload(&config(&user, &[("thresholds.ram_gb_threshold", "1.0")]));
    files.becomes("134217728");
    eventually("two ends", || whys(&next).len() == 2);
    assert_eq!(whys(&next), ["dry_run", "rule"]);
    assert!(hog.is_alive());
    next.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_dry_run_reports_a_unit_again_that_comes_back_after_its_end_and_all_after_a_reload() {
    let user = TestUser::claim();
    let cgroup = Cgroup::new("throttle-again", &["x.service"]);
    let files = Files::new(&cgroup);
    let daemon = start(&throttles(&user, ""), &files, &["--source", "proc", "--dry-run"]);
    let reported = |times| eventually("the report", || daemon.every("throttled").len() == times);
    let comes = || {
        let hog = in_unit(&user, &cgroup, "anon 44M hold");
        files.has(&[hog.pid()]);
        hog
    };
    let first = comes();
    reported(1);
    drop(first);
    daemon.scanned();
    let _second = comes();
    reported(2);
    daemon.reload(&throttles(&user, ""));
    reported(3);
    daemon.stop();
}

/// The memory of the machine as memmon sees it, of which a 128th is the limit of `PERCENT`.
struct Total(NamedTempFile);

const PERCENT: &str = "0.78125";

impl Total {
    fn new() -> Self {
        let total = Self(NamedTempFile::new().unwrap());
        total.set(4096);
        total
    }

    /// In one write of the same length, so that nobody reads a part.
    fn set(&self, mib: u64) {
        let text = format!(
            "MemTotal:       {:8} kB\nMemFree:         1000000 kB\nMemAvailable:    1000000 kB\n",
            mib << 10
        );
        self.0.as_file().write_all_at(text.as_bytes(), 0).unwrap();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn a_machine_whose_memory_changes_a_little_has_its_cgroups_slowed_down_as_before() {
    let user = TestUser::claim();
    let cgroup = Cgroup::new("throttle-total", &["x.service"]);
    let (files, total) = (Files::new(&cgroup), Total::new());
    let rule = format!(
        "[{{ name = \"slow\", uids = [\"{}\"], per = \"unit\", percent = {PERCENT}, action = \"throttle\" }}]",
        user.uid
    );
    let keys = [("rule", &*rule), ("thresholds.ram_gb_threshold", "1.0"), ("termination.hard_ceiling", "0")];
    let daemon = Daemon::spawn_prepared(&config(&user, &keys), &["--source", "proc"], |command| {
        with_file(command, total.0.path(), "/proc/meminfo");
        with_cgroups(command, files.folder.path());
    });
    daemon.started();
    let hog = in_unit(&user, &cgroup, "anon 44M hold");
    files.has(&[hog.pid()]);
    daemon.event("throttled");
    for mib in [4095, 4000, 4200] {
        total.set(mib);
        daemon.scanned();
        assert_eq!(daemon.status()["throttled"][0]["limit_bytes"], (mib << 20) / 128);
    }
    assert_eq!((files.high().as_str(), daemon.every("throttled").len(), whys(&daemon)), (HIGH, 1, vec![]));
    total.set(2048);
    files.becomes("16777216");
    assert_eq!(whys(&daemon), ["rule"]);
    daemon.stop();
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn of_two_rules_for_one_cgroup_the_lower_limit_holds_and_the_value_of_before_both_comes_back() {
    let user = TestUser::claim();
    let cgroup = Cgroup::new("throttle-two", &["x.service"]);
    let files = Files::new(&cgroup);
    let rule = |name: &str, per: &str, gb: &str| {
        let uid = user.uid;
        format!(
            "{{ name = \"{name}\", uids = [\"{uid}\"], per = \"{per}\", gb = {gb}, action = \"throttle\" }}"
        )
    };
    let with = |rules: &[String]| {
        let rules = format!("[{}]", rules.join(", "));
        let keys =
            [("rule", &*rules), ("thresholds.ram_gb_threshold", "1.0"), ("termination.hard_ceiling", "0")];
        config(&user, &keys)
    };
    let (high, low) = (rule("high", "unit", "0.03125"), rule("low", "cgroup", "0.015625"));
    let daemon = start(&with(std::slice::from_ref(&high)), &files, &["--source", "proc"]);
    let hog = in_unit(&user, &cgroup, "anon 44M wait-term free hold");
    files.has(&[hog.pid()]);
    files.becomes(HIGH);
    daemon.reload(&with(&[high.clone(), low.clone()]));
    files.becomes("16777216");
    eventually("an end", || whys(&daemon) == ["lower"]);
    eventually("a reason", || daemon.event("not_throttled")["why"] == "lower");
    assert_eq!(daemon.every("throttled")[1]["before_bytes"], Value::Null, "that of before both");
    // The lower one is let go, and both are over their limits at the same time.
    for (rules, value) in [(vec![high.clone()], HIGH), (vec![high, low], "16777216")] {
        daemon.reload(&with(&rules));
        files.becomes(value);
        daemon.scanned();
        assert_eq!(files.high(), value);
    }
    daemon.reload(&with(&[rule("renamed", "cgroup", "0.015625")]));
    eventually("the other rule holds", || {
        let listed = daemon.status()["throttled"].clone();
        listed[0]["rule_name"] == "renamed" && listed.as_array().unwrap().len() == 1
    });
    hog.term();
    files.becomes("max");
    let refused = daemon.every("not_throttled");
    assert!(refused.iter().all(|event| event["rule_name"] == "high"), "{refused:#?}");
    daemon.stop();
    assert_eq!(files.high(), "max");
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn above_the_hard_ceiling_the_largest_ends_until_the_rest_is_below_it() {
    for source in SOURCES {
        let user = TestUser::claim();
        let cgroup = Cgroup::new("throttle-ceiling", &["x.service"]);
        let files = Files::new(&cgroup);
        let daemon = start(&throttles(&user, ", hard_ceiling = 2.0"), &files, &["--source", source]);
        let small = in_unit(&user, &cgroup, "anon 40M hold");
        files.has(&[small.pid()]);
        files.becomes(HIGH);
        // It comes into the unit with all of its memory: while it still grew, the small one would be the largest.
        let mut large = user.hog("anon 60M hold");
        large.begun("hold");
        cgroup.take(&large);
        files.has(&[small.pid(), large.pid()]);
        let (signal, record) = daemon.terminated(&mut large);
        assert_eq!((signal, &record["sum"]["rule_name"]), (Some(libc::SIGTERM), &"slow".into()), "{record}");
        daemon.scanned();
        assert!(small.is_alive(), "40 MiB are below the ceiling");
        assert_eq!((files.high(), daemon.every("killing").len()), (HIGH.to_owned(), 1));
        daemon.stop();
    }
}

#[test]
#[ignore = "kernel: needs root and kernel BTF"]
fn without_the_memory_controller_an_enforcing_memmon_does_not_start() {
    let user = TestUser::claim();
    let files = Files::new(&Cgroup::new("no-throttle", &["x.service"]));
    fs::write(files.folder.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
    let place = files.folder.path();
    let prepare = |command: &mut Command| with_cgroups(command, place);
    let mut daemon = Daemon::spawn_prepared(&throttles(&user, ""), &["--source", "proc"], prepare);
    let status = daemon.ended(crate::common::log::SOON);
    let printed = daemon.last_words().join("\n");
    assert_eq!(status.code(), Some(4), "{printed}");
    assert!(printed.contains("the memory controller is not in the unified hierarchy"), "{printed}");
    let dry = start(&throttles(&user, ""), &files, &["--source", "proc", "--dry-run"]);
    dry.line("a warning", |line| line.contains("rule.action cannot be used"));
    dry.stop();
}
