//! What README.md tells to type exists: the verbs with their options, and nothing that was never tried.

use clap::Parser as _;

use crate::Task;

/// Other programs' commands, each tried with an installed memmon. memmon's own are checked with its manuals.
const KNOWN: [&str; 7] = [
    "journalctl -u memmon -f",
    "journalctl -u memmon -n 50",
    "man memmon",
    "man memmon.toml",
    "sudo bpftool map dump pinned /sys/fs/bpf/memmon/processes",
    "sudo systemctl reload memmon",
    "systemctl status memmon",
];

#[test]
fn every_command_is_one() {
    let blocks = include_str!("../../README.md").split("```sh\n").skip(1);
    let lines = blocks.filter_map(|block| block.split("```").next()).flat_map(str::lines);
    let mut seen = 0;
    for line in lines.map(|line| line.split(" #").next().unwrap_or_default().trim()) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [] | ["memmon", ..] | ["sudo", "memmon", ..] => {}
            ["cargo", "xtask", ..] => {
                seen += 1;
                if let Err(error) = Task::try_parse_from(&words[1..]) {
                    panic!("{line}: {error}");
                }
            }
            _ => assert!(KNOWN.contains(&line), "never tried: {line}"),
        }
    }
    assert!(seen > 3, "README.md shows only {seen} commands of xtask");
}
