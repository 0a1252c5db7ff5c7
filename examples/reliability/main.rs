//! The rows of docs/testing.md that need no process and no socket.
//!
//! `cargo run --release --example reliability -- [ROW…] [--cases N] [--seed S]` runs the rows
//! that are named by their numbers, or all. For each it prints one line of four words,
//! `name value bound PASS|FAIL`, to standard output and nothing else; it ends with 1 if a row
//! failed, with 2 if it was called wrongly. `name` begins with the row's number in two digits:
//! `02-splits`. `value` says what was done and how much of it was wrong, `bound` what is asked
//! for; `--cases` changes that. `cargo xtask torture` reads these lines.
//!
//! A failure is printed on standard error, with the command that repeats it: the seed of a case is
//! the row's seed plus the number of the case.

mod rows;

use clap::Parser;
use rows::{ROWS, Row};
use std::process::ExitCode;

/// Reliability rows that need no process and no socket.
#[derive(Debug, Parser)]
#[command(name = "reliability")]
struct Cli {
    /// The rows' numbers; all by default.
    rows: Vec<u8>,
    /// How many cases, instead of the row's own number.
    #[arg(long, value_name = "N")]
    cases: Option<u64>,
    /// The seed of the first case.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(unknown) = cli.rows.iter().find(|number| rows::find(**number).is_none()) {
        let known: Vec<_> = ROWS.iter().map(|row| row.number.to_string()).collect();
        eprintln!("error: row {unknown} is not one of {}", known.join(", "));
        return ExitCode::from(2);
    }
    rows::tell_of_panics();
    let is_wanted = |row: &&Row| cli.rows.is_empty() || cli.rows.contains(&row.number);
    let mut failed = false;
    for row in ROWS.iter().filter(is_wanted) {
        failed |= !report(row, cli.cases, cli.seed);
    }
    ExitCode::from(u8::from(failed))
}

/// Runs a row and prints its line. True if it passed.
fn report(row: &Row, cases: Option<u64>, seed: u64) -> bool {
    let wanted = row.wanted(cases);
    let outcome = rows::run(row, wanted, seed);
    let passed = outcome.failure.is_none() && outcome.done >= wanted;
    if let Some((seed, what)) = &outcome.failure {
        eprintln!("{}, seed {seed}: {what}", row.name);
        eprintln!("again: {}", rows::again(row, *seed));
    }
    let wrong = u8::from(outcome.failure.is_some());
    let verdict = if passed { "PASS" } else { "FAIL" };
    let (name, unit) = (row.name, row.unit);
    println!("{name} {}_{unit},{wrong}_wrong {wanted}_{unit},0_wrong {verdict}", outcome.done);
    passed
}
