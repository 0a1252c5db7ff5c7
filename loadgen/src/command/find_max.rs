//! `find-max`: the highest rate that holds the assertions.
//!
//! First a ladder of rates in shuffled order, so that a server that warms up or tires does not
//! look like one with a bound; then bisection between the highest rate that held and the lowest
//! above it that did not. Every step is in the report.

use super::measure::{Bench, Interrupt, Start};
use super::{output, run};
use crate::assertion::Assertion;
use crate::cli::FindMaxArgs;
use crate::engine::plan::Part;
use crate::failure::Failure;
use crate::human::{Ramp, Span};
use crate::report::live::LiveLine;
use crate::result::{RunResult, Step};
use crate::stats::Metric;
use crate::verdict::{Exit, Limit};

/// Bisection halves the distance each time: more steps than this say nothing.
const BISECTIONS_MAX: u32 = 12;

struct Search<'a> {
    args: &'a FindMaxArgs,
    bench: Bench,
    asserts: Vec<Assertion>,
    live: LiveLine,
    steps: Vec<Step>,
    best: Option<RunResult>,
    last: Option<RunResult>,
}

/// Searches and reports.
pub(crate) fn find_max(args: &FindMaxArgs) -> Result<Exit, Failure> {
    let instead = "Say where to look by --rate-min and --rate-max, and how long by --step.";
    run::refuse("find-max", &[("--rate", args.run.load.rate.is_some())], instead)?;
    run::refuse("find-max", &run::of_one_measurement(&args.run), instead)?;
    let asserts = output::prepare(&args.run.output)?;
    let (low, high) = (args.rate_min.0, args.rate_max.0);
    if !(low > 0.0 && high > low && args.precision > 0.0) {
        let cause = "--rate-min must be above 0 and below --rate-max, --precision above 0";
        return Err(Failure::usage(cause, "As in --rate-min 1k --rate-max 1M."));
    }
    let settings = run::settings_of(&args.run)?;
    run::check_limits(&settings, &args.run)?;
    let bench = Bench::set_up(settings, Interrupt::watch()?)?;
    let live = LiveLine::new(args.run.output.quiet);
    let mut search =
        Search { args, bench, asserts, live, steps: Vec::new(), best: None, last: None };
    let rungs = args.steps.max(2);
    let ratio = (high / low).powf(1.0 / f64::from(rungs - 1));
    let mut ladder: Vec<f64> = (0..rungs).map(|i| low * ratio.powi(i as i32)).collect();
    let seed = search.bench.settings.options.seed.unwrap_or(1);
    fastrand::Rng::with_seed(seed).shuffle(&mut ladder);
    for rate in ladder {
        search.step(rate)?;
    }
    search.bisect()?;
    search.report()
}

impl Search<'_> {
    fn step(&mut self, rate: f64) -> Result<(), Failure> {
        if self.bench.interrupt.is_set() {
            return Ok(());
        }
        let rate = rate.round().max(1.0);
        self.bench.settings.options.rate = Some(Ramp { from: rate, to: rate });
        let mut plan = self.bench.plan(Part { index: 0, of: 1 }, false);
        plan.duration_ns = Some(self.args.step.ns());
        plan.warmup_ns = Span(self.args.step.0 / 10).ns();
        let (mut result, _) = self.bench.measure(plan, Start::now(), &mut self.live)?;
        let exit = result.judge(&self.asserts);
        let kept_up = result.verdict.limit == Limit::RateLimited;
        let holds = exit == Exit::Good && kept_up;
        let missed = result.asserts.iter().filter(|judged| !judged.holds);
        let missed: Vec<String> =
            missed.map(|j| format!("{}: {}", j.condition, j.measured)).collect();
        let why = match (holds, missed.is_empty()) {
            (true, _) => String::new(),
            (false, false) if kept_up => missed.join("; "),
            _ => result.verdict.reason.clone(),
        };
        let p99_us = [Metric::UrgentResponse, Metric::PrefetchResponse]
            .iter()
            .find_map(|metric| result.stats.times(*metric))
            .map_or(0.0, |times| times.quantile(0.99) as f64 / 1e3);
        let achieved_per_s = result.rates.responses_per_s;
        self.steps.push(Step { offered_per_s: rate, achieved_per_s, p99_us, holds, why });
        let best = self.best.as_ref().and_then(|best| best.rates.offered_per_s).unwrap_or(0.0);
        if holds && rate > best {
            self.best = Some(result.clone());
        }
        self.last = Some(result);
        Ok(())
    }

    /// The highest rate that held, and the lowest above it that did not.
    fn bounds(&self) -> Option<(f64, f64)> {
        let rates = |holds: bool| {
            self.steps.iter().filter(move |step| step.holds == holds).map(|s| s.offered_per_s)
        };
        let low = rates(true).fold(f64::NAN, f64::max);
        let high = rates(false).filter(|rate| *rate > low).fold(f64::NAN, f64::min);
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }

    fn bisect(&mut self) -> Result<(), Failure> {
        for _ in 0..BISECTIONS_MAX {
            let Some((low, high)) = self.bounds() else { break };
            if high / low - 1.0 <= self.args.precision || self.bench.interrupt.is_set() {
                break;
            }
            self.step((low * high).sqrt())?;
        }
        Ok(())
    }

    /// The result of the best step, with all steps beside.
    fn report(self) -> Result<Exit, Failure> {
        self.live.finish();
        let found = self.best.is_some();
        let Some(mut result) = self.best.or(self.last) else {
            let (cause, remedy) = ("interrupted before the first step".to_owned(), String::new());
            return Err(Failure { exit: Exit::Interrupted, cause, remedy });
        };
        result.steps = self.steps;
        result.interrupted = self.bench.interrupt.is_set();
        let exit = result.judge(&self.asserts);
        output::write(&result, &self.args.run.output)?;
        // A server that holds no rate at all has missed what was asked, whatever ended the step.
        Ok(if found || exit == Exit::Wrong || exit == Exit::Interrupted {
            exit
        } else {
            Exit::Missed
        })
    }
}
