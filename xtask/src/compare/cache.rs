//! The one cache that all serve: a full-size demo cache, and behind it an archive for each fixed
//! size. One cache, so that servers that run already need to know one directory only.

use super::Result;
use super::workload::Groups;
use js5d::cache::{GroupError, GroupVisitor, Store, StoreError, StoreKind, StoreWriter};
use js5d::cache::{StoredGroup, block_on};
use js5d::catalog::{DEMO_GROUPS_MAX, DEMO_SEED, Demo, Source};
use js5d::protocol::ARCHIVE_INDEXES;
use js5d::protocol::archive_index::{ArchiveIndex, IndexEntry};
use js5d::protocol::container::{Compression, compress};
use js5d::protocol::frame::framed_len;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What the cache holds; another text, and it is written anew.
const CONTENT: &str =
    "demo 71273/550, maps encrypted, in 0..28, 300 B in 29, 4096 B in 30, 102400 B in 31";

/// Archive, bytes on the wire, groups: few enough for memory, too many for a core's cache.
const FIXED: [(u8, usize, u32); 3] = [(29, 300, 4096), (30, 4096, 4096), (31, 102_400, 512)];

/// The version of each fixed group.
const VERSION: u16 = 1;

/// The cache, and files that name the groups of each workload.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) dir: PathBuf,
    scenarios: HashMap<Groups, PathBuf>,
}

impl Bytes {
    /// The generator's scenario file that names `groups`.
    pub(crate) fn scenario(&self, groups: Groups) -> Result<&Path> {
        Ok(self.scenarios.get(&groups).ok_or("no such groups in the cache")?)
    }
}

/// Writes the cache into `out`, if it is not there.
pub(crate) fn write(out: &Path) -> Result<Bytes> {
    let (dir, mark) = (out.join("cache"), out.join("cache.content"));
    if std::fs::read_to_string(&mark).is_ok_and(|content| content == CONTENT) {
        eprintln!("the cache is there: {}", dir.display());
    } else {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        eprintln!("writing the cache to {}", dir.display());
        write_store(&dir)?;
        std::fs::write(mark, CONTENT)?;
    }
    let store = block_on(Store::open(&dir))?;
    let mut scenarios = HashMap::new();
    let mix = store.groups().iter().filter(|group| group.archive < FIXED[0].0);
    scenarios.insert(Groups::Mix, scenario(out, "mix", mix)?);
    for (archive, len, _) in FIXED {
        let groups = store.groups().iter().filter(|group| group.archive == archive);
        scenarios.insert(Groups::Fixed(len), scenario(out, &len.to_string(), groups)?);
    }
    Ok(Bytes { dir, scenarios })
}

fn write_store(dir: &Path) -> Result<()> {
    let writer = StoreWriter::create(dir, StoreKind::Dat2)?;
    let demo = Demo::new(DEMO_GROUPS_MAX, DEMO_SEED);
    let pending = vec![Vec::new(); demo.groups().len()];
    let mut copy = Copy { groups: demo.groups(), pending, writer, error: None };
    block_on(demo.read_all(&mut copy))?;
    if let Some(error) = copy.error {
        return Err(error.into());
    }
    let mut writer = copy.writer;
    for (archive, len, count) in FIXED {
        write_fixed(&mut writer, archive, len, count)?;
    }
    writer.finish()?;
    Ok(())
}

fn write_fixed(writer: &mut StoreWriter, archive: u8, len: usize, count: u32) -> Result<()> {
    // The container header of 5 bytes is part of it.
    let container_len = (5..=len).rev().find(|&container| framed_len(container) == len);
    let payload_len = container_len.ok_or("no container has this length on the wire")? - 5;
    let mut rng = fastrand::Rng::with_seed(u64::from(archive));
    let payloads = (0..count).map(|_| {
        let mut payload = vec![0; payload_len];
        rng.fill(&mut payload);
        payload
    });
    put_archive(writer, archive, payloads)
}

/// Writes an archive of these groups, uncompressed, and its index.
pub(crate) fn put_archive(
    writer: &mut StoreWriter,
    archive: u8,
    payloads: impl Iterator<Item = Vec<u8>>,
) -> Result<()> {
    let mut groups = Vec::new();
    for (id, payload) in (0..).zip(payloads) {
        let mut stored = compress(Compression::None, &payload)?;
        let (crc, version) = (crc32fast::hash(&stored), u32::from(VERSION));
        groups.push(IndexEntry { id, crc, version, file_count: 1, ..IndexEntry::default() });
        stored.extend(VERSION.to_be_bytes());
        writer.put(archive, id, &stored)?;
    }
    let index = ArchiveIndex { format: 6, version: 1, groups, ..ArchiveIndex::default() };
    let container = compress(Compression::Gzip, &index.encode())?;
    Ok(writer.put(ARCHIVE_INDEXES, archive.into(), &container)?)
}

/// Copies groups into a store.
struct Copy<'a> {
    groups: &'a [StoredGroup],
    pending: Vec<Vec<u8>>,
    writer: StoreWriter,
    error: Option<StoreError>,
}

impl GroupVisitor for Copy<'_> {
    fn piece(&mut self, slot: usize, _offset: u32, bytes: &[u8]) {
        self.pending[slot].extend_from_slice(bytes);
    }

    fn complete(&mut self, slot: usize) {
        let (group, stored) = (self.groups[slot], std::mem::take(&mut self.pending[slot]));
        if let Err(error) = self.writer.put(group.archive, group.group, &stored) {
            self.error.get_or_insert(error);
        }
    }

    fn failed(&mut self, slot: usize, error: GroupError) {
        eprintln!("group {:?} of the demo cache: {error}", self.groups[slot]);
    }

    fn progress(&mut self, _done: u64, _total: u64) {}
}

/// Writes a scenario file that names `groups`, which are in order, as ranges.
fn scenario<'a>(
    out: &Path,
    name: &str,
    groups: impl Iterator<Item = &'a StoredGroup>,
) -> Result<PathBuf> {
    let mut ranges: Vec<(u8, u32, u32)> = Vec::new();
    for group in groups.filter(|group| group.group <= u32::from(u16::MAX)) {
        match ranges.last_mut() {
            Some((archive, _, last)) if *archive == group.archive && *last + 1 == group.group => {
                *last = group.group;
            }
            _ => ranges.push((group.archive, group.group, group.group)),
        }
    }
    let mut list = String::new();
    for (archive, first, last) in ranges {
        let comma = if list.is_empty() { "" } else { "," };
        let end = if first == last { String::new() } else { format!("..{last}") };
        write!(list, "{comma}{archive}/{first}{end}")?;
    }
    let path = out.join(format!("{name}.toml"));
    std::fs::write(&path, format!("groups = \"{list}\"\n"))?;
    Ok(path)
}
