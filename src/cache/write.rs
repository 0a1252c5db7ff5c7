//! Writes stores, as directories or packed into one file.
//!
//! Writes block: only the caller waits for them. The layout is that of
//! docs/cache-format.md, each group's sectors in a row. Idx files, and a zip's directory, are
//! written last, and so are the indexes of flat files, so that what was not finished lists nothing.

mod tar;
mod zip;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::names::{DAT2, GROUPS_MAX, IDX, INDEX_ARCHIVE, index_path};
use super::sector::{Form, Header, SECTOR_BYTES, SECTORS_MAX};
use super::store::is_store;
use super::{GROUP_BYTES_MAX, Packing, StoreError, StoreKind, StoredGroup, flat};
use tar::TarWriter;
use zip::ZipWriter;

/// The directory inside a packed store, as the OpenRS2 archive has it.
const PACKED_DIR: &str = "cache/";

/// Writes one store, group by group, in any order.
///
/// The idx files are written by [`StoreWriter::finish`]: a store of sectors that was not finished
/// lists nothing.
#[derive(Debug)]
pub struct StoreWriter {
    /// The directory, or the file.
    path: PathBuf,
    /// By archive and group: the length and the first sector.
    entries: BTreeMap<(u8, u32), (u32, u32)>,
    /// Archives that have an idx file even if they are empty.
    archives: BTreeSet<u8>,
    bytes: u64,
    target: Target,
}

#[derive(Debug)]
enum Target {
    Dat2(Sectors<BufWriter<File>>),
    Flat {
        /// The archive indexes, which are written last: without them nothing is served.
        indexes: Vec<(StoredGroup, Vec<u8>)>,
    },
    /// Sectors and idx files in a zip.
    Zip(Sectors<ZipWriter>),
    /// Flat files in a tar.gz.
    TarGz(TarWriter),
}

/// What a [`StoreWriter`] wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSummary {
    /// How many groups.
    pub groups: usize,
    /// How many bytes they have together, sector headers and idx files aside.
    pub bytes: u64,
}

impl StoreWriter {
    /// Starts a store of `kind` in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// If `dir` holds a store or a part of one, if it cannot be made or written to, and for
    /// [`StoreKind::Dat`], which cannot be served.
    pub fn create(dir: &Path, kind: StoreKind) -> Result<Self, StoreError> {
        if kind == StoreKind::Dat {
            return Err(StoreError::CannotWrite { kind });
        }
        fs::create_dir_all(dir).map_err(|source| StoreError::Io { path: dir.into(), source })?;
        if is_store(dir)? {
            return Err(StoreError::AlreadyAStore { path: dir.into() });
        }
        let target = match kind {
            StoreKind::Flat => Target::Flat { indexes: Vec::new() },
            StoreKind::Dat2 | StoreKind::Dat => {
                let path = dir.join(DAT2);
                let io = |source| StoreError::Io { path: path.clone(), source };
                let file = File::create_new(&path).map_err(io)?;
                let file = BufWriter::with_capacity(1 << 20, file);
                Target::Dat2(Sectors::begin(file).map_err(io)?)
            }
        };
        Ok(Self::new(dir, target))
    }

    /// Starts a store that is packed into the empty file `file`: a zip of sectors and idx files,
    /// or a tar.gz of flat files. `path` is what errors call it.
    ///
    /// # Errors
    /// If writing fails, and for [`Packing::Tar`], which js5d only reads.
    pub fn create_packed(path: &Path, file: File, packing: Packing) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { path: path.into(), source };
        let target = match packing {
            Packing::Tar => return Err(StoreError::CannotPack { packing }),
            Packing::TarGz => Target::TarGz(TarWriter::new(file)),
            Packing::Zip => {
                let mut zip = ZipWriter::new(file);
                zip.begin(PACKED_DIR).map_err(io)?;
                zip.begin(&format!("{PACKED_DIR}{DAT2}")).map_err(io)?;
                Target::Zip(Sectors::begin(zip).map_err(io)?)
            }
        };
        Ok(Self::new(path, target))
    }

    fn new(path: &Path, target: Target) -> Self {
        let (entries, archives) = (BTreeMap::new(), BTreeSet::new());
        Self { path: path.into(), entries, archives, bytes: 0, target }
    }

    /// Lets the store have an idx file of `archive` even if it is empty.
    pub fn add_archive(&mut self, archive: u8) {
        self.archives.insert(archive);
    }

    /// Writes a group: `stored` is its container with the version trailer, if it has one.
    ///
    /// # Errors
    /// If the group was put before, is empty or too large, if its number is 16,777,216 or more,
    /// if the store is full, or if writing fails.
    pub fn put(&mut self, archive: u8, group: u32, stored: &[u8]) -> Result<(), StoreError> {
        let refuse = |why| StoreError::CannotPut { archive, group, why };
        let len_bytes = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        if len_bytes == 0 {
            return Err(refuse("a group has at least one byte"));
        }
        if len_bytes > GROUP_BYTES_MAX {
            return Err(refuse("a group has 16777215 bytes at most"));
        }
        if usize::try_from(group).unwrap_or(usize::MAX) >= GROUPS_MAX {
            return Err(refuse("an idx file has 16777216 entries at most"));
        }
        if self.entries.contains_key(&(archive, group)) {
            return Err(refuse("it was written before"));
        }
        let group = StoredGroup { archive, group, len_bytes };
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        let first_sector = match &mut self.target {
            Target::Dat2(sectors) => sectors.append(group, stored, &self.path)?,
            Target::Zip(sectors) => sectors.append(group, stored, &self.path)?,
            Target::Flat { indexes } if archive == INDEX_ARCHIVE => {
                indexes.push((group, stored.to_vec()));
                0
            }
            Target::Flat { .. } => write_file(&self.path, group, stored)?,
            Target::TarGz(tar) => {
                let name = format!("{PACKED_DIR}{archive}/{}.dat", group.group);
                tar.put(&name, stored).map_err(io)?;
                0
            }
        };
        self.entries.insert((archive, group.group), (len_bytes, first_sector));
        self.bytes = self.bytes.saturating_add(u64::from(len_bytes));
        Ok(())
    }

    /// Writes the idx files and whatever is still in memory.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(self) -> Result<WriteSummary, StoreError> {
        let Self { path, entries, mut archives, bytes, target } = self;
        let io = |source| StoreError::Io { path: path.clone(), source };
        archives.extend(entries.keys().map(|(archive, _)| archive));
        // A client makes an idx file of each archive, and tools that list a cache's archives by
        // its files would otherwise pass over an archive whose index lists no group.
        let indexes = entries.range((INDEX_ARCHIVE, 0)..);
        archives.extend(indexes.filter_map(|((_, group), _)| u8::try_from(*group).ok()));
        match target {
            Target::Dat2(mut sectors) => {
                sectors.out.flush().map_err(io)?;
                for archive in archives {
                    let path = index_path(&path, archive);
                    let index = index(&entries, archive);
                    fs::write(&path, index).map_err(|source| StoreError::Io { path, source })?;
                }
            }
            Target::Zip(sectors) => {
                let mut zip = sectors.out;
                for archive in archives {
                    zip.begin(&format!("{PACKED_DIR}{IDX}{archive}")).map_err(io)?;
                    zip.write_all(&index(&entries, archive)).map_err(io)?;
                }
                zip.finish().and_then(|file| file.sync_all()).map_err(io)?;
            }
            Target::TarGz(tar) => tar.finish().and_then(|file| file.sync_all()).map_err(io)?,
            Target::Flat { indexes } => {
                for (group, stored) in indexes {
                    write_file(&path, group, &stored)?;
                }
            }
        }
        Ok(WriteSummary { groups: entries.len(), bytes })
    }
}

/// The idx file of an archive.
fn index(entries: &BTreeMap<(u8, u32), (u32, u32)>, archive: u8) -> Vec<u8> {
    let mut index = Vec::new();
    let mut next_group = 0;
    for (&(_, group), &(len_bytes, first_sector)) in
        entries.range((archive, 0)..=(archive, u32::MAX))
    {
        for _ in next_group..group {
            index.extend([0; 6]);
        }
        index.extend(len_bytes.to_be_bytes().into_iter().skip(1));
        index.extend(first_sector.to_be_bytes().into_iter().skip(1));
        next_group = group.saturating_add(1);
    }
    index
}

/// Writes a group into a file of its own. It has no first sector.
fn write_file(dir: &Path, group: StoredGroup, stored: &[u8]) -> Result<u32, StoreError> {
    let path = flat::path(dir, group);
    let io = |source| StoreError::Io { path: path.clone(), source };
    match fs::write(&path, stored) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(dir.join(group.archive.to_string())).map_err(io)?;
            fs::write(&path, stored).map_err(io)?;
        }
        outcome => outcome.map_err(io)?,
    }
    Ok(0)
}

/// The data file.
#[derive(Debug)]
struct Sectors<W> {
    out: W,
    /// The sector that is written next.
    next: u32,
}

impl<W: Write> Sectors<W> {
    fn begin(mut out: W) -> io::Result<Self> {
        // Sector 0 belongs to no group: as a `next` it means the end.
        out.write_all(&[0; SECTOR_BYTES])?;
        Ok(Self { out, next: 1 })
    }

    /// Appends a group. Comes back with its first sector.
    fn append(
        &mut self,
        group: StoredGroup,
        stored: &[u8],
        path: &Path,
    ) -> Result<u32, StoreError> {
        let StoredGroup { archive, group, len_bytes } = group;
        let data_bytes = Form::of(group).data_bytes();
        let first = self.next;
        let end = first.saturating_add(len_bytes.div_ceil(data_bytes));
        if end > SECTORS_MAX {
            let why = "the data file has no sector left";
            return Err(StoreError::CannotPut { archive, group, why });
        }
        let mut sector = Vec::with_capacity(SECTOR_BYTES);
        let parts = stored.chunks(usize::try_from(data_bytes).unwrap_or(usize::MAX));
        // 16,777,215 bytes are 32,897 sectors at most: the positions fit.
        for (position, part) in (0..).zip(parts) {
            self.next = self.next.saturating_add(1);
            let next = if self.next == end { 0 } else { self.next };
            sector.clear();
            Header { group, position, next, archive }.write(&mut sector);
            sector.extend(part);
            sector.resize(SECTOR_BYTES, 0);
            let io = |source| StoreError::Io { path: path.into(), source };
            self.out.write_all(&sector).map_err(io)?;
        }
        Ok(first)
    }
}
