//! One interval: the generator runs, the server's CPU time is watched.
//!
//! The generator says when its measurement began and how long it was. The server's CPU time is
//! read every few milliseconds beside it and taken at these two moments, so that opening and
//! closing thousands of connections is not counted.

use super::cache::Bytes;
use super::server::Server;
use super::workload::{Groups, Workload};
use super::{Args, Result};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// How often the server's CPU time is read: the kernel brings it up to date every 1 to 4 ms.
const WATCH_INTERVAL: Duration = Duration::from_millis(4);

/// Above this many connections, opening them takes longer than a warm-up.
const MANY_CONNECTIONS: u32 = 5000;

/// An interval into which connections were opened is taken again, with twice the warm-up.
const TRIES: u32 = 3;

/// How long, and how often.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Timing {
    pub(crate) rounds: u32,
    pub(crate) warmup_ms: u64,
    /// With more than 5,000 connections.
    pub(crate) warmup_many_ms: u64,
    pub(crate) interval_ms: u64,
}

impl Timing {
    pub(crate) fn new(quick: bool, rounds: Option<u32>) -> Self {
        if quick {
            let rounds = rounds.unwrap_or(3);
            Self { rounds, warmup_ms: 250, warmup_many_ms: 1000, interval_ms: 500 }
        } else {
            let rounds = rounds.unwrap_or(12);
            Self { rounds, warmup_ms: 300, warmup_many_ms: 1200, interval_ms: 1000 }
        }
    }
}

/// What one interval showed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) cpu_ns_a_response: f64,
    pub(crate) bytes_a_cpu_s: f64,
    pub(crate) responses_per_s: f64,
    /// How much of its core the server had.
    pub(crate) cpu_share: f64,
    /// How much of the time it could have run and had no core: others used it.
    pub(crate) wait_share: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// 0 with fewer than 10,000 responses.
    pub(crate) p999_us: f64,
    pub(crate) resident_bytes: f64,
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
        let mut command = self.command(server, bytes, Groups::Mix)?;
        command.arg("--cache").arg(&bytes.dir);
        command.args(["--connections", "16", "--urgent", "20", "--duration", "1s"]);
        command.args(["--prefetch", if server.urgent_only { "0" } else { "20" }]);
        command.args(["--key", if server.is_foreign() { "none" } else { "changing" }]);
        let result = run(&mut command)?;
        match result["stats"]["bytes_checked"].as_u64() {
            None | Some(0) => Err("no response could be compared".into()),
            Some(checked) => Ok(checked),
        }
    }

    /// One interval of a workload.
    pub(crate) fn sample(
        &self,
        server: &Server,
        workload: &Workload,
        bytes: &Bytes,
        timing: Timing,
    ) -> Result<Sample> {
        let many = workload.connections > MANY_CONNECTIONS;
        let mut warmup_ms = if many { timing.warmup_many_ms } else { timing.warmup_ms };
        for _ in 0..TRIES {
            let (result, watched) = self.interval(server, workload, bytes, (warmup_ms, timing))?;
            if connections_opened(&result) == 0 {
                let sample = sample(&result, &watched);
                return sample.ok_or_else(|| "no response came while measuring".into());
            }
            warmup_ms *= 2;
        }
        Err(format!("connections were still being opened after {} ms", warmup_ms / 2).into())
    }

    /// Runs the generator and watches the server.
    fn interval(
        &self,
        server: &Server,
        workload: &Workload,
        bytes: &Bytes,
        (warmup_ms, timing): (u64, Timing),
    ) -> Result<(Value, Vec<Watched>)> {
        let (mut urgent, mut prefetch) = (workload.urgent, workload.prefetch);
        if server.urgent_only {
            (urgent, prefetch) = (urgent + prefetch, 0);
        }
        let mut command = self.command(server, bytes, workload.groups)?;
        for (option, value) in [
            ("--connections", workload.connections.to_string()),
            ("--urgent", urgent.to_string()),
            ("--prefetch", prefetch.to_string()),
            ("--key", workload.key.to_owned()),
            ("--warmup", format!("{warmup_ms}ms")),
            ("--duration", format!("{}ms", timing.interval_ms)),
        ] {
            command.args([option, &value]);
        }
        let is_over = AtomicBool::new(false);
        let (result, watched) = std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch(server, &is_over));
            let result = run(&mut command);
            is_over.store(true, Ordering::Relaxed);
            (result, watching.join())
        });
        Ok((result?, watched.map_err(|_| "the watch ended")?))
    }

    fn command(&self, server: &Server, bytes: &Bytes, groups: Groups) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg(server.address.to_string());
        command.arg("--file").arg(bytes.scenario(groups)?);
        command.args(["--scenario", "download", "--threads", "1", "--json", "-", "--quiet"]);
        command.args(["--pin", &self.args.cores.generator_core.to_string()]);
        if let Some(settle) = &server.settle {
            command.args(["--settle", settle]);
        }
        Ok(command)
    }
}

fn run(command: &mut Command) -> Result<Value> {
    let output = command.output().map_err(|error| format!("js5-loadgen: {error}"))?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout)?);
    }
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let stats = &result["stats"];
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().last().unwrap_or_default();
    let (faults, stalls) = (&stats["faults"], &stats["stalls"]);
    let status = output.status;
    Err(format!("the generator's {status}: faults {faults}, stalls {stalls} {words}").into())
}

/// What the watch saw at one moment.
#[derive(Clone, Copy)]
struct Watched {
    unix_ns: u64,
    usage: Usage,
    resident_bytes: u64,
}

/// What the scheduler says of a process, all threads together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// CPU time, user and kernel.
    pub(crate) cpu_ns: f64,
    /// Time in which it could run and had no core.
    pub(crate) wait_ns: f64,
}

fn watch(server: &Server, is_over: &AtomicBool) -> Vec<Watched> {
    let mut watched = Vec::new();
    let mut resident_bytes = 0;
    while !is_over.load(Ordering::Relaxed) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let unix_ns = now.map_or(0, |now| now.as_nanos() as u64);
        let usage = usage(server.pid);
        // It changes slowly, and costs more to read.
        if watched.len() % 25 == 0 {
            resident_bytes = server.resident_bytes();
        }
        watched.push(Watched { unix_ns, usage, resident_bytes });
        std::thread::sleep(WATCH_INTERVAL);
    }
    watched
}

/// What a process has used so far.
pub(crate) fn usage(pid: u32) -> Usage {
    let mut sum = Usage::default();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return sum };
    for task in tasks.flatten() {
        let schedstat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let mut fields = schedstat.split_whitespace().map_while(|field| field.parse::<f64>().ok());
        sum.cpu_ns += fields.next().unwrap_or(0.0);
        sum.wait_ns += fields.next().unwrap_or(0.0);
    }
    sum
}

/// What had been used at a moment between two looks.
fn usage_at(watched: &[Watched], unix_ns: u64) -> Option<Usage> {
    let after = watched.partition_point(|look| look.unix_ns < unix_ns);
    let (before, after) = (watched.get(after.checked_sub(1)?)?, watched.get(after)?);
    let span = after.unix_ns.saturating_sub(before.unix_ns).max(1) as f64;
    let part = unix_ns.saturating_sub(before.unix_ns) as f64 / span;
    let between = |from: f64, to: f64| from + part * (to - from);
    Some(Usage {
        cpu_ns: between(before.usage.cpu_ns, after.usage.cpu_ns),
        wait_ns: between(before.usage.wait_ns, after.usage.wait_ns),
    })
}

/// Connections that came up while measuring.
fn connections_opened(result: &Value) -> u64 {
    let intervals = result["stats"]["intervals"].as_array().map_or(&[][..], |all| all);
    intervals.iter().filter_map(|interval| interval["connects"].as_u64()).sum()
}

/// What the generator and the watch say together; none if nothing was answered.
fn sample(result: &Value, watched: &[Watched]) -> Option<Sample> {
    let start_ns = result["started_unix_ms"].as_u64()? * 1_000_000;
    let measured_ms = result["measured_ms"].as_u64()?;
    let end_ns = start_ns + measured_ms * 1_000_000;
    let (before, after) = (usage_at(watched, start_ns)?, usage_at(watched, end_ns)?);
    let (cpu_ns, wait_ns) = (after.cpu_ns - before.cpu_ns, after.wait_ns - before.wait_ns);
    let stats = &result["stats"];
    let count = |class: &str| stats["responses"][class].as_u64().unwrap_or(0);
    let responses = (count("urgent") + count("prefetch")) as f64;
    if responses == 0.0 || cpu_ns <= 0.0 || measured_ms == 0 {
        return None;
    }
    let class = if count("urgent") > 0 { "urgent.response" } else { "prefetch.response" };
    let time = |name: &str| stats["times"][class][name].as_f64().unwrap_or(0.0);
    let resident = watched.iter().rev().find(|look| look.unix_ns <= end_ns);
    Some(Sample {
        cpu_ns_a_response: cpu_ns / responses,
        bytes_a_cpu_s: stats["bytes"].as_f64().unwrap_or(0.0) / (cpu_ns / 1e9),
        responses_per_s: responses / (measured_ms as f64 / 1e3),
        cpu_share: cpu_ns / (measured_ms as f64 * 1e6),
        wait_share: wait_ns / (measured_ms as f64 * 1e6),
        p50_us: time("p50_us"),
        p99_us: time("p99_us"),
        p999_us: time("p999_us"),
        resident_bytes: resident.map_or(0.0, |look| look.resident_bytes as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_taken_between_two_looks() {
        let look = |unix_ns, cpu_ns| {
            let usage = Usage { cpu_ns, wait_ns: 0.0 };
            Watched { unix_ns, usage, resident_bytes: 0 }
        };
        let watched = [look(100, 1000.0), look(200, 1100.0), look(300, 1100.0)];
        let cpu_at = |unix_ns| usage_at(&watched, unix_ns).map(|usage| usage.cpu_ns);
        assert_eq!(cpu_at(150), Some(1050.0));
        assert_eq!(cpu_at(250), Some(1100.0));
        assert_eq!((cpu_at(99), cpu_at(301)), (None, None));
    }
}
