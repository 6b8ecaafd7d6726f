//! The time from a process's crossing of its limit to its SIGTERM, and how far above the limit it is by then.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    memmon::{Memmon, Setup},
    near,
    programs::Bench,
    sample::{Sample, figure},
    section::{Goal, ReportSection, Table},
    sprint::{LIMIT, MOST, Sprint, sprint},
    user::TestUser,
};

/// A setting of memmon, by which it notices a crossing.
struct Way {
    name: &'static str,
    kernel: &'static str,
    interval: f64,
    /// Whether each sprint has a memmon of its own, which is in the calm gear; under the same one the exact gear stays in
    /// use from the first sprint on.
    calm: bool,
    /// The number of sprints in a full run and in a quick one.
    rounds: (usize, usize),
}

/// The ways to measure; the goals apply to the first.
const WAYS: [Way; 6] = [
    Way { name: "instant", kernel: "instant = true", interval: 30.0, calm: false, rounds: (160, 3) },
    Way {
        name: "instant, from the calm gear",
        kernel: "instant = true",
        interval: 30.0,
        calm: true,
        rounds: (80, 2),
    },
    Way {
        name: "instant, gear = \"always\"",
        kernel: "instant = true\ngear = \"always\"",
        interval: 30.0,
        calm: false,
        rounds: (160, 2),
    },
    Way {
        name: "instant, realtime",
        kernel: "instant = true\nrealtime = true",
        interval: 30.0,
        calm: false,
        rounds: (60, 2),
    },
    Way { name: "polling, 100 ms", kernel: "instant = false", interval: 0.1, calm: false, rounds: (30, 2) },
    Way { name: "polling, 1 s", kernel: "instant = false", interval: 1.0, calm: false, rounds: (10, 1) },
];

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let user = TestUser::claim()?;
    let mut table = Table::new([
        "", "", "ms to SIGTERM, p50", "p99", "worst", "overshoot MB, p50", "p99", "worst", "sprints",
    ]);
    let (mut goals, mut notes, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
    for busy in [false, true] {
        let beside = if busy { "beside two busy loops" } else { "idle machine" };
        for (number, way) in WAYS.iter().enumerate() {
            let rounds = if busy {
                bench.rounds(way.rounds.0 / 2, 1)
            } else {
                bench.rounds(way.rounds.0, way.rounds.1)
            };
            let sprints = sprints(bench, way, &user, busy, rounds)?;
            let latency =
                Sample::new(sprints.iter().map(|sprint| sprint.milliseconds)).context("no sprints")?;
            let overshoot =
                Sample::new(sprints.iter().map(|sprint| sprint.overshoot)).context("no sprints")?;
            if !busy {
                speeds.extend(sprints.iter().map(|sprint| sprint.speed));
            }
            let three = |sample: &Sample| [sample.median(), sample.percentile(99), sample.max()].map(figure);
            let mut cells = vec![way.name.to_owned(), beside.to_owned()];
            cells.extend(three(&latency));
            cells.extend(three(&overshoot));
            cells.push(sprints.len().to_string());
            table.row(cells);
            if number == 0 && !busy {
                let mut goal = |what: &str, at_most, reached, unit| {
                    let what = format!("instant, idle machine: {what}");
                    goals.push(Goal { what, at_most, reached, unit });
                };
                goal("crossing to SIGTERM, p50", 0.2, latency.median(), "ms");
                goal("crossing to SIGTERM, p99", 5.0, latency.percentile(99), "ms");
                goal("overshoot, p99", 8.0, overshoot.percentile(99), "MB");
            }
            let ended = sprints.iter().filter(|sprint| sprint.ended).count();
            if ended > 0 {
                notes.push(format!(
                    "{}, {beside}: {ended} of {} sprints reached their end, {} MiB above the limit, before SIGTERM; their \
                     overshoot would have been larger.",
                    way.name,
                    sprints.len(),
                    (MOST - LIMIT) >> 20
                ));
            }
        }
    }
    let (gears, near) = near::measure(bench, &user)?;
    goals.extend(near);
    let speed = Sample::new(speeds).context("no sprints")?.median() / 1e9;
    Ok(ReportSection {
        title: "From crossing to SIGTERM",
        how: format!(
            "Processes under a uid of their own touch memory page by page as fast as they can ({} GB/s up to the limit, \
             idle machine), past a limit of {} MiB up to {} MiB. Each records the time when it crosses the limit, and in \
             its SIGTERM handler the time and its memory. memmon enforces on that uid alone, with its defaults except for the \
             interval. The last table is from memmon's own log: each sprint has a memmon in the calm \
             gear, which attaches the exact one when the sprint is at half of its limit.",
            figure(speed),
            LIMIT >> 20,
            MOST >> 20
        ),
        tables: vec![table, gears],
        goals,
        notes,
        ..ReportSection::default()
    })
}

/// Runs sprints one after the other under one memmon.
fn sprints(bench: &Bench, way: &Way, user: &TestUser, busy: bool, rounds: usize) -> Result<Vec<Sprint>> {
    let setup = Setup { interval: way.interval, kernel: way.kernel, ..Setup::default() };
    let enforce = || Memmon::enforce(&bench.programs, &setup, user, LIMIT);
    let mut memmon = enforce()?;
    let loops = (0..if busy { 2 } else { 0 }).map(|_| bench.programs.start(&["spin"]));
    let loops = loops.collect::<Result<Vec<_>>>()?;
    let mut sprints = Vec::with_capacity(rounds);
    for round in 0..rounds {
        // The sprints are spread over the interval between polls, so that none is in step with them.
        if way.interval <= 1.0 {
            thread::sleep(Duration::from_secs_f64(way.interval * (round as f64 * 0.618).fract()));
        }
        if way.calm && round > 0 {
            memmon.0.stop()?;
            memmon = enforce()?;
        }
        sprints.push(sprint(&bench.programs, user, "pages")?);
    }
    drop(loops);
    memmon.0.stop()?;
    Ok(sprints)
}
