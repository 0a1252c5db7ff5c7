//! What the benchmarks share.

pub mod cases;
pub mod fixture;
