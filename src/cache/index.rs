//! The idx files: six bytes a group, its length and its first sector.
//!
//! Nothing here is believed yet; an entry of all zeros is a group that is not there.

use std::path::Path;

use super::ring_file::RingFile;
use super::sector::SECTORS_MAX;
use super::{IndexCut, StoreError, StoredGroup};

/// Bytes of an entry, for places in an idx file.
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
    let file = RingFile::open(path).await.map_err(io)?;
    let mut buf = Vec::new();
    let mut len_bytes: u64 = 0;
    let mut group: u32 = 0;
    loop {
        buf = file.read_at(buf, len_bytes, READ_BYTES).await.map_err(io)?;
        len_bytes = len_bytes.saturating_add(u64::try_from(buf.len()).unwrap_or(u64::MAX));
        if len_bytes > INDEX_BYTES_MAX {
            let len_bytes = std::fs::metadata(path).map_err(io)?.len();
            let len_bytes_max = INDEX_BYTES_MAX;
            return Err(StoreError::IndexTooLong { path: path.into(), len_bytes, len_bytes_max });
        }
        let (entries, rest) = buf.as_chunks::<6>();
        for &entry in entries {
            out.extend(listed(archive, group, entry));
            group = group.saturating_add(1);
        }
        if buf.len() < READ_BYTES {
            return Ok((!rest.is_empty()).then_some(IndexCut { archive, len_bytes }));
        }
    }
}

/// The group that an entry lists, if it lists one.
fn listed(archive: u8, group: u32, entry: [u8; 6]) -> Option<Listed> {
    let [l0, l1, l2, s0, s1, s2] = entry;
    let len_bytes = u32::from_be_bytes([0, l0, l1, l2]);
    let first_sector = u32::from_be_bytes([0, s0, s1, s2]);
    (len_bytes > 0 || first_sector > 0)
        .then_some(Listed { group: StoredGroup { archive, group, len_bytes }, first_sector })
}
