//! The commands, one file each; `measure` is what they share.

mod baseline;
mod ceiling;
mod compare;
mod find_max;
mod measure;
mod merge;
mod null_server;
mod options;
mod output;
mod processes;
mod record;
mod replay;
mod run;
mod self_test;

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};

/// Does what the command line says.
///
/// # Errors
/// A command that ended without a result.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Compare(args)) => compare::compare(&args),
        Some(Command::FindMax(args)) => find_max::find_max(&args),
        Some(Command::SelfTest(args)) => self_test::self_test(args),
        Some(Command::Record(args)) => record::record(&args),
        Some(Command::Replay(args)) => replay::replay(&args),
        Some(Command::Merge(args)) => merge::merge(&args),
        Some(Command::NullServer(args)) => null_server::run(&args),
    }
}
