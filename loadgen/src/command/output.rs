//! Where results go: the tables on standard output, and the files that were asked for.

use crate::assertion::Assertion;
use crate::cli::OutputOptions;
use crate::failure::Failure;
use crate::judgement::Judged;
use crate::report::live::is_dumb;
use crate::report::{hlog, html, json, table};
use crate::stats::Metric;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Prints on standard output. A closed pipe is no failure: its reader has ended.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Reads the conditions, and sees that the files can be written: before the run, not after it.
pub(crate) fn prepare(options: &OutputOptions) -> Result<Vec<Assertion>, Failure> {
    let hgrm = options.hgrm.as_ref().map(|prefix| hlog::hgrm_path(prefix, Metric::UrgentResponse));
    let files = [&options.json, &options.hlog, &options.html, &hgrm];
    files.into_iter().flatten().try_for_each(|path| check_writable(path))?;
    let parsed = options.asserts.iter().map(|text| {
        let remedy = "As in --assert 'urgent.response.p99<20ms'.";
        text.parse().map_err(|e| Failure::usage(format!("--assert {text}: {e}"), remedy))
    });
    parsed.collect()
}

/// Opens a file that will be written later, without changing it.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let is_there = path.exists();
    // Pipes and devices are not opened twice, because a program may wait at their other end.
    if path == Path::new("-") || is_there && !path.is_file() && !path.is_dir() {
        return Ok(());
    }
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
    let closed = opened.and_then(|_| if is_there { Ok(()) } else { std::fs::remove_file(path) });
    closed.map_err(|e| {
        let remedy = "Name a file in a directory that is there and can be written.";
        Failure::setup(format!("{}: {e}", path.display()), remedy)
    })
}

/// A file that cannot be written.
pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::setup(format!("{}: {error}", path.display()), "The result of the run is lost.")
}

/// Writes everything that was asked for.
pub(crate) fn write(judged: &Judged, options: &OutputOptions) -> Result<(), Failure> {
    let json_to_stdout = options.json.as_deref() == Some(Path::new("-"));
    if !options.quiet && !json_to_stdout {
        let wishes_none = std::env::var_os("NO_COLOR").is_some_and(|wish| !wish.is_empty());
        let has_color = io::stdout().is_terminal() && !wishes_none && !is_dumb();
        say(table::summary(judged, table::Style { has_color }));
    }
    if json_to_stdout {
        let mut out = io::stdout().lock();
        json::write(judged, &mut out).map_err(|e| unwritable(Path::new("-"), &e))?;
    } else if let Some(path) = &options.json {
        to_file(path, |out| json::write(judged, out))?;
    }
    if let Some(path) = &options.hlog {
        to_file(path, |out| hlog::write_hlog(&judged.result, out))?;
    }
    if let Some(path) = &options.html {
        to_file(path, |out| out.write_all(html::page(judged).as_bytes()))?;
    }
    if let Some(prefix) = &options.hgrm {
        for (metric, times) in &judged.result.stats.times {
            to_file(&hlog::hgrm_path(prefix, *metric), |out| hlog::write_hgrm(times, out))?;
        }
    }
    Ok(())
}

fn to_file(
    path: &Path,
    write: impl FnOnce(&mut io::BufWriter<std::fs::File>) -> io::Result<()>,
) -> Result<(), Failure> {
    let all = || {
        let mut out = io::BufWriter::new(std::fs::File::create(path)?);
        write(&mut out)?;
        out.flush()
    };
    all().map_err(|e| unwritable(path, &e))
}
