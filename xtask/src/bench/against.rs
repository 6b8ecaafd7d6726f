//! This build beside an earlier one, alternately in one run: whether a change has made memmon slower.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::{
    choice::Section,
    fault::{THREADS, Times, faults, warm_up},
    memmon::{Memmon, Setup, is_scan, passes},
    programs::{Bench, Programs},
    sample::{Sample, figure, in_turn, ratio},
    section::{Goal, ReportSection, Table},
    sprint::{LIMIT, Sprint, sprint},
    user::TestUser,
};
use crate::shell;

/// The largest ratio of a time that counts as no slower.
const CROSSING: f64 = 1.05;
/// The same for the CPU time of page faults and scans.
const CPU: f64 = 1.03;

/// The samples that a median takes, and the 99th percentile.
const FOR_MEDIAN: usize = 10;
const FOR_SHARE: usize = 80;

/// Sprints of one kind.
struct Kind {
    /// Added to the name of what is measured.
    name: &'static str,
    growth: &'static str,
    /// Lines for the `[thresholds]` of this build; the earlier one may not know them.
    thresholds: &'static str,
    /// The loads that run meanwhile.
    beside: &'static [&'static str],
    /// Starts of each memmon, and the sprints under each: the first of them starts from the calm gear.
    starts: usize,
    sprints: usize,
}

/// Page by page, on an idle machine.
const PAGES: Kind = Kind { name: "", growth: "pages", thresholds: "", beside: &[], starts: 20, sprints: 5 };

/// The kinds of sprints: every way of taking memory, and company that keeps memmon from its work.
const KINDS: [Kind; 10] = [
    Kind { starts: 80, ..PAGES },
    Kind { name: ", beside two busy loops", beside: &["spin", "spin"], starts: 30, ..PAGES },
    Kind { name: ", beside a storm of forks", beside: &["forks"], ..PAGES },
    Kind { name: ", many in a row", starts: 1, sprints: 200, ..PAGES },
    Kind { name: ", two threads", growth: "threads", ..PAGES },
    Kind { name: ", bursts", growth: "bursts", ..PAGES },
    Kind { name: ", memfd", growth: "memfd", ..PAGES },
    Kind { name: ", memfd, measure = \"rss\"", growth: "memfd", thresholds: "measure = \"rss\"", ..PAGES },
    Kind { name: ", huge pages", growth: "huge", ..PAGES },
    Kind { name: ", populate", growth: "populate", ..PAGES },
];

/// Sleeping processes beside which scans are measured.
const CROWD: &str = "2000";

/// Figures of one build.
#[derive(Default)]
struct Figures {
    /// The sprints of each kind: those from the calm gear, and the others.
    sprints: [[Vec<Sprint>; 2]; KINDS.len()],
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
            Section::Switch | Section::Idle | Section::Memory | Section::Shortage | Section::Build => {
                bail!("an earlier build is compared by crossing, scan and fault alone")
            }
        }
    }
    section(&name, &figures)
}

/// Runs `measure` on both builds, `rounds` times.
fn alternately(
    rounds: usize,
    builds: &[Programs; 2],
    figures: &mut [Figures; 2],
    mut measure: impl FnMut(&Programs, &mut Figures) -> Result<()>,
) -> Result<()> {
    in_turn::<_, 2>(rounds, |_, which| measure(&builds[which], &mut figures[which])).map(drop)
}

fn crossings(bench: &Bench, builds: &[Programs; 2], figures: &mut [Figures; 2]) -> Result<()> {
    let user = TestUser::claim()?;
    for (number, kind) in KINDS.iter().enumerate() {
        let beside = kind.beside.iter().map(|load| bench.programs.start(&[load]));
        let beside = beside.collect::<Result<Vec<_>>>()?;
        in_turn::<_, 2>(bench.rounds(kind.starts, 1), |_, which| {
            let programs = &builds[which];
            let thresholds = if which == 0 { kind.thresholds } else { "" };
            let memmon = Memmon::enforce(programs, &Setup { thresholds, ..Setup::default() }, &user, LIMIT)?;
            let [calm, exact] = &mut figures[which].sprints[number];
            calm.push(sprint(programs, &user, kind.growth)?);
            for _ in 1..bench.rounds(kind.sprints, 2) {
                exact.push(sprint(programs, &user, kind.growth)?);
            }
            memmon.0.stop()
        })?;
        drop(beside);
    }
    Ok(())
}

fn scans(bench: &Bench, builds: &[Programs; 2], figures: &mut [Figures; 2]) -> Result<()> {
    let crowd = bench.programs.start_ready(&["crowd", CROWD])?;
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
    let mut load = bench.programs.start(&["faults"])?;
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
        if ours.len() < if share == 50 { FOR_MEDIAN } else { FOR_SHARE } {
            return;
        }
        let of_share = |sample: &Sample| if share == 50 { sample.median() } else { sample.percentile(share) };
        let reached = of_share(&ours) / of_share(&theirs);
        let shown = [&ours, &theirs].map(|sample| figure(of_share(sample)));
        let [this, earlier] = shown;
        let what = format!("{what}, p{share}");
        table.row([what.clone(), unit.to_owned(), this, earlier, ratio(reached), ours.len().to_string()]);
        goals.push(Goal::ratio(what, at_most, reached));
    };
    for share in [50, 99] {
        for (number, kind) in KINDS.iter().enumerate() {
            for (gear, state) in [(1, ""), (0, ", from the calm gear")] {
                let what = format!("{state}{}", kind.name);
                let of = |figures: &Figures, figure: fn(&Sprint) -> f64| {
                    figures.sprints[number][gear].iter().map(figure).collect()
                };
                let time = |figures: &Figures| of(figures, |sprint| sprint.milliseconds);
                row(&format!("crossing to SIGTERM{what}"), "ms", CROSSING, share, &time);
                let overshoot = |figures: &Figures| of(figures, |sprint| sprint.overshoot);
                row(&format!("overshoot{what}"), "MB", CROSSING, share, &overshoot);
            }
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
            "This build and `{name}` in turn, each as often first as second: sprints past a limit of {} MiB, as in the section \
             above and in other ways (two threads; 1 MiB at a time with sleeps of 2 ms; a memfd, and a memfd where this build counts resident memory as the earlier one does; huge pages of 2 MiB; 16 MiB at \
             a time by MADV_POPULATE_WRITE, whose time begins before the call that crosses), some under each start of memmon, of \
             which the first starts from the calm gear; scans every 0.1 s; page faults with no process near its limit.",
            LIMIT >> 20
        ),
        tables: vec![table],
        goals,
        ..ReportSection::default()
    })
}
