//! One arena with every framed response, and a dense table an archive to find them.
//!
//! Looking a response up costs two loads: no hashing, no count, no lock. The surprise is the
//! arena's size: it is mapped for the most that a store could need and touched only as it
//! fills, so what is not needed costs nothing but address space.

use crate::platform::prefetch;
use crate::protocol::frame::{framed_len, write_header};
use crate::protocol::{GroupId, MASTER_INDEX};
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};

/// Responses begin at multiples of this, so that a table's offsets fit into 32 bits for arenas
/// of up to 32 GiB.
const ALIGNMENT: usize = 8;

/// The largest arena whose offsets, in units of [`ALIGNMENT`], fit into 32 bits.
const ARENA_LEN_MAX: u64 = (ALIGNMENT as u64) << 32;

/// The arena is mapped in multiples of this, so that a small one, too, is one huge page.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// Where a response stands in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In units of [`ALIGNMENT`].
    offset: u32,
    /// In bytes; 0 is no response.
    len: u32,
}

impl Place {
    /// Whether there is no response.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Bytes of the response.
    #[inline]
    #[must_use]
    pub fn len(self) -> usize {
        self.len as usize
    }

    fn range(self) -> std::ops::Range<usize> {
        let start = self.offset as usize * ALIGNMENT;
        start..start + self.len as usize
    }
}

/// Why there is no arena.
#[derive(Debug, thiserror::Error)]
pub enum ArenaError {
    /// The store says that it holds more than can be addressed.
    #[error("the cache needs {bytes} bytes, more than the 32 GiB that js5d can address")]
    TooLarge {
        /// What it would need.
        bytes: u64,
    },
    /// The system gives no address space.
    #[error("no memory for {bytes} bytes of responses: {source}")]
    NoMemory {
        /// What was asked for.
        bytes: u64,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A snapshot that is being filled.
#[derive(Debug)]
pub struct SnapshotBuilder {
    arena: MmapMut,
    used: usize,
    tables: Vec<Vec<Place>>,
}

impl SnapshotBuilder {
    /// An empty arena for at most `groups` responses of `framed_bytes` together.
    ///
    /// # Errors
    /// It is too large, or there is no memory for it.
    pub fn new(groups: usize, framed_bytes: u64) -> Result<Self, ArenaError> {
        let bytes = Self::arena_bytes(groups, framed_bytes);
        let len = usize::try_from(bytes).ok().filter(|_| bytes <= ARENA_LEN_MAX);
        let len = len.ok_or(ArenaError::TooLarge { bytes })?;
        let map = MmapOptions::new().len(len).no_reserve_swap().map_anon();
        let arena = map.map_err(|source| ArenaError::NoMemory { bytes, source })?;
        // Fewer page faults while loading and fewer TLB misses while serving; where huge pages
        // are switched off, ordinary ones do.
        let _ = arena.advise(Advice::HugePage);
        Ok(Self { arena, used: 0, tables: vec![Vec::new(); 256] })
    }

    /// The length of the arena for at most `groups` responses of `framed_bytes` together: what
    /// it costs if all of it is filled.
    #[must_use]
    pub fn arena_bytes(groups: usize, framed_bytes: u64) -> u64 {
        let padding = (groups as u64).saturating_mul(ALIGNMENT as u64);
        let bytes = framed_bytes.saturating_add(padding).max(ALIGNMENT as u64);
        bytes.div_ceil(HUGE_PAGE_LEN as u64).saturating_mul(HUGE_PAGE_LEN as u64)
    }

    /// Room for the framed response of a container of `container_len` bytes; its header is
    /// written. None if the arena is full, which a store that is believed only as far as its
    /// files go cannot bring about.
    pub fn allocate(&mut self, id: GroupId, container_len: usize) -> Option<Place> {
        let len = framed_len(container_len);
        let end = self.used.checked_add(len).filter(|&end| end <= self.arena.len())?;
        let offset = u32::try_from(self.used / ALIGNMENT).ok()?;
        let place = Place { offset, len: u32::try_from(len).ok()? };
        self.used = end.next_multiple_of(ALIGNMENT);
        write_header(self.framed_mut(place), id);
        Some(place)
    }

    /// Takes back the room of a response that came to nothing, if none was given out since: what
    /// a corrupt store claims must not use the arena up.
    pub fn release(&mut self, place: Place) {
        let range = place.range();
        if range.end.next_multiple_of(ALIGNMENT) == self.used {
            self.used = range.start;
        }
    }

    /// The response at `place`, to be filled by [`crate::protocol::frame::place`].
    pub fn framed_mut(&mut self, place: Place) -> &mut [u8] {
        self.arena.get_mut(place.range()).unwrap_or_default()
    }

    /// The response at `place`.
    #[must_use]
    pub fn framed(&self, place: Place) -> &[u8] {
        self.arena.get(place.range()).unwrap_or_default()
    }

    /// Lets `id` be found. Only what has been checked is published.
    pub fn publish(&mut self, id: GroupId, place: Place) {
        let Some(table) = self.tables.get_mut(usize::from(id.archive)) else { return };
        let group = usize::from(id.group);
        if table.len() <= group {
            table.resize(group + 1, Place::default());
        }
        if let Some(entry) = table.get_mut(group) {
            *entry = place;
        }
    }

    /// Ends the filling: the arena becomes read-only.
    ///
    /// # Errors
    /// The system does not change the mapping.
    pub fn seal(self) -> Result<Snapshot, ArenaError> {
        let bytes = self.arena.len() as u64;
        let arena = self.arena.make_read_only();
        let arena = arena.map_err(|source| ArenaError::NoMemory { bytes, source })?;
        let tables: Box<[Box<[Place]>]> =
            self.tables.into_iter().map(Vec::into_boxed_slice).collect();
        let mut snapshot = Snapshot { arena, used: self.used, tables, generation: 0, ordinal: 0 };
        snapshot.generation = generation(snapshot.response(MASTER_INDEX).unwrap_or_default());
        Ok(snapshot)
    }
}

/// How much of a response is fetched ahead; in a longer one the processor notices the pattern.
const PREFETCH_LEN_MAX: usize = 1024;

/// One immutable catalog: every response of one cache.
#[derive(Debug)]
pub struct Snapshot {
    arena: Mmap,
    used: usize,
    /// An archive's places by group; as long as its highest group needs.
    tables: Box<[Box<[Place]>]>,
    generation: u64,
    /// Set by the handle, before anybody else has the snapshot.
    pub(super) ordinal: u32,
}

impl Snapshot {
    /// Where the response to `id` stands; an empty place if the cache does not hold it.
    #[inline]
    #[must_use]
    pub fn place(&self, id: GroupId) -> Place {
        let table = self.tables.get(usize::from(id.archive));
        table.and_then(|table| table.get(usize::from(id.group))).copied().unwrap_or_default()
    }

    /// The framed response at `place`, urgent and unkeyed: header, container, markers.
    #[inline]
    #[must_use]
    pub fn framed(&self, place: Place) -> &[u8] {
        self.arena.get(place.range()).unwrap_or_default()
    }

    /// The framed response to an urgent, unkeyed request for `id`.
    #[inline]
    #[must_use]
    pub fn response(&self, id: GroupId) -> Option<&[u8]> {
        let place = self.place(id);
        (!place.is_empty()).then(|| self.framed(place))
    }

    /// Begins to fetch what [`Self::place`] will read for `id`.
    #[inline]
    pub fn prefetch_place(&self, id: GroupId) {
        let table = self.tables.get(usize::from(id.archive)).map_or(&[][..], |table| table);
        let group = usize::from(id.group);
        prefetch::fetch(table.get(group..=group).unwrap_or_default(), size_of::<Place>());
    }

    /// Begins to fetch the first bytes of the response at `place`. A cache is larger than the
    /// processor's, and requests jump about in it.
    #[inline]
    pub fn prefetch_framed(&self, place: Place) {
        prefetch::fetch(self.framed(place), PREFETCH_LEN_MAX);
    }

    /// Every response's bytes, with gaps of up to 7 bytes.
    #[must_use]
    pub fn wire_bytes(&self) -> &[u8] {
        self.arena.get(..self.used).unwrap_or_default()
    }

    /// Names this content: an FNV-1a hash of the master index's response, so that two servers
    /// with the same cache agree.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Tells the snapshots of one process apart: how many were put in place before this one.
    /// Snapshots of one generation may differ in what was skipped as corrupt.
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// What it occupies: the touched pages of the arena, which may be huge ones, and the tables.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let places: usize = self.tables.iter().map(|table| table.len()).sum();
        (self.used.next_multiple_of(HUGE_PAGE_LEN) + places * size_of::<Place>()) as u64
    }

    /// Whether every response is the same, byte by byte: equal names prove nothing where groups
    /// may have been skipped.
    #[must_use]
    pub fn serves_the_same(&self, other: &Self) -> bool {
        (0..=u8::MAX).all(|archive| {
            self.groups(archive).eq(other.groups(archive))
                && self.groups(archive).all(|(id, _)| self.response(id) == other.response(id))
        })
    }

    /// The groups of an archive that are served, in order, with the length of their responses.
    pub fn groups(&self, archive: u8) -> impl Iterator<Item = (GroupId, usize)> {
        let table = self.tables.get(usize::from(archive)).map_or(&[][..], |table| table);
        (0..=u16::MAX)
            .zip(table)
            .filter(|(_, place)| place.len > 0)
            .map(move |(group, place)| (GroupId { archive, group }, place.len as usize))
    }

    /// Archives (255 left out), groups (archive indexes and master index included) and bytes on
    /// the wire.
    #[must_use]
    pub fn totals(&self) -> SnapshotTotals {
        let mut totals = SnapshotTotals::default();
        for archive in 0..=u8::MAX {
            let before = totals.groups;
            for (_, len) in self.groups(archive) {
                totals.groups += 1;
                totals.wire_bytes += len as u64;
            }
            let has_index = self.response(GroupId { archive: 255, group: archive.into() });
            if archive != 255 && (totals.groups > before || has_index.is_some()) {
                totals.archives += 1;
            }
        }
        totals
    }
}

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotTotals {
    /// Archives with an index or a group.
    pub archives: usize,
    /// Responses that can be asked for.
    pub groups: usize,
    /// Their length on the wire.
    pub wire_bytes: u64,
}

/// FNV-1a, 64 bits: well defined, and all that a name for an operator's own caches needs.
fn generation(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{frame, place};

    fn snapshot(containers: &[(GroupId, Vec<u8>)]) -> Snapshot {
        let bytes = containers.iter().map(|(_, bytes)| framed_len(bytes.len()) as u64).sum();
        let mut builder = SnapshotBuilder::new(containers.len(), bytes).expect("small");
        for (id, container) in containers {
            let at = builder.allocate(*id, container.len()).expect("room was reckoned");
            place(builder.framed_mut(at), 0, container);
            builder.publish(*id, at);
        }
        builder.seal().expect("sealed")
    }

    #[test]
    fn what_was_published_is_found_and_nothing_else() {
        let id = |archive, group| GroupId { archive, group };
        let containers =
            [(id(0, 0), vec![1; 6]), (id(7, 65535), vec![2; 1000]), (id(255, 7), vec![3; 509])];
        let snapshot = snapshot(&containers);
        for (id, container) in &containers {
            assert_eq!(snapshot.response(*id), Some(&frame(*id, container)[..]));
        }
        for absent in [id(0, 1), id(1, 0), id(7, 0), id(255, 255)] {
            assert_eq!(snapshot.response(absent), None);
        }
        let totals = SnapshotTotals { archives: 2, groups: 3, wire_bytes: 9 + 1004 + 512 };
        assert_eq!(snapshot.totals(), totals);
    }

    #[test]
    fn the_generation_is_the_master_indexs() {
        let master = |byte| snapshot(&[(MASTER_INDEX, vec![0, 0, 0, 0, 1, byte])]).generation();
        assert_eq!(master(1), master(1));
        assert_ne!(master(1), master(2));
        // FNV-1a of "a", from its authors' table.
        assert_eq!(generation(b"a"), 0xAF63_DC4C_8601_EC8C);
    }

    #[test]
    fn a_full_arena_says_so() {
        let mut builder = SnapshotBuilder::new(1, 20).expect("small");
        assert!(builder.allocate(MASTER_INDEX, 2 << 20).is_none());
        assert!(builder.allocate(MASTER_INDEX, 17).is_some());
        assert!(matches!(SnapshotBuilder::new(1, 1 << 40), Err(ArenaError::TooLarge { .. })));
    }
}
