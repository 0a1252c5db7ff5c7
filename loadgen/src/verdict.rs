//! What a result is worth: whether the server was measured or the generator, and the exit code.
//!
//! A result is only as good as the generator that made it. It is called limited by the generator
//! when its own lateness is a tenth of what it reports, when a worker had no CPU time left, or
//! when workers waited for a core. Then the exit code is 5 wherever something was promised: a
//! rate, or an assertion. A closed loop without assertions promises nothing, and its throughput
//! is still a lower bound, so there the verdict is said and the exit code stays 0.

use crate::report::units;
use crate::result::RunResult;
use crate::stats::{Metric, Times};
use serde::{Deserialize, Serialize};

/// Lateness below this is noise of any kernel's timers and scheduler.
const LAG_P99_MIN_NS: u64 = 1_000_000;
/// Lateness is too much from this share of the response time's p99 on.
const LAG_SHARE_MAX: f64 = 0.1;
/// A worker that is busier than this has no time to be punctual.
const CPU_SHARE_MAX: f64 = 0.95;
/// Workers that wait for a core longer than this share of the time are starved.
const RUN_QUEUE_SHARE_MAX: f64 = 0.1;
/// The offered rate counts as held from this share on.
const SENT_SHARE_MIN: f64 = 0.95;
/// Beyond this share of what the generator reaches at most, it is part of what is measured.
const CEILING_SHARE_MAX: f64 = 0.7;

/// Which side set the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Limit {
    /// A closed loop that had room to spare: the windows and the server.
    #[default]
    Valid,
    /// The generator: the numbers are at least partly its own.
    GeneratorLimited,
    /// The server did not keep up with the offered rate.
    ServerLimited,
    /// The offered rate was held: latency is the result, throughput was given.
    RateLimited,
}

impl Limit {
    /// As it stands in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::GeneratorLimited => "generator-limited",
            Self::ServerLimited => "server-limited",
            Self::RateLimited => "rate-limited",
        }
    }
}

/// What the result is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub(crate) limit: Limit,
    /// False exactly when the exit code would be 5.
    pub(crate) is_valid: bool,
    pub(crate) reason: String,
    /// What a reader should know besides.
    pub(crate) notes: Vec<String>,
    pub(crate) evidence: Evidence,
}

/// The numbers that led to it. Shares are of the measured time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Evidence {
    pub(crate) lag_p99_us: f64,
    /// That of the slower class.
    pub(crate) response_p99_us: f64,
    /// CPU of the busiest worker.
    pub(crate) cpu_share_max: f64,
    pub(crate) run_queue_share_max: f64,
    /// Requests written of those that were due; none in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling_share: Option<f64>,
}

impl Evidence {
    fn of(result: &RunResult) -> Self {
        let stats = &result.stats;
        let p99 = |metric| stats.times(metric).map_or(0, |times: &Times| times.quantile(0.99));
        let wall_ns = result.measured_s() * 1e9;
        let response = p99(Metric::UrgentResponse).max(p99(Metric::PrefetchResponse));
        let sent = stats.requests.sum() as f64;
        Self {
            lag_p99_us: p99(Metric::Lag) as f64 / 1e3,
            response_p99_us: response as f64 / 1e3,
            cpu_share_max: stats.cpu_max_ns as f64 / wall_ns,
            run_queue_share_max: stats.run_queue_max_ns as f64 / wall_ns,
            sent_share: result.offered.map(|offered| sent / offered.max(1) as f64),
            ceiling_share: result.ceiling_per_s.map(|top| result.rates.responses_per_s / top),
        }
    }

    /// Why the generator is the limit, if it is.
    fn generator_fault(&self) -> Option<String> {
        let lag_ns = self.lag_p99_us * 1e3;
        let is_open = self.sent_share.is_some();
        if is_open
            && lag_ns >= LAG_P99_MIN_NS as f64
            && self.lag_p99_us >= LAG_SHARE_MAX * self.response_p99_us
        {
            let (lag, response) = (units::us(self.lag_p99_us), units::us(self.response_p99_us));
            return Some(format!(
                "the generator was late: its lag has p99 {lag}, beside a response p99 of \
                 {response}"
            ));
        }
        if self.cpu_share_max > CPU_SHARE_MAX {
            let cpu = units::percent(self.cpu_share_max);
            return Some(format!("the generator had no CPU left: its busiest worker used {cpu}"));
        }
        (self.run_queue_share_max > RUN_QUEUE_SHARE_MAX).then(|| {
            let waited = units::percent(self.run_queue_share_max);
            format!("the generator was starved: a worker waited for a core {waited} of the time")
        })
    }
}

impl Verdict {
    /// Of a result whose rates and assertions are computed.
    pub(crate) fn of(result: &RunResult) -> Self {
        let evidence = Evidence::of(result);
        let notes = notes(result, &evidence);
        let promised = result.offered.is_some() || !result.asserts.is_empty();
        let (limit, reason) = match (evidence.generator_fault(), evidence.sent_share) {
            (Some(fault), _) => (Limit::GeneratorLimited, fault),
            (None, None) => (
                Limit::Valid,
                "closed loop: the server and the windows set the pace, the generator had room"
                    .to_owned(),
            ),
            (None, Some(sent)) if sent < SENT_SHARE_MIN => {
                let sent = units::percent(sent);
                let reason = format!(
                    "the server did not keep up: full windows let {sent} of the offered rate \
                     through, and the generator had room"
                );
                (Limit::ServerLimited, reason)
            }
            (None, Some(_)) => {
                let reason = "the offered rate was held: this is latency at that rate, not a \
                              maximum";
                (Limit::RateLimited, reason.to_owned())
            }
        };
        let is_valid = limit != Limit::GeneratorLimited || !promised;
        Self { limit, is_valid, reason, notes, evidence }
    }
}

fn notes(result: &RunResult, evidence: &Evidence) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(share) = evidence.ceiling_share.filter(|share| *share > CEILING_SHARE_MAX) {
        let share = units::percent(share);
        notes.push(format!("{share} of what this generator reaches: it is part of the result"));
    }
    let drops: u64 = result.environments.iter().map(|e| e.counters.listen_drops).sum();
    if drops > 0 {
        let drops = units::count(drops);
        notes.push(format!(
            "connections that the kernel dropped at full listen queues: {drops}; each waits 1 s \
             or more for its next try"
        ));
    }
    let clamped: u64 = result.stats.times.values().map(Times::clamped).sum();
    if clamped > 0 {
        let clamped = units::count(clamped);
        notes.push(format!("times longer than 60 s, which count as 60 s: {clamped}"));
    }
    let unwritten = result.stats.unwritten_at_end;
    if unwritten > 0 {
        let unwritten = units::count(unwritten);
        notes
            .push(format!("requests that were due and not yet sent when time was up: {unwritten}"));
    }
    if result.interrupted {
        notes.push("the run was interrupted".to_owned());
    }
    notes
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All that was asked for holds.
    Good,
    /// A defect of this program.
    Bug,
    /// The command line or a file is wrong.
    Usage,
    /// The server sent what it must not, or stopped answering.
    Wrong,
    /// An assertion was missed.
    Missed,
    /// The generator could not measure what was asked for.
    Invalid,
    /// The run could not begin.
    Setup,
    /// A signal ended it.
    Interrupted,
}

impl Exit {
    /// For the shell.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Wrong => 3,
            Self::Missed => 4,
            Self::Invalid => 5,
            Self::Setup => 6,
            Self::Interrupted => 130,
        }
    }

    /// In words.
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bug => "a defect of this program",
            Self::Usage => "the command line or a file is wrong",
            Self::Wrong => "the server sent what it must not, or stopped answering",
            Self::Missed => "an assertion was missed",
            Self::Invalid => "the measurement is invalid",
            Self::Setup => "the run could not begin",
            Self::Interrupted => "interrupted",
        }
    }

    /// Of a judged result. What was seen to be wrong stays wrong however the run ended; a run
    /// that was cut short proves no assertion; an invalid one neither.
    pub(crate) fn of(result: &RunResult) -> Self {
        let missed = result.asserts.iter().any(|judged| !judged.holds);
        match () {
            () if result.stats.faults_sum() + result.stats.stalls > 0 => Self::Wrong,
            () if result.interrupted => Self::Interrupted,
            () if !result.verdict.is_valid => Self::Invalid,
            () if missed => Self::Missed,
            () => Self::Good,
        }
    }
}
