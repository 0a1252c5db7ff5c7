//! The rows of the table of what must hold (docs/testing.md) that need no process: pure code
//! against slow models, and against itself under another division of its input.
//!
//! ```text
//! cargo run --release --example reliability -- ROW [--cases N] [--seed S] [--quick]
//! ```
//!
//! It prints a line a promise, `name<TAB>value<TAB>bound<TAB>PASS|FAIL`, and ends with 1 if one
//! fails. A failure names the seed; the same row with `--seed S --cases 1` plays it again.
#![allow(missing_docs, unreachable_pub, reason = "a program has no interface")]

mod framing;
mod mutate;
mod pipe;
mod rekeys;
mod splits;

use clap::Parser;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

/// The case that runs, for whoever reports its failure.
static SEED: AtomicU64 = AtomicU64::new(0);

#[derive(Parser)]
struct Args {
    /// Which row: 1, 2, 3, 4 or 19
    row: u8,
    /// How many cases
    #[arg(long)]
    cases: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A hundredth of the cases
    #[arg(long)]
    quick: bool,
}

/// What is tried, how often, and from which seed on.
pub struct Trial {
    row: u8,
    cases: Option<u64>,
    pub seed: u64,
    quick: bool,
    failed: bool,
}

impl Trial {
    /// How many cases, of so many in the table.
    pub fn cases(&self, whole: u64) -> u64 {
        self.cases.unwrap_or(if self.quick { whole.div_ceil(100) } else { whole })
    }

    /// Runs `case` with as many seeds. The first that panics is named, and ends the program, as
    /// panics do in the program that is built like this one.
    pub fn each_seed(&mut self, name: &str, whole: u64, case: impl Fn(u64)) {
        let cases = self.cases(whole);
        let again = format!("reliability {} --seed", self.row);
        let report = std::panic::take_hook();
        let told = name.to_owned();
        std::panic::set_hook(Box::new(move |panic| {
            let seed = SEED.load(Ordering::Relaxed);
            println!("{told}\tseed {seed} fails\t{whole} cases\tFAIL");
            eprintln!("again: {again} {seed} --cases 1");
            report(panic);
        }));
        for seed in self.seed..self.seed + cases {
            SEED.store(seed, Ordering::Relaxed);
            case(seed);
        }
        drop(std::panic::take_hook());
        self.tell(name, &format!("{cases} cases"), &format!("{whole} cases"), true);
    }

    pub fn tell(&mut self, name: &str, value: &str, bound: &str, is_so: bool) {
        println!("{name}\t{value}\t{bound}\t{}", if is_so { "PASS" } else { "FAIL" });
        self.failed |= !is_so;
    }
}

fn main() -> ExitCode {
    let Args { row, cases, seed, quick } = Args::parse();
    let mut trial = Trial { row, cases, seed, quick, failed: false };
    match row {
        1 => mutate::run(&mut trial),
        2 => splits::run(&mut trial),
        3 => framing::run(&mut trial),
        4 => pipe::run(&mut trial),
        19 => rekeys::run(&mut trial),
        other => {
            eprintln!("there is no row {other} here; 1, 2, 3, 4 and 19 are");
            return ExitCode::from(64);
        }
    }
    if trial.failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
