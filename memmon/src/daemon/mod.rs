//! The daemon: it connects the other modules, owns the clock, and passes data from one module to the next.
//!
//! - `startup` builds everything once;
//! - `event_loop` waits for the first of its events: the interval, a signal, an exit, the end of a grace period;
//! - `reload` applies another configuration;
//! - `engine` takes a reading to a verdict, and a verdict to a termination: `scan` from a survey, `wake` from a crossing,
//!   `recheck` for processes to look at again soon, `terminate` for the orders of enforce;
//! - `source` provides readings, `host` is memmon's relation to its machine, `status` answers queries
//!   at `status_socket`.

mod dry_run_days;
mod engine;
mod event_loop;
mod host;
mod in_force;
mod nearest;
mod outputs;
mod preflight;
mod reload;
mod source;
mod startup;
mod status;
mod status_socket;
mod watchlist;

use std::path::PathBuf;

pub use host::instance::InstanceError;
pub use in_force::rules_of;
pub use nearest::{Basis, nearest};
pub use preflight::preflight;
pub use startup::{CannotEnforce, can_enforce, run};

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
