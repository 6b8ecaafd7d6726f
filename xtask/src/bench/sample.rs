//! Repeated measurements of one thing: their median and spread, never one run alone.

use anyhow::Result;

/// Finite figures in ascending order, at least one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// A sample of `figures`, or none if there are no figures.
    pub(crate) fn new(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        (!figures.is_empty()).then_some(Self(figures))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The median: of an even number of figures, the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[half] } else { f64::midpoint(self.0[half - 1], self.0[half]) }
    }

    /// The smallest figure that `percent` of all figures do not exceed (nearest rank).
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len());
        self.0[rank - 1]
    }

    /// The largest figure.
    pub(crate) fn max(&self) -> f64 {
        self.percentile(100)
    }

    /// The quartiles, between which half of all figures lie, as text: `0.98–1.02`.
    pub(crate) fn quartiles(&self, show: impl Fn(f64) -> String) -> String {
        format!("{}–{}", show(self.percentile(25)), show(self.percentile(75)))
    }
}

/// Measures each of `N` things in turn, in so many rounds. In each round another one comes first, so that a drift of the
/// machine's speed favours none.
pub(crate) fn in_turn<T: Default, const N: usize>(
    rounds: usize,
    mut measure: impl FnMut(usize, usize) -> Result<T>,
) -> Result<Vec<[T; N]>> {
    let round = |round| {
        let mut results = std::array::from_fn(|_| T::default());
        for which in (0..N).map(|turn| (round + turn) % N) {
            results[which] = measure(round, which)?;
        }
        Ok(results)
    };
    (0..rounds).map(round).collect()
}

/// Three significant digits, without an exponent.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding may add a digit in front (99.96 becomes 100): this form is already rounded.
    let rounded = format!("{value:.2e}");
    let exponent = rounded.rsplit('e').next().and_then(|exponent| exponent.parse().ok()).unwrap_or(0_i32);
    let decimals = usize::try_from(2 - exponent).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// A ratio near 1, with three decimals.
pub(crate) fn ratio(value: f64) -> String {
    format!("{value:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(figures: &[f64]) -> Sample {
        Sample::new(figures.iter().copied()).unwrap()
    }

    #[test]
    fn the_middle_and_the_spread() {
        assert_eq!(Sample::new([]), None);
        assert_eq!(Sample::new([f64::NAN]), None);
        assert_eq!(sample(&[3.0, 1.0, 2.0]).median(), 2.0);
        assert_eq!(sample(&[4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        let hundred = Sample::new((1..=100).map(f64::from)).unwrap();
        assert_eq!((hundred.percentile(99), hundred.percentile(1), hundred.max()), (99.0, 1.0, 100.0));
        assert_eq!(hundred.quartiles(figure), "25.0–75.0");
        assert_eq!(sample(&[7.0]).percentile(0), 7.0);
    }

    #[test]
    fn each_comes_first_as_often_as_the_others() {
        let mut order = Vec::new();
        let results = in_turn(3, |round, which| {
            order.push(which);
            Ok(10 * round + which)
        });
        assert_eq!(results.unwrap(), [[0, 1, 2], [10, 11, 12], [20, 21, 22]]);
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        for (value, text) in [
            (0.0, "0"),
            (1234.5, "1234"),
            (99.96, "100"),
            (18.04, "18.0"),
            (1.0, "1.00"),
            (0.6123, "0.612"),
            (0.01234, "0.0123"),
            (0.000_578, "0.000578"),
            (-3.456, "-3.46"),
        ] {
            assert_eq!(figure(value), text);
        }
    }
}
