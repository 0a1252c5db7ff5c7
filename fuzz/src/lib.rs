//! The bodies of the fuzz targets: those of the example `reliability`, row 1.
//!
//! They stand there, so that the stable toolchain tests them too (docs/testing.md, "Fuzzing").

#[path = "../../examples/reliability/rows/mod.rs"]
#[allow(dead_code, reason = "the other rows are not run from here; their models are used")]
mod rows;

/// Runs one target with one input. Panics if something is wrong with it.
pub fn run(name: &str, data: &[u8]) {
    let target = rows::fuzz::TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(data);
}
