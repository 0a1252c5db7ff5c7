//! Options of the commands that take caches from one place and form to another, and compare them.

use super::units::{duration, whole};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// The cache, in any form that is read
    #[arg(value_name = "FROM")]
    pub from: PathBuf,

    /// The path to write to; nothing may be there yet
    #[arg(value_name = "TO")]
    pub to: PathBuf,

    /// The form to write
    #[arg(long, value_name = "FORM")]
    pub format: TargetFormat,

    /// Leave out groups that cannot be read, instead of writing nothing
    #[arg(long)]
    pub skip_corrupt: bool,
}

/// Options of `crcs`.
#[derive(Clone, Debug, Args)]
pub struct CrcsArgs {
    /// The cache, in any form that is read
    #[arg(value_name = "CACHE")]
    pub cache: PathBuf,

    /// How to print the checksums
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub format: CrcsFormat,

    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// Options of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The cache that players have, or the HOST:PORT of a running server
    #[arg(value_name = "A")]
    pub a: String,

    /// The cache that they will have next, or the HOST:PORT of a running server
    #[arg(value_name = "B")]
    pub b: String,

    /// Print every group as JSON
    #[arg(long)]
    pub json: bool,

    /// How a server is asked
    #[command(flatten)]
    pub asking: AskingArgs,
}

/// How a server is asked, by the commands that are its client.
#[derive(Clone, Debug, Args)]
pub struct AskingArgs {
    /// Client to connect as: a build (718), a profile (osrs-223), oldschool or nxt
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,

    /// Settings file of the server, whose [profile.NAME] tables --client and --build can then name
    /// [default: the profiles of 'js5d config --profiles']
    #[arg(long, value_name = "FILE")]
    pub profiles: Option<PathBuf>,

    /// Build to announce, if not the client's own; without --client it also sets the client
    #[arg(long, value_name = "BUILD")]
    #[arg(value_parser = whole(0..=u32::MAX))]
    pub build: Option<u32>,

    /// Token to send, for clients from build 718 on
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,

    /// How long a server may send nothing before the connection to it is closed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// Options of `fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// The server
    #[arg(value_name = "HOST:PORT")]
    pub server: String,

    /// The path to write to; nothing may be there yet, unless --update is given
    #[arg(value_name = "TO")]
    pub to: PathBuf,

    /// The form to write
    #[arg(long, value_name = "FORM", default_value = "dat2")]
    pub format: TargetFormat,

    /// Update the mirror that is at that path, and fetch only what has changed since
    #[arg(long)]
    pub update: bool,

    /// How the server is asked
    #[command(flatten)]
    pub asking: AskingArgs,

    /// Maximum number of requests that wait for their answers at once; a game client has 20
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole(1..=500_u16))]
    pub window: u16,

    /// How many connections in a row may end without a group before the command fails
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = whole(1..=1000_u16))]
    pub attempts: u16,

    /// Leave out groups that the server does not have, instead of writing nothing
    #[arg(long)]
    pub skip_missing: bool,
}

/// The forms in which a cache is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetFormat {
    /// A directory with main_file_cache.dat2 and idx files, without gaps
    Dat2,
    /// A directory with ARCHIVE/GROUP.dat
    Flat,
    /// A tar.gz of flat files, as the OpenRS2 archive's flat-file.tar.gz
    #[value(name = "tar.gz")]
    TarGz,
    /// A zip of dat2 and idx files, as the OpenRS2 archive's disk.zip
    Zip,
}

/// How checksums are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CrcsFormat {
    /// One line for each archive
    Text,
    /// Two JSON lists, signed and unsigned
    Json,
    /// Four bytes for each archive, the high byte first
    Ints,
}
