//! Conditions on a result: `--assert 'urgent.response.p99<20ms'`.
//!
//! A condition is METRIC OPERATOR VALUE. A metric is a distribution with a statistic
//! (`urgent.response.p99`, `connect.max`) or one number of the run (`errors`, `rate`). A metric
//! without samples holds nothing: a run that measured nothing proves nothing.

use crate::result::RunResult;
use crate::stats::histogram::P999_SAMPLES_MIN;
use crate::stats::{Metric, Times};
use crate::units;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// A condition that has been parsed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Assertion {
    /// As it was written.
    text: String,
    subject: Subject,
    operator: Operator,
    /// In the subject's unit: microseconds, a number, bytes a second, or a share of 1.
    bound: f64,
}

/// A condition, checked against a result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Judged {
    /// As it was written.
    pub(crate) condition: String,
    /// What was measured, with its unit; or why nothing was.
    pub(crate) measured: String,
    pub(crate) holds: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    Times(Metric, Statistic),
    Number(Number),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Min,
    Mean,
    Max,
    Count,
    /// 0.99 for p99.
    Quantile(f64),
}

/// One number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Errors,
    ErrorsShare,
    Faults,
    Stalls,
    Refusals,
    Requests,
    Responses,
    Connections,
    Rate,
    Throughput,
    Sent,
    InFlight,
}

impl Number {
    /// Each with its name and its unit.
    const ALL: [(&'static str, Self, Unit); 12] = [
        ("errors", Self::Errors, Unit::Plain),
        ("errors.share", Self::ErrorsShare, Unit::Share),
        ("faults", Self::Faults, Unit::Plain),
        ("stalls", Self::Stalls, Unit::Plain),
        ("refusals", Self::Refusals, Unit::Plain),
        ("requests", Self::Requests, Unit::Plain),
        ("responses", Self::Responses, Unit::Plain),
        ("connections", Self::Connections, Unit::Plain),
        ("rate", Self::Rate, Unit::Plain),
        ("throughput", Self::Throughput, Unit::Bytes),
        ("sent", Self::Sent, Unit::Share),
        ("in-flight", Self::InFlight, Unit::Plain),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Time,
    Plain,
    Bytes,
    Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

impl Operator {
    /// The longer ones first: `<=` begins with `<`.
    const ALL: [(&'static str, Self); 6] = [
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("<", Self::Below),
        (">", Self::Above),
        ("=", Self::Equal),
    ];

    fn holds(self, measured: f64, bound: f64) -> bool {
        match self {
            Self::Below => measured < bound,
            Self::AtMost => measured <= bound,
            Self::Above => measured > bound,
            Self::AtLeast => measured >= bound,
            Self::Equal => measured == bound,
        }
    }
}

/// Why a condition cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssertionError {
    /// It has no operator.
    #[error("{text:?} has no operator; write METRIC<VALUE, as in urgent.response.p99<20ms")]
    NoOperator {
        /// The condition.
        text: String,
    },
    /// No metric of that name.
    #[error("there is no metric {name:?}; did you mean {nearest:?}?")]
    UnknownMetric {
        /// What stands there.
        name: String,
        /// The most alike that exists.
        nearest: String,
    },
    /// No statistic of that name.
    #[error("{metric} has no statistic {name:?}; there are min, mean, max, count, p50, p99, p99.9")]
    UnknownStatistic {
        /// The distribution.
        metric: &'static str,
        /// What stands there.
        name: String,
    },
    /// Not a value of the unit that the metric has.
    #[error("{value:?} is not {wanted}")]
    Value {
        /// What stands there.
        value: String,
        /// What should.
        wanted: &'static str,
    },
    /// Not a rate in bytes or bits.
    #[error("{0}")]
    Rate(String),
}

impl FromStr for Assertion {
    type Err = AssertionError;

    fn from_str(text: &str) -> Result<Self, AssertionError> {
        let place = text.find(['<', '>', '=']);
        let found = place.and_then(|place| {
            let (name, rest) = text.split_at(place);
            let operator = Operator::ALL.iter().find(|(sign, _)| rest.starts_with(sign))?;
            Some((name.trim(), operator.1, rest[operator.0.len()..].trim()))
        });
        let Some((name, operator, value)) = found else {
            return Err(AssertionError::NoOperator { text: text.to_owned() });
        };
        let subject: Subject = name.parse()?;
        let bound = subject.unit().parse(value)?;
        Ok(Self { text: text.trim().to_owned(), subject, operator, bound })
    }
}

impl FromStr for Subject {
    type Err = AssertionError;

    fn from_str(name: &str) -> Result<Self, AssertionError> {
        if let Some((_, number, _)) = Number::ALL.iter().find(|(known, ..)| *known == name) {
            return Ok(Self::Number(*number));
        }
        // The longest name first is not needed: no metric's name begins another's.
        for metric in Metric::ALL {
            let rest = name.strip_prefix(metric.name()).and_then(|rest| rest.strip_prefix('.'));
            if let Some(statistic) = rest {
                let unknown = || AssertionError::UnknownStatistic {
                    metric: metric.name(),
                    name: statistic.to_owned(),
                };
                return Ok(Self::Times(metric, parse_statistic(statistic).ok_or_else(unknown)?));
            }
        }
        Err(AssertionError::UnknownMetric { name: name.to_owned(), nearest: nearest(name) })
    }
}

fn parse_statistic(name: &str) -> Option<Statistic> {
    match name {
        "min" => Some(Statistic::Min),
        "mean" => Some(Statistic::Mean),
        "max" => Some(Statistic::Max),
        "count" => Some(Statistic::Count),
        "p999" => Some(Statistic::Quantile(0.999)),
        "p9999" => Some(Statistic::Quantile(0.9999)),
        _ => {
            let percent: f64 = name.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(Statistic::Quantile(percent / 100.0))
        }
    }
}

/// The name that exists and is most like `name`.
fn nearest(name: &str) -> String {
    // A class without a clock means the response.
    if let Some((class @ ("urgent" | "prefetch"), statistic)) = name.split_once('.')
        && parse_statistic(statistic).is_some()
    {
        return format!("{class}.response.{statistic}");
    }
    let times = Metric::ALL.iter().flat_map(|metric| {
        ["p50", "p99", "max"].map(|statistic| format!("{}.{statistic}", metric.name()))
    });
    let numbers = Number::ALL.iter().map(|(known, ..)| (*known).to_owned());
    times.chain(numbers).min_by_key(|known| strsim::levenshtein(known, name)).unwrap_or_default()
}

impl Subject {
    fn unit(self) -> Unit {
        match self {
            Self::Times(_, Statistic::Count) => Unit::Plain,
            Self::Times(..) => Unit::Time,
            Self::Number(number) => {
                let found = Number::ALL.iter().find(|(_, known, _)| *known == number);
                found.map_or(Unit::Plain, |(.., unit)| *unit)
            }
        }
    }
}

impl Unit {
    /// `20ms`, `10k`, `1.5GB/s`, `0.1%`, as the unit has it.
    fn parse(self, text: &str) -> Result<f64, AssertionError> {
        let (suffixes, wanted): (&[(&str, f64)], _) = match self {
            Self::Time => (
                &[("ns", 1e-3), ("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6)],
                "a time with its unit, such as 20ms, 250us or 1.5s",
            ),
            Self::Plain => (&[("k", 1e3), ("M", 1e6), ("", 1.0)], "a number, such as 0, 10k or 3M"),
            Self::Bytes => return bytes_per_s(text),
            Self::Share => (&[("%", 0.01), ("", 1.0)], "a share, such as 0.1% or 0.001"),
        };
        let wrong = || AssertionError::Value { value: text.to_owned(), wanted };
        let without = if self == Self::Time { text } else { text.trim_end_matches("/s") };
        let digits = without.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
        let (number, unit) = without.split_at(digits.unwrap_or(without.len()));
        let factor = suffixes.iter().find(|(suffix, _)| *suffix == unit.trim());
        let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        Ok(number * factor.ok_or_else(wrong)?.1)
    }

    fn show(self, value: f64) -> String {
        match self {
            Self::Time => units::us(value),
            Self::Plain if value.fract() == 0.0 => units::count(value as u64),
            Self::Plain => units::per_s(value).trim_end_matches("/s").to_owned(),
            Self::Bytes => units::bytes_per_s(value),
            Self::Share => units::percent(value),
        }
    }
}

/// A rate as the server's options have it; that it is one a second may be left out.
fn bytes_per_s(text: &str) -> Result<f64, AssertionError> {
    let amount = text.strip_suffix("/s").unwrap_or(text);
    let bytes = js5d::cli::units::rate(&format!("{amount}/s")).map_err(AssertionError::Rate)?;
    Ok(bytes as f64)
}

impl Assertion {
    /// Holds the condition against a result.
    pub(crate) fn judge(&self, result: &RunResult) -> Judged {
        let condition = self.text.clone();
        match self.subject.measure(result) {
            Ok(value) => {
                let measured = self.subject.unit().show(value);
                Judged { condition, measured, holds: self.operator.holds(value, self.bound) }
            }
            Err(why) => Judged { condition, measured: why, holds: false },
        }
    }
}

impl Subject {
    fn measure(self, result: &RunResult) -> Result<f64, String> {
        let stats = &result.stats;
        match self {
            Self::Times(metric, Statistic::Count) => {
                Ok(stats.times(metric).map_or(0.0, |times| times.count() as f64))
            }
            Self::Times(metric, statistic) => {
                let times = stats.times(metric).ok_or("nothing was measured")?;
                statistic.of(times)
            }
            Self::Number(number) => Ok(match number {
                Number::Errors => stats.errors_sum() as f64,
                Number::ErrorsShare => result.rates.errors_share,
                Number::Faults => stats.faults_sum() as f64,
                Number::Stalls => stats.stalls as f64,
                Number::Refusals => stats.refusals_sum() as f64,
                Number::Requests => stats.requests.sum() as f64,
                Number::Responses => stats.responses.sum() as f64,
                Number::Connections => stats.connections_max as f64,
                Number::Rate => result.rates.responses_per_s,
                Number::Throughput => result.rates.bytes_per_s,
                Number::Sent => {
                    result.offered.ok_or("a closed loop offers no rate")?;
                    result.sent_share()
                }
                Number::InFlight => stats.in_flight_at_end.sum() as f64,
            }),
        }
    }
}

impl Statistic {
    /// In microseconds.
    fn of(self, times: &Times) -> Result<f64, String> {
        let ns = match self {
            Self::Min => times.min() as f64,
            Self::Mean => times.mean(),
            Self::Max => times.max() as f64,
            Self::Count => return Ok(times.count() as f64),
            Self::Quantile(quantile) => {
                // As many samples beyond the quantile as p99.9 has with its 10,000.
                let needed = (P999_SAMPLES_MIN as f64 * 0.001 / (1.0 - quantile)).ceil();
                if quantile > 0.99 && quantile < 1.0 && (times.count() as f64) < needed {
                    return Err(format!(
                        "{} samples are too few; {} are needed",
                        units::count(times.count()),
                        units::count(needed as u64)
                    ));
                }
                times.quantile(quantile) as f64
            }
        };
        Ok(ns / 1e3)
    }
}

#[cfg(test)]
#[path = "assertion_tests.rs"]
mod tests;
