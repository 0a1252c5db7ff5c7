//! `merge`: results of several machines as one.

use super::{options, output};
use crate::cli::MergeArgs;
use crate::failure::{Exit, Failure};
use crate::judgement::Judged;
use crate::result::RunResult;
use std::path::PathBuf;

/// Reads, adds, judges, reports.
pub(crate) fn merge(args: &MergeArgs) -> Result<Exit, Failure> {
    let asserts = output::prepare(&args.output)?;
    let read = |path: &PathBuf| options::result_of(path, "Give files that --json wrote.");
    let parts: Result<Vec<RunResult>, Failure> = args.files.iter().map(read).collect();
    let merged = RunResult::merge(parts?);
    let remedy = "Merge parts of one run that began together; --start-at makes them do so.";
    let judged = Judged::of(merged.map_err(|e| Failure::usage(e, remedy))?, &asserts);
    output::write(&judged, &args.output)?;
    Ok(judged.exit)
}
