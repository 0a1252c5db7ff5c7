//! The seeded simulation: machines of connections, driven through any order of events, against
//! an independent model.
//!
//! Each run is determined by its seed: it uses no socket, no clock and no other thread. The message
//! of a run that fails has the command to repeat it. `SIMULATION_SEED` is the seed of the first run
//! and `SIMULATION_RUNS` how many there are (docs/testing.md, "The machine").

mod catalog;
mod link;
mod peer;
mod stats;
mod tally;
mod world;

use stats::Stats;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// The number of runs of `cargo test`.
const RUNS: u64 = 3000;

/// With fewer runs, some of the things that are counted may not happen by chance.
const RUNS_OF_EVERYTHING: u64 = 2000;

/// The state that the threads of the search share.
struct Search {
    next_seed: AtomicU64,
    end_seed: u64,
    stats: Mutex<Stats>,
    /// The lowest seed that failed, and its fault.
    failure: Mutex<Option<(u64, String)>>,
}

impl Search {
    fn run_some(&self) {
        let mut stats = Stats::default();
        while self.failure.lock().expect("no panic").is_none() {
            let seed = self.next_seed.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end_seed {
                break;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| world::run(seed)));
            match outcome.unwrap_or_else(|_| Err("it panics".to_owned())) {
                Ok(run) => stats.add(&run),
                Err(fault) => self.keep_lowest(seed, fault),
            }
        }
        self.stats.lock().expect("no panic").add(&stats);
    }

    fn keep_lowest(&self, seed: u64, fault: String) {
        let mut failure = self.failure.lock().expect("no panic");
        if failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
            *failure = Some((seed, fault));
        }
    }
}

/// A number that the environment sets.
fn set_number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

fn check(runs: u64) {
    let seed = set_number("SIMULATION_SEED", 1);
    let runs = set_number("SIMULATION_RUNS", runs);
    let search = Search {
        next_seed: AtomicU64::new(seed),
        end_seed: seed + runs,
        stats: Mutex::default(),
        failure: Mutex::default(),
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| _ = scope.spawn(|| search.run_some()));
    });
    if let Some((failed, fault)) = search.failure.into_inner().expect("no panic") {
        panic!(
            "run {} of {runs}, seed {failed}: {fault}\n\
             again: SIMULATION_SEED={failed} SIMULATION_RUNS=1 cargo test --lib net::simulation",
            failed - seed + 1
        );
    }
    let stats = search.stats.into_inner().expect("no panic");
    for (what, count) in stats.all() {
        println!("{count:>16} {what}");
        assert!(count > 0 || runs < RUNS_OF_EVERYTHING, "{what}: none in {runs} runs");
    }
}

#[test]
fn whatever_happens_to_connections_their_machines_do_what_the_model_does() {
    check(RUNS);
}

#[test]
#[ignore = "a million runs take minutes"]
fn whatever_happens_to_connections_in_a_million_runs() {
    check(1_000_000);
}
