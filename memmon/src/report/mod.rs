//! Reports events to people and programs: one event type, many sinks, and no caller ever waits for them.
//!
//! ```text
//! emit(Event) ──bounded queue──▶ writer thread: text, json ─┬─bounded queue──▶ console
//!                                                          ├─bounded queue──▶ log file
//!                                                          └─never blocks───▶ journal or syslog
//! ```

mod advice;
mod containers;
mod diagnostics;
mod event;
mod file;
mod flood_limit;
mod json;
mod lookup;
mod metrics;
mod notify;
mod outputs;
mod preflight;
mod queued_sink;
mod repeat_filter;
mod reporter;
mod rotation;
#[cfg(test)]
mod samples;
mod sink;
mod system_log;
mod text;
mod users;
mod writer;

pub use containers::ContainerFiles;
pub use diagnostics::install as install_diagnostics;
pub use event::{DryRunCounts, DryRunProgram, Event, Launched, Level, Sink, Subject, SumPart, SumThen};
pub use metrics::{MapFigures, Metrics, MetricsOutputs};
pub use outputs::{Console, Machine, Outputs};
pub use preflight::{Unusable, preflight};
pub use reporter::{EventSender, Reporter};
pub use rotation::Rotation;
