//! Becomes a command that may not set up an io_uring, and nor may what it starts: so the tests of
//! the program are run once more with the other driver.

use std::env::args_os;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use testkit::{Denial, deny_ring};

fn main() -> ExitCode {
    let command: Vec<_> = args_os().skip(1).collect();
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("without-ring COMMAND [ARGUMENT]...");
        return ExitCode::from(64);
    };
    // Only a failure comes back from exec.
    let error = match deny_ring(Denial::NotPermitted) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => io::Error::other(format!("io_uring cannot be denied: {error}")),
    };
    eprintln!("without-ring: {}: {error}", program.display());
    ExitCode::FAILURE
}
