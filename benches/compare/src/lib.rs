//! What js5d is measured beside. Two servers, each as small as it can be and still answer with
//! the right bytes: `ring-limit` straight on io_uring, which is the ceiling, and `epoll` on plain
//! tokio, which is what one would write instead.
//!
//! They share js5d's catalog and message parser, this crate's session and batch, and nothing of
//! its `net`. The surprise is what they lack: deadlines, limits, priorities, reloads, counters
//! and logs. What js5d costs more than the ceiling is the price of these.

pub mod batch;
pub mod ring;
pub mod session;
pub mod setup;
