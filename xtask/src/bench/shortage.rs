//! `[machine]` on a small machine that becomes short of memory: the time that memmon takes, what it ends, and what is left.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    memmon::{Memmon, Setup},
    programs::Bench,
    sample::{Sample, figure},
    section::{Goal, ReportSection, Table},
    user::TestUser,
};

/// The loads (memmon/examples/load/shortage.rs), with a description.
const LOADS: [(&str, &str); 4] = [
    ("hog", "one process that takes 280 MB as fast as it can"),
    ("workers", "eight that take 60 MB each, 20 MB a second"),
    ("storm", "thirty that take 15 MB each, 15 MB a second, and start every 0.1 s"),
    ("leak", "one that has 30 MB and takes 250 MB more, 20 MB a second"),
];
/// Those of a quick run.
const QUICK: usize = 2;

/// The longest time of one run.
const LONGEST: Duration = Duration::from_secs(300);
/// Maximum time by which a load starts later than memmon's first scan: the longest pause between two looks of memmon.
const SPREAD: f64 = 1.0;

/// A figure of a run, with its name.
type Figure = (&'static str, fn(&Run) -> Option<f64>);

const FIGURES: [Figure; 5] = [
    ("ms from the report to SIGTERM", |run| run.to_term),
    ("ms to the end of the last", |run| run.to_last_end),
    ("ms to enough memory again", |run| run.to_enough),
    ("processes ended", |run| Some(run.ended)),
    (LEAST_FREE, |run| run.least_free),
];
const LEAST_FREE: &str = "MB free at the least";

/// The outcome of one run. Times are in milliseconds from memmon's report that it acts.
#[derive(Clone, Debug, Default, PartialEq)]
struct Run {
    /// None if no process was ended.
    to_term: Option<f64>,
    to_last_end: Option<f64>,
    /// None if memmon has not reported it: a load that stays may have so much that it is never true.
    to_enough: Option<f64>,
    ended: f64,
    /// Megabytes; none on kernels that do not know it.
    least_free: Option<f64>,
    killed_by_kernel: f64,
    database_lives: bool,
}

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let loads = &LOADS[..if bench.quick { QUICK } else { LOADS.len() }];
    let rounds = bench.rounds(8, 1);
    let mut runs = vec![Vec::new(); loads.len()];
    for round in 0..rounds {
        for ((load, _), runs) in loads.iter().zip(&mut runs) {
            let delay = Duration::from_secs_f64(SPREAD * (round as f64 * 0.618).fract());
            runs.push(run(bench, load, delay).with_context(|| format!("the load {load}"))?);
        }
    }

    let mut table = Table::new(["", "", "median", "quartiles", "worst", "starts"]);
    for ((load, _), runs) in loads.iter().zip(&runs) {
        for (name, get) in FIGURES {
            let sample = Sample::new(runs.iter().filter_map(get));
            let Some(sample) = sample else { continue };
            let worst = if name == LEAST_FREE { sample.percentile(0) } else { sample.max() };
            table.row([
                (*load).to_owned(),
                name.to_owned(),
                figure(sample.median()),
                sample.quartiles(figure),
                figure(worst),
                sample.len().to_string(),
            ]);
        }
    }
    let all = || runs.iter().flatten();
    let ended = all().filter(|run| !run.database_lives).count();
    Ok(ReportSection {
        title: "A machine short of memory",
        how: format!(
            "memmon with `[machine]` and its defaults, with the rights of root, on a machine made of a cgroup of 400 MB and a pid \
             namespace, beside an idle database of 100 MB of another user; it reads /proc there, as in a container. It may end \
             processes of the load's user alone. The loads, in turn, each of them with a new memmon: {}. A load starts up to {SPREAD} s \
             after memmon's first scan. Free memory at the least is the limit without the most that the cgroup had in use, page \
             cache included.",
            loads.iter().map(|(load, what)| format!("`{load}`, {what}")).collect::<Vec<_>>().join("; ")
        ),
        tables: vec![table],
        goals: vec![
            Goal::ratio(
                "processes that the kernel's OOM killer ended",
                0.0,
                all().map(|run| run.killed_by_kernel).sum(),
            ),
            Goal::ratio("databases that ended", 0.0, ended as f64),
        ],
        notes: vec![
            "Times begin with memmon's report that the machine is short of memory. It reports that there is enough again when twice \
             the memory of a warning is available, which those of `workers` and `storm` that stay do not leave."
                .to_owned(),
            "earlyoom has no part in this: it reads /proc/meminfo, which shows the host's memory there.".to_owned(),
        ],
        ..ReportSection::default()
    })
}

fn run(bench: &Bench, load: &str, delay: Duration) -> Result<Run> {
    let (user, other) = (TestUser::claim()?, TestUser::claim()?);
    let [uid, other, delay] =
        [u128::from(user.uid()), u128::from(other.uid()), delay.as_millis()].map(|number| number.to_string());
    let mut command = bench.programs.load(&["shortage", load, &uid, &other, &delay]);
    command.arg(&bench.programs.memmon);
    let setup = Setup { source: "proc", ..Setup::default() };
    let sections = "[machine]\n[log]\nformat = \"json\"\n";
    let machine = Memmon::enforce_by(command, &bench.programs, &setup, sections, &user, 16 << 30)?;
    let (lines, succeeded) = machine.0.finish(LONGEST)?;
    let run = Run::read(&lines);
    // If the kernel has ended memmon itself, the run is over, and a result.
    ensure!(succeeded || run.killed_by_kernel > 0.0, "the machine failed:\n{}", lines.join("\n"));
    Ok(run)
}

impl Run {
    /// The outcome by what memmon and the machine have printed.
    fn read(lines: &[String]) -> Self {
        let events: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let every = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
        let acts = every("memory_low").find(|event| event["acts"] == true).and_then(time);
        let since = |time: f64| Some((time - acts?).rem_euclid(86_400.0) * 1e3);
        let records = || every("terminated");
        let terms =
            records().filter_map(|record| Some(time(record)? - record["signal_to_exit_seconds"].as_f64()?));
        let over = every("machine_over").next();
        Self {
            to_term: terms.min_by(f64::total_cmp).and_then(since),
            to_last_end: records().filter_map(time).next_back().and_then(since),
            to_enough: every("memory_back").filter_map(time).next().and_then(since),
            ended: records().count() as f64,
            least_free: over.and_then(|over| Some(over["least_free_bytes"].as_f64()? / 1e6)),
            killed_by_kernel: over.and_then(|over| over["killed_by_kernel"].as_f64()).unwrap_or_default(),
            database_lives: every("load_over").any(|over| over["database_lives"] == true),
        }
    }
}

/// Seconds of the day at an event: `2026-11-30T09:54:14.703114+00:00`.
fn time(event: &Value) -> Option<f64> {
    let clock = event["time"].as_str()?.split_once('T')?.1.get(..15)?;
    let parts: Vec<f64> = clock.split(':').filter_map(|part| part.parse().ok()).collect();
    let [hours, minutes, seconds] = parts[..] else { return None };
    Some((hours * 60.0 + minutes) * 60.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_from_its_events() {
        let lines = [
            r#"{"time":"2026-11-30T23:59:58.000000+00:00","event":"memory_low","acts":false}"#,
            r#"{"time":"2026-11-30T23:59:59.999000+00:00","event":"memory_low","acts":true}"#,
            r#"{"time":"2026-12-01T00:00:00.009000+00:00","event":"terminated","signal_to_exit_seconds":0.007}"#,
            r#"{"time":"2026-12-01T00:00:00.109000+00:00","event":"terminated","signal_to_exit_seconds":0.05}"#,
            r#"{"time":"2026-12-01T00:00:00.199000+00:00","event":"memory_back"}"#,
            r#"{"event":"load_over","pids":[12],"database_lives":true}"#,
            "not JSON",
            r#"{"event":"machine_over","killed_by_kernel":1,"least_free_bytes":2500000}"#,
        ];
        let run = Run::read(&lines.map(str::to_owned));
        let rounded = |time: Option<f64>| time.map(f64::round);
        assert_eq!([run.to_term, run.to_last_end, run.to_enough].map(rounded), [3.0, 110.0, 200.0].map(Some));
        assert_eq!((run.ended, run.least_free, run.killed_by_kernel), (2.0, Some(2.5), 1.0));
        assert!(run.database_lives);
        let nothing = Run::read(&[]);
        assert_eq!(nothing, Run::default());
    }
}
