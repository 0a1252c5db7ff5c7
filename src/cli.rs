//! The command line: clap types, and nothing else. What they mean together is `config.rs`.
//!
//! Every option of `serve` is a setting: `settings/` finds it here and gives it a key in the
//! settings file, a variable, and its place in the documentation.

mod admin;
mod caches;
mod clients;
mod egress;
mod front;
mod restart;
mod tools;
pub mod units;

pub use admin::AdminArgs;
pub use caches::{
    AskingArgs, ConvertArgs, CrcsArgs, CrcsFormat, DiffArgs, FetchArgs, TargetFormat,
};
pub use clients::{BuildArg, ClientArgs, LIKE, PROFILE_KEY, PrefetchBit, ProfileArg, TokenArg};
pub use egress::{EgressArgs, Rate};
pub use front::{GameArgs, ProxyArgs, RealtimeArg};
pub use restart::{InheritedFd, RestartArgs, Role, SandboxArg};
pub use tools::{CompletionsArgs, ConfigArgs, ManArgs};

use crate::admin::Address;
use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use units::{at_least, duration, size, whole};

/// Serves a game cache over JS5.
#[derive(Debug, Parser)]
#[command(
    name = "js5d",
    version,
    about = "Serves a game cache over JS5, by io_uring or epoll",
    after_help = "Without a command, js5d serves. Without --cache, it serves a demo cache.\n\
                  Each option of serve can also stand in the file that --config names \
                  (idle_timeout = \"60s\"), or in the environment (JS5D_IDLE_TIMEOUT=60s). An \
                  option beats a variable, and a variable beats the file; 'js5d config' shows each \
                  value and where it comes from.\n\
                  Exit codes: 0 done; 64 wrong usage; 65 corrupt cache; 66 no cache there; \
                  69 no io_uring for --driver ring; 71 the system refuses; 77 no permission; \
                  78 wrong setting; 130 and 143 ended by a second SIGINT or SIGTERM.",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; serve if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`, which needs no name.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a cache (the default command)
    Serve(Box<ServeArgs>),
    /// Read a whole cache, and report what is wrong with it and how much memory the settings may
    /// take at worst; exit 65 if the cache is corrupt, 78 if the memory is more than allowed
    Check(Box<CheckArgs>),
    /// Print every setting with the place that its value comes from; exit 78 if one is wrong
    Config(Box<ConfigArgs>),
    /// Write a demo cache to a directory
    DemoCache(DemoCacheArgs),
    /// Mirror the cache of a running server
    Fetch(FetchArgs),
    /// Write a cache in another form; the bytes of its groups stay the same
    Convert(ConvertArgs),
    /// Print the checksums that a game server compares at login
    Crcs(CrcsArgs),
    /// List what differs between two caches, and how much a player has to download
    Diff(DiffArgs),
    /// Print the state of a running server
    Status(StatusArgs),
    /// Tell a running server to load its cache again; exit 65 if it keeps the old one
    Reload(ReloadArgs),
    /// Print the manual page, or write one for each command
    Man(ManArgs),
    /// Print a script that completes commands and options in a shell
    Completions(CompletionsArgs),
}

/// Options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// TOML file with settings; a variable beats it, and an option beats both [default: no file
    /// is read]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The cache: a directory with main_file_cache.dat2 and idx files, or ARCHIVE/GROUP.dat, or a
    /// zip, tar or tar.gz of either [default: a demo cache, made up in memory]
    #[arg(long, value_name = "PATH")]
    pub cache: Option<PathBuf>,

    /// Serve the sound groups of a corrupt cache, instead of refusing to start
    #[arg(long)]
    pub skip_corrupt: bool,

    /// Address to listen on; several may be given. An IPv6 address takes IPv6 connections only
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:43594")]
    #[arg(default_value_if("listen_proxy", ArgPredicate::IsPresent, None))]
    #[arg(value_parser = address)]
    pub listen: Vec<SocketAddr>,

    /// How the server sends and receives: ring is io_uring; epoll is for hosts that deny io_uring;
    /// auto uses the ring where it is allowed, else epoll, and logs the reason
    #[arg(long, value_name = "auto|ring|epoll", default_value = "auto")]
    pub driver: DriverArg,

    /// Worker threads, each with its own ring or epoll set [default: the number of cores that this
    /// process may use]
    #[arg(long, value_name = "N", value_parser = whole(1..=1024_u16))]
    pub workers: Option<u16>,

    /// Bind each worker to a core of its own; there must be at least as many cores as workers
    #[arg(long)]
    pub pin_workers: bool,

    /// What to do about a request for a group that the cache does not hold
    #[arg(long, value_name = "WHAT", default_value = "ignore")]
    pub missing_group: MissingGroup,

    /// Whether to break off a prefetch response that has begun, so that an urgent one goes first.
    /// It is done only where the wait that it saves is worth the bytes that are sent again
    #[arg(long, value_name = "auto|off", default_value = "auto")]
    pub break_off: BreakOff,

    /// Whom to serve.
    #[command(flatten)]
    pub clients: ClientArgs,

    /// Bounds and deadlines.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// Listeners behind a balancer.
    #[command(flatten)]
    pub proxy: ProxyArgs,

    /// The game server on the same port.
    #[command(flatten)]
    pub game: GameArgs,

    /// Sharing the line.
    #[command(flatten)]
    pub egress: EgressArgs,

    /// The admin address.
    #[command(flatten)]
    pub admin: AdminArgs,

    /// Restart without loss, and the sandbox.
    #[command(flatten)]
    pub restart: RestartArgs,

    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Bounds and deadlines of connections.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Maximum number of peers that are served at once; further ones are refused with status 7,
    /// full. The server lowers this number to what the limit of file descriptors allows
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = at_least::<0>)]
    pub connections_max: usize,

    /// Maximum number of peers that are served at once from one IPv4 address or IPv6 /64; further
    /// ones are refused with status 9 [default: no limit]
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub connections_per_ip_max: Option<usize>,

    /// Maximum number of connections from one IPv4 address or IPv6 /64 that are open and have sent
    /// nothing yet; further ones are refused immediately, with status 9. If it is not given: 256
    /// with --game-server or --listen-proxy, else no limit
    #[arg(long, value_name = "N", value_parser = at_least::<1>)]
    pub openings_per_ip_max: Option<usize>,

    /// Maximum number of refused peers whose connections have not ended yet; while there are that
    /// many, no connection is accepted
    #[arg(long, value_name = "N", default_value_t = 900, value_parser = at_least::<1>)]
    pub refusals_max: usize,

    /// Maximum number of requests of each class (urgent, prefetch) that wait on one connection;
    /// while that many wait, the server reads nothing more from that peer
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = at_least::<20>)]
    pub queue_len_max: usize,

    /// How many messages that ask for nothing (rekeys, state changes, parts of a message) a peer
    /// may send each second; 20 seconds' worth of them may come at once. The connection of a peer
    /// that sends more is closed
    #[arg(long, value_name = "N", default_value_t = 100)]
    #[arg(value_parser = whole(1..=3000_u32))]
    pub chatter_max: u32,

    /// Maximum number of connections that wait to be accepted, for each worker and address; the
    /// kernel caps it at net.core.somaxconn
    #[arg(long, value_name = "N", default_value_t = 4096)]
    #[arg(value_parser = whole(1..=i32::MAX))]
    pub backlog: i32,

    /// How long a peer may take from accept to a complete handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub handshake_timeout: Duration,

    /// How long a peer may send no byte while nothing is on its way to it; the real client is
    /// quiet for up to 30 s between requests
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub idle_timeout: Duration,

    /// How long a peer may read nothing of what it is sent; a peer that reads anything in this time
    /// is not cut
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub send_timeout: Duration,

    /// How long a peer may take to read a refusal, or its last responses, before its socket is
    /// closed
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub linger_timeout: Duration,

    /// How long after a reload quiet connections are closed that still use an earlier generation
    /// of the cache, so that their clients connect again and get the current one; busy connections
    /// are closed after twice this time. 'never' closes none
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub generation_timeout: OrNever,

    /// Maximum number of generations (loaded caches) in memory at once, the one being loaded
    /// included; a reload that would exceed it is refused
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least::<2>)]
    pub generations_max: usize,

    /// Maximum memory for all generations together, such as 500MB or 2GiB; a reload that would
    /// exceed it is refused [default: three quarters of what the machine or container has]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub generations_memory_max: Option<u64>,

    /// Maximum memory that these settings may take in the worst case, by the sum that 'js5d check'
    /// prints; if the sum is larger, the server does not start [default: no limit; in a
    /// container, 'js5d check' uses the container's limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub memory_max: Option<u64>,

    /// How long requests that have arrived are still answered after SIGTERM or SIGINT; then the
    /// process ends
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
}

/// How to log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log (on stderr)")]
pub struct LogArgs {
    /// How a line looks
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or a filter such as 'js5d::net=debug'
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = log_filter)]
    pub log_level: String,
}

/// Options of `check`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("cache", |arg| arg.required(true).help("The cache to check")))]
pub struct CheckArgs {
    /// Print the report as JSON
    #[arg(long, help_heading = "What to print")]
    pub json: bool,

    /// The options of `serve`, for what memory they may come to.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Options of `demo-cache`.
#[derive(Clone, Debug, Args)]
pub struct DemoCacheArgs {
    /// Where to write the cache; a directory that does not exist is made
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// How many groups, with archive indexes and without the master index; 71273 is the size of
    /// a build 550 cache, 75 MB
    #[arg(long, value_name = "N", default_value_t = crate::catalog::DEMO_GROUPS)]
    #[arg(value_parser = at_least::<0>)]
    pub groups: usize,

    /// Which demo cache: the same seed writes the same bytes
    #[arg(long, value_name = "SEED", default_value_t = crate::catalog::DEMO_SEED)]
    #[arg(value_parser = whole(0..=u64::MAX))]
    pub seed: u64,

    /// How to store the cache
    #[arg(long, value_name = "FORMAT", default_value = "dat2")]
    pub format: StoreFormat,
}

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// The admin address of the server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9550")]
    pub admin: Address,

    /// Print all that the server publishes, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// The admin address of the server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9550")]
    pub admin: Address,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is done.
    #[value(help = None::<&str>)]
    On,
    /// It is not done.
    #[value(help = None::<&str>)]
    Off,
}

/// Whether responses are broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BreakOff {
    /// For clients that accept it.
    Auto,
    /// Never.
    Off,
}

/// The way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DriverArg {
    /// The ring where it is allowed, else epoll.
    Auto,
    /// The ring, or the server does not start.
    Ring,
    /// Epoll, even where the ring is allowed.
    Epoll,
}

/// What to do about a request for a group that the cache does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MissingGroup {
    /// Send no answer
    Ignore,
    /// Close the connection
    Close,
}

/// A time, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrNever(pub Option<Duration>);

impl std::str::FromStr for OrNever {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        duration(text).map(Some).map(Self).map_err(|error| format!("{error}, or 'never'"))
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object on each line
    Json,
}

/// How a demo cache is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoreFormat {
    /// main_file_cache.dat2 and idx files
    Dat2,
    /// ARCHIVE/GROUP.dat
    Flat,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let how = "write it as 0.0.0.0:43594 or [::]:43594; names are not looked up";
    text.parse().map_err(|_| format!("an address with its port is wanted; {how}"))
}

fn log_filter(text: &str) -> Result<String, String> {
    let how = "use error, warn, info, debug, trace, or a filter such as 'js5d::net=debug'";
    // A word alone would be taken for a program's part, and a misspelt level for one of those.
    let is_level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let is_misspelt = |word: &&str| !word.contains(['=', ':', '[']) && !is_level(word);
    if let Some(word) = text.split(',').find(is_misspelt) {
        return Err(format!("'{word}' is no level; {how}"));
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; {how}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_never() {
        let cases = [("never", Some(None)), ("10m", Some(Some(600))), ("0", None), ("soon", None)];
        for (text, seconds) in cases {
            let expected = seconds.map(|seconds| OrNever(seconds.map(Duration::from_secs)));
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
