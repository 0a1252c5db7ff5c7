//! The command line: types only. Every option says what it does in a line, and in `--help` why.

mod load;

pub(crate) use load::{Arrivals, LoadOptions, Scenario, Trick};

use crate::human::{Quantity, Span};
use clap::{Args, Parser, Subcommand};
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
    /// Write the requests, in the order and at the times in which they were written.
    #[arg(long, help_heading = "Results", value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Begin at this Unix time in seconds, on several machines together; or in, as in +5s.
    #[arg(long, value_name = "TIME")]
    pub(crate) start_at: Option<String>,
    /// Start although the limits table says that something is short.
    #[arg(long)]
    pub(crate) ignore_limits: bool,
    /// Which part of a run this process is; set by the process that started it.
    #[arg(long, hide = true, value_name = "I/N")]
    pub(crate) child: Option<String>,
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
    /// What must hold, as in urgent.response.p99<20ms; exit code 4 if it does not.
    #[arg(long = "assert", short = 'a', value_name = "CONDITION")]
    pub(crate) asserts: Vec<String>,
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
    /// Where clients connect.
    #[arg(long, default_value = "127.0.0.1:43595", value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// Bytes of each response on the wire.
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    pub(crate) size: u32,
    /// Pin to this core.
    #[arg(long, value_name = "CORE")]
    pub(crate) pin: Option<u32>,
}
