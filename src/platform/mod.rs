//! Calls to the system: cores, descriptors, memory, whether io_uring works, socket options.
//!
//! With the ring's operations in `net/driver/` this is the only place of the server with `unsafe`.

pub mod cpu;
pub mod descriptors;
pub mod limits;
pub mod memory;
pub mod prefetch;
pub mod probe;
pub mod realtime;
pub mod sandbox;
pub mod socket;
