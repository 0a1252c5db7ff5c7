//! What tests and chores share, so that there is one of each: a child process that does not
//! outlive its owner, what `/proc` says of a process, and a reader of Prometheus' text.
//!
//! Nothing of js5d is in it: what looks at the program from outside shares no code with it.

mod denied;
mod metrics;
mod process;

pub use denied::{Denial, deny_ring};
pub use metrics::Metrics;
pub use process::{
    Ending, cpu, descriptor_table, descriptors, is_ready_line, memory_bytes, ready_address,
};
