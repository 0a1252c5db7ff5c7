//! The demo cache: made up in memory, with the sizes of a real one.
//!
//! Its groups have the numbers, lengths and compressions of a build 550 cache, at any scale,
//! and contents that mean nothing; as many of its maps look encrypted as are there. The same
//! number of groups and the same seed give the same bytes. It is a [`Source`] like a store, so it
//! is checked and framed like one.

mod content;
mod sizes;

use super::load::Source;
use crate::cache::{GroupVisitor, StoreError, StoreWriter, StoredGroup, WriteSummary};
use crate::protocol::ARCHIVE_INDEXES;
use crate::protocol::archive_index::{ArchiveIndex, FLAG_NAMES, IndexEntry};
use crate::protocol::container::{Compression, compress};
use content::{container, encrypted, len_min};
use fastrand::Rng;
use sizes::{ARCHIVE_EMPTY, Curve, ROWS, Row, shares};

/// The groups of the demo cache that is served when no cache is given.
pub const DEMO_GROUPS: usize = 3000;
/// Its seed.
pub const DEMO_SEED: u64 = 550;
/// One group an archive, and the archive indexes.
pub const DEMO_GROUPS_MIN: usize = ROWS.len() + INDEXES;
/// All groups of a build 550 cache.
pub const DEMO_GROUPS_MAX: usize = 71_273;

/// Archives 0 to 28 have an index each.
const INDEXES: usize = 29;
/// The two bytes behind a stored container.
const TRAILER_LEN: usize = 2;

/// The archive of the maps, and how many of its groups are encrypted in a build 550 cache: those
/// that say where things stand.
const MAPS: u8 = 5;
const MAPS_ENCRYPTED: u64 = 1200;

/// Archives whose groups have names, as in a real cache.
const NAMED: [u8; 7] = [5, 6, 8, 10, 11, 13, 23];
/// Archives whose group ids have gaps.
const SPARSE: [u8; 4] = [2, 5, 8, 23];
/// Of this many groups, one has a version of more than 16 bits.
const VERSION_WIDE_ONE_IN: u32 = 50;

/// A made-up cache.
#[derive(Debug)]
pub struct Demo {
    /// By archive and group.
    groups: Vec<StoredGroup>,
    /// Their stored bytes, one group after another.
    bytes: Vec<u8>,
}

impl Demo {
    /// A cache of `groups` groups, archive indexes included; fewer than [`DEMO_GROUPS_MIN`] or
    /// more than [`DEMO_GROUPS_MAX`] are taken as these.
    #[must_use]
    pub fn new(groups: usize, seed: u64) -> Self {
        let groups = groups.clamp(DEMO_GROUPS_MIN, DEMO_GROUPS_MAX);
        let mut rng = Rng::with_seed(seed);
        let mut demo = Self { groups: Vec::with_capacity(groups), bytes: Vec::new() };
        let mut indexes = vec![(ARCHIVE_EMPTY, index(ARCHIVE_EMPTY, Vec::new(), &mut rng))];
        for (row, count) in ROWS.iter().zip(shares((groups - INDEXES) as u32)) {
            let entries = demo.archive(row, count, &mut rng);
            indexes.push((row.archive, index(row.archive, entries, &mut rng)));
        }
        indexes.sort_by_key(|(archive, _)| *archive);
        for (archive, index) in indexes {
            demo.bytes.extend_from_slice(&index);
            demo.push(ARCHIVE_INDEXES, archive.into(), index.len());
        }
        demo
    }

    /// Writes all groups into a store.
    ///
    /// # Errors
    /// What the writer meets.
    pub fn write(&self, mut writer: StoreWriter) -> Result<WriteSummary, StoreError> {
        for (group, stored) in self.stored() {
            writer.put(group.archive, group.group, stored)?;
        }
        writer.finish()
    }

    /// Each group with its stored bytes.
    fn stored(&self) -> impl Iterator<Item = (StoredGroup, &[u8])> {
        let mut rest = &self.bytes[..];
        self.groups.iter().map(move |&group| {
            let (stored, later) = rest.split_at(group.len_bytes as usize);
            rest = later;
            (group, stored)
        })
    }

    fn push(&mut self, archive: u8, group: u32, len: usize) {
        self.groups.push(StoredGroup { archive, group, len_bytes: len as u32 });
    }

    /// Makes `count` groups of an archive. Comes back with what its index says of them.
    fn archive(&mut self, row: &Row, count: u32, rng: &mut Rng) -> Vec<IndexEntry> {
        let mut plan = plan(row, count, rng);
        rng.shuffle(&mut plan);
        let mut next_id = 0;
        let entries = (0..).zip(plan).map(|(at, (stored_len, compression))| {
            let id = next_id + if SPARSE.contains(&row.archive) { rng.u32(0..3) } else { 0 };
            next_id = id + 1;
            let wide = rng.u32(0..VERSION_WIDE_ONE_IN) == 0;
            let version = rng.u32(1..=2000) + if wide { 1 << 16 } else { 0 };

            let start = self.bytes.len();
            let container = if is_encrypted(row, at) { encrypted } else { container };
            container(&mut self.bytes, compression, stored_len - TRAILER_LEN, rng);
            let crc = crc32fast::hash(&self.bytes[start..]);
            self.bytes.extend((version as u16).to_be_bytes());
            self.push(row.archive, id, self.bytes.len() - start);
            IndexEntry { id, crc, version, file_count: 1, ..IndexEntry::default() }
        });
        entries.collect()
    }
}

/// Whether group `at` of an archive, counted in its order, is encrypted: of the maps the first,
/// and the others evenly spread.
fn is_encrypted(row: &Row, at: u32) -> bool {
    let before = |at: u32| (u64::from(at) * MAPS_ENCRYPTED).div_ceil(u64::from(row.groups));
    row.archive == MAPS && before(at) != before(at + 1)
}

/// The container of an archive's index.
fn index(archive: u8, mut groups: Vec<IndexEntry>, rng: &mut Rng) -> Vec<u8> {
    let named = NAMED.contains(&archive);
    for group in groups.iter_mut().filter(|_| named) {
        group.name_hash = rng.i32(..);
    }
    let version = rng.u32(1..=2000);
    // As many of each as among the 29 of the real cache.
    let compression = match rng.u32(0..29) {
        0..4 => Compression::None,
        4..11 => Compression::Bzip2,
        _ => Compression::Gzip,
    };
    let flags = if named { FLAG_NAMES } else { 0 };
    let index = ArchiveIndex { format: 6, version, flags, groups, ..ArchiveIndex::default() };
    compress(compression, &index.encode()).unwrap_or_default()
}

/// The stored lengths and compressions of `count` groups of an archive.
fn plan(row: &Row, count: u32, rng: &mut Rng) -> Vec<(usize, Compression)> {
    let mut kinds: Vec<Compression> = (0..count)
        .map(|at| {
            // Which of the real groups this one stands for, counted kind by kind.
            let rank = (2 * u64::from(at) + 1) * u64::from(row.groups) / (2 * u64::from(count));
            let [none, bzip2, _] = row.kinds.map(u64::from);
            match rank {
                rank if rank < none => Compression::None,
                rank if rank < none + bzip2 => Compression::Bzip2,
                _ => Compression::Gzip,
            }
        })
        .collect();
    rng.shuffle(&mut kinds);
    let lengths = Curve::new(row).lengths(count);
    let stored_min = |kind| len_min(kind) + TRAILER_LEN;
    let mut plan: Vec<_> = lengths
        .into_iter()
        .map(|len| (len as usize).max(stored_min(Compression::None)))
        .zip(kinds)
        .collect();

    // A group too short for its compression changes with a longer one that has none, or else
    // grows by the few bytes that it lacks.
    let is_long = |len: usize| len >= stored_min(Compression::Bzip2);
    let mut uncompressed: Vec<usize> = (0..plan.len())
        .filter(|&at| plan[at].1 == Compression::None && is_long(plan[at].0))
        .collect();
    for at in 0..plan.len() {
        let (len, kind) = plan[at];
        if len >= stored_min(kind) {
            continue;
        }
        match uncompressed.pop() {
            Some(other) => {
                plan[at].1 = Compression::None;
                plan[other].1 = kind;
            }
            None => plan[at].0 = stored_min(kind),
        }
    }
    plan
}

impl Source for Demo {
    fn groups(&self) -> &[StoredGroup] {
        &self.groups
    }

    fn data_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn has_archive_indexes(&self) -> bool {
        true
    }

    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    async fn read_all(&self, visitor: &mut impl GroupVisitor) -> Result<(), StoreError> {
        let mut done = 0;
        for (slot, (_, stored)) in self.stored().enumerate() {
            visitor.piece(slot, 0, stored);
            visitor.complete(slot);
            done += stored.len() as u64;
            visitor.progress(done, self.data_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "demo_tests.rs"]
mod tests;
