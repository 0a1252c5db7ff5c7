//! Sockets and the ring: workers, each a thread with its own ring, listeners and connections.
//!
//! Nothing here parses a byte: connections feed [`crate::protocol::ServerSession`] and turn its
//! steps into operations. With the cache's file reader, `driver` is the only place that names
//! tokio-uring. What workers share is the snapshot handle, the connection counts and the
//! published counters; everything else is a worker's own.

mod accept;
pub mod admission;
pub mod batch;
mod by_address;
mod config;
pub mod connection;
mod connections;
mod control;
pub mod count;
mod crowd;
mod driver;
#[cfg(test)]
mod fault_tests;
pub mod footprint;
pub mod game;
mod generations;
pub mod line;
mod listener;
mod openings;
pub mod queue_pool;
mod shared;
#[cfg(test)]
mod simulation;
mod sweep;
mod worker;

pub use config::{ConnectionLimits, Front, ServeConfig};
pub use control::{Control, Course};
pub use driver::{Driver, Key};
pub use listener::{ListenError, Listener, adopt, bind};
pub use openings::Openings;
pub use shared::Shared;
pub use worker::run;
