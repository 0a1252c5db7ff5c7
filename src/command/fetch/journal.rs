//! The journal of a mirror: a file to which each container is appended when it has been checked.
//!
//! A record is `JS5G`, archive (u8), group (u32), length (u32), the container's CRC-32 (u32), all
//! big-endian, and the container. Whatever ends the process, the records before the one that was
//! being written are whole; what follows the last whole one is cut off when the file is opened.

use crate::cache::{StoreError, lock};
use crate::protocol::GroupId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MARK: [u8; 4] = *b"JS5G";
const HEADER_LEN: usize = 17;
/// The longest container: a group's length has three bytes on disk, and its trailer two.
const CONTAINER_LEN_MAX: u32 = 0x00FF_FFFF - 2;

/// Where a container is.
#[derive(Clone, Copy, Debug)]
struct Record {
    start: u64,
    len: u32,
    crc: u32,
}

/// The containers that were fetched.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    end: u64,
    /// The last record of each group.
    records: BTreeMap<GroupId, Record>,
}

impl Journal {
    /// Opens the journal at `path`, or begins one, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { path: path.into(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io)?;
        lock(path, &file)?;
        let mut journal = Self { path: path.into(), file, end: 0, records: BTreeMap::new() };
        journal.scan().map_err(io)?;
        Ok(journal)
    }

    /// Takes in the whole records, and cuts off what follows them.
    fn scan(&mut self) -> io::Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, &self.file);
        let mut container = Vec::new();
        loop {
            let mut header = [0; HEADER_LEN];
            match file.read_exact(&mut header) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                outcome => outcome?,
            }
            let [a, b, c, d, archive, g0, g1, g2, g3, l0, l1, l2, l3, c0, c1, c2, c3] = header;
            let len = u32::from_be_bytes([l0, l1, l2, l3]);
            if [a, b, c, d] != MARK || len > CONTAINER_LEN_MAX {
                break;
            }
            container.clear();
            (&mut file).take(len.into()).read_to_end(&mut container)?;
            let crc = u32::from_be_bytes([c0, c1, c2, c3]);
            if container.len() != len as usize || crc32fast::hash(&container) != crc {
                break;
            }
            let id = GroupId { archive, group: u32::from_be_bytes([g0, g1, g2, g3]) };
            let start = self.end + HEADER_LEN as u64;
            self.records.insert(id, Record { start, len, crc });
            self.end = start + u64::from(len);
        }
        self.file.set_len(self.end)?;
        self.file.seek(SeekFrom::Start(self.end))?;
        Ok(())
    }

    /// Whether the container of `id` with this checksum is here.
    pub(super) fn has(&self, id: GroupId, crc: u32) -> bool {
        self.records.get(&id).is_some_and(|record| record.crc == crc)
    }

    /// Appends a container.
    pub(super) fn append(&mut self, id: GroupId, container: &[u8]) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        let len = u32::try_from(container.len()).ok().filter(|&len| len <= CONTAINER_LEN_MAX);
        let len = len.ok_or_else(|| io(io::Error::other("a container is too long")))?;
        let crc = crc32fast::hash(container);
        let mut record = Vec::with_capacity(HEADER_LEN + container.len());
        record.extend(MARK);
        record.push(id.archive);
        record.extend(id.group.to_be_bytes());
        record.extend(len.to_be_bytes());
        record.extend(crc.to_be_bytes());
        record.extend_from_slice(container);
        self.file.write_all(&record).map_err(io)?;
        self.records.insert(id, Record { start: self.end + HEADER_LEN as u64, len, crc });
        self.end += record.len() as u64;
        Ok(())
    }

    /// Reads the container of `id`.
    pub(super) fn read(&mut self, id: GroupId) -> Result<Vec<u8>, StoreError> {
        let io = |source| StoreError::Io { path: self.path.clone(), source };
        let record = self.records.get(&id).copied();
        let record = record.ok_or_else(|| io(io::Error::other(format!("{id} is not in it"))))?;
        self.file.seek(SeekFrom::Start(record.start)).map_err(io)?;
        let mut container = Vec::with_capacity(record.len as usize);
        (&self.file).take(record.len.into()).read_to_end(&mut container).map_err(io)?;
        self.file.seek(SeekFrom::Start(self.end)).map_err(io)?;
        if crc32fast::hash(&container) != record.crc {
            return Err(io(io::Error::other(format!("{id} was changed; remove this file"))));
        }
        Ok(container)
    }

    /// Removes it: all of it is in a store.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        fs::remove_file(&self.path)
            .map_err(|source| StoreError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_cut_anywhere_keeps_its_whole_records() {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let path = dir.path().join("journal");
        let id = |group| GroupId { archive: 7, group };
        let mut journal = Journal::open(&path).expect("begun");
        for group in 0..3 {
            journal.append(id(group), &[group as u8; 40]).expect("written");
        }
        assert!(matches!(Journal::open(&path), Err(StoreError::Busy { .. })), "locked");
        drop(journal);
        let whole = fs::read(&path).expect("there");
        for len in 0..=whole.len() {
            fs::write(&path, &whole[..len]).expect("written");
            let mut journal = Journal::open(&path).expect("opened");
            for group in 0..3_u32 {
                let is_whole = len >= (group as usize + 1) * (HEADER_LEN + 40);
                let crc = crc32fast::hash(&[group as u8; 40]);
                assert_eq!(journal.has(id(group), crc), is_whole, "{len}");
            }
            journal.append(id(9), b"after").expect("written");
            drop(journal);
            let mut journal = Journal::open(&path).expect("opened");
            assert_eq!(journal.read(id(9)).expect("there"), b"after", "{len}");
        }
        let mut flipped = whole;
        flipped[HEADER_LEN + 10] ^= 1;
        fs::write(&path, &flipped).expect("written");
        let journal = Journal::open(&path).expect("opened");
        assert!(journal.records.is_empty(), "nothing behind a damaged record is used");
    }
}
