//! The command line: types only. The first line of each option says what it does, and `--help`
//! also says why.

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
    /// Compare servers in one run, in intervals that alternate between them.
    Compare(Box<CompareArgs>),
    /// Find the highest rate of requests at which the assertions hold.
    FindMax(Box<FindMaxArgs>),
    /// Check that this generator measures correctly on this machine.
    SelfTest(SelfTestArgs),
    /// Record the requests of clients, as a proxy between them and a server.
    Record(RecordArgs),
    /// Send the requests of a recorded trace again, each at its recorded time.
    Replay(Box<ReplayArgs>),
    /// Add result files of several machines into one.
    Merge(MergeArgs),
    /// Serve fixed groups as fast as possible; self-test measures against this server.
    NullServer(NullServerArgs),
}

/// `run`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Read the load from a scenario file.
    ///
    /// Its keys are the long names of the options. An option on the command line replaces the
    /// value in the file.
    #[arg(long, short = 'f', value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print a scenario file with the resulting load, and do nothing else.
    #[arg(long)]
    pub(crate) print_scenario: bool,
    /// The load.
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// Where results go.
    #[command(flatten)]
    pub(crate) output: OutputOptions,
    /// Write the requests that were sent to a trace file, each with its time.
    #[arg(long, help_heading = "Results", value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// Compare with an earlier result of this machine, a file that --json wrote.
    #[arg(long, help_heading = "Results", value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Begin at this Unix time in seconds, so that several machines begin together; or after a
    /// time, as in +5s.
    #[arg(long, value_name = "TIME")]
    pub(crate) start_at: Option<String>,
    /// Start even if the limits table says that the machine lacks something.
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
    /// Write the histograms of each interval as an HdrHistogram log, tagged with their metric.
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    /// Write the percentile spectrum of each metric to PREFIX-METRIC.hgrm.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Write a self-contained page with plots.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Condition that must hold, as in urgent.response.p99<20ms; if not, the exit code is 4.
    #[arg(long = "assert", short = 'a', value_name = "CONDITION")]
    pub(crate) asserts: Vec<String>,
    /// Print neither a live line nor tables; write files and set the exit code only.
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
}

/// `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// A server to compare; give the option once for each. A single server is compared with
    /// itself, which shows the noise of this machine.
    ///
    /// pid=N is the server's process id: its CPU time for each response is then shown. urgent-only
    /// is for a server that ignores the prefetch bit: it gets the same number of requests in
    /// flight, all of them urgent. settle=500ms is for a server that loses requests which follow
    /// the status at once. urgent=N, prefetch=N, key=KEY and client=NAME give this side another
    /// load than the others: one server can be two sides.
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
    /// Process id of A.
    #[arg(long, value_name = "PID", requires = "a")]
    pub(crate) pid_a: Option<u32>,
    /// Process id of B.
    #[arg(long, value_name = "PID", requires = "b")]
    pub(crate) pid_b: Option<u32>,
    /// How many rounds; a confidence interval of 99 % needs eight or more [default: 12].
    #[arg(long, default_value_t = 12, value_name = "N", hide_default_value = true)]
    pub(crate) rounds: u32,
    /// How long each interval is [default: 1s].
    #[arg(long, default_value = "1s", value_name = "TIME", hide_default_value = true)]
    pub(crate) interval: Span,
    /// The load; --warmup is what each interval leaves out [default: 300ms].
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

impl CompareArgs {
    /// All sides, those of --server as well as those of --a and --b.
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
        let (name, rest) = text.split_once('=').ok_or("it must begin with NAME=HOST:PORT")?;
        let mut parts = rest.split(',');
        let target = parts.next().unwrap_or_default();
        if name.is_empty() || !target.contains(':') {
            return Err("it must begin with NAME=HOST:PORT".to_owned());
        }
        let (name, target) = (name.to_owned(), target.to_owned());
        let mut side = Self { name, target, ..Self::default() };
        for part in parts {
            let number = |text: &str| text.parse().map_err(|_| format!("{part}: not a number"));
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
    /// Lowest rate to try [default: 1000].
    #[arg(long, default_value = "1000", value_name = "N", hide_default_value = true)]
    pub(crate) rate_min: Quantity,
    /// Highest rate to try [default: 1M].
    #[arg(long, default_value = "1M", value_name = "N", hide_default_value = true)]
    pub(crate) rate_max: Quantity,
    /// How long each step is [default: 5s].
    #[arg(long, default_value = "5s", value_name = "TIME", hide_default_value = true)]
    pub(crate) step: Span,
    /// How many rates the first pass tries, in shuffled order [default: 6].
    #[arg(long, default_value_t = 6, value_name = "N", hide_default_value = true)]
    pub(crate) steps: u32,
    /// Stop when the two bounds differ by less than this fraction [default: 0.05].
    #[arg(long, default_value_t = 0.05, value_name = "PART", hide_default_value = true)]
    pub(crate) precision: f64,
    /// The load; --assert says what must hold.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// `self-test`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct SelfTestArgs {
    /// Run the stall test only, with shorter times, as for continuous integration.
    #[arg(long)]
    pub(crate) quick: bool,
}

/// `record`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecordArgs {
    /// Address for clients to connect to.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// Server to which clients are passed on.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) to: String,
    /// Stop after this time [default: when interrupted].
    #[arg(long, short = 'd', value_name = "TIME")]
    pub(crate) duration: Option<Span>,
    /// File to write the trace to.
    pub(crate) trace: PathBuf,
}

/// `replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Trace to replay.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Factor by which the replay is faster than the recording [default: 1].
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
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:43595", value_name = "ADDR:PORT")]
    pub(crate) listen: String,
    /// Bytes of each response on the wire.
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    pub(crate) size: u32,
    /// Maximum number of responses a second, so that the server has a known limit [default: no
    /// limit].
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<Quantity>,
    /// Core to run on.
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
