//! The outcomes of the guests. Pure.

use std::{fmt, path::Path};

use super::boot::Ended;

/// The outcome of one scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) name: String,
    /// The reason for its failure.
    pub(super) failure: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => write!(f, "ok {}", self.name),
            Some(why) => write!(f, "FAILED {} {why}", self.name),
        }
    }
}

/// The outcomes of a machine: one for each scenario that it should have run, and one more if its verdict does not agree with
/// them. The guest's report has lines `ok NAME` and `FAILED NAME REASON`.
pub(super) fn outcomes(scenarios: &[String], ended: &Ended) -> Vec<Outcome> {
    let found: Vec<Outcome> = ended.report.lines().filter_map(read).collect();
    let mut outcomes: Vec<Outcome> = scenarios
        .iter()
        .map(|name| {
            let of_this = found.iter().find(|outcome| outcome.name == *name).cloned();
            let none =
                || Outcome { name: name.clone(), failure: Some(format!("it did not end: {}", ended.how)) };
            of_this.unwrap_or_else(none)
        })
        .collect();
    if !ended.passed && outcomes.iter().all(|outcome| outcome.failure.is_none()) {
        outcomes.push(Outcome { name: "verdict".to_owned(), failure: Some(ended.how.clone()) });
    }
    outcomes
}

fn read(line: &str) -> Option<Outcome> {
    let line = line.trim_end();
    if let Some(name) = line.strip_prefix("ok ") {
        return Some(Outcome { name: name.to_owned(), failure: None });
    }
    let (name, why) = line.strip_prefix("FAILED ")?.split_once(' ')?;
    Some(Outcome { name: name.to_owned(), failure: Some(why.to_owned()) })
}

/// The report of a machine that ended: its outcomes, its notes, and the end of its `console` if something failed.
pub(super) fn machine(
    title: &str,
    outcomes: &[Outcome],
    ended: &Ended,
    seconds: u64,
    console: &Path,
) -> String {
    let mut text = format!("\n{title}\n");
    for note in ended.report.lines().filter(|line| line.starts_with("note ")) {
        text.push_str(&format!("{}\n", printable(note)));
    }
    for outcome in outcomes {
        text.push_str(&format!("{outcome}\n"));
    }
    text.push_str(&format!("({seconds} s; the console is in {})", console.display()));
    if outcomes.iter().any(|outcome| outcome.failure.is_some()) {
        text.push_str(&format!("\n-- its end:\n{}", tail(&ended.console)));
    }
    text
}

/// The last lines of a console, made safe for a terminal, to explain a failure.
fn tail(console: &str) -> String {
    const LINES: usize = 200;
    let lines: Vec<&str> = console.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| format!("   | {}\n", printable(line))).collect()
}

/// `text` without control characters, because a guest may print colours and move the cursor.
fn printable(line: &str) -> String {
    line.chars().filter(|character| !character.is_control()).collect()
}

/// All outcomes, by their machine or kernel.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<(String, Vec<Outcome>)>);

impl Tally {
    pub(super) fn add(&mut self, of: &str, outcomes: Vec<Outcome>) {
        self.0.push((of.to_owned(), outcomes));
    }

    pub(super) fn passed(&self) -> usize {
        self.all().filter(|outcome| outcome.failure.is_none()).count()
    }

    pub(super) fn failed(&self) -> usize {
        self.all().filter(|outcome| outcome.failure.is_some()).count()
    }

    fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.0.iter().flat_map(|(_, outcomes)| outcomes)
    }
}

/// Writes one line for each machine: the names of failed scenarios, or the number that passed.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (of, outcomes) in &self.0 {
            let failed: Vec<&str> = outcomes
                .iter()
                .filter(|outcome| outcome.failure.is_some())
                .map(|outcome| outcome.name.as_str())
                .collect();
            if failed.is_empty() {
                writeln!(f, "ok      {of}: {} of {}", outcomes.len(), outcomes.len())?;
            } else {
                writeln!(f, "FAILED  {of}: {}", failed.join(", "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(passed: bool, report: &str) -> Ended {
        Ended {
            passed,
            how: "QEMU ended with 35".to_owned(),
            console: String::new(),
            report: report.to_owned(),
        }
    }

    fn failures(passed: bool, report: &str) -> Vec<String> {
        let scenarios = ["start".to_owned(), "kill".to_owned()];
        outcomes(&scenarios, &ended(passed, report))
            .iter()
            .filter(|outcome| outcome.failure.is_some())
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_machine_passes_only_if_every_scenario_and_its_verdict_passed() {
        assert_eq!(failures(true, "ok start\r\nok kill\r\n"), [""; 0]);
        assert_eq!(failures(false, "ok start\nFAILED kill the hog lives\n"), ["FAILED kill the hog lives"]);
        assert_eq!(failures(true, "ok start\n"), ["FAILED kill it did not end: QEMU ended with 35"]);
        assert_eq!(failures(false, "ok start\nok kill\n"), ["FAILED verdict QEMU ended with 35"]);
        assert_eq!(failures(true, "").len(), 2);
    }

    #[test]
    fn only_the_end_of_a_console_is_shown_and_nothing_moves_the_terminal() {
        let console: String = (1..=1000).map(|line| format!("\u{1b}[31mline {line}\r\n")).collect();
        let tail = tail(&console);
        assert_eq!(tail.lines().count(), 200);
        assert!(tail.starts_with("   | [31mline 801\n") && tail.ends_with("   | [31mline 1000\n"), "{tail}");
    }

    #[test]
    fn failures_are_named_in_the_end() {
        let mut tally = Tally::default();
        tally.add("5.10", outcomes(&["start".to_owned()], &ended(true, "ok start\n")));
        tally.add("7.3", outcomes(&["start".to_owned()], &ended(false, "FAILED start why\n")));
        assert_eq!(tally.to_string(), "ok      5.10: 1 of 1\nFAILED  7.3: start\n");
        assert_eq!((tally.passed(), tally.failed()), (1, 1));
    }
}
