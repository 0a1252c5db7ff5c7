//! The load generator's program.
#![allow(dead_code, reason = "the parts come together one by one")]

mod catalogue;
mod cli;
mod engine;
mod human;
mod learn;
mod null_server;
mod ring;
mod stats;
mod trace;

fn main() {}
