//! The engine: workers, each with its own ring, put the load of a [`plan::Plan`] on a server.
//!
//! Read `plan`, then `worker`, `client`, and the parts of a client: `connection`, `visit` and
//! `checker`. Times are nanoseconds since the start of the run. Sockets are opened, written to and
//! closed by direct system calls; they are read through the ring.

pub(crate) mod checker;
mod client;
mod connection;
mod core;
mod faults;
mod hostile;
pub(crate) mod limits;
pub(crate) mod pace;
pub(crate) mod plan;
pub(crate) mod source;
mod tally;
mod visit;
mod worker;

use crate::stats::{Live, Stats};
use crate::trace::Written;
use plan::{Plan, Start};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The outcome of a run.
pub(crate) struct Harvest {
    pub(crate) stats: Stats,
    /// The requests in the order in which they were written, if the plan wants a trace.
    pub(crate) written: Vec<Written>,
    /// The first error of a connect.
    pub(crate) connect_error: Option<String>,
    /// How long was measured.
    pub(crate) measured_ns: u64,
    /// When the run began, its warm-up included.
    pub(crate) begun: Instant,
}

/// Runs a plan. `progress` is called a few times a second with what the
/// workers have published.
///
/// # Errors
/// A worker has no ring, or cannot have its core.
pub(crate) fn run(
    plan: &Arc<Plan>,
    start: Start,
    stop: &AtomicBool,
    mut progress: impl FnMut(&[Live]),
) -> io::Result<Harvest> {
    limits::reserve_descriptors(plan.connections.div_ceil(plan.part.of));
    let gate = worker::Gate::new(plan.threads, start);
    let lives: Vec<Live> = (0..plan.threads).map(|_| Live::default()).collect();
    let harvests: Vec<io::Result<worker::Harvest>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|index| {
                let (live, gate) = (&lives[index as usize], &gate);
                std::thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .spawn_scoped(scope, move || worker::run(plan, index, gate, live, stop))
            })
            .collect();
        while workers.iter().flatten().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            progress(&lives);
        }
        let ended = workers.into_iter().map(|worker| match worker?.join() {
            Ok(harvest) => harvest,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    });
    let mut sum = Harvest {
        stats: Stats::default(),
        written: Vec::new(),
        connect_error: None,
        measured_ns: 0,
        begun: gate.begun(),
    };
    for harvest in harvests {
        let harvest = harvest?;
        sum.stats.merge(&harvest.stats);
        sum.written.extend(harvest.written);
        sum.connect_error = sum.connect_error.or(harvest.connect_error);
        sum.measured_ns = sum.measured_ns.max(harvest.end_ns.saturating_sub(plan.warmup_ns));
    }
    sum.written.sort_by_key(|written| written.at_ns);
    Ok(sum)
}
