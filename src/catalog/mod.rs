//! Checked, framed, immutable snapshots of a cache.
//!
//! A [`Snapshot`] holds the bytes of every response, markers in place, in one arena; workers
//! read it without a lock. The [`SnapshotHandle`] is where the current one is found, and the
//! [`Reloader`] puts another in its place.
//!
//! [`load`] makes a snapshot of a [`Source`], a store or the demo cache: `fill` frames what
//! the source shows, `verify` compares it with the archive indexes, `report` says what was
//! found.

mod crcs;
mod demo;
mod fill;
mod handle;
mod load;
mod readers;
mod reload;
mod report;
mod snapshot;
mod verify;

pub use crcs::Crcs;
pub use demo::{DEMO_GROUPS, DEMO_GROUPS_MAX, DEMO_GROUPS_MIN, DEMO_SEED, Demo};
pub use handle::{Alive, SnapshotHandle, Swap};
pub use load::{LoadError, LoadOptions, Loaded, Source, load, loading_bytes_beside};
pub use readers::{MasterError, Readers, STORED_MASTER_LEN_MAX};
pub use reload::{
    LastReload, ReloadDone, ReloadError, ReloadLimits, ReloadQueue, ReloadResult, ReloadStatus,
    ReloadSteps, Reloader,
};
pub use report::{ArchiveReport, Cause, Notice, NoticeKind, Problem, Report};
pub use snapshot::{ArenaError, Place, Room, Snapshot, SnapshotBuilder, SnapshotTotals, View};
