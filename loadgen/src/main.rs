//! The load generator's program.
#![allow(dead_code, reason = "the engine that uses the reports comes in with the next merge")]

mod stats;

fn main() {}
