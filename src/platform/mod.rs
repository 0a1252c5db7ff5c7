//! What the system is asked for: cores, descriptors, memory, the ring's presence, socket
//! details.
//!
//! With the ring's operations in `net/ops.rs` this is the only place of the server with `unsafe`.

pub mod cpu;
pub mod descriptors;
pub mod limits;
pub mod memory;
pub mod prefetch;
pub mod probe;
pub mod realtime;
pub mod sandbox;
pub mod socket;
