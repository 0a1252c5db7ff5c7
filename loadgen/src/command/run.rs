//! `run`: one load on one server.

use super::measure::{Bench, Interrupt, Start};
use super::{baseline, compare, output, processes};
use crate::cli::{LoadOptions, RunArgs};
use crate::engine::limits;
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::judgement::Judged;
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::scenario::Scenario;
use crate::settings::{self, Settings};
use crate::trace;
use crate::units;

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
        None => Start::now(),
    };
    let plan = bench.plan(Part { index: 0, of: 1 }, args.trace.is_some());
    let (result, mut written) = bench.measure(plan, start, live)?;
    if let Some(path) = &args.trace {
        trace::write(path, &mut written).map_err(|e| output::unwritable(path, &e))?;
    }
    Ok(result)
}

/// Shows what the run needs, and refuses what cannot work.
pub(super) fn check_limits(settings: &Settings, args: &RunArgs) -> Result<(), Failure> {
    let limits = limits::table(&settings.needs());
    if !args.output.quiet {
        eprint!("{}", limits::text(&limits));
    }
    let short = limits.iter().find(|limit| limit.is_hard && !limit.holds());
    match short {
        Some(limit) if !args.ignore_limits => {
            let (needed, there) = (units::count(limit.needed), units::count(limit.there));
            let cause = format!("{}: {needed} needed, {there} there", limit.name);
            Err(Failure::setup(cause, &format!("{}; or --ignore-limits.", limit.mend)))
        }
        _ => Ok(()),
    }
}

/// Options of a run that is one measurement, and whether they were given: here or in the file.
pub(super) fn of_one_measurement(
    args: &RunArgs,
    options: &LoadOptions,
) -> [(&'static str, bool); 7] {
    [
        ("--duration", options.duration.is_some()),
        ("--warmup", options.warmup.is_some()),
        ("--processes", options.processes.is_some()),
        ("--print-scenario", args.print_scenario),
        ("--trace", args.trace.is_some()),
        ("--start-at", args.start_at.is_some()),
        ("--baseline", args.baseline.is_some()),
    ]
}

/// Refuses options that another command would not heed, because it decides on that itself.
pub(super) fn refuse(command: &str, given: &[(&str, bool)], instead: &str) -> Result<(), Failure> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} does not go with {command}"), instead))
        }
        None => Ok(()),
    }
}

/// The options of the command line over those of the file, checked.
pub(crate) fn settings_of(args: &RunArgs) -> Result<Settings, Failure> {
    let options = match &args.file {
        None => args.load.clone(),
        Some(path) => settings::overlay(args.load.clone(), settings::read_file(path)?)?,
    };
    let settings = Settings::new(options)?;
    // A file may hold what one of several scenarios heeds; what is given by hand is to be heeded.
    settings.refuse_unheeded(&args.load)?;
    Ok(settings)
}
