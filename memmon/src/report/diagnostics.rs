//! Diagnostics, through `tracing` or `log`: the warnings of libraries and of the BPF programs, and traces for developers. They
//! are events like every other.

use std::{
    fmt::{Debug, Write},
    time::Instant,
};

use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
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

/// Sends the diagnostics of this process, from now on, through `sender`: warnings and errors, and everything down to debug
/// if the level asks for it.
///
/// # Errors
/// Another subscriber receives them already.
pub fn install(sender: EventSender) -> Result<(), TryInitError> {
    tracing_subscriber::registry().with(Diagnostics(sender)).try_init()
}

/// The layer that does so. A span becomes one line when it is closed, with its duration.
struct Diagnostics(EventSender);

/// A span that is open.
struct Open {
    since: Instant,
    fields: Fields,
}

impl Diagnostics {
    fn emit(&self, metadata: &Metadata<'_>, fields: Fields, head: &str) {
        let origin = fields.log_target.unwrap_or_else(|| metadata.target().to_owned());
        let mut text = head.to_owned() + &fields.message + &fields.others;
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push('…');
        }
        self.0.emit(Event::Diagnostic { severity: severity(metadata), origin, text });
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Diagnostics {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // The level may change with a reload, so that it is asked for each time.
        if severity(metadata) < Level::Warning { Interest::sometimes() } else { Interest::always() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    /// Unless the level is debug, a span costs this call and nothing else.
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let is_trace = *metadata.level() == tracing::Level::TRACE;
        severity(metadata) >= Level::Warning || (self.0.wants_debug() && !is_trace)
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.emit(event.metadata(), fields, "");
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = Open { since: Instant::now(), fields: Fields::default() };
        attributes.record(&mut open.fields);
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Open { since, fields }) = span.extensions_mut().remove() else { return };
        let names: Vec<_> = span.scope().from_root().map(|span| span.name()).collect();
        self.emit(span.metadata(), fields, &format!("{} took {:?}", names.join(" > "), since.elapsed()));
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

/// The fields of an event or a span: the message, then the others.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
    /// The target of a record of the `log` crate, which tracing-log has in a field.
    log_target: Option<String>,
}

impl Visit for Fields {
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
            name => write!(self.others, ", {name}={value:?}"),
        };
    }
}
