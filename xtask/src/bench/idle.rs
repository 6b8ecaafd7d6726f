//! CPU time while nothing happens, at the defaults, beside earlyoom in the same minutes.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    child::{Mounts, Running},
    memmon::{Memmon, Setup, sweep},
    programs::Bench,
    sample::{Sample, figure, in_turn, ratio},
    section::{Goal, ReportSection, Table},
};

/// Processes besides those that run anyway.
const CROWD: usize = 200;

/// The longest time between two sweeps of memmon (memmon/src/daemon/source/sweep.rs).
const SWEEPS: Duration = Duration::from_secs(3600);

/// A round with `[machine]`, or without it, and the seconds between its scans.
const ROUND: Duration = Duration::from_secs(20);
const SCANS: f64 = 5.0;

/// The ratios of memmon's CPU time with `[machine]` to that without it, in turn, while the machine has plenty of memory.
fn with_machine(bench: &Bench) -> Result<Sample> {
    // Without a scan in it a round has no ratio.
    let (round, interval) = if bench.quick { (Duration::from_secs(2), 0.5) } else { (ROUND, SCANS) };
    let rounds = in_turn(bench.rounds(8, 1), |_, which| {
        let setup = Setup { interval, kernel: ["", "[machine]"][which], ..Setup::default() };
        let memmon = Memmon::watch(&bench.programs, &setup)?;
        thread::sleep(Duration::from_secs(1));
        let before = memmon.0.cpu()?;
        thread::sleep(round);
        let used = memmon.0.cpu()? - before;
        memmon.0.stop()?;
        Ok(used.as_secs_f64())
    })?;
    Sample::new(rounds.into_iter().map(|[without, with]| with / without)).context("no rounds")
}

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let minutes = if bench.long { 5.0 } else { 1.0 };
    let length = Duration::from_secs_f64(if bench.quick { 2.0 } else { 60.0 * minutes });
    let crowd = bench.programs.start_ready(&["crowd", &CROWD.to_string()])?;

    let memmon = Memmon::watch(&bench.programs, &Setup::default())?;
    let mut notes = Vec::new();
    let earlyoom = match bench.programs.earlyoom() {
        Ok(mut command) => {
            let mut earlyoom = Running::start(&mut command, Mounts::Shared)?;
            earlyoom.line("that it watches", |line| line.contains("SIGKILL when"))?;
            Some(earlyoom)
        }
        Err(why) => {
            notes.push(format!("earlyoom is not available: {}.", why.lines().next().unwrap_or_default()));
            None
        }
    };
    // Leave out the work of starting.
    thread::sleep(Duration::from_secs(1));
    let cpu = || -> Result<_> { Ok((memmon.0.cpu()?, earlyoom.as_ref().map(Running::cpu).transpose()?)) };
    let before = cpu()?;
    thread::sleep(length);
    let after = cpu()?;
    memmon.0.stop()?;
    let sweep = sweep(bench)?;
    let with_machine = with_machine(bench)?;
    crowd.release()?;

    let percent = |cpu: Duration| cpu.as_secs_f64() / length.as_secs_f64() * 100.0;
    let sweeps = sweep.as_secs_f64() / SWEEPS.as_secs_f64() * 100.0;
    let ours = percent(after.0 - before.0);
    let mut table = Table::new(["", "CPU %", "CPU ms per minute"]);
    let mut row =
        |name: &str, percent: f64| table.row([name.to_owned(), figure(percent), figure(percent * 600.0)]);
    row("memmon", ours);
    row("memmon, with its share of the sweep", ours + sweeps);
    let median = with_machine.median();
    let mut goals = vec![Goal::ratio("CPU time with [machine], in that without", 1.1, median)];
    if let (Some(before), Some(after)) = (before.1, after.1) {
        let theirs = percent(after - before);
        row("earlyoom", theirs);
        let what = "memmon with its share of the sweep, in 1/5 of earlyoom's";
        goals.push(Goal::ratio(what, 1.0, (ours + sweeps) / theirs * 5.0));
    }
    notes.push(format!(
        "With [machine] memmon takes {} times the CPU time ({}, {} rounds of {} s with each in turn, a scan every {SCANS} s).",
        ratio(median),
        with_machine.quartiles(ratio),
        with_machine.len(),
        ROUND.as_secs()
    ));
    notes.push(format!(
        "Once an hour memmon sweeps over /proc, which takes {} ms here: its share is added.",
        figure(sweep.as_secs_f64() * 1e3)
    ));
    Ok(ReportSection {
        title: "Idle",
        how: format!(
            "CPU time over {} s at the default interval (a scan every 30 s), beside {CROWD} sleeping processes and those \
             of the system. earlyoom: `--dryrun`, over the same period; it wakes up one to ten times a second.",
            length.as_secs()
        ),
        tables: vec![table],
        goals,
        notes,
        ..ReportSection::default()
    })
}
