//! What tests and chores share, so that there is one of each: a child process that does not
//! outlive its owner, a server as such, what `/proc` says of a process, and a reader of
//! Prometheus' text.
//!
//! It shares no code with js5d, so that tests check the program independently.

mod denied;
mod metrics;
mod process;
mod serving;

pub use denied::{Denial, deny_ring};
pub use metrics::Metrics;
pub use process::{Ending, cpu, descriptor_table, descriptors, memory_bytes};
pub use serving::{PATIENCE, Serving};
