//! Options of the commands around the server: settings shown, man pages, completions.

use super::ServeArgs;
use clap::Args;
use std::path::PathBuf;

/// Options of `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Print the settings as JSON
    #[arg(long, help_heading = "What to print", conflicts_with_all = ["check", "example"])]
    pub json: bool,

    /// Print no settings, but check them, alone, together and for this machine; exit with 0 if they
    /// are right, else print what is wrong and exit with 78
    #[arg(long, help_heading = "What to print", conflicts_with = "example")]
    pub check: bool,

    /// Print a commented file with every setting and its default
    #[arg(long, help_heading = "What to print")]
    pub example: bool,

    /// Print all profiles, those of the settings included, as tables of the settings file; a
    /// comment says which of them are served
    #[arg(long, help_heading = "What to print", conflicts_with_all = ["json", "check", "example"])]
    pub profiles: bool,

    /// The options of `serve`, to see what they would change.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Options of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Directory to write a page for each command to; without it, js5d(1) is printed
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Options of `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to write the script for
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
