//! `cargo xtask run`: memmon on this machine, in the foreground, touching nothing.

use std::{ffi::OsString, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    ebpf,
    privileges::Privileges,
    setup, shell,
    toolchain::{self, ToolchainChoice, Tools},
    workspace,
};

/// What keeps memmon from sending a signal.
const DRY_RUN: &str = "--dry-run";

/// The configuration of a try-out.
const TRY_OUT: &str = "xtask/try.toml";

/// Build memmon and run it here in the foreground, in dry run: it says what it would do and sends no signal
///
/// What the BPF half is built with is installed first, if it is missing and can be; else memmon is built without it and
/// watches through /proc.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Arguments for `memmon run`, such as `--config PATH` or `--once`
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Builds both halves and becomes memmon; returns only if that fails.
pub(crate) fn main(options: &Options) -> Result<()> {
    // In the folder of whoever runs it: arguments such as `--config PATH` are relative to that.
    let mut memmon = shell::cargo();
    memmon.args(["run", "--package=memmon", "--bin=memmon", "--release", "--manifest-path"]);
    memmon.arg(workspace::root().join("Cargo.toml"));
    if !ebpf::is_given() {
        match tools() {
            Ok(tools) => {
                println!("BPF toolchain: {tools}");
                ebpf::build(&tools)?;
            }
            Err(why) => {
                println!("{why:#}\nso memmon is built without its BPF half and watches through /proc");
                memmon.arg("--no-default-features");
            }
        }
    }
    if !Privileges::of_this_process()?.may_trace() {
        println!("BPF programs take root (or CAP_BPF and CAP_PERFMON), so memmon watches through /proc");
    }
    become_memmon(memmon, &options.arguments)
}

/// What the BPF half is built with, installed if need be.
fn tools() -> Result<Tools> {
    toolchain::choose(ToolchainChoice::Auto, &toolchain::look()).or_else(|missing| {
        println!("{missing}");
        setup::main(setup::Options::default())?;
        Ok(toolchain::choose(ToolchainChoice::Auto, &toolchain::look())?)
    })
}

/// Replaces this program by `cargo`, which replaces itself by memmon: signals from the terminal reach it alone.
fn become_memmon(mut cargo: Command, arguments: &[OsString]) -> Result<()> {
    cargo.arg("--").args(memmon_arguments(arguments, &workspace::root().join(TRY_OUT)));
    println!("$ {}", shell::shown(&cargo));
    Err(cargo.exec()).context("cannot start cargo")
}

/// `run --dry-run`, whatever else was asked for, and without a log file if no configuration was.
fn memmon_arguments(arguments: &[OsString], try_out: &Path) -> Vec<OsString> {
    let is_config = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"--config");
    let config =
        (!arguments.iter().any(is_config)).then(|| ["--config".into(), try_out.as_os_str().to_owned()]);
    let others = arguments.iter().filter(|argument| *argument != DRY_RUN).cloned();
    ["run", DRY_RUN]
        .map(OsString::from)
        .into_iter()
        .chain(config.into_iter().flatten())
        .chain(others)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_takes_the_dry_run_away() {
        for (given, expected) in [
            (&[][..], &["run", "--dry-run", "--config", "try"][..]),
            (&["--once"], &["run", "--dry-run", "--config", "try", "--once"]),
            (&["--dry-run", "--config", "x"], &["run", "--dry-run", "--config", "x"]),
            (&["--config=x", "--", "y"], &["run", "--dry-run", "--config=x", "--", "y"]),
        ] {
            let given: Vec<OsString> = given.iter().map(OsString::from).collect();
            assert_eq!(
                memmon_arguments(&given, Path::new("try")),
                expected.iter().map(OsString::from).collect::<Vec<_>>()
            );
        }
    }
}
