//! Ratios of pairs: servers against each other, urgent latency with a full prefetch window against
//! an empty one, a run against an earlier one.
//!
//! Each ratio is that of a pair of neighbouring intervals, in balanced order, so that a change of
//! the machine meets both. The estimate is the median of the pairs' ratios. Its
//! interval is that of the sign test: from the k-th smallest ratio to the k-th largest, with the
//! largest k for which the chance that the true median lies between them is 99 % or more. It
//! assumes nothing about the distribution, and needs eight pairs; with fewer, the interval is the
//! whole range, and the report says so.

use serde::{Deserialize, Serialize};

/// The least chance that an interval holds the true value.
const CONFIDENCE: f64 = 0.99;

/// Fewer pairs than this give no ratio.
pub(crate) const PAIRS_MIN: usize = 3;

/// Fewer pairs than this give no interval of 99 %: 1 - 2^(1 - 8) is 0.992, of seven 0.984.
pub(crate) const PAIRS_FOR_INTERVAL: usize = 8;

/// Draws of the bootstrap: enough that the interval's ends do not move in the second digit.
const DRAWS: usize = 4000;

/// A ratio and how well it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Ratio {
    pub(crate) pairs: u32,
    /// The median of the pairs' ratios.
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The chance that the true ratio lies between `low` and `high`.
    pub(crate) confidence: f64,
}

impl Ratio {
    /// Of pairs (A, B): B divided by A. Pairs in which one is not positive say nothing and are
    /// left out; none if fewer than three remain.
    pub(crate) fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let usable = pairs.iter().filter(|(a, b)| *a > 0.0 && *b > 0.0 && (a + b).is_finite());
        let mut ratios: Vec<f64> = usable.map(|(a, b)| b / a).collect();
        let count = ratios.len();
        if count < PAIRS_MIN {
            return None;
        }
        let median = median(&mut ratios);
        let (place, confidence) = place_of_interval(count);
        let (low, high) = (ratios[place], ratios[count - 1 - place]);
        Some(Self { pairs: u32::try_from(count).ok()?, median, low, high, confidence })
    }

    /// Of two runs whose intervals are no pairs: the ratio of their medians, with the bootstrap's
    /// interval. None if one has fewer than eight intervals.
    pub(crate) fn of_two_runs(a: &[f64], b: &[f64], seed: u64) -> Option<Self> {
        let pairs = a.len().min(b.len());
        if pairs < PAIRS_FOR_INTERVAL || a.iter().chain(b).any(|value| *value <= 0.0) {
            return None;
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut drawn = |from: &[f64]| {
            let mut draw: Vec<f64> = from.iter().map(|_| from[rng.usize(..from.len())]).collect();
            median(&mut draw)
        };
        let mut ratios: Vec<f64> = (0..DRAWS).map(|_| drawn(b) / drawn(a)).collect();
        ratios.sort_by(f64::total_cmp);
        let tail = (DRAWS as f64 * (1.0 - CONFIDENCE) / 2.0) as usize;
        Some(Self {
            pairs: u32::try_from(pairs).ok()?,
            median: median(&mut b.to_vec()) / median(&mut a.to_vec()),
            low: ratios[tail],
            high: ratios[DRAWS - 1 - tail],
            confidence: CONFIDENCE,
        })
    }

    /// Whether the pairs suffice for an interval of 99 %.
    pub(crate) fn is_interval(self) -> bool {
        self.confidence >= CONFIDENCE
    }

    /// Whether it is known that the ratio is not 1.
    pub(crate) fn is_different(self) -> bool {
        self.is_interval() && (self.low > 1.0 || self.high < 1.0)
    }

    /// `1.240 (1.190 to 1.300)`; with fewer than eight pairs `1.240 (1.190 to 1.300, all of 3)`.
    pub(crate) fn text(self) -> String {
        let Self { median, low, high, pairs, .. } = self;
        let few = if self.is_interval() { String::new() } else { format!(", all of {pairs}") };
        format!("{median:.3} ({low:.3} to {high:.3}{few})")
    }
}

/// How many of `count` sorted values lie below an interval of 99 %, and as many above it; and the
/// chance with which it holds the true median: that of a coin thrown `count` times to fall on each
/// side more than that often.
fn place_of_interval(count: usize) -> (usize, f64) {
    // The chance of each number of heads, from none on.
    let mut chance = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut below = chance;
    let mut found = (0, 1.0 - 2.0 * below);
    for heads in 1..=count / 2 {
        chance *= (count - heads + 1) as f64 / heads as f64;
        below += chance;
        let confidence = 1.0 - 2.0 * below;
        if confidence < CONFIDENCE {
            break;
        }
        found = (heads, confidence);
    }
    found
}

/// The middle; of an even number the mean of the middle two; 0 of none. Sorts.
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
    /// Servers, or loads.
    #[default]
    Servers,
    /// A server with itself: the noise floor.
    NoiseFloor,
    /// A: prefetch windows empty. B: full.
    Priority,
    /// A: an earlier run. B: this one.
    Baseline,
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
    /// Nanoseconds of CPU a response.
    CpuNs,
}

/// One quantity of two sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Row {
    /// As in `urgent.service.p99`, `responses`, `cpu a response`.
    pub(crate) name: String,
    pub(crate) unit: RowUnit,
    /// Medians over the intervals.
    pub(crate) a: f64,
    pub(crate) b: f64,
    /// Of B to A; none where there were too few pairs, or where the generator made the figures.
    pub(crate) ratio: Option<Ratio>,
}

impl Row {
    /// Of the pairs of one quantity.
    pub(crate) fn of(name: &str, unit: RowUnit, pairs: &[(f64, f64)]) -> Self {
        let side = |pick: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = pairs.iter().map(pick).collect();
            median(&mut values)
        };
        let (a, b) = (side(|pair| pair.0), side(|pair| pair.1));
        Self { name: name.to_owned(), unit, a, b, ratio: Ratio::of(pairs) }
    }
}

/// One interval of one side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) responses_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Microseconds, as in `urgent.response.p99`. No p99.9 of fewer than 10,000 samples.
    pub(crate) times_us: std::collections::BTreeMap<String, f64>,
    /// What the server used, if its process is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<ServerUsage>,
}

/// What a server used of the machine in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerUsage {
    pub(crate) cpu_ns_a_response: f64,
    pub(crate) bytes_a_cpu_s: f64,
    /// How much of a core it had.
    pub(crate) cpu_share: f64,
    /// How much of the time it could have run and had no core: others used it.
    pub(crate) wait_share: f64,
    pub(crate) resident_bytes: f64,
}

/// One of those that are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) samples: Vec<Sample>,
    /// Why intervals failed; the first reasons only.
    pub(crate) failures: Vec<String>,
    /// In its intervals the generator set the limit: its rates and times are not the server's.
    pub(crate) is_generator_limited: bool,
}

/// The first side, A, and another one, B.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pair {
    /// What A is, and what B.
    pub(crate) a: String,
    pub(crate) b: String,
    pub(crate) rows: Vec<Row>,
}

impl Pair {
    /// Of the rounds that both sides have.
    pub(crate) fn of(a: &Side, b: &Side) -> Self {
        let is_generators = a.is_generator_limited || b.is_generator_limited;
        let mut rows = Vec::new();
        let mut row = |name: &str, unit, pick: &dyn Fn(&Sample) -> Option<f64>| {
            let pairs: Vec<(f64, f64)> = (a.samples.iter())
                .filter_map(|one| {
                    let other = b.samples.iter().find(|other| other.round == one.round)?;
                    Some((pick(one)?, pick(other)?))
                })
                .collect();
            if !pairs.is_empty() {
                let mut row = Row::of(name, unit, &pairs);
                // What a response costs the server does not depend on how fast it is asked.
                row.ratio = row.ratio.filter(|_| !is_generators || unit == RowUnit::CpuNs);
                rows.push(row);
            }
        };
        let cpu = |sample: &Sample| Some(sample.server?.cpu_ns_a_response);
        row("cpu a response", RowUnit::CpuNs, &cpu);
        row("responses", RowUnit::PerS, &|sample| Some(sample.responses_per_s));
        row("bytes", RowUnit::BytesPerS, &|sample| Some(sample.bytes_per_s));
        for clock in ["urgent.service", "prefetch.service", "urgent.response"] {
            for quantile in ["p50", "p99"] {
                let name = format!("{clock}.{quantile}");
                row(&name, RowUnit::Us, &|sample| sample.times_us.get(&name).copied());
            }
        }
        Self { a: a.name.clone(), b: b.name.clone(), rows }
    }
}

/// A comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Comparison {
    pub(crate) kind: Kind,
    pub(crate) interval_ms: u64,
    /// All intervals of all sides; none of a run beside an earlier one, which have their own.
    pub(crate) sides: Vec<Side>,
    /// The first side with each of the others.
    pub(crate) pairs: Vec<Pair>,
}

impl Comparison {
    /// Of sides that were measured in turns.
    pub(crate) fn of(kind: Kind, interval_ms: u64, sides: Vec<Side>) -> Self {
        let pairs = match sides.split_first() {
            Some((a, others)) => others.iter().map(|b| Pair::of(a, b)).collect(),
            None => Vec::new(),
        };
        Self { kind, interval_ms, sides, pairs }
    }

    /// Whether there is any ratio.
    pub(crate) fn has_ratio(&self) -> bool {
        self.pairs.iter().flat_map(|pair| &pair.rows).any(|row| row.ratio.is_some())
    }

    /// What a pair says, in sentences.
    pub(crate) fn conclusions(&self, pair: &Pair) -> Vec<String> {
        let known: Vec<(&Row, Ratio)> =
            pair.rows.iter().filter_map(|row| Some((row, row.ratio?))).collect();
        let mut said: Vec<String> = match self.kind {
            Kind::NoiseFloor => {
                let about = "A is compared with itself: this is the noise floor. On this machine, \
                             in this manner, smaller differences mean nothing:";
                let floors =
                    known.iter().map(|(row, ratio)| format!("{}: {}", row.name, floor(*ratio)));
                std::iter::once(about.to_owned()).chain(floors).collect()
            }
            Kind::Servers | Kind::Baseline => {
                known.iter().map(|(row, ratio)| said_of_sides(row, *ratio)).collect()
            }
            Kind::Priority => {
                known.iter().map(|(row, ratio)| said_of_priority(row, *ratio)).collect()
            }
        };
        let rows = known.iter().filter(|(_, ratio)| ratio.is_interval()).count();
        if rows > 1 {
            let chance = (1.0 - CONFIDENCE.powi(rows as i32)) * 100.0;
            said.push(format!(
                "rows that are compared at once: {rows}, each with 99 %; the chance that one of \
                 them shows a difference where there is none is up to {chance:.0} %"
            ));
        }
        said
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

/// The interval as a difference: `99 % interval +19.0 to +30.0 %`.
fn interval_percent(ratio: Ratio) -> String {
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    let name = interval_name(ratio);
    format!("{name} {:+.1} to {:+.1} %", percent(ratio.low), percent(ratio.high))
}

fn interval_name(ratio: Ratio) -> String {
    match ratio.is_interval() {
        true => "99 % interval".to_owned(),
        false => format!("range of only {} pairs", ratio.pairs),
    }
}

fn said_of_sides(row: &Row, ratio: Ratio) -> String {
    let (name, interval) = (&row.name, interval_percent(ratio));
    if !ratio.is_interval() {
        return format!("{name}: too few pairs to show a difference, {interval}");
    }
    if !ratio.is_different() {
        return format!("{name}: no difference is shown, {interval}");
    }
    let percent = (ratio.median - 1.0) * 100.0;
    let word = if percent > 0.0 { "more" } else { "less" };
    format!("{name}: B has {:.1} % {word} than A, {interval}", percent.abs())
}

fn said_of_priority(row: &Row, ratio: Ratio) -> String {
    let Ratio { median, low, high, .. } = ratio;
    let (name, interval) = (&row.name, interval_name(ratio));
    let interval = format!("{interval} {low:.2} to {high:.2}");
    let word = if row.unit == RowUnit::Us { "long" } else { "much" };
    if !ratio.is_interval() {
        format!("{name}: too few pairs to show a difference, {interval}")
    } else if ratio.is_different() {
        format!("{name}: {median:.2} times as {word} with a full prefetch window, {interval}")
    } else {
        format!("{name}: no difference is shown with a full prefetch window, {interval}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs with a true ratio, under noise that both sides of a pair share and noise of their
    /// own that is far from normal.
    fn pairs(ratio: f64, count: usize, seed: u64) -> Vec<(f64, f64)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..count)
            .map(|_| {
                let drift = 100.0 * (1.0 + rng.f64());
                let mut own = || (0.1 * (rng.f64() - 0.5) / (rng.f64() + 0.05)).exp();
                (drift * own(), drift * own() * ratio)
            })
            .collect()
    }

    #[test]
    fn an_interval_of_99_percent_holds_a_known_ratio_that_often() {
        for count in [8, 10, 12, 20] {
            let covered = (0..1000_u64)
                .filter_map(|seed| Ratio::of(&pairs(1.25, count, seed)))
                .filter(|found| found.low <= 1.25 && 1.25 <= found.high)
                .count();
            // 990 or more are expected; fewer than 980 of 1,000 has a chance of one in a thousand.
            assert!(covered >= 980, "{covered} of 1000 intervals of {count} pairs hold the ratio");
        }
    }

    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        // Published tables of the sign test (two-sided, 1 %): so many values are left out.
        for (count, left_out) in [(8, 0), (11, 0), (12, 1), (15, 2), (20, 3), (25, 5)] {
            assert_eq!(place_of_interval(count).0, left_out, "{count} pairs");
        }
        assert!((place_of_interval(8).1 - 0.992_187_5).abs() < 1e-9);
    }

    #[test]
    fn few_pairs_give_no_interval_of_99_percent() {
        assert_eq!(Ratio::of(&[(1.0, 1.0), (1.0, 2.0), (0.0, 1.0)]), None);
        let three = Ratio::of(&[(1.0, 2.0), (1.0, 2.1), (1.0, 2.2)]).unwrap();
        assert!(!three.is_interval() && !three.is_different(), "{three:?}");
        assert_eq!(three.text(), "2.100 (2.000 to 2.200, all of 3)");
        let eight: Vec<_> = (0..8).map(|i| (1.0, 2.0 + 0.1 * f64::from(i))).collect();
        let eight = Ratio::of(&eight).unwrap();
        assert!(eight.is_interval() && eight.is_different(), "{eight:?}");
    }

    fn side(name: &str, value: f64, is_generator_limited: bool) -> Side {
        let sample = |round: u32| Sample {
            round,
            responses_per_s: value * (1.0 + f64::from(round) / 100.0),
            server: Some(ServerUsage { cpu_ns_a_response: 1e6 / value, ..<_>::default() }),
            ..Sample::default()
        };
        let samples = (0..8).map(sample).collect();
        Side { name: name.to_owned(), samples, is_generator_limited, ..Side::default() }
    }

    #[test]
    fn figures_that_the_generator_made_have_no_ratio_but_for_cpu_a_response() {
        for is_limited in [false, true] {
            let sides = vec![side("a", 1000.0, false), side("b", 1500.0, is_limited)];
            let comparison = Comparison::of(Kind::Servers, 1000, sides);
            let rows = &comparison.pairs[0].rows;
            let ratio = |name| rows.iter().find(|row| row.name == name).unwrap().ratio;
            assert!(ratio("cpu a response").is_some());
            assert_eq!(ratio("responses").is_some(), !is_limited);
        }
    }

    #[test]
    fn a_pair_has_the_rounds_that_both_sides_have() {
        let (a, mut b) = (side("a", 1000.0, false), side("b", 1000.0, false));
        b.samples.remove(0);
        let pair = Pair::of(&a, &b);
        assert_eq!(pair.rows[0].ratio.unwrap().pairs, 7);
        assert_eq!(pair.rows[0].ratio.unwrap().median, 1.0);
    }

    #[test]
    fn what_is_said_names_the_noise_floor_and_how_much_is_looked_at_at_once() {
        let comparison = Comparison::of(
            Kind::NoiseFloor,
            1000,
            vec![side("a", 9.0, false), side("a", 9.0, false)],
        );
        let said = comparison.conclusions(&comparison.pairs[0]).join(" ");
        assert!(said.contains("noise floor") && said.contains("responses: "), "{said}");
        assert!(said.contains("compared at once: 2, each with 99 %"), "{said}");
    }
}
