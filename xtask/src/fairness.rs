//! `cargo xtask fairness`: how long small requests take beside downloads that never pause.
//!
//! A server on one core, the generators on another. In each round 100 clients ask for 300 bytes
//! now and then, first alone and then beside 20 that download 100 KB responses without a pause.
//! Their generator has real-time priority where it may have it: it shares its core with the other
//! one, and its wait for that is not what is measured.

use crate::compare::cache::{self, Bytes};
use crate::compare::server::{Server, pin_to};
use crate::compare::workload::Groups;
use crate::compare::{self, Cores, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

/// Options.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Rounds, each with a server of its own
    #[arg(long, value_name = "N", default_value_t = 6)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// How long each of the two measurements of a round is
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    #[command(flatten)]
    cores: Cores,
}

/// What the small clients saw.
struct Times {
    p50_us: f64,
    p99_us: f64,
}

/// A load generator on a core.
struct Generator {
    binary: PathBuf,
    core: usize,
    seconds: u64,
    /// `chrt` works here.
    real_time: bool,
}

/// Runs the rounds and prints a line for each, and the medians of their ratios.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (binaries, out) = compare::directories()?;
    let bytes = cache::write(&out)?;
    compare::build(&["js5d", "js5-loadgen"])?;
    let generator = Generator {
        binary: binaries.join("js5-loadgen"),
        core: args.cores.generator_core,
        seconds: args.seconds,
        real_time: may_be_real_time(),
    };
    if !generator.real_time {
        println!(
            "chrt gives no real-time priority here: waits for the generators' core count, too"
        );
    }
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        pin_to(args.cores.server_core)?;
        let options = ["--workers", "1", "--build", "550"];
        let server = Server::start("js5d", &binaries.join("js5d"), &options, &bytes.dir)?;
        pin_to(args.cores.generator_core)?;
        server.await_ready()?;
        let alone = generator.small(&server, &bytes)?;
        let downloads = generator.downloads(&server, &bytes)?;
        // They have filled their windows by then.
        thread::sleep(Duration::from_secs(1));
        let beside = generator.small(&server, &bytes)?;
        let rate = rate(downloads)?;
        println!(
            "round {round:2}: alone p50 {:4.0} us, p99 {:5.0} us; beside {rate:.0} downloads/s \
             p50 {:4.0} us, p99 {:5.0} us",
            alone.p50_us, alone.p99_us, beside.p50_us, beside.p99_us
        );
        p50.push(beside.p50_us / alone.p50_us);
        p99.push(beside.p99_us / alone.p99_us);
    }
    for (name, mut ratios) in [("p50", p50), ("p99", p99)] {
        ratios.sort_by(f64::total_cmp);
        let (Some(low), Some(high)) = (ratios.first(), ratios.last()) else { continue };
        let median = compare::median(ratios.iter().copied());
        println!("{name} beside to alone: {median:.2} ({low:.2} to {high:.2} in all rounds)");
    }
    Ok(ExitCode::SUCCESS)
}

impl Generator {
    /// Clients that ask for a small group now and then.
    fn small(&self, server: &Server, bytes: &Bytes) -> Result<Times> {
        let mut command = Command::new(if self.real_time { "chrt" } else { "env" });
        if self.real_time {
            command.args(["--fifo", "5"]);
        }
        command.arg(&self.binary);
        self.load(&mut command, server, bytes.scenario(Groups::Fixed(300))?, self.seconds);
        command.args(["--scenario", "play", "--connections", "100", "--burst", "1"]);
        command.args(["--think", "100ms", "--prefetch", "0", "--warmup", "500ms"]);
        let result = finish(command.spawn()?)?;
        let time = |name: &str| result["stats"]["times"]["urgent.response"][name].as_f64();
        let none = "no small response came";
        Ok(Times { p50_us: time("p50_us").ok_or(none)?, p99_us: time("p99_us").ok_or(none)? })
    }

    /// Clients that download without a pause, under way.
    fn downloads(&self, server: &Server, bytes: &Bytes) -> Result<Child> {
        let mut command = Command::new(&self.binary);
        let seconds = self.seconds + 2;
        self.load(&mut command, server, bytes.scenario(Groups::Fixed(102_400))?, seconds);
        command.args(["--scenario", "download", "--connections", "20"]);
        Ok(command.spawn()?)
    }

    fn load(&self, command: &mut Command, server: &Server, groups: &Path, seconds: u64) {
        command.arg("run").arg(server.address.to_string()).arg("--file").arg(groups);
        command.args(["--threads", "1", "--pin", &self.core.to_string(), "--quiet"]);
        command.args(["--json", "-", "--duration", &format!("{seconds}s")]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    }
}

/// What a generator found. Wrong bytes, stalls and cuts end the run.
fn finish(child: Child) -> Result<Value> {
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout)?),
        false => Err(format!("js5-loadgen: {}", output.status).into()),
    }
}

/// Responses a second.
fn rate(downloads: Child) -> Result<f64> {
    finish(downloads)?["rates"]["responses_per_s"].as_f64().ok_or("no download came".into())
}

fn may_be_real_time() -> bool {
    let mut command = Command::new("chrt");
    let status = command.args(["--fifo", "5", "true"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
