//! What a comparison found: medians, ratios, bounds, and where it was measured. Also the JSON.

use super::measure::{Sample, Timing};
use super::redis::Redis;
use super::server::Server;
use super::stats::{Ratio, median};
use super::workload::WITHIN;
use super::{Comparison, Samples};
use serde::Serialize;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

/// The version of the JSON. Fields may be added within it; none changes its meaning.
const SCHEMA: &str = "js5d-compare/1";

/// The server that all others are compared with.
pub(crate) const OURS: &str = "js5d";

/// The server that does as little as can be done.
const CEILING: &str = "ring-limit";

/// Servers that wait for their core longer than this share it: the figures are not worth much.
const WAIT_SHARE_MAX: f64 = 0.03;

/// All of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema: &'static str,
    pub(crate) machine: Machine,
    pub(crate) timing: Timing,
    pub(crate) servers: Vec<String>,
    pub(crate) workloads: Vec<WorkloadReport>,
    /// The median over all intervals of how much of the time a server had no core.
    pub(crate) wait_share: f64,
    /// Bounds between two workloads of js5d.
    pub(crate) within: Vec<Bound>,
    pub(crate) redis: Option<Redis>,
    pub(crate) failures: Vec<Failure>,
}

/// Where and when.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) js5d: String,
    pub(crate) commit: String,
    pub(crate) rustc: String,
    /// UTC, as in 2026-01-31.
    pub(crate) date: String,
}

/// One workload.
#[derive(Debug, Serialize)]
pub(crate) struct WorkloadReport {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
    pub(crate) bounds: Vec<Bound>,
}

/// One server in one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) server: String,
    /// Of all rounds, each figure for itself.
    pub(crate) median: Sample,
    /// js5d's CPU time a response to this server's; none for js5d itself.
    pub(crate) ours_to_it: Option<Ratio>,
    /// This server's CPU time a response to that of [`CEILING`].
    pub(crate) to_ceiling: Option<Ratio>,
    samples: Vec<Sample>,
}

/// A figure to reach.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bound {
    pub(crate) workload: String,
    pub(crate) against: String,
    pub(crate) bound: f64,
    pub(crate) ratio: Option<Ratio>,
}

impl Bound {
    /// The median decides; the interval says whether another run may decide otherwise.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.ratio {
            None => "not measured",
            Some(ratio) if ratio.high <= self.bound => "reached",
            Some(ratio) if ratio.median <= self.bound => "reached, within the noise",
            Some(ratio) if ratio.low > self.bound => "NOT reached",
            Some(_) => "NOT reached, within the noise",
        }
    }
}

/// An interval that came to nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) server: String,
    pub(crate) workload: String,
    pub(crate) cause: String,
    pub(crate) is_foreign: bool,
}

impl Failure {
    pub(crate) fn new(server: &Server, workload: &str, cause: &dyn Error) -> Self {
        let (server, is_foreign) = (server.name.clone(), server.is_foreign());
        Self { server, workload: workload.to_owned(), cause: cause.to_string(), is_foreign }
    }
}

impl Report {
    pub(crate) fn new(comparison: &Comparison, timing: Timing, redis: Option<Redis>) -> Self {
        let samples = &comparison.samples;
        let servers: Vec<String> = comparison.servers.iter().map(|s| s.name.clone()).collect();
        let cost = |workload, server: &str| costs(samples, workload, server);
        let reports = comparison.workloads.iter().map(|workload| WorkloadReport {
            name: workload.name,
            title: workload.title,
            rows: servers.iter().filter_map(|name| row(samples, workload.name, name)).collect(),
            bounds: (workload.bounds.iter())
                .map(|&(against, bound)| Bound {
                    workload: workload.title.to_owned(),
                    against: against.to_owned(),
                    bound,
                    ratio: ratio(&cost(workload.name, OURS), &cost(workload.name, against)),
                })
                .collect(),
        });
        let workloads = reports.collect();
        let within = WITHIN.iter().map(|within| Bound {
            workload: within.workload.to_owned(),
            against: within.against.to_owned(),
            bound: within.bound,
            ratio: ratio(&cost(within.workload, OURS), &cost(within.against, OURS)),
        });
        let (within, failures) = (within.collect(), comparison.failures.clone());
        let all = samples.values().flatten();
        Self {
            schema: SCHEMA,
            machine: Machine::read(),
            timing,
            servers,
            workloads,
            wait_share: median(all.map(|(_, sample)| sample.wait_share)),
            within,
            redis,
            failures,
        }
    }

    /// Whether something else ran beside it: such figures are not to be published.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.wait_share > WAIT_SHARE_MAX
    }
}

fn row(samples: &Samples, workload: &'static str, server: &str) -> Option<Row> {
    let taken = samples.get(&(workload, server.to_owned()))?;
    let of = |figure: fn(&Sample) -> f64| median(taken.iter().map(|(_, sample)| figure(sample)));
    // Rounds with too few responses have none: a median of the others would be of other rounds.
    let has_p999 = taken.iter().all(|(_, sample)| sample.p999_us > 0.0);
    let median = Sample {
        cpu_ns_a_response: of(|sample| sample.cpu_ns_a_response),
        bytes_a_cpu_s: of(|sample| sample.bytes_a_cpu_s),
        responses_per_s: of(|sample| sample.responses_per_s),
        cpu_share: of(|sample| sample.cpu_share),
        wait_share: of(|sample| sample.wait_share),
        p50_us: of(|sample| sample.p50_us),
        p99_us: of(|sample| sample.p99_us),
        p999_us: if has_p999 { of(|sample| sample.p999_us) } else { 0.0 },
        resident_bytes: of(|sample| sample.resident_bytes),
    };
    let ours = costs(samples, workload, OURS);
    let its = costs(samples, workload, server);
    let ours_to_it = ratio(&ours, &its).filter(|_| server != OURS);
    let to_ceiling = ratio(&its, &costs(samples, workload, CEILING));
    let samples = taken.iter().map(|(_, sample)| *sample).collect();
    Some(Row { server: server.to_owned(), median, ours_to_it, to_ceiling, samples })
}

/// CPU time a response by round.
fn costs(samples: &Samples, workload: &'static str, server: &str) -> Vec<(u32, f64)> {
    let taken = samples.get(&(workload, server.to_owned())).map_or(&[][..], |taken| taken);
    taken.iter().map(|(round, sample)| (*round, sample.cpu_ns_a_response)).collect()
}

/// The ratio of the rounds that both have.
fn ratio(ours: &[(u32, f64)], theirs: &[(u32, f64)]) -> Option<Ratio> {
    let ratios = ours.iter().filter_map(|(round, ours)| {
        let (_, theirs) = theirs.iter().find(|(other, _)| other == round)?;
        Some(ours / theirs)
    });
    Ratio::of(&ratios.collect::<Vec<_>>())
}

impl Machine {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let after_colon = |path: &str, key: &str| {
            let text = text(path);
            let line = text.lines().find(|line| line.starts_with(key));
            line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
        };
        let memory = after_colon("/proc/meminfo", "MemTotal").unwrap_or_default();
        let memory_kib = memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            cpu: after_colon("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: text("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count(),
            memory_bytes: memory_kib.unwrap_or(0) * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            js5d: env!("CARGO_PKG_VERSION").to_owned(),
            commit: first_line("git", &["describe", "--always", "--dirty"]),
            rustc: first_line("rustc", &["--version"]),
            date: date(now.map_or(0, |now| now.as_secs() / 86_400)),
        }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let words = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    words.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// The date `days` after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms": years begin in March, so that leap days come last).
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_819, "2027-01-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }

    #[test]
    fn ratios_are_of_the_rounds_that_both_have() {
        let ratio = ratio(&[(0, 2.0), (1, 3.0), (2, 8.0)], &[(1, 1.0), (2, 2.0)]).unwrap();
        assert_eq!((ratio.rounds, ratio.median), (2, 3.5));
    }

    #[test]
    fn a_verdict_says_when_noise_may_turn_it() {
        let ratio = |low, median, high| Some(Ratio { rounds: 10, median, low, high });
        for (ratio, verdict) in [
            (ratio(1.0, 1.01, 1.04), "reached"),
            (ratio(1.0, 1.04, 1.06), "reached, within the noise"),
            (ratio(1.04, 1.06, 1.07), "NOT reached, within the noise"),
            (ratio(1.06, 1.07, 1.08), "NOT reached"),
            (None, "not measured"),
        ] {
            let (workload, against) = ("a".to_owned(), "b".to_owned());
            assert_eq!(Bound { workload, against, bound: 1.05, ratio }.verdict(), verdict);
        }
    }
}
