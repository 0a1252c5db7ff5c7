//! The archive index: the payload of container (255, a), which lists the groups of archive a
//! with their checksums and versions.
//!
//! It is laid out by columns: all ids, then all checksums, and so on. A count may not exceed what
//! the remaining bytes can hold, so decoding allocates a small multiple of its input. File ids must
//! be there and are ignored, because the server does not read inside groups. What no client checks
//! (unknown flags, an id that is listed twice, bytes at the end) is recorded for the report, and is
//! no error.

mod column;

use column::{Columns, put_sized};

/// Flag 1: each group, and each file, has the hash of its name.
pub const FLAG_NAMES: u8 = 1;
/// Flag 2: each group has the 64-byte whirlpool digest of its container.
pub const FLAG_DIGESTS: u8 = 2;
/// Flag 4: each group has its compressed and its uncompressed length.
pub const FLAG_LENGTHS: u8 = 4;
/// Flag 8: each group has the checksum of its uncompressed content.
pub const FLAG_UNCOMPRESSED_CRCS: u8 = 8;

/// The flags whose columns have a known place. Clients test these bits and ignore the others.
pub const FLAGS_KNOWN: u8 = FLAG_NAMES | FLAG_DIGESTS | FLAG_LENGTHS | FLAG_UNCOMPRESSED_CRCS;

/// The first format whose header has a version.
const FORMAT_VERSIONED: u8 = 6;
/// The first format whose counts and ids may be wider than 16 bits.
const FORMAT_WIDE: u8 = 7;

/// An archive index, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchiveIndex {
    /// 5, 6 or 7.
    pub format: u8,
    /// The archive's version; 0 in format 5, which has none.
    pub version: u32,
    /// Which optional columns there are: the sum of `FLAG_*`, and bits beyond [`FLAGS_KNOWN`] as
    /// they stand there, which add no column.
    pub flags: u8,
    /// The groups, their ids strictly increasing.
    pub groups: Vec<IndexEntry>,
    /// How many bytes follow the last column. No client checks them, so they are counted and not
    /// refused.
    pub trailing_len: usize,
    /// How many entries were passed over because a later one has the same id. Clients fill
    /// tables by id, so that the last one counts.
    pub repeated_count: usize,
}

/// What an archive index says of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexEntry {
    /// The group; 65,536 and more cannot be asked for on the wire.
    pub id: u32,
    /// CRC-32 over the container, without the version trailer.
    pub crc: u32,
    /// The group's version; a stored group's trailer has its low 16 bits.
    pub version: u32,
    /// How many files the group holds.
    pub file_count: u32,
    /// The hash of the group's name; 0 without [`FLAG_NAMES`].
    pub name_hash: i32,
    /// The checksum of the uncompressed content; 0 without [`FLAG_UNCOMPRESSED_CRCS`].
    pub uncompressed_crc: u32,
    /// The compressed and the uncompressed length; zeros without [`FLAG_LENGTHS`].
    pub lengths: [u32; 2],
    /// The whirlpool digest of the container; with [`FLAG_DIGESTS`].
    pub digest: Option<Box<[u8; 64]>>,
}

/// What is wrong with an archive index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveIndexError {
    /// The first byte is no known format.
    #[error("index format {0} is unknown (5, 6 and 7 exist)")]
    UnknownFormat(u8),
    /// The payload ends within a column.
    #[error("the index ends at byte {len} within its {column}, which begin at byte {offset}")]
    Truncated {
        /// The column.
        column: &'static str,
        /// Where the column begins.
        offset: usize,
        /// The payload's length.
        len: usize,
    },
    /// The numbers of a column add up to more than 32 bits hold.
    #[error("the {column} overflow at entry {position}")]
    Overflow {
        /// "group ids" or "file counts".
        column: &'static str,
        /// The position in the column, counted from 0.
        position: usize,
    },
}

impl ArchiveIndex {
    /// Decodes the payload of an archive index's container.
    ///
    /// # Errors
    /// When it is not whole, or says what cannot be: [`ArchiveIndexError`] says where.
    pub fn decode(payload: &[u8]) -> Result<Self, ArchiveIndexError> {
        let mut columns = Columns::new(payload);
        let format = columns.byte("format")?;
        if !(5..=FORMAT_WIDE).contains(&format) {
            return Err(ArchiveIndexError::UnknownFormat(format));
        }
        let wide = format >= FORMAT_WIDE;
        let version = if format >= FORMAT_VERSIONED { columns.int("version")? } else { 0 };
        let flags = columns.byte("flags")?;
        let count = columns.sized("group count", wide)?;
        let mut groups = group_ids(&mut columns, count, wide)?;

        if flags & FLAG_NAMES != 0 {
            columns.each("name hashes", &mut groups, |group, bytes| {
                group.name_hash = i32::from_be_bytes(*bytes);
            })?;
        }
        columns.each("checksums", &mut groups, |group, bytes| {
            group.crc = u32::from_be_bytes(*bytes);
        })?;
        if flags & FLAG_UNCOMPRESSED_CRCS != 0 {
            columns.each("uncompressed checksums", &mut groups, |group, bytes| {
                group.uncompressed_crc = u32::from_be_bytes(*bytes);
            })?;
        }
        if flags & FLAG_DIGESTS != 0 {
            columns.each("digests", &mut groups, |group, bytes| {
                group.digest = Some(Box::new(*bytes));
            })?;
        }
        if flags & FLAG_LENGTHS != 0 {
            columns.each("lengths", &mut groups, |group, bytes: &[u8; 8]| {
                let [a, b, c, d, e, f, g, h] = *bytes;
                group.lengths =
                    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])];
            })?;
        }
        columns.each("versions", &mut groups, |group, bytes| {
            group.version = u32::from_be_bytes(*bytes);
        })?;
        files(&mut columns, &mut groups, wide, flags)?;
        let listed_count = groups.len();
        groups.dedup_by(|later, kept| {
            let is_repeated = later.id == kept.id;
            if is_repeated {
                std::mem::swap(later, kept);
            }
            is_repeated
        });
        let repeated_count = listed_count.saturating_sub(groups.len());
        let trailing_len = columns.rest_len();
        Ok(Self { format, version, flags, groups, trailing_len, repeated_count })
    }

    /// The payload that decodes to this: for the demo cache and tests. Each group's files get
    /// the ids from 0 on, and no names.
    ///
    /// The ids of `groups` must strictly increase; formats 5 and 6 hold none above 65,535.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let wide = self.format >= FORMAT_WIDE;
        let mut out = vec![self.format];
        if self.format >= FORMAT_VERSIONED {
            out.extend(self.version.to_be_bytes());
        }
        out.push(self.flags);
        put_sized(&mut out, u32::try_from(self.groups.len()).unwrap_or(u32::MAX), wide);
        let mut previous = 0;
        for group in &self.groups {
            put_sized(&mut out, group.id.wrapping_sub(previous), wide);
            previous = group.id;
        }
        let flag = |flag| self.groups.iter().filter(move |_| self.flags & flag != 0);
        out.extend(flag(FLAG_NAMES).flat_map(|group| group.name_hash.to_be_bytes()));
        out.extend(self.groups.iter().flat_map(|group| group.crc.to_be_bytes()));
        out.extend(
            flag(FLAG_UNCOMPRESSED_CRCS).flat_map(|group| group.uncompressed_crc.to_be_bytes()),
        );
        out.extend(
            flag(FLAG_DIGESTS)
                .flat_map(|group| group.digest.as_deref().copied().unwrap_or([0; 64])),
        );
        out.extend(
            flag(FLAG_LENGTHS).flat_map(|group| group.lengths.map(u32::to_be_bytes)).flatten(),
        );
        out.extend(self.groups.iter().flat_map(|group| group.version.to_be_bytes()));
        for group in &self.groups {
            put_sized(&mut out, group.file_count, wide);
        }
        for group in &self.groups {
            for file in 0..group.file_count {
                put_sized(&mut out, file.min(1), wide);
            }
        }
        for group in flag(FLAG_NAMES) {
            out.extend((0..group.file_count).flat_map(|_| [0; 4]));
        }
        out
    }
}

/// Decodes the column of group ids.
fn group_ids(
    columns: &mut Columns<'_>,
    count: u32,
    wide: bool,
) -> Result<Vec<IndexEntry>, ArchiveIndexError> {
    // An id takes two bytes at least: no more room than that is made in advance.
    let count = columns.believe("group ids", count, 2)?;
    let mut groups = Vec::with_capacity(count);
    let mut id = 0_u32;
    for position in 0..count {
        let step = columns.sized("group ids", wide)?;
        let overflow = ArchiveIndexError::Overflow { column: "group ids", position };
        id = id.checked_add(step).ok_or(overflow)?;
        groups.push(IndexEntry { id, ..IndexEntry::default() });
    }
    Ok(groups)
}

/// Decodes the columns of file counts, file ids and file names.
fn files(
    columns: &mut Columns<'_>,
    groups: &mut [IndexEntry],
    wide: bool,
    flags: u8,
) -> Result<(), ArchiveIndexError> {
    let mut file_count: u32 = 0;
    for (position, group) in groups.iter_mut().enumerate() {
        group.file_count = columns.sized("file counts", wide)?;
        file_count = file_count
            .checked_add(group.file_count)
            .ok_or(ArchiveIndexError::Overflow { column: "file counts", position })?;
    }
    columns.believe("file ids", file_count, 2)?;
    for _ in 0..file_count {
        columns.sized("file ids", wide)?;
    }
    if flags & FLAG_NAMES != 0 {
        let count = columns.believe("file name hashes", file_count, 4)?;
        columns.take("file name hashes", count.saturating_mul(4))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "archive_index_tests.rs"]
mod tests;
