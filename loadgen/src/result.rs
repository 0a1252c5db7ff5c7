//! The result of a run: what was asked for, what was recorded, where, and what it is worth.
//!
//! This is also the JSON that `--json` writes and `merge` reads; docs/benchmarks.md documents
//! it field by field. Fields may be added to a schema's version; none changes its meaning.

use crate::assertion::{Assertion, Judged};
use crate::compare_stats::Comparison;
use crate::environment::Environment;
use crate::stats::Stats;
use crate::verdict::{Exit, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema of this version.
pub(crate) const SCHEMA: &str = "js5-loadgen/1";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Load {
    /// As in `download` or `play=8,churn=2`.
    pub(crate) scenario: String,
    pub(crate) target: String,
    pub(crate) connections: u64,
    /// Requests a second as given, as in `1000..50000`; none in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<String>,
    pub(crate) urgent_window: u32,
    pub(crate) prefetch_window: u32,
    pub(crate) seed: u64,
    pub(crate) build: u32,
    /// How much of the bytes was checked, in words.
    pub(crate) verification: String,
    /// Other options that were given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, String>,
}

/// One step of `find-max`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Step {
    pub(crate) offered_per_s: f64,
    pub(crate) achieved_per_s: f64,
    /// p99 of urgent responses, or of prefetch where there are none urgent.
    pub(crate) p99_us: f64,
    pub(crate) holds: bool,
    /// Why not: the assertions that were missed, or the verdict.
    pub(crate) why: String,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunResult {
    pub(crate) schema: String,
    pub(crate) load: Load,
    /// When the measurement began, in milliseconds since 1970.
    pub(crate) started_unix_ms: u64,
    pub(crate) warmup_ms: u64,
    /// How long it measured.
    pub(crate) measured_ms: u64,
    /// Ended by a signal.
    pub(crate) interrupted: bool,
    /// Processes and machines whose results this is the sum of.
    pub(crate) parts: u32,
    /// Requests that an open loop had to send while measuring; none in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered: Option<u64>,
    /// For readers; computed anew when read.
    #[serde(skip_deserializing)]
    pub(crate) rates: Rates,
    /// What `self-test` found that this generator reaches, in responses a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling_per_s: Option<f64>,
    pub(crate) environments: Vec<Environment>,
    pub(crate) stats: Stats,
    /// Of `compare` and of the scenario `priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<Comparison>,
    /// Of `find-max`, in the order in which they were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    pub(crate) asserts: Vec<Judged>,
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
}

/// A second's worth of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Rates {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered_per_s: Option<f64>,
    pub(crate) requests_per_s: f64,
    pub(crate) responses_per_s: f64,
    pub(crate) bytes_per_s: f64,
    /// Errors among responses and errors, 0 to 1.
    pub(crate) errors_share: f64,
}

/// Why a file is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultError {
    /// Not JSON, or not of this shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error("its schema is {found:?}; this version reads {SCHEMA:?}")]
    Schema {
        /// What the file says.
        found: String,
    },
    /// Intervals of different lengths do not add.
    #[error("its intervals are {found_ms} ms long, those of the first file {expected_ms} ms")]
    Intervals {
        /// Of this file.
        found_ms: u64,
        /// Of the first.
        expected_ms: u64,
    },
    /// Nothing to add.
    #[error("there is nothing to merge")]
    Empty,
}

impl RunResult {
    /// Of what a run recorded. `judge` completes it.
    pub(crate) fn new(load: Load, stats: Stats, measured_ms: u64) -> Self {
        let schema = SCHEMA.to_owned();
        Self { schema, load, stats, measured_ms, parts: 1, ..Self::default() }
    }

    /// Reads what `--json` wrote.
    pub(crate) fn parse(json: &str) -> Result<Self, ResultError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            schema: String,
        }
        let Head { schema } = serde_json::from_str(json)?;
        if schema != SCHEMA {
            return Err(ResultError::Schema { found: schema });
        }
        let mut result: Self = serde_json::from_str(json)?;
        result.rates = result.compute_rates();
        Ok(result)
    }

    /// Judges: assertions, verdict, exit code. Again after each change.
    pub(crate) fn judge(&mut self, assertions: &[Assertion]) -> Exit {
        self.rates = self.compute_rates();
        self.asserts = assertions.iter().map(|assertion| assertion.judge(self)).collect();
        self.verdict = Verdict::of(self);
        let exit = Exit::of(self);
        self.exit_code = exit.code();
        exit
    }

    /// Adds the results of several processes or machines; `judge` completes it.
    pub(crate) fn merge(parts: Vec<Self>) -> Result<Self, ResultError> {
        let mut parts = parts.into_iter();
        let mut sum = parts.next().ok_or(ResultError::Empty)?;
        for part in parts {
            sum.add(&part)?;
        }
        sum.rates = sum.compute_rates();
        Ok(sum)
    }

    fn add(&mut self, other: &Self) -> Result<(), ResultError> {
        if let (Some(expected), Some(found)) = (self.interval_ms(), other.interval_ms())
            && expected != found
        {
            return Err(ResultError::Intervals { found_ms: found, expected_ms: expected });
        }
        self.stats.merge(&other.stats);
        self.load.connections += other.load.connections;
        self.started_unix_ms = self.started_unix_ms.min(other.started_unix_ms);
        self.measured_ms = self.measured_ms.max(other.measured_ms);
        self.interrupted |= other.interrupted;
        self.parts += other.parts;
        if let Some(offered) = other.offered {
            *self.offered.get_or_insert_default() += offered;
        }
        // Parts on different machines have a ceiling each.
        self.ceiling_per_s = None;
        for environment in &other.environments {
            match self.environments.iter_mut().find(|known| known.host == environment.host) {
                // The kernel counts for all processes of a machine.
                Some(known) => known.counters = known.counters.max(environment.counters),
                None => self.environments.push(environment.clone()),
            }
        }
        Ok(())
    }

    /// The length of the first interval, if a second one shows that the first is whole.
    fn interval_ms(&self) -> Option<u64> {
        let intervals = &self.stats.intervals;
        (intervals.len() > 1).then(|| intervals.first().map_or(0, |interval| interval.length_ms))
    }

    /// Whether the next request waited for an answer, and no rate was to be held.
    pub(crate) fn is_closed(&self) -> bool {
        self.offered.is_none()
    }

    /// How long it measured, in seconds; never 0.
    pub(crate) fn measured_s(&self) -> f64 {
        self.measured_ms.max(1) as f64 / 1000.0
    }

    fn compute_rates(&self) -> Rates {
        let (stats, seconds) = (&self.stats, self.measured_s());
        let errors = stats.errors_sum() as f64;
        let responses = stats.responses.sum() as f64;
        Rates {
            offered_per_s: self.offered.map(|offered| offered as f64 / seconds),
            requests_per_s: stats.requests.sum() as f64 / seconds,
            responses_per_s: responses / seconds,
            bytes_per_s: stats.bytes as f64 / seconds,
            errors_share: if errors > 0.0 { errors / (errors + responses) } else { 0.0 },
        }
    }
}

#[cfg(test)]
#[path = "result_tests.rs"]
mod tests;
