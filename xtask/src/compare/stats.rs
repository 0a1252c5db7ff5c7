//! Medians, and the bootstrap's interval of a median of ratios.

use serde::Serialize;

/// Enough that the interval's ends do not move in the second digit.
const DRAWS: usize = 4000;

/// A ratio, and how well it is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) rounds: usize,
    pub(crate) median: f64,
    /// The 95 % interval of the median.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// Of one ratio a round; none without any.
    pub(crate) fn of(ratios: &[f64]) -> Option<Self> {
        if ratios.is_empty() {
            return None;
        }
        let mut rng = fastrand::Rng::with_seed(ratios.len() as u64);
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| median(ratios.iter().map(|_| ratios[rng.usize(..ratios.len())])))
            .collect();
        medians.sort_by(f64::total_cmp);
        let (low, high) = (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40]);
        let median = median(ratios.iter().copied());
        Some(Self { rounds: ratios.len(), median, low, high })
    }
}

/// The middle; of an even number the mean of the middle two; 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 0 => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        n => values[n / 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_holds_the_median_and_not_the_outlier() {
        let ratio = Ratio::of(&[1.0, 1.1, 1.05, 1.02, 9.0, 1.03, 1.04]).unwrap();
        assert!((ratio.median - 1.04).abs() < 1e-9);
        assert!(ratio.low >= 1.0 && ratio.low <= 1.04 && ratio.high < 9.0);
        assert_eq!(Ratio::of(&[]), None);
        assert!((median([1.0, 2.0, 4.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
