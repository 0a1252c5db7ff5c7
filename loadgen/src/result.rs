//! The result of a run: what was asked for, what was recorded, and on which machine. `judgement`
//! adds the verdict.
//!
//! With the judgement this is the JSON that `--json` writes and `merge` reads; docs/benchmarks.md
//! documents it field by field. Fields may be added to a schema's version; none changes its
//! meaning.

use crate::comparison::Comparison;
use crate::machine::Environment;
use crate::stats::Stats;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema of this version.
pub(crate) const SCHEMA: &str = "js5-loadgen/1";

/// Parts of one run begin together: within this part of its time, or within this, which the clocks
/// of two machines may be apart.
const APART_PART_MAX: u64 = 10;
const APART_MIN_MS: u64 = 1000;

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
    /// The profile of the clients, as in `rs2-530`.
    pub(crate) client: String,
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
    /// Whether it says anything of the server; false where the generator set the limit.
    pub(crate) is_valid: bool,
    /// Why it does not hold: the assertions that were missed, or the verdict.
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
    /// What `self-test` found that this generator reaches: responses a second of small groups, and
    /// bytes a second of large ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling_bytes_per_s: Option<f64>,
    pub(crate) environments: Vec<Environment>,
    pub(crate) stats: Stats,
    /// Of `compare`, of the scenario `priority`, and with a baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparison: Option<Comparison>,
    /// Of `find-max`, in the order in which they were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    /// Of `find-max`: the interval in which the highest rate lies that the server holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<Found>,
}

/// What `find-max` found, in requests a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Found {
    /// The highest rate that held each time that it was tried.
    pub(crate) rate_per_s: f64,
    /// What was answered there at least.
    pub(crate) low_per_s: f64,
    /// The lowest rate above it that the server did not hold each time that it was tried; none if
    /// it held all that could be offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high_per_s: Option<f64>,
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

/// Why a file is not a result.
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
    /// Runs of different times cannot be added.
    #[error("it began {apart_ms} ms before or after the first file: they did not run together")]
    Times {
        /// From one beginning to the other.
        apart_ms: u64,
    },
    /// Nothing to add.
    #[error("there is nothing to merge")]
    Empty,
}

impl RunResult {
    /// Of what a run recorded.
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
        result.compute_rates();
        Ok(result)
    }

    /// Adds the results of several processes or machines.
    pub(crate) fn merge(parts: Vec<Self>) -> Result<Self, ResultError> {
        let mut parts = parts.into_iter();
        let mut sum = parts.next().ok_or(ResultError::Empty)?;
        for part in parts {
            sum.add(&part)?;
        }
        sum.compute_rates();
        Ok(sum)
    }

    /// Adds the results of runs that followed one another.
    pub(crate) fn in_sequence(runs: impl IntoIterator<Item = Self>) -> Result<Self, ResultError> {
        let mut runs = runs.into_iter();
        let mut sum = runs.next().ok_or(ResultError::Empty)?;
        for run in runs {
            sum.stats.follow(&run.stats, sum.measured_ms);
            sum.measured_ms += run.measured_ms;
            sum.interrupted |= run.interrupted;
            if let Some(offered) = run.offered {
                *sum.offered.get_or_insert_default() += offered;
            }
            for (sum, run) in sum.environments.iter_mut().zip(&run.environments) {
                sum.counters = sum.counters.plus(run.counters);
            }
        }
        sum.compute_rates();
        Ok(sum)
    }

    fn add(&mut self, other: &Self) -> Result<(), ResultError> {
        if let (Some(expected), Some(found)) = (self.interval_ms(), other.interval_ms())
            && expected != found
        {
            return Err(ResultError::Intervals { found_ms: found, expected_ms: expected });
        }
        let apart_ms = self.started_unix_ms.abs_diff(other.started_unix_ms);
        if apart_ms > (self.measured_ms / APART_PART_MAX).max(APART_MIN_MS) {
            return Err(ResultError::Times { apart_ms });
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
        // Parts have a ceiling each.
        let sum = |one: Option<f64>, other: Option<f64>| Some(one? + other?);
        self.ceiling_per_s = sum(self.ceiling_per_s, other.ceiling_per_s);
        self.ceiling_bytes_per_s = sum(self.ceiling_bytes_per_s, other.ceiling_bytes_per_s);
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

    /// Requests written of those that were due in an open loop.
    pub(crate) fn sent_share(&self) -> f64 {
        // Earlier versions did not count what was due apart.
        let (due, written) = match self.stats.due {
            0 => (self.offered.unwrap_or(0), self.stats.requests.sum()),
            due => (due, self.stats.due_written),
        };
        if due == 0 { 1.0 } else { written as f64 / due as f64 }
    }

    /// After each change of what was recorded.
    pub(crate) fn compute_rates(&mut self) {
        let (stats, seconds) = (&self.stats, self.measured_s());
        let errors = stats.errors_sum() as f64;
        let responses = stats.responses.sum() as f64;
        self.rates = Rates {
            offered_per_s: self.offered.map(|offered| offered as f64 / seconds),
            requests_per_s: stats.requests.sum() as f64 / seconds,
            responses_per_s: responses / seconds,
            bytes_per_s: stats.bytes as f64 / seconds,
            errors_share: if errors > 0.0 { errors / (errors + responses) } else { 0.0 },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn results_of_two_machines_add_up_after_a_way_through_files() {
        let file = |host: &str, listen_drops| {
            let mut result = sample::result();
            result.environments[0].host = host.to_owned();
            result.environments[0].counters.listen_drops = listen_drops;
            RunResult::parse(&serde_json::to_string(&result).unwrap()).unwrap()
        };
        // Two processes of one machine see one kernel.
        let parts = vec![file("a", 3), file("b", 4), file("b", 4)];
        let (responses, offered) = (parts[0].stats.responses.urgent, parts[0].offered.unwrap());
        let rate = parts[0].rates.responses_per_s;
        let sum = RunResult::merge(parts).unwrap();
        assert_eq!((sum.parts, sum.offered), (3, Some(3 * offered)));
        assert_eq!(sum.stats.responses.urgent, 3 * responses);
        assert!((sum.rates.responses_per_s - 3.0 * rate).abs() < 1e-6);
        let drops: Vec<u64> = sum.environments.iter().map(|e| e.counters.listen_drops).collect();
        assert_eq!(drops, [3, 4]);
    }

    #[test]
    fn runs_of_different_times_are_no_sum() {
        let early = sample::result();
        let mut late = early.clone();
        late.started_unix_ms += 60_000;
        let error = RunResult::merge(vec![early, late]).unwrap_err().to_string();
        assert!(error.contains("60000 ms") && error.contains("did not run together"), "{error}");
    }

    #[test]
    fn what_a_worker_used_adds_over_time_and_not_over_workers() {
        let one = sample::result();
        let (cpu_ns, measured_ms) = (one.stats.cpu_max_ns, one.measured_ms);
        let together = RunResult::merge(vec![one.clone(), one.clone()]).unwrap();
        assert_eq!((together.stats.cpu_max_ns, together.measured_ms), (cpu_ns, measured_ms));
        let later = RunResult::in_sequence([one.clone(), one]).unwrap();
        assert_eq!((later.stats.cpu_max_ns, later.measured_ms), (2 * cpu_ns, 2 * measured_ms));
        assert_eq!(later.stats.intervals[30].start_ms, 30_000);
    }

    #[test]
    fn files_of_another_schema_are_refused_by_name() {
        let error = RunResult::parse(r#"{"schema":"js5-loadgen/2"}"#).unwrap_err().to_string();
        assert!(error.contains("js5-loadgen/2") && error.contains("js5-loadgen/1"), "{error}");
    }
}
