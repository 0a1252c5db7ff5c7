//! What the null server serves: as many equal groups as there is room for, and their indexes.

use js5d::protocol::archive_index::{ArchiveIndex, IndexEntry};
use js5d::protocol::container::{self, Compression};
use js5d::protocol::frame::{frame, framed_len, write_header};
use js5d::protocol::master_index::{self, MasterEntry, MasterFormat};
use js5d::protocol::{ARCHIVE_INDEXES, GroupId, MASTER_INDEX};
use std::io;

/// The header of a container without compression.
const HEADER_LEN: usize = 5;

/// The framed responses.
pub(super) struct Groups {
    /// Archive 0's groups are all this one, but for the header.
    pub(super) body: Vec<u8>,
    count: u32,
    archive_index: Vec<u8>,
    master_index: Vec<u8>,
}

impl Groups {
    /// Groups whose responses are `size` bytes on the wire.
    pub(super) fn new(size: usize) -> io::Result<Self> {
        let wrong = |e: &dyn std::fmt::Display| io::Error::other(e.to_string());
        let fits = |len: &usize| framed_len(*len) == size;
        let container_len = (HEADER_LEN..=size).rev().find(fits).ok_or_else(|| {
            let reason = format!("no response has {size} bytes: its last byte would be a marker");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })?;
        let payload: Vec<u8> = (0..container_len - HEADER_LEN).map(|i| (i * 7) as u8).collect();
        let group = container::compress(Compression::None, &payload).map_err(|e| wrong(&e))?;
        let count: u32 = if size <= 10_000 { 4096 } else { 512 };
        let crc = crc32fast::hash(&group);
        let entry = |id| IndexEntry { id, crc, file_count: 1, ..IndexEntry::default() };
        let groups = (0..count).map(entry).collect();
        let index = ArchiveIndex { format: 6, version: 1, groups, ..ArchiveIndex::default() };
        let index = container::compress(Compression::None, &index.encode());
        let index = index.map_err(|e| wrong(&e))?;
        let entry =
            MasterEntry { crc: crc32fast::hash(&index), version: 1, ..MasterEntry::default() };
        let master = master_index::encode(MasterFormat::Versioned, &[entry]);
        let master = master.map_err(|e| wrong(&e))?;
        let archive_index_id = GroupId { archive: ARCHIVE_INDEXES, group: 0 };
        Ok(Self {
            body: frame(GroupId { archive: 0, group: 0 }, &group),
            count,
            archive_index: frame(archive_index_id, &index),
            master_index: frame(MASTER_INDEX, &master),
        })
    }

    /// The framed response for a group and its three-byte header; `None` if there is none.
    pub(super) fn find(&self, id: GroupId) -> Option<&[u8]> {
        match (id.archive, id.group) {
            (0, group) if group < self.count => Some(&self.body),
            (ARCHIVE_INDEXES, 0) => Some(&self.archive_index),
            (ARCHIVE_INDEXES, 255) => Some(&self.master_index),
            _ => None,
        }
    }

    /// The first four bytes of a response: header and compression byte.
    pub(super) fn head(id: GroupId, framed: &[u8], prefetch: bool) -> [u8; 4] {
        let mut head = [0; 4];
        write_header(&mut head, id);
        head[3] = framed[3] | if prefetch { 0x80 } else { 0 };
        head
    }
}
