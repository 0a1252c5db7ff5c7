//! `compare`, and the scenario `priority`: several sides in short intervals, in balanced order.
//!
//! A side is a server, or the same server under another load. A round gives each side an interval,
//! in an order that differs from round to round, so that a change of the machine meets all sides
//! alike. Each interval is a run of its own, with connections of its own.
//!
//! A server's CPU time is read every few milliseconds beside the run and taken at the two ends of
//! the measurement, so that opening and closing connections is not counted.

use super::measure::{Bench, Interrupt, Start};
use super::{options, output};
use crate::cli::{CompareArgs, RunArgs, SideArg};
use crate::comparison::{Comparison, Kind, PAIRS_MIN, Sample, ServerUsage, Side};
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::human::Span;
use crate::judgement::{Judged, evidence};
use crate::machine::{Usage, pin_to, resident_bytes};
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::stats::{Metric, Stats, Times};
use crate::units;
use crate::verdict::{Limit, Verdict};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What each interval leaves out at its beginning, while connections open and windows fill.
const WARMUP: Duration = Duration::from_millis(300);
/// The same where opening alone takes longer.
const WARMUP_MANY: Duration = Duration::from_millis(1200);
const MANY_CONNECTIONS: u32 = 5000;

/// An interval into which connections were opened is taken again, with twice the warm-up.
const TRIES: u32 = 3;

/// After this many failures in a row a side is not measured again: some servers stop answering.
const FAILURES_IN_A_ROW_MAX: u32 = 2;

/// An interval of `priority`.
const PRIORITY_INTERVAL: Duration = Duration::from_millis(500);

/// How often the server's CPU time is read: the kernel brings it up to date every 1 to 4 ms.
const WATCH_INTERVAL: Duration = Duration::from_millis(4);

/// A side, and its results so far.
struct Contender {
    bench: Bench,
    pid: Option<u32>,
    side: Side,
    results: Vec<RunResult>,
    failures_in_a_row: u32,
}

/// How to compare.
struct Manner {
    kind: Kind,
    rounds: u32,
    interval: Duration,
    warmup: Duration,
}

/// Compares servers.
pub(crate) fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let settings = options::settings_of(&args.run)?;
    let instead = "Set the length by --rounds and --interval.";
    let mut given = options::of_one_measurement(&args.run, &settings.options).to_vec();
    given.retain(|(name, _)| *name != "--warmup");
    options::refuse("compare", &given, instead)?;
    let target = [("HOST:PORT", settings.options.target.is_some())];
    options::refuse("compare", &target, "Name each server with --server NAME=HOST:PORT.")?;
    if (args.rounds as usize) < PAIRS_MIN {
        let cause = format!("--rounds {}: a ratio needs {PAIRS_MIN} or more", args.rounds);
        return Err(Failure::usage(cause, "A confidence interval of 99 % needs eight or more."));
    }
    options::check_limits(&settings, &args.run)?;
    let many = settings.connections() > MANY_CONNECTIONS;
    let warmup = settings.options.warmup.map(|span| span.0);
    let mut sides = args.sides();
    let is_alone = sides.len() == 1;
    if is_alone {
        let again = SideArg { name: format!("{} again", sides[0].name), ..sides[0].clone() };
        sides.push(again);
    }
    let manner = Manner {
        kind: if is_alone { Kind::NoiseFloor } else { Kind::Servers },
        rounds: args.rounds,
        interval: args.interval.0,
        warmup: warmup.unwrap_or(if many { WARMUP_MANY } else { WARMUP }),
    };
    carry_out(&sides, &manner, &args.run)
}

/// Compares urgent latency with an empty prefetch window and a full one.
pub(crate) fn priority(args: &RunArgs) -> Result<Exit, Failure> {
    let settings = options::settings_of(args)?;
    let instead = "It alternates between two loads in short intervals; set the time by --duration.";
    let mut given = options::of_one_measurement(args, &settings.options).to_vec();
    given.retain(|(name, _)| *name != "--duration");
    options::refuse("the scenario priority", &given, instead)?;
    if settings.options.rate.is_some() {
        options::refuse("the scenario priority", &[("--rate", true)], instead)?;
    }
    let full = settings.options.prefetch.unwrap_or(20);
    let duration = settings.duration_ns().map_or(Duration::from_secs(10), Duration::from_nanos);
    let target = settings.options.target.unwrap_or_else(|| crate::settings::TARGET.to_owned());
    let side = |name: String, prefetch| SideArg {
        name,
        target: target.clone(),
        prefetch: Some(prefetch),
        ..SideArg::default()
    };
    let sides = [
        side("prefetch windows empty".to_owned(), 0),
        side(format!("{full} prefetch in flight"), full),
    ];
    let round = 2 * (PRIORITY_INTERVAL + WARMUP).as_millis();
    let rounds = u32::try_from(duration.as_millis() / round).unwrap_or(u32::MAX);
    let rounds = rounds.max(PAIRS_MIN as u32);
    let manner =
        Manner { kind: Kind::Priority, rounds, interval: PRIORITY_INTERVAL, warmup: WARMUP };
    carry_out(&sides, &manner, args)
}

fn carry_out(sides: &[SideArg], manner: &Manner, args: &RunArgs) -> Result<Exit, Failure> {
    let asserts = output::prepare(&args.output)?;
    let interrupt = Interrupt::watch()?;
    let contenders: Result<Vec<Contender>, Failure> =
        sides.iter().map(|side| Contender::new(side, args, &interrupt)).collect();
    let mut contenders = contenders?;
    let mut live = LiveLine::new(args.output.quiet);
    for round in 0..manner.rounds {
        for place in order(round, contenders.len()) {
            if !interrupt.is_set() {
                contenders[place].measure(round, manner, &mut live)?;
            }
        }
    }
    live.finish();
    let mut judged = judge(contenders, manner, &interrupt)?;
    judged.hold(&asserts);
    output::write(&judged, &args.output)?;
    Ok(judged.exit)
}

/// The order of the sides in a round: forwards and backwards in turn, rotated so that each side is
/// first equally often.
fn order(round: u32, sides: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sides).collect();
    order.rotate_left((round / 2) as usize % sides.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Everything as one result. Each side is judged over the intervals that were measured of it, and
/// the worst verdict is that of the whole.
fn judge(
    contenders: Vec<Contender>,
    manner: &Manner,
    interrupt: &Interrupt,
) -> Result<Judged, Failure> {
    let mut sides = Vec::new();
    let mut verdicts = Vec::new();
    let mut all = Vec::new();
    let has_cpu = contenders.iter().all(|contender| contender.pid.is_some());
    for contender in contenders {
        let Contender { mut side, results, .. } = contender;
        if let Ok(sum) = RunResult::in_sequence(results.iter().cloned()) {
            // What a response costs the server is shown even if the generator sets the pace.
            let mut verdict = Verdict::of(evidence(&sum), !has_cpu || !sum.is_closed());
            side.is_generator_limited = verdict.limit == Limit::GeneratorLimited;
            verdict.reason = format!("{}: {}", side.name, verdict.reason);
            verdicts.push(verdict);
        }
        all.extend(results);
        sides.push(side);
    }
    let mut result = RunResult::in_sequence(all).map_err(|_| Failure {
        exit: if interrupt.is_set() { Exit::Interrupted } else { Exit::Setup },
        cause: "no interval was completed".to_owned(),
        remedy: sides.iter().flat_map(|side| &side.failures).next().cloned().unwrap_or_default(),
    })?;
    let worst = |verdict: &Verdict| match (verdict.is_valid, verdict.limit) {
        (false, _) => 0,
        (true, Limit::ServerStalled) => 1,
        (true, Limit::GeneratorLimited) => 2,
        _ => 3,
    };
    let verdict = verdicts.into_iter().min_by_key(worst).unwrap_or_default();
    let names: Vec<&str> = sides.iter().map(|side| &side.target[..]).collect();
    if manner.kind == Kind::Servers {
        result.load.target = names.join(" and ");
    }
    let interval_ms = u64::try_from(manner.interval.as_millis()).unwrap_or(u64::MAX);
    let comparison = Comparison::of(manner.kind, interval_ms, sides);
    let has_ratio = comparison.has_ratio();
    result.interrupted = interrupt.is_set();
    result.comparison = Some(comparison);
    let mut judged = Judged::with_verdict(result, verdict);
    if !has_ratio && judged.verdict.is_valid {
        let reason = "there is no ratio: too few rounds were completed on both sides".to_owned();
        judged.invalidate(reason);
    }
    Ok(judged)
}

impl Contender {
    fn new(side: &SideArg, args: &RunArgs, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut run = args.clone();
        let load = &mut run.load;
        load.target = Some(side.target.clone());
        load.settle = side.settle.or(load.settle);
        load.key = side.key.clone().or(load.key.take());
        load.client = side.client.clone().or(load.client.take());
        load.urgent = side.urgent.or(load.urgent);
        load.prefetch = side.prefetch.or(load.prefetch);
        let mut settings = options::settings_of(&run)?;
        if side.urgent_only {
            // The same number in flight, all of it urgent.
            let windows = settings.kinds.iter().map(|kind| kind.urgent + kind.prefetch);
            run.load.urgent = windows.max();
            run.load.prefetch = Some(0);
            settings = options::settings_of(&run)?;
        }
        Ok(Self {
            bench: Bench::set_up(settings, interrupt.clone())?,
            pid: side.pid,
            side: Side { name: side.name.clone(), target: side.target.clone(), ..Side::default() },
            results: Vec::new(),
            failures_in_a_row: 0,
        })
    }

    /// One interval of a round. Faults of the server are noted, and so is a server that is absent.
    fn measure(&mut self, round: u32, manner: &Manner, live: &mut LiveLine) -> Result<(), Failure> {
        if self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX {
            return Ok(());
        }
        let mut warmup = manner.warmup;
        for _ in 0..TRIES {
            let (result, watched) = match self.interval(warmup, manner.interval, live) {
                Err(failure) if failure.exit != Exit::Setup => return Err(failure),
                Err(failure) => return self.note_failure(failure.cause),
                Ok(measured) => measured,
            };
            if self.bench.interrupt.is_set() {
                return Ok(());
            }
            let connects: u64 = result.stats.intervals.iter().map(|i| i.connects).sum();
            if connects > 0 && !self.bench.settings.churns() {
                warmup *= 2;
                continue;
            }
            match what_is_wrong(&result.stats) {
                None => {
                    self.side.samples.push(sample(round, &result, watched));
                    self.failures_in_a_row = 0;
                }
                Some(wrong) => self.note_failure(wrong)?,
            }
            self.results.push(result);
            return Ok(());
        }
        let ms = (warmup / 2).as_millis();
        self.note_failure(format!("connections were still being opened after {ms} ms"))
    }

    fn note_failure(&mut self, cause: String) -> Result<(), Failure> {
        self.failures_in_a_row += 1;
        eprintln!("{}: {cause}", self.side.name);
        self.side.failures.push(cause);
        Ok(())
    }

    /// Runs the load and watches the server.
    fn interval(
        &self,
        warmup: Duration,
        interval: Duration,
        live: &mut LiveLine,
    ) -> Result<(RunResult, Option<Watched>), Failure> {
        let mut plan = self.bench.plan(Part { index: 0, of: 1 }, false);
        plan.duration_ns = Some(Span(interval).ns());
        plan.warmup_ns = Span(warmup).ns();
        // One interval of the recorder: how the time passes within is not of interest here.
        plan.interval_ns = Span(interval).ns();
        let core = plan.pin.first().copied();
        let start = Start::soon();
        let is_over = AtomicBool::new(false);
        let (measured, looks) = std::thread::scope(|scope| {
            let watch = self.pid.map(|pid| {
                let is_over = &is_over;
                scope.spawn(move || watch(pid, core, is_over))
            });
            let measured = self.bench.measure(plan, start, live);
            is_over.store(true, Ordering::Relaxed);
            (measured, watch.and_then(|watch| watch.join().ok()))
        });
        let (result, _, begun) = measured?;
        let begin = begun + warmup;
        let end = begin + Duration::from_millis(result.measured_ms);
        let watched = looks.and_then(|looks| {
            let (before, after) = (usage_at(&looks, begin)?, usage_at(&looks, end)?);
            let resident_bytes = self.pid.map_or(0, resident_bytes);
            Some(Watched {
                cpu_ns: after.cpu_ns - before.cpu_ns,
                wait_ns: after.wait_ns - before.wait_ns,
                resident_bytes: resident_bytes as f64,
            })
        });
        Ok((result, watched))
    }
}

/// Why an interval does not count, with the first example.
fn what_is_wrong(stats: &Stats) -> Option<String> {
    let (faults, stalls) = (stats.faults_sum(), stats.stalls);
    if faults > 0 {
        let first = stats.fault_details.first();
        let first = first.map(|fault| format!("; connection {}: {}", fault.connection, fault.what));
        return Some(format!("faults: {}{}", units::count(faults), first.unwrap_or_default()));
    }
    if stalls > 0 {
        let first = stats.stall_details.first().map(|stall| {
            let lasted = units::ms(stall.lasted_ms);
            let (connection, outstanding) = (stall.connection, &stall.outstanding);
            format!("; connection {connection}: nothing for {lasted}, outstanding: {outstanding}")
        });
        let stalls = units::count(stalls);
        return Some(format!("connections that stalled: {stalls}{}", first.unwrap_or_default()));
    }
    (stats.responses.sum() == 0).then(|| "no response arrived while measuring".to_owned())
}

/// What a server used while it was measured.
#[derive(Clone, Copy)]
struct Watched {
    cpu_ns: f64,
    wait_ns: f64,
    resident_bytes: f64,
}

/// What a process had used at one moment.
type Look = (Instant, Usage);

/// Reads what a process uses until it ends; on the generator's core, not on the server's.
fn watch(pid: u32, core: Option<u32>, is_over: &AtomicBool) -> Vec<Look> {
    let mut looks = Vec::new();
    // Without a core of its own it looks from wherever it is.
    let _ = core.map(pin_to);
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        if let Some(usage) = Usage::of(pid) {
            looks.push((Instant::now(), usage));
        }
        if was_over {
            return looks;
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

/// What had been used at a moment between two looks.
fn usage_at(looks: &[Look], at: Instant) -> Option<Usage> {
    let after = looks.partition_point(|(when, _)| *when < at);
    let (before, after) = (looks.get(after.checked_sub(1)?)?, looks.get(after)?);
    let span = (after.0 - before.0).as_secs_f64().max(1e-9);
    let part = (at - before.0).as_secs_f64() / span;
    let between = |from: f64, to: f64| from + part * (to - from);
    Some(Usage {
        cpu_ns: between(before.1.cpu_ns, after.1.cpu_ns),
        wait_ns: between(before.1.wait_ns, after.1.wait_ns),
    })
}

fn sample(round: u32, result: &RunResult, watched: Option<Watched>) -> Sample {
    let (stats, measured_ns) = (&result.stats, result.measured_s() * 1e9);
    let mut times_us = std::collections::BTreeMap::new();
    for metric in Metric::ALL {
        let Some(times) = stats.times(metric) else { continue };
        let us = |ns: u64| ns as f64 / 1e3;
        times_us.insert(format!("{metric}.p50"), us(times.quantile(0.5)));
        times_us.insert(format!("{metric}.p99"), us(times.quantile(0.99)));
        if let Some(p999) = Times::p999(times) {
            times_us.insert(format!("{metric}.p999"), us(p999));
        }
    }
    let server = watched.filter(|watched| watched.cpu_ns > 0.0).map(|watched| ServerUsage {
        cpu_ns_a_response: watched.cpu_ns / stats.responses.sum() as f64,
        bytes_a_cpu_s: stats.bytes as f64 / (watched.cpu_ns / 1e9),
        cpu_share: watched.cpu_ns / measured_ns,
        wait_share: watched.wait_ns / measured_ns,
        resident_bytes: watched.resident_bytes,
    });
    let rates = &result.rates;
    let (responses_per_s, bytes_per_s) = (rates.responses_per_s, rates.bytes_per_s);
    Sample { round, responses_per_s, bytes_per_s, times_us, server }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_each_place_equally_often() {
        let mut places = [[0; 3]; 3];
        for round in 0..6 {
            for (place, side) in order(round, 3).into_iter().enumerate() {
                places[side][place] += 1;
            }
        }
        assert_eq!(places, [[2; 3]; 3]);
    }

    #[test]
    fn cpu_time_is_taken_between_two_looks() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let look = |ms, cpu_ns| (at(ms), Usage { cpu_ns, wait_ns: 0.0 });
        let looks = [look(100, 1000.0), look(200, 1100.0), look(300, 1100.0)];
        let cpu_at = |ms| usage_at(&looks, at(ms)).map(|usage| usage.cpu_ns.round());
        assert_eq!(cpu_at(150), Some(1050.0));
        assert_eq!(cpu_at(250), Some(1100.0));
        assert_eq!((cpu_at(99), cpu_at(301)), (None, None));
    }
}
