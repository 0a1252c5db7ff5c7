//! Checked, framed, immutable snapshots of a cache.
//!
//! A [`Snapshot`] holds the bytes of every response, markers in place, in one arena; workers
//! read it without a lock. The [`SnapshotHandle`] is where the current one is found.

mod snapshot;

pub use snapshot::{ArenaError, Place, Snapshot, SnapshotBuilder, SnapshotHandle};
