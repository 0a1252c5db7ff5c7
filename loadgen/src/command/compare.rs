//! `compare`, and the scenario `priority`: two loads in short intervals, in balanced order.
//!
//! A B, B A, A B, ...: what drifts over the run, drifts for both. Each interval is a run of its
//! own, with connections of its own, so that neither side profits from the other's.

use super::measure::{Bench, Interrupt, Start};
use super::{output, run};
use crate::cli::{CompareArgs, RunArgs};
use crate::compare_stats::{Comparison, Kind, Row, RowUnit};
use crate::engine::plan::Part;
use crate::engine::watch;
use crate::failure::Failure;
use crate::human::Span;
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::stats::{Metric, Times};
use crate::verdict::Exit;
use std::time::Duration;

/// What each interval leaves out at its beginning, while windows fill.
const WARMUP: Duration = Duration::from_millis(200);

/// An interval of `priority`.
const PRIORITY_INTERVAL: Duration = Duration::from_millis(500);

/// One side of a comparison.
struct Side {
    bench: Bench,
    pid: Option<u32>,
}

/// What one interval showed.
struct Sample {
    result: RunResult,
    cpu_ns_a_request: Option<f64>,
}

/// How to compare.
struct Manner {
    kind: Kind,
    names: [String; 2],
    rounds: u32,
    interval: Duration,
}

/// Compares two servers.
pub(crate) fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let given = run::of_one_measurement(&args.run);
    run::refuse("compare", &given, "Say how long by --rounds and --interval.")?;
    run::check_limits(&run::settings_of(&args.run)?, &args.run)?;
    let interrupt = Interrupt::watch()?;
    let b = args.b.clone().unwrap_or_else(|| args.a.clone());
    let kind = if b == args.a { Kind::NoiseFloor } else { Kind::Servers };
    let pid_b = if kind == Kind::NoiseFloor { args.pid_b.or(args.pid_a) } else { args.pid_b };
    let side = |target: &str, pid| -> Result<Side, Failure> {
        let mut run = args.run.clone();
        run.load.target = Some(target.to_owned());
        let bench = Bench::set_up(run::settings_of(&run)?, interrupt.clone())?;
        Ok(Side { bench, pid })
    };
    let sides = [side(&args.a, args.pid_a)?, side(&b, pid_b)?];
    let manner = Manner {
        kind,
        names: [args.a.clone(), b],
        rounds: args.rounds.max(3),
        interval: args.interval.0,
    };
    carry_out(&sides, &manner, &args.run)
}

/// Compares urgent latency with an empty prefetch window and a full one.
pub(crate) fn priority(args: &RunArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::watch()?;
    let full = args.load.prefetch.unwrap_or(20);
    let settings = run::settings_of(args)?;
    let duration = settings.duration_ns().map_or(Duration::from_secs(10), Duration::from_nanos);
    let side = |prefetch| -> Result<Side, Failure> {
        let mut run = args.clone();
        run.load.prefetch = Some(prefetch);
        let bench = Bench::set_up(run::settings_of(&run)?, interrupt.clone())?;
        Ok(Side { bench, pid: None })
    };
    let sides = [side(0)?, side(full)?];
    let rounds = duration.as_millis() / (2 * (PRIORITY_INTERVAL + WARMUP).as_millis());
    let manner = Manner {
        kind: Kind::Priority,
        names: ["prefetch windows empty".to_owned(), format!("{full} prefetch in flight")],
        rounds: u32::try_from(rounds).unwrap_or(u32::MAX).max(3),
        interval: PRIORITY_INTERVAL,
    };
    carry_out(&sides, &manner, args)
}

fn carry_out(sides: &[Side; 2], manner: &Manner, args: &RunArgs) -> Result<Exit, Failure> {
    let asserts = output::prepare(&args.output)?;
    let mut live = LiveLine::new(args.output.quiet);
    let mut pairs: Vec<[Sample; 2]> = Vec::new();
    let interrupt = &sides[0].bench.interrupt;
    for round in 0..manner.rounds {
        // Balanced: neither side is always the first of its pair.
        let pair = if round % 2 == 0 {
            let a = sample(&sides[0], manner.interval, &mut live)?;
            [a, sample(&sides[1], manner.interval, &mut live)?]
        } else {
            let b = sample(&sides[1], manner.interval, &mut live)?;
            [sample(&sides[0], manner.interval, &mut live)?, b]
        };
        if interrupt.is_set() {
            break;
        }
        pairs.push(pair);
    }
    live.finish();
    let comparison = comparison(&pairs, manner, sides);
    let results = pairs.into_iter().flatten().map(|sample| sample.result);
    let mut result = in_sequence(results.collect())?;
    result.interrupted = interrupt.is_set();
    if manner.kind == Kind::Servers {
        result.load.target = manner.names.join(" and ");
    }
    result.comparison = Some(comparison);
    let exit = result.judge(&asserts);
    output::write(&result, &args.output)?;
    Ok(exit)
}

fn sample(side: &Side, interval: Duration, live: &mut LiveLine) -> Result<Sample, Failure> {
    let mut plan = side.bench.plan(Part { index: 0, of: 1 }, false);
    plan.duration_ns = Some(Span(interval).ns());
    plan.warmup_ns = Span(WARMUP).ns();
    // One interval of the recorder: how the time passes within is not of interest here.
    plan.interval_ns = Span(interval).ns();
    let cpu_before = side.pid.and_then(watch::process_cpu_ns);
    let (result, _) = side.bench.measure(plan, Start::now(), live)?;
    let cpu_after = side.pid.and_then(watch::process_cpu_ns);
    let served = result.stats.responses.sum() + result.stats.warmup_responses;
    let cpu_ns_a_request = cpu_before
        .zip(cpu_after)
        .map(|(before, after)| after.saturating_sub(before) as f64 / served.max(1) as f64);
    Ok(Sample { result, cpu_ns_a_request })
}

fn comparison(pairs: &[[Sample; 2]], manner: &Manner, sides: &[Side; 2]) -> Comparison {
    let seed = sides[0].bench.settings.options.seed.unwrap_or(1);
    let mut rows = Vec::new();
    let mut row = |name: &str, unit, pick: &dyn Fn(&Sample) -> Option<f64>| {
        let values: Vec<(f64, f64)> =
            pairs.iter().filter_map(|[a, b]| Some((pick(a)?, pick(b)?))).collect();
        if !values.is_empty() {
            rows.push(Row::of(name, unit, &values, seed));
        }
    };
    let seconds = |sample: &Sample| sample.result.measured_s();
    let quantile = |metric: Metric, q: f64| {
        move |sample: &Sample| {
            sample.result.stats.times(metric).map(|times: &Times| times.quantile(q) as f64 / 1e3)
        }
    };
    row("responses", RowUnit::PerS, &|s| Some(s.result.stats.responses.sum() as f64 / seconds(s)));
    row("bytes", RowUnit::BytesPerS, &|s| Some(s.result.stats.bytes as f64 / seconds(s)));
    for metric in [Metric::UrgentService, Metric::PrefetchService, Metric::UrgentResponse] {
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            row(&format!("{metric}.{name}"), RowUnit::Us, &quantile(metric, q));
        }
    }
    row("cpu a request", RowUnit::CpuNs, &|s| s.cpu_ns_a_request);
    let [a, b] = manner.names.clone();
    let interval_ms = u64::try_from(manner.interval.as_millis()).unwrap_or(u64::MAX);
    Comparison { kind: manner.kind, a, b, interval_ms, rows }
}

/// Results of runs that came one after the other, as one.
pub(super) fn in_sequence(results: Vec<RunResult>) -> Result<RunResult, Failure> {
    let count = results.len();
    let mut at_ms = 0;
    let mut clients = 0;
    let mut offered = None;
    let moved: Vec<RunResult> = results
        .into_iter()
        .map(|mut result| {
            for interval in &mut result.stats.intervals {
                interval.start_ms += at_ms;
            }
            at_ms += result.measured_ms;
            clients = result.load.connections;
            offered = offered.or(result.offered);
            result
        })
        .collect();
    let mut sum = RunResult::merge(moved).map_err(|e| Failure {
        exit: Exit::Interrupted,
        cause: e.to_string(),
        remedy: "Let it run.".to_owned(),
    })?;
    sum.measured_ms = at_ms;
    sum.parts = 1;
    sum.load.connections = clients;
    // These add over machines, not over time.
    sum.stats.connections_max /= count.max(1) as u64;
    sum.stats.workers /= (count.max(1) as u64).try_into().unwrap_or(1);
    Ok(sum)
}
