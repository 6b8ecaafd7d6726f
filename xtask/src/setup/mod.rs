//! `cargo xtask setup`: shows which tools for the BPF half this machine lacks, and installs them.

mod facts;
mod packaging;
mod plan;
mod postgres;

use anyhow::{Context as _, Result, bail};

use self::{
    packaging::Lacks,
    plan::{Facts, Lists, Step},
};
use crate::{
    privileges::Privileges,
    progress::Progress,
    shell,
    toolchain::{self, Tools},
};

/// Install the tools that build the BPF half
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Ask no question (without a terminal, no question is asked anyway)
    #[arg(long)]
    yes: bool,
    /// Install the tools for tests as well: bpftool, mandoc, tmux, openssl, cpio, aiosmtpd, promtool and PostgreSQL
    /// (unpacked below target/, so that no service starts), and clippy for the BPF half
    #[arg(long)]
    for_tests: bool,
    /// Install the tools that make and check packages as well: cargo-deb, cargo-generate-rpm, cargo-cyclonedx, lintian,
    /// rpmlint, rpm
    #[arg(long)]
    for_packages: bool,
}

/// Installs what is missing, and fails if a step is left that only the user can do.
pub(crate) fn main(options: Options) -> Result<()> {
    println!("nothing is missing: {}", install(options, &mut Progress::before(0))?);
    Ok(())
}

/// The tools that build the BPF half. Missing ones are installed first.
pub(crate) fn toolchain(progress: &mut Progress) -> Result<Tools> {
    toolchain::find().or_else(|missing| {
        println!("{missing}");
        install(Options::default(), progress)
    })
}

fn install(options: Options, progress: &mut Progress) -> Result<Tools> {
    let mut lists = Lists::Unknown;
    let mut agreed = options.yes || !shell::is_interactive();
    // An update of apt's lists may change which packages are available, and every step changes what is missing: look again
    // after each round.
    for _round in 0..3 {
        let facts = facts::gather(lists)?;
        let steps = steps(options, &facts);
        if steps.is_empty() {
            return Ok(toolchain::find()?);
        }
        let as_root = Privileges::of_this_process()?.is_root;
        let impossible = |step: &Step| step.command().is_none() || (step.needs_root() && !as_root);
        show(&steps, as_root);
        for remark in plan::remarks(&facts) {
            println!("  note: {remark}");
        }
        if steps.iter().any(impossible) {
            bail!(
                "this command cannot do all of these steps: do them as shown, then run the same command again"
            );
        }
        if !agreed {
            agreed = shell::ask("Go on?", true)?;
            if !agreed {
                bail!("nothing was installed");
            }
        }
        let undecided = steps == [Step::AptUpdate];
        for (number, step) in steps.iter().enumerate() {
            // After an update of the lists, packages and the linker follow at least.
            let left = if undecided { 3 } else { steps.len() - number };
            progress.begin(left, !undecided, &step.purpose());
            match (perform(step), step) {
                (Ok(()), Step::AptUpdate) => lists = Lists::Current,
                // Whether that matters depends on the content of the existing lists.
                (Err(error), Step::AptUpdate) => {
                    println!("{error:#}");
                    lists = Lists::Failed;
                }
                (done, _) => done?,
            }
        }
    }
    let tools = toolchain::find();
    bail!(
        "every step was taken and something is still missing: {}",
        tools.map_or_else(|why| why.to_string(), |_| "a tool for tests or packages".to_owned())
    )
}

fn steps(options: Options, facts: &Facts) -> Vec<Step> {
    let mut steps = plan::plan(facts, options.for_tests);
    if options.for_packages {
        packaging::add(&mut steps, &Lacks::look(), facts);
    }
    steps
}

fn show(steps: &[Step], as_root: bool) {
    println!("something is missing; these are the steps:");
    for step in steps {
        println!("  {}{step}", if step.needs_root() && !as_root { "sudo " } else { "" });
    }
    if steps == [Step::AptUpdate] {
        println!("  (the next steps depend on the updated lists)");
    }
}

fn perform(step: &Step) -> Result<()> {
    let Some(mut command) = step.command() else { return Ok(()) };
    if step.needs_root() {
        // Some packages ask questions, and there may be no terminal.
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }
    let done = shell::run(&mut command);
    match step {
        Step::AptInstall(_) => done.context(
            "apt's message above names the reason (a server that cannot be reached, a held package, a full disk): fix it, \
             then run the same command again",
        ),
        _ => done,
    }
}
