//! `js5d check`: reads a whole cache and reports what is wrong with it, and how much memory a
//! server with these settings may need.

use super::progress::Progress;
use super::text::{counted, megabytes, print, thousands};
use crate::cache::{Store, block_on_by};
use crate::catalog::{LoadError, LoadOptions, Loaded, Report, Snapshot, load};
use crate::cli::CheckArgs;
use crate::config::{self, Bound, Budget, Choice, Part};
use crate::failure::{Exit, Failure};
use crate::protocol::frame::Framing;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Checks a cache; the exit code says whether it is sound.
///
/// # Errors
/// The cache cannot be read at all, or the settings may need more memory than is allowed.
pub fn run(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let driver = Choice::of(args.serve.driver)?;
    let clients = config::clients(&args.serve)?;
    let readers = config::readers(&args.serve, &clients)?;
    let mut progress = Progress::new(|percent| eprintln!("loading: {percent}%"));
    let result = block_on_by(driver.reading(), async {
        let dir = args.serve.cache.as_deref().unwrap_or(Path::new(""));
        let store = Store::open(dir).await?;
        let options = LoadOptions { skip_corrupt: true, memory_bytes_max: None, readers };
        load(&store, options, &mut |done, total| progress.show(done, total)).await
    });
    progress.end();
    let (snapshot, report) = match result {
        Ok(Loaded { snapshot, report }) => (Some(snapshot), report),
        Err(LoadError::Corrupt(report)) => (None, *report),
        Err(error) => return Err(error.into()),
    };
    let budget =
        snapshot.as_ref().map(|snapshot| Budget::new(&args.serve, driver.driver, snapshot));
    if args.json {
        let mut json = report.to_json();
        let generation = snapshot.as_ref().map(|it| format!("{:016x}", it.generation()));
        // What --expect-generation takes.
        json["generation"] = generation.into();
        let framing = |it: &Snapshot, framing: Framing| {
            (framing.name().to_owned(), it.memory_bytes_in(framing).into())
        };
        json["framings"] = snapshot.as_ref().map_or(Value::Null, |it| {
            Value::Object(it.framings().map(|one| framing(it, one)).collect())
        });
        json["driver"] = driver.driver.name().into();
        json["ring_missing"] = driver.missing.as_ref().map(ToString::to_string).into();
        json["memory"] = budget.as_ref().map(memory_json).into();
        print(format!("{json:#}\n").as_bytes())?;
    } else {
        let verdict = verdict(snapshot.as_ref(), &report);
        let memory = budget.as_ref().map(memory_text).unwrap_or_default();
        let remedy = match report.is_sound() {
            true => String::new(),
            false => format!("what to do about the cache: {}\n", report.remedy()),
        };
        let framings = snapshot.as_ref().map(framings_text).unwrap_or_default();
        // The verdict is the last line, which scripts read.
        let text = format!("{report}driver: {driver}\n{framings}{memory}{remedy}{verdict}\n");
        print(text.as_bytes())?;
    }
    if !report.is_sound() {
        return Ok(Exit::CorruptCache.into());
    }
    budget.map_or(Ok(()), |budget| budget.check())?;
    Ok(ExitCode::SUCCESS)
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

/// What a generation takes for each framing that clients need; nothing if it is one.
fn framings_text(snapshot: &Snapshot) -> String {
    let line = |framing: Framing| {
        let bytes = megabytes(snapshot.memory_bytes_in(framing));
        format!("  {:<24} {bytes:>12}\n", framing.name())
    };
    let lines: Vec<_> = snapshot.framings().map(line).collect();
    match lines.len() {
        0 | 1 => String::new(),
        _ => format!("memory of a generation, by framing of its responses:\n{}", lines.concat()),
    }
}

/// The worst case of memory, a line a part.
fn memory_text(budget: &Budget) -> String {
    let mut text = "memory at worst, with these settings:\n".to_owned();
    for part in &budget.parts {
        let each = match part.count {
            1 => String::new(),
            count => format!("{} of {} bytes", thousands(count), thousands(part.bytes_each)),
        };
        let (name, all) = (part.name, megabytes(part.bytes()));
        // Writing to a string cannot fail.
        let line = format!("  {name:<24} {all:>12}  {each}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let (all, allowed) = (megabytes(budget.bytes()), megabytes(budget.bound.bytes()));
    let whose = match budget.bound {
        Bound::Setting(_) => "--memory-max allows",
        Bound::Container(_) => "the container has",
        Bound::Machine(_) => "the machine has",
    };
    let _ = writeln!(text, "  {:<24} {all:>12}  {whose} {allowed}", "in all");
    text
}

fn memory_json(budget: &Budget) -> Value {
    let whose = match budget.bound {
        Bound::Setting(_) => "memory-max",
        Bound::Container(_) => "container",
        Bound::Machine(_) => "machine",
    };
    json!({
        "worst_case_bytes": budget.bytes(),
        "parts": budget.parts.iter().map(part_json).collect::<Vec<_>>(),
        "bound_bytes": budget.bound.bytes(),
        "bound_by": whose,
    })
}

fn part_json(part: &Part) -> Value {
    json!({ "name": part.name, "count": part.count, "bytes_each": part.bytes_each })
}
