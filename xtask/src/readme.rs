//! Tests of README.md: each command in it is run by a test, and its claims hold.

use std::fs;

use clap::Parser as _;

use crate::{Task, package::Kind, workspace};

const README: &str = include_str!("../../README.md");

/// The scenario that runs commands for the shipped service, in a virtual machine with systemd.
const SERVICE: &str = "xtask/vm/scenarios/reload.sh";
/// The test has the same words as README.md.
const LITERALLY: &str = "";

/// Each command of README.md, the file of the test that runs it, and the text of that test.
const TYPED: &[(&str, &str, &str)] = &[
    ("cargo xtask run", ".ci/run", "cargo xtask run -- --once"),
    ("cargo xtask test", ".ci/run", LITERALLY),
    ("cargo xtask install", "xtask/tests/install.rs", "xtask install --no-build"),
    ("cargo xtask package", ".ci/run", LITERALLY),
    (
        "sudo dpkg --install target/package/memmon_2.0.0-1_amd64.deb",
        "xtask/tests/deb.rs",
        "dpkg --force-confdef --force-depends --install",
    ),
    ("systemctl start memmon", "xtask/vm/scenarios/install.sh", "systemctl start memmon.service"),
    ("sudo memmon enable", "xtask/vm/scenarios/install.sh", LITERALLY),
    ("memmon enable [--yes]", "memmon/tests/daemon/enable.rs", "[\"enable\", \"--yes\"]"),
    ("sudo memmon disable", "xtask/vm/scenarios/install.sh", LITERALLY),
    ("systemctl status memmon", SERVICE, LITERALLY),
    ("journalctl -u memmon -f", SERVICE, LITERALLY),
    ("journalctl -u memmon -n 50", SERVICE, LITERALLY),
    ("sudo systemctl reload memmon", SERVICE, LITERALLY),
    ("man memmon", "xtask/manual/src/main.rs", "fn mandoc_has_no_complaint"),
    ("man memmon.toml", "xtask/manual/src/main.rs", "fn mandoc_has_no_complaint"),
    (
        "memmon run [--config PATH] [--dry-run] [--source auto|ebpf|proc] [--once]",
        "memmon/tests/common/daemon.rs",
        "[\"run\", \"--config\"]",
    ),
    ("memmon check [PATH]", "memmon/tests/cli/commands.rs", "[\"check\", \"config.toml\"]"),
    ("memmon check", SERVICE, LITERALLY),
    ("memmon explain PID|NAME", "memmon/tests/cli/commands.rs", "[\"explain\", &own"),
    ("memmon explain --user NAME", "memmon/tests/cli/commands.rs", "[\"explain\", \"--user\", &uid"),
    (
        "memmon explain --machine",
        "memmon/tests/daemon/machine.rs",
        "[\"explain\", \"--machine\", \"--json\"]",
    ),
    ("memmon doctor", SERVICE, LITERALLY),
    ("memmon status [--json]", "memmon/tests/daemon/status.rs", "[\"status\", \"--json\""),
    (
        "memmon replay --since monday --config new.toml",
        "memmon/tests/daemon/replay.rs",
        "[\"replay\", \"--since\"",
    ),
    ("memmon status --mine", "memmon/tests/daemon/mine.rs", "[\"status\", \"--mine\"]"),
    ("memmon history", "memmon/tests/daemon/history.rs", ".arg(\"history\")"),
    (
        "memmon exempt 4242 --for 2h --why TEXT",
        "memmon/tests/daemon/exemptions.rs",
        "[\"--user\", &uid, \"--for\", \"2h\", \"--why\"",
    ),
    ("memmon top", "memmon/tests/daemon/top.rs", " top --interval"),
    ("sudo bpftool map dump pinned /sys/fs/bpf/memmon/processes", SERVICE, LITERALLY),
    ("cargo xtask uninstall", "xtask/tests/install.rs", "xtask uninstall\n"),
    ("cargo xtask uninstall --purge", "xtask/tests/install.rs", "xtask uninstall --purge"),
    ("sudo dpkg --purge memmon", "xtask/tests/deb.rs", LITERALLY),
];

/// The lines of its blocks of shell, without comments.
fn commands() -> impl Iterator<Item = &'static str> {
    let blocks = README.split("```sh\n").skip(1);
    let lines = blocks.filter_map(|block| block.split("```").next()).flat_map(str::lines);
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

#[test]
fn every_command_is_typed_by_a_test() {
    for command in commands() {
        let (_, file, words) = TYPED
            .iter()
            .find(|(typed, ..)| *typed == command)
            .unwrap_or_else(|| panic!("no test runs it: {command}"));
        let words = if words.is_empty() { command.trim_start_matches("sudo ") } else { words };
        let text = fs::read_to_string(workspace::root().join(file)).unwrap();
        assert!(text.contains(words), "{file} does not type {command}: no {words:?}");
    }
    let stale = TYPED.iter().find(|(typed, ..)| !commands().any(|command| command == *typed));
    assert_eq!(stale, None, "README.md does not have this command");
}

#[test]
fn every_command_of_xtask_is_one() {
    for line in commands().filter(|line| line.starts_with("cargo xtask ")) {
        if let Err(error) = Task::try_parse_from(line.split_whitespace().skip(1)) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn installed_and_packaged_files_are_the_same() {
    // The name of the .deb in README.md is that of this architecture.
    if std::env::consts::ARCH == "x86_64" {
        assert!(README.contains(&format!("target/package/{}", Kind::Deb.file_name())));
    }
}

/// Every key of the shipped configuration, commented out or not, is in the table, or its section is.
#[test]
fn every_key_is_in_the_table() {
    let mut section = String::new();
    let mut seen = 0;
    for line in include_str!("../../config.toml").lines() {
        let line = line.trim_start_matches("# ");
        if let Some(heading) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            section = heading.0.trim_start_matches('[').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            seen += 1;
            let row = |text: &str| README.lines().any(|line| line.starts_with('|') && line.contains(text));
            let names = [
                format!("`{section}.{key}`"),
                format!("`.{key}`"),
                format!("`[{section}]`"),
                format!("`[[{section}]]`"),
            ];
            assert!(names.iter().any(|name| row(name)), "README.md does not list {section}.{key}");
        }
    }
    assert!(seen > 20, "config.toml has only {seen} keys");
}

fn is_key(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_')
}

/// The numbers of the last row of BENCHMARKS.md that begins with these cells: sections of other machines come later.
fn measured(cells: &[&str]) -> Vec<f64> {
    let of = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let mut rows = include_str!("../../BENCHMARKS.md").lines().filter(|line| line.starts_with('|')).map(of);
    let row = rows.rfind(|row| row.starts_with(cells)).unwrap_or_else(|| panic!("no row {cells:?}"));
    row[cells.len()..].iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect()
}

/// README.md's comparisons follow from BENCHMARKS.md; they are rounded, so that they still hold after the next run.
#[test]
fn the_cost_was_measured() {
    let says =
        |text: &str| assert!(README.replace("\n  ", " ").contains(text), "README.md does not have: {text}");
    says("hundreds of times sooner than from a program that polls ten times a second, less than a megabyte");
    let [woken, polling] = ["instant", "polling, 100 ms"].map(|who| measured(&[who, "idle machine"]));
    assert!(polling[0] / woken[0] > 200.0 && woken[3] < 1.0 && polling[3] > 50.0);
    says("less than a fiftieth of the CPU time of a psutil pass");
    assert!(measured(&["memmon, ebpf", "2000"]).last().unwrap() > &50.0);
    says("less than a seventh through /proc");
    assert!(measured(&["memmon, proc", "2000"]).last().unwrap() > &7.0);
    says(
        "less than a thousandth of one CPU, less than half of what earlyoom takes, and 7 to 9 MiB of memory (earlyoom: 2)",
    );
    // The last row of earlyoom in the file is about memory.
    let earlyoom = include_str!("../../BENCHMARKS.md").rsplit("\n## Idle").next().unwrap();
    let earlyoom = earlyoom.lines().find(|line| line.starts_with("| earlyoom")).unwrap();
    let earlyoom: f64 = earlyoom.trim_matches('|').rsplit('|').next().unwrap().trim().parse().unwrap();
    let idle = measured(&["memmon, with its share of the sweep"]);
    assert!(idle[0] < 0.1 && idle[1] < 0.5 * earlyoom);
    assert!(measured(&["ebpf, 2000 scans on"])[0] < 9.0 && measured(&["earlyoom"])[0] < 2.0);
    says("less than a tenth more CPU time with memmon attached, and a real build no more than one percent");
    let faults = ["memmon, no process near its limit", "memmon, a process near its limit"];
    assert!(faults.iter().all(|row| measured(&["1", row])[0] < 1.1) && measured(&["CPU time"])[0] <= 1.01);
}
