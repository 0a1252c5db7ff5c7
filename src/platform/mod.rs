//! What the system is asked for: cores, descriptors, the ring's presence, socket details.
//!
//! With the ring's operations in `net/ops.rs` this is the only place with `unsafe`.

pub mod cpu;
pub mod limits;
pub mod probe;
pub mod socket;
