//! `cargo xtask torture`: the table of what must hold when things go wrong, run against the real
//! binary.
//!
//! Each row prints a line a promise: `name value bound PASS|FAIL|SKIP`. A row that this machine
//! cannot run is SKIP with its reason, never PASS. What is pure is run by `examples/reliability`,
//! what is a feature test already by `cargo test`; the rest is here, a file a family of rows.

mod bench;
mod caches;
mod faults;
mod floods;
mod line;
mod load;
mod packed;
mod pure;
mod restarts;
mod slow;
mod soak;
mod start;

pub(crate) use bench::become_guarded;
pub(crate) use start::without_ring;

use crate::compare::Result;
use bench::Bench;
use serde::Serialize;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rows by number [default: all]
    #[arg(value_name = "ROW")]
    rows: Vec<u8>,

    /// Fewer connections, cases and seconds: what CI can afford
    #[arg(long)]
    quick: bool,

    /// How long the soak of row 23 is
    #[arg(long, value_name = "MINUTES", default_value_t = 3)]
    minutes: u64,

    /// Write the table as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Whether a promise held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Outcome {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It cannot be tried here, for this reason.
    Skip(String),
}

/// A promise, what was found, and what must be.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    row: u8,
    name: String,
    value: String,
    bound: String,
    outcome: Outcome,
}

/// What a row finds.
pub(crate) struct Findings {
    row: u8,
    verdicts: Vec<Verdict>,
}

impl Findings {
    /// A promise that is a yes or no.
    pub(crate) fn holds(&mut self, name: &str, value: impl ToString, bound: &str, is_so: bool) {
        let outcome = if is_so { Outcome::Pass } else { Outcome::Fail };
        self.add(name, value.to_string(), bound.to_owned(), outcome);
    }

    /// A number with an upper bound.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, bound: f64, unit: &str) {
        let number = |it: f64| if it.fract() == 0.0 { format!("{it}") } else { format!("{it:.2}") };
        let (text, limit) =
            (format!("{}{unit}", number(value)), format!("<= {}{unit}", number(bound)));
        self.holds(name, text, &limit, value <= bound);
    }

    /// A number that must be exactly this.
    pub(crate) fn exactly(&mut self, name: &str, value: u64, wanted: u64) {
        self.holds(name, value, &format!("= {wanted}"), value == wanted);
    }

    /// It cannot be tried.
    pub(crate) fn skip(&mut self, name: &str, reason: impl Into<String>) {
        self.add(name, "-".into(), "-".into(), Outcome::Skip(reason.into()));
    }

    fn add(&mut self, name: &str, value: String, bound: String, outcome: Outcome) {
        let verdict = Verdict { row: self.row, name: name.to_owned(), value, bound, outcome };
        println!("{verdict}");
        self.verdicts.push(verdict);
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = format!("{:02}-{}", self.row, self.name);
        write!(f, "{name:<40} {:>24} {:>24}  ", self.value, self.bound)?;
        match &self.outcome {
            Outcome::Pass => f.write_str("PASS"),
            Outcome::Fail => f.write_str("FAIL"),
            Outcome::Skip(reason) => write!(f, "SKIP {reason}"),
        }
    }
}

type Row = fn(&Bench, &mut Findings) -> Result<()>;

/// The table, in its order.
const ROWS: &[(u8, Row)] = &[
    (1, pure::fuzz),
    (2, pure::splits),
    (3, pure::framing),
    (4, pure::simulation),
    (5, slow::slowloris),
    (6, floods::flood),
    (7, floods::per_address),
    (8, floods::useless),
    (9, slow::resets),
    (10, slow::vanished),
    (11, slow::readers),
    (12, slow::pipelined),
    (13, faults::descriptors),
    (14, faults::ring),
    (15, start::refused),
    (16, pure::corrupt_caches),
    (17, pure::mutations),
    (18, restarts::reload_under_load),
    (19, pure::rekeys),
    (20, restarts::stop),
    (21, restarts::hand_over),
    (22, restarts::killed),
    (23, soak::soak),
    (24, restarts::stopped_and_continued),
    (25, line::slow_line),
    (26, restarts::late_handshakes),
    (27, caches::found),
    (28, packed::packed),
];

/// Runs the rows.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let bench = Bench::new(args.quick, Duration::from_secs(args.minutes * 60))?;
    let start = Instant::now();
    let mut verdicts = Vec::new();
    for &(row, try_it) in ROWS {
        if !args.rows.is_empty() && !args.rows.contains(&row) {
            continue;
        }
        let mut findings = Findings { row, verdicts: Vec::new() };
        if let Err(error) = try_it(&bench, &mut findings) {
            findings.holds("the row itself", error, "it runs", false);
        }
        verdicts.extend(findings.verdicts);
    }
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&verdicts)?)?;
    }
    let count = |wanted: fn(&Outcome) -> bool| {
        verdicts.iter().filter(|verdict| wanted(&verdict.outcome)).count()
    };
    let failed = count(|outcome| *outcome == Outcome::Fail);
    println!(
        "{} promises hold, {failed} do not, {} could not be tried, in {:.0} s after the build",
        count(|outcome| *outcome == Outcome::Pass),
        count(|outcome| matches!(outcome, Outcome::Skip(_))),
        start.elapsed().as_secs_f64(),
    );
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
