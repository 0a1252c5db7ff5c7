//! `js5d man` and `js5d completions`: made from the same description as `--help`.

use super::text::print;
use crate::cli::{CompletionsArgs, ManArgs};
use crate::failure::{Exit, Failure};
use crate::settings;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

/// Prints js5d(1), or writes the pages of all commands to a directory.
///
/// # Errors
/// They cannot be written.
pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    // A manual has no page of the command that prints help.
    let mut command = settings::command().disable_help_subcommand(true);
    command.build();
    match &args.dir {
        None => print(&page(&command))?,
        Some(dir) => write_pages(&command, dir).map_err(|error| {
            let cause = format!("no manual pages in {}: {error}", dir.display());
            let exit = match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::System,
            };
            Failure::new(exit, cause, "name a directory that can be written")
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_pages(command: &Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for command in std::iter::once(command).chain(command.get_subcommands()) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        fs::write(dir.join(format!("{name}.1")), page(command))?;
    }
    Ok(())
}

/// A manual page. What the help says last stands under NOTES, a paragraph a line.
fn page(command: &Command) -> Vec<u8> {
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut page = Vec::new();
    let mut roff = Roff::new();
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]);
    }
    for line in notes.lines() {
        roff.control("PP", []);
        roff.text([roman(line)]);
    }
    let command = command.clone().after_help(None::<&str>);
    // Memory takes everything.
    drop(Man::new(command).render(&mut page).and_then(|()| roff.to_writer(&mut page)));
    page
}

/// Prints a completion script.
///
/// # Errors
/// It cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut settings::command(), "js5d", &mut script);
    print(&script)?;
    Ok(ExitCode::SUCCESS)
}
