//! Holds the current snapshot, and the earlier ones that are still in memory.
//!
//! The handle keeps an earlier snapshot until no connection holds it, and frees it in
//! [`SnapshotHandle::release`]. To give 75 MB back to the system takes milliseconds, which a worker
//! should not spend because its connection was the last to end.

use super::snapshot::Snapshot;
use arc_swap::ArcSwap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the current snapshot is found. A connection asks once and keeps what it got.
#[derive(Debug)]
pub struct SnapshotHandle {
    current: ArcSwap<Snapshot>,
    /// Locked to swap, free or report; workers do none of these.
    earlier: Mutex<Earlier>,
}

#[derive(Debug, Default)]
struct Earlier {
    /// Oldest first.
    snapshots: Vec<Arc<Snapshot>>,
    /// The highest ordinal that was given out.
    last_ordinal: u32,
}

/// The result of putting a snapshot in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// It is the current one.
    Replaced,
    /// An earlier one with the same content was in memory still, and is the current one again.
    Restored,
    /// The current one has the same content, and stays.
    Unchanged,
}

/// A snapshot that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// The id of its content.
    pub generation: u64,
    /// Tells it apart from others with this content.
    pub ordinal: u32,
    /// What it occupies.
    pub memory_bytes: u64,
    /// Whether connections to come are served from it.
    pub is_current: bool,
}

impl SnapshotHandle {
    /// A handle to a first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), earlier: Mutex::default() }
    }

    /// A handle to a snapshot that another has given its ordinal, for simulations: they swap
    /// between a few that are made once.
    #[cfg(test)]
    pub(crate) fn of(current: Arc<Snapshot>) -> Self {
        Self { current: ArcSwap::from(current), earlier: Mutex::default() }
    }

    /// Puts such a snapshot in place.
    #[cfg(test)]
    pub(crate) fn set_current(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts another snapshot in place for connections to come, in one step, unless the same
    /// content is in memory already.
    pub fn swap(&self, mut snapshot: Snapshot) -> Swap {
        let current = self.load();
        if current.serves_the_same(&snapshot) {
            return Swap::Unchanged;
        }
        let mut earlier = self.earlier();
        let same = earlier.snapshots.iter().position(|old| old.serves_the_same(&snapshot));
        let (next, swap) = if let Some(place) = same {
            (earlier.snapshots.remove(place), Swap::Restored)
        } else {
            earlier.last_ordinal = earlier.last_ordinal.wrapping_add(1);
            snapshot.ordinal = earlier.last_ordinal;
            (Arc::new(snapshot), Swap::Replaced)
        };
        earlier.snapshots.push(self.current.swap(next));
        swap
    }

    /// Frees the earlier snapshots that no connection holds. Returns how many are left.
    pub fn release(&self) -> usize {
        let mut earlier = self.earlier();
        // References are given out by `current` only, so the last one stays the last.
        earlier.snapshots.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        earlier.snapshots.len()
    }

    /// What is in memory: the current snapshot first, then the earlier ones, oldest first.
    #[must_use]
    pub fn alive(&self) -> Vec<Alive> {
        let earlier = self.earlier();
        let alive = |snapshot: &Snapshot, is_current| Alive {
            generation: snapshot.generation(),
            ordinal: snapshot.ordinal(),
            memory_bytes: snapshot.memory_bytes(),
            is_current,
        };
        let mut all = vec![alive(&self.load(), true)];
        all.extend(earlier.snapshots.iter().map(|snapshot| alive(snapshot, false)));
        all
    }

    fn earlier(&self) -> MutexGuard<'_, Earlier> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::SnapshotBuilder;
    use crate::protocol::{GroupId, MASTER_INDEX};

    /// A snapshot with a master index of this byte, and perhaps another group.
    fn snapshot(byte: u8, has_more: bool) -> Snapshot {
        let mut builder = SnapshotBuilder::new(2, 100).expect("small");
        let at = builder.allocate(MASTER_INDEX, 6).expect("room");
        crate::protocol::frame::place(builder.framed_mut(at), 0, &[0, 0, 0, 0, 1, byte]);
        builder.publish(MASTER_INDEX, at);
        if has_more {
            let id = GroupId { archive: 1, group: 1 };
            let at = builder.allocate(id, 6).expect("room");
            builder.publish(id, at);
        }
        builder.seal().expect("sealed")
    }

    fn generations(handle: &SnapshotHandle) -> Vec<(u32, bool)> {
        handle.alive().iter().map(|alive| (alive.ordinal, alive.is_current)).collect()
    }

    #[test]
    fn an_earlier_snapshot_is_freed_when_no_connection_holds_it() {
        let handle = SnapshotHandle::new(snapshot(1, false));
        let held = handle.load();
        assert_eq!(handle.swap(snapshot(2, false)), Swap::Replaced);
        assert_eq!(handle.release(), 1);
        assert_eq!(generations(&handle), [(1, true), (0, false)]);
        let weak = Arc::downgrade(&held);
        drop(held);
        assert_eq!(weak.strong_count(), 1, "a worker never frees it");
        assert_eq!(handle.release(), 0);
        assert_eq!(weak.strong_count(), 0);
        assert_eq!(generations(&handle), [(1, true)]);
    }

    #[test]
    fn snapshots_are_compared_by_content_and_not_by_generation() {
        let handle = SnapshotHandle::new(snapshot(1, false));
        assert_eq!(handle.swap(snapshot(1, false)), Swap::Unchanged);
        assert_eq!(generations(&handle), [(0, true)]);
        // What was skipped as corrupt has been mended: the master index is the same.
        assert_eq!(handle.swap(snapshot(1, true)), Swap::Replaced);
        let alive = handle.alive();
        assert_eq!(alive[0].generation, alive[1].generation);
        assert_ne!(alive[0].ordinal, alive[1].ordinal);
    }

    #[test]
    fn a_snapshot_that_is_still_in_memory_is_used_again() {
        let handle = SnapshotHandle::new(snapshot(1, false));
        let held = handle.load();
        assert_eq!(handle.swap(snapshot(2, false)), Swap::Replaced);
        assert_eq!(handle.swap(snapshot(1, false)), Swap::Restored);
        assert!(Arc::ptr_eq(&held, &handle.load()));
        assert_eq!(generations(&handle), [(0, true), (1, false)]);
    }
}
