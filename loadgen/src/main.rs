//! The load generator's program.
#![allow(dead_code, reason = "the engine that uses the reports comes in with the next merge")]

mod assertion;
mod compare_stats;
mod environment;
mod report;
mod result;
mod stats;
mod verdict;

fn main() {}
