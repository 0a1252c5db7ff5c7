//! A result with its assertions, its verdict and its exit code.

use crate::assertion::{self, Assertion};
use crate::failure::Exit;
use crate::result::RunResult;
use crate::stats::{Metric, Outcome, Times};
use crate::units;
use crate::verdict::{Evidence, Limit, Verdict};
use serde::Serialize;

/// A lag of this share of the largest response time, or more, is reported.
const LAG_MAX_SHARE: f64 = 0.1;
const LAG_MAX_MIN_NS: u64 = 1_000_000;

/// A judged result. Also the JSON that `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judged {
    #[serde(flatten)]
    pub(crate) result: RunResult,
    pub(crate) asserts: Vec<assertion::Judged>,
    pub(crate) verdict: Verdict,
    pub(crate) exit_code: u8,
    #[serde(skip)]
    pub(crate) exit: Exit,
}

impl Judged {
    /// Checks the assertions against a result and gives the verdict.
    pub(crate) fn of(mut result: RunResult, assertions: &[Assertion]) -> Self {
        result.compute_rates();
        let promises = !result.is_closed() || !assertions.is_empty();
        let verdict = Verdict::of(evidence(&result), promises);
        let mut judged = Self::with_verdict(result, verdict);
        judged.hold(assertions);
        judged
    }

    /// With the verdict of a command that has judged the parts of which the result is made.
    pub(crate) fn with_verdict(mut result: RunResult, mut verdict: Verdict) -> Self {
        result.compute_rates();
        verdict.notes.extend(notes(&result, &verdict));
        let (asserts, exit) = (Vec::new(), Exit::Good);
        let mut judged = Self { result, asserts, verdict, exit_code: 0, exit };
        judged.set_exit(judged.exit_of());
        judged
    }

    /// Holds assertions against the result. To be called once.
    pub(crate) fn hold(&mut self, assertions: &[Assertion]) {
        self.asserts = assertions.iter().map(|assert| assert.judge(&self.result)).collect();
        if self.verdict.limit == Limit::GeneratorLimited && !assertions.is_empty() {
            self.verdict.is_valid = false;
        }
        if assertions.len() > 1 {
            let count = units::count(assertions.len() as u64);
            self.verdict.notes.push(format!(
                "conditions that were tested at once: {count}; the chance that one of them is \
                 missed by accident is larger than for a single one"
            ));
        }
        self.set_exit(self.exit_of());
    }

    /// For a command that has a reason of its own to end otherwise.
    pub(crate) fn set_exit(&mut self, exit: Exit) {
        self.exit = exit;
        self.exit_code = exit.code();
    }

    /// The command was cut short, or not.
    pub(crate) fn set_interrupted(&mut self, interrupted: bool) {
        self.result.interrupted = interrupted;
        self.set_exit(self.exit_of());
    }

    /// The command has found that it did not measure what it was to measure.
    pub(crate) fn invalidate(&mut self, reason: String) {
        self.verdict.is_valid = false;
        self.verdict.reason = reason;
        self.set_exit(self.exit_of());
    }

    /// Wrong answers count however the run ended. A run that was cut short proves no assertion, and
    /// neither does an invalid one.
    fn exit_of(&self) -> Exit {
        let missed = self.asserts.iter().any(|judged| !judged.holds);
        match () {
            () if self.result.stats.faults_sum() + self.result.stats.stalls > 0 => Exit::Wrong,
            () if self.result.interrupted => Exit::Interrupted,
            () if !self.verdict.is_valid => Exit::Invalid,
            () if missed => Exit::Missed,
            () => Exit::Good,
        }
    }
}

/// What a verdict is made of.
pub(crate) fn evidence(result: &RunResult) -> Evidence {
    let stats = &result.stats;
    let p99_us =
        |metric| stats.times(metric).map_or(0.0, |t: &Times| t.quantile(0.99) as f64 / 1e3);
    let wall_ns = result.measured_s() * 1e9;
    let is_in = stats.outcomes.contains_key(&Outcome::StatusOk);
    let rates = &result.rates;
    let responses_share = result.ceiling_per_s.map(|top| rates.responses_per_s / top);
    let bytes_share = result.ceiling_bytes_per_s.map(|top| rates.bytes_per_s / top);
    let ceiling_share = responses_share.into_iter().chain(bytes_share).reduce(f64::max);
    Evidence {
        lag_p99_us: p99_us(Metric::Lag),
        response_p99_us: p99_us(Metric::UrgentResponse).max(p99_us(Metric::PrefetchResponse)),
        cpu_share_max: stats.cpu_max_ns as f64 / wall_ns,
        run_queue_share_max: stats.run_queue_max_ns as f64 / wall_ns,
        paused_share: stats.paused_ns as f64 / wall_ns,
        sent_share: result.offered.map(|_| result.sent_share()),
        ceiling_share,
        stalls: stats.stalls,
        refused: if is_in { 0 } else { stats.refusals_sum() },
    }
}

fn notes(result: &RunResult, verdict: &Verdict) -> Vec<String> {
    let stats = &result.stats;
    let mut notes = Vec::new();
    let max_ns = |metric| stats.times(metric).map_or(0, Times::max);
    let (lag, response) =
        (max_ns(Metric::Lag), max_ns(Metric::UrgentResponse).max(max_ns(Metric::PrefetchResponse)));
    let is_large = lag >= LAG_MAX_MIN_NS && lag as f64 >= LAG_MAX_SHARE * response as f64;
    if is_large && verdict.limit != Limit::GeneratorLimited {
        let (lag, response) = (units::ns(lag), units::ns(response));
        notes.push(format!(
            "the generator was {lag} late once, and the longest response took {response}: times \
             beyond p99 are partly the generator's"
        ));
    }
    let drops: u64 = result.environments.iter().map(|e| e.counters.listen_drops).sum();
    if drops > 0 {
        let drops = units::count(drops);
        notes.push(format!(
            "connections that the kernel dropped at full listen queues: {drops}; each waits 1 s \
             or more for its next try"
        ));
    }
    let clamped: u64 = stats.times.values().map(Times::clamped).sum();
    if clamped > 0 {
        let clamped = units::count(clamped);
        notes.push(format!("times longer than 60 s, which count as 60 s: {clamped}"));
    }
    if stats.unwritten_at_end > 0 {
        let unwritten = units::count(stats.unwritten_at_end);
        notes
            .push(format!("requests that were due and not yet sent when time was up: {unwritten}"));
    }
    if result.interrupted {
        notes.push("the run was interrupted".to_owned());
    }
    notes
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
