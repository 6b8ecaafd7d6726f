//! What libraries and the BPF programs say through `tracing` or `log`, told like everything else.

use std::fmt::{Debug, Write};

use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

use super::{
    event::{Event, Level},
    reporter::EventSender,
};

/// The text of one diagnostic is cut here: the verifier's log of a rejected program can be megabytes.
const LONGEST: usize = 8 * 1024;

/// Sends what is said anywhere in this process, from now on, through `teller`: warnings and errors, and everything
/// down to debug where the level asks for it.
///
/// # Errors
/// Somebody else receives it already.
pub fn install(teller: EventSender) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(Diagnostics(teller)).try_init()
}

/// The layer that does so.
struct Diagnostics(EventSender);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Diagnostics {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        // The level may change with a reload, so that it is asked for with each event.
        Some(LevelFilter::DEBUG)
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let severity = severity(event.metadata());
        if severity < Level::Warning && !self.0.wants_debug() {
            return;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let origin = said.log_target.unwrap_or_else(|| event.metadata().target().to_owned());
        let mut text = said.message + &said.fields;
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push('…');
        }
        self.0.tell(Event::Diagnostic { severity, origin, text });
    }
}

fn severity(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// What an event carries: its message, then its other fields.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
    /// Where a record of the `log` crate came from: tracing-log gives it as a field.
    log_target: Option<String>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.log_target = Some(value.to_owned()),
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name if name.starts_with("log.") => Ok(()),
            name => write!(self.fields, ", {name}={value:?}"),
        };
    }
}
