//! `run`: one load on one server.

use super::measure::{Bench, Interrupt, Start};
use super::options::{check_limits, settings_of};
use super::{baseline, compare, output, processes};
use crate::cli::RunArgs;
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::judgement::Judged;
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::settings::{self, Settings};
use crate::trace;

/// Runs and reports.
pub(crate) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    if args.child.is_some() {
        return processes::be_child(args);
    }
    let settings = settings_of(args)?;
    if args.print_scenario {
        output::say(settings::to_file(&settings.options)?);
        return Ok(Exit::Good);
    }
    if settings.kinds.iter().any(|kind| kind.scenario == Scenario::Priority) {
        return compare::priority(args);
    }
    let asserts = output::prepare(&args.output)?;
    let baseline = args.baseline.as_deref().map(baseline::read).transpose()?;
    if let Some(path) = &args.trace {
        output::check_writable(path)?;
    }
    let interrupt = Interrupt::watch()?;
    check_limits(&settings, args)?;
    let mut live = LiveLine::new(args.output.quiet);
    let mut result = if settings.processes() > 1 {
        if args.trace.is_some() {
            let remedy = "Leave --processes out, or record with js5-loadgen record.";
            return Err(Failure::usage("--trace is written by one process", remedy));
        }
        processes::run(&settings, args, &interrupt, &mut live)?
    } else {
        run_here(settings, args, interrupt, &mut live)?
    };
    live.finish();
    let notes = baseline.map(|(name, before)| baseline::compare(&mut result, &name, &before));
    let mut judged = Judged::of(result, &asserts);
    judged.verdict.notes.extend(notes.into_iter().flatten());
    output::write(&judged, &args.output)?;
    Ok(judged.exit)
}

fn run_here(
    settings: Settings,
    args: &RunArgs,
    interrupt: Interrupt,
    live: &mut LiveLine,
) -> Result<RunResult, Failure> {
    let bench = Bench::set_up(settings, interrupt)?;
    bench.warn();
    let start = match &args.start_at {
        Some(text) => Start::parse(text)?,
        None => Start::soon(),
    };
    let plan = bench.plan(Part { index: 0, of: 1 }, args.trace.is_some());
    let (result, mut written, _) = bench.measure(plan, start, live)?;
    if let Some(path) = &args.trace {
        trace::write(path, &mut written).map_err(|e| output::unwritable(path, &e))?;
    }
    Ok(result)
}
