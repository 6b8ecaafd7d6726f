//! The cost of a page fault with memmon attached, and the part of it that memmon's BPF program takes.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{
    child::Running,
    kernel::{Empty, Statistics, runs_of},
    memmon::{Memmon, Setup},
    programs::Bench,
    sample::{Sample, figure, in_turn},
    section::{Goal, ReportSection, Table},
};

/// Threads that fault at the same time.
pub(super) const THREADS: [usize; 2] = [1, 2];

/// The largest ratio that meets the goal while no process is near its limit.
const CALM: f64 = 1.01;

/// Nanoseconds per event that the program may take.
const NET: f64 = 25.0;

/// The program that is attached while the load faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attached {
    Nothing,
    /// The same as nothing: what differs is noise.
    Control,
    /// A program that returns at once: the least that any tracing of the event costs.
    Empty,
    /// memmon with its defaults, while no process is near its limit.
    Calm,
    /// The same, while a process is near its limit.
    Near,
    /// memmon with `kernel.gear = "always"`.
    Always,
    /// The same, while the kernel keeps the sums of users and of cgroups.
    Sums,
}

const ALL: [Attached; 7] = [
    Attached::Nothing,
    Attached::Control,
    Attached::Empty,
    Attached::Calm,
    Attached::Near,
    Attached::Always,
    Attached::Sums,
];

impl Attached {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Control => "nothing, again",
            Self::Empty => "an empty program on rss_stat",
            Self::Calm => "memmon, no process near its limit",
            Self::Near => "memmon, a process near its limit",
            Self::Always => "memmon, gear = \"always\"",
            Self::Sums => "memmon, gear = \"always\", sums of users and cgroups",
        }
    }

    pub(super) const fn setup(self) -> Option<Setup<'static>> {
        let defaults = Setup::DEFAULT;
        match self {
            Self::Nothing | Self::Control | Self::Empty => None,
            Self::Calm => Some(defaults),
            Self::Near => Some(Setup { thresholds: NEAR, ..defaults }),
            Self::Always => Some(Setup { kernel: "gear = \"always\"", ..defaults }),
            Self::Sums => Some(Setup { kernel: SUMS, ..defaults }),
        }
    }
}

/// A limit of which [`HELD`] is more than the half, and the load less.
const NEAR: &str = "ram_gb_threshold = 0.5\nram_percent_threshold = 100";
const HELD: &str = "300";

/// Rules for sums that are never reached.
const SUMS: &str = "gear = \"always\"\n\n\
    [[rule]]\nname = \"user\"\nuids = [\"0-4294967294\"]\nper = \"user\"\ngb = 1000\n\n\
    [[rule]]\nname = \"cgroup\"\nuids = [\"0-4294967294\"]\nper = \"cgroup\"\ngb = 1000\n";

/// Factor by which the ratio may be larger while sums are kept.
const KEPT: f64 = 0.005;

/// CPU time by number of threads.
pub(super) type Times = [Duration; THREADS.len()];

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let passes = bench.rounds(10, 5);
    let mut load = bench.programs.start(&["faults"])?;
    let holder = bench.programs.start_ready(&["hold", HELD])?;
    for threads in THREADS {
        faults(&mut load, threads, passes)?;
    }
    let (mut net, mut net_with_sums) = (Vec::new(), Vec::new());
    let rounds = in_turn(bench.rounds(100, 2), |round, which| {
        let attached = ALL[which];
        let memmon = attached.setup().map(|setup| Memmon::watch(&bench.programs, &setup)).transpose()?;
        let empty = (attached == Attached::Empty).then(|| Empty::attach(c"rss_stat")).transpose()?;
        warm_up(&mut load, passes)?;
        let mut times = Times::default();
        for (time, threads) in times.iter_mut().zip(THREADS) {
            *time = faults(&mut load, threads, passes)?;
        }
        drop(empty);
        if let Some(memmon) = memmon {
            let costs = match attached {
                Attached::Always => Some(&mut net),
                Attached::Sums => Some(&mut net_with_sums),
                _ => None,
            };
            if let Some(costs) = costs.filter(|_| round % 20 == 0) {
                costs.push(program(&memmon, &mut load, 4 * passes)?);
            }
            memmon.0.stop()?;
        }
        Ok(times)
    })?;
    load.release()?;
    holder.release()?;
    section(&rounds, [&net, &net_with_sums])
}

/// Faults as often as a measurement does, so that none of them gets the pages that a start of memmon has left behind, or runs
/// while memmon does what it does once. Each round has it, with and without memmon.
pub(super) fn warm_up(load: &mut Running, passes: usize) -> Result<()> {
    THREADS.into_iter().try_for_each(|threads| faults(load, threads, passes).map(drop))
}

fn section(rounds: &[[Times; ALL.len()]], [net, net_with_sums]: [&[Program]; 2]) -> Result<ReportSection> {
    let mut table = Table::new(["threads", "attached", "CPU ratio", "quartiles", "rounds"]);
    let mut goals = Vec::new();
    for (number, threads) in THREADS.into_iter().enumerate() {
        let mut against_nothing = |which: Attached| -> Result<f64> {
            let ratios = rounds.iter().map(|times| {
                let [nothing, this] = [Attached::Nothing, which].map(|which| times[which as usize][number]);
                this.as_secs_f64() / nothing.as_secs_f64()
            });
            table.ratios([threads.to_string(), which.name().to_owned()], ratios)
        };
        against_nothing(Attached::Control)?;
        against_nothing(Attached::Empty)?;
        let calm = against_nothing(Attached::Calm)?;
        let near = against_nothing(Attached::Near)?;
        let always = against_nothing(Attached::Always)?;
        let sums = against_nothing(Attached::Sums)?;
        let goal = |what: &str, at_most, reached| {
            let what = format!("CPU ratio, {what}, {threads} thread{}", if threads > 1 { "s" } else { "" });
            Goal::ratio(what, at_most, reached)
        };
        goals.push(goal("no process near its limit", CALM, calm));
        goals.push(goal("a process near its limit, against gear = \"always\"", always, near));
        goals.push(goal("sums of users and cgroups, against gear = \"always\"", always + KEPT, sums));
    }
    let mut programs = Table::new(["ns per rss_stat event", "median", "quartiles"]);
    let mut column = |name: &str, costs: &[Program], of: fn(&Program) -> f64| -> Result<f64> {
        let sample = Sample::new(costs.iter().map(of)).context("no events")?;
        programs.row([name.to_owned(), figure(sample.median()), sample.quartiles(figure)]);
        Ok(sample.median())
    };
    column("memmon's program", net, |program| program.gross)?;
    column("an empty program", net, |program| program.floor)?;
    let reached = column("net", net, |program| program.gross - program.floor)?;
    column("net, with sums of users and cgroups", net_with_sums, |program| program.gross - program.floor)?;
    let what = "net cost of an rss_stat event".to_owned();
    goals.push(Goal { what, at_most: NET, reached, unit: "ns" });
    let events: u64 = net.iter().map(|program| program.events).sum();
    Ok(ReportSection {
        title: "Page faults",
        how: "A loop touches 64 MiB per thread page by page (4 KiB) and drops it (`MADV_DONTNEED`). The ratio compares \
              its CPU time with a program attached to its CPU time with none, alternately. The loop does nothing but \
              fault, which is the worst case and no real program. An empty program on the same event shows the kernel's \
              cost of calling any program."
            .to_owned(),
        tables: vec![table, programs],
        goals,
        notes: vec![format!(
            "Net: the kernel's own statistics of BPF programs (`BPF_ENABLE_STATS`) over {events} events, minus those of \
             an empty program on the same events, because both include reading the clock twice."
        )],
        ..ReportSection::default()
    })
}

/// The CPU time of `passes` over the memory by each of `threads`.
pub(super) fn faults(load: &mut Running, threads: usize, passes: usize) -> Result<Duration> {
    load.say(&format!("{threads} {passes}"))?;
    let line = load.line("its CPU time", |_| true)?;
    Ok(Duration::from_nanos(line.parse().with_context(|| format!("`{line}` is not a CPU time"))?))
}

/// Nanoseconds per run.
struct Program {
    gross: f64,
    floor: f64,
    events: u64,
}

/// The times of memmon's most frequent program, and of an empty one beside it.
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
