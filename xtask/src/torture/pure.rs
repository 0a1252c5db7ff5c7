//! The rows without a process: `examples/reliability` runs them, and tells in lines.

use super::Findings;
use super::bench::Bench;
use crate::compare::Result;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs a row of the example: each line that it prints is `name value bound PASS|FAIL`.
fn run(bench: &Bench, findings: &mut Findings, row: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--locked", "--example", "reliability", "--", row]);
    if bench.quick {
        command.arg("--quick");
    }
    let output =
        command.current_dir(root).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
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
        return Err(format!("examples/reliability printed no line, and {}", output.status).into());
    }
    Ok(())
}

/// Runs unit tests by parts of their names, with a variable set.
fn unit(findings: &mut Findings, promise: &str, names: &[&str], set: (&str, &str)) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--release", "--locked", "--package", "js5d", "--lib", "--"]).args(names);
    command.env(set.0, set.1).current_dir(root).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let count = text.lines().filter(|line| line.ends_with(" ... ok")).count();
    let is_so = output.status.success() && count > 0;
    findings.holds(promise, format!("{count} tests passed"), "all", is_so);
    Ok(())
}

/// Caches that were broken by hand: each test has several, and each message names the place.
pub(super) fn corrupt_caches(_: &Bench, findings: &mut Findings) -> Result<()> {
    let names = ["cache::tests::broken", "catalog::load::tests"];
    unit(findings, "caches broken by hand", &names, ("JS5D_MUTATIONS", "3000"))
}

/// Caches that were broken by chance, against a second reader.
pub(super) fn mutations(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let count = bench.sized(100_000, 3000).to_string();
    let promise = format!("{count} caches broken by chance");
    unit(findings, &promise, &["a_store_broken_at_random"], ("JS5D_MUTATIONS", &count))
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
    rekeys = "19", "Keys that change in the middle of a queue.";
}
