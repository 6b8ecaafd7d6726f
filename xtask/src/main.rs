//! Everything that builds, runs, tests and measures memmon: `cargo xtask help` lists it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers, who read its output"
)]

mod bench;
mod build;
mod cargo_tools;
mod debian_programs;
mod ebpf;
mod fresh;
mod install;
mod package;
mod picture;
mod privileges;
mod progress;
#[cfg(test)]
mod readme;
mod real_software;
mod run;
mod setup;
mod shell;
mod test;
mod test_tools;
mod tidy;
mod toolchain;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything that builds, runs, tests and measures memmon"
)]
enum Task {
    Setup(setup::Options),
    BuildEbpf(ebpf::Options),
    Run(run::Options),
    Test(test::Options),
    Bench(bench::Options),
    Install(install::Options),
    Uninstall(install::Uninstall),
    Package(package::Options),
    Image(package::image::Options),
    /// Draw the pictures of README.md again (as root, with tmux)
    ///
    /// memmon watches a few processes of one user, in dry run and in mounts of its own; the screen of a terminal is saved as
    /// an SVG.
    Picture,
    VmTest(vm::Options),
    VmCompare(vm::compare::Options),
    /// Try the first commands of README.md on a fresh Debian 12 whose package lists are old
    ///
    /// Makes a root file system in target/fresh, with rustup's stable, this checkout and nothing else, runs `cargo xtask run --
    /// --once` (in dry run) and a part of `cargo xtask test` there, and removes it. Needs root, a network and 6 GB of disk;
    /// takes about twenty minutes on two processors.
    FreshTest,
    /// Check that the sources follow the rules in ARCHITECTURE.md
    Tidy,
}

fn main() -> ExitCode {
    match perform(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup(options) => setup::main(options)?,
        Task::BuildEbpf(options) => ebpf::main(&options)?,
        Task::Run(options) => run::main(&options)?,
        Task::Test(options) => return test::main(&options),
        Task::Bench(options) => bench::main(&options)?,
        Task::Install(options) => install::main(&options)?,
        Task::Uninstall(options) => install::away(&options)?,
        Task::Package(options) => package::main(&options)?,
        Task::Image(options) => package::image::main(&options)?,
        Task::Picture => picture::main()?,
        Task::VmTest(options) => return vm::main(&options),
        Task::VmCompare(options) => return vm::compare::main(&options),
        Task::FreshTest => fresh::main()?,
        Task::Tidy => tidy::main(&verbs())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of all commands.
fn verbs() -> Vec<String> {
    Task::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}
