//! Every framed response, in one region of memory for each framing that clients need, and a dense
//! table an archive to find them.
//!
//! Looking a response up costs two loads: no hashing, no count, no lock. A region is mapped for the
//! most that a store could need and touched only as it fills, so the rest costs address space and
//! no memory.

use crate::platform::prefetch;
use crate::protocol::frame::Framing;
use crate::protocol::master_index::MasterFormat;
use crate::protocol::{Dialect, GROUPS_MAX, GROUPS_NARROW, GroupId, MASTER_INDEX};
use memmap2::{Advice, Mmap, MmapMut, MmapOptions};

/// Responses begin at multiples of this, so that a table's offsets fit into 32 bits for arenas
/// of up to 32 GiB.
const ALIGNMENT: usize = 8;

/// The largest arena whose offsets, in units of [`ALIGNMENT`], fit into 32 bits.
const ARENA_LEN_MAX: u64 = (ALIGNMENT as u64) << 32;

/// The arena is mapped in multiples of this, so that a small one, too, is one huge page.
const HUGE_PAGE_LEN: usize = 2 << 20;

/// Archives that there can be, that of the archive indexes included.
const ARCHIVES: usize = 256;

/// Framings that there are.
const FRAMINGS: usize = Framing::ALL.len();

/// Where a response stands, in the region of its framing.
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

    #[inline]
    fn range(self) -> std::ops::Range<usize> {
        let start = self.offset as usize * ALIGNMENT;
        start..start + self.len()
    }
}

/// Where the responses of one container stand, framing by framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room([Place; FRAMINGS]);

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

/// The responses of one framing, while they come.
#[derive(Debug)]
struct Filling {
    framing: Framing,
    arena: MmapMut,
    used: usize,
    tables: Vec<Vec<Place>>,
    masters: [Place; MasterFormat::ALL.len()],
}

/// A snapshot that is being filled.
#[derive(Debug)]
pub struct SnapshotBuilder {
    regions: Vec<Filling>,
    /// What the generation is named by, if it is no response.
    named_by: Option<Vec<u8>>,
}

impl SnapshotBuilder {
    /// An empty arena for at most `groups` responses of `framed_bytes` together, as build 550
    /// reads them.
    ///
    /// # Errors
    /// It is too large, or there is no memory for it.
    pub fn new(groups: usize, framed_bytes: u64) -> Result<Self, ArenaError> {
        Self::with_framings(groups, &[(Framing::Marked3, framed_bytes)])
    }

    /// An empty arena for each of these framings, for at most `groups` responses of so many bytes
    /// together.
    ///
    /// # Errors
    /// One is too large, or there is no memory for it.
    pub fn with_framings(groups: usize, framings: &[(Framing, u64)]) -> Result<Self, ArenaError> {
        let region = |&(framing, framed_bytes)| {
            let bytes = Self::arena_bytes(groups, framed_bytes);
            let len = usize::try_from(bytes).ok().filter(|_| bytes <= ARENA_LEN_MAX);
            let arena = map(len.ok_or(ArenaError::TooLarge { bytes })?)?;
            // Fewer page faults while loading and fewer TLB misses while serving; where huge pages
            // are switched off, ordinary ones do.
            let _ = arena.advise(Advice::HugePage);
            let tables = vec![Vec::new(); ARCHIVES];
            Ok(Filling { framing, arena, used: 0, tables, masters: Default::default() })
        };
        let regions = framings.iter().map(region).collect::<Result<_, _>>()?;
        Ok(Self { regions, named_by: None })
    }

    /// The length of the arena for at most `groups` responses of `framed_bytes` together: what
    /// it costs if all of it is filled.
    #[must_use]
    pub fn arena_bytes(groups: usize, framed_bytes: u64) -> u64 {
        let padding = (groups as u64).saturating_mul(ALIGNMENT as u64);
        let bytes = framed_bytes.saturating_add(padding).max(ALIGNMENT as u64);
        bytes.div_ceil(HUGE_PAGE_LEN as u64).saturating_mul(HUGE_PAGE_LEN as u64)
    }

    /// What the tables for groups up to `group` of an archive cost in each region.
    #[must_use]
    pub fn table_bytes(group: u32) -> u64 {
        (u64::from(group) + 1) * size_of::<Place>() as u64
    }

    /// Room for the responses of a container of `container_len` bytes, with their headers
    /// written: in each framing whose header has room for the group. None if an arena is full,
    /// which cannot happen, as the files' lengths bound what a store may claim.
    pub fn allocate(&mut self, id: GroupId, container_len: usize) -> Option<Room> {
        let mut room = Room::default();
        for region in &mut self.regions {
            if id.group >= GROUPS_NARROW && region.framing == Framing::Marked3 {
                continue;
            }
            match region.allocate(id, container_len) {
                Some(place) => room.0[region.framing.number()] = place,
                None => {
                    self.release(room);
                    return None;
                }
            }
        }
        Some(room)
    }

    /// Takes back the room of responses that failed, if none was given out since: false lengths in
    /// a corrupt store must not use up the arena.
    pub fn release(&mut self, room: Room) {
        for region in &mut self.regions {
            let range = room.0[region.framing.number()].range();
            if !range.is_empty() && range.end.next_multiple_of(ALIGNMENT) == region.used {
                region.used = range.start;
            }
        }
    }

    /// Puts bytes that stand at `container_offset` in the container to their places in each of
    /// its responses.
    #[inline]
    pub fn place(&mut self, room: Room, container_offset: usize, bytes: &[u8]) {
        for region in &mut self.regions {
            let framing = region.framing;
            let framed = region.arena.get_mut(room.0[framing.number()].range());
            framing.place(framed.unwrap_or_default(), container_offset, bytes);
        }
    }

    /// The response of build 550, to be filled by [`crate::protocol::frame::place`].
    pub fn framed_mut(&mut self, room: Room) -> &mut [u8] {
        let region = self.regions.iter_mut().find(|region| region.framing == Framing::Marked3);
        let range = room.0[Framing::Marked3.number()].range();
        region.and_then(|region| region.arena.get_mut(range)).unwrap_or_default()
    }

    /// The container whose responses have been filled.
    #[must_use]
    pub fn container(&self, room: Room) -> Vec<u8> {
        let mut container = Vec::new();
        for region in &self.regions {
            let framed = region.arena.get(room.0[region.framing.number()].range());
            let framed = framed.unwrap_or_default();
            if !framed.is_empty() {
                container.reserve_exact(framed.len());
                for piece in region.framing.container_pieces(framed) {
                    container.extend_from_slice(piece);
                }
                break;
            }
        }
        container
    }

    /// Lets `id` be found. Only what has been checked is published.
    pub fn publish(&mut self, id: GroupId, room: Room) {
        if id.group >= GROUPS_MAX {
            return;
        }
        for region in &mut self.regions {
            let place = room.0[region.framing.number()];
            let table = &mut region.tables[usize::from(id.archive)];
            let group = id.group as usize;
            if place.is_empty() {
                continue;
            }
            if table.len() <= group {
                table.resize(group + 1, Place::default());
            }
            table[group] = place;
        }
    }

    /// Lets clients that read this format find a master index. True unless an arena is full.
    pub fn add_master(&mut self, format: MasterFormat, container: &[u8]) -> bool {
        let Some(room) = self.allocate(MASTER_INDEX, container.len()) else { return false };
        self.place(room, 0, container);
        for region in &mut self.regions {
            region.masters[format.number()] = room.0[region.framing.number()];
        }
        true
    }

    /// Derives the generation from this master index, whether or not any client reads it.
    pub fn name_by(&mut self, container: &[u8]) {
        self.named_by = Some(Framing::Marked3.frame(MASTER_INDEX, container));
    }

    /// Ends the filling: the arenas become read-only.
    ///
    /// # Errors
    /// The system does not change a mapping.
    pub fn seal(self) -> Result<Snapshot, ArenaError> {
        let mut regions = [Region::empty()?, Region::empty()?, Region::empty()?, Region::empty()?];
        for filling in self.regions {
            let number = filling.framing.number();
            regions[number] = filling.seal()?;
        }
        let mut snapshot = Snapshot { regions, generation: 0, ordinal: 0 };
        let name = self.named_by.as_deref().or_else(|| snapshot.response(MASTER_INDEX));
        snapshot.generation = generation(name.unwrap_or_default());
        Ok(snapshot)
    }
}

fn map(len: usize) -> Result<MmapMut, ArenaError> {
    let map = MmapOptions::new().len(len).no_reserve_swap().map_anon();
    map.map_err(|source| ArenaError::NoMemory { bytes: len as u64, source })
}

impl Filling {
    fn allocate(&mut self, id: GroupId, container_len: usize) -> Option<Place> {
        let len = self.framing.framed_len(container_len);
        let end = self.used.checked_add(len).filter(|&end| end <= self.arena.len())?;
        let offset = u32::try_from(self.used / ALIGNMENT).ok()?;
        let place = Place { offset, len: u32::try_from(len).ok()? };
        self.used = end.next_multiple_of(ALIGNMENT);
        self.framing.write_header(self.arena.get_mut(place.range()).unwrap_or_default(), id);
        Some(place)
    }

    fn seal(self) -> Result<Region, ArenaError> {
        let bytes = self.arena.len() as u64;
        let arena = self.arena.make_read_only();
        let arena = arena.map_err(|source| ArenaError::NoMemory { bytes, source })?;
        let mut region = Region { arena, used: self.used, ..Region::empty()? };
        for (place, table) in region.tables.iter_mut().zip(self.tables) {
            *place = table.into_boxed_slice();
        }
        region.masters = self.masters;
        Ok(region)
    }
}

/// How much of a response is fetched ahead; the processor itself fetches more of a longer one.
const PREFETCH_LEN_MAX: usize = 1024;

/// The responses of one framing; none at all if no client needs it.
#[derive(Debug)]
struct Region {
    arena: Mmap,
    /// 0 if no client needs it.
    used: usize,
    /// An archive's places by group; as long as its highest group needs.
    tables: Box<[Box<[Place]>; ARCHIVES]>,
    /// The master indexes by format. They stand in no table: of a group that the tables do not
    /// have it is asked last whether it is one, so that no other pays for the question.
    masters: [Place; MasterFormat::ALL.len()],
}

impl Region {
    fn empty() -> Result<Self, ArenaError> {
        let arena = map(1)?.make_read_only();
        let arena = arena.map_err(|source| ArenaError::NoMemory { bytes: 1, source })?;
        let tables = Box::new(std::array::from_fn(|_| Box::default()));
        Ok(Self { arena, used: 0, tables, masters: Default::default() })
    }

    #[inline]
    fn place(&self, master: MasterFormat, id: GroupId) -> Place {
        match self.tables[usize::from(id.archive)].get(id.group as usize) {
            Some(place) if !place.is_empty() => *place,
            _ => self.master(master, id),
        }
    }

    #[cold]
    fn master(&self, master: MasterFormat, id: GroupId) -> Place {
        if id == MASTER_INDEX { self.masters[master.number()] } else { Place::default() }
    }

    fn memory_bytes(&self) -> u64 {
        let places: usize = self.tables.iter().map(|table| table.len()).sum();
        (self.used.next_multiple_of(HUGE_PAGE_LEN) + places * size_of::<Place>()) as u64
    }

    fn groups(&self, archive: u8) -> impl Iterator<Item = (GroupId, usize)> {
        let master = if archive == MASTER_INDEX.archive { &self.masters[..] } else { &[] };
        let master = master.iter().filter(|place| !place.is_empty()).take(1);
        (0..)
            .zip(&self.tables[usize::from(archive)])
            .filter(|(_, place)| !place.is_empty())
            .chain(master.map(|place| (MASTER_INDEX.group, place)))
            .map(move |(group, place)| (GroupId { archive, group }, place.len()))
    }
}

/// One immutable catalog: every response of one cache.
#[derive(Debug)]
pub struct Snapshot {
    /// By the framing's number.
    regions: [Region; FRAMINGS],
    generation: u64,
    /// Set by the handle, before anybody else has the snapshot.
    pub(super) ordinal: u32,
}

impl Snapshot {
    /// The part for clients of a dialect, to be got once for many responses.
    #[inline]
    #[must_use]
    pub fn view(&self, dialect: Dialect) -> View<'_> {
        View { region: &self.regions[dialect.framing.number()], master: dialect.master }
    }

    /// Where the response to `id` stands for a client of build 550; an empty place if the cache
    /// does not hold it.
    #[inline]
    #[must_use]
    pub fn place(&self, id: GroupId) -> Place {
        self.view(Dialect::BUILD_550).place(id)
    }

    /// The framed response at a place of [`Self::place`].
    #[inline]
    #[must_use]
    pub fn framed(&self, place: Place) -> &[u8] {
        self.view(Dialect::BUILD_550).framed(place)
    }

    /// The framed response to an urgent, unkeyed request of a build 550 client for `id`.
    #[inline]
    #[must_use]
    pub fn response(&self, id: GroupId) -> Option<&[u8]> {
        self.response_in(Dialect::BUILD_550, id)
    }

    /// The framed response to an urgent, unkeyed request for `id` in a dialect.
    #[inline]
    #[must_use]
    pub fn response_in(&self, dialect: Dialect, id: GroupId) -> Option<&[u8]> {
        let view = self.view(dialect);
        let place = view.place(id);
        if place.is_empty() { None } else { view.region.arena.get(place.range()) }
    }

    /// The framings that it has responses in, the shortest header first.
    pub fn framings(&self) -> impl Iterator<Item = Framing> {
        Framing::ALL.into_iter().filter(|framing| self.regions[framing.number()].used > 0)
    }

    /// Every response's bytes in a framing, with gaps of up to 7 bytes.
    #[must_use]
    pub fn wire_bytes_in(&self, framing: Framing) -> &[u8] {
        let region = &self.regions[framing.number()];
        region.arena.get(..region.used).unwrap_or_default()
    }

    /// Every response's bytes as build 550 reads them, with gaps of up to 7 bytes.
    #[must_use]
    pub fn wire_bytes(&self) -> &[u8] {
        self.wire_bytes_in(Framing::Marked3)
    }

    /// Names this content: an FNV-1a hash of the master index as build 550 reads it, so that two
    /// servers with the same cache agree, whatever clients they serve.
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

    /// What it occupies: the touched pages of the arenas, which may be huge ones, and the tables.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.regions.iter().map(Region::memory_bytes).sum()
    }

    /// What its responses in a framing occupy; 0 if no client needs them.
    #[must_use]
    pub fn memory_bytes_in(&self, framing: Framing) -> u64 {
        self.regions[framing.number()].memory_bytes()
    }

    /// Whether every response is the same, byte by byte: equal names prove nothing where groups
    /// may have been skipped.
    #[must_use]
    pub fn serves_the_same(&self, other: &Self) -> bool {
        let same_master = |framing, master| {
            let dialect = Dialect { framing, master };
            self.response_in(dialect, MASTER_INDEX) == other.response_in(dialect, MASTER_INDEX)
        };
        Framing::ALL.into_iter().all(|framing| {
            let dialect = Dialect { framing, ..Dialect::BUILD_550 };
            let [mine, theirs] = [self, other].map(|it| &it.regions[framing.number()]);
            let same_archive = |archive| {
                mine.groups(archive).eq(theirs.groups(archive))
                    && mine.groups(archive).all(|(id, _)| {
                        self.response_in(dialect, id) == other.response_in(dialect, id)
                    })
            };
            (0..=u8::MAX).all(same_archive)
                && MasterFormat::ALL.into_iter().all(|master| same_master(framing, master))
        })
    }

    /// The groups of an archive that are served, in order, with the length of their responses.
    /// In the framing with the longest header, where there are several: it has every group.
    pub fn groups(&self, archive: u8) -> impl Iterator<Item = (GroupId, usize)> {
        self.widest().groups(archive)
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
            let index = self.widest().tables[255].get(usize::from(archive));
            let has_index = index.is_some_and(|place| !place.is_empty());
            if archive != 255 && (totals.groups > before || has_index) {
                totals.archives += 1;
            }
        }
        totals
    }

    /// Of the framings that are there, the one with the longest header.
    fn widest(&self) -> &Region {
        let is_there = |region: &&Region| region.used > 0;
        self.regions.iter().rfind(is_there).unwrap_or(&self.regions[0])
    }
}

/// A snapshot as clients of one dialect are served from it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    region: &'a Region,
    master: MasterFormat,
}

impl<'a> View<'a> {
    /// Where the response to `id` stands; an empty place if the cache does not hold it.
    #[inline]
    #[must_use]
    pub fn place(self, id: GroupId) -> Place {
        self.region.place(self.master, id)
    }

    /// The framed response at a place of this view, urgent and unkeyed: header, container, leads.
    #[inline]
    #[must_use]
    pub fn framed(self, place: Place) -> &'a [u8] {
        self.region.arena.get(place.range()).unwrap_or_default()
    }

    /// Begins to fetch what [`Self::place`] will read for `id`.
    #[inline]
    pub fn prefetch_place(self, id: GroupId) {
        let table = &self.region.tables[usize::from(id.archive)];
        let group = id.group as usize;
        prefetch::fetch(table.get(group..=group).unwrap_or_default(), size_of::<Place>());
    }

    /// Begins to fetch the first bytes of the response at `place`. A cache is larger than the
    /// processor's, and requests jump about in it.
    #[inline]
    pub fn prefetch_framed(self, place: Place) {
        prefetch::fetch(self.framed(place), PREFETCH_LEN_MAX);
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
    use crate::protocol::frame::{frame, framed_len, place};

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
    fn exactly_the_published_groups_are_found() {
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
    fn each_framing_has_every_group_that_its_header_has_room_for() {
        let id = |archive, group| GroupId { archive, group };
        let containers = [
            (id(0, 0), vec![1; 6]),
            (id(5, 65_535), vec![2; 1000]),
            (id(5, 65_536), vec![3; 200_000]),
            (id(255, 5), vec![4; 600]),
        ];
        let framings = [Framing::Marked3, Framing::Marked5, Framing::Multi102400];
        let sizes = framings.map(|framing| (framing, 300_000));
        let mut builder = SnapshotBuilder::with_framings(10, &sizes).expect("small");
        for (id, container) in &containers {
            let room = builder.allocate(*id, container.len()).expect("room was reckoned");
            let (first, second) = container.split_at(container.len() / 2);
            builder.place(room, 0, first);
            builder.place(room, first.len(), second);
            assert_eq!(&builder.container(room), container);
            builder.publish(*id, room);
        }
        let masters = [(MasterFormat::Original, vec![7; 9]), (MasterFormat::Digests, vec![8; 79])];
        for (format, container) in &masters {
            assert!(builder.add_master(*format, container));
        }
        builder.name_by(&[0, 0, 0, 0, 1, 9]);
        let snapshot = builder.seal().expect("sealed");
        assert_eq!(snapshot.framings().collect::<Vec<_>>(), framings);
        for framing in Framing::ALL {
            let is_there = framings.contains(&framing);
            assert_eq!(snapshot.memory_bytes_in(framing) > 0, is_there, "{framing}");
            let dialect = Dialect { framing, ..Dialect::BUILD_550 };
            for (id, container) in &containers {
                let has_room = is_there && (framing != Framing::Marked3 || id.group < 65_536);
                let expected = has_room.then(|| framing.frame(*id, container));
                assert_eq!(snapshot.response_in(dialect, *id), expected.as_deref(), "{framing}");
            }
            for master in MasterFormat::ALL {
                let stored = masters.iter().find(|(format, _)| *format == master && is_there);
                let expected = stored.map(|(_, bytes)| framing.frame(MASTER_INDEX, bytes));
                let found = snapshot.response_in(Dialect { framing, master }, MASTER_INDEX);
                assert_eq!(found, expected.as_deref(), "{framing} {master}");
            }
        }
        let all = framings.iter().map(|&framing| snapshot.memory_bytes_in(framing)).sum::<u64>();
        assert_eq!(snapshot.memory_bytes(), all);
        // Archives 0 and 5; three groups, an index and a master index.
        let totals = snapshot.totals();
        assert_eq!((totals.archives, totals.groups), (2, 5));
        let named = generation(&frame(MASTER_INDEX, &[0, 0, 0, 0, 1, 9]));
        assert_eq!(snapshot.generation(), named);
    }

    #[test]
    fn the_generation_is_a_hash_of_the_master_index() {
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
