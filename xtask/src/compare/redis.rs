//! A yardstick that every reader knows: Redis, if it is installed.
//!
//! Pipelined GETs of 300 bytes, driven by Redis' own benchmark and labelled as such: another
//! protocol and another generator, so its place is beside the table, not in its ratios.

use super::median;
use super::{Result, server};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::Ending;

/// As many in flight as the other workloads have.
const PIPELINE: &str = "40";
const CONNECTIONS: &str = "64";
const VALUE_LEN: &str = "300";

/// Ports that are tried: each is free when it is chosen, so a second try is rare.
const STARTS_MAX: usize = 5;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Redis {
    version: String,
    /// CPU time of the server a GET; the median over the rounds.
    pub(crate) cpu_ns_a_response: f64,
    gets: u64,
}

impl Redis {
    /// A sentence for the report.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "Yardstick: {}, GET of {VALUE_LEN} bytes, {CONNECTIONS} connections with {PIPELINE} in \
             flight each, driven by redis-benchmark: {:.0} ns of server CPU a response.",
            self.version, self.cpu_ns_a_response
        )
    }
}

/// Measures it; none where it is not installed or does not work, which is said.
pub(crate) fn measure(server_core: usize, generator_core: usize, quick: bool) -> Option<Redis> {
    let version = Command::new("redis-server").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&version.stdout);
    let version: String = version.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let (rounds, gets) = if quick { (3, 500_000) } else { (10, 1_000_000) };
    let measured = rounds_of(server_core, generator_core, rounds, gets);
    let measured = measured.inspect_err(|error| eprintln!("redis: {error}"));
    // The generator's core is where this program belongs, whatever happened.
    drop(server::pin_to(generator_core));
    Some(Redis { version, cpu_ns_a_response: measured.ok()?, gets: rounds * gets })
}

fn rounds_of(server_core: usize, generator_core: usize, rounds: u64, gets: u64) -> Result<f64> {
    server::pin_to(server_core)?;
    let started = start();
    server::pin_to(generator_core)?;
    let (server, text) = started?;
    benchmark(&text, "set", 1000)?;
    let mut costs = Vec::new();
    for _ in 0..rounds {
        let before = testkit::cpu(server.id());
        benchmark(&text, "get", gets)?;
        costs.push((testkit::cpu(server.id()) - before).as_nanos() as f64 / gets as f64);
    }
    Ok(median(costs))
}

/// Redis cannot be asked to choose a port itself: it is told one that was free a moment ago, and
/// started again with another one if another program has taken that meanwhile.
fn start() -> Result<(Ending, String)> {
    for _ in 0..STARTS_MAX {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let text = port.to_string();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &text];
        let mut command = Command::new("redis-server");
        let mut server = Ending(command.args(options).stdout(Stdio::null()).spawn()?);
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(50));
            if server.try_wait()?.is_some() {
                break;
            }
            if process_at(port).is_some_and(|pid| pid == server.id()) {
                return Ok((server, text));
            }
        }
    }
    Err(format!("redis-server does not listen after {STARTS_MAX} starts").into())
}

/// Which process the server at this port says that it is.
fn process_at(port: u16) -> Option<u32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"INFO server\r\nQUIT\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    process_in(&answer)
}

fn process_in(answer: &str) -> Option<u32> {
    answer.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}

fn benchmark(port: &str, test: &str, requests: u64) -> Result<()> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", port, "-t", test, "-c", CONNECTIONS, "-P", PIPELINE, "-d", VALUE_LEN]);
    let status =
        command.args(["-n", &requests.to_string(), "-q"]).stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("redis-benchmark: {status}").into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_says_which_process_it_is() {
        let answer = "$512\r\n# Server\r\nredis_version:7.0.15\r\nprocess_id:4711\r\n+OK\r\n";
        assert_eq!(process_in(answer), Some(4711));
        assert_eq!(process_in("-ERR unknown command\r\n"), None);
    }
}
