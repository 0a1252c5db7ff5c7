//! The life of the process, top to bottom.

use clap::Parser;
use clap::error::ErrorKind;
use js5d::cli::{Cli, Command};
use js5d::command;
use js5d::failure::{Exit, Failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    abort_on_panic();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        None => command::serve::run(&cli.serve),
        Some(Command::Serve(args)) => command::serve::run(&args),
        Some(Command::Check(args)) => command::check::run(&args),
        Some(Command::DemoCache(args)) => command::demo_cache::run(&args),
        Some(Command::Status(args)) => command::ask::status(&args),
        Some(Command::Reload(args)) => command::ask::reload(&args),
    }
}

/// Help and version are no errors; anything else is exit code 64.
fn usage(error: &clap::Error) -> ExitCode {
    // Nobody is there to read it if this fails.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => Exit::Usage.into(),
    }
}

/// A worker that panics ends the process, in every build profile: no core falls silent.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
