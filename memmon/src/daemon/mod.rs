//! The daemon: it connects the other modules, owns the clock, and passes data from one module to the next.
//!
//! - `startup` builds everything once, from the `settings`;
//! - `event_loop` waits for the first of its events (the interval, a signal, an exit, the end of a grace period), and calls
//!   the engine with the time;
//! - `engine` takes a reading to a verdict, and a verdict to a termination;
//! - `reload` applies another configuration;
//! - `announcer` passes on what the engine reports: to `report`, and to `own_status`, from which `status` answers
//!   queries at the `status_socket`;
//! - `source` provides readings, `host` is memmon's relation to its machine.

mod announcer;
mod clock;
mod conditions;
mod dry_run_days;
mod engine;
mod event_loop;
mod exemption_ends;
mod exemption_file;
mod exemptions;
mod history;
mod host;
mod in_force;
mod late_names;
mod options;
mod outputs;
mod own_status;
mod preflight;
mod reload;
mod samples;
mod settings;
mod source;
mod startup;
mod state_file;
mod status;
mod status_socket;
mod stopped_file;
mod throttler;
mod watchlist;

pub use history::{history_on_disk, samples_on_disk};
pub use host::instance::InstanceError;
pub use in_force::rules_of;
pub use options::Options;
pub use preflight::preflight;
pub use settings::{CannotEnforce, can_enforce};
pub use startup::run;
pub use state_file::cannot_keep;
