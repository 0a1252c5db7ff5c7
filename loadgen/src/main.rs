//! The load generator's program.

fn main() {}
