//! The rows without a process: `examples/reliability` runs them, and tells in lines.

use super::Findings;
use super::bench::{Bench, output_within};
use crate::compare::Result;
use crate::workspace::cargo;
use std::time::Duration;

/// How long a row may take, its build included.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Runs a row of the example: the line that it prints is `name value bound PASS|FAIL`.
fn run(bench: &Bench, findings: &mut Findings, row: &str, quick: &str) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--example", "reliability", "--", row]);
    if bench.quick {
        command.args(["--cases", quick]);
    }
    let (is_well, text) = output_within(&mut command, TIME_MAX)?;
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if let [name, value, bound, verdict] = words[..] {
            // The number stands before each name of the table already.
            let name = name.split_once('-').map_or(name, |(_, name)| name);
            let told = |word: &str| word.replace(['_', ','], " ");
            findings.holds(name, told(value), &told(bound), verdict == "PASS" && is_well);
            return Ok(());
        }
    }
    Err("examples/reliability printed no line".into())
}

macro_rules! rows {
    ($($name:ident = $row:literal, $quick:literal, $help:literal;)*) => {
        $(#[doc = $help]
        pub(super) fn $name(bench: &Bench, findings: &mut Findings) -> Result<()> {
            run(bench, findings, $row, $quick)
        })*
    };
}

rows! {
    fuzz = "1", "200000", "Mutated inputs to each parser.";
    splits = "2", "5000", "Any split of a stream equals one big read.";
    framing = "3", "5000", "Each length, against a slow model.";
    simulation = "4", "20000", "Both sessions over a pipe that does everything to them.";
    corrupt_caches = "16", "1", "Caches that were broken by hand.";
    mutations = "17", "5000", "Caches that were broken by chance, against a second reader.";
    found_caches = "27", "400", "Caches as people have them, against what was put into them.";
    rekeys = "19", "20000", "Keys that change in the middle of a queue.";
}
