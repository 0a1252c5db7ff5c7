//! Rows 13 and 14: descriptors run out, and the ring fails.

use super::Findings;
use super::bench::{Bench, Server, has_program, output_within};
use super::load::{EachClient, Load};
use crate::compare::Result;
use crate::workspace::cargo;
use rustix::process::{Resource, Rlimit, prlimit};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What is injected: into the ring's entry now and then, and 60 times in a row; into sends that
/// are tried without the ring.
const INJECTED: [(&str, &str, &str); 9] = [
    ("io_uring_enter", "EINTR", "5+3"),
    ("io_uring_enter", "EAGAIN", "5+5"),
    ("io_uring_enter", "EBUSY", "5+5"),
    ("io_uring_enter", "ENOMEM", "5+7"),
    ("io_uring_enter", "EBUSY", "200..260"),
    ("io_uring_enter", "ENOMEM", "200..260"),
    ("sendto,sendmsg", "EAGAIN", "5+3"),
    ("sendto,sendmsg", "ENOBUFS", "5+3"),
    ("sendto,sendmsg", "ENOMEM", "5+7"),
];

/// How long the test of the failing ring may take, its build included.
const TIME_MAX: Duration = Duration::from_secs(600);

/// The heartbeat, and 100 ms.
const HANG_MAX_MS: f64 = 200.0;

/// No descriptor is left for those who connect.
pub(super) fn descriptors(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&[])?;
    let errors = |server: &Server| -> Result<f64> {
        Ok(server.metrics()?.sum("js5d_accept_errors_total{errno=\"EMFILE\"}"))
    };
    let pid = server.pid()?;
    let limit = |count: u64| {
        let rlimit = Rlimit { current: Some(count), maximum: Some(20_000) };
        prlimit(Some(pid), Resource::Nofile, rlimit)
    };
    // The admin address answers while it has one descriptor: the one that its last answer left.
    let free = server.descriptors() as u64 + 3;
    let before = limit(free)?;
    let began = Instant::now();
    let mut peers = Vec::new();
    for _ in 0..50 {
        peers.push(TcpStream::connect(server.address)?);
    }
    thread::sleep(Duration::from_millis(500));
    let (cpu, lines, start) = (server.cpu(), server.log().lines().count(), Instant::now());
    thread::sleep(Duration::from_secs(3));
    let seconds = start.elapsed().as_secs_f64();
    let busy = (server.cpu() - cpu).as_secs_f64() / seconds * 100.0;
    findings.at_most("descriptors: CPU meanwhile", busy, 5.0, " %");
    let said = (server.log().lines().count() - lines) as f64 / seconds;
    findings.at_most("descriptors: log lines a second", said, 1.4, "");
    let short = began.elapsed().as_secs_f64();
    prlimit(Some(pid), Resource::Nofile, before)?;
    let start = Instant::now();
    server.await_metric("js5d_connections_open", |open| open == 50.0)?;
    findings.at_most("descriptors: until all are served", start.elapsed().as_secs_f64(), 1.0, " s");
    let failed = errors(&server)? / short;
    findings.holds("descriptors: there were errors", format!("{failed:.1}/s"), "> 0", failed > 0.0);
    // Ten a listener and second, and the first at once.
    findings.at_most("descriptors: failed accepts a second", failed, 20.0 + 2.0 / short, "");
    drop(peers);
    table_full(bench, findings)
}

/// The machine has no descriptor left, as strace has it: the first 20 accepts of each worker.
fn table_full(bench: &Bench, findings: &mut Findings) -> Result<()> {
    const FAILURES: u32 = 20;
    if !has_program("strace") {
        findings.skip("descriptors: ENFILE", "strace is missing, which injects the error");
        return Ok(());
    }
    let mut command = Command::new("strace");
    let inject = format!("inject=accept4:error=ENFILE:when=1..{FAILURES}");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=accept4", "-e", &inject]);
    command.arg(&bench.js5d);
    let admin = bench.dir.join("row13.sock");
    let mut server = bench.serve_by(&mut command, &bench.cache, &admin, "127.0.0.1:0", &[])?;
    let start = Instant::now();
    let peers = (0..50).map(|_| TcpStream::connect(server.address));
    let peers = peers.collect::<std::io::Result<Vec<_>>>()?;
    server.await_metric("js5d_connections_open", |open| open == 50.0)?;
    let seconds = start.elapsed().as_secs_f64();
    let failed = server.metrics()?.sum("js5d_accept_errors_total{errno=\"ENFILE\"}");
    findings.exactly("descriptors: ENFILE, failed accepts", failed as u64, 2 * u64::from(FAILURES));
    let bound = 20.0 + 2.0 / seconds;
    findings.at_most("descriptors: ENFILE, a second", failed / seconds, bound, "");
    findings.at_most("descriptors: ENFILE, until served", seconds, 3.0, " s");
    drop(peers);
    Ok(())
}

/// Entering the ring fails, and so do sends beside it, as strace has it.
pub(super) fn ring(bench: &Bench, findings: &mut Findings) -> Result<()> {
    results(findings)?;
    if !has_program("strace") {
        findings.skip("ring: entering fails", "strace is missing, which injects the errors");
        return Ok(());
    }
    for (calls, error, when) in INJECTED {
        let mut command = Command::new("strace");
        let (trace, inject) =
            (format!("trace={calls}"), format!("inject={calls}:error={error}:when={when}"));
        // As a grandchild (-D), so that our child is js5d itself, and ends when we say.
        command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]);
        command.arg(&bench.js5d);
        let admin = bench.dir.join("row14.sock");
        let server = bench.serve_by(&mut command, &bench.cache, &admin, "127.0.0.1:0", &[])?;
        let name = format!("ring: {calls} {error} {when}");
        let options = ["--key", "changing", "--duration", "60s", "--connections"];
        // A machine may send two thousand times a second under strace: of hundreds in flight the
        // last would wait for its turn, and no answer would show a hang.
        let windows: &[&str] = match calls {
            "io_uring_enter" => &[],
            _ => &["--urgent", "2", "--prefetch", "2"],
        };
        let alone = [&options[..], &["20", "--requests", "20000"], windows].concat();
        let found = Load::start(bench, &server, &alone)?.finish()?;
        let faults = format!("{name}, faults");
        findings.holds(&faults, found.faults(), "none", found.faults() == "{}");
        let (answers, is_whole) = (found.answers(), found.answers() >= 20_000);
        findings.holds(&format!("{name}, answers"), answers, ">= 20000", is_whole);
        let slowest = found.slowest_us() / 1000.0;
        findings.at_most(&format!("{name}, slowest"), slowest, HANG_MAX_MS, " ms");
        // Five generators leave strace no core: what takes how long is not told of them.
        let each = [&options[..], &["4", "--requests", "4000"], windows].concat();
        EachClient::start(bench, &server, &each)?.finish()?.hold(&name, 4000, findings);
    }
    Ok(())
}

/// Results of operations: completions cannot be changed from outside, so a worker inside a test
/// has a ring that fails on purpose (src/net/driver/faults.rs).
fn results(findings: &mut Findings) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--release", "--package", "js5d", "--lib", "--"]);
    command.arg("a_ring_that_fails_in_passing");
    let (is_well, text) = output_within(command.stderr(Stdio::null()), TIME_MAX)?;
    let count = text.lines().filter(|line| line.ends_with(" ... ok")).count();
    let (value, bound) = (format!("{count} test passed"), "each byte right, nobody cut");
    findings.holds("ring: results of operations", value, bound, is_well && count == 1);
    Ok(())
}
