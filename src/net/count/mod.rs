//! What a worker counts, times and logs: plain cells, published at its heartbeat.

mod bounds;
mod cell;
mod counters;
mod errnos;
mod latency;
mod log;
mod pulse;

pub use bounds::{BOUNDS_NS, LATENCY_LEN, SUM_AT};
pub use cell::add;
pub use counters::{Close, Counters, Published, Totals};
pub use errnos::{
    ERRNOS_LEN, count as count_errno, is_of_listener, is_of_peer, names as errno_names,
};
pub(super) use latency::{NOT_PICKED, PickId, Sampler};
pub use log::LogGates;
pub(super) use log::{Gate, LogState, Notes};
pub use pulse::{Pulse, Work};
