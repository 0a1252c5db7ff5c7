//! The load generator's program.
mod x;
fn main() {x::f()}
