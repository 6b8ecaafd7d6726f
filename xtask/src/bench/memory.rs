//! The memory, kernel memory and descriptors that memmon holds after its start and after thousands of scans; and the time
//! that it takes to start.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result};

use super::{
    child::{Mounts, Running},
    kernel,
    memmon::{Memmon, Setup},
    programs::Bench,
    sample::{Sample, figure},
    section::{Goal, ReportSection, Table},
};

/// Seconds between scans: the smallest interval that memmon accepts.
const INTERVAL: f64 = 0.1;

/// The goal for memmon's RSS, in MiB.
const AT_MOST: f64 = 5.0;

pub(crate) fn measure(bench: &Bench) -> Result<ReportSection> {
    let mut started = Vec::new();
    let mut cpu = Vec::new();
    for _ in 0..bench.rounds(10, 2) {
        let begun = Instant::now();
        let mut memmon = Memmon::spawn(&bench.programs, &Setup::default())?;
        memmon.scanned()?;
        started.push(begun.elapsed().as_secs_f64() * 1e3);
        cpu.push(memmon.0.cpu()?.as_secs_f64() * 1e3);
        memmon.0.stop()?;
    }

    let mut table = Table::new(["", "RSS MiB", "anonymous", "file", "peak", "fds", "BPF maps MiB"]);
    let scans = bench.rounds(2_000, 20);
    let mut most = 0.0_f64;
    // Both run at the same time, because each has to wait for its scans.
    let mut both = Vec::new();
    for source in ["ebpf", "proc"] {
        let setup = Setup { source, interval: INTERVAL, ..Setup::default() };
        let mut memmon = Memmon::watch(&bench.programs, &setup)?;
        // memmon's work after its first scan is finished before the second.
        memmon.scanned()?;
        let first = Holdings::of(&memmon.0)?;
        both.push((source, memmon, first));
    }
    for (source, mut memmon, first) in both {
        for _ in 0..scans {
            memmon.scanned()?;
        }
        let last = Holdings::of(&memmon.0)?;
        memmon.0.stop()?;
        table.row(first.cells(format!("{source}, at first")));
        table.row(last.cells(format!("{source}, {scans} scans on")));
        most = most.max(last.rss);
    }
    if let Ok(mut command) = bench.programs.earlyoom() {
        let mut earlyoom = Running::start(&mut command, Mounts::Shared)?;
        earlyoom.line("that it watches", |line| line.contains("SIGKILL when"))?;
        table.row(Holdings::of(&earlyoom)?.cells("earlyoom".to_owned()));
    }

    let mut start = Table::new(["from exec to the end of the first scan", "median", "quartiles", "starts"]);
    for (name, figures) in [("ms", started), ("CPU ms", cpu)] {
        let sample = Sample::new(figures).context("no starts")?;
        start.row([
            name.to_owned(),
            figure(sample.median()),
            sample.quartiles(figure),
            sample.len().to_string(),
        ]);
    }
    Ok(ReportSection {
        title: "Memory and start-up",
        how: "Memory is read from /proc/PID/status; the size of the maps from their fdinfo (`memlock`), which is kernel \
              memory and not part of RSS."
            .to_owned(),
        tables: vec![table, start],
        goals: vec![Goal { what: format!("RSS after {scans} scans"), at_most: AT_MOST, reached: most, unit: "MiB" }],
        notes: vec![format!(
            "memmon scans every {INTERVAL} s, in dry run; an enforcing memmon locks the memory that it has touched."
        )],
        ..ReportSection::default()
    })
}

/// Figures in MiB, except for the number of descriptors.
struct Holdings {
    rss: f64,
    anonymous: f64,
    file: f64,
    peak: f64,
    maps: f64,
    fds: usize,
}

impl Holdings {
    fn of(running: &Running) -> Result<Self> {
        let status = running.proc("status")?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0).with_context(|| format!("/proc/PID/status has no {key}"))
        };
        let pid = running.pid();
        Ok(Self {
            rss: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
            file: field("RssFile:")?,
            peak: field("VmHWM:")?,
            maps: kernel::map_bytes(pid)? as f64 / f64::from(1 << 20),
            fds: fs::read_dir(format!("/proc/{pid}/fd")).context("cannot list descriptors")?.count(),
        })
    }

    fn cells(&self, name: String) -> [String; 7] {
        let Self { rss, anonymous, file, peak, maps, fds } = self;
        [name, figure(*rss), figure(*anonymous), figure(*file), figure(*peak), fds.to_string(), figure(*maps)]
    }
}
