//! The idx files: six bytes a group, its length and its first sector.
//!
//! Entries are not checked here. An entry of all zeros means that there is no such group.

use std::path::Path;

use super::file::InputFile;
use super::sector::SECTORS_MAX;
use super::{IndexCut, StoreError, StoredGroup};

/// Bytes of an entry.
const ENTRY_BYTES: usize = 6;
/// The same, for places in an idx file.
pub(super) const ENTRY_BYTES_U64: u64 = 6;
/// The longest idx file that is read. A data file has no more sectors to give.
const INDEX_BYTES_MAX: u64 = SECTORS_MAX as u64 * ENTRY_BYTES_U64;
/// How much is read at a time: a whole number of entries.
const READ_BYTES: usize = 1_048_320;

/// A group that an idx file lists, and where its chain starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) group: StoredGroup,
    pub(super) first_sector: u32,
}

/// Appends the groups that the idx file `path` lists to `out`. Comes back with the damage if the
/// file ends within an entry.
pub(super) async fn read(
    path: &Path,
    archive: u8,
    out: &mut Vec<Listed>,
) -> Result<Option<IndexCut>, StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    let file = InputFile::open(path).await.map_err(io)?;
    let mut buf = Vec::new();
    let mut entries = Entries::new(archive);
    loop {
        buf = file.read_at(buf, entries.len_bytes, READ_BYTES).await.map_err(io)?;
        entries.take(&buf, out);
        if entries.len_bytes > INDEX_BYTES_MAX {
            let len_bytes = std::fs::metadata(path).map_err(io)?.len();
            let len_bytes_max = INDEX_BYTES_MAX;
            return Err(StoreError::IndexTooLong { path: path.into(), len_bytes, len_bytes_max });
        }
        if buf.len() < READ_BYTES {
            return Ok(entries.finish());
        }
    }
}

/// An idx file, taken in piece by piece.
pub(super) struct Entries {
    archive: u8,
    /// The group that the next entry lists.
    group: u32,
    /// How much was taken in.
    len_bytes: u64,
    /// The start of an entry whose end is in the next piece; less than an entry.
    begun: Vec<u8>,
}

impl Entries {
    pub(super) fn new(archive: u8) -> Self {
        Self { archive, group: 0, len_bytes: 0, begun: Vec::new() }
    }

    /// Appends the groups that the piece lists to `out`.
    pub(super) fn take(&mut self, piece: &[u8], out: &mut Vec<Listed>) {
        self.len_bytes = self.len_bytes.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
        let missing = ENTRY_BYTES.saturating_sub(self.begun.len());
        let mut rest = piece;
        if !self.begun.is_empty() {
            let (end, behind) = piece.split_at_checked(missing).unwrap_or((piece, &[]));
            self.begun.extend(end);
            rest = behind;
            let begun = std::mem::take(&mut self.begun);
            match begun.first_chunk() {
                Some(&entry) => self.push(entry, out),
                None => self.begun = begun,
            }
        }
        let (entries, rest) = rest.as_chunks::<ENTRY_BYTES>();
        entries.iter().for_each(|&entry| self.push(entry, out));
        self.begun.extend(rest);
    }

    /// What is said of a file that ends in the middle of an entry.
    pub(super) fn finish(self) -> Option<IndexCut> {
        let Self { archive, len_bytes, .. } = self;
        (!self.begun.is_empty()).then_some(IndexCut { archive, len_bytes })
    }

    fn push(&mut self, entry: [u8; ENTRY_BYTES], out: &mut Vec<Listed>) {
        out.extend(listed(self.archive, self.group, entry));
        self.group = self.group.saturating_add(1);
    }
}

/// The group that an entry lists, if it lists one.
fn listed(archive: u8, group: u32, entry: [u8; ENTRY_BYTES]) -> Option<Listed> {
    let [l0, l1, l2, s0, s1, s2] = entry;
    let len_bytes = u32::from_be_bytes([0, l0, l1, l2]);
    let first_sector = u32::from_be_bytes([0, s0, s1, s2]);
    (len_bytes > 0 || first_sector > 0)
        .then_some(Listed { group: StoredGroup { archive, group, len_bytes }, first_sector })
}
