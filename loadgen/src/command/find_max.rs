//! `find-max`: the highest rate that the server holds, as an interval.
//!
//! The search first tries a ladder of rates in shuffled order, so that a server that becomes
//! faster or slower with time does not look like one with a limit. Then it bisects between the
//! highest rate that held and the lowest above it that did not. Then it tries both bounds again,
//! until each has given the same answer twice. A step in which the generator was the limit says
//! nothing about the server: it is tried again, and is never a bound. Every step is in the report.

use super::measure::{Bench, Interrupt, Start};
use super::{options, output};
use crate::assertion::Assertion;
use crate::cli::FindMaxArgs;
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::human::{Ramp, Span};
use crate::judgement::Judged;
use crate::report::live::LiveLine;
use crate::result::{Found, Step};
use crate::stats::Metric;
use crate::units;
use crate::verdict::Limit;

/// Bisection halves the distance each time: more steps than this say nothing.
const BISECTIONS_MAX: u32 = 12;

/// How often a bound gives the same answer before it is believed.
const ANSWERS: usize = 2;

/// A rate holds if this share of what was due was answered in the time in which it was due: a
/// server that answers less falls further behind each second.
const ANSWERED_SHARE_MIN: f64 = 0.99;

/// How often a step is tried in which the generator is the limit.
const TRIES: u32 = 3;

/// What is known of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Holds,
    Fails,
    /// The generator could not ask.
    Unknown,
}

struct Search<'a> {
    args: &'a FindMaxArgs,
    bench: Bench,
    asserts: Vec<Assertion>,
    live: LiveLine,
    steps: Vec<Step>,
    best: Option<Judged>,
    last: Option<Judged>,
}

/// Searches and reports.
pub(crate) fn find_max(args: &FindMaxArgs) -> Result<Exit, Failure> {
    let settings = options::settings_of(&args.run)?;
    let instead = "Set the range by --rate-min and --rate-max, and the time of a step by --step.";
    options::refuse("find-max", &[("--rate", settings.options.rate.is_some())], instead)?;
    options::refuse(
        "find-max",
        &options::of_one_measurement(&args.run, &settings.options),
        instead,
    )?;
    let asserts = output::prepare(&args.run.output)?;
    let (low, high) = (args.rate_min.0, args.rate_max.0);
    if !(low > 0.0 && high > low && args.precision > 0.0 && args.steps >= 2) {
        let cause = "--rate-min must be above 0 and below --rate-max, --precision above 0, \
                     --steps 2 or more";
        return Err(Failure::usage(cause, "As in --rate-min 1k --rate-max 1M."));
    }
    options::check_limits(&settings, &args.run)?;
    let bench = Bench::set_up(settings, Interrupt::watch()?)?;
    let live = LiveLine::new(args.run.output.quiet);
    let mut search =
        Search { args, bench, asserts, live, steps: Vec::new(), best: None, last: None };
    let ratio = (high / low).powf(1.0 / f64::from(args.steps - 1));
    let mut ladder: Vec<f64> = (0..args.steps).map(|i| low * ratio.powi(i as i32)).collect();
    let seed = search.bench.settings.options.seed.unwrap_or(1);
    fastrand::Rng::with_seed(seed).shuffle(&mut ladder);
    for rate in ladder {
        search.step(rate)?;
    }
    search.narrow()?;
    search.report()
}

impl Search<'_> {
    /// Tries a rate, again if the generator is the limit.
    fn step(&mut self, rate: f64) -> Result<(), Failure> {
        for _ in 0..TRIES {
            if self.bench.interrupt.is_set() || self.try_rate(rate)? {
                break;
            }
        }
        Ok(())
    }

    /// Tries a rate. True if it says something of the server.
    fn try_rate(&mut self, rate: f64) -> Result<bool, Failure> {
        let rate = rate.round().max(1.0);
        self.bench.settings.options.rate = Some(Ramp { from: rate, to: rate });
        let mut warmup_ns = Span(self.args.step.0 / 10).ns();
        let mut judged = self.measure(warmup_ns)?;
        // Answers that take longer than the warm-up are missing at the end of the step and at its
        // beginning there are none in their place, whether or not the server falls behind.
        let longest_ns = longest_ns(&judged);
        if falls_behind(&judged).is_some() && longest_ns > warmup_ns {
            warmup_ns = longest_ns.saturating_mul(2).min(self.args.step.ns());
            judged = self.measure(warmup_ns)?;
        }
        let p99_us = [Metric::UrgentResponse, Metric::PrefetchResponse]
            .iter()
            .find_map(|metric| judged.result.stats.times(*metric))
            .map_or(0.0, |times| times.quantile(0.99) as f64 / 1e3);
        let why = why_not(&judged);
        let is_valid = judged.verdict.limit != Limit::GeneratorLimited;
        self.steps.push(Step {
            offered_per_s: rate,
            achieved_per_s: judged.result.rates.responses_per_s,
            p99_us,
            holds: why.is_none(),
            is_valid,
            why: why.unwrap_or_default(),
        });
        if self.steps.last().is_some_and(|step| step.holds) {
            let rate_of = |best: &Judged| best.result.rates.offered_per_s.unwrap_or(0.0);
            if self.best.as_ref().is_none_or(|best| rate >= rate_of(best)) {
                self.best = Some(judged);
                return Ok(true);
            }
        }
        self.last = Some(judged);
        Ok(is_valid)
    }

    /// Halves the distance between the bounds, then tries both again, and goes on if one of them
    /// answers otherwise.
    fn narrow(&mut self) -> Result<(), Failure> {
        for _ in 0..BISECTIONS_MAX + 2 * ANSWERS as u32 {
            let (low, high) = bounds(&self.steps);
            let next = match (low, high) {
                (Some(low), Some(high)) if high / low - 1.0 > self.args.precision => {
                    (low * high).sqrt()
                }
                (Some(low), _) if answers(&self.steps, low) < ANSWERS => low,
                (_, Some(high)) if answers(&self.steps, high) < ANSWERS => high,
                _ => break,
            };
            let before = self.steps.len();
            self.step(next)?;
            let is_unknown = answer(&self.steps, next.round()) == Answer::Unknown;
            // If the generator cannot ask for a rate, trying it once more gives no answer either.
            if self.bench.interrupt.is_set() || is_unknown || self.steps.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Measures the rate that is set.
    fn measure(&mut self, warmup_ns: u64) -> Result<Judged, Failure> {
        let mut plan = self.bench.plan(Part { index: 0, of: 1 }, false);
        plan.duration_ns = Some(self.args.step.ns());
        plan.warmup_ns = warmup_ns;
        let (result, ..) = self.bench.measure(plan, Start::soon(), &mut self.live)?;
        Ok(Judged::of(result, &self.asserts))
    }

    /// The result of the best step, with all steps beside.
    fn report(self) -> Result<Exit, Failure> {
        self.live.finish();
        let (low, high) = bounds(&self.steps);
        let best = self.best.filter(|_| low.is_some());
        let Some(mut judged) = best.or(self.last) else {
            let (cause, remedy) = ("interrupted before the first step".to_owned(), String::new());
            return Err(Failure { exit: Exit::Interrupted, cause, remedy });
        };
        judged.set_interrupted(self.bench.interrupt.is_set());
        judged.result.found = low.map(|low| found(&self.steps, low, high));
        let spoilt = self.steps.iter().filter(|step| !step.is_valid);
        let spoilt = spoilt.map(|step| step.offered_per_s).fold(f64::INFINITY, f64::min);
        let holds_all = self.steps.iter().all(|step| step.holds);
        let is_unknown_below = high.is_some_and(|high| is_unknown_below(&self.steps, high));
        judged.result.steps = self.steps;
        match (low, high) {
            _ if matches!(judged.exit, Exit::Wrong | Exit::Interrupted) => {}
            (None, Some(high)) if is_unknown_below => judged.invalidate(format!(
                "at {} the generator sets the limit, not the server: it is only known that the \
                 server does not hold {}",
                units::per_s(spoilt),
                units::per_s(high)
            )),
            // A server that holds no rate at all has missed what was asked.
            (None, Some(_)) => judged.set_exit(Exit::Missed),
            (Some(_), Some(_)) => {}
            (Some(_), None) if holds_all => judged.verdict.notes.push(
                "the server held every rate that was tried: its highest is above --rate-max".into(),
            ),
            (_, None) => judged.invalidate(format!(
                "from {} on the generator sets the limit, not the server: what was found is a \
                 lower bound",
                units::per_s(spoilt)
            )),
        }
        output::write(&judged, &self.args.run.output)?;
        Ok(judged.exit)
    }
}

/// How long the slowest answers took, of either class.
fn longest_ns(judged: &Judged) -> u64 {
    let stats = &judged.result.stats;
    let classes = [Metric::UrgentResponse, Metric::PrefetchResponse].into_iter();
    classes
        .filter_map(|class| stats.times(class))
        .map(|times| times.quantile(0.99))
        .max()
        .unwrap_or(0)
}

/// What part of the requests it answered, if that says that the server falls behind.
fn falls_behind(judged: &Judged) -> Option<f64> {
    let result = &judged.result;
    let answered = result.stats.responses.sum() as f64 / result.offered.unwrap_or(0).max(1) as f64;
    let kept_up = judged.verdict.limit == Limit::RateLimited;
    (kept_up && answered < ANSWERED_SHARE_MIN).then_some(answered)
}

/// Why a rate does not hold, if it does not.
fn why_not(judged: &Judged) -> Option<String> {
    let kept_up = judged.verdict.limit == Limit::RateLimited;
    let missed = judged.asserts.iter().filter(|judged| !judged.holds);
    let missed: Vec<String> = missed.map(|j| format!("{}: {}", j.condition, j.measured)).collect();
    if let Some(answered) = falls_behind(judged) {
        return Some(format!(
            "the server falls behind: it answers only {}",
            units::percent(answered)
        ));
    }
    match judged.exit {
        Exit::Good if kept_up => None,
        _ if kept_up && !missed.is_empty() => Some(missed.join("; ")),
        _ => Some(judged.verdict.reason.clone()),
    }
}

/// What the steps of a rate say together: it holds if it held each time.
fn answer(steps: &[Step], rate: f64) -> Answer {
    let mut of_rate = steps.iter().filter(|step| step.offered_per_s == rate && step.is_valid);
    match of_rate.next() {
        None => Answer::Unknown,
        Some(first) if first.holds && of_rate.all(|step| step.holds) => Answer::Holds,
        Some(_) => Answer::Fails,
    }
}

/// How often a rate was tried with an answer.
fn answers(steps: &[Step], rate: f64) -> usize {
    steps.iter().filter(|step| step.offered_per_s == rate && step.is_valid).count()
}

/// The highest rate that holds below all that fail, and the lowest that fails.
fn bounds(steps: &[Step]) -> (Option<f64>, Option<f64>) {
    let rates = |wanted: Answer| {
        let rates = steps.iter().map(|step| step.offered_per_s);
        rates.filter(move |rate| answer(steps, *rate) == wanted)
    };
    let high = rates(Answer::Fails).reduce(f64::min);
    let below = high.unwrap_or(f64::INFINITY);
    (rates(Answer::Holds).filter(|rate| *rate < below).reduce(f64::max), high)
}

/// Whether a lower rate was tried, and never with an answer.
fn is_unknown_below(steps: &[Step], rate: f64) -> bool {
    let mut lower = steps.iter().map(|step| step.offered_per_s).filter(|lower| *lower < rate);
    lower.any(|lower| answer(steps, lower) == Answer::Unknown)
}

/// The interval: from what was answered at the highest rate that holds, to the lowest that fails.
fn found(steps: &[Step], low: f64, high: Option<f64>) -> Found {
    let of_low = steps.iter().filter(|step| step.offered_per_s == low && step.is_valid);
    let low_per_s = of_low.map(|step| step.achieved_per_s).fold(low, f64::min);
    Found { rate_per_s: low, low_per_s, high_per_s: high }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(offered_per_s: f64, holds: bool, is_valid: bool) -> Step {
        let achieved_per_s = offered_per_s * 0.995;
        Step { offered_per_s, achieved_per_s, holds, is_valid, ..Step::default() }
    }

    #[test]
    fn a_step_that_the_generator_limits_is_no_bound() {
        let steps = [step(100.0, true, true), step(200.0, false, false), step(400.0, false, true)];
        assert_eq!(bounds(&steps), (Some(100.0), Some(400.0)));
        assert_eq!(bounds(&steps[..2]), (Some(100.0), None));
    }

    #[test]
    fn a_step_that_the_generator_limits_does_not_fail() {
        let mut steps = vec![step(100.0, false, false), step(200.0, false, true)];
        assert_eq!(bounds(&steps), (None, Some(200.0)));
        assert!(is_unknown_below(&steps, 200.0));
        steps.push(step(100.0, false, true));
        assert!(!is_unknown_below(&steps, 200.0), "an answer at last: it fails");
        assert!(!is_unknown_below(&steps[1..2], 200.0), "nothing lower was tried");
    }

    #[test]
    fn a_rate_that_failed_once_does_not_hold() {
        let mut steps =
            vec![step(100.0, true, true), step(200.0, true, true), step(400.0, false, true)];
        assert_eq!(bounds(&steps), (Some(200.0), Some(400.0)));
        steps.push(step(200.0, false, true));
        assert_eq!(bounds(&steps), (Some(100.0), Some(200.0)));
        let found = found(&steps, 100.0, Some(200.0));
        let expected = Found { rate_per_s: 100.0, low_per_s: 99.5, high_per_s: Some(200.0) };
        assert_eq!(found, expected);
    }
}
