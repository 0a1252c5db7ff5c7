//! What the program does: a file a command, and what they share.

mod admin;
pub mod ask;
pub mod check;
pub mod config;
pub mod convert;
pub mod crcs;
pub mod demo_cache;
pub mod diff;
pub mod fetch;
pub mod generate;
mod progress;
pub mod serve;
mod summary;
mod text;
