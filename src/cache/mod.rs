//! The stores on disk, read in large pieces.
//!
//! A [`Store`] lists its groups when it is opened. A [`GroupVisitor`] then gets each group's stored
//! bytes piece by piece, so that there is no second copy of the cache while it loads. This module
//! does not interpret the bytes: containers and indexes are `protocol`'s.
//!
//! Read `store` first, then `sector`, `chain` and `dat`. docs/cache-format.md is the contract.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation
    )
)]

mod chain;
mod dat;
mod error;
mod file;
mod flat;
mod index;
mod names;
mod packed;
mod sector;
mod staged;
mod store;
mod write;

#[cfg(test)]
mod tests;

pub use error::{Entry, GroupError, IndexCut, Place, StoreError, StoreFault, StoreWarning};
pub use file::{Reading, block_on, block_on_by};
pub use packed::{PackedFault, Packing};
pub use staged::{Form, StagedStore, lock};
pub use store::{Store, StoreKind};
pub use write::{StoreWriter, WriteSummary};

/// The longest a group can be: the length in an idx entry has three bytes.
pub const GROUP_BYTES_MAX: u32 = 0x00FF_FFFF;

/// A group that a store says it holds. Its place in the store's listing is its *slot*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredGroup {
    /// The archive, 0 to 255.
    pub archive: u8,
    /// The group; 65,536 and more exist on disk and cannot be asked for on the wire.
    pub group: u32,
    /// The length of the stored bytes, version trailer included. At most [`GROUP_BYTES_MAX`];
    /// what the store says, which may be false: see [`Store::data_bytes`].
    pub len_bytes: u32,
}

/// Is shown the stored bytes of groups while a store is read.
///
/// The pieces of one group come in order and without a gap; those of several groups may be
/// interleaved. After the last piece of a slot comes either `complete` or `failed`, once;
/// `failed` may come at any time before that. Every slot gets one of the two, unless the
/// reading of the whole store ends with a [`StoreError`].
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
