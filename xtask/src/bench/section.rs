//! The result of one section, as tables that look the same in a terminal and in Markdown.

use std::fmt::{self, Write as _};

use anyhow::{Context as _, Result};

use super::sample::{Sample, figure, ratio};

/// The result of one section.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportSection {
    pub(crate) title: &'static str,
    /// A description of the measurement.
    pub(crate) how: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) goals: Vec<Goal>,
    /// Facts that are needed to read the figures correctly.
    pub(crate) notes: Vec<String>,
    /// The command that repeats the measurement.
    pub(crate) command: String,
}

/// Rows of the same columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A goal of memmon's, and the figure that was reached.
#[derive(Clone, Debug)]
pub(crate) struct Goal {
    pub(crate) what: String,
    pub(crate) at_most: f64,
    pub(crate) reached: f64,
    pub(crate) unit: &'static str,
}

impl Table {
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = &'a str>) -> Self {
        Self { head: head.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// A row of ratios, one of each round, after its `names`: their median, which it returns, the quartiles and the number.
    pub(crate) fn ratios(
        &mut self,
        names: impl IntoIterator<Item = String>,
        ratios: impl IntoIterator<Item = f64>,
    ) -> Result<f64> {
        let sample = Sample::new(ratios).context("no rounds")?;
        let figures = [ratio(sample.median()), sample.quartiles(ratio), sample.len().to_string()];
        self.row(names.into_iter().chain(figures));
        Ok(sample.median())
    }
}

impl Goal {
    /// A goal without a unit.
    pub(crate) fn ratio(what: impl Into<String>, at_most: f64, reached: f64) -> Self {
        Self { what: what.into(), at_most, reached, unit: "" }
    }

    pub(crate) const fn is_met(&self) -> bool {
        self.reached <= self.at_most
    }

    fn cells(&self) -> [String; 4] {
        let show = |value| if self.unit.is_empty() { ratio(value) } else { figure(value) };
        let with_unit = |value| format!("{} {}", show(value), self.unit).trim_end().to_owned();
        let verdict = match self.reached / self.at_most {
            _ if self.is_met() => "met".to_owned(),
            times if times.is_infinite() => "missed".to_owned(),
            times if times < 2.0 => format!("missed by {:.1} %", (times - 1.0) * 100.0),
            times => format!("missed {} times", figure(times)),
        };
        [self.what.clone(), with_unit(self.at_most), with_unit(self.reached), verdict]
    }
}

impl fmt::Display for ReportSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {}\n\n{}", self.title, self.how)?;
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        if !self.goals.is_empty() {
            let mut goals = Table::new(["goal", "at most", "reached", ""]);
            self.goals.iter().for_each(|goal| goals.row(goal.cells()));
            write!(f, "\n{goals}")?;
        }
        if !self.notes.is_empty() {
            f.write_char('\n')?;
        }
        for note in &self.notes {
            writeln!(f, "- {note}")?;
        }
        writeln!(f, "\nRepeat with `{}`.", self.command)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| {
            lines()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        for (number, line) in lines().enumerate() {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 { write!(f, "| {cell:<width$} |") } else { write!(f, " {cell:>width$} |") }?;
            }
            f.write_char('\n')?;
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let rule = "-".repeat(width + 1);
                    if column == 0 { write!(f, "|{rule}-|") } else { write!(f, "{rule}:|") }?;
                }
                f.write_char('\n')?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_reads_in_a_terminal_and_as_markdown() {
        let mut table = Table::new(["threads", "ratio"]);
        table.row(["1".to_owned(), "1.001".to_owned()]);
        table.row(["2".to_owned(), "1.076".to_owned()]);
        let goal = |at_most, reached, unit| Goal { what: "a goal".to_owned(), at_most, reached, unit };
        let section = ReportSection {
            title: "Page faults",
            how: "In turns.".to_owned(),
            tables: vec![table],
            goals: vec![goal(1.06, 1.076, ""), goal(25.0, 18.04, "ns")],
            notes: vec!["a note".to_owned()],
            command: "cargo xtask bench fault".to_owned(),
        };
        let expected = "\
## Page faults

In turns.

| threads | ratio |
|---------|------:|
| 1       | 1.001 |
| 2       | 1.076 |

| goal   | at most | reached |                 |
|--------|--------:|--------:|----------------:|
| a goal |   1.060 |   1.076 | missed by 1.5 % |
| a goal | 25.0 ns | 18.0 ns |             met |

- a note

Repeat with `cargo xtask bench fault`.
";
        assert_eq!(section.to_string(), expected);
    }
}
