//! The load generator's program: `main` runs the command that was asked for.

mod assertion;
mod catalogue;
mod changes;
mod cli;
mod command;
mod comparison;
mod engine;
mod failure;
mod human;
mod judgement;
mod learn;
mod machine;
mod null_server;
mod reference;
mod report;
mod result;
mod scenario;
mod settings;
mod speech;
mod stats;
mod trace;
mod units;
mod verdict;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    end_with_1_on_a_defect();
    match command::run(cli::Cli::parse()) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

/// A panic in any thread ends the process with the exit code for a defect, so that a script does
/// not take half a run for a result.
#[expect(clippy::disallowed_methods, reason = "a panic hook has no other way to set the exit code")]
fn end_with_1_on_a_defect() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(i32::from(failure::Exit::Bug.code()));
    }));
}
