//! `cargo xtask docs`: writes what the documentation takes from the program.
//!
//! The tests compare what is committed with what this writes (tests/features/settings.rs).

use crate::compare::Result;
use crate::workspace::root;
use js5d::settings;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// Writes the example file, and the table between the marks of docs/settings.md.
pub(crate) fn run() -> Result<ExitCode> {
    let docs = root().join("docs");
    fs::write(docs.join("js5d.example.toml"), settings::example())?;
    replace(&docs.join("settings.md"), "settings", &settings::markdown())?;
    Ok(ExitCode::SUCCESS)
}

/// Replaces what stands between `<!-- NAME: begin … -->` and `<!-- NAME: end -->`.
fn replace(path: &Path, name: &str, body: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let missing = || format!("{} has no marks '{name}'", path.display());
    let begin = text.find(&format!("<!-- {name}: begin")).ok_or_else(missing)?;
    let begin = begin + text[begin..].find('\n').ok_or_else(missing)? + 1;
    let end = text.find(&format!("<!-- {name}: end -->")).ok_or_else(missing)?;
    let (before, after) = (text.get(..begin), text.get(end..));
    let (Some(before), Some(after)) = (before, after) else { return Err(missing().into()) };
    fs::write(path, format!("{before}{body}{after}"))?;
    Ok(())
}
