//! memmon as it is measured: the release build in mounts of its own, in dry run or enforcing on one user's sprints only.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use fs_err as fs;
use nix::sys::signal::Signal;

use super::{
    child::{Mounts, Running},
    programs::{Bench, Programs},
    sample::Sample,
    user::TestUser,
};

/// The line that memmon logs at the end of each scan.
const SCANNED: &str = "Scan complete.";

/// Settings to run memmon with.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    /// `ebpf` or `proc`.
    pub(crate) source: &'a str,
    /// Seconds between scans.
    pub(crate) interval: f64,
    /// Lines for the `[kernel]` section.
    pub(crate) kernel: &'a str,
    /// Lines for the `[thresholds]` section.
    pub(crate) thresholds: &'a str,
}

impl Setup<'_> {
    /// The defaults of memmon, but with the BPF half or an error.
    pub(crate) const DEFAULT: Self = Self { source: "ebpf", interval: 30.0, kernel: "", thresholds: "" };
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A running memmon.
pub(crate) struct Memmon(pub(crate) Running);

impl Memmon {
    /// Starts memmon in dry run, and waits for its first scan.
    pub(crate) fn watch(programs: &Programs, setup: &Setup<'_>) -> Result<Self> {
        let mut memmon = Self::spawn(programs, setup)?;
        memmon.scanned()?;
        Ok(memmon)
    }

    /// Starts memmon to enforce `limit` on the processes of `user` alone, and waits for its first scan.
    pub(crate) fn enforce(
        programs: &Programs,
        setup: &Setup<'_>,
        user: &TestUser,
        limit: u64,
    ) -> Result<Self> {
        let memmon = Command::new(&programs.memmon);
        let mut memmon = Self::enforce_by(memmon, programs, setup, "", user, limit)?;
        memmon.scanned()?;
        Ok(memmon)
    }

    /// The same by the command of a program that runs memmon, with more `sections`. It waits for nothing.
    pub(crate) fn enforce_by(
        command: Command,
        programs: &Programs,
        setup: &Setup<'_>,
        sections: &str,
        user: &TestUser,
        limit: u64,
    ) -> Result<Self> {
        let uid = user.uid();
        ensure!(uid >= 1000, "uid {uid} may be a service's");
        user.is_unused()?;
        let gb = limit as f64 / f64::from(1 << 30);
        let rules = format!(
            "ram_gb_threshold = {gb}\nram_percent_threshold = 100\n{sections}[scope]\nusers = [\"{uid}\"]\n"
        );
        Self::start(command, programs, setup, &rules, &[])
    }

    /// Starts memmon by this command, which gets memmon's arguments, and waits for nothing.
    fn start(
        mut command: Command,
        programs: &Programs,
        setup: &Setup<'_>,
        rules: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let Setup { source, interval, kernel, thresholds } = setup;
        ensure!(
            arguments.contains(&"--dry-run") || rules.contains("[scope]\nusers = ["),
            "an enforcing memmon needs a scope"
        );
        let config = programs.scratch.join("config.toml");
        // The system log is off, because its cost belongs to the log's daemon. Back-off is off, because the same hog is
        // terminated many times. The ceiling is off, so that a hog has the time to record when its SIGTERM came.
        let text = format!(
            "[kernel]\nsource = \"{source}\"\n{kernel}\n[settings]\nenable_syslog = false\n\
             [termination]\nrepeat_limit = 0\nhard_ceiling = 0\n[thresholds]\ncheck_interval = {interval}\n{thresholds}\n{rules}"
        );
        fs::write(&config, text)?;
        command.args(["run", "--config"]).arg(&config).args(arguments);
        Ok(Self(Running::start(&mut command, Mounts::Private)?))
    }

    /// Starts memmon in dry run and waits for nothing.
    pub(crate) fn spawn(programs: &Programs, setup: &Setup<'_>) -> Result<Self> {
        Self::start(Command::new(&programs.memmon), programs, setup, "", &["--dry-run"])
    }

    /// Waits for the end of the next scan.
    pub(crate) fn scanned(&mut self) -> Result<()> {
        self.0.line("a scan", is_scan).map(drop)
    }
}

/// Whether a line ends a scan.
pub(crate) fn is_scan(line: &str) -> bool {
    line.contains(SCANNED)
}

/// The CPU time of each of `count` passes, from the end of one (a line that `ends` it) to that of the next.
pub(crate) fn passes(
    running: &mut Running,
    count: usize,
    ends: impl Fn(&str) -> bool,
) -> Result<Vec<Duration>> {
    running.line("a pass", &ends)?;
    let mut before = running.cpu()?;
    (0..count)
        .map(|_| {
            running.line("a pass", &ends)?;
            let now = running.cpu()?;
            Ok(now - std::mem::replace(&mut before, now))
        })
        .collect()
}

/// The CPU time of a sweep, with the reload that requests it and the scans before and after its pass: the median of a few.
pub(crate) fn sweep(bench: &Bench) -> Result<Duration> {
    // A pass over 8,000 processes has ended before the next scan.
    let mut memmon = Memmon::watch(&bench.programs, &Setup { interval: 5.0, ..Setup::default() })?;
    let mut times = Vec::new();
    for _ in 0..bench.rounds(5, 1) {
        let before = memmon.0.cpu()?;
        memmon.0.signal(Signal::SIGHUP)?;
        memmon.scanned()?;
        memmon.scanned()?;
        times.push((memmon.0.cpu()? - before).as_secs_f64());
    }
    memmon.0.stop()?;
    Ok(Duration::from_secs_f64(Sample::new(times).context("no sweeps")?.median()))
}
