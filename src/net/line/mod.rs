//! Decides which connection may send, and when: by turns of the ring, and by the caps on bandwidth.
//! It knows connections only by their numbers.

pub mod bucket;
pub mod egress;
pub mod schedule;
mod turns;

pub use bucket::RATE_MAX;
pub use egress::Shaper;
#[cfg(test)]
pub(super) use egress::simulate_time;
pub(super) use egress::{Credit, Egress, Share};
pub use schedule::Caps;
pub(super) use schedule::Rank;
pub(super) use turns::{LARGE_FROM, TurnTicket, Turns};
