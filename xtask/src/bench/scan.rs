//! CPU time of one whole scan, by the number of processes, compared to polling with psutil and to earlyoom's search for a
//! victim.

use std::{process::Command, time::Duration};

use anyhow::Result;

use super::{
    child::{Mounts, Running},
    memmon::{Memmon, Setup, is_scan, passes},
    programs::Bench,
    sample::{Sample, figure},
    section::{Goal, ReportSection, Table},
};

/// Idle processes besides those that run anyway.
const SIZES: [usize; 3] = [200, 2_000, 8_000];

/// Seconds between scans: the smallest interval that memmon accepts.
const INTERVAL: f64 = 0.1;

/// Rules of the row with rules.
const RULES: usize = 50;

/// Rules of each kind that a configuration has many of: for programs, users, units and command lines. No limit is below
/// 256 MiB, with which the kernel side would have one gear.
fn rules() -> String {
    let matcher = |number: usize| match number % 4 {
        0 => format!("names = [\"program-{number}\", \"other-{number}*\"]"),
        1 => format!("uids = [\"{}\"]", 20_000 + number),
        2 => format!("units = [\"service-{number}.service\"]"),
        _ => format!("exe = [\"/opt/program-{number}/**\"]\nargs = [\"server-*\"]"),
    };
    let rule = |number| {
        format!(
            "[[rule]]\nname = \"rule-{number}\"\n{}\ngb = {}\n",
            matcher(number),
            0.3 + number as f64 / 10.0
        )
    };
    (0..RULES).map(rule).collect()
}

/// A program that passes over all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ebpf,
    /// The same with [`RULES`] rules.
    Rules,
    Proc,
    Polling,
    Earlyoom,
}

const ALL: [Who; 5] = [Who::Ebpf, Who::Rules, Who::Proc, Who::Polling, Who::Earlyoom];

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Ebpf => "memmon, ebpf",
            Self::Rules => "memmon, ebpf, 50 rules",
            Self::Proc => "memmon, proc",
            Self::Polling => "psutil",
            Self::Earlyoom => "earlyoom",
        }
    }

    /// CPU milliseconds of each of a few passes, or the reason if the program is not available.
    fn passes(self, bench: &Bench) -> Result<Result<Vec<f64>, String>> {
        let rules = if self == Self::Rules { rules() } else { String::new() };
        let memmon = |source, count| -> Result<Vec<Duration>> {
            let setup = Setup { source, interval: INTERVAL, thresholds: &rules, ..Setup::default() };
            let mut memmon = Memmon::watch(&bench.programs, &setup)?;
            let cpu = passes(&mut memmon.0, count, is_scan)?;
            memmon.0.stop()?;
            Ok(cpu)
        };
        let peer = |command: Result<Command, String>, count, ends: fn(&str) -> bool| -> Result<_> {
            let mut command = match command {
                Ok(command) => command,
                Err(why) => return Ok(Err(why)),
            };
            let mut peer = Running::start(&mut command, Mounts::Shared)?;
            Ok(Ok(passes(&mut peer, count, ends)?))
        };
        let cpu = match self {
            Self::Ebpf | Self::Rules => Ok(memmon("ebpf", bench.rounds(20, 2))?),
            Self::Proc => Ok(memmon("proc", bench.rounds(10, 2))?),
            Self::Polling => peer(bench.programs.polling(INTERVAL), bench.rounds(3, 1), is_scan)?,
            Self::Earlyoom => {
                // With a threshold above the available memory it looks for a victim each time, and logs it.
                let command = bench.programs.earlyoom().map(|mut command| {
                    command.args(["-m", "99"]);
                    command
                });
                peer(command, bench.rounds(10, 2), |line| {
                    line.starts_with("sending SIG") && line.contains(" to process")
                })?
            }
        };
        Ok(cpu.map(|cpu| cpu.iter().map(|cpu| cpu.as_secs_f64() * 1e3).collect()))
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let sizes = if bench.quick { &SIZES[..1] } else { &SIZES };
    let mut table = Table::new([
        "", "idle processes", "CPU ms per scan", "quartiles", "scans", "µs per process", "psutil / this",
    ]);
    let mut found: Vec<(Who, usize, Sample)> = Vec::new();
    let (mut notes, mut sweep) = (Vec::new(), Duration::ZERO);
    for &size in sizes {
        let crowd = bench.programs.start_ready(&["crowd", &size.to_string()])?;
        let mut figures = ALL.map(|_| Vec::new());
        for _ in 0..bench.rounds(3, 1) {
            for (who, figures) in ALL.into_iter().zip(&mut figures) {
                match who.passes(bench)? {
                    Ok(passes) => figures.extend(passes),
                    Err(why) => {
                        let note =
                            format!("{} is not available: {}.", who.name(), why.lines().next().unwrap_or(""));
                        if !notes.contains(&note) {
                            notes.push(note);
                        }
                    }
                }
            }
        }
        sweep = super::memmon::sweep(bench)?;
        crowd.release()?;
        let samples = ALL
            .into_iter()
            .zip(figures)
            .filter_map(|(who, figures)| Some((who, size, Sample::new(figures)?)));
        found.extend(samples);
    }

    let cost = |who, size| found.iter().find(|one| one.0 == who && one.1 == size).map(|one| one.2.median());
    for (who, size, sample) in &found {
        let times =
            cost(Who::Polling, *size).map_or("–".to_owned(), |polling| figure(polling / sample.median()));
        table.row([
            who.name().to_owned(),
            size.to_string(),
            figure(sample.median()),
            sample.quartiles(figure),
            sample.len().to_string(),
            figure(sample.median() * 1e3 / *size as f64),
            times,
        ]);
    }
    let mut goals = Vec::new();
    for (who, share) in [(Who::Ebpf, 150.0), (Who::Proc, 8.0)] {
        let size = if bench.quick { SIZES[0] } else { 2_000 };
        if let (Some(ours), Some(theirs)) = (cost(who, size), cost(Who::Polling, size)) {
            let what = format!("{} at {size} processes, in 1/{share} of psutil's", who.name());
            goals.push(Goal::ratio(what, 1.0, ours / theirs * share));
        }
    }
    let size = if bench.quick { SIZES[0] } else { 2_000 };
    if let (Some(with), Some(without)) = (cost(Who::Rules, size), cost(Who::Ebpf, size)) {
        let what = format!("ebpf: {RULES} rules against none at {size} processes");
        goals.push(Goal::ratio(what, 1.2, with / without));
    }
    if let (Some(few), Some(many)) = (cost(Who::Ebpf, SIZES[0]), cost(Who::Ebpf, SIZES[2])) {
        let per_process = (many / SIZES[2] as f64) / (few / SIZES[0] as f64);
        goals.push(Goal::ratio("ebpf: cost per process at 8,000 against 200 (flat)", 1.0, per_process));
    }
    if let Some(size) = sizes.last() {
        notes.push(format!(
            "ebpf: ten minutes after the start, and then every hour as long as the map has no defects, memmon compares the map \
             with all of /proc, by a thread that rests most of the time. That is not in these figures: with {size} processes it \
             takes {} ms, with the scans before and after it.",
            figure(sweep.as_secs_f64() * 1e3),
        ));
    }
    Ok(ReportSection {
        title: "Scans",
        how: format!(
            "CPU time (user and system, all threads) from the end of one scan to the end of the next, {INTERVAL} s apart, \
             beside a crowd of sleeping processes. psutil: one pass that reads pid, name, user and memory of each process \
             (xtask/bench/polling.py). earlyoom: `--dryrun -m 99`, one search for the largest process; it reads the names \
             and scores of all processes, but not their users."
        ),
        tables: vec![table],
        goals,
        notes,
        ..ReportSection::default()
    })
}
