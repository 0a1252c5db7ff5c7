//! What the threads of this module have in common: the kind of ring, and the heartbeat.

use std::io;

/// How often a thread looks at its deadlines and publishes its counters.
pub(super) const HEARTBEAT_MS: u64 = 100;

/// How much a thread's ring holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSize {
    /// Submissions that wait for the kernel.
    pub(super) entries: u32,
    /// Completions that wait for the thread; many more, as thousands may come at once.
    pub(super) completions: u32,
}

/// A worker's.
pub(super) const WORKER: RingSize = RingSize { entries: 4096, completions: 32768 };

/// Of the thread of game connections. Completions are at most three a connection: one a
/// direction, and a deadline's.
pub(super) const GAME: RingSize = RingSize { entries: 1024, completions: 16384 };

impl RingSize {
    /// The ring, and the runtime on it.
    ///
    /// # Errors
    /// The ring cannot be set up.
    pub(super) fn runtime(self) -> io::Result<tokio_uring::Runtime> {
        let mut ring = tokio_uring::uring_builder();
        // Not DEFER_TASKRUN, with which the runtime hangs: it never enters to reap events.
        ring.setup_cqsize(self.completions).setup_coop_taskrun().setup_single_issuer();
        let mut builder = tokio_uring::builder();
        tokio_uring::Runtime::new(builder.entries(self.entries).uring_builder(&ring))
    }
}
