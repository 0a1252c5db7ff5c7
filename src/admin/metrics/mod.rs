//! Metrics: each declared once, in `table.rs`, with its type, its labels and its help.
//!
//! Everything else is made of that table: the text that Prometheus reads, the status page's
//! numbers and curves, `docs/metrics.md` and the Grafana board (`cargo xtask metrics`).

mod table;

pub use table::METRICS;

use super::scrape::Scrape;
use crate::net::count::{BOUNDS_NS, LATENCY_LEN, SUM_AT};
use prometheus::TextEncoder;
use prometheus::proto::{self, MetricFamily, MetricType};
use serde_json::{Map, Value as Json};

/// A metric's declaration.
pub struct Metric {
    /// Its name, unit and `_total` included.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
    read: fn(&Scrape, &mut Samples),
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from the start of the process.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// Counts below bounds, and the sum.
    Histogram,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape, &mut Samples),
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help, read }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape, &mut Samples),
) -> Metric {
    Metric { kind: Kind::Gauge, ..counter(name, labels, help, read) }
}

const fn histogram(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Scrape, &mut Samples),
) -> Metric {
    Metric { kind: Kind::Histogram, ..counter(name, labels, help, read) }
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's values at one moment, each with the values of its labels.
#[derive(Default)]
pub struct Samples(Vec<(Vec<String>, Value)>);

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Number(f64),
    /// A row of `net/latency.rs`.
    Latency(Box<[u64; LATENCY_LEN]>),
}

impl Samples {
    fn value(&mut self, value: u64) {
        self.number(value as f64);
    }

    fn number(&mut self, value: f64) {
        self.0.push((Vec::new(), Value::Number(value)));
    }

    fn labelled(&mut self, label: impl ToString, value: u64) {
        self.labelled_number(label, value as f64);
    }

    fn labelled_number(&mut self, label: impl ToString, value: f64) {
        self.0.push((vec![label.to_string()], Value::Number(value)));
    }

    /// A sample a profile that is served.
    fn by_profile(&mut self, scrape: &Scrape, counts: &[u64]) {
        let profiles = scrape.profiles.iter().zip(counts);
        profiles.for_each(|(name, count)| self.labelled(name, *count));
    }

    fn latency(&mut self, label: impl ToString, row: &[u64; LATENCY_LEN]) {
        self.0.push((vec![label.to_string()], Value::Latency(Box::new(*row))));
    }
}

/// A metric and its values.
pub(super) type Family = (&'static Metric, Vec<(Vec<String>, Value)>);

/// Reads every metric.
pub(super) fn gather(scrape: &Scrape) -> Vec<Family> {
    let read = |metric: &'static Metric| {
        let mut samples = Samples::default();
        (metric.read)(scrape, &mut samples);
        (metric, samples.0)
    };
    METRICS.iter().map(read).filter(|(_, samples)| !samples.is_empty()).collect()
}

/// Prometheus' text format, 0.0.4.
pub(super) fn to_text(families: &[Family]) -> String {
    let families: Vec<_> = families.iter().map(to_proto).collect();
    // It fails for families without a name or a sample, of which there are none.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

fn to_proto((metric, samples): &Family) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    let convert = |(labels, value): &(Vec<String>, Value)| {
        let label = |(name, value): (&&str, &String)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.clone());
            pair
        };
        let labels = metric.labels.iter().zip(labels).map(label).collect();
        let mut sample = proto::Metric::from_label(labels);
        match (value, metric.kind) {
            (Value::Number(number), Kind::Counter) => {
                let mut counter = proto::Counter::default();
                counter.set_value(*number);
                sample.set_counter(counter);
            }
            (Value::Number(number), _) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(*number);
                sample.set_gauge(gauge);
            }
            (Value::Latency(row), _) => sample.set_histogram(to_histogram(row)),
        }
        sample
    };
    family.set_metric(samples.iter().map(convert).collect());
    family
}

fn to_histogram(row: &[u64; LATENCY_LEN]) -> proto::Histogram {
    let mut histogram = proto::Histogram::default();
    let mut below = 0;
    let bucket = |(bound, count): (&u64, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e9);
        bucket.set_cumulative_count(below);
        bucket
    };
    histogram.set_bucket(BOUNDS_NS.iter().zip(row).map(bucket).collect());
    histogram.set_sample_count(row.iter().take(SUM_AT).sum());
    histogram.set_sample_sum(row.get(SUM_AT).map_or(0.0, |sum| *sum as f64 / 1e9));
    histogram
}

/// The numbers as one object: a number a metric, or an object of numbers by label.
pub(super) fn to_json(families: &[Family]) -> Json {
    let mut all = Map::new();
    for (metric, samples) in families {
        let mut by_label = Map::new();
        for (labels, value) in samples {
            let Value::Number(number) = value else { continue };
            if labels.is_empty() {
                all.insert(metric.name.to_owned(), Json::from(*number));
            } else {
                by_label.insert(labels.join(","), Json::from(*number));
            }
        }
        if !by_label.is_empty() {
            all.insert(metric.name.to_owned(), Json::Object(by_label));
        }
    }
    Json::Object(all)
}

#[cfg(test)]
#[path = "../metrics_tests.rs"]
mod tests;
