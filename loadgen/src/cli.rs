//! The command line: types only. Every option says what it does in a line, and in `--help` why.

mod load;

pub(crate) use load::LoadOptions;

use crate::human::{Quantity, Span};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::str::FromStr;

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
    /// Compare with an earlier result of this machine, as --json wrote it.
    #[arg(long, help_heading = "Results", value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
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
    /// A server; as many as there are to compare. One alone is compared with itself, which gives
    /// the noise floor.
    ///
    /// With its process id its CPU time a response is shown. urgent-only is for servers that ignore
    /// the prefetch bit: they get the same number in flight, all urgent. settle=500ms is for those
    /// that lose what follows the status at once. urgent=N, prefetch=N, key=KEY and client=NAME
    /// give this side another load than the others: one server can be two sides.
    #[arg(
        long,
        value_name = "NAME=HOST:PORT[,pid=N][,urgent-only][,settle=TIME][,urgent=N][,prefetch=N]\
                      [,key=KEY][,client=NAME]",
        required_unless_present = "a"
    )]
    pub(crate) server: Vec<SideArg>,
    /// Short for --server A=HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "server")]
    pub(crate) a: Option<String>,
    /// Short for --server B=HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", requires = "a")]
    pub(crate) b: Option<String>,
    /// Process of A.
    #[arg(long, value_name = "PID", requires = "a")]
    pub(crate) pid_a: Option<u32>,
    /// Process of B.
    #[arg(long, value_name = "PID", requires = "b")]
    pub(crate) pid_b: Option<u32>,
    /// How many rounds; six or more make an interval of 95 % [default: 12].
    #[arg(long, default_value_t = 12, value_name = "N", hide_default_value = true)]
    pub(crate) rounds: u32,
    /// How long an interval is [default: 1s].
    #[arg(long, default_value = "1s", value_name = "TIME", hide_default_value = true)]
    pub(crate) interval: Span,
    /// The load; --warmup is what each interval leaves out [default: 300ms].
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl CompareArgs {
    /// The sides, whichever way they are named.
    pub(crate) fn sides(&self) -> Vec<SideArg> {
        let short = [("A", &self.a, self.pid_a), ("B", &self.b, self.pid_b)];
        let short = short.into_iter().filter_map(|(name, target, pid)| {
            let (name, target) = (name.to_owned(), target.clone()?);
            Some(SideArg { name, target, pid, ..SideArg::default() })
        });
        self.server.iter().cloned().chain(short).collect()
    }
}

/// One of those that are compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SideArg {
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) pid: Option<u32>,
    pub(crate) urgent_only: bool,
    pub(crate) settle: Option<Span>,
    pub(crate) urgent: Option<u32>,
    pub(crate) prefetch: Option<u32>,
    pub(crate) key: Option<String>,
    pub(crate) client: Option<String>,
}

impl FromStr for SideArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("it begins with NAME=HOST:PORT")?;
        let mut parts = rest.split(',');
        let target = parts.next().unwrap_or_default();
        if name.is_empty() || !target.contains(':') {
            return Err("it begins with NAME=HOST:PORT".to_owned());
        }
        let (name, target) = (name.to_owned(), target.to_owned());
        let mut side = Self { name, target, ..Self::default() };
        for part in parts {
            let number = |text: &str| text.parse().map_err(|_| format!("{part}: no number"));
            match part.split_once('=') {
                Some(("pid", text)) => side.pid = Some(number(text)?),
                Some(("settle", text)) => {
                    side.settle = Some(text.parse().map_err(|e| format!("{e}"))?)
                }
                Some(("urgent", text)) => side.urgent = Some(number(text)?),
                Some(("prefetch", text)) => side.prefetch = Some(number(text)?),
                Some(("key", text)) => side.key = Some(text.to_owned()),
                Some(("client", text)) => side.client = Some(text.to_owned()),
                None if part == "urgent-only" => side.urgent_only = true,
                _ => {
                    return Err(format!(
                        "{part} is none of pid=N, urgent-only, settle=TIME, urgent=N, prefetch=N, \
                         key=KEY, client=NAME"
                    ));
                }
            }
        }
        Ok(side)
    }
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
    /// Responses a second at most: a server whose limit is known [default: none].
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<Quantity>,
    /// Pin to this core.
    #[arg(long, value_name = "CORE")]
    pub(crate) pin: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_named_with_its_address_and_what_is_its_own() {
        let side = "netty=127.0.0.1:43594,pid=7,urgent-only,settle=500ms,client=718";
        let side: SideArg = side.parse().unwrap();
        assert_eq!(side.client.as_deref(), Some("718"));
        assert_eq!((side.name.as_str(), side.pid, side.urgent_only), ("netty", Some(7), true));
        assert_eq!((side.target.as_str(), side.settle), ("127.0.0.1:43594", "500ms".parse().ok()));
        for wrong in ["127.0.0.1:1", "=127.0.0.1:1", "a=1", "a=b:1,pid=x", "a=b:1,slow"] {
            assert!(wrong.parse::<SideArg>().is_err(), "{wrong}");
        }
    }
}
