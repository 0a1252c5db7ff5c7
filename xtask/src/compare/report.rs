//! What a comparison found: medians, ratios, bounds, and where it was measured. Also the JSON.

use super::measure::{Comparison, Ratio, Sample, Side, Timing};
use super::redis::Redis;
use super::server::Server;
use super::{Field, median};
use serde::Serialize;
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
    /// js5d's.
    driver: String,
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
    pub(crate) median: Figures,
    /// js5d's CPU time a response to this server's; none for js5d itself.
    pub(crate) ours_to_it: Option<Ratio>,
    /// The median of this server's CPU time a response to that of [`CEILING`].
    pub(crate) to_ceiling: Option<f64>,
    samples: Vec<Sample>,
}

/// What the table shows of a server.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) cpu_ns_a_response: f64,
    pub(crate) bytes_a_cpu_s: f64,
    pub(crate) responses_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// 0 if a round had fewer than 10,000 responses.
    pub(crate) p999_us: f64,
    pub(crate) resident_bytes: f64,
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

/// An interval that failed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) server: String,
    pub(crate) workload: String,
    pub(crate) cause: String,
    pub(crate) is_foreign: bool,
}

impl Failure {
    pub(crate) fn new(server: &Server, workload: &str, cause: String) -> Self {
        let (server, is_foreign) = (server.name.clone(), server.is_foreign());
        Self { server, workload: workload.to_owned(), cause, is_foreign }
    }
}

impl Report {
    pub(crate) fn new(field: &Field, redis: Option<Redis>) -> Self {
        let reports = field.workloads.iter().map(|(workload, found)| WorkloadReport {
            name: workload.name,
            title: workload.title,
            rows: found.sides.iter().filter_map(|side| row(found, side)).collect(),
            bounds: (workload.bounds_with(&field.driver).iter())
                .map(|&(against, bound)| Bound {
                    workload: workload.title.to_owned(),
                    against: against.to_owned(),
                    bound,
                    ratio: ours_to(found, against),
                })
                .collect(),
        });
        let within = field.within.iter().map(|(within, found)| Bound {
            workload: within.workload.name.to_owned(),
            against: within.against.name.to_owned(),
            bound: within.bound,
            ratio: found.pairs.first().and_then(|pair| pair.cpu()),
        });
        let sides = field.workloads.iter().flat_map(|(_, found)| &found.sides);
        let waits = sides.flat_map(|side| &side.samples).filter_map(|sample| sample.server);
        Self {
            schema: SCHEMA,
            machine: Machine::read(),
            timing: field.timing,
            driver: field.driver.clone(),
            servers: field.servers.iter().map(|server| server.name.clone()).collect(),
            wait_share: median(waits.map(|usage| usage.wait_share)),
            workloads: reports.collect(),
            within: within.collect(),
            redis,
            failures: field.failures.clone(),
        }
    }

    /// Whether something else ran beside it: such figures are not to be published.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.wait_share > WAIT_SHARE_MAX
    }
}

fn row(found: &Comparison, side: &Side) -> Option<Row> {
    let samples = &side.samples;
    let of = |figure: &dyn Fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(figure));
    let is_urgent = samples.first()?.times_us.contains_key("urgent.response.p50");
    let clock = if is_urgent { "urgent.response" } else { "prefetch.response" };
    let time = |quantile: &str| {
        let name = format!("{clock}.{quantile}");
        of(&|sample| sample.times_us.get(&name).copied())
    };
    // Rounds with too few responses have none: a median of the others would be of other rounds.
    let p999 = format!("{clock}.p999");
    let has_p999 = samples.iter().all(|sample| sample.times_us.contains_key(&p999));
    let median = Figures {
        cpu_ns_a_response: of(&|sample| Some(sample.server?.cpu_ns_a_response)),
        bytes_a_cpu_s: of(&|sample| Some(sample.server?.bytes_a_cpu_s)),
        responses_per_s: of(&|sample| Some(sample.responses_per_s)),
        p50_us: time("p50"),
        p99_us: time("p99"),
        p999_us: if has_p999 { time("p999") } else { 0.0 },
        resident_bytes: of(&|sample| Some(sample.server?.resident_bytes)),
    };
    Some(Row {
        server: side.name.clone(),
        median,
        ours_to_it: ours_to(found, &side.name),
        to_ceiling: to_ceiling(found, side),
        samples: samples.clone(),
    })
}

/// js5d, which is the first of the sides, to another.
fn ours_to(found: &Comparison, other: &str) -> Option<Ratio> {
    found.pairs.iter().find(|pair| pair.b == other)?.cpu().map(Ratio::inverse)
}

/// Of the rounds that both have.
fn to_ceiling(found: &Comparison, side: &Side) -> Option<f64> {
    let ceiling = found.sides.iter().find(|other| other.name == CEILING)?;
    let ratios = side.samples.iter().filter_map(|its| {
        let of_round = ceiling.samples.iter().find(|other| other.round == its.round)?;
        Some(its.server?.cpu_ns_a_response / of_round.server?.cpu_ns_a_response)
    });
    let ratios: Vec<f64> = ratios.collect();
    (!ratios.is_empty()).then(|| median(ratios))
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
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self {
            cpu: after_colon("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: text("/proc/cpuinfo").lines().filter(|l| l.starts_with("processor")).count(),
            memory_bytes: memory_kib.unwrap_or(0) * 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            js5d: env!("CARGO_PKG_VERSION").to_owned(),
            commit: first_line("git", &["describe", "--always", "--dirty"]),
            rustc: first_line("rustc", &["--version"]),
            date: now.split('T').next().unwrap_or_default().to_owned(),
        }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let words = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    words.unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure::ServerUsage;

    fn side(name: &str, costs: &[(u32, f64)]) -> Side {
        let sample = |&(round, cpu_ns_a_response)| {
            let server = ServerUsage { cpu_ns_a_response, ..ServerUsage::default() };
            let times_us = [("urgent.response.p50".to_owned(), 7.0)].into();
            Sample { round, server: Some(server), times_us, ..Sample::default() }
        };
        let samples = costs.iter().map(sample).collect();
        Side { name: name.to_owned(), samples, ..Side::default() }
    }

    #[test]
    fn a_row_has_medians_and_the_rounds_that_the_ceiling_has_too() {
        let sides = vec![
            side("js5d", &[(0, 2.0), (1, 3.0), (2, 8.0)]),
            side(CEILING, &[(1, 1.0), (2, 2.0)]),
        ];
        let found = Comparison { sides, ..Comparison::default() };
        let row = row(&found, &found.sides[0]).unwrap();
        assert_eq!((row.median.cpu_ns_a_response, row.median.p50_us), (3.0, 7.0));
        assert_eq!(row.to_ceiling, Some(3.5));
    }

    #[test]
    fn a_ratio_the_other_way_round_has_its_ends_changed_over() {
        let ratio = Ratio { pairs: 6, median: 2.0, low: 1.0, high: 4.0, confidence: 0.96 };
        let inverse = Ratio { pairs: 6, median: 0.5, low: 0.25, high: 1.0, confidence: 0.96 };
        assert_eq!(ratio.inverse(), inverse);
    }

    #[test]
    fn a_verdict_says_when_noise_may_turn_it() {
        let ratio =
            |low, median, high| Some(Ratio { pairs: 12, median, low, high, confidence: 0.96 });
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
