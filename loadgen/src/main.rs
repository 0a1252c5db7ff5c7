//! The load generator's program: `main` hands over to the command that was asked for.

mod assertion;
mod catalogue;
mod cli;
mod command;
mod compare_stats;
mod engine;
mod environment;
mod failure;
mod human;
mod learn;
mod null_server;
mod reference;
mod report;
mod result;
mod ring;
mod scenario;
mod settings;
mod stats;
mod trace;
mod verdict;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match command::run(cli::Cli::parse()) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}
