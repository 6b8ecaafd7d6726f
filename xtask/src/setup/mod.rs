//! `cargo xtask setup`: installs what the BPF half is built with, and says so before.

mod facts;
mod packaging;
mod plan;

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};

use self::plan::Step;
use crate::{
    privileges::Privileges,
    shell,
    toolchain::{self, ToolchainChoice},
};

/// Install what the BPF half is built with
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Say what would be done, and do nothing
    #[arg(long)]
    print: bool,
    /// Ask no question (without a terminal none is asked)
    #[arg(long)]
    yes: bool,
    /// Install what the tests need as well: bpftool, mandoc, tmux, openssl, aiosmtpd, promtool (unpacked below target/), and
    /// clippy for the BPF half
    #[arg(long)]
    for_tests: bool,
    /// Install what packages are made and checked with as well: cargo-deb, cargo-generate-rpm, cargo-cyclonedx, lintian,
    /// rpmlint, rpm
    #[arg(long)]
    for_packages: bool,
}

/// Installs what is missing, and fails if something is left that only a person can do.
pub(crate) fn main(options: Options) -> Result<()> {
    let mut apt_updated = false;
    let mut agreed = options.yes || !io::stdin().is_terminal() || !io::stdout().is_terminal();
    // What apt knows may change with its lists, and what is missing with every step: look again after each round.
    for _round in 0..3 {
        let facts = facts::gather(apt_updated)?;
        let mut steps = plan::plan(&facts, options.for_tests);
        if options.for_packages {
            packaging::add(&mut steps, &facts::lacks_for_packages(), &facts);
        }
        if steps.is_empty() {
            let tools = toolchain::choose(ToolchainChoice::Auto, &toolchain::look())?;
            println!("nothing is missing: {tools}");
            return Ok(());
        }
        let as_root = Privileges::of_this_process()?.is_root();
        let impossible = |step: &Step| step.command().is_none() || (step.needs_root() && !as_root);
        show(&steps, as_root);
        if options.print {
            return Ok(());
        }
        if steps.iter().any(impossible) {
            bail!(
                "not all of this can be done from here: do it as shown, then run `cargo xtask setup` again"
            );
        }
        if !agreed {
            agreed = asked("Go on?")?;
            if !agreed {
                bail!("nothing was installed");
            }
        }
        for step in &steps {
            perform(step)?;
            apt_updated |= *step == Step::AptUpdate;
        }
    }
    let tools = toolchain::choose(ToolchainChoice::Auto, &toolchain::look());
    bail!(
        "every step was taken and something is missing still: {}",
        tools.map_or_else(|why| why.to_string(), |_| "a tool for tests or packages".to_owned())
    )
}

fn show(steps: &[Step], as_root: bool) {
    println!("something is missing; these are the steps:");
    for step in steps {
        println!("  {}{step}", if step.needs_root() && !as_root { "sudo " } else { "" });
    }
    if steps == [Step::AptUpdate] {
        println!("  (what follows depends on what apt knows then)");
    }
}

fn perform(step: &Step) -> Result<()> {
    let Some(mut command) = step.command() else { return Ok(()) };
    if step.needs_root() {
        // Some packages ask questions, and there may be no one to answer.
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }
    shell::run(&mut command)
}

/// Puts a question to the person at the terminal; the answer is yes unless it is no.
pub(crate) fn asked(question: &str) -> Result<bool> {
    print!("{question} [Y/n] ");
    io::stdout().flush().context("cannot write to the terminal")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read from the terminal")?;
    // An end of file is no answer.
    Ok(!answer.is_empty() && matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}
