//! `--processes`: the same run in several processes, each with its own descriptors.
//!
//! The parent writes the load to a scenario file, starts itself N times with it and with a time
//! at which all begin, shows what they publish, and adds their results. Children speak on two
//! pipes: lines of live numbers on standard error, the result as JSON on standard output.

use super::measure::{Interrupt, Start};
use crate::cli::RunArgs;
use crate::engine::plan::Part;
use crate::failure::Failure;
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::settings::{self, Settings};
use crate::stats::Live;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Starting processes and learning the catalogue takes them less than this.
const START_AFTER: Duration = Duration::from_secs(2);

/// Which child this process is, from `--child I/N`.
pub(crate) fn part(args: &RunArgs) -> Result<Part, Failure> {
    let Some(text) = &args.child else { return Ok(Part { index: 0, of: 1 }) };
    let parsed = text.split_once('/').and_then(|(index, of)| {
        let part = Part { index: index.parse().ok()?, of: of.parse().ok()? };
        (part.index < part.of).then_some(part)
    });
    parsed.ok_or_else(|| Failure::usage(format!("--child {text:?}"), "It is not for people."))
}

/// What a child says of itself while it runs.
pub(crate) fn publish(lives: &[Live]) {
    let sum = |pick: fn(&Live) -> &AtomicU64| -> u64 {
        lives.iter().map(|live| pick(live).load(Relaxed)).sum()
    };
    let p99_ns = lives.iter().map(|live| live.p99_ns.load(Relaxed)).max().unwrap_or(0);
    let (responses, bytes) = (sum(|l| &l.responses), sum(|l| &l.bytes));
    let (connections, errors) = (sum(|l| &l.connections), sum(|l| &l.errors));
    eprintln!("live {responses} {bytes} {connections} {errors} {p99_ns}");
}

/// Runs the load in several processes and adds their results.
pub(crate) fn run(
    settings: &Settings,
    args: &RunArgs,
    interrupt: &Interrupt,
    live: &mut LiveLine,
) -> Result<RunResult, Failure> {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::setup(format!("a process of the run: {e}"), "See its message above.")
    };
    let start = match &args.start_at {
        Some(text) => Start::parse(text)?,
        None => Start::now().later(START_AFTER),
    };
    let file = std::env::temp_dir().join(format!("js5-loadgen-{}.toml", std::process::id()));
    std::fs::write(&file, settings::to_file(&settings.options)?).map_err(|e| failed(&e))?;
    let count = settings.processes();
    let children: Result<Vec<Child>, Failure> =
        (0..count).map(|index| spawn(index, count, &file, start).map_err(|e| failed(&e))).collect();
    let results = children.and_then(|mut children| attend(&mut children, start, interrupt, live));
    // Children have read it, or will not.
    let _ = std::fs::remove_file(&file);
    RunResult::merge(results?).map_err(|e| failed(&e))
}

fn spawn(index: u32, count: u32, file: &std::path::Path, start: Start) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    let seconds = start.unix_ms as f64 / 1000.0;
    command
        .arg("run")
        .arg("--file")
        .arg(file)
        .args(["--json", "-", "--quiet", "--ignore-limits"])
        .args(["--start-at", &format!("{seconds:.3}")])
        .args(["--child", &format!("{index}/{count}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C reaches the parent alone, which passes it on once.
        .process_group(0);
    command.spawn()
}

/// Reads what the children say until all have ended.
fn attend(
    children: &mut [Child],
    start: Start,
    interrupt: &Interrupt,
    live: &mut LiveLine,
) -> Result<Vec<RunResult>, Failure> {
    let lives: Vec<Live> = children.iter().map(|_| Live::default()).collect();
    let pids: Vec<u32> = children.iter().map(Child::id).collect();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let readers: Vec<_> = children
            .iter_mut()
            .zip(&lives)
            .map(|(child, live)| {
                let (out, err) = (child.stdout.take(), child.stderr.take());
                scope.spawn(move || {
                    if let Some(err) = err {
                        scope.spawn(move || read_live(BufReader::new(err), live));
                    }
                    let mut text = String::new();
                    // A broken pipe shows as a result that cannot be read.
                    let _ = out.map(|mut out| out.read_to_string(&mut text));
                    text
                })
            })
            .collect();
        let mut passed_on = false;
        while readers.iter().any(|reader| !reader.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            if interrupt.is_set() && !passed_on {
                passed_on = true;
                pids.iter().for_each(|pid| terminate(*pid));
            }
            live.update(&lives, start.instant.elapsed(), "measuring");
        }
        readers.into_iter().map(|reader| reader.join().unwrap_or_default()).collect()
    });
    for child in children {
        // Its result, or the lack of one, says how it ended.
        let _ = child.wait();
    }
    let parsed = texts.iter().map(|text| {
        RunResult::parse(text).map_err(|e| {
            let cause = format!("a process of the run gave no result: {e}");
            Failure::setup(cause, "Its message is above; try it with --processes 1.")
        })
    });
    parsed.collect()
}

fn terminate(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Takes the live numbers in, and passes on what else a child says.
fn read_live(lines: impl BufRead, live: &Live) {
    for line in lines.lines().map_while(Result::ok) {
        let Some(numbers) = line.strip_prefix("live ") else {
            eprintln!("{line}");
            continue;
        };
        let numbers = numbers.split_whitespace().map(|n| n.parse().unwrap_or(0));
        let places = [&live.responses, &live.bytes, &live.connections, &live.errors, &live.p99_ns];
        for (place, number) in places.into_iter().zip(numbers) {
            place.store(number, Relaxed);
        }
    }
}
