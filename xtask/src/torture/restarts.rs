//! Rows 18, 20 to 22, 24 and 26: reloads, stops, hand-overs, `kill -9`, and a stopped process.

use super::Findings;
use super::bench::{Bench, CLIENTS, output_within};
use super::load::{EachClient, Load};
use crate::compare::Result;
use crate::workspace::cargo;
use rustix::process::Signal;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test may take, its build included.
const TIME_MAX: Duration = Duration::from_secs(900);

/// Runs feature tests whose name contains `name`, of full size. What they print in their last
/// lines is the value.
fn feature(findings: &mut Findings, promise: &str, name: &str, bound: &str) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--release", "--package", "js5d", "--test", "features", "--"]);
    command.args(["--include-ignored", "--nocapture", name]);
    let (is_well, text) = output_within(command.stderr(Stdio::null()), TIME_MAX)?;
    let passed = text.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    let count = passed.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    for line in text.lines().filter(|line| line.contains(',') && !line.starts_with("test ")) {
        println!("   {line}");
    }
    let is_so = is_well && count > 0;
    findings.holds(promise, format!("{count} tests passed"), bound, is_so);
    Ok(())
}

/// 2,000 busy peers, 50 swaps, some of them corrupt.
pub(super) fn reload_under_load(_: &Bench, findings: &mut Findings) -> Result<()> {
    let bound = "0 dropped, 0 refused, 0 mixed";
    feature(findings, "reload under load", "two_thousand_busy_clients", bound)
}

/// SIGTERM with 1,000 peers in mid-response, and a second one.
pub(super) fn stop(_: &Bench, findings: &mut Findings) -> Result<()> {
    feature(findings, "stop in mid-response", "sigterm_with_a_thousand", "each completes, exit 0")?;
    feature(findings, "stop: a second signal", "a_second_signal_leaves_at_once", "at once")
}

/// Ten hand-overs under 1,000 connects a second.
pub(super) fn hand_over(_: &Bench, findings: &mut Findings) -> Result<()> {
    feature(findings, "hand-over under connects", "ten_hand_overs", "0 refused, 0 reset")
}

/// Hand-overs under clients that pause between connect and handshake, and a SIGTERM to the process
/// that gives or to the one that takes, at any moment of it.
pub(super) fn late_handshakes(_: &Bench, findings: &mut Findings) -> Result<()> {
    let bound = "0 refused, reset, told full";
    feature(findings, "hand-over: 10,000 late handshakes", "ten_thousand_connects", bound)?;
    feature(findings, "hand-over: the giver is stopped", "gives_at_any_moment", bound)?;
    feature(findings, "hand-over: the taker is stopped", "takes_at_any_moment", bound)?;
    feature(findings, "hand-over: a port that is passed", "handover::", "never shut")
}

/// `kill -9` and a start, again and again.
pub(super) fn killed(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let times = bench.sized(20, 5);
    let mut server = bench.serve(&[])?;
    let address = server.address.to_string();
    let time = format!("{}s", times + 3);
    let load = ["--connections", "20", "--retry", "50ms", "--resume", "--duration", &time];
    let load = EachClient::start(bench, &server, &load)?;
    let mut slowest = Duration::ZERO;
    for round in 0..times {
        thread::sleep(Duration::from_millis(400));
        server.signal(Signal::KILL)?;
        server.wait()?;
        drop(server);
        let start = Instant::now();
        let admin = bench.dir.join(format!("row22-{round}.sock"));
        server =
            bench.serve_by(&mut Command::new(&bench.js5d), &bench.cache, &admin, &address, &[])?;
        slowest = slowest.max(start.elapsed());
    }
    let found = load.finish()?;
    findings.at_most("killed: until ready again", slowest.as_secs_f64(), 1.0, " s");
    found.hold("killed", 1, findings);
    let came_back = found.outcome("status-ok");
    let wanted = (times * 20 * CLIENTS.len()) as u64;
    let bound = format!(">= {wanted}");
    findings.holds("killed: connections that came back", came_back, &bound, came_back >= wanted);
    Ok(())
}

/// The process is stopped for longer than every deadline, and goes on.
pub(super) fn stopped_and_continued(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let deadlines = ["--idle-timeout", "3s", "--send-timeout", "3s", "--handshake-timeout", "3s"];
    let server = bench.serve(&deadlines)?;
    // A generator calls it a fault if the server stands still for half of the time.
    let busy = ["--duration", "16s", "--stall-timeout", "8s", "--connections"];
    let each = EachClient::start(bench, &server, &[&busy[..], &["4"]].concat())?;
    let busy = Load::start(bench, &server, &[&busy[..], &["80"]].concat())?;
    let idle = ["--scenario", "idle", "--connections", "200", "--keepalive", "1s"];
    let idle = [&idle[..], &["--duration", "16s", "--stall-timeout", "8s"]].concat();
    let idle = Load::start(bench, &server, &idle)?;
    thread::sleep(Duration::from_secs(2));
    server.signal(Signal::STOP)?;
    thread::sleep(Duration::from_secs(5));
    server.signal(Signal::CONT)?;
    thread::sleep(Duration::from_millis(500));
    let metrics = server.metrics()?;
    let cut: f64 = ["handshake_timeout", "idle_timeout", "send_timeout"]
        .map(|reason| metrics.sum(&format!("js5d_closed_total{{reason=\"{reason}\"}}")))
        .into_iter()
        .sum();
    findings.exactly("stopped for 5 s: peers cut", cut as u64, 0);
    each.finish()?.hold("stopped for 5 s", 1, findings);
    for (name, load) in [("busy", busy), ("idle", idle)] {
        let found = load.finish()?;
        let name = format!("stopped for 5 s: faults of the {name}");
        findings.holds(&name, found.faults(), "none", found.faults() == "{}" && found.code != 3);
    }
    Ok(())
}
