//! `cargo xtask bench`: what memmon costs and how fast it is, against what it replaces, in one run.
//!
//! Each section is a file: it measures in turns with what it compares to, and gives a [`ReportSection`]. `report` puts the chapters
//! into BENCHMARKS.md. Everything runs in dry run but `crossing`, whose memmon is bound to a uid of its own.

mod build;
mod child;
mod crossing;
mod fault;
mod idle;
mod kernel;
mod machine;
mod memmon;
mod memory;
mod programs;
mod report;
mod sample;
mod scan;
mod section;
mod user;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::{
    machine::Machine,
    programs::{Bench, Programs},
    section::ReportSection,
};
use crate::privileges::Privileges;

/// Measure memmon on this machine, and write BENCHMARKS.md
///
/// Needs root, and a machine that has nothing else to do: figures taken beside other work mean nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A few rounds of everything, to see that it works (a minute or so, of a debug build): the figures mean nothing and are not written
    #[arg(long)]
    quick: bool,
    /// Idle for five minutes instead of one
    #[arg(long)]
    long: bool,
    /// What to measure; everything by default. The chapters of the others stay as they are in BENCHMARKS.md
    #[arg(value_enum)]
    sections: Vec<Section>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Section {
    /// What a page fault costs with memmon attached
    Fault,
    /// CPU time of one whole scan
    Scan,
    /// CPU time while nothing happens
    Idle,
    /// Memory, descriptors, start-up time
    Memory,
    /// From a crossing of the limit to SIGTERM
    Crossing,
    /// A real build with memmon attached
    Build,
}

impl Section {
    fn measure(self, bench: &Bench) -> Result<ReportSection> {
        let mut section = match self {
            Self::Fault => fault::measure(bench),
            Self::Scan => scan::measure(bench),
            Self::Idle => idle::measure(bench),
            Self::Memory => memory::measure(bench),
            Self::Crossing => crossing::measure(bench),
            Self::Build => build::measure(bench),
        }?;
        let value = self.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        let long = if bench.long && self == Self::Idle { " --long" } else { "" };
        section.command = format!("cargo xtask bench{long} {name}");
        Ok(section)
    }
}

/// Measures what was asked for, shows it, and writes it down.
pub(crate) fn main(options: &Options) -> Result<()> {
    ensure!(Privileges::of_this_process()?.is_root(), "benchmarks need root: they attach BPF programs");
    let mut sections = match options.sections.as_slice() {
        [] => Section::value_variants().to_vec(),
        some => some.to_vec(),
    };
    sections.sort_unstable();
    sections.dedup();
    let peers =
        sections.iter().any(|section| matches!(section, Section::Scan | Section::Idle | Section::Memory));
    let bench =
        Bench { programs: Programs::get(options.quick, peers)?, quick: options.quick, long: options.long };

    let before = Machine::look()?;
    println!("\n{before}\n");
    let mut chapters = Vec::new();
    let mut failed = Vec::new();
    for section in sections {
        match section.measure(&bench) {
            Ok(section) => {
                println!("{section}");
                chapters.push(section);
            }
            Err(error) => {
                println!("{section:?} was not measured: {error:#}\n");
                failed.push(format!("{section:?}"));
            }
        }
    }
    if options.quick {
        println!("quick: nothing of this is written down");
    } else {
        report::write(&before, &chapters)?;
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
