//! Chores of the project: `cargo xtask CHORE`.

mod book;
mod compare;
mod docs;
mod fairness;
mod metrics;
mod release;
mod torture;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    /// Which.
    #[command(subcommand)]
    chore: Chore,
}

/// The chores.
#[derive(Debug, Subcommand)]
enum Chore {
    /// Compare js5d with the bare ring, plain tokio, and servers that run already.
    Compare(compare::Args),
    /// Measure small requests beside downloads that never pause.
    Fairness(fairness::Args),
    /// Run the torture table: what must hold when things go wrong.
    Torture(torture::Args),
    /// Become a program that is killed when its parent ends; torture uses it.
    #[command(hide = true)]
    Guarded {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Become a program that may not set up an io_uring; row 15 of torture uses it.
    #[command(hide = true)]
    WithoutRing {
        /// The program and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Write the documentation and the Grafana board of the metrics.
    Metrics,
    /// Build the artefacts of a release, into target/dist.
    Release(release::Args),
    /// Set the next version everywhere, and move the changelog's unreleased part under it.
    Version(release::VersionArgs),
    /// Write the parts of the documentation that are made from the program.
    Docs,
    /// Make a book of the documentation, with mdBook, into target/book/html.
    Book,
}

fn main() -> ExitCode {
    let Cli { chore } = Cli::parse();
    let done = match chore {
        Chore::Compare(args) => compare::run(&args),
        Chore::Fairness(args) => fairness::run(&args),
        Chore::Torture(args) => torture::run(&args),
        Chore::Guarded { command } => torture::become_guarded(&command),
        Chore::WithoutRing { command } => torture::without_ring(&command),
        Chore::Metrics => metrics::run(),
        Chore::Release(args) => release::run(&args),
        Chore::Version(args) => release::set_version(&args),
        Chore::Docs => docs::run(),
        Chore::Book => book::run(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
