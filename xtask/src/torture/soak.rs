//! Row 23: everything at once, for minutes or for a day.

use super::Findings;
use super::bench::Bench;
use super::load::Load;
use crate::compare::Result;
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the cache is loaded again, and memory looked at.
const INTERVAL: Duration = Duration::from_secs(3);

/// How often a worker's heart beats.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A heart that has nothing else to do, on the same cores: when it is late, so was the machine.
struct Witness {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Witness {
    fn new() -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut late = 0;
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(HEARTBEAT);
                late += u32::from(began.elapsed() > HEARTBEAT * 2);
            }
            late
        });
        Self { ends, thread }
    }

    /// How often it was late.
    fn end(self) -> Result<u32> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the witness panicked".into())
    }
}

/// Churn, resets, slow readers, rekeys, reloads, refusals: memory stays, descriptors come back,
/// no byte is wrong, no heart misses a beat.
pub(super) fn soak(bench: &Bench, findings: &mut Findings) -> Result<()> {
    let time = if bench.quick { Duration::from_secs(20) } else { bench.soak };
    let options = ["--connections-max", "500", "--send-timeout", "5s", "--idle-timeout", "10s"];
    let mut server = bench.serve(&options)?;
    let descriptors = server.descriptors();
    let seconds = format!("{}s", time.as_secs());
    let common = ["--retry", "100ms", "--key", "changing", "--duration", &seconds];
    let start = |mix: &str, connections: &str| {
        let own = ["--mix", mix, "--connections", connections];
        Load::start(bench, &server, &[&own[..], &common].concat())
    };
    let honest = start("play=4,churn=2,slow=1,login-storm=1", "300")?;
    let hostile = start("hostile=1", "100")?;
    // More than the places that are left.
    let crowd = start("churn=1", "300")?;
    let witness = Witness::new();
    let began = Instant::now();
    let mut memory = Vec::new();
    while began.elapsed() + INTERVAL < time {
        server.signal(Signal::HUP)?;
        thread::sleep(INTERVAL);
        // The reload is over: what it read is gone again.
        memory.push(server.memory_bytes() as f64 / 1e6);
    }
    let machine_late = witness.end()?;
    for (name, load) in [("honest", honest), ("hostile", hostile), ("crowd", crowd)] {
        let found = load.finish()?;
        let promise = format!("soak: wrong bytes, {name}");
        findings.holds(&promise, found.faults(), "none", found.faults() == "{}");
    }
    // The first third warms up: pools fill, and the allocator finds its size.
    let third = memory.len() / 3;
    let highest = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
    let (middle, last) = (highest(&memory[third..2 * third]), highest(&memory[2 * third..]));
    findings.at_most("soak: memory at its end, to its middle", last / middle, 1.15, "");
    server.await_metric("js5d_connections_open", |open| open == 0.0)?;
    server.descriptors_back("soak", descriptors, findings);
    let metrics = server.metrics()?;
    let refused = metrics.sum("js5d_refused_total{reason=\"server_full\"}");
    findings.holds("soak: there were refusals", refused, "> 0", refused > 0.0);
    let reloads = metrics.sum("js5d_reloads_total{result=\"unchanged\"}");
    let bound = format!(">= {}", memory.len() / 2);
    findings.holds("soak: reloads", reloads, &bound, reloads >= (memory.len() / 2) as f64);
    let late = metrics.sum("js5d_late_heartbeats_total");
    // Of both workers.
    findings.at_most("soak: late heartbeats", late, f64::from(2 * machine_late), "");
    Ok(())
}
