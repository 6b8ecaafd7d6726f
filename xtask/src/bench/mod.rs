//! `cargo xtask bench`: measures what memmon costs and how fast it is, compared to other programs, in one run.
//!
//! Each section is a file: it measures memmon and the programs that it compares to alternately, and returns a
//! [`ReportSection`]. `report` puts the sections into BENCHMARKS.md. Everything runs in dry run except for `crossing` and
//! `shortage`, whose memmon is limited to a uid of its own.

mod against;
mod build;
mod child;
mod choice;
mod crossing;
mod fault;
mod idle;
mod kernel;
mod machine;
mod memmon;
mod memory;
mod near;
mod programs;
mod report;
mod sample;
mod scan;
mod section;
mod shortage;
mod sprint;
mod switch;
mod user;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::{
    choice::Section,
    machine::Machine,
    programs::{Bench, Programs},
    section::ReportSection,
};
use crate::privileges::Privileges;

/// Measure memmon on this machine, and write BENCHMARKS.md
///
/// Needs root, and a machine that is otherwise idle: figures taken beside other work mean nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run a few rounds of everything with a debug build, as a test of the benchmarks (about a minute); no figure is written
    #[arg(long)]
    quick: bool,
    /// Measure idle time for five minutes instead of one
    #[arg(long)]
    long: bool,
    /// Measure nothing but this build and an earlier one alternately: the path of the earlier memmon. With sections (crossing,
    /// scan, fault) only under their loads
    #[arg(long, value_name = "MEMMON")]
    against: Option<PathBuf>,
    /// Sections to measure; all by default. Other sections of BENCHMARKS.md stay as they are
    #[arg(value_enum)]
    sections: Vec<Section>,
}

impl Section {
    fn measure(self, bench: &Bench) -> Result<ReportSection> {
        let mut section = match self {
            Self::Fault => fault::measure(bench),
            Self::Switch => switch::measure(bench),
            Self::Scan => scan::measure(bench),
            Self::Idle => idle::measure(bench),
            Self::Memory => memory::measure(bench),
            Self::Crossing => crossing::measure(bench),
            Self::Shortage => shortage::measure(bench),
            Self::Build => build::measure(bench),
        }?;
        let long = if bench.long && self == Self::Idle { " --long" } else { "" };
        section.command = format!("cargo xtask bench{long}{}", arguments(&[self]));
        Ok(section)
    }
}

/// The arguments that name these sections, each after a space.
fn arguments(sections: &[Section]) -> String {
    let values = sections.iter().filter_map(Section::to_possible_value);
    values.map(|value| format!(" {}", value.get_name())).collect()
}

/// Measures the requested sections, prints them, and writes them to BENCHMARKS.md.
pub(crate) fn main(options: &Options) -> Result<()> {
    ensure!(Privileges::of_this_process()?.is_root, "benchmarks need root: they attach BPF programs");
    let mut sections = match options.sections.as_slice() {
        _ if options.against.is_some() => Vec::new(),
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
    if let Some(earlier) = &options.against {
        let all = [Section::Crossing, Section::Scan, Section::Fault];
        let parts = if options.sections.is_empty() { &all } else { &options.sections[..] };
        let mut section = against::measure(&bench, earlier, parts)?;
        let named = arguments(&options.sections);
        section.command = format!("cargo xtask bench --against {}{named}", earlier.display());
        println!("{section}");
        chapters.push(section);
    }
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
        println!("only a few rounds were measured: BENCHMARKS.md is not changed");
    } else {
        report::write(&before, &chapters)?;
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
