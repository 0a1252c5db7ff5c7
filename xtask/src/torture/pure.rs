//! The rows without a process: `examples/reliability` runs them, and tells in lines.

use super::Findings;
use super::bench::{Bench, output_within};
use crate::compare::Result;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a row may take, its build included.
const TIME_MAX: Duration = Duration::from_secs(600);

/// Runs a row of the example: each line that it prints is `name value bound PASS|FAIL`.
fn run(bench: &Bench, findings: &mut Findings, row: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--locked", "--example", "reliability", "--", row]);
    if bench.quick {
        command.arg("--quick");
    }
    let (is_well, text) = output_within(command.current_dir(root), TIME_MAX)?;
    let mut count = 0;
    for line in text.lines() {
        let mut fields = line.split('\t');
        if let (Some(name), Some(value), Some(bound), Some(verdict), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        {
            findings.holds(name, value, bound, verdict == "PASS");
            count += 1;
        }
    }
    if count == 0 {
        return Err("examples/reliability printed no line".into());
    }
    if !is_well {
        findings.holds("examples/reliability", "it ended badly", "it ends well", false);
    }
    Ok(())
}

macro_rules! rows {
    ($($name:ident = $row:literal, $help:literal;)*) => {
        $(#[doc = $help]
        pub(super) fn $name(bench: &Bench, findings: &mut Findings) -> Result<()> {
            run(bench, findings, $row)
        })*
    };
}

rows! {
    fuzz = "1", "Mutated inputs to each parser.";
    splits = "2", "Any split of a stream equals one big read.";
    framing = "3", "Each length, against a slow model.";
    simulation = "4", "Both sessions over a pipe that does everything to them.";
    corrupt_caches = "16", "Caches that were broken by hand.";
    mutations = "17", "Caches that were broken by chance, against a second reader.";
    rekeys = "19", "Keys that change in the middle of a queue.";
}
