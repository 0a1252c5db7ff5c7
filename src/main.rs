//! The main function, in the order of the process' steps. An expected failure ends it with a cause
//! and an exit code.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::error::{ContextKind, ContextValue, ErrorKind};
use js5d::cli::Command;
use js5d::command;
use js5d::failure::{Exit, Failure};
use js5d::settings::{self, Fault, Parsed, Resolved};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic();
    let parsed = match settings::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(parsed) => parsed,
        Err(Fault::Usage(error)) => return usage(&error),
        Err(Fault::Setting(failure)) => return failed(&failure, &[]),
    };
    match run(&parsed) {
        Ok(code) => code,
        Err(failure) => failed(&failure, &parsed.settings),
    }
}

fn run(Parsed { cli, settings }: &Parsed) -> Result<ExitCode, Failure> {
    match &cli.command {
        None => command::serve::run(&cli.serve),
        Some(Command::Serve(args)) => command::serve::run(args),
        Some(Command::Check(args)) => command::check::run(args),
        Some(Command::Config(args)) => command::config::run(args, settings),
        Some(Command::DemoCache(args)) => command::demo_cache::run(args),
        Some(Command::Man(args)) => command::generate::man(args),
        Some(Command::Completions(args)) => command::generate::completions(args),
        Some(Command::Convert(args)) => command::convert::run(args),
        Some(Command::Crcs(args)) => command::crcs::run(args),
        Some(Command::Diff(args)) => command::diff::run(args),
        Some(Command::Fetch(args)) => command::fetch::run(args),
        Some(Command::Status(args)) => command::ask::status(args),
        Some(Command::Reload(args)) => command::ask::reload(args),
    }
}

/// Cause and remedy, and where the settings that they name come from.
fn failed(failure: &Failure, settings: &[Resolved]) -> ExitCode {
    eprintln!("{failure}");
    for origin in settings::origins_of(&failure.to_string(), settings) {
        eprintln!("      {origin}");
    }
    failure.exit.into()
}

/// Help and version are no errors; anything else is exit code 64.
fn usage(error: &clap::Error) -> ExitCode {
    // If this fails, there is no reader.
    let _ = error.print();
    if let Some(path) = stray_path(error) {
        eprintln!("\nto name a cache, write --cache {path}");
    }
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => Exit::Usage.into(),
    }
}

/// A path that stands where a command or an option belongs, in a command that takes --cache.
fn stray_path(error: &clap::Error) -> Option<&str> {
    let wrong = match error.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => {
            let command = std::env::args_os().nth(1)?;
            ["serve", "check", "config"].iter().find(|&&name| command == name)?;
            ContextKind::InvalidArg
        }
        _ => return None,
    };
    let Some(ContextValue::String(word)) = error.get(wrong) else { return None };
    Path::new(word).exists().then_some(word)
}

/// A worker that panics ends the process, in every build profile, so that the process never goes on
/// with a worker missing.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
