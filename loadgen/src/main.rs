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
    std::panic::set_hook(Box::new(report_defect));
    match command::run(cli::Cli::parse()) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit.code())
        }
    }
}

/// A panic, in whichever thread, is a defect of this program: it is named and ends it.
#[allow(clippy::disallowed_methods, reason = "in main.rs, and a panic has no way to return")]
fn report_defect(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    eprintln!("js5-loadgen: a defect of this program, please report it: {panic}\n{backtrace}");
    std::process::exit(i32::from(verdict::Exit::Bug.code()));
}
