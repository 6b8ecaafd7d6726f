//! Serialization of durations in JSON, as seconds.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// For `#[serde(serialize_with)]`.
pub(crate) fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// For `#[serde(serialize_with)]`; null for none.
#[expect(clippy::ref_option, reason = "serde requires this signature")]
pub(crate) fn as_seconds_if_any<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}
