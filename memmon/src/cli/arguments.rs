//! The command line: commands, their arguments and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};

use super::{check, enable, exempt, history, replay, status, top};
use crate::{daemon, model::SourceChoice};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure
  2  wrong configuration or command line: nothing was started
  3  another memmon is already running on this machine
  4  missing privileges or an unsupported kernel";

/// Terminates processes that exceed a memory limit before the machine runs out, watching from inside the kernel.
#[derive(Debug, Parser)]
#[command(name = "memmon", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Watch all processes, and terminate those that exceed a limit.
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Check a configuration, and show the effective settings and the processes over a limit.
    #[command(after_help = EXIT_CODES)]
    Check(check::Args),
    /// Show what memmon would do with a process, by which rule, and what would change that.
    #[command(after_help = EXIT_CODES)]
    Explain(Explain),
    /// Show what this kernel and these privileges allow, and what to do if that is not enough.
    #[command(after_help = EXIT_CODES)]
    Doctor {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    #[command(after_help = EXIT_CODES)]
    Enable(enable::Enable),
    #[command(after_help = EXIT_CODES)]
    Disable(enable::Disable),
    #[command(after_help = EXIT_CODES)]
    Exempt(exempt::Args),
    #[command(after_help = EXIT_CODES)]
    History(history::Args),
    #[command(after_help = EXIT_CODES)]
    Replay(replay::Args),
    #[command(after_help = EXIT_CODES)]
    Status(status::Args),
    #[command(after_help = EXIT_CODES)]
    Top(top::Args),
}

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A pid, or a name as in the whitelist: exact or a glob, matched against comm, executable and argv[0].
    #[arg(value_name = "PID|NAME", required_unless_present_any = ["machine", "user", "unit", "rule"])]
    pub(super) target: Option<String>,
    /// The processes of a user, by name or uid: which rule decides about which, and what they hold together.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["target", "machine"])]
    pub(super) user: Option<String>,
    /// The same for the processes of a systemd unit, as in the `units` of a rule.
    #[arg(long, value_name = "UNIT", conflicts_with_all = ["target", "machine", "user"])]
    pub(super) unit: Option<String>,
    /// The same for the processes that a rule matches, with those that an earlier one matches.
    #[arg(long, value_name = "RULE", conflicts_with_all = ["target", "machine", "user", "unit"])]
    pub(super) rule: Option<String>,
    /// Show which processes the running memmon would end if the machine were short of memory, in which order, and why.
    #[arg(long, conflicts_with_all = ["target", "config"])]
    pub(super) machine: bool,
    /// The configuration to use instead of the rules of the running memmon.
    #[arg(long, value_name = "PATH")]
    pub(super) config: Option<PathBuf>,
    /// Print a JSON array; one object with `--user`, `--unit` or `--rule`.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration; by default /etc/memmon/config.toml, or the built-in defaults if it does not exist.
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Log what memmon would do, and send no signal.
    #[arg(long)]
    dry_run: bool,
    /// The same until `memmon enable` is run, as the unit has it.
    #[arg(long)]
    dry_run_until_enabled: bool,
    /// Where to read memory usage from; overrides `kernel.source`.
    #[arg(long, value_enum)]
    source: Option<SourceChoice>,
    /// Scan once, wait until the terminations that it starts are complete, and exit.
    #[arg(long)]
    once: bool,
}

impl ValueEnum for SourceChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(match self {
            Self::Auto => "The best that this kernel offers",
            Self::Ebpf => "BPF programs inside the kernel",
            Self::Proc => "Polling /proc",
        }))
    }
}

impl From<Run> for daemon::Options {
    fn from(run: Run) -> Self {
        Self {
            config: run.config,
            dry_run: run.dry_run,
            dry_run_until_enabled: run.dry_run_until_enabled,
            once: run.once,
            source: run.source,
        }
    }
}
