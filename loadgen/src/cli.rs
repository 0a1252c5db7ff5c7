//! The command line: types only. Every option says what it does in a line, and in `--help` why.
//!
//! The options that describe a load ([`LoadOptions`]) are at the same time the keys of a
//! scenario file: there is one list of them, and this is it.

use crate::human::{Quantity, Ramp, Span};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Measures any JS5 server, and checks every byte.
///
/// Without a command it runs a short closed-loop download against 127.0.0.1:43594.
#[derive(Debug, Parser)]
#[command(name = "js5-loadgen", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The run without a command.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a load on a server and report what it did.
    Run(Box<RunArgs>),
    /// Compare two servers in one run, in balanced alternating intervals.
    Compare(Box<CompareArgs>),
    /// Find the highest rate that holds the assertions.
    FindMax(Box<FindMaxArgs>),
    /// Show that the generator tells the truth on this machine.
    SelfTest(SelfTestArgs),
    /// Record what clients ask of a server, as a proxy between them.
    Record(RecordArgs),
    /// Replay a recorded trace, with its times.
    Replay(Box<ReplayArgs>),
    /// Add result files of several machines into one.
    Merge(MergeArgs),
    /// Serve fixed groups as fast as possible: the server that self-test measures against.
    NullServer(NullServerArgs),
}

/// `run`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Read the load from a scenario file.
    ///
    /// The keys are the long names of the options; options on the command line win.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print the resulting scenario file and do nothing else.
    #[arg(long)]
    pub(crate) print_scenario: bool,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// Where results go.
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    /// Which part of a run this process is; set by the process that started it.
    #[arg(long, hide = true, value_name = "I/N")]
    pub(crate) child: Option<String>,
}

/// What describes a load: options, and keys of a scenario file.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadOptions {
    /// The server [default: 127.0.0.1:43594].
    #[arg(value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
    /// What the clients do [default: download].
    #[arg(long, short = 's', value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) scenario: Option<Scenario>,
    /// Several scenarios by weight, as in play=8,churn=2.
    #[arg(long, value_name = "NAME=WEIGHT,..", conflicts_with = "scenario")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mix: Option<String>,
    /// How many clients, or a ramp of them: 64, 10..1000.
    ///
    /// A ramp opens the first number at the start and the rest evenly over --ramp.
    #[arg(long, short = 'c', value_name = "N|A..B")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<Ramp>,
    /// Requests a second, together; without it the loop is closed.
    ///
    /// An open loop asks at its times, whether or not the server keeps up; latency counts from
    /// the time at which a request should have been sent. In login-storm a request is a login.
    #[arg(long, short = 'r', value_name = "N|A..B")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<Ramp>,
    /// How the requests of an open loop are spaced [default: even].
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) arrivals: Option<Arrivals>,
    /// How long the ramps of --rate and --connections take [default: the whole run].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ramp: Option<Span>,
    /// How long to measure [default: 10s, if nothing else ends the run].
    #[arg(long, short = 'd', value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duration: Option<Span>,
    /// End after this many requests, together.
    #[arg(long, short = 'n', value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<Quantity>,
    /// End when each client has downloaded everything this many times.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) downloads: Option<u32>,
    /// Leave the first part of the run out of the measurement [default: 0s].
    #[arg(long, short = 'w', value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warmup: Option<Span>,
    /// Urgent requests that a client keeps in flight [default: 20, as the real client].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) urgent: Option<u32>,
    /// Prefetch requests that a client keeps in flight [default: 20, as the real client].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch: Option<u32>,
    /// Keys: none, a number for all, random (one a connection), changing (in mid-stream).
    #[arg(long, value_name = "none|1..255|random|changing")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Same seed, same groups in the same order [default: 1].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
    /// The client build to announce [default: 550].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) build: Option<u32>,
    /// The server sends no prefetch bit (old-school revisions): match by group alone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_prefetch_bit: Option<bool>,
    /// Wait between the status and the first request, for servers that lose what follows at once.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) settle: Option<Span>,
    /// No byte for so long with requests in flight is a stall [default: 5s].
    ///
    /// A stalled connection is named in the report and given up; the run ends with exit code 3.
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stall_timeout: Option<Span>,
    /// Open a client's connection again after a refusal, a cut or a failure [default: never].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<Span>,
    /// Connections opened a second at most [default: as fast as it goes].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_rate: Option<Quantity>,
    /// Check the CRC of one response in N against the archive index; 0 is never [default: 100].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crc_every: Option<u32>,
    /// Compare every byte with this cache.
    ///
    /// A dat2 cache or flat files, as the server itself would load it; the word demo is the demo
    /// cache that js5d serves without --cache.
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache: Option<PathBuf>,
    /// Ask for these groups, not for what the server's indexes list: 0/0..4095,2/7.
    #[arg(long, value_name = "LIST")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<String>,
    /// Worker threads, each with its own ring [default: half of the cores].
    #[arg(long, short = 't', value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) threads: Option<u32>,
    /// Pin the workers to these cores: 1 or 1,3.
    #[arg(long, value_name = "CORES", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pin: Option<Vec<u32>>,
    /// Spread the load over this many processes, where descriptors run out [default: 1].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) processes: Option<u32>,
    /// Source addresses [default: for loopback as many of 127.x.y.z as needed].
    #[arg(long, value_name = "ADDR,..", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sources: Option<Vec<std::net::IpAddr>>,
    /// play: mean time between bursts [default: 2s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) think: Option<Span>,
    /// play: urgent requests in a burst, at most [default: 8].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<u32>,
    /// play: mean time between prefetch requests [default: 100ms].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefetch_gap: Option<Span>,
    /// play, churn, priority: Zipf exponent of the groups' popularity [default: 1.0].
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zipf: Option<f64>,
    /// update-day: which part of the groups has changed [default: 0.05].
    #[arg(long, value_name = "0..1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<f64>,
    /// slow: bytes that each client reads in a second [default: 7000].
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_rate: Option<Quantity>,
    /// churn: requests before a client goes [default: 10].
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) churn_requests: Option<u32>,
    /// idle: ask for the master index this often, as proof of life [default: 25s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keepalive: Option<Span>,
    /// hostile: only these tricks [default: all of them].
    #[arg(long, value_enum, value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tricks: Option<Vec<Trick>>,
    /// hostile: how long a trick is held [default: 5s].
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Span>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Fetch a whole cache as fast as the windows allow, again and again.
    Download,
    /// Think times, small urgent bursts, prefetch in the background, some groups popular.
    Play,
    /// Connect, handshake, fetch the master index, go, come back.
    LoginStorm,
    /// All connect at once and fetch what changed.
    UpdateDay,
    /// Hold connections, with a proof of life now and then.
    Idle,
    /// Connect, ask for a little, disconnect, come back.
    Churn,
    /// Download, reading few bytes a second.
    Slow,
    /// Urgent latency with a full prefetch window against an empty one, as a ratio.
    Priority,
    /// Slowloris, over-window, unknown opcodes and groups, resets, and more of the kind.
    Hostile,
}

/// How the requests of an open loop are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// One every 1/rate.
    Even,
    /// Independent of each other, as players are.
    Poisson,
}

/// What a hostile client tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trick {
    /// Connects and sends nothing.
    Silent,
    /// Sends the first byte of the handshake only.
    OneByte,
    /// Sends the handshake a byte a second.
    Drip,
    /// Sends half of a request and waits.
    HalfRequest,
    /// Pipelines 100,000 requests and reads nothing.
    OverWindow,
    /// Sends an opcode that does not exist.
    UnknownOpcode,
    /// Opens with another service's opcode.
    NotJs5,
    /// Asks for groups that no index lists.
    UnknownGroup,
    /// Resets the connection after a random number of bytes of a response.
    Reset,
    /// Asks, ends its side, and reads what is owed.
    HalfClose,
    /// Ten thousand rekeys and state changes in a row.
    Useless,
    /// Sends its requests in segments of one byte.
    OneByteSegments,
}

/// Where results go.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct OutputOptions {
    /// Write the result as JSON; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the histograms of each interval as an HdrHistogram log, with a tag a class.
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write PREFIX-CLASS.hgrm files, the percentile spectrum of each class.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write a self-contained page with plots.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the requests, in the order and at the times in which they were written.
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// What must hold, as in urgent.response.p99<20ms; exit code 4 if it does not.
    #[arg(long = "assert", short = 'a', value_name = "CONDITION")]
    pub(crate) asserts: Vec<String>,
    /// Begin at this Unix time in seconds, on several machines together; or in, as in +5s.
    #[arg(long, value_name = "TIME")]
    pub(crate) start_at: Option<String>,
    /// Start although the limits table says that something is short.
    #[arg(long)]
    pub(crate) ignore_limits: bool,
    /// No live line and no tables; files and exit code only.
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// The one server.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) a: String,
    /// The other; left out, A is compared with itself, which gives the noise floor.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) b: Option<String>,
    /// Process of A: its CPU time a request is reported.
    #[arg(long, value_name = "PID")]
    pub(crate) pid_a: Option<u32>,
    /// Process of B.
    #[arg(long, value_name = "PID")]
    pub(crate) pid_b: Option<u32>,
    /// How many pairs of intervals [default: 10].
    #[arg(long, default_value_t = 10, value_name = "N", hide_default_value = true)]
    pub(crate) rounds: u32,
    /// How long an interval is [default: 1s].
    #[arg(long, default_value = "1s", value_name = "TIME", hide_default_value = true)]
    pub(crate) interval: Span,
    /// The load.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `find-max`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FindMaxArgs {
    /// Where to begin [default: 1000].
    #[arg(long, default_value = "1000", value_name = "N", hide_default_value = true)]
    pub(crate) rate_min: Quantity,
    /// Where to end [default: 1M].
    #[arg(long, default_value = "1M", value_name = "N", hide_default_value = true)]
    pub(crate) rate_max: Quantity,
    /// How long each step is [default: 5s].
    #[arg(long, default_value = "5s", value_name = "TIME", hide_default_value = true)]
    pub(crate) step: Span,
    /// Steps of the first pass, shuffled [default: 6].
    #[arg(long, default_value_t = 6, value_name = "N", hide_default_value = true)]
    pub(crate) steps: u32,
    /// Stop when the bounds are this close [default: 0.05].
    #[arg(long, default_value_t = 0.05, value_name = "PART", hide_default_value = true)]
    pub(crate) precision: f64,
    /// The load; --assert says what must hold.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `self-test`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SelfTestArgs {
    /// Only the stall test, with shorter times: for continuous integration.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// `record`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecordArgs {
    /// Where clients connect.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// The server behind.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: String,
    /// Stop after this time [default: when interrupted].
    #[arg(long, short = 'd', value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// The trace.
    pub(crate) trace: PathBuf,
}

/// `replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The trace.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// How many times as fast as it was recorded [default: 1].
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR", hide_default_value = true)]
    pub(crate) speed: f64,
    /// The load; the trace decides on clients, requests and times.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `merge`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MergeArgs {
    /// Result files, as --json writes them.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Where the sum goes.
    #[command(flatten)]
    pub(crate) output: OutputOptions,
}

/// `null-server`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NullServerArgs {
    /// Where clients connect [default: 127.0.0.1:43595].
    #[arg(long, default_value = "127.0.0.1:43595", value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// Bytes of each response on the wire.
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    pub(crate) size: u32,
    /// Pin to this core.
    #[arg(long, value_name = "CORE")]
    pub(crate) pin: Option<u32>,
}
