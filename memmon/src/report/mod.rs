//! Tells people and programs what happened: one event type, many sinks.

mod event;

pub use event::{Event, Level, Sink, Subject};

pub use crate::model::{Cause, Record, Signal};
