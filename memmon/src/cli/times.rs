//! Times as people type them.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// A length of time: `2h`, `90m`, `1h 30m`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: expected 2h, 90m or 1d");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_have_a_unit() {
        for (text, seconds) in
            [("2h", 7200), ("90m", 5400), ("1h 30m", 5400), ("1d", 86_400), ("1w", 604_800)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "2", "soon", "-2h", "1 month"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
