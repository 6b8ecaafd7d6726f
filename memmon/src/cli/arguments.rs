//! What can be asked for on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{check, status, top};
use crate::{daemon, model::SourceChoice};

const EXIT_CODES: &str = "\
Exit codes:
  0  ended as asked
  1  failure
  2  wrong configuration or command line: nothing was started
  3  another memmon watches this machine already
  4  this kernel, or the rights given, do not allow what was asked for";

/// Terminates processes that exceed a memory limit before the machine runs out, watching from inside the kernel.
#[derive(Debug, Parser)]
#[command(name = "memmon", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch, and terminate what exceeds a limit.
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Read a configuration and tell what it means here, now.
    #[command(after_help = EXIT_CODES)]
    Check(check::Args),
    /// Tell what would be done with a process, by which rule, and what would change that.
    #[command(after_help = EXIT_CODES)]
    Explain(Explain),
    /// Tell what this kernel and these rights allow, and what to do where that is not enough.
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    #[command(after_help = EXIT_CODES)]
    Status(status::Args),
    #[command(after_help = EXIT_CODES)]
    Top(top::Args),
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A pid, or a name as the whitelist would have it: exact or a glob, against comm, executable and argv[0].
    #[arg(value_name = "PID|NAME")]
    pub(super) whom: String,
    /// The configuration to explain with.
    #[arg(long, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// Print a JSON array.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration; without it /etc/memmon/config.toml, else the built-in defaults.
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Say what would be done, signal nothing.
    #[arg(long)]
    dry_run: bool,
    /// Where readings come from; goes before `kernel.source`.
    #[arg(long, value_enum)]
    source: Option<SourceName>,
    /// Scan once, end when its victims have, and exit.
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SourceName {
    /// The best that this kernel offers.
    Auto,
    /// BPF programs inside the kernel.
    Ebpf,
    /// Polling /proc.
    Proc,
}

impl From<Run> for daemon::Options {
    fn from(run: Run) -> Self {
        Self {
            config: run.config,
            dry_run: run.dry_run,
            once: run.once,
            source: run.source.map(|name| match name {
                SourceName::Auto => SourceChoice::Auto,
                SourceName::Ebpf => SourceChoice::Ebpf,
                SourceName::Proc => SourceChoice::Proc,
            }),
        }
    }
}
