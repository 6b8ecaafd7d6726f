//! The cost of task switches with memmon attached: two processes that hand a byte to and fro, as `perf bench sched pipe` does.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    child::Running,
    fault::Attached,
    memmon::Memmon,
    programs::Bench,
    sample::in_turn,
    section::{Goal, ReportSection, Table},
};

/// The loads in turn; the others are compared to the first.
const ALL: [Attached; 4] = [Attached::Nothing, Attached::Control, Attached::Calm, Attached::Always];

/// The largest ratio that meets the goal while no process is near its limit.
const CALM: f64 = 1.01;

/// Round trips of one measurement: a quarter of a second, about.
const TRIPS: usize = 50_000;

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let trips = if bench.quick { 500 } else { TRIPS };
    let mut load = bench.programs.start(&["switches"])?;
    let rounds: Vec<[Duration; ALL.len()]> = in_turn(bench.rounds(60, 2), |_, which| {
        let memmon = ALL[which].setup().map(|setup| Memmon::watch(&bench.programs, &setup)).transpose()?;
        // The first pass is for the caches, and for what memmon does once.
        switches(&mut load, trips)?;
        let time = switches(&mut load, trips)?;
        memmon.map_or(Ok(()), |memmon| memmon.0.stop())?;
        Ok(time)
    })?;
    load.release()?;
    let mut table = Table::new(["attached", "CPU ratio", "quartiles", "rounds"]);
    let mut against_nothing = |which: usize| -> Result<f64> {
        let ratios = rounds.iter().map(|times| times[which].as_secs_f64() / times[0].as_secs_f64());
        table.ratios([ALL[which].name().to_owned()], ratios)
    };
    let [_, reached, _] = [against_nothing(1)?, against_nothing(2)?, against_nothing(3)?];
    Ok(ReportSection {
        title: "Task switches",
        how: format!(
            "Two processes hand a byte to and fro through two pipes, {TRIPS} times, as `perf bench sched pipe` does. The \
             ratio compares their CPU time with memmon attached to that with nothing attached, alternately."
        ),
        tables: vec![table],
        goals: vec![Goal::ratio("CPU ratio, no process near its limit", CALM, reached)],
        ..ReportSection::default()
    })
}

/// CPU time of both processes for so many round trips.
fn switches(load: &mut Running, trips: usize) -> Result<Duration> {
    load.say(&trips.to_string())?;
    let line = load.line("their CPU time", |_| true)?;
    Ok(Duration::from_nanos(line.parse().with_context(|| format!("`{line}` is not a CPU time"))?))
}
