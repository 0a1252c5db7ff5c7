//! What is in a mirror already, taken over into the journal, so that it is not asked for again.

use super::journal::Journal;
use crate::cache::{GroupError, GroupVisitor, Store, StoreError, StoredGroup, block_on};
use crate::failure::Failure;
use crate::protocol::GroupId;
use std::collections::HashMap;
use std::path::Path;

/// Reads the store at `path`, whatever its form, and appends what the journal lacks. What cannot
/// be read, or is no container, is fetched anew.
pub(super) fn take_over(path: &Path, journal: &mut Journal) -> Result<(), Failure> {
    block_on(async {
        let store = Store::open(path).await?;
        let mut visitor =
            TakeOver { groups: store.groups(), journal, begun: HashMap::new(), error: None };
        store.read_all(&mut visitor).await?;
        visitor.error.map_or(Ok(()), Err)
    })
    .map_err(Failure::from)
}

struct TakeOver<'a> {
    groups: &'a [StoredGroup],
    journal: &'a mut Journal,
    begun: HashMap<usize, Vec<u8>>,
    error: Option<StoreError>,
}

impl GroupVisitor for TakeOver<'_> {
    fn piece(&mut self, slot: usize, _: u32, bytes: &[u8]) {
        self.begun.entry(slot).or_default().extend_from_slice(bytes);
    }

    fn complete(&mut self, slot: usize) {
        let stored = self.begun.remove(&slot).unwrap_or_default();
        let StoredGroup { archive, group, .. } = self.groups[slot];
        let Some(container) = container(&stored) else { return };
        let id = GroupId { archive, group };
        if self.error.is_none() && !self.journal.has(id, crc32fast::hash(container)) {
            self.error = self.journal.append(id, container).err();
        }
    }

    fn failed(&mut self, slot: usize, _: GroupError) {
        self.begun.remove(&slot);
    }

    fn progress(&mut self, _: u64, _: u64) {}
}

/// The container at the start of what is stored, by what is plain in every one: its type and its
/// compressed length.
fn container(stored: &[u8]) -> Option<&[u8]> {
    let (&[kind, a, b, c, d], _) = stored.split_first_chunk()?;
    let header_len = if kind == 0 { 5 } else { 9 };
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    stored.get(..len.checked_add(header_len)?)
}
