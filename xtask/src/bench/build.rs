//! A real build with memmon attached, compared to one without it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::{
    sys::resource::{UsageWho, getrusage},
    sys::time::TimeValLike as _,
};

use super::{
    kernel::{Statistics, runs_of},
    memmon::{Memmon, Setup},
    programs::Bench,
    sample::in_turn,
    section::{Goal, ReportSection, Table},
};
use crate::{shell, workspace};

/// CPU and wall time.
type Times = [Duration; 2];

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let package = if bench.quick { "memmon-common" } else { "memmon" };
    let mut number = 0;
    // Build the dependencies and fill the caches.
    build(bench, package, &mut number)?;
    let rounds = in_turn(bench.rounds(10, 1), |_, attached| {
        let memmon =
            (attached == 1).then(|| Memmon::watch(&bench.programs, &Setup::default())).transpose()?;
        let times = build(bench, package, &mut number)?;
        memmon.map_or(Ok(()), |memmon| memmon.0.stop())?;
        Ok(times)
    })?;
    let ratios = |time: usize| {
        rounds.iter().map(move |[without, with]| with[time].as_secs_f64() / without[time].as_secs_f64())
    };
    let mut table = Table::new(["", "ratio", "quartiles", "rounds"]);
    let ratio = table.ratios(["CPU time".to_owned()], ratios(0))?;
    table.ratios(["wall time".to_owned()], ratios(1))?;
    let mut shares = Vec::new();
    for _ in 0..bench.rounds(5, 1) {
        shares.push(1.0 + share(bench, package, &mut number)?);
    }
    let share = table.ratios(["CPU time, with what memmon and its programs took".to_owned()], shares)?;
    Ok(ReportSection {
        title: "A real build",
        how: format!(
            "`cargo rustc --package {package} --lib`, with its dependencies already built. The ratio compares runs with \
             memmon attached to runs without it, alternately. The time of a build varies by more than memmon can cost; \
             so the last row adds up what that is: the CPU time of memmon, and of its BPF programs by the kernel's own \
             statistics (`BPF_ENABLE_STATS`, which include two readings of the clock for each run)."
        ),
        tables: vec![table],
        goals: vec![
            Goal::ratio("CPU ratio of a build", 1.01, ratio),
            Goal::ratio("CPU time with memmon's, in that of a build", 1.003, share),
        ],
        ..ReportSection::default()
    })
}

/// The CPU time of memmon and of its BPF programs during a build, in that of the build.
fn share(bench: &Bench, package: &str, number: &mut u32) -> Result<f64> {
    let memmon = Memmon::watch(&bench.programs, &Setup::default())?;
    let statistics = Statistics::enable()?;
    let (before, own_before) = (runs_of(memmon.0.pid())?, memmon.0.cpu()?);
    let [build, _] = build(bench, package, number)?;
    let (after, own) = (runs_of(memmon.0.pid())?, memmon.0.cpu()? - own_before);
    drop(statistics);
    memmon.0.stop()?;
    let runs = after.iter().filter_map(|(id, runs)| Some(runs.since(*before.get(id)?)));
    let nanoseconds: f64 = runs.map(|(count, each)| count as f64 * each).sum();
    Ok((nanoseconds / 1e9 + own.as_secs_f64()) / build.as_secs_f64())
}

/// Compiles `package` again, without touching the checkout.
fn build(bench: &Bench, package: &str, number: &mut u32) -> Result<Times> {
    *number += 1;
    let mut cargo = workspace::cargo();
    cargo
        .env("CARGO_INCREMENTAL", "0")
        .args(["rustc", "--quiet", "--lib", "--package", package, "--no-default-features", "--target-dir"])
        .arg(bench.programs.scratch.join("build"))
        // A crate hash that differs from the previous one, so that cargo compiles the crate again.
        .args(["--", &format!("-Cmetadata=round{number}.{}", std::process::id())]);
    let (cpu, begun) = (children()?, Instant::now());
    shell::read(&mut cargo)?;
    Ok([children()? - cpu, begun.elapsed()])
}

/// CPU time of all children that have ended, and of theirs.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}
