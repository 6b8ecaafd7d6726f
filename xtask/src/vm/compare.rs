//! `cargo xtask vm-compare`: memmon and other guards of a machine's memory, each alone in machines that run out of it.

use std::{collections::BTreeMap, fmt, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use clap::ValueEnum as _;

use super::{
    Ground,
    kernel::Series,
    plan::{Boot, COMPARE, INSTALL},
    rootfs::Image,
};
use crate::debian_programs;

/// Compare memmon with other guards in virtual machines that run out of memory
///
/// Each guard is alone in its machine, and is started again for each load: earlyoom and systemd-oomd as Debian ships them (and
/// systemd-oomd watches system.slice), memmon with [machine] and no limit for single processes. Under emulation outcomes
/// count, and times mean little.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this guard; may be repeated
    #[arg(long = "guard", value_enum, value_name = "GUARD")]
    guards: Vec<Guard>,
    /// Only this load; may be repeated
    #[arg(long = "load", value_name = "LOAD")]
    loads: Vec<String>,
    /// Runs of each load
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Memory of each machine, in MB: the loads, except for `hog` and `cache`, are larger or smaller with it
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(512..=2048))]
    memory: u32,
    /// Swap of each machine, in MB
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1024))]
    swap: u64,
    /// The swap is no disk, but compressed memory (zram)
    #[arg(long)]
    zram: bool,
    /// Install this .deb of memmon, instead of building one
    #[arg(long, value_name = "FILE")]
    deb: Option<PathBuf>,
    /// Kernels; the newest by default
    #[arg(value_enum, value_name = "KERNEL")]
    kernels: Vec<Series>,
}

/// A guard, or none.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Guard {
    None,
    Earlyoom,
    SystemdOomd,
    Memmon,
}

impl Guard {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Earlyoom => "earlyoom",
            Self::SystemdOomd => "systemd-oomd",
            Self::Memmon => "memmon",
        }
    }
}

/// The loads: the rows of the table.
const LOADS: [&str; 9] =
    ["hog", "workers", "storm", "leak", "small-leak", "session", "cache", "tmpfs", "limited"];

/// Time of one run under emulation on a busy host, and of a start of the machine.
const RUN: u64 = 240;
const START: u64 = 600;

/// Boots a machine for each guard and kernel, one after the other, and prints the table. A mistake of a guard is a
/// result, and no failure of the command.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    if let Some(unknown) = options.loads.iter().find(|load| !LOADS.contains(&load.as_str())) {
        bail!("there is no load {unknown}; there are {}", LOADS.join(" "));
    }
    if options.zram && options.swap == 0 {
        bail!("--zram takes the size of the swap: --swap 512");
    }
    debian_programs::install_missing(&super::PROGRAMS)?;
    let guards = if options.guards.is_empty() { Guard::value_variants() } else { &options.guards };
    let kernels = if options.kernels.is_empty() { &[Series::Newest][..] } else { &options.kernels };
    let boots: Vec<Boot> = guards.iter().map(|guard| boot(*guard, options)).collect();
    let Ground { kernels, roots, programs, accelerator, cache } =
        Ground::prepare(kernels.to_vec(), &boots, options.deb.as_deref())?;
    let (mut tables, mut failed) = (String::new(), false);
    for kernel in &kernels {
        let mut runs = Vec::new();
        for (boot, root) in boots.iter().zip(&roots) {
            println!("\n{}: starts", super::title(kernel, boot));
            let (outcomes, report) = super::run(kernel, boot, &programs, root, accelerator, &cache)?;
            failed |= outcomes.iter().any(|outcome| outcome.failure.is_some());
            runs.extend(report.lines().filter_map(Run::read));
        }
        let (memory, swap, kind) = (options.memory, options.swap, if options.zram { " in zram" } else { "" });
        tables.push_str(&format!(
            "\nLinux {}, {memory} MB of memory, {swap} MB of swap{kind}:\n\n{}",
            kernel.release,
            Table(&runs)
        ));
    }
    println!("{tables}");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn boot(guard: Guard, options: &Options) -> Boot {
    let loads = if options.loads.is_empty() { LOADS.join(" ") } else { options.loads.join(" ") };
    let runs = u64::from(options.runs) * loads.split(' ').count() as u64;
    let scenarios = if matches!(guard, Guard::Memmon) { &[INSTALL, COMPARE][..] } else { &[COMPARE] };
    Boot {
        swap_megabytes: if options.zram { 0 } else { options.swap },
        zram: options.zram,
        timeout: Duration::from_secs(START + RUN * runs),
        scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        settings: format!(
            "GUARD={}\nLOADS='{loads}'\nRUNS={}\nMEMORY={}\nZRAM={}\n",
            guard.name(),
            options.runs,
            options.memory,
            if options.zram { options.swap } else { 0 }
        ),
        ..Boot::new(guard.name(), 2, options.memory, Image::Guards)
    }
}

/// One run of one load with one guard.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    load: String,
    guard: String,
    /// Whether only what a person would choose ended.
    right: bool,
    /// The processes that ended; with their number, if a load has several.
    ended: String,
    /// Number of processes that the kernel's OOM killer ended for the machine, and not for a cgroup.
    kernel: u32,
    /// The worst delay of a heartbeat of 100 ms, in seconds.
    gap: f64,
    /// Time in which less than a twentieth of the memory was available, in seconds.
    short: f64,
    /// The least memory that was available, and what was available in the end, in MB.
    least: u32,
    available: u32,
}

impl Run {
    /// A line of the guest's report: `note compare load=hog guard=none …`.
    fn read(line: &str) -> Option<Self> {
        let line = line.trim().strip_prefix("note compare ")?;
        let fields: BTreeMap<&str, &str> =
            line.split(' ').filter_map(|field| field.split_once('=')).collect();
        let field = |name| fields.get(name).copied();
        Some(Self {
            load: field("load")?.to_owned(),
            guard: field("guard")?.to_owned(),
            right: field("right")? == "yes",
            ended: field("ended")?.replace(',', ", "),
            kernel: field("kernel")?.parse().ok()?,
            gap: field("gap")?.parse().ok()?,
            short: field("short")?.parse().ok()?,
            least: field("least")?.parse().ok()?,
            available: field("available")?.parse().ok()?,
        })
    }
}

/// The runs as a table in Markdown: a row for each load and guard.
struct Table<'a>(&'a [Run]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<(usize, usize), Vec<&Run>> = BTreeMap::new();
        for run in self.0 {
            let load = LOADS.iter().position(|load| *load == run.load);
            let guard = Guard::value_variants().iter().position(|guard| guard.name() == run.guard);
            rows.entry((load.unwrap_or(usize::MAX), guard.unwrap_or(usize::MAX))).or_default().push(run);
        }
        writeln!(
            f,
            "| load | guard | right | ended | killed by the kernel | worst gap | short for | came back |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        for runs in rows.values() {
            let [first, ..] = &runs[..] else { continue };
            let right = runs.iter().filter(|run| run.right).count();
            let right = format!("{right} of {}", runs.len());
            let right = if runs.iter().all(|run| run.right) { right } else { format!("**{right}**") };
            let mut ended: Vec<&str> = runs.iter().map(|run| run.ended.as_str()).collect();
            ended.sort_unstable();
            ended.dedup();
            let kernel: u32 = runs.iter().map(|run| run.kernel).sum();
            let most = |figure: fn(&Run) -> f64| runs.iter().map(|run| figure(run)).fold(0.0, f64::max);
            let (gap, short) = (most(|run| run.gap), most(|run| run.short));
            let back = runs.iter().map(|run| run.available.saturating_sub(run.least)).min().unwrap_or(0);
            writeln!(
                f,
                "| {} | {} | {right} | {} | {kernel} | {gap:.1} s | {short:.1} s | {back} MB |",
                first.load,
                first.guard,
                ended.join("; ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_of_a_guard_are_one_row() {
        let run = |right, gap, ended| {
            let line = format!(
                "note compare load=workers guard=none right={right} ended={ended} kernel=2 gap={gap} short=3.5 \
                 least=10 available=93\r"
            );
            Run::read(&line).unwrap()
        };
        let runs = [run("no", "0.4", "workers:1,database"), run("yes", "0.5", "workers:2")];
        assert_eq!(
            Table(&runs).to_string().lines().last().unwrap(),
            "| workers | none | **1 of 2** | workers:1, database; workers:2 | 4 | 0.5 s | 3.5 s | 83 MB |"
        );
        assert_eq!(Run::read("note compare load=workers"), None);
        assert_eq!(Run::read("ok compare"), None);
    }
}
