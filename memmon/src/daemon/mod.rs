//! Turns the wheel: puts the rooms together, owns the clock, and carries data from one to the next.
//!
//! `start` builds everything once, `wheel` waits for what comes first (the interval, a signal, an exit, a grace that is
//! over), `reload` puts another configuration into force, `scan` is the way of the data from a survey to the condemned,
//! `instant` the short way for one that crossed, `doubts` remembers whom to look at again soon, `termination` carries out
//! what enforce orders, `board` knows what to say to those who ask.

mod engine;
mod event_loop;
mod host;
mod nearest;
mod reload;
mod source;
mod startup;
mod status;
mod watchlist;

use std::path::PathBuf;

pub use host::instance::InstanceError;
pub use nearest::{Basis, nearest};
pub use startup::{CannotEnforce, run};

use crate::model::SourceChoice;

/// What the command line asks of a run, beside the configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The configuration file; none: the usual one, or the built-in defaults.
    pub config: Option<PathBuf>,
    /// Signal nothing, whatever the configuration says.
    pub dry_run: bool,
    /// Goes before `kernel.source`.
    pub source: Option<SourceChoice>,
    /// One scan, and the terminations that it starts.
    pub once: bool,
}
