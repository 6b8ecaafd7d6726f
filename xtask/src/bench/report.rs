//! BENCHMARKS.md: its sections, each replaced by its newest measurement.

use std::{fs, io::ErrorKind};

use anyhow::{Context as _, Result};

use super::{machine::Machine, section::ReportSection};
use crate::workspace;

const FILE: &str = "BENCHMARKS.md";

const HEAD: &str = "\
# Benchmarks

Written by `cargo xtask bench` (run it as root, on a machine that is otherwise idle), which repeats all measurements in one
run; each section names the command that repeats it alone. Compared programs were measured alternately within the same run.
Figures are medians with their quartiles. Absolute times hold for this machine only; ratios carry over better to others.
memmon runs without its unit here, so that the unit's `CPUQuota=` does not count.
";

/// Puts `sections` into the file, in place of those of the same title.
pub(crate) fn write(machine: &Machine, sections: &[ReportSection]) -> Result<()> {
    let path = workspace::root().join(FILE);
    let old = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        old => old.context("cannot read BENCHMARKS.md")?,
    };
    fs::write(&path, merged(&old, machine, sections)).context("cannot write BENCHMARKS.md")?;
    println!("{FILE} has the new figures");
    Ok(())
}

/// The text of the file: `old` with `sections` in it. If `old` is from another machine, nothing of it is kept.
fn merged(old: &str, machine: &Machine, sections: &[ReportSection]) -> String {
    let name = format!("Machine: {}.", machine.name());
    let mut parts = old.split("\n## ");
    let same = parts.next().is_some_and(|head| head.lines().any(|line| line == name));
    let mut texts: Vec<(String, String)> = parts
        .filter(|_| same)
        .filter_map(|part| Some((part.lines().next()?.to_owned(), format!("## {part}\n"))))
        .collect();
    for section in sections {
        let mut section = section.clone();
        section.notes.extend(machine.troubles().into_iter().map(|trouble| format!("Beware: {trouble}.")));
        let text = (section.title.to_owned(), format!("{section}\n"));
        match texts.iter_mut().find(|(title, _)| title == section.title) {
            Some(old) => *old = text,
            None => texts.push(text),
        }
    }
    let sections: String = texts.iter().map(|(_, text)| format!("\n{}\n", text.trim_end())).collect();
    format!("{HEAD}\n{name}\n{sections}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(title: &'static str, how: &str) -> ReportSection {
        ReportSection { title, how: how.to_owned(), command: "x".to_owned(), ..ReportSection::default() }
    }

    #[test]
    fn a_section_replaces_its_older_version_and_keeps_the_others() {
        let machine = Machine::look().unwrap();
        let first = merged("", &machine, &[section("Faults", "one"), section("Scans", "two")]);
        assert_eq!(first, merged(&first, &machine, &[section("Scans", "two")]), "writing is stable");
        let second = merged(&first, &machine, &[section("Faults", "three"), section("Idle", "four")]);
        let titles: Vec<&str> = second.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(titles, ["## Faults", "## Scans", "## Idle"]);
        assert!(
            second.contains("three") && second.contains("two") && !second.contains("\none\n"),
            "{second}"
        );
    }

    #[test]
    fn figures_of_another_machine_are_not_kept() {
        let machine = Machine::look().unwrap();
        let old = merged("", &machine, &[section("Faults", "one")]).replace("Machine: ", "Machine: other ");
        assert!(!merged(&old, &machine, &[section("Scans", "two")]).contains("## Faults"));
    }
}
