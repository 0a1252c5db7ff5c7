//! Rows 13 and 14: descriptors run out, and the ring fails.

use super::Findings;
use super::bench::{Bench, Server, has_program};
use super::load::{Load, honest};
use crate::compare::Result;
use rustix::process::{Resource, Rlimit, prlimit};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// What is injected into the ring's entry, and how often.
const INJECTED: [(&str, &str); 4] =
    [("EINTR", "when=5+3"), ("EAGAIN", "when=5+5"), ("EBUSY", "when=5+5"), ("ENOMEM", "when=5+7")];

/// No descriptor is left for those who connect.
pub(super) fn descriptors(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let mut server = bench.serve(&[])?;
    let errors = |server: &Server| -> Result<f64> {
        Ok(server.metrics()?.value("js5d_accept_errors_total{errno=\"EMFILE\"}"))
    };
    let limit = |count: u64| {
        let rlimit = Rlimit { current: Some(count), maximum: Some(20_000) };
        prlimit(Some(server.pid()), Resource::Nofile, rlimit)
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
    let (cpu, lines, start) = (server.cpu(), server.log_lines().count(), Instant::now());
    thread::sleep(Duration::from_secs(3));
    let seconds = start.elapsed().as_secs_f64();
    let busy = (server.cpu() - cpu).as_secs_f64() / seconds * 100.0;
    findings.at_most("descriptors: CPU meanwhile", busy, 5.0, " %");
    let said = (server.log_lines().count() - lines) as f64 / seconds;
    findings.at_most("descriptors: log lines a second", said, 1.4, "");
    let short = began.elapsed().as_secs_f64();
    prlimit(Some(server.pid()), Resource::Nofile, before)?;
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
    let mut server = bench.serve_by(&mut command, &admin, "127.0.0.1:0", &[])?;
    let start = Instant::now();
    let peers = (0..50).map(|_| TcpStream::connect(server.address));
    let peers = peers.collect::<std::io::Result<Vec<_>>>()?;
    server.await_metric("js5d_connections_open", |open| open == 50.0)?;
    let seconds = start.elapsed().as_secs_f64();
    let failed = server.metrics()?.value("js5d_accept_errors_total{errno=\"ENFILE\"}");
    findings.exactly("descriptors: ENFILE, failed accepts", failed as u64, 2 * u64::from(FAILURES));
    let bound = 20.0 + 2.0 / seconds;
    findings.at_most("descriptors: ENFILE, a second", failed / seconds, bound, "");
    findings.at_most("descriptors: ENFILE, until served", seconds, 3.0, " s");
    drop(peers);
    Ok(())
}

/// Entering the ring fails now and then, as strace has it.
pub(super) fn ring(bench: &Bench, findings: &mut Findings) -> Result<()> {
    findings.skip(
        "ring: results of operations",
        "completions cannot be changed from outside; tests of src/net/ops.rs have the kinds",
    );
    if !has_program("strace") {
        findings.skip("ring: entering fails", "strace is missing, which injects the errors");
        return Ok(());
    }
    for (error, when) in INJECTED {
        let mut command = Command::new("strace");
        let inject = format!("inject=io_uring_enter:error={error}:{when}");
        // As a grandchild (-D), so that our child is js5d itself, and ends when we say.
        command.args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=io_uring_enter",
            "-e",
            &inject,
        ]);
        command.arg(&bench.js5d);
        let admin = bench.dir.join(format!("row14-{error}.sock"));
        let server = bench.serve_by(&mut command, &admin, "127.0.0.1:0", &[])?;
        let options = ["--connections", "20", "--requests", "20000", "--duration", "30s"];
        let found = Load::start(bench, &server, &options)?.finish()?;
        let name = format!("ring: {error} on enter, faults");
        findings.holds(&name, found.faults(), "none", found.faults() == "{}");
        let name = format!("ring: {error} on enter, answers");
        findings.holds(&name, found.answers(), ">= 20000", found.answers() >= 20_000);
        let ages = ["0", "1"].map(|worker| {
            let name = format!("js5d_worker_heartbeat_age_seconds{{worker=\"{worker}\"}}");
            server.metrics().map_or(f64::NAN, |metrics| metrics.value(&name))
        });
        let oldest = ages.into_iter().fold(0.0, f64::max);
        findings.at_most(&format!("ring: {error}, heartbeat's age"), oldest, 0.3, " s");
    }
    let server = bench.serve(&[])?;
    let calm = honest(bench, &server, 1)?;
    findings.exactly("ring: faults without any of it", u64::from(calm.code != 0), 0);
    Ok(())
}
