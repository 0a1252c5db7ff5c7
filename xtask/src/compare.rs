//! `cargo xtask compare`: js5d compared with its ceiling and with plain tokio, in one run.
//!
//! This builds and starts the servers: all are pinned to one core and serve the same cache; the
//! generator has another core. `js5-loadgen compare`, run once for each workload, decides on order
//! and rounds and reads the servers' CPU time. The result is the ratio of CPU time a response
//! within a round, and the median of these ratios.

pub(crate) mod cache;
mod measure;
mod redis;
mod report;
pub(crate) mod server;
mod svg;
mod table;
pub(crate) mod workload;

use crate::workspace::cargo;
use cache::Bytes;
pub(crate) use cache::put_archive;
use clap::Parser;
use measure::{Comparison, Timing};
use report::{Failure, Report};
use server::{PeerArg, Server};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use workload::{RING_DRIVER, WITHIN, WORKLOADS, Within, Workload};

/// What the chore ends with when something is wrong.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Compare js5d with the bare ring, plain tokio, and servers that run already.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Args {
    /// Do three short rounds in less than 3 minutes, as a check; do not publish the figures.
    #[arg(long)]
    quick: bool,
    /// Rounds [default: 12; 3 with --quick].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Workloads to run [default: all].
    #[arg(long, value_name = "NAME", value_parser = workload::names())]
    workload: Vec<String>,
    /// A JS5 server that runs already, pinned to the server's core, on the cache that
    /// --write-cache wrote.
    ///
    /// urgent-only is for servers that ignore the prefetch bit, settle=500ms for those that lose
    /// requests which follow the status byte at once.
    #[arg(long, value_name = "NAME=HOST:PORT,pid=N[,urgent-only][,settle=TIME]")]
    peer: Vec<PeerArg>,
    /// js5d's driver, ring (io_uring) or epoll. With epoll, its bound is 1.05 of plain tokio in
    /// every workload.
    #[arg(long, value_name = "ring|epoll", default_value = RING_DRIVER)]
    #[arg(value_parser = ["ring", "epoll"])]
    driver: String,
    /// Write the cache that all servers use, print its path, and do nothing else.
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
    let mut field = Field {
        servers: start(args, &binaries, &bytes)?,
        generator: measure::Generator { binary: binaries.join("js5-loadgen"), args: args.clone() },
        bytes,
        timing: Timing::new(args.quick, args.rounds),
        workloads: Vec::new(),
        within: Vec::new(),
        failures: Vec::new(),
        driver: args.driver.clone(),
    };
    server::pin_to(args.cores.generator_core)?;
    field.verify();
    WORKLOADS.iter().filter(chosen).try_for_each(|workload| field.measure(workload))?;
    let is_chosen = |within: &&Within| chosen(&within.workload) && chosen(&within.against);
    WITHIN.iter().filter(is_chosen).try_for_each(|within| field.measure_within(within))?;
    let redis = redis::measure(args.cores.server_core, args.cores.generator_core, args.quick);
    let report = Report::new(&field, redis);
    write(&report, &out)?;
    let ours_failed = report.failures.iter().any(|failure| !failure.is_foreign);
    Ok(if ours_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The servers, and what was measured of them so far.
pub(crate) struct Field {
    servers: Vec<Server>,
    generator: measure::Generator,
    bytes: Bytes,
    timing: Timing,
    workloads: Vec<(&'static Workload, Comparison)>,
    within: Vec<(&'static Within, Comparison)>,
    failures: Vec<Failure>,
    driver: String,
}

impl Field {
    /// Every byte of a short keyed download from each server, against the cache.
    fn verify(&mut self) {
        for server in &self.servers {
            match self.generator.verify(server, &self.bytes) {
                Ok(checked) => {
                    eprintln!("{}: {checked} responses compared byte by byte", server.name)
                }
                Err(error) => {
                    eprintln!("{}: {error}", server.name);
                    self.failures.push(Failure::new(server, "every byte", error.to_string()));
                }
            }
        }
    }

    fn measure(&mut self, workload: &'static Workload) -> Result<()> {
        eprintln!("{}", workload.title);
        let asks_prefetch_only = workload.urgent == 0;
        let taking_part =
            self.servers.iter().filter(|server| !(server.urgent_only && asks_prefetch_only));
        let found = self.generator.compare(taking_part, workload, &self.bytes, self.timing)?;
        for side in &found.sides {
            let server = self.servers.iter().find(|server| server.name == side.name);
            let causes = side.failures.iter().zip(std::iter::repeat(server));
            let failures = causes.filter_map(|(cause, server)| {
                Some(Failure::new(server?, workload.name, cause.clone()))
            });
            self.failures.extend(failures);
        }
        self.workloads.push((workload, found));
        Ok(())
    }

    fn measure_within(&mut self, within: &'static Within) -> Result<()> {
        eprintln!("{}, against {}", within.workload.title, within.against.title);
        let ours = self.servers.first().ok_or("there is no server")?;
        let found = self.generator.within(ours, within, &self.bytes, self.timing)?;
        self.within.push((within, found));
        Ok(())
    }
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
    let mut command = cargo();
    let status = command
        .args(["build", "--release"])
        .args(packages.iter().flat_map(|name| ["-p", name]))
        .status()?;
    if status.success() { Ok(()) } else { Err("the build failed".into()) }
}

/// Starts what is ours, and names what runs already.
fn start(args: &Args, binaries: &Path, bytes: &Bytes) -> Result<Vec<Server>> {
    server::pin_to(args.cores.server_core)?;
    // All clients have one address.
    let places = ["--openings-per-ip-max", "1000000"];
    let js5d = ["--driver", &args.driver, "--workers", "1", "--build", "550", places[0], places[1]];
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

/// The middle; of an even number the mean of the middle two; 0 of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 0 => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        n => values[n / 2],
    }
}
