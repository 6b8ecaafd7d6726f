//! What a page fault costs with memmon attached, and what of it its program takes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    Bench,
    chapter::{Chapter, Goal, Table},
    child::{Mounts, Running},
    kernel::{Empty, Statistics, runs_of},
    memmon::{Memmon, with_and_without},
    sample::{Sample, figure, ratio},
};

/// Threads that fault at the same time, and what the ratio may be.
const THREADS: [(usize, f64); 2] = [(1, 1.02), (2, 1.05)];

/// Nanoseconds per event that the program may take.
const NET: f64 = 25.0;

pub(crate) fn measure(bench: &Bench) -> Result<Chapter> {
    let passes = bench.rounds(40, 5);
    let mut load = Running::start(&mut bench.programs.load(&["faults"]), Mounts::Shared)?;
    for (threads, _) in THREADS {
        faults(&mut load, threads, passes)?;
    }

    let mut net = Vec::new();
    let mut round = 0;
    let ratios = with_and_without(bench, bench.rounds(25, 2), |memmon| {
        let mut cpu = [Duration::ZERO; THREADS.len()];
        for (cpu, (threads, _)) in cpu.iter_mut().zip(THREADS) {
            *cpu = faults(&mut load, threads, passes)?;
        }
        if let Some(memmon) = memmon {
            if round % 5 == 0 {
                net.push(program(memmon, &mut load, passes)?);
            }
            round += 1;
        }
        Ok(cpu)
    })?;
    load.release()?;
    chapter(ratios, &net)
}

fn chapter(ratios: [Vec<f64>; THREADS.len()], net: &[Program]) -> Result<Chapter> {
    let mut table = Table::new(["threads", "CPU ratio", "quartiles", "rounds"]);
    let mut goals = Vec::new();
    for ((threads, at_most), ratios) in THREADS.into_iter().zip(ratios) {
        let sample = Sample::new(ratios).context("no rounds")?;
        let count = sample.len().to_string();
        table.row([threads.to_string(), ratio(sample.median()), sample.quartiles(ratio), count]);
        let what =
            format!("CPU ratio with memmon attached, {threads} thread{}", if threads > 1 { "s" } else { "" });
        goals.push(Goal { what, at_most, reached: sample.median(), unit: "" });
    }
    let mut programs = Table::new(["ns per rss_stat event", "median", "quartiles"]);
    let mut column = |name: &str, of: fn(&Program) -> f64| -> Result<f64> {
        let sample = Sample::new(net.iter().map(of)).context("no events")?;
        programs.row([name.to_owned(), figure(sample.median()), sample.quartiles(figure)]);
        Ok(sample.median())
    };
    column("memmon's program", |program| program.gross)?;
    column("an empty program", |program| program.floor)?;
    let reached = column("net", |program| program.gross - program.floor)?;
    let what = "net cost of an rss_stat event".to_owned();
    goals.push(Goal { what, at_most: NET, reached, unit: "ns" });
    let events: u64 = net.iter().map(|program| program.events).sum();
    Ok(Chapter {
        title: "Page faults",
        how: "A loop touches 64 MiB per thread page by page (4 KiB) and drops it (`MADV_DONTNEED`); its CPU time with \
              memmon attached against without, in turns. Nothing but faults: the worst case, which no real program is."
            .to_owned(),
        tables: vec![table, programs],
        goals,
        notes: vec![format!(
            "Net: the kernel's own statistics of BPF programs (`BPF_ENABLE_STATS`) over {events} events, less what they \
             say of an empty program on the same events, as reading the clock twice is in both."
        )],
        ..Chapter::default()
    })
}

/// The CPU time of `passes` over the memory by each of `threads`.
fn faults(load: &mut Running, threads: usize, passes: usize) -> Result<Duration> {
    load.say(&format!("{threads} {passes}"))?;
    let line = load.line("its CPU time", |_| true)?;
    Ok(Duration::from_nanos(line.parse().with_context(|| format!("`{line}` is no CPU time"))?))
}

/// Nanoseconds per run.
struct Program {
    gross: f64,
    floor: f64,
    events: u64,
}

/// What memmon's most frequent program takes, and an empty one beside it.
fn program(memmon: &Memmon, load: &mut Running, passes: usize) -> Result<Program> {
    let empty = Empty::attach(c"rss_stat")?;
    let statistics = Statistics::enable()?;
    let (before, floor_before) = (runs_of(memmon.0.pid())?, empty.runs()?);
    faults(load, 1, passes)?;
    let (after, floor_after) = (runs_of(memmon.0.pid())?, empty.runs()?);
    drop(statistics);
    let since = after.iter().filter_map(|(id, runs)| Some(runs.since(*before.get(id)?)));
    let (events, gross) = since.max_by_key(|(count, _)| *count).context("memmon holds no BPF programs")?;
    let (_, floor) = floor_after.since(floor_before);
    Ok(Program { gross, floor, events })
}
