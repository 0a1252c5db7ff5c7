//! The verdict on a result, as one pure function of what was counted. Every command that prints a
//! figure uses it.
//!
//! There are three cases. The **generator** was late, was stopped, or had no core: then the figures
//! are at least partly the generator's. The **server** stood still, or did not keep up with the
//! offered rate. Or **neither**: the server set the pace of a closed loop, or an open loop held its
//! rate. A measurement is invalid, exit code 5, if the rate was not reached, or if the generator
//! was the limit and something was promised (a rate, an assertion, a ratio). A closed loop that
//! promises nothing is valid even then: its throughput is a lower bound.

use crate::units;
use serde::{Deserialize, Serialize};

/// Lateness below this is normal for the kernel's timers and scheduler.
const LAG_P99_MIN_US: f64 = 1000.0;
/// Lateness is too much from this share of the response time's p99 on.
const LAG_SHARE_MAX: f64 = 0.1;
/// Pauses of more than this share of the time change the p99.
const PAUSED_SHARE_MAX: f64 = 0.01;
/// A worker that is busier than this sends requests late.
const CPU_SHARE_MAX: f64 = 0.95;
/// Workers that wait for a core longer than this share of the time are starved.
const RUN_QUEUE_SHARE_MAX: f64 = 0.1;
/// The offered rate counts as held from this share on.
const SENT_SHARE_MIN: f64 = 0.95;
/// Beyond this share of its ceiling, the generator influences the result.
const CEILING_SHARE_MAX: f64 = 0.7;

/// A wait for the server that is shorter than this is no stall, however short the measurement.
const STANDSTILL_SHORT_NS: u64 = 250_000_000;
/// A wait of this length is a stall where it is most of the measurement: a packet that was lost
/// twice is sent again after 200 ms and 400 ms more.
const STANDSTILL_LONG_NS: u64 = 600_000_000;
/// A wait is a stall only if it is this many times as long as the server takes on average: the turn
/// of each of ten thousand connections comes seldom.
const STANDSTILL_ANSWERS: u64 = 3;

/// Whether a server stood still that owed answers on a connection and sent nothing for `quiet_ns`
/// of a measurement of `measured_ns`, whatever the stall timeout. `answer_ns` is how long an answer
/// took on average, 0 if there was none.
pub(crate) fn is_standstill(quiet_ns: u64, measured_ns: u64, answer_ns: u64) -> bool {
    // Of a short measurement nearly all counts, so that an interval without an answer is found.
    let nearly_all_ns = measured_ns / 10 * 9;
    let bound_ns = nearly_all_ns.clamp(STANDSTILL_SHORT_NS, STANDSTILL_LONG_NS);
    quiet_ns > measured_ns / 2
        && quiet_ns >= bound_ns.max(answer_ns.saturating_mul(STANDSTILL_ANSWERS))
}

/// Which side set the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Limit {
    /// A closed loop that had room to spare: the windows and the server.
    #[default]
    Valid,
    /// The generator: the numbers are at least partly its own.
    GeneratorLimited,
    /// The server did not keep up with the offered rate, or let no client in.
    ServerLimited,
    /// The server stood still: it owed answers, and sent nothing.
    ServerStalled,
    /// The offered rate was held: latency is the result, throughput was given.
    RateLimited,
}

impl Limit {
    /// Its name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::GeneratorLimited => "generator-limited",
            Self::ServerLimited => "server-limited",
            Self::ServerStalled => "server-stalled",
            Self::RateLimited => "rate-limited",
        }
    }
}

/// What was counted. Shares are of the measured time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Evidence {
    /// How late requests were written that were due and had room.
    pub(crate) lag_p99_us: f64,
    /// That of the slower class.
    pub(crate) response_p99_us: f64,
    /// CPU of the busiest worker.
    pub(crate) cpu_share_max: f64,
    /// Of the worker that waited longest for a core.
    pub(crate) run_queue_share_max: f64,
    /// Of the worker that stood still longest.
    pub(crate) paused_share: f64,
    /// Requests written of those that were due; none in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sent_share: Option<f64>,
    /// Of what `self-test` found this generator to reach; none where it has not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ceiling_share: Option<f64>,
    /// Connections on which the server stood still.
    pub(crate) stalls: u64,
    /// Clients that were refused, if none was let in.
    pub(crate) refused: u64,
}

/// What the result is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Verdict {
    pub(crate) limit: Limit,
    /// False means exit code 5, unless something worse was seen.
    pub(crate) is_valid: bool,
    pub(crate) reason: String,
    /// What a reader should know besides.
    pub(crate) notes: Vec<String>,
    pub(crate) evidence: Evidence,
}

impl Verdict {
    /// Of what was counted. `promises` says whether something was to be shown beside a lower
    /// bound: a rate, an assertion, a ratio.
    pub(crate) fn of(evidence: Evidence, promises: bool) -> Self {
        let (limit, reason) = evidence.limit();
        let is_valid = match limit {
            Limit::Valid | Limit::RateLimited | Limit::ServerStalled => true,
            Limit::GeneratorLimited => !promises,
            Limit::ServerLimited => false,
        };
        let mut notes = Vec::new();
        if let Some(share) = evidence.ceiling_share.filter(|share| *share > CEILING_SHARE_MAX) {
            let share = units::percent(share);
            notes.push(format!(
                "{share} of this generator's ceiling: the generator may be the limit"
            ));
        }
        Self { limit, is_valid, reason, notes, evidence }
    }
}

impl Evidence {
    /// A fault of the generator looks like a slow server, so it is checked first.
    fn limit(&self) -> (Limit, String) {
        if self.refused > 0 {
            let refused = units::count(self.refused);
            let reason = format!("the server let no client in: it refused {refused}");
            return (Limit::ServerLimited, reason);
        }
        if let Some(fault) = self.generator_fault() {
            return (Limit::GeneratorLimited, fault);
        }
        if self.stalls > 0 {
            let stalls = units::count(self.stalls);
            let reason = format!(
                "the server stood still: connections on which it owed answers and sent nothing: \
                 {stalls}"
            );
            return (Limit::ServerStalled, reason);
        }
        match self.sent_share {
            None => {
                let reason = "closed loop: the server and the windows set the pace, and the \
                              generator had time to spare";
                (Limit::Valid, reason.to_owned())
            }
            Some(sent) if sent < SENT_SHARE_MIN => {
                let sent = units::percent(sent);
                let reason = format!(
                    "the rate was not reached, and the server is the reason: because of full \
                     windows and lost connections only {sent} of the requests could be sent, and \
                     the generator had time to spare"
                );
                (Limit::ServerLimited, reason)
            }
            Some(_) => {
                let reason = "the offered rate was held: this is latency at that rate, not a \
                              maximum";
                (Limit::RateLimited, reason.to_owned())
            }
        }
    }

    /// What the generator did wrong, if it did.
    fn generator_fault(&self) -> Option<String> {
        let lag = self.lag_p99_us;
        if lag >= LAG_P99_MIN_US && lag >= LAG_SHARE_MAX * self.response_p99_us {
            let (lag, response) = (units::us(lag), units::us(self.response_p99_us));
            return Some(format!(
                "the generator was late: the p99 of its lag is {lag}, and that of the responses \
                 {response}"
            ));
        }
        if self.paused_share > PAUSED_SHARE_MAX {
            let paused = units::percent(self.paused_share);
            return Some(format!(
                "the generator stood still: it was stopped, or had no core, {paused} of the time"
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An open loop that held its rate with a p99 of 20 ms, without a fault.
    const HELD: Evidence = Evidence {
        lag_p99_us: 50.0,
        response_p99_us: 20_000.0,
        cpu_share_max: 0.4,
        run_queue_share_max: 0.01,
        paused_share: 0.0,
        sent_share: Some(0.999),
        ceiling_share: None,
        stalls: 0,
        refused: 0,
    };
    const CLOSED: Evidence = Evidence { sent_share: None, ..HELD };

    #[test]
    fn the_verdict_tells_who_was_late_who_was_starved_and_who_stood_still() {
        use Limit::{GeneratorLimited, RateLimited, ServerLimited, ServerStalled, Valid};
        // What was counted, whether something was promised, the limit, whether it is valid.
        let cases = [
            ("a rate that was held", HELD, true, RateLimited, true),
            ("a closed loop", CLOSED, false, Valid, true),
            ("a closed loop with assertions", CLOSED, true, Valid, true),
            (
                "nine tenths of the rate",
                Evidence { sent_share: Some(0.9), ..HELD },
                true,
                ServerLimited,
                false,
            ),
            ("late", Evidence { lag_p99_us: 3000.0, ..HELD }, true, GeneratorLimited, false),
            (
                "late, but little beside a slow server",
                Evidence { lag_p99_us: 3000.0, response_p99_us: 80_000.0, ..HELD },
                true,
                RateLimited,
                true,
            ),
            (
                "late by less than a timer's noise",
                Evidence { lag_p99_us: 900.0, response_p99_us: 1000.0, ..HELD },
                true,
                RateLimited,
                true,
            ),
            (
                "late, so that the rate was not reached",
                Evidence { lag_p99_us: 30_000.0, sent_share: Some(0.5), ..HELD },
                true,
                GeneratorLimited,
                false,
            ),
            ("stopped", Evidence { paused_share: 0.15, ..CLOSED }, true, GeneratorLimited, false),
            ("busy", Evidence { cpu_share_max: 0.98, ..HELD }, true, GeneratorLimited, false),
            (
                "busy in a closed loop that promises nothing",
                Evidence { cpu_share_max: 0.98, ..CLOSED },
                false,
                GeneratorLimited,
                true,
            ),
            (
                "starved",
                Evidence { run_queue_share_max: 0.3, ..HELD },
                true,
                GeneratorLimited,
                false,
            ),
            // The exit code is 3 for it, whatever is said of the measurement.
            ("a standstill", Evidence { stalls: 4, ..CLOSED }, false, ServerStalled, true),
            (
                "a standstill at a rate",
                Evidence { stalls: 4, sent_share: Some(0.2), ..HELD },
                true,
                ServerStalled,
                true,
            ),
            ("nobody let in", Evidence { refused: 9, ..CLOSED }, false, ServerLimited, false),
        ];
        for (name, evidence, promises, limit, is_valid) in cases {
            let verdict = Verdict::of(evidence, promises);
            let found = (verdict.limit, verdict.is_valid);
            assert_eq!(found, (limit, is_valid), "{name}: {}", verdict.reason);
        }
    }

    #[test]
    fn a_standstill_is_most_of_a_measurement_and_nearly_all_of_a_short_one() {
        let ms = |ms: u64| ms * 1_000_000;
        for (quiet, measured, answer, expected) in [
            // More than half of it.
            (2600, 5000, 20, true),
            (2500, 5000, 20, false),
            // Two lost packets are no standstill, though they are most of a second.
            (599, 1000, 20, false),
            (600, 1000, 20, true),
            // Nine tenths of less than two thirds of a second.
            (360, 400, 20, true),
            (359, 400, 20, false),
            // A quarter of a second at least.
            (250, 260, 20, true),
            (249, 250, 20, false),
            (100, 100, 20, false),
            // A server that is slow for all of its clients; one that never answered.
            (900, 1000, 300, true),
            (899, 1000, 300, false),
            (900, 1000, 0, true),
        ] {
            let found = is_standstill(ms(quiet), ms(measured), ms(answer));
            assert_eq!(found, expected, "{quiet} of {measured}, answers after {answer}");
        }
    }

    #[test]
    fn a_result_near_the_generators_ceiling_says_so() {
        let verdict = Verdict::of(Evidence { ceiling_share: Some(0.8), ..CLOSED }, false);
        assert_eq!(
            verdict.notes,
            ["80 % of this generator's ceiling: the generator may be the limit"]
        );
    }
}
