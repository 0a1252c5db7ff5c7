//! What the program does: a file a command, and what they share.

pub mod check;
pub mod config;
pub mod demo_cache;
pub mod generate;
mod progress;
pub mod serve;
mod text;
