//! `cargo xtask compare`: js5d beside its ceiling and its alternative, in one run.
//!
//! All servers stand pinned to one core from the beginning, on the same bytes; the generator has
//! another core. A round gives each server a short closed loop of each workload, in an order that
//! differs from round to round, so that what drifts, drifts for all. What counts is the ratio of
//! CPU time a response within a round, and the median of these ratios.

pub(crate) mod cache;
mod measure;
mod redis;
mod report;
pub(crate) mod server;
pub(crate) mod stats;
mod svg;
mod table;
pub(crate) mod workload;

use cache::Bytes;
use clap::Parser;
use measure::{Sample, Timing};
use report::{Failure, Report};
use server::{PeerArg, Server};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use workload::{WORKLOADS, Workload};

/// After this many failures in a row a server is left alone: some never answer again.
const FAILURES_IN_A_ROW_MAX: u32 = 2;

/// What the chore ends with when something is wrong.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measure js5d beside the bare ring, plain tokio, and servers that run already.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Three short rounds in less than 3 minutes: to see that all is well, not to publish.
    #[arg(long)]
    quick: bool,
    /// Rounds [default: 12; 3 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Only these workloads.
    #[arg(long, value_name = "NAME", value_parser = workload::names())]
    workload: Vec<String>,
    /// A JS5 server that runs already, pinned to the server's core, on the cache that
    /// --write-cache wrote.
    ///
    /// urgent-only is for servers that ignore the prefetch bit, settle=500ms for those that lose
    /// what follows the status byte at once.
    #[arg(long, value_name = "NAME=HOST:PORT,pid=N[,urgent-only][,settle=TIME]")]
    peer: Vec<PeerArg>,
    /// Write the cache that all serve, say where it is, and end.
    #[arg(long)]
    write_cache: bool,
    #[command(flatten)]
    cores: Cores,
}

/// Who runs where.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Cores {
    /// The core of the servers.
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    pub(crate) server_core: usize,
    /// The core of the generator, and of this program.
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    pub(crate) generator_core: usize,
}

/// Samples by workload and server, each with its round.
pub(crate) type Samples = BTreeMap<(&'static str, String), Vec<(u32, Sample)>>;

/// Runs the comparison. The exit code says whether every server of ours answered rightly; a
/// figure that is not reached is no failure of the run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (binaries, out) = directories()?;
    let bytes = cache::write(&out)?;
    if args.write_cache {
        println!("{}", bytes.dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    build(&["js5d", "js5-loadgen", "js5-compare-peers"])?;
    let chosen = |workload: &&Workload| {
        args.workload.is_empty() || args.workload.iter().any(|name| name == workload.name)
    };
    let mut comparison = Comparison {
        workloads: WORKLOADS.iter().filter(chosen).collect(),
        servers: start(args, &binaries, &bytes)?,
        generator: measure::Generator { binary: binaries.join("js5-loadgen"), args: args.clone() },
        bytes,
        samples: Samples::new(),
        failures: Vec::new(),
    };
    server::pin_to(args.cores.generator_core)?;
    comparison.verify();
    let timing = Timing::new(args.quick, args.rounds);
    comparison.measure(timing);
    let redis = redis::measure(args.cores.server_core, args.cores.generator_core, args.quick);
    let report = Report::new(&comparison, timing, redis);
    write(&report, &out)?;
    let ours_failed = report.failures.iter().any(|failure| !failure.is_foreign);
    Ok(if ours_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A comparison that is under way.
pub(crate) struct Comparison {
    workloads: Vec<&'static Workload>,
    servers: Vec<Server>,
    generator: measure::Generator,
    bytes: Bytes,
    samples: Samples,
    failures: Vec<Failure>,
}

impl Comparison {
    /// Every byte of a short keyed download from each server, against the cache.
    fn verify(&mut self) {
        for server in &self.servers {
            match self.generator.verify(server, &self.bytes) {
                Ok(checked) => {
                    eprintln!("{}: {checked} responses compared byte by byte", server.name)
                }
                Err(error) => {
                    eprintln!("{}: {error}", server.name);
                    self.failures.push(Failure::new(server, "every byte", &*error));
                }
            }
        }
    }

    fn measure(&mut self, timing: Timing) {
        let start = Instant::now();
        let mut failures_in_a_row = vec![0_u32; self.servers.len()];
        for round in 0..timing.rounds {
            for workload in self.workloads.clone() {
                let (seconds, rounds) = (start.elapsed().as_secs(), timing.rounds);
                eprintln!("{seconds:4} s  round {} of {rounds}  {}", round + 1, workload.name);
                for place in order(round, self.servers.len()) {
                    if failures_in_a_row[place] < FAILURES_IN_A_ROW_MAX {
                        let is_good = self.sample(place, workload, round, timing);
                        let failures = failures_in_a_row[place];
                        failures_in_a_row[place] = if is_good { 0 } else { failures + 1 };
                    }
                }
            }
        }
    }

    /// One interval. False if it failed.
    fn sample(&mut self, at: usize, workload: &'static Workload, round: u32, t: Timing) -> bool {
        let server = &self.servers[at];
        if server.urgent_only && workload.urgent == 0 {
            return true;
        }
        match self.generator.sample(server, workload, &self.bytes, t) {
            Ok(sample) => {
                let key = (workload.name, server.name.clone());
                self.samples.entry(key).or_default().push((round, sample));
                true
            }
            Err(error) => {
                eprintln!("        {}: {error}", server.name);
                self.failures.push(Failure::new(server, workload.name, &*error));
                false
            }
        }
    }
}

/// Who comes when: forwards and backwards in turn, and each begins as often as the others.
fn order(round: u32, servers: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..servers).collect();
    order.rotate_left((round / 2) as usize % servers.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Where the binaries are, and what is written for a comparison.
pub(crate) fn directories() -> Result<(PathBuf, PathBuf)> {
    let binaries = std::env::current_exe()?.parent().ok_or("no directory")?.to_owned();
    let out = binaries.parent().unwrap_or(&binaries).join("compare");
    std::fs::create_dir_all(&out)?;
    Ok((binaries, out))
}

/// Builds what is compared, with the same profile as this program.
pub(crate) fn build(packages: &[&str]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked"]).current_dir(root);
    let status = command.args(packages.iter().flat_map(|name| ["-p", name])).status()?;
    if status.success() { Ok(()) } else { Err("the build failed".into()) }
}

/// Starts what is ours, and names what runs already.
fn start(args: &Args, binaries: &Path, bytes: &Bytes) -> Result<Vec<Server>> {
    server::pin_to(args.cores.server_core)?;
    // All clients have one address.
    let places = ["--openings-per-ip-max", "1000000"];
    let js5d = ["--workers", "1", "--build", "550", "--log-level", "error", places[0], places[1]];
    let mut servers = Vec::new();
    for (name, options) in [("js5d", &js5d[..]), ("ring-limit", &[]), ("epoll", &[])] {
        servers.push(Server::start(name, &binaries.join(name), options, &bytes.dir)?);
    }
    servers.extend(args.peer.iter().map(Server::running));
    servers.iter().try_for_each(Server::await_ready)?;
    Ok(servers)
}

fn write(report: &Report, out: &Path) -> Result<()> {
    let markdown = table::markdown(report);
    let files: [(&str, String); 3] = [
        ("result.json", serde_json::to_string_pretty(report)?),
        ("compare.md", markdown.clone()),
        ("compare.svg", svg::plot(report)),
    ];
    println!("{markdown}");
    for (name, text) in files {
        let path: PathBuf = out.join(name);
        std::fs::write(&path, text)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_server_stands_everywhere_equally_often() {
        let mut places = [[0; 3]; 3];
        for round in 0..6 {
            for (place, server) in super::order(round, 3).into_iter().enumerate() {
                places[server][place] += 1;
            }
        }
        assert_eq!(places, [[2; 3]; 3]);
    }
}
