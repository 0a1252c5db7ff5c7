//! What commands do with their options before anything is measured: read, check, refuse.

use crate::cli::{LoadOptions, RunArgs};
use crate::engine::limits;
use crate::failure::Failure;
use crate::result::RunResult;
use crate::settings::{self, Settings};
use crate::units;
use std::fmt::Display;
use std::path::Path;

/// Shows what the run needs, and refuses what cannot work.
pub(crate) fn check_limits(settings: &Settings, args: &RunArgs) -> Result<(), Failure> {
    let limits = limits::table(&settings.needs());
    if !args.output.quiet {
        eprint!("{}", limits::text(&limits));
    }
    let short = limits.iter().find(|limit| limit.is_hard && !limit.holds());
    match short {
        Some(limit) if !args.ignore_limits => {
            let (needed, there) = (units::count(limit.needed), units::count(limit.there));
            let cause = format!("{}: {needed} needed, {there} available", limit.name);
            Err(Failure::setup(cause, &format!("{}; or --ignore-limits.", limit.mend)))
        }
        _ => Ok(()),
    }
}

/// Options of a run that is one measurement, and whether they were given: here or in the file.
pub(crate) fn of_one_measurement(
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
pub(crate) fn refuse(command: &str, given: &[(&str, bool)], instead: &str) -> Result<(), Failure> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(Failure::usage(format!("{option} does not go with {command}"), instead))
        }
        None => Ok(()),
    }
}

/// Reads a result that `--json` wrote.
pub(crate) fn result_of(path: &Path, remedy: &str) -> Result<RunResult, Failure> {
    let failed = |e: &dyn Display| Failure::usage(format!("{}: {e}", path.display()), remedy);
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    RunResult::parse(&text).map_err(|e| failed(&e))
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
