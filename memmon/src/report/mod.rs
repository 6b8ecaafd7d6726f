//! Tells people and programs what happened: one event type, many sinks.

mod event;

pub use event::{Cause, Event, Level, Record, Signal, Sink, Subject};
