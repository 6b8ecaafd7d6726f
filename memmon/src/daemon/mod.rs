//! Turns the wheel: puts the rooms together, owns the clock, and carries data from one to the next.
//!
//! `start` builds everything once, `wheel` waits for what comes first (the interval, a signal, an exit, a grace that is
//! over), `reload` puts another configuration into force, `scan` is the way of the data from a survey to the condemned,
//! `instant` the short way for one that crossed, `doubts` remembers whom to look at again soon, `termination` carries out
//! what enforce orders, `board` knows what to say to those who ask.

mod board;
mod climbers;
mod doubts;
mod instance;
mod instant;
#[cfg(feature = "ebpf")]
mod kernel;
#[cfg(not(feature = "ebpf"))]
#[path = "no_kernel.rs"]
mod kernel;
mod lean;
mod nearest;
mod pace;
mod readiness;
mod reload;
mod repeat;
mod scan;
mod short;
mod start;
mod supervisor;
mod termination;
mod told;
mod watch;
mod watched;
mod wheel;

use std::path::PathBuf;

pub use instance::InstanceError;
pub use nearest::{Basis, nearest};
pub use start::{CannotEnforce, run};

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
