//! Tells people and programs what happened: one event type, many sinks, and nobody who ever waits for them.
//!
//! ```text
//! tell(Event) ──bounded queue──▶ writer thread: text, json ──▶ console, log file, journal or syslog
//! ```

mod event;
mod file;
mod json;
mod outlet;
#[cfg(test)]
mod samples;
mod system_log;
mod text;
mod users;

pub use event::{Event, Level, Sink, Subject};
pub use text::message;
