//! How the main thread steers its workers and the game's thread, and the unit of their clocks.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How the main thread steers its workers.
#[derive(Debug, Default)]
pub struct Control {
    /// Set once: accept no more, finish what is queued, end.
    pub draining: AtomicBool,
    /// Set before `draining`: another process accepts from the listeners from here on. Whoever
    /// waits there is for it, and the sockets stay open.
    pub handed_over: AtomicBool,
}

/// A duration in milliseconds, as clocks count.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
