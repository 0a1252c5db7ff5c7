//! `merge`: results of several machines as one.

use super::output;
use crate::cli::MergeArgs;
use crate::failure::{Exit, Failure};
use crate::judgement::Judged;
use crate::result::RunResult;

/// Reads, adds, judges, reports.
pub(crate) fn merge(args: &MergeArgs) -> Result<Exit, Failure> {
    let asserts = output::prepare(&args.output)?;
    let parts: Result<Vec<RunResult>, Failure> = args
        .files
        .iter()
        .map(|path| {
            let remedy = "Give files that --json wrote.";
            let failed = |e: &dyn std::fmt::Display| {
                Failure::usage(format!("{}: {e}", path.display()), remedy)
            };
            let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
            RunResult::parse(&text).map_err(|e| failed(&e))
        })
        .collect();
    let merged = RunResult::merge(parts?);
    let remedy = "Merge parts of one run that began together; --start-at makes them do so.";
    let judged = Judged::of(merged.map_err(|e| Failure::usage(e, remedy))?, &asserts);
    output::write(&judged, &args.output)?;
    Ok(judged.exit)
}
