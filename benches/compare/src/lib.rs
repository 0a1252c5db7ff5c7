//! Two servers to compare js5d with, as small as possible, that still answer with the right bytes:
//! `ring-limit` directly on io_uring, which is the ceiling, and `epoll` on plain tokio, the usual
//! way to write such a server.
//!
//! They share js5d's catalog and message parser, this crate's session and batch, and nothing of
//! js5d's `net`. They have no deadlines, limits, priorities, reloads, counters and logs; these are
//! what js5d costs more than the ceiling.

pub mod batch;
pub mod sending;
pub mod session;
pub mod setup;
