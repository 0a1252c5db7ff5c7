//! Writes the groups of a source directly to their place in the arena, in each framing that is
//! needed.
//!
//! A group gets its room when its container header is known. From then on each piece is written to
//! its place in the framed response, so that there is no second copy. The checksum is computed
//! while a piece is in the processor's cache. Of the bytes behind the container the last two are
//! kept for `verify`: they are the version trailer, if there are exactly two.

use super::report::{Cause, PROBLEMS_MAX};
use super::snapshot::{Room, SnapshotBuilder};
use crate::cache::{GroupError, GroupVisitor, StoredGroup};
use crate::protocol::container::{Compression, ContainerError, ContainerHeader};
use crate::protocol::{GROUPS_MAX, GROUPS_NARROW, GroupId};
use crc32fast::Hasher;
use std::collections::HashMap;

/// How far a slot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// The container header is not known.
    #[default]
    Begun,
    /// The header is known and sound.
    Filling,
    /// All bytes are there.
    Whole,
    /// What is stored is no container: see `Filled::refused`.
    Refused,
    /// It could not be read: see `Filled::refused`.
    Failed,
}

/// What is known of a stored group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// Its responses in the arena; none if it cannot be asked for.
    pub(super) room: Option<Room>,
    /// From its header; at most the stored length.
    pub(super) container_len: u32,
    /// CRC-32 of the container so far.
    pub(super) crc: u32,
    /// The last two bytes beyond the container.
    pub(super) trailer: [u8; 2],
    /// From its header.
    pub(super) compression: Option<Compression>,
    pub(super) state: State,
}

/// All slots, after a source has shown everything.
pub(super) struct Filled {
    pub(super) builder: SnapshotBuilder,
    pub(super) slots: Vec<Slot>,
    /// Why the [`State::Refused`] and [`State::Failed`] slots are; of [`PROBLEMS_MAX`] slots, the
    /// first that were met.
    refused: HashMap<usize, Cause>,
}

impl Filled {
    /// Takes out why a slot is refused, or could not be read.
    pub(super) fn cause(&mut self, number: usize) -> Cause {
        self.refused.remove(&number).unwrap_or(Cause::NotKept)
    }

    fn keep(&mut self, number: usize, cause: Cause) {
        // The report keeps no more than this either.
        if self.refused.len() < PROBLEMS_MAX || self.refused.contains_key(&number) {
            self.refused.insert(number, cause);
        }
    }
}

/// The visitor that fills the arena.
pub(super) struct Filler<'a> {
    groups: &'a [StoredGroup],
    /// Whether groups of 65,536 and more can be asked for.
    wide: bool,
    filled: Filled,
    /// The first bytes of groups whose first piece was shorter than a container header.
    short: HashMap<usize, Vec<u8>>,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Filler<'a> {
    pub(super) fn new(
        groups: &'a [StoredGroup],
        wide: bool,
        builder: SnapshotBuilder,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let slots = vec![Slot::default(); groups.len()];
        let filled = Filled { builder, slots, refused: HashMap::new() };
        Self { groups, wide, filled, short: HashMap::new(), progress }
    }

    pub(super) fn into_filled(self) -> Filled {
        self.filled
    }

    /// Takes the first bytes of a group, which may not yet hold the container's header.
    fn begin(&mut self, number: usize, bytes: &[u8]) {
        match ContainerHeader::parse(bytes) {
            Ok(header) => self.start(number, header),
            Err(ContainerError::Truncated { .. }) => {
                self.short.insert(number, bytes.to_vec());
                return;
            }
            Err(error) => self.refuse(number, Cause::Container(error)),
        }
        self.body(number, 0, bytes);
    }

    /// Finds room for the response of a group whose header is known.
    fn start(&mut self, number: usize, header: ContainerHeader) {
        let group = self.groups[number];
        let needed = header.container_len();
        let container_len = match u32::try_from(needed) {
            Ok(len) if len <= group.len_bytes => len,
            _ => return self.refuse(number, Cause::Container(cut_short(needed, group))),
        };
        let room = match wire_id(group, self.wide) {
            None => None,
            Some(id) => match self.filled.builder.allocate(id, needed) {
                None => return self.refuse(number, Cause::NoRoom),
                room => room,
            },
        };
        let (state, compression) = (State::Filling, Some(header.compression));
        self.filled.slots[number] =
            Slot { room, container_len, compression, state, ..Slot::default() };
    }

    /// Takes bytes of a group whose header is known.
    fn body(&mut self, number: usize, offset: u32, bytes: &[u8]) {
        let slot = &mut self.filled.slots[number];
        if slot.state != State::Filling {
            return;
        }
        let left = slot.container_len.saturating_sub(offset) as usize;
        let (container, beyond) = bytes.split_at_checked(left).unwrap_or((bytes, &[]));
        if !container.is_empty() {
            let mut hasher = Hasher::new_with_initial(slot.crc);
            hasher.update(container);
            slot.crc = hasher.finalize();
            if let Some(room) = slot.room {
                self.filled.builder.place(room, offset as usize, container);
            }
        }
        for &byte in &beyond[beyond.len().saturating_sub(2)..] {
            slot.trailer = [slot.trailer[1], byte];
        }
    }

    fn refuse(&mut self, number: usize, cause: Cause) {
        self.filled.slots[number].state = State::Refused;
        self.filled.keep(number, cause);
    }
}

/// The slot numbers come from the source and are those of its own listing.
impl GroupVisitor for Filler<'_> {
    fn piece(&mut self, slot: usize, offset: u32, bytes: &[u8]) {
        match self.filled.slots[slot].state {
            State::Begun => match self.short.remove(&slot) {
                None => self.begin(slot, bytes),
                Some(mut first) => {
                    first.extend_from_slice(bytes);
                    self.begin(slot, &first);
                }
            },
            State::Filling => self.body(slot, offset, bytes),
            State::Whole | State::Refused | State::Failed => {}
        }
    }

    fn complete(&mut self, slot: usize) {
        match self.filled.slots[slot].state {
            State::Begun => {
                // Less than a header: parsing it again says how much less.
                let first = self.short.remove(&slot).unwrap_or_default();
                if let Err(error) = ContainerHeader::parse(&first) {
                    self.refuse(slot, Cause::Container(error));
                }
            }
            State::Filling => self.filled.slots[slot].state = State::Whole,
            State::Whole | State::Refused | State::Failed => {}
        }
    }

    fn failed(&mut self, slot: usize, error: GroupError) {
        self.short.remove(&slot);
        let state = &mut self.filled.slots[slot];
        if let Some(room) = state.room.take() {
            self.filled.builder.release(room);
        }
        state.state = State::Failed;
        self.filled.keep(slot, Cause::Unreadable(error));
    }

    fn progress(&mut self, done: u64, total: u64) {
        (self.progress)(done, total);
    }
}

/// The id of a stored group, if it can be asked for: the master index is the server's own, and
/// groups of 65,536 and more are for clients with longer messages.
pub(super) fn wire_id(group: StoredGroup, wide: bool) -> Option<GroupId> {
    let StoredGroup { archive, group, .. } = group;
    let groups_max = match archive {
        255 => 255,
        _ if wide => GROUPS_MAX,
        _ => GROUPS_NARROW,
    };
    (group < groups_max).then_some(GroupId { archive, group })
}

/// What is wrong with a group that ends before its container does.
fn cut_short(needed: usize, group: StoredGroup) -> ContainerError {
    ContainerError::Truncated { needed, found: group.len_bytes as usize }
}
