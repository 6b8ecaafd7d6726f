//! Options of a run from the command line, in addition to the configuration.

use std::path::PathBuf;

use crate::model::SourceChoice;

/// Options of a run from the command line, in addition to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The configuration file; if none, the usual one, or the built-in defaults.
    pub config: Option<PathBuf>,
    /// Send no signals, for any configuration.
    pub dry_run: bool,
    /// The same, unless `memmon enable` was run.
    pub dry_run_until_enabled: bool,
    /// The source, which overrides `kernel.source`.
    pub source: Option<SourceChoice>,
    /// Make one scan, and wait only for the terminations that it starts.
    pub once: bool,
}
