//! Formats figures for narrow columns.

use crate::model::Bytes;

/// At most six columns: `512`, `4.0K`, `812M`, `3.50G`.
pub(super) fn short(bytes: Bytes) -> String {
    let amount = bytes.0 as f64;
    let units = [("T", Bytes::GIB << 10), ("G", Bytes::GIB), ("M", Bytes::MIB), ("K", Bytes::KIB)];
    let (unit, size) = match units.into_iter().find(|(_, size)| bytes.0 >= *size) {
        Some((unit, size)) => (unit, size as f64),
        None => return bytes.0.to_string(),
    };
    match amount / size {
        few if few < 9.995 && unit != "K" => format!("{few:.2}{unit}"),
        some if some < 99.95 => format!("{some:.1}{unit}"),
        many => format!("{many:.0}{unit}"),
    }
}

/// Bytes per second, with a sign; empty if there is no growth.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
pub(super) fn rate(growth: f64) -> String {
    match Bytes(growth.abs() as u64) {
        Bytes::ZERO => String::new(),
        rate => format!("{}{}", if growth < 0.0 { '-' } else { '+' }, short(rate)),
    }
}

/// At most five columns: `0.4s`, `12s`, `3m`, `5h`; empty beyond two days, because such a forecast means nothing.
pub(super) fn left(seconds: f64) -> String {
    match seconds {
        soon if soon < 9.95 => format!("{soon:.1}s"),
        soon if soon < 99.5 => format!("{soon:.0}s"),
        later if later < 5970.0 => format!("{:.0}m", later / 60.0),
        late if late < 172_800.0 => format!("{:.0}h", late / 3600.0),
        _ => String::new(),
    }
}

/// A bar of `width` columns, of which a share is filled.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates")]
pub(super) fn bar(percent: f64, width: usize, (full, empty): (char, char)) -> String {
    let filled = ((percent / 100.0 * width as f64).round() as usize).min(width);
    (0..width).map(|column| if column < filled { full } else { empty }).collect()
}

/// A sparkline with one column per figure, the lowest at the bottom. Changes of less than a sixteenth are not shown.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1 times a small number")]
pub(super) fn spark(figures: impl Iterator<Item = Bytes>, levels: &[char]) -> String {
    let figures: Vec<_> = figures.map(|figure| figure.0 as f64).collect();
    let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let high = figures.iter().copied().fold(0.0, f64::max);
    let range = (high - low).max(high / 16.0);
    let top = levels.len().saturating_sub(1);
    let level =
        |figure: &f64| if range > 0.0 { ((figure - low) / range * top as f64).round() as usize } else { 0 };
    figures.iter().filter_map(|figure| levels.get(level(figure).min(top))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_fit_into_six_columns() {
        for (bytes, shown) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (123 << 10, "123K"),
            (1 << 20, "1.00M"),
            (812 << 20, "812M"),
            (7 << 29, "3.50G"),
            (1023 << 30, "1023G"),
            (5 << 40, "5.00T"),
        ] {
            assert_eq!(short(Bytes(bytes)), shown);
        }
        assert!((0..54).all(|bit| short(Bytes((1 << bit) - 1)).len() <= 6));
    }

    #[test]
    fn rates_have_a_sign_and_times_an_end() {
        assert_eq!((&*rate(0.4), &*rate(2048.0), &*rate(-3e9)), ("", "+2.0K", "-2.79G"));
        for (seconds, shown) in [(0.04, "0.0s"), (12.3, "12s"), (150.0, "2m"), (7300.0, "2h"), (1e9, "")] {
            assert_eq!(left(seconds), shown);
        }
        assert_eq!(left(f64::INFINITY), "");
    }

    #[test]
    fn bars_and_sparks() {
        assert_eq!(bar(50.0, 4, ('#', '.')), "##..");
        assert_eq!(bar(250.0, 3, ('#', '.')), "###");
        assert_eq!(bar(f64::NAN, 3, ('#', '.')), "...");
        let levels = ['_', '-', '^'];
        assert_eq!(spark([0, 50, 100].map(Bytes).into_iter(), &levels), "_-^");
        assert_eq!(spark([1000, 1001, 999].map(Bytes).into_iter(), &levels), "___");
        assert_eq!(spark([0, 0].map(Bytes).into_iter(), &levels), "__");
        assert_eq!(spark([].into_iter(), &levels), "");
    }
}
