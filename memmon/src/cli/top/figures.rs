//! Bars and sparklines.

use crate::model::Bytes;

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
