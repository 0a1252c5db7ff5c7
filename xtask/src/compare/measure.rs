//! A workload is one call of `js5-loadgen compare`: rounds, order, ratios and the charging of CPU
//! time are the generator's. Here its result is read.

use super::cache::Bytes;
use super::server::Server;
use super::workload::{Groups, Within, Workload};
use super::{Args, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How long, and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Timing {
    pub(crate) rounds: u32,
    pub(crate) interval_ms: u64,
}

impl Timing {
    pub(crate) fn new(quick: bool, rounds: Option<u32>) -> Self {
        let (few, interval_ms) = if quick { (3, 500) } else { (12, 1000) };
        Self { rounds: rounds.unwrap_or(few), interval_ms }
    }
}

/// What the generator's comparison says, as its JSON has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Comparison {
    pub(crate) sides: Vec<Side>,
    pub(crate) pairs: Vec<Pair>,
}

/// A server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<String>,
}

/// One interval of a server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) responses_per_s: f64,
    pub(crate) times_us: BTreeMap<String, f64>,
    pub(crate) server: Option<ServerUsage>,
}

/// What the server used of the machine.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct ServerUsage {
    pub(crate) cpu_ns_a_response: f64,
    pub(crate) bytes_a_cpu_s: f64,
    pub(crate) wait_share: f64,
    pub(crate) resident_bytes: f64,
}

/// The first server, and another one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pair {
    pub(crate) b: String,
    rows: Vec<PairRow>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PairRow {
    name: String,
    ratio: Option<Ratio>,
}

/// A ratio, and how well it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Ratio {
    pub(crate) pairs: u32,
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The chance that the true ratio lies between the two.
    pub(crate) confidence: f64,
}

impl Ratio {
    /// Of the first to the other, where this one is of the other to the first.
    pub(crate) fn inverse(self) -> Self {
        let Self { median, low, high, .. } = self;
        Self { median: 1.0 / median, low: 1.0 / high, high: 1.0 / low, ..self }
    }
}

impl Pair {
    /// B's CPU time a response to A's.
    pub(crate) fn cpu(&self) -> Option<Ratio> {
        self.rows.iter().find(|row| row.name == "cpu a response")?.ratio
    }
}

/// The load generator.
#[derive(Clone, Debug)]
pub(crate) struct Generator {
    pub(crate) binary: PathBuf,
    pub(crate) args: Args,
}

impl Generator {
    /// Compares every byte of a short download with the cache, with keys that change in
    /// mid-stream for servers of ours. Comes back with how many responses were compared.
    pub(crate) fn verify(&self, server: &Server, bytes: &Bytes) -> Result<u64> {
        let mut command = self.command("run", bytes, Groups::Mix)?;
        command.arg(server.address.to_string()).arg("--cache").arg(&bytes.dir);
        command.args(["--connections", "16", "--urgent", "20", "--duration", "1s"]);
        command.args(["--prefetch", if server.urgent_only { "0" } else { "20" }]);
        command.args(["--key", if server.is_foreign() { "none" } else { "changing" }]);
        if let Some(settle) = &server.settle {
            command.args(["--settle", settle]);
        }
        let (result, said) = output(&mut command)?;
        if result["exit_code"] != 0 {
            let (faults, stalls) = (&result["stats"]["faults"], &result["stats"]["stalls"]);
            return Err(format!("faults {faults}, stalls {stalls} {said}").into());
        }
        match result["stats"]["bytes_checked"].as_u64() {
            None | Some(0) => Err("no response could be compared".into()),
            Some(checked) => Ok(checked),
        }
    }

    /// A workload, with the first server against each of the others.
    pub(crate) fn compare<'a>(
        &self,
        servers: impl Iterator<Item = &'a Server>,
        workload: &Workload,
        bytes: &Bytes,
        timing: Timing,
    ) -> Result<Comparison> {
        let mut command = self.comparison(workload, bytes, timing)?;
        for server in servers {
            command.args(["--server", &server.side()]);
        }
        comparison(&mut command)
    }

    /// A server under two loads.
    pub(crate) fn within(
        &self,
        server: &Server,
        within: &Within,
        bytes: &Bytes,
        timing: Timing,
    ) -> Result<Comparison> {
        let mut command = self.comparison(within.against, bytes, timing)?;
        for workload in [within.against, within.workload] {
            let Workload { name, urgent, prefetch, key, .. } = workload;
            let own = format!("{},pid={}", server.address, server.pid);
            let load = format!("urgent={urgent},prefetch={prefetch},key={key}");
            command.args(["--server", &format!("{name}={own},{load}")]);
        }
        comparison(&mut command)
    }

    fn comparison(&self, workload: &Workload, bytes: &Bytes, timing: Timing) -> Result<Command> {
        let mut command = self.command("compare", bytes, workload.groups)?;
        for (option, value) in [
            ("--connections", workload.connections.to_string()),
            ("--urgent", workload.urgent.to_string()),
            ("--prefetch", workload.prefetch.to_string()),
            ("--key", workload.key.to_owned()),
            ("--rounds", timing.rounds.to_string()),
            ("--interval", format!("{}ms", timing.interval_ms)),
        ] {
            command.args([option, &value]);
        }
        Ok(command)
    }

    fn command(&self, verb: &str, bytes: &Bytes, groups: Groups) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg(verb).arg("--file").arg(bytes.scenario(groups)?);
        command.args(["--scenario", "download", "--threads", "1", "--json", "-", "--quiet"]);
        command.args(["--pin", &self.args.cores.generator_core.to_string()]);
        Ok(command)
    }
}

/// What a comparison found. Wrong answers of one side are that side's failures, not the end.
fn comparison(command: &mut Command) -> Result<Comparison> {
    let (mut result, _) = output(command)?;
    Ok(serde_json::from_value(result["comparison"].take())?)
}

/// The generator's result, valid or not, and its messages; an error if there is no result.
fn output(command: &mut Command) -> Result<(Value, String)> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("js5-loadgen: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let result = serde_json::from_slice(&output.stdout);
    Ok((result.map_err(|_| format!("js5-loadgen, {}: {said}", output.status))?, said))
}
