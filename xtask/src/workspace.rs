//! The workspace that the chores are for, and its cargo.

use std::path::Path;
use std::process::Command;

/// The directory of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The cargo that runs this program, at work in the workspace on what is locked.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("--locked").current_dir(root());
    cargo
}
