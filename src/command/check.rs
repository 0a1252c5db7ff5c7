//! `js5d check`: reads a whole cache and says what is wrong with it.

use super::progress::Progress;
use super::text::{counted, megabytes, print};
use crate::cache::{Store, block_on};
use crate::catalog::{LoadError, LoadOptions, Loaded, Report, Snapshot, load};
use crate::cli::CheckArgs;
use crate::failure::{Exit, Failure};
use crate::platform::probe;
use std::process::ExitCode;

/// Checks a cache; the exit code says whether it is sound.
///
/// # Errors
/// The cache cannot be read at all.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    probe::ring()?;
    let mut progress = Progress::new(|percent| eprintln!("loading: {percent}%"));
    let result = block_on(async {
        let store = Store::open(&args.cache).await?;
        let options = LoadOptions { skip_corrupt: true, ..LoadOptions::default() };
        load(&store, options, &mut |done, total| progress.show(done, total)).await
    });
    progress.end();
    let (snapshot, report) = match result {
        Ok(Loaded { snapshot, report }) => (Some(snapshot), report),
        Err(LoadError::Corrupt(report)) => (None, *report),
        Err(error) => return Err(error.into()),
    };
    if args.json {
        let mut json = report.to_json();
        let generation = snapshot.as_ref().map(|it| format!("{:016x}", it.generation()));
        // What --expect-generation takes.
        json["generation"] = generation.into();
        print(format!("{json:#}\n").as_bytes())?;
    } else {
        let verdict = verdict(snapshot.as_ref(), &report);
        print(format!("{report}{verdict}\n").as_bytes())?;
    }
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { Exit::CorruptCache.into() })
}

/// The report in one line.
fn verdict(snapshot: Option<&Snapshot>, report: &Report) -> String {
    let problems = counted(report.problem_count(), "problem");
    let Some(snapshot) = snapshot else {
        return format!("CORRUPT: {problems}, and nothing that could be served");
    };
    let totals = snapshot.totals();
    let served = format!(
        "{}, {}, {} on the wire, generation {:016x}",
        counted(totals.archives as u64, "archive"),
        counted(totals.groups as u64, "group"),
        megabytes(totals.wire_bytes),
        snapshot.generation(),
    );
    if report.is_sound() {
        return format!("sound: {served}");
    }
    format!("CORRUPT: {problems}; without them {served}")
}
