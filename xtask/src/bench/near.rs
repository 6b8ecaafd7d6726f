//! The time from a process's crossing of half of its limit, in the calm gear, until the exact gear is attached.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::{
    memmon::{Memmon, Setup},
    programs::Bench,
    sample::{Sample, figure},
    section::{Goal, Table},
    sprint::{LIMIT, sprint},
    user::TestUser,
};

/// Measures it for one sprint of each memmon: once attached, the exact gear stays for a while.
pub(super) fn measure(bench: &Bench, user: &TestUser) -> Result<(Table, Vec<Goal>)> {
    let mut table = Table::new(["half of the limit to the exact gear", "ms, p50", "p99", "worst", "starts"]);
    let mut goals = Vec::new();
    for (beside, loops, at_most) in [("idle machine", 0, 5.0), ("beside two busy loops", 2, 2.0)] {
        let loops = (0..loops).map(|_| bench.programs.start(&["spin"])).collect::<Result<Vec<_>>>()?;
        let times = (0..bench.rounds(120, 1)).map(|_| one(bench, user)).collect::<Result<Vec<_>>>()?;
        drop(loops);
        let times = Sample::new(times).context("no starts")?;
        let figures = [times.median(), times.percentile(99), times.max()].map(figure);
        let cells = [vec![beside.to_owned()], figures.to_vec(), vec![times.len().to_string()]];
        table.row(cells.concat());
        goals.push(Goal {
            what: format!("half of the limit to the exact gear, {beside}, p99"),
            at_most,
            reached: times.percentile(99),
            unit: "ms",
        });
    }
    Ok((table, goals))
}

/// The milliseconds of one start of memmon.
fn one(bench: &Bench, user: &TestUser) -> Result<f64> {
    let programs = &bench.programs;
    let (command, log) = (Command::new(&programs.memmon), "[log]\nlevel = \"debug\"\n");
    let mut memmon = Memmon::enforce_by(command, programs, &Setup::default(), log, user, LIMIT)?;
    memmon.scanned()?;
    sprint(programs, user, "pages")?;
    let line = memmon.0.line("a change of the gear", |line| line.contains("near its limit"))?;
    memmon.0.stop()?;
    milliseconds(&line).with_context(|| format!("no time in `{line}`"))
}

/// The field `since` of a line, which is a duration as Rust shows it: `1.2ms`, `950.4µs`.
fn milliseconds(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("since=")?;
    let since = rest.split_whitespace().next()?.trim_end_matches(',');
    let units = [("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6), ("s", 1e3)];
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((since.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_from_a_line_of_the_log() {
        let line =
            |since: &str| format!("DEBUG - near its limit pid=1 gear=Some(Exact) since={since} took=0.4ms");
        for (since, expected) in [("1.169ms", "1.17"), ("950µs", "0.950"), ("2s", "2000")] {
            assert_eq!(milliseconds(&line(since)).map(figure).as_deref(), Some(expected));
        }
        assert_eq!(milliseconds("near its limit"), None);
    }
}
