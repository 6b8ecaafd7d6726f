//! This build beside an earlier one, alternately in one run: whether a change has made memmon slower.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::{
    child::{Mounts, Running},
    choice::Section,
    crossing::{LIMIT, Sprint, sprint},
    fault::{THREADS, Times, faults, warm_up},
    memmon::{Memmon, Setup, is_scan, passes},
    programs::{Bench, Programs},
    sample::{Sample, figure, ratio},
    section::{Goal, ReportSection, Table},
    user::TestUser,
};
use crate::shell;

/// The largest ratio of a time that counts as no slower.
const CROSSING: f64 = 1.05;
/// The same for the CPU time of page faults and scans.
const CPU: f64 = 1.03;

/// Sprints under one memmon: the first starts from the calm gear.
const SPRINTS: usize = 5;

/// Sleeping processes beside which scans are measured.
const CROWD: &str = "2000";

/// Figures of one build.
#[derive(Default)]
struct Figures {
    /// A sprint's milliseconds to SIGTERM, and its overshoot in MB: from the calm gear, and the others.
    calm: Vec<Sprint>,
    exact: Vec<Sprint>,
    /// The others beside two busy loops.
    busy: Vec<Sprint>,
    /// CPU milliseconds per scan.
    scans: Vec<f64>,
    /// CPU seconds of the page-fault loop per round, by number of threads.
    faults: Vec<[f64; THREADS.len()]>,
}

/// Measures the memmon of `bench` against the one at `earlier`, under the loads of `parts`.
pub(crate) fn measure(bench: &Bench, earlier: &Path, parts: &[Section]) -> Result<ReportSection> {
    ensure!(shell::is_executable(earlier), "{} is not a program", earlier.display());
    let name = earlier.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let builds = [bench.programs.clone(), bench.programs.with(earlier.canonicalize()?)];
    let mut figures = [Figures::default(), Figures::default()];
    for part in parts {
        match part {
            Section::Crossing => crossings(bench, &builds, &mut figures)?,
            Section::Scan => scans(bench, &builds, &mut figures)?,
            Section::Fault => page_faults(bench, &builds, &mut figures)?,
            Section::Switch | Section::Idle | Section::Memory | Section::Build => {
                bail!("an earlier build is compared by crossing, scan and fault alone")
            }
        }
    }
    section(&name, &figures)
}

/// Runs `measure` on both builds, `rounds` times; each comes first as often as the other.
fn alternately(
    rounds: usize,
    builds: &[Programs; 2],
    figures: &mut [Figures; 2],
    mut measure: impl FnMut(&Programs, &mut Figures) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        for which in [round % 2, 1 - round % 2] {
            measure(&builds[which], &mut figures[which])?;
        }
    }
    Ok(())
}

fn crossings(bench: &Bench, builds: &[Programs; 2], figures: &mut [Figures; 2]) -> Result<()> {
    let user = TestUser::claim()?;
    let run = |programs: &Programs| -> Result<Vec<Sprint>> {
        let memmon = Memmon::enforce(programs, &Setup::default(), &user, LIMIT)?;
        let sprints = (0..SPRINTS).map(|_| sprint(programs, &user)).collect();
        memmon.0.stop()?;
        sprints
    };
    alternately(bench.rounds(80, 1), builds, figures, |programs, figures| {
        let mut sprints = run(programs)?.into_iter();
        figures.calm.extend(sprints.next());
        figures.exact.extend(sprints);
        Ok(())
    })?;
    let spin = || Running::start(&mut bench.programs.load(&["spin"]), Mounts::Shared);
    let loops = [spin()?, spin()?];
    alternately(bench.rounds(30, 1), builds, figures, |programs, figures| {
        figures.busy.extend(run(programs)?.into_iter().skip(1));
        Ok(())
    })?;
    drop(loops);
    Ok(())
}

fn scans(bench: &Bench, builds: &[Programs; 2], figures: &mut [Figures; 2]) -> Result<()> {
    let mut crowd = Running::start(&mut bench.programs.load(&["crowd", CROWD]), Mounts::Shared)?;
    crowd.line("that it is ready", |line| line == "ready")?;
    let setup = Setup { interval: 0.1, ..Setup::default() };
    alternately(bench.rounds(20, 1), builds, figures, |programs, figures| {
        let mut memmon = Memmon::watch(programs, &setup)?;
        let times = passes(&mut memmon.0, 10, is_scan)?;
        figures.scans.extend(times.iter().map(|time| time.as_secs_f64() * 1e3));
        memmon.0.stop()
    })?;
    crowd.release()
}

fn page_faults(bench: &Bench, builds: &[Programs; 2], figures: &mut [Figures; 2]) -> Result<()> {
    let repeats = bench.rounds(10, 5);
    let mut load = Running::start(&mut bench.programs.load(&["faults"]), Mounts::Shared)?;
    alternately(bench.rounds(60, 2), builds, figures, |programs, figures| {
        let memmon = Memmon::watch(programs, &Setup::default())?;
        warm_up(&mut load, repeats)?;
        let mut times = Times::default();
        for (time, threads) in times.iter_mut().zip(THREADS) {
            *time = faults(&mut load, threads, repeats)?;
        }
        figures.faults.push(times.map(|time| time.as_secs_f64()));
        memmon.0.stop()
    })?;
    load.release()
}

fn section(name: &str, figures: &[Figures; 2]) -> Result<ReportSection> {
    let mut table = Table::new(["", "", "this build", "earlier", "ratio", "samples of each"]);
    let mut goals = Vec::new();
    let mut row = |what: &str, unit: &str, at_most: f64, share: usize, of: &dyn Fn(&Figures) -> Vec<f64>| {
        let [ours, theirs] = figures.each_ref().map(|figures| Sample::new(of(figures)));
        // Of a part that was not asked for.
        let Some((ours, theirs)) = ours.zip(theirs) else { return };
        let of_share = |sample: &Sample| if share == 50 { sample.median() } else { sample.percentile(share) };
        let reached = of_share(&ours) / of_share(&theirs);
        let shown = [&ours, &theirs].map(|sample| figure(of_share(sample)));
        let [this, earlier] = shown;
        let what = format!("{what}, p{share}");
        table.row([what.clone(), unit.to_owned(), this, earlier, ratio(reached), ours.len().to_string()]);
        goals.push(Goal { what, at_most, reached, unit: "" });
    };
    for share in [50, 99] {
        type Sprints = fn(&Figures) -> &[Sprint];
        let from: [(&str, Sprints); 3] = [
            ("", |figures| &figures.exact),
            (", from the calm gear", |figures| &figures.calm),
            (", beside two busy loops", |figures| &figures.busy),
        ];
        for (state, sprints) in from {
            let time = |figures: &Figures| sprints(figures).iter().map(|one| one.milliseconds).collect();
            row(&format!("crossing to SIGTERM{state}"), "ms", CROSSING, share, &time);
            let overshoot = |figures: &Figures| sprints(figures).iter().map(|one| one.overshoot).collect();
            row(&format!("overshoot{state}"), "MB", CROSSING, share, &overshoot);
        }
    }
    row(&format!("scan beside {CROWD} processes"), "CPU ms", CPU, 50, &|figures| figures.scans.clone());
    for (number, threads) in THREADS.into_iter().enumerate() {
        let of = move |figures: &Figures| figures.faults.iter().map(|times| times[number]).collect();
        row(&format!("page-fault loop, threads: {threads}"), "CPU s", CPU, 50, &of);
    }
    Ok(ReportSection {
        title: "Against an earlier build",
        how: format!(
            "This build and `{name}` in turn, each as often first as second, with the loads of the sections above: sprints \
             past a limit of {} MiB, {SPRINTS} under each start of memmon, of which the first starts from the calm gear; \
             scans every 0.1 s; page faults with no process near its limit.",
            LIMIT >> 20
        ),
        tables: vec![table],
        goals,
        ..ReportSection::default()
    })
}
