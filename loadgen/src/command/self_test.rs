//! `self-test`: measures the highest throughput of this generator on this machine, and checks that
//! it measures correctly.
//!
//! The null server runs on one core, the generator on another. The stall test injects a pause
//! of known length at a known rate and compares the percentiles with arithmetic: of requests
//! that are due evenly over D, those due during a pause of S wait from S down to 0, so a share
//! (S - x) / D waits longer than x, and the p99 is S - D / 100.
//!
//! Both sides are stalled, in turn. The percentiles are the same in both cases, the verdicts are
//! not: only when the generator stood still must the verdict name the generator.

use super::ceiling::{self, Ceiling};
use super::measure::{Bench, Interrupt, Start};
use super::output;
use crate::cli::{LoadOptions, SelfTestArgs};
use crate::engine::plan::{OwnStall, Part};
use crate::failure::{Exit, Failure, RING_REMEDY};
use crate::human::{Ramp, Span};
use crate::judgement::Judged;
use crate::null_server::{NullServer, Pause};
use crate::report::live::LiveLine;
use crate::settings::Settings;
use crate::stats::{Metric, Times};
use crate::verdict::Limit;
use std::time::Duration;

const STALL: Duration = Duration::from_millis(200);
const STALL_AFTER: Duration = Duration::from_millis(1200);
const STALL_RUN: Duration = Duration::from_secs(2);
const STALL_RATE: f64 = 10_000.0;
/// So few clients that their windows hold less than 1 % of the requests. The p99 of the service
/// time must then not show the stall, because the service time leaves out coordinated omission.
const STALL_CLIENTS: f64 = 4.0;
const TOLERANCE: f64 = 0.05;
/// The service time must show less than this share of what the response time shows.
const SERVICE_SHARE_MAX: f64 = 0.25;
/// A shared machine may take the core away during an attempt, so there are three.
const ATTEMPTS: u32 = 3;

/// Which side stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stalled {
    Server,
    Generator,
}

/// Runs the tests; exit code 5 if a percentile or a verdict is wrong.
pub(crate) fn self_test(args: SelfTestArgs) -> Result<Exit, Failure> {
    let interrupt = Interrupt::watch()?;
    if !args.quick {
        let small = measure_ceiling(&interrupt, 300, "small")?;
        let large = measure_ceiling(&interrupt, 100_000, "large")?;
        ceiling::remember(Ceiling {
            responses_per_s: small.result.rates.responses_per_s,
            bytes_per_s: large.result.rates.bytes_per_s,
        });
    }
    for stalled in [Stalled::Server, Stalled::Generator] {
        let mut attempt = 0;
        while !stall_test(&interrupt, stalled)? {
            attempt += 1;
            if interrupt.is_set() {
                return Ok(Exit::Interrupted);
            }
            output::say(format_args!(
                "attempt {attempt} of {ATTEMPTS} failed; other programs may have used the machine\n"
            ));
            if attempt == ATTEMPTS {
                output::say("\nmeasurements on this machine cannot be trusted now\n");
                return Ok(Exit::Invalid);
            }
        }
    }
    output::say("\nthe percentiles and the verdicts are correct\n");
    Ok(Exit::Good)
}

/// The cores of the server and of the generator, where there are two.
fn cores() -> (Option<u32>, Option<Vec<u32>>) {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() >= 2 => (Some(0), Some(vec![1])),
        _ => (None, None),
    }
}

fn bench(
    server: &NullServer,
    interrupt: &Interrupt,
    options: LoadOptions,
) -> Result<Bench, Failure> {
    let (_, pin) = cores();
    let target = Some(server.address.to_string());
    let options = LoadOptions { target, threads: Some(1), pin, ..options };
    Bench::set_up(Settings::new(options)?, interrupt.clone())
}

fn null_server(size: u32) -> Result<NullServer, Failure> {
    let failed = |e| Failure::setup(format!("the null server: {e}"), RING_REMEDY);
    NullServer::start("127.0.0.1:0", size, None, cores().0).map_err(failed)
}

fn measure_ceiling(interrupt: &Interrupt, size: u32, name: &str) -> Result<Judged, Failure> {
    let server = null_server(size)?;
    let options = LoadOptions {
        connections: Some(Ramp { from: 64.0, to: 64.0 }),
        urgent: Some(40),
        prefetch: Some(0),
        duration: Some(Span(Duration::from_secs(3))),
        warmup: Some(Span(Duration::from_millis(500))),
        crc_every: Some(0),
        ..LoadOptions::default()
    };
    let bench = bench(&server, interrupt, options)?;
    let plan = bench.plan(Part { index: 0, of: 1 }, false);
    let (result, ..) = bench.measure(plan, Start::soon(), &mut LiveLine::new(true))?;
    let judged = Judged::of(result, &[]);
    let (result, rates) = (&judged.result, &judged.result.rates);
    let cpu_share = judged.verdict.evidence.cpu_share_max;
    let cpu_ns = cpu_share * result.measured_s() * 1e9 / result.stats.responses.sum().max(1) as f64;
    output::say(format_args!(
        "ceiling, {name} groups ({size} bytes, 64 clients, 40 in flight): {:.2} M responses/s, \
         {:.2} GB/s, generator {:.0} % of a core, {cpu_ns:.0} ns a response\n",
        rates.responses_per_s / 1e6,
        rates.bytes_per_s / 1e9,
        cpu_share * 100.0,
    ));
    Ok(judged)
}

/// Whether the percentiles and the verdict of a run with a known stall are what they must be.
fn stall_test(interrupt: &Interrupt, stalled: Stalled) -> Result<bool, Failure> {
    let server = null_server(300)?;
    let options = LoadOptions {
        connections: Some(Ramp { from: STALL_CLIENTS, to: STALL_CLIENTS }),
        rate: Some(Ramp { from: STALL_RATE, to: STALL_RATE }),
        urgent: Some(20),
        prefetch: Some(0),
        duration: Some(Span(STALL_RUN)),
        warmup: Some(Span(Duration::from_millis(500))),
        ..LoadOptions::default()
    };
    let bench = bench(&server, interrupt, options)?;
    let mut plan = bench.plan(Part { index: 0, of: 1 }, false);
    let start = Start::soon();
    match stalled {
        Stalled::Server => {
            server.pause(Pause { at: start.instant + STALL_AFTER, length: STALL });
        }
        Stalled::Generator => {
            let (at_ns, length_ns) = (Span(STALL_AFTER).ns(), Span(STALL).ns());
            plan.own_stall = Some(OwnStall { at_ns, length_ns });
        }
    }
    let (result, ..) = bench.measure(plan, start, &mut LiveLine::new(true))?;
    let ms = |metric, q: f64| {
        let times = result.stats.times(metric);
        times.map_or(0.0, |times: &Times| times.quantile(q) as f64 / 1e6)
    };
    let stall_ms = STALL.as_secs_f64() * 1e3;
    let p99_ms = stall_ms - STALL_RUN.as_secs_f64() * 1e3 / 100.0;
    let side = if stalled == Stalled::Server { "server" } else { "generator" };
    output::say(format_args!(
        "the {side} is stopped for {stall_ms:.0} ms, at {STALL_RATE:.0} requests/s for {} s:\n",
        STALL_RUN.as_secs()
    ));
    let rows = [
        ("response p99", ms(Metric::UrgentResponse, 0.99), p99_ms),
        ("response max", ms(Metric::UrgentResponse, 1.0), stall_ms),
        match stalled {
            Stalled::Server => ("service max", ms(Metric::UrgentService, 1.0), stall_ms),
            Stalled::Generator => ("lag max", ms(Metric::Lag, 1.0), stall_ms),
        },
    ];
    let mut good = true;
    for (name, found, expected) in rows {
        let off = found / expected - 1.0;
        good &= off.abs() <= TOLERANCE;
        output::say(format_args!(
            "  {name:<14}{found:>9.2} ms   expected {expected:.2} ms   {:+.1} %\n",
            off * 100.0
        ));
    }
    let service_ms = ms(Metric::UrgentService, 0.99);
    good &= service_ms <= p99_ms * SERVICE_SHARE_MAX;
    output::say(format_args!(
        "  {:<14}{service_ms:>9.2} ms   must be low: few requests were in flight\n",
        "service p99"
    ));
    let Judged { verdict, .. } = Judged::of(result, &[]);
    let accuses_itself = verdict.limit == Limit::GeneratorLimited;
    let is_right = accuses_itself == (stalled == Stalled::Generator);
    let word = if is_right { "as expected" } else { "WRONG" };
    output::say(format_args!("  {:<14}{}, {word}\n", "verdict", verdict.limit.name()));
    Ok(good && is_right)
}
