//! The table of rows, and how one is run.
//!
//! A row is a function of a seed that says how much it did, or what was wrong. Used by the
//! example `reliability` with the numbers of docs/testing.md and by `cargo test` with small ones.

mod corrupt;
mod found;
mod framing;
pub(super) mod fuzz;
mod image;
mod mutations;
mod plain;
mod rekeys;
mod simulation;
mod splits;
mod wire;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// One case: a function of its seed. How many units it did, or what was wrong.
pub(super) type Case = Box<dyn FnMut(u64) -> Result<u64, String>>;

/// One row of the table.
pub(super) struct Row {
    /// Its number in docs/testing.md.
    pub(super) number: u8,
    /// The first word of its line.
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    /// How many must be done.
    pub(super) count: u64,
    /// Whether there are so many and no more: a table, not a generator.
    pub(super) fixed: bool,
    /// Prepares it.
    prepare: fn() -> Case,
}

/// The rows, by number.
pub(super) const ROWS: &[Row] = &[
    Row {
        number: 1,
        name: "01-fuzz",
        unit: "executions",
        count: 5000 * fuzz::EXECUTIONS,
        fixed: false,
        prepare: fuzz::prepare,
    },
    Row {
        number: 2,
        name: "02-splits",
        unit: "cases",
        count: 100_000,
        fixed: false,
        prepare: splits::prepare,
    },
    Row {
        number: 3,
        name: "03-framing",
        unit: "lengths",
        count: 6_000,
        fixed: false,
        prepare: framing::prepare,
    },
    Row {
        number: 4,
        name: "04-simulation",
        unit: "sessions",
        count: 1_000_000,
        fixed: false,
        prepare: simulation::prepare,
    },
    Row {
        number: 16,
        name: "16-corrupt",
        unit: "caches",
        count: corrupt::EDITS.len() as u64,
        fixed: true,
        prepare: corrupt::prepare,
    },
    Row {
        number: 17,
        name: "17-mutations",
        unit: "mutations",
        count: 100_000,
        fixed: false,
        prepare: mutations::prepare,
    },
    Row {
        number: 19,
        name: "19-rekeys",
        unit: "responses",
        count: 1_000_000,
        fixed: false,
        prepare: rekeys::prepare,
    },
    Row {
        number: 27,
        name: "27-found",
        unit: "caches",
        count: 5_000,
        fixed: false,
        prepare: found::prepare,
    },
];

/// The result of a row.
pub(super) struct Outcome {
    /// Units done.
    pub(super) done: u64,
    /// The seed of the case that failed, and what was wrong.
    pub(super) failure: Option<(u64, String)>,
}

thread_local! {
    /// The row and seed of the case that runs, for a panic in it.
    static RUNNING: Cell<Option<(u8, u64)>> = const { Cell::new(None) };
}

impl Row {
    /// How many units are to be done if `cases` are asked for.
    pub(super) fn wanted(&self, cases: Option<u64>) -> u64 {
        cases.filter(|_| !self.fixed).unwrap_or(self.count)
    }
}

/// The row with this number.
pub(super) fn find(number: u8) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.number == number)
}

/// Runs cases on every core until `wanted` units are done or one fails.
pub(super) fn run(row: &Row, wanted: u64, seed: u64) -> Outcome {
    let next = AtomicU64::new(seed);
    let done = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let cores = if row.fixed { 1 } else { thread::available_parallelism().map_or(1, Into::into) };
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let mut case = (row.prepare)();
                let has_failed = || failure.lock().is_ok_and(|failure| failure.is_some());
                while done.load(Ordering::Relaxed) < wanted && !has_failed() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    RUNNING.set(Some((row.number, seed)));
                    match case(seed) {
                        Ok(units) => _ = done.fetch_add(units.max(1), Ordering::Relaxed),
                        Err(what) => keep_least(&failure, seed, what),
                    }
                }
                RUNNING.set(None);
            });
        }
    });
    let failure = failure.into_inner().unwrap_or_default();
    Outcome { done: done.into_inner(), failure }
}

/// Of several cases that fail at a time, the first is told.
fn keep_least(failure: &Mutex<Option<(u64, String)>>, seed: u64, what: String) {
    if let Ok(mut failure) = failure.lock()
        && failure.as_ref().is_none_or(|(earlier, _)| seed < *earlier)
    {
        *failure = Some((seed, what));
    }
}

/// The command that runs one case again.
pub(super) fn again(row: &Row, seed: u64) -> String {
    let number = row.number;
    format!("cargo run --release --example reliability -- {number} --seed {seed} --cases 1")
}

/// Lets a panic, too, say which case it was.
pub(super) fn tell_of_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some((number, seed)) = RUNNING.get()
            && let Some(row) = find(number)
        {
            eprintln!("{}, seed {seed}: panicked; again: {}", row.name, again(row, seed));
            if let Some((target, input)) = fuzz::running() {
                eprintln!("target {target}, input {input:02x?}");
            }
        }
    }));
}
