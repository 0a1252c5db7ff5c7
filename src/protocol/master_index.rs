//! The master index: group (255, 255), which the server makes. It gives the client the checksum
//! and version of each archive index, archive after archive from 0 on.
//!
//! The payload says nothing of its own format: client and server must agree on it beforehand
//! (docs/protocol.md, "What is served").

use super::archive_index::{FLAG_DIGESTS, FLAG_LENGTHS};
use super::container::{self, Compression, ContainerError};

/// The most entries there can be: archives 0 to 254.
pub const MASTER_ENTRIES_MAX: usize = 255;

/// The longest payload of the supported formats.
const PAYLOAD_LEN_MAX: usize = MASTER_ENTRIES_MAX * 8;

/// What the entries are made of. Each format says more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MasterFormat {
    /// Checksums.
    Original,
    /// Checksums and versions. What the build 550 client reads.
    Versioned,
    /// Checksums, versions and whirlpool digests, signed. Not supported.
    Digests,
    /// The same, with each archive's capacity and length. Not supported.
    Lengths,
}

impl MasterFormat {
    /// The richest format that the archive indexes, each given by its format and flags, call
    /// for.
    #[must_use]
    pub fn called_for(indexes: impl IntoIterator<Item = (u8, u8)>) -> Self {
        let called_for = |(format, flags)| match (format, flags) {
            (_, flags) if flags & FLAG_LENGTHS != 0 => Self::Lengths,
            (_, flags) if flags & FLAG_DIGESTS != 0 => Self::Digests,
            (6.., _) => Self::Versioned,
            _ => Self::Original,
        };
        indexes.into_iter().map(called_for).max().unwrap_or(Self::Original)
    }

    /// The nearest format that [`encode`] can write: itself, or [`MasterFormat::Versioned`].
    #[must_use]
    pub const fn supported(self) -> Self {
        match self {
            Self::Original => Self::Original,
            Self::Versioned | Self::Digests | Self::Lengths => Self::Versioned,
        }
    }
}

impl std::fmt::Display for MasterFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Original => "ORIGINAL",
            Self::Versioned => "VERSIONED",
            Self::Digests => "DIGESTS",
            Self::Lengths => "LENGTHS",
        })
    }
}

/// What the master index says of one archive. All zeros: the archive is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MasterEntry {
    /// CRC-32 over the archive index's container.
    pub crc: u32,
    /// The version that the archive index gives; 0 in format ORIGINAL.
    pub version: u32,
}

/// Why a master index cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterIndexError {
    /// The format is one of those to come.
    #[error("master index format {0} is not supported (ORIGINAL and VERSIONED are)")]
    Unsupported(MasterFormat),
    /// More entries than archives can exist.
    #[error("a master index of {count} entries; there are 255 archives at most")]
    TooManyEntries {
        /// How many.
        count: usize,
    },
    /// The payload ends within an entry.
    #[error("a master index of {len} bytes, which is no multiple of {entry_len}")]
    WrongLength {
        /// The payload's length.
        len: usize,
        /// The length of an entry.
        entry_len: usize,
    },
    /// It is not the uncompressed container that it must be.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

fn entry_len(format: MasterFormat) -> Result<usize, MasterIndexError> {
    match format {
        MasterFormat::Original => Ok(4),
        MasterFormat::Versioned => Ok(8),
        MasterFormat::Digests | MasterFormat::Lengths => Err(MasterIndexError::Unsupported(format)),
    }
}

/// The master index's container, with `entries` from archive 0 on.
///
/// # Errors
/// When the format is not supported or there are more entries than archives.
pub fn encode(format: MasterFormat, entries: &[MasterEntry]) -> Result<Vec<u8>, MasterIndexError> {
    entry_len(format)?;
    if entries.len() > MASTER_ENTRIES_MAX {
        return Err(MasterIndexError::TooManyEntries { count: entries.len() });
    }
    let mut payload = Vec::new();
    for entry in entries {
        payload.extend_from_slice(&entry.crc.to_be_bytes());
        if format != MasterFormat::Original {
            payload.extend_from_slice(&entry.version.to_be_bytes());
        }
    }
    Ok(container::compress(Compression::None, &payload)?)
}

/// The entries in a master index's container, from archive 0 on.
///
/// # Errors
/// When the format is not supported or the bytes are no such container.
pub fn decode(
    format: MasterFormat,
    container: &[u8],
) -> Result<Vec<MasterEntry>, MasterIndexError> {
    let entry_len = entry_len(format)?;
    let payload = container::decompress(container, PAYLOAD_LEN_MAX)?;
    let int = |bytes: Option<&[u8; 4]>| bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let cells = payload.chunks_exact(entry_len);
    if !cells.remainder().is_empty() {
        return Err(MasterIndexError::WrongLength { len: payload.len(), entry_len });
    }
    let entry = |cell: &[u8]| MasterEntry {
        crc: int(cell.first_chunk()),
        version: int(cell.get(4..).and_then(<[u8]>::first_chunk)),
    };
    let entries: Vec<_> = cells.map(entry).collect();
    match entries.len() {
        0..=MASTER_ENTRIES_MAX => Ok(entries),
        count => Err(MasterIndexError::TooManyEntries { count }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: [MasterEntry; 3] = [
        MasterEntry { crc: 0x0102_0304, version: 0x0000_0102 },
        MasterEntry { crc: 0, version: 0 },
        MasterEntry { crc: 0xFFFE_FDFC, version: 0 },
    ];

    #[test]
    fn both_formats_are_written_and_read_as_by_hand() {
        let original = [
            &[0, 0, 0, 0, 12, 1, 2, 3, 4][..],
            &[0; 4], // the absent archive
            &[0xFF, 0xFE, 0xFD, 0xFC],
        ]
        .concat();
        let versioned = [
            &[0, 0, 0, 0, 24, 1, 2, 3, 4, 0, 0, 1, 2][..],
            &[0; 8],
            &[0xFF, 0xFE, 0xFD, 0xFC, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(encode(MasterFormat::Original, &ENTRIES).unwrap(), original);
        assert_eq!(encode(MasterFormat::Versioned, &ENTRIES).unwrap(), versioned);
        assert_eq!(decode(MasterFormat::Versioned, &versioned).unwrap(), ENTRIES);
        let crcs = decode(MasterFormat::Original, &original).unwrap();
        assert_eq!(crcs, ENTRIES.map(|entry| MasterEntry { version: 0, ..entry }));
    }

    #[test]
    fn what_is_no_master_index_is_refused() {
        let seven = [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        let expected = MasterIndexError::WrongLength { len: 7, entry_len: 8 };
        assert_eq!(decode(MasterFormat::Versioned, &seven), Err(expected));
        let bomb = [0, 0x7F, 0xFF, 0xFF, 0xFF];
        assert!(decode(MasterFormat::Original, &bomb).is_err());
        let count = 256;
        let many = vec![MasterEntry::default(); count];
        let expected = MasterIndexError::TooManyEntries { count };
        assert_eq!(encode(MasterFormat::Versioned, &many), Err(expected.clone()));
        let mut crcs = vec![0, 0, 0, 4, 0];
        crcs.extend([0; 1024]);
        assert_eq!(decode(MasterFormat::Original, &crcs), Err(expected));
        for format in [MasterFormat::Digests, MasterFormat::Lengths] {
            assert_eq!(encode(format, &[]), Err(MasterIndexError::Unsupported(format)));
        }
    }

    #[test]
    fn the_richest_index_decides_the_format() {
        use MasterFormat::{Digests, Lengths, Original, Versioned};
        let check = |indexes: &[(u8, u8)], called_for, supported| {
            let format = MasterFormat::called_for(indexes.iter().copied());
            assert_eq!((format, format.supported()), (called_for, supported), "{indexes:?}");
        };
        check(&[], Original, Original);
        check(&[(5, 0), (5, 1)], Original, Original);
        check(&[(5, 0), (6, 1)], Versioned, Versioned);
        check(&[(7, 8)], Versioned, Versioned);
        check(&[(6, 2), (6, 0)], Digests, Versioned);
        check(&[(6, 2), (5, 4)], Lengths, Versioned);
    }
}
