//! Times as people type them.

use std::time::Duration;

use jiff::{
    Span, SpanRelativeTo, ToSpan as _, Zoned,
    civil::{Date, Weekday},
};

use super::exit::WrongCommandLine;

/// A length of time: `2h`, `90m`, `1h 30m`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: expected 2h, 90m or 1d");
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| wrong())
}

/// A time that is over: `monday` (its beginning, also if that is today), `today`, `yesterday`, `2026-11-20`, or so long ago.
pub(super) fn since(text: &str, now: &Zoned) -> Result<Zoned, WrongCommandLine> {
    let wrong = || {
        WrongCommandLine(format!(
            "--since cannot be {text:?}: expected a time that is over, such as monday, yesterday or 2026-11-20, or a length of \
             time such as 2h"
        ))
    };
    let begins = |date: Date| date.to_zoned(now.time_zone().clone()).map_err(|_| wrong());
    let days_ago = |days: i64| now.date().checked_sub(days.days()).map_err(|_| wrong()).and_then(begins);
    let word = text.to_ascii_lowercase();
    match &*word {
        "today" => return days_ago(0),
        "yesterday" => return days_ago(1),
        _ => {}
    }
    let all = "monday tuesday wednesday thursday friday saturday sunday".split(' ');
    for (name, offset) in all.zip(1..=7_i8) {
        if word.len() >= 3 && name.starts_with(&word) {
            let today = now.date().weekday();
            let weekday = Weekday::from_monday_one_offset(offset).unwrap_or(today);
            return days_ago(weekday.until(today).into());
        }
    }
    if let Ok(date) = text.parse::<Date>() {
        return begins(date);
    }
    let ago = duration(text).map_err(|_| wrong())?;
    now.checked_sub(ago).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_over_is_a_day_or_a_length_of_time() {
        let now: Zoned = "2026-11-25T10:15:00[UTC]".parse().unwrap();
        for (text, expected) in [
            ("monday", "2026-11-23T00:00:00"),
            ("Wed", "2026-11-25T00:00:00"),
            ("thursday", "2026-11-19T00:00:00"),
            ("today", "2026-11-25T00:00:00"),
            ("yesterday", "2026-11-24T00:00:00"),
            ("2026-11-20", "2026-11-20T00:00:00"),
            ("2h", "2026-11-25T08:15:00"),
            ("7d", "2026-11-18T10:15:00"),
        ] {
            assert_eq!(since(text, &now).unwrap().datetime().to_string(), expected, "{text}");
        }
        for text in ["", "mo", "never", "2026-13-01", "-2h"] {
            assert!(since(text, &now).is_err(), "{text}");
        }
    }

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
