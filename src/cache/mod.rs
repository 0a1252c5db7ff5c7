//! The stores on disk: what they hold, read in large pieces, every byte accounted for.
//!
//! A [`GroupVisitor`] is shown each group's stored bytes piece by piece, so that nobody holds a
//! second copy of the cache while it loads.

mod error;

pub use error::{GroupError, StoreError};

/// A group that a store says it holds. Its place in the store's listing is its *slot*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// The archive, 0 to 255.
    pub archive: u8,
    /// The group; 65,536 and more exist on disk and cannot be asked for on the wire.
    pub group: u32,
    /// The length of the stored bytes, version trailer included. At most `u24`; what the store
    /// says, not yet believed.
    pub len_bytes: u32,
}

/// Is shown the stored bytes of groups while a store is read.
///
/// The pieces of one group come in order and without a gap; those of several groups may be
/// interleaved. After the last piece of a slot comes either `complete` or `failed`, once;
/// `failed` may come at any time before that.
pub trait GroupVisitor {
    /// The bytes of the group in `slot` from `offset` on.
    fn piece(&mut self, slot: usize, offset: u32, bytes: &[u8]);
    /// All `len_bytes` bytes of the group have been shown.
    fn complete(&mut self, slot: usize);
    /// The group cannot be read. What was shown of it is void.
    fn failed(&mut self, slot: usize, error: GroupError);
    /// `done` of `total` bytes of the store have been read.
    fn progress(&mut self, done: u64, total: u64);
}
