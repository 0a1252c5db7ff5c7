//! `--processes`: the same run in several processes, each with its own descriptors.
//!
//! The parent starts itself N times. Each child reads the load from its standard input, prepares
//! itself, and reports that it is ready. When all have, the parent sends them the time at which
//! they begin. A child then writes lines of live numbers to standard error, and its result as JSON
//! to standard output.

use super::measure::{Bench, Interrupt, Start};
use super::output;
use crate::cli::RunArgs;
use crate::engine::plan::Part;
use crate::failure::{Exit, Failure};
use crate::judgement::Judged;
use crate::report::live::LiveLine;
use crate::result::RunResult;
use crate::settings::{self, Settings};
use crate::stats::Live;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// From the moment that all are ready to the common start: the word reaches them, and they make
/// their rings, in less.
const START_AFTER: Duration = Duration::from_millis(500);

/// How often the parent looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a child says when it is ready.
const READY: &str = "ready";

/// Runs a child's part, as its parent says on standard input.
pub(crate) fn be_child(args: &RunArgs) -> Result<Exit, Failure> {
    let usage = |cause: &dyn Display| {
        Failure::usage(format!("--child: {cause}"), "Leave it out; run sets it.")
    };
    let text = args.child.as_deref().unwrap_or_default();
    let parsed = text.split_once('/').and_then(|(index, of)| {
        let part = Part { index: index.parse().ok()?, of: of.parse().ok()? };
        (part.index < part.of).then_some(part)
    });
    let part = parsed.ok_or_else(|| usage(&text))?;
    let mut input = io::stdin().lock();
    let mut line = String::new();
    input.read_line(&mut line).map_err(|e| usage(&e))?;
    let len = line.trim().parse().map_err(|_| usage(&"no length"))?;
    let mut load = vec![0; len];
    input.read_exact(&mut load).map_err(|e| usage(&e))?;
    let load = String::from_utf8(load).map_err(|e| usage(&e))?;
    let options = toml::from_str(&load).map_err(|e| usage(&e))?;
    let bench = Bench::set_up(Settings::new(options)?, Interrupt::watch()?)?;
    eprintln!("{READY}");
    line.clear();
    input.read_line(&mut line).map_err(|e| usage(&e))?;
    let start = Start::at_unix(line.trim().parse().map_err(|_| usage(&"no start"))?)?;
    let (result, ..) = bench.measure_with(bench.plan(part, false), start, publish)?;
    let judged = Judged::of(result, &[]);
    output::write(&judged, &args.output)?;
    Ok(judged.exit)
}

/// What a child says of itself while it runs.
fn publish(lives: &[Live]) {
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
    let failed = |e: &dyn Display| {
        Failure::setup(format!("a process of the run: {e}"), "See its message above.")
    };
    let load = settings::to_file(&settings.options)?;
    let count = settings.processes();
    let children: io::Result<Vec<Child>> =
        (0..count).map(|index| spawn(index, count, &load)).collect();
    let mut children = Children(children.map_err(|e| failed(&e))?);
    let results = children.attend(args.start_at.as_deref(), interrupt, live)?;
    RunResult::merge(results).map_err(|e| failed(&e))
}

fn spawn(index: u32, count: u32, load: &str) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["run", "--json", "-", "--quiet"])
        .args(["--child", &format!("{index}/{count}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C reaches the parent alone, which passes it on once.
        .process_group(0);
    let mut child = command.spawn()?;
    if let Some(input) = &mut child.stdin {
        write!(input, "{}\n{load}", load.len())?;
    }
    Ok(child)
}

/// The processes of a run. Dropping this ends them.
struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended by itself is not there any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Children {
    /// Starts them together and reads what they say until all have ended.
    fn attend(
        &mut self,
        start_at: Option<&str>,
        interrupt: &Interrupt,
        live: &mut LiveLine,
    ) -> Result<Vec<RunResult>, Failure> {
        let lives: Vec<Live> = self.0.iter().map(|_| Live::default()).collect();
        let ready = AtomicU32::new(0);
        let texts: Result<Vec<String>, Failure> = std::thread::scope(|scope| {
            let mut readers = Vec::new();
            for (child, live) in self.0.iter_mut().zip(&lives) {
                let (out, err, ready) = (child.stdout.take(), child.stderr.take(), &ready);
                if let Some(err) = err {
                    scope.spawn(move || read_words(BufReader::new(err), live, ready));
                }
                readers.push(scope.spawn(move || read_all(out)));
            }
            let has_ended = || readers.iter().any(|reader| reader.is_finished());
            while ready.load(Relaxed) < readers.len() as u32 && !has_ended() && !interrupt.is_set()
            {
                std::thread::sleep(LOOK);
            }
            let start = match start_at {
                Some(text) => Start::parse(text),
                None => Ok(Start::now().later(START_AFTER)),
            };
            let start = start.inspect_err(|_| self.terminate())?;
            self.begin(start);
            let mut passed_on = false;
            while readers.iter().any(|reader| !reader.is_finished()) {
                std::thread::sleep(LOOK);
                if interrupt.is_set() && !std::mem::replace(&mut passed_on, true) {
                    self.terminate();
                }
                live.update(&lives, start.instant.elapsed(), "measuring");
            }
            Ok(readers.into_iter().map(|reader| reader.join().unwrap_or_default()).collect())
        });
        let parsed = texts?.into_iter().map(|text| {
            RunResult::parse(&text).map_err(|e| {
                let cause = format!("a process of the run gave no result: {e}");
                Failure::setup(cause, "Its message is above; try it with --processes 1.")
            })
        });
        parsed.collect()
    }

    fn begin(&mut self, start: Start) {
        for child in &mut self.0 {
            if let Some(mut input) = child.stdin.take() {
                // One that has ended shows as a result that cannot be read.
                let _ = writeln!(input, "{:.3}", start.unix_ms as f64 / 1000.0);
            }
        }
    }

    fn terminate(&self) {
        for child in &self.0 {
            // It may have ended by itself.
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
    }
}

/// What a child gives as its result. A broken pipe shows as one that cannot be read.
fn read_all(out: Option<ChildStdout>) -> String {
    let mut text = String::new();
    let _ = out.map(|mut out| out.read_to_string(&mut text));
    text
}

/// Reads live numbers, counts children that are ready, and prints a child's other lines.
fn read_words(lines: impl BufRead, live: &Live, ready: &AtomicU32) {
    for line in lines.lines().map_while(Result::ok) {
        if line == READY {
            ready.fetch_add(1, Relaxed);
            continue;
        }
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
