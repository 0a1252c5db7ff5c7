//! Ratios of pairs: A against B, or urgent latency with a full prefetch window against an empty
//! one.
//!
//! The unit is a pair of neighbouring intervals, in balanced order: what drifts, drifts for
//! both. The estimate is the median of the pairs' ratios, its interval the bootstrap's: pairs
//! drawn anew with repetition, the median of each draw, the middle 95 % of the medians.

use serde::{Deserialize, Serialize};

/// Enough that the interval's ends do not move in the second digit.
const DRAWS: usize = 4000;

/// A ratio and how well it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ratio {
    pub(crate) pairs: u32,
    /// The median of the pairs' ratios.
    pub(crate) median: f64,
    /// The 95 % interval.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Ratio {
    /// Of pairs (A, B): B divided by A. Pairs in which one is not positive say nothing and are
    /// left out; none if fewer than three remain.
    pub(crate) fn of(pairs: &[(f64, f64)], seed: u64) -> Option<Self> {
        let usable = pairs.iter().filter(|(a, b)| *a > 0.0 && *b > 0.0 && (a + b).is_finite());
        let ratios: Vec<f64> = usable.map(|(a, b)| b / a).collect();
        if ratios.len() < 3 {
            return None;
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut draw = vec![0.0; ratios.len()];
        let mut medians: Vec<f64> = (0..DRAWS)
            .map(|_| {
                draw.fill_with(|| ratios[rng.usize(..ratios.len())]);
                median(&mut draw)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        let pairs = u32::try_from(ratios.len()).unwrap_or(u32::MAX);
        let (low, high) = (medians[DRAWS / 40], medians[DRAWS - 1 - DRAWS / 40]);
        let mut ratios = ratios;
        Some(Self { pairs, median: median(&mut ratios), low, high })
    }

    /// Whether the interval excludes 1.
    pub(crate) fn is_different(self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }

    /// `1.24 (1.19 to 1.30)`.
    pub(crate) fn text(self) -> String {
        format!("{:.3} ({:.3} to {:.3})", self.median, self.low, self.high)
    }
}

/// The middle; of an even number the mean of the middle two. Sorts.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        n => values[n / 2],
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Two servers.
    #[default]
    Servers,
    /// A server with itself: the noise floor.
    NoiseFloor,
    /// A: prefetch windows empty. B: full.
    Priority,
}

/// The unit of a row's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RowUnit {
    /// Microseconds.
    #[default]
    Us,
    /// A second.
    PerS,
    /// Bytes a second.
    BytesPerS,
    /// Nanoseconds of CPU a request.
    CpuNs,
}

/// One quantity of both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    /// As in `urgent.service.p99`, `responses`, `cpu a request`.
    pub(crate) name: String,
    pub(crate) unit: RowUnit,
    /// Medians over the intervals.
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// Of B to A; none where there were too few pairs.
    pub(crate) ratio: Option<Ratio>,
}

impl Row {
    /// Of the pairs of one quantity.
    pub(crate) fn of(name: &str, unit: RowUnit, pairs: &[(f64, f64)], seed: u64) -> Self {
        let side = |pick: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(pick).collect();
            median(&mut values)
        };
        let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
        Self { name: name.to_owned(), unit, a, b, ratio: Ratio::of(pairs, seed) }
    }
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Comparison {
    pub(crate) kind: Kind,
    /// What A is, and what B.
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) interval_ms: u64,
    pub(crate) rows: Vec<Row>,
}

impl Comparison {
    /// What it says, in sentences.
    pub(crate) fn conclusions(&self) -> Vec<String> {
        let known = self.rows.iter().filter_map(|row| Some((row, row.ratio?)));
        match self.kind {
            Kind::NoiseFloor => {
                let about = "A is compared with itself: this is the noise floor. On this machine, \
                             in this manner, smaller differences mean nothing:";
                let floors = known.map(|(row, ratio)| format!("{}: {}", row.name, floor(ratio)));
                std::iter::once(about.to_owned()).chain(floors).collect()
            }
            Kind::Servers => known.map(|(row, ratio)| said_of_servers(row, ratio)).collect(),
            Kind::Priority => known.map(|(row, ratio)| said_of_priority(row, ratio)).collect(),
        }
    }
}

/// How far from 1 the interval reaches, whichever side is taken for the first.
fn floor(ratio: Ratio) -> String {
    let factor = ratio.high.max(1.0 / ratio.low);
    match factor {
        f if f < 2.0 => format!("{:.1} %", (f - 1.0) * 100.0),
        f => format!("a factor of {f:.1}"),
    }
}

/// The interval as a difference: `95 % interval +19.0 to +30.0 %`.
fn interval_percent(ratio: Ratio) -> String {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    format!("95 % interval {:+.1} to {:+.1} %", percent(ratio.low), percent(ratio.high))
}

fn said_of_servers(row: &Row, ratio: Ratio) -> String {
    let (name, interval) = (&row.name, interval_percent(ratio));
    if !ratio.is_different() {
        return format!("{name}: no difference is shown, {interval}");
    }
    let percent = (ratio.median - 1.0) * 100.0;
    let word = if percent > 0.0 { "more" } else { "less" };
    format!("{name}: B has {:.1} % {word} than A, {interval}", percent.abs())
}

fn said_of_priority(row: &Row, ratio: Ratio) -> String {
    let Ratio { median, low, high, .. } = ratio;
    let (name, interval) = (&row.name, format!("95 % interval {low:.2} to {high:.2}"));
    let word = if row.unit == RowUnit::Us { "long" } else { "much" };
    if ratio.is_different() {
        format!("{name}: {median:.2} times as {word} with a full prefetch window, {interval}")
    } else {
        format!("{name}: a full prefetch window does not show, {interval}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs with a true ratio, under noise that both sides of a pair share and noise of their
    /// own.
    fn pairs(ratio: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..20)
            .map(|_| {
                let drift = 100.0 * (1.0 + rng.f64());
                let mut own = || 0.95 + 0.1 * rng.f64();
                (drift * own(), drift * own() * ratio)
            })
            .collect()
    }

    #[test]
    fn the_bootstrap_interval_covers_a_known_ratio_as_often_as_it_says() {
        let covered = (0..100_u64)
            .filter_map(|seed| Ratio::of(&pairs(1.25, seed), seed))
            .filter(|found| found.low <= 1.25 && 1.25 <= found.high)
            .count();
        // 95 are expected; fewer than 86 has a chance of one in ten thousand.
        assert!(covered >= 86, "{covered} of 100 intervals cover the ratio");
        let found = Ratio::of(&pairs(1.25, 1), 1).unwrap();
        assert!(found.is_different() && found.high - found.low < 0.1, "{found:?}");
        assert_eq!(Ratio::of(&pairs(1.25, 1), 1), Some(found), "one seed, one interval");
    }

    #[test]
    fn too_few_pairs_give_no_ratio() {
        assert_eq!(Ratio::of(&[(1.0, 1.0), (1.0, 2.0), (0.0, 1.0)], 1), None);
    }

    #[test]
    fn a_server_against_itself_is_called_the_noise_floor() {
        let rows = vec![Row::of("responses", RowUnit::PerS, &pairs(1.0, 3), 1)];
        let comparison = Comparison { kind: Kind::NoiseFloor, rows, ..Comparison::default() };
        let said = comparison.conclusions().join(" ");
        assert!(said.contains("noise floor") && said.contains("responses: "), "{said}");
    }
}
