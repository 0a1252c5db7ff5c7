//! What tests and chores share, so that there is one of each: a child process that does not
//! outlive its owner, a server as such, what `/proc` says of a process, and a reader of
//! Prometheus' text.
//!
//! Nothing of js5d is in it: what looks at the program from outside shares no code with it.

mod metrics;
mod process;
mod serving;

pub use metrics::Metrics;
pub use process::{Ending, cpu, descriptor_table, descriptors, memory_bytes};
pub use serving::{PATIENCE, Serving};
