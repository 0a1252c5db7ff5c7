//! The commands, one file each; `measure` is what they share.

mod measure;
mod null_server;
mod output;
mod run;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::verdict::Exit;

/// Does what the command line says.
///
/// # Errors
/// A command that ended without a result.
pub(crate) fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::NullServer(args)) => null_server::run(&args),
        Some(_) => Err(Failure::usage("not there yet", "Wait.")),
    }
}
