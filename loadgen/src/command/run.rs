//! `run`: one load on one server.

use super::measure::{Bench, Interrupt, Start};
use super::output;
use crate::cli::RunArgs;
use crate::engine::plan::Part;
use crate::failure::Failure;
use crate::report::live::LiveLine;
use crate::settings::{self, Settings};
use crate::trace;
use crate::verdict::Exit;

/// Runs and reports.
pub(crate) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let settings = settings_of(args)?;
    if args.print_scenario {
        print!("{}", settings::to_file(&settings.options)?);
        return Ok(Exit::Good);
    }
    let asserts = output::asserts(&args.output)?;
    let interrupt = Interrupt::watch()?;
    let bench = Bench::set_up(settings, interrupt)?;
    let start = match &args.output.start_at {
        Some(text) => Start::parse(text)?,
        None => Start::now(),
    };
    let plan = bench.plan(Part { index: 0, of: 1 }, args.output.trace.is_some());
    let mut live = LiveLine::new(args.output.quiet);
    let (mut result, mut written) = bench.measure(plan, start, &mut live)?;
    live.finish();
    if let Some(path) = &args.output.trace {
        trace::write(path, &mut written).map_err(|e| output::unwritable(path, &e))?;
    }
    let exit = result.judge(&asserts);
    output::write(&result, &args.output)?;
    Ok(exit)
}

/// The options of the command line over those of the file, checked.
pub(crate) fn settings_of(args: &RunArgs) -> Result<Settings, Failure> {
    let options = match &args.file {
        None => args.load.clone(),
        Some(path) => settings::overlay(args.load.clone(), settings::read_file(path)?)?,
    };
    Settings::new(options)
}
