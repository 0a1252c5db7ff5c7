//! Sockets and the ring: workers, each a thread with its own ring, listeners and connections.
//!
//! Nothing here parses a byte: connections feed [`crate::protocol::ServerSession`] and turn its
//! steps into ring operations. With the cache's file reader this is the only place that names
//! tokio-uring. What workers share is the snapshot handle, the connection counts and the
//! published counters; everything else is a worker's own.

mod accept;
pub mod admission;
mod chatter;
mod close;
mod connection;
mod control;
pub mod counters;
mod counting;
mod credit;
mod crowd;
pub mod egress;
pub mod errnos;
mod fetch_ahead;
pub mod footprint;
mod front;
pub mod game;
mod generations;
pub mod latency;
mod listener;
mod log;
mod ops;
#[cfg(test)]
mod ops_faults;
#[cfg(test)]
mod ops_tests;
pub mod output;
mod pace;
mod peer;
pub mod pulse;
pub mod queue_pool;
mod ring;
mod send;
#[cfg(test)]
mod size_tests;
mod states;
mod sweep;
mod turns;
mod worker;

pub use control::{Control, Course};
pub use front::Front;
pub use listener::{ListenError, Listener, adopt, bind};
pub use log::LogGates;
pub use worker::{Limits, ServeConfig, run};
