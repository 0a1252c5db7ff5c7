//! What a worker counts, times and says: plain cells, published at its heartbeat.

mod counters;
mod errnos;
mod latency;
mod log;
mod pulse;

pub use counters::{Close, Counters, Published, Totals, add};
pub use errnos::{
    ERRNOS_LEN, count as count_errno, is_of_listener, is_of_peer, names as errno_names,
};
pub use latency::{BOUNDS_NS, LATENCY_LEN, SUM_AT};
pub(super) use latency::{NOT_PICKED, PickId, Sampler};
pub use log::LogGates;
pub(super) use log::{Gate, LogState, Notes};
pub use pulse::{Pulse, Work};
