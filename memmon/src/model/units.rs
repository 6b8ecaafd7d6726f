//! The format of amounts, rates and times: the same everywhere, without a blank between figure and unit.
//!
//! `KB`, `MB` and `GB` are units of 1024, as in v1 and in the configuration.

use std::{fmt, time::Duration};

use super::Bytes;

/// `560KB`, `14.0MB`, `3.50GB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = self.0 as f64;
        match self.0 {
            tiny if tiny < Self::KIB => write!(f, "{tiny}B"),
            small if small < Self::MIB => write!(f, "{:.0}KB", (amount / Self::KIB as f64).floor()),
            medium if medium < Self::GIB / 10 => write!(f, "{:.1}MB", amount / Self::MIB as f64),
            _ => write!(f, "{}", Gb(*self)),
        }
    }
}

/// An amount as v1's log lines have it, whatever its size: `0.03GB`.
#[derive(Clone, Copy, Debug)]
pub struct Gb(pub Bytes);

impl fmt::Display for Gb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}GB", self.0.0 as f64 / Bytes::GIB as f64)
    }
}

/// Growth in bytes per second: `2.4MB/s`.
#[derive(Clone, Copy, Debug)]
pub struct Rate(pub f64);

impl fmt::Display for Rate {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0.0 { "-" } else { "" };
        write!(f, "{sign}{}/s", Bytes(self.0.abs() as u64))
    }
}

/// A time: `400µs`, `1.2ms`, `420ms`, `5.12s`, `2m 5s`, `1h 30m`, `3d 2h`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl Span {
    /// The time of so many seconds; `None` for a negative number, the longest time for one that is too large.
    pub fn from_seconds(seconds: f64) -> Self {
        Self(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (micros, seconds) = (self.0.as_micros(), self.0.as_secs());
        let two = |f: &mut fmt::Formatter<'_>, size: u64, unit: &str, part: u64, smaller: &str| {
            write!(f, "{}{unit}", seconds / size)?;
            match seconds % size / part {
                0 => Ok(()),
                rest => write!(f, " {rest}{smaller}"),
            }
        };
        match seconds {
            0 if micros == 0 => f.write_str("0s"),
            0 if micros < 1000 => write!(f, "{micros}µs"),
            0 if micros < 10_000 => write!(f, "{}.{}ms", micros / 1000, micros % 1000 / 100),
            0 => write!(f, "{}ms", micros / 1000),
            few if few < 120 => {
                let text = format!("{few}.{:02}", self.0.subsec_millis() / 10);
                write!(f, "{}s", text.trim_end_matches('0').trim_end_matches('.'))
            }
            some if some < 7200 => two(f, 60, "m", 1, "s"),
            many if many < 172_800 => two(f, 3600, "h", 60, "m"),
            _ => two(f, 86_400, "d", 3600, "h"),
        }
    }
}

/// The noun after a number of processes.
pub const fn processes(count: usize) -> &'static str {
    if count == 1 { "process" } else { "processes" }
}

/// Two amounts, to the byte if they would read the same and are not.
pub fn apart(one: Bytes, other: Bytes) -> (String, String) {
    let texts = (one.to_string(), other.to_string());
    if texts.0 == texts.1 && one != other { (format!("{}B", one.0), format!("{}B", other.0)) } else { texts }
}

/// An amount for a column of six: `812MB`, `3.50GB`.
pub fn narrow(bytes: Bytes) -> String {
    let amount = bytes.0 as f64;
    let units = [("TB", Bytes::GIB << 10), ("GB", Bytes::GIB), ("MB", Bytes::MIB), ("KB", Bytes::KIB)];
    let (unit, size) = match units.into_iter().find(|(_, size)| bytes.0 >= *size) {
        Some((unit, size)) => (unit, size as f64),
        None => return format!("{}B", bytes.0),
    };
    match amount / size {
        few if few < 9.995 && unit != "KB" => format!("{few:.2}{unit}"),
        some if some < 99.95 => format!("{some:.1}{unit}"),
        many => format!("{many:.0}{unit}"),
    }
}

/// The amount of a rate for a column of seven, with its sign. Empty if there is no growth.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
pub fn narrow_rate(growth: f64) -> String {
    match Bytes(growth.abs() as u64) {
        Bytes::ZERO => String::new(),
        rate => format!("{}{}", if growth < 0.0 { '-' } else { '+' }, narrow(rate)),
    }
}

/// A time for a column of five: `0.4s`, `12s`, `3m`; empty beyond two days, because such a forecast means nothing.
pub fn narrow_span(seconds: f64) -> String {
    match seconds {
        soon if soon < 9.95 => format!("{soon:.1}s"),
        soon if soon < 99.5 => format!("{soon:.0}s"),
        later if later < 5970.0 => format!("{:.0}m", later / 60.0),
        late if late < 172_800.0 => format!("{:.0}h", late / 3600.0),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_never_without_a_significant_digit() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (560 << 10, "560KB"),
            (14 << 20, "14.0MB"),
            (100 << 20, "100.0MB"),
            (103 << 20, "0.10GB"),
            (7 << 29, "3.50GB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
        assert_eq!((&*Gb(Bytes(0)).to_string(), &*Gb(Bytes(7 << 29)).to_string()), ("0.00GB", "3.50GB"));
        let (one, other) = apart(Bytes(1 << 30), Bytes((1 << 30) + 1));
        assert_eq!((&*one, &*other), ("1073741824B", "1073741825B"));
    }

    #[test]
    fn rates_and_times() {
        assert_eq!((&*Rate(2.5e6).to_string(), &*Rate(-3e9).to_string()), ("2.4MB/s", "-2.79GB/s"));
        for (seconds, shown) in [
            (0.0, "0s"),
            (-1.0, "0s"),
            (0.0004, "400µs"),
            (0.001_29, "1.2ms"),
            (0.420_123, "420ms"),
            (1.5009, "1.5s"),
            (3.002, "3s"),
            (5.12, "5.12s"),
            (119.0, "119s"),
            (125.0, "2m 5s"),
            (3600.0, "60m"),
            (5400.0 + 3600.0, "2h 30m"),
            (180_000.0, "2d 2h"),
        ] {
            assert_eq!(Span::from_seconds(seconds).to_string(), shown);
        }
        let _ = Span::from_seconds(f64::INFINITY).to_string();
    }

    #[test]
    fn amounts_fit_into_six_columns() {
        for (bytes, shown) in [
            (0, "0B"),
            (1024, "1.0KB"),
            (123 << 10, "123KB"),
            (1 << 20, "1.00MB"),
            (812 << 20, "812MB"),
            (7 << 29, "3.50GB"),
            (1023 << 30, "1023GB"),
            (5 << 40, "5.00TB"),
        ] {
            assert_eq!(narrow(Bytes(bytes)), shown);
        }
        assert!((0..54).all(|bit| narrow(Bytes((1 << bit) - 1)).len() <= 6));
    }

    #[test]
    fn narrow_rates_have_a_sign_and_times_an_end() {
        assert_eq!(
            (&*narrow_rate(0.4), &*narrow_rate(2048.0), &*narrow_rate(-3e9)),
            ("", "+2.0KB", "-2.79GB")
        );
        for (seconds, shown) in [(0.04, "0.0s"), (12.3, "12s"), (150.0, "2m"), (7300.0, "2h"), (1e9, "")] {
            assert_eq!(narrow_span(seconds), shown);
        }
        assert_eq!(narrow_span(f64::INFINITY), "");
    }
}
