//! The last minutes, a moment a second, so that a page that is just opened shows curves.
//!
//! Which metrics have a curve is said here; which labels those have follows from their table.

use super::metrics::{Family, Kind, Value};
use crate::net::count::{BOUNDS_NS, LATENCY_LEN, SUM_AT};
use serde_json::{Map, Value as Json, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Moments that are kept: five minutes. One has about 50 numbers with their labels and two rows
/// of latencies, 6 KB together.
const MOMENTS_MAX: usize = 300;

/// How often a moment is taken.
pub(super) const MOMENT_INTERVAL: Duration = Duration::from_secs(1);

/// Moments that the percentiles beside the curves are of.
const RECENT_MOMENTS: usize = 60;

/// Moments that a rate beside its cap is of.
const RATE_MOMENTS: usize = 3;

/// What has a curve. Of a counter it is the rate a second.
const CURVES: &[&str] = &[
    "js5d_connections",
    "js5d_profile_connections",
    "js5d_responses_total",
    "js5d_profile_responses_total",
    "js5d_response_bytes_total",
    "js5d_egress_bytes_total",
    "js5d_credit_waiting",
    "js5d_game_connections",
    "js5d_game_bytes_total",
    "js5d_refused_total",
    "js5d_closed_total",
    "js5d_queue_depth",
];

/// The metric whose percentiles have curves.
const LATENCY: &str = "js5d_request_seconds";

/// Which percentiles, with their names.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];

/// The last minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    moments: VecDeque<Moment>,
    /// The number of the last moment; the first one is 1.
    last: u64,
}

#[derive(Debug)]
struct Moment {
    at: Instant,
    unix_ms: u64,
    /// Name, label, whether it only grows, and the value.
    curves: Vec<(&'static str, String, bool, f64)>,
    /// Label and counts.
    latencies: Vec<(String, Box<[u64; LATENCY_LEN]>)>,
}

impl History {
    /// Adds a moment; the oldest makes room.
    pub(super) fn push(&mut self, at: Instant, families: &[Family]) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut moment = Moment {
            at,
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(0),
            curves: Vec::new(),
            latencies: Vec::new(),
        };
        for (metric, samples) in families {
            for (labels, value) in samples {
                let label = labels.join(",");
                match value {
                    Value::Number(number) if CURVES.contains(&metric.name) => {
                        let grows = metric.kind == Kind::Counter;
                        moment.curves.push((metric.name, label, grows, *number));
                    }
                    Value::Latency(row) if metric.name == LATENCY => {
                        moment.latencies.push((label, row.clone()));
                    }
                    _ => {}
                }
            }
        }
        if self.moments.len() > MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
        self.last += 1;
    }

    /// The moments after number `since`, a column a curve.
    pub(super) fn to_json(&self, since: u64) -> Json {
        let fresh = usize::try_from(self.last.saturating_sub(since)).unwrap_or(usize::MAX);
        // The first moment has none before it, so it has no rates.
        let count = fresh.min(self.moments.len().saturating_sub(1));
        let skip = self.moments.len().saturating_sub(count + 1);
        let moments: Vec<_> = self.moments.iter().skip(skip).collect();
        let mut columns = Map::new();
        let mut times = Vec::new();
        for pair in moments.windows(2) {
            let [before, moment] = pair else { continue };
            times.push(Json::from(moment.unix_ms));
            let seconds = moment.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3);
            for (place, (name, label, grows, value)) in moment.curves.iter().enumerate() {
                let base = before.curves.get(place).map_or(0.0, |(.., base)| *base);
                let value = if *grows { (value - base).max(0.0) / seconds } else { *value };
                append(&mut columns, &format!("{name}.{label}"), round(value));
            }
            for (place, (label, row)) in moment.latencies.iter().enumerate() {
                let counts = difference(row, before.latencies.get(place).map(|(_, row)| &**row));
                for (name, share) in PERCENTILES {
                    let column = format!("latency_seconds.{label}.{name}");
                    append(&mut columns, &column, percentile(&counts, share));
                }
            }
        }
        json!({ "last": self.last, "times_ms": times, "columns": columns })
    }

    /// What a counter has grown by, in a second, over the last few; of labels that begin with
    /// `prefix`.
    pub(super) fn recent_rate(&self, counter: &str, prefix: &str) -> f64 {
        let first = self.moments.iter().rev().nth(RATE_MOMENTS).or(self.moments.front());
        let (Some(first), Some(last)) = (first, self.moments.back()) else { return 0.0 };
        let sum = |moment: &Moment| -> f64 {
            let of_it = |(name, label, ..): &&(&str, String, bool, f64)| {
                *name == counter && label.starts_with(prefix)
            };
            moment.curves.iter().filter(of_it).map(|(.., value)| value).sum()
        };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        if seconds > 0.0 { (sum(last) - sum(first)) / seconds } else { 0.0 }
    }

    /// Percentiles of the last minute: by class, each the upper bound of where it lies.
    pub(super) fn recent_latencies(&self) -> Json {
        let Some(last) = self.moments.back() else { return Json::Null };
        let place = self.moments.len().saturating_sub(RECENT_MOMENTS + 1);
        let first = self.moments.get(place);
        let mut all = Map::new();
        for (place, (label, row)) in last.latencies.iter().enumerate() {
            let before = first.and_then(|first| first.latencies.get(place)).map(|(_, row)| &**row);
            let counts = difference(row, before.filter(|_| self.moments.len() > 1));
            let named =
                PERCENTILES.map(|(name, share)| (name.to_owned(), percentile(&counts, share)));
            all.insert(label.clone(), Json::Object(named.into_iter().collect()));
        }
        Json::Object(all)
    }
}

fn append(columns: &mut Map<String, Json>, name: &str, value: Json) {
    let column = columns.entry(name).or_insert_with(|| Json::Array(Vec::new()));
    if let Json::Array(values) = column {
        values.push(value);
    }
}

/// Three digits behind the point are enough for a curve.
fn round(value: f64) -> Json {
    Json::from((value * 1000.0).round() / 1000.0)
}

/// What was counted between two moments.
fn difference(row: &[u64; LATENCY_LEN], before: Option<&[u64; LATENCY_LEN]>) -> Vec<u64> {
    let base = |place| before.and_then(|before| before.get(place)).copied().unwrap_or(0);
    let counts = row.iter().take(SUM_AT).enumerate();
    counts.map(|(place, count)| count.saturating_sub(base(place))).collect()
}

/// The bound in seconds that this share does not exceed. Null if nothing was counted, or if the
/// share lies above all bounds.
fn percentile(counts: &[u64], share: f64) -> Json {
    let total: u64 = counts.iter().sum();
    let mut below = 0;
    for (bound, count) in BOUNDS_NS.iter().zip(counts) {
        below += count;
        if below > 0 && below as f64 >= share * total as f64 {
            return Json::from(*bound as f64 / 1e9);
        }
    }
    Json::Null
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::metrics::gather;
    use crate::admin::scrape::Scrape;

    #[test]
    fn percentiles_are_bounds_that_the_share_does_not_exceed() {
        let mut counts = vec![0; SUM_AT];
        counts[0] = 98;
        counts[4] = 1;
        counts[8] = 1;
        assert_eq!(percentile(&counts, 0.5), json!(0.000_01));
        assert_eq!(percentile(&counts, 0.98), json!(0.000_01));
        assert_eq!(percentile(&counts, 0.99), json!(0.000_1));
        assert_eq!(percentile(&counts, 0.999), json!(0.001));
        assert_eq!(percentile(&[0; SUM_AT], 0.5), Json::Null);
        counts[SUM_AT - 1] = 1000;
        assert_eq!(percentile(&counts, 0.99), Json::Null, "above all bounds");
    }

    #[test]
    fn a_curve_is_a_rate_and_only_what_is_asked_for_is_told() {
        let mut history = History::default();
        let start = Instant::now();
        let mut scrape = Scrape::default();
        for second in 0..400_u64 {
            scrape.totals.responses_urgent = second * 70;
            scrape.totals.connections_idle = second;
            scrape.totals.latency_urgent[2] = second;
            history.push(start + MOMENT_INTERVAL * second as u32, &gather(&scrape));
        }
        let all = history.to_json(0);
        assert_eq!(all["times_ms"].as_array().expect("times").len(), MOMENTS_MAX);
        assert_eq!(history.recent_rate("js5d_responses_total", ""), 70.0);
        assert_eq!(history.recent_rate("js5d_responses_total", "urgent"), 70.0);
        assert_eq!(history.recent_rate("js5d_responses_total", "prefetch"), 0.0);
        let rates = all["columns"]["js5d_responses_total.urgent"].as_array().expect("a curve");
        assert_eq!(rates.len(), MOMENTS_MAX);
        assert!(rates.iter().all(|rate| rate == 70.0), "{rates:?}");
        assert_eq!(all["columns"]["js5d_connections.idle"][MOMENTS_MAX - 1], 399.0);
        let p99 = &all["columns"]["latency_seconds.urgent.p99"];
        assert_eq!(p99[MOMENTS_MAX - 1], json!(0.000_031_6));
        let fresh = history.to_json(398);
        assert_eq!(fresh["columns"]["js5d_connections.idle"], json!([398.0, 399.0]));
        assert_eq!(history.to_json(400)["times_ms"], json!([]));
        assert_eq!(history.recent_latencies()["urgent"]["p50"], json!(0.000_031_6));
    }
}
