//! Writes stores: the demo cache, and what tests and benchmarks read.
//!
//! Plain blocking files: nothing waits for this but the one who asked. The layout is that of
//! docs/cache-format.md, each group's sectors in a row.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::sector::{Form, Header, SECTOR_BYTES, SECTORS_MAX};
use super::store::{DAT2, GROUPS_MAX, index_path, is_store};
use super::{GROUP_BYTES_MAX, StoreError, StoreKind, StoredGroup, flat};

/// Writes one store, group by group, in any order.
///
/// The idx files are written by [`StoreWriter::finish`]: a dat2 store that was not finished
/// lists nothing.
#[derive(Debug)]
pub struct StoreWriter {
    dir: PathBuf,
    /// By archive and group: the length and the first sector.
    entries: BTreeMap<(u8, u32), (u32, u32)>,
    bytes: u64,
    /// `None` for flat files.
    sectors: Option<Sectors>,
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
    /// [`StoreKind::Dat`], which nobody needs to write.
    pub fn create(dir: &Path, kind: StoreKind) -> Result<Self, StoreError> {
        if kind == StoreKind::Dat {
            return Err(StoreError::CannotWrite { kind });
        }
        fs::create_dir_all(dir).map_err(|source| StoreError::Io { path: dir.into(), source })?;
        if is_store(dir)? {
            return Err(StoreError::AlreadyAStore { path: dir.into() });
        }
        let sectors = (kind == StoreKind::Dat2).then(|| Sectors::create(dir)).transpose()?;
        Ok(Self { dir: dir.into(), entries: BTreeMap::new(), bytes: 0, sectors })
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
        let first_sector = match &mut self.sectors {
            Some(sectors) => sectors.append(group, stored)?,
            None => write_file(&self.dir, group, stored)?,
        };
        self.entries.insert((archive, group.group), (len_bytes, first_sector));
        self.bytes = self.bytes.saturating_add(u64::from(len_bytes));
        Ok(())
    }

    /// Writes the idx files and whatever is still in memory.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> Result<WriteSummary, StoreError> {
        if let Some(sectors) = self.sectors.take() {
            sectors.flush()?;
            self.write_indexes()?;
        }
        Ok(WriteSummary { groups: self.entries.len(), bytes: self.bytes })
    }

    fn write_indexes(&self) -> Result<(), StoreError> {
        let entries: Vec<_> = self.entries.iter().collect();
        for archive in entries.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let mut index = Vec::new();
            let mut next_group = 0;
            for &(&(_, group), &(len_bytes, first_sector)) in archive {
                for _ in next_group..group {
                    index.extend([0; 6]);
                }
                index.extend(len_bytes.to_be_bytes().into_iter().skip(1));
                index.extend(first_sector.to_be_bytes().into_iter().skip(1));
                next_group = group.saturating_add(1);
            }
            if let Some(&(&(archive, _), _)) = archive.first() {
                let path = index_path(&self.dir, archive);
                fs::write(&path, index).map_err(|source| StoreError::Io { path, source })?;
            }
        }
        Ok(())
    }
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
struct Sectors {
    path: PathBuf,
    file: BufWriter<File>,
    /// The sector that is written next.
    next: u32,
}

impl Sectors {
    fn create(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(DAT2);
        let io = |source| StoreError::Io { path: path.clone(), source };
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(&path).map_err(io)?);
        // Sector 0 belongs to nobody: as a `next` it means the end.
        file.write_all(&[0; SECTOR_BYTES]).map_err(io)?;
        Ok(Self { path, file, next: 1 })
    }

    /// Appends a group. Comes back with its first sector.
    fn append(&mut self, group: StoredGroup, stored: &[u8]) -> Result<u32, StoreError> {
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
            let io = |source| StoreError::Io { path: self.path.clone(), source };
            self.file.write_all(&sector).map_err(io)?;
        }
        Ok(first)
    }

    fn flush(mut self) -> Result<(), StoreError> {
        self.file.flush().map_err(|source| StoreError::Io { path: self.path, source })
    }
}
