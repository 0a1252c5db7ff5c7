//! The master index: group (255, 255), which the server makes. It gives the client the checksum
//! and version of each archive index, archive after archive from 0 on.
//!
//! The payload says nothing of its own format: client and server must agree on it beforehand
//! (docs/protocol.md, "What is served"). The younger formats end with a digest of all before it,
//! which is signed if the server has a key (docs/clients.md, "Master index").

use super::archive_index::{FLAG_DIGESTS, FLAG_LENGTHS};
use super::container::{self, Compression, ContainerError};
use super::rsa::{MODULUS_BITS_MAX, RsaKey};
use whirlpool::{Digest, Whirlpool};

/// The most entries there can be: archives 0 to 254.
pub const MASTER_ENTRIES_MAX: usize = 255;

/// A whirlpool digest.
pub const DIGEST_LEN: usize = 64;

/// Stands before the digest at the end.
const SIGNED_FIRST: u8 = 10;

/// That byte and the digest.
const SIGNED_LEN: usize = 1 + DIGEST_LEN;

/// A signature under the longest key, with a byte for its sign.
const SIGNATURE_LEN_MAX: usize = MODULUS_BITS_MAX / 8 + 1;

/// The longest container of a master index.
pub const MASTER_INDEX_LEN_MAX: usize = MasterFormat::Lengths.container_len_max();

/// What the entries are made of. Each format says more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MasterFormat {
    /// Checksums.
    Original,
    /// Checksums and versions. What the build 550 client reads.
    Versioned,
    /// Checksums, versions and whirlpool digests, with a digest of all that at the end.
    Digests,
    /// The same, with each archive's capacity and length.
    Lengths,
}

impl MasterFormat {
    /// All of them; the position of each is its number.
    pub const ALL: [Self; 4] = [Self::Original, Self::Versioned, Self::Digests, Self::Lengths];

    /// A number below four.
    #[inline]
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Original => 0,
            Self::Versioned => 1,
            Self::Digests => 2,
            Self::Lengths => 3,
        }
    }

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

    /// The length of an entry.
    const fn entry_len(self) -> usize {
        match self {
            Self::Original => 4,
            Self::Versioned => 8,
            Self::Digests => 8 + DIGEST_LEN,
            Self::Lengths => 16 + DIGEST_LEN,
        }
    }

    /// The length of the longest container.
    #[must_use]
    pub const fn container_len_max(self) -> usize {
        let entries = MASTER_ENTRIES_MAX.saturating_mul(self.entry_len());
        let end = if self.has_digests() { SIGNATURE_LEN_MAX.saturating_add(1) } else { 0 };
        entries.saturating_add(end).saturating_add(5)
    }

    /// Whether a count stands before the entries, and a digest behind them.
    #[must_use]
    pub const fn has_digests(self) -> bool {
        matches!(self, Self::Digests | Self::Lengths)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterEntry {
    /// CRC-32 over the archive index's container.
    pub crc: u32,
    /// The version that the archive index gives; 0 in format ORIGINAL.
    pub version: u32,
    /// The archive's capacity: its highest group, and one.
    pub groups: u32,
    /// The uncompressed lengths of its groups together, as its index gives them.
    pub length: u32,
    /// The whirlpool digest of the archive index's container.
    pub digest: [u8; DIGEST_LEN],
}

impl Default for MasterEntry {
    fn default() -> Self {
        Self { crc: 0, version: 0, groups: 0, length: 0, digest: [0; DIGEST_LEN] }
    }
}

impl MasterEntry {
    /// What a format says of it; the rest is zeros.
    #[must_use]
    pub fn in_format(self, format: MasterFormat) -> Self {
        let Self { crc, version, digest, .. } = self;
        match format {
            MasterFormat::Original => Self { crc, ..Self::default() },
            MasterFormat::Versioned => Self { crc, version, ..Self::default() },
            MasterFormat::Digests => Self { crc, version, digest, ..Self::default() },
            MasterFormat::Lengths => self,
        }
    }
}

/// The whirlpool digest of some bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; DIGEST_LEN] {
    let mut digest = [0; DIGEST_LEN];
    digest.copy_from_slice(&Whirlpool::digest(bytes));
    digest
}

/// Why a master index cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterIndexError {
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
    /// The payload ends before its digest does.
    #[error("a master index of {len} bytes; with its {count} entries and a digest it has {needed}")]
    TooShort {
        /// The payload's length.
        len: usize,
        /// What it says.
        count: usize,
        /// What that takes at least.
        needed: usize,
    },
    /// It is not the uncompressed container that it must be.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// The master index's container, with `entries` from archive 0 on, and without a signature.
///
/// # Errors
/// There are more entries than archives.
pub fn encode(format: MasterFormat, entries: &[MasterEntry]) -> Result<Vec<u8>, MasterIndexError> {
    encode_signed(format, entries, None)
}

/// The same, signed with `key` where the format has a signature.
///
/// # Errors
/// There are more entries than archives.
pub fn encode_signed(
    format: MasterFormat,
    entries: &[MasterEntry],
    key: Option<&RsaKey>,
) -> Result<Vec<u8>, MasterIndexError> {
    let too_many = MasterIndexError::TooManyEntries { count: entries.len() };
    let count = u8::try_from(entries.len()).map_err(|_| too_many)?;
    let mut payload = Vec::new();
    if format.has_digests() {
        payload.push(count);
    }
    for entry in entries {
        payload.extend(entry.crc.to_be_bytes());
        if format != MasterFormat::Original {
            payload.extend(entry.version.to_be_bytes());
        }
        if format == MasterFormat::Lengths {
            payload.extend(entry.groups.to_be_bytes());
            payload.extend(entry.length.to_be_bytes());
        }
        if format.has_digests() {
            payload.extend(entry.digest);
        }
    }
    if format.has_digests() {
        let signed = [&[SIGNED_FIRST], &digest(&payload)[..]].concat();
        payload.extend(key.map_or_else(|| signed.clone(), |key| key.sign(&signed)));
    }
    Ok(container::compress(Compression::None, &payload)?)
}

/// The entries in a master index's container, from archive 0 on. A signature is not looked at.
///
/// # Errors
/// The bytes are no such container.
pub fn decode(
    format: MasterFormat,
    container: &[u8],
) -> Result<Vec<MasterEntry>, MasterIndexError> {
    let payload = container::decompress(container, MASTER_INDEX_LEN_MAX)?;
    let (len, entry_len) = (payload.len(), format.entry_len());
    if !format.has_digests() && !len.is_multiple_of(entry_len) {
        return Err(MasterIndexError::WrongLength { len, entry_len });
    }
    entries(format, &payload)
}

/// As [`decode`], and as a client reads it: it looks entries up by archive and never at the end of
/// the table, so that a part of an entry may stand there, as `RuneJS` sends it.
///
/// # Errors
/// The bytes are no such container.
pub fn decode_cut(
    format: MasterFormat,
    container: &[u8],
) -> Result<Vec<MasterEntry>, MasterIndexError> {
    entries(format, &container::decompress(container, MASTER_INDEX_LEN_MAX)?)
}

fn entries(format: MasterFormat, payload: &[u8]) -> Result<Vec<MasterEntry>, MasterIndexError> {
    let (len, entry_len) = (payload.len(), format.entry_len());
    let cells = match payload.split_first() {
        Some((&count, rest)) if format.has_digests() => {
            let count = usize::from(count);
            let entries_len = count.saturating_mul(entry_len);
            let needed = entries_len.saturating_add(1 + SIGNED_LEN);
            let too_short = MasterIndexError::TooShort { len, count, needed };
            rest.get(..entries_len).filter(|_| len >= needed).ok_or(too_short)?
        }
        None if format.has_digests() => {
            let needed = 1 + SIGNED_LEN;
            return Err(MasterIndexError::TooShort { len, count: 0, needed });
        }
        _ => payload,
    };
    let cells = cells.chunks_exact(entry_len);
    let entry = |cell: &[u8]| {
        let int = |at: usize| {
            let bytes = cell.get(at..).and_then(<[u8]>::first_chunk);
            bytes.map_or(0, |bytes| u32::from_be_bytes(*bytes))
        };
        let digest = cell.last_chunk().copied();
        let entry = MasterEntry {
            crc: int(0),
            version: int(4),
            groups: int(8),
            length: int(12),
            digest: digest.unwrap_or([0; DIGEST_LEN]),
        };
        match format {
            MasterFormat::Digests => MasterEntry { groups: 0, length: 0, ..entry },
            format => entry.in_format(format),
        }
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

    const NONE: MasterEntry =
        MasterEntry { crc: 0, version: 0, groups: 0, length: 0, digest: [0; DIGEST_LEN] };
    const ENTRIES: [MasterEntry; 3] = [
        MasterEntry { crc: 0x0102_0304, version: 0x0000_0102, ..NONE },
        NONE,
        MasterEntry { crc: 0xFFFE_FDFC, ..NONE },
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
        let short = [&[0, 0, 0, 0, 65][..], &[0; 65]].concat();
        let expected = MasterIndexError::TooShort { len: 65, count: 0, needed: 66 };
        assert_eq!(decode(MasterFormat::Digests, &short), Err(expected));
        let lying = [&[0, 0, 0, 0, 66, 1][..], &[0; 65]].concat();
        let expected = MasterIndexError::TooShort { len: 66, count: 1, needed: 146 };
        assert_eq!(decode(MasterFormat::Lengths, &lying), Err(expected));
        let empty = [0, 0, 0, 0, 0];
        let expected = MasterIndexError::TooShort { len: 0, count: 0, needed: 66 };
        assert_eq!(decode(MasterFormat::Digests, &empty), Err(expected));
    }

    #[test]
    fn the_richest_index_decides_the_format() {
        use MasterFormat::{Digests, Lengths, Original, Versioned};
        let check = |indexes: &[(u8, u8)], called_for| {
            let format = MasterFormat::called_for(indexes.iter().copied());
            assert_eq!(format, called_for, "{indexes:?}");
        };
        check(&[], Original);
        check(&[(5, 0), (5, 1)], Original);
        check(&[(5, 0), (6, 1)], Versioned);
        check(&[(7, 8)], Versioned);
        check(&[(6, 2), (6, 0)], Digests);
        check(&[(6, 2), (5, 4)], Lengths);
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// OpenRS2's vectors, which docs/clients.md has.
    #[test]
    fn digests_and_their_master_index_are_as_others_compute_them() {
        let index = bytes("000000000405000000");
        let digest_of = digest(&index);
        let expected = bytes(
            "0e1a2b93c80a41c7ad2a985dff707a6a8ff82e229cbc468f04191198920955a1\
             4b3d7eab77a17faf99208dee5b44afb789962ad79f230b3b59106a0af892219c",
        );
        assert_eq!(digest_of.to_vec(), expected);
        assert_eq!(crc32fast::hash(&index), 609_698_396);
        let entry =
            MasterEntry { crc: 0x89AB_CDEF, version: 0x0123_4567, digest: digest_of, ..NONE };
        let payload = [
            bytes("01 89abcdef 01234567"),
            expected,
            bytes(
                "0a ee8f66a2ce0b07de4d2b792eed26ae7a6c307b763891d085c63ea55b4c003bc0\
                 b3ecb77cc1a8f9ccd53c405b3264e598820b4940f630ff079a9feb950f639671",
            ),
        ]
        .concat();
        let container = [&[0, 0, 0, 0, payload.len() as u8][..], &payload].concat();
        assert_eq!(encode(MasterFormat::Digests, &[entry]).unwrap(), container);
        assert_eq!(decode(MasterFormat::Digests, &container).unwrap(), [entry]);
    }

    #[test]
    fn lengths_stand_before_the_digest() {
        let entry = MasterEntry { crc: 1, version: 2, groups: 3, length: 0x0405, digest: [9; 64] };
        let container = encode(MasterFormat::Lengths, &[NONE, entry]).unwrap();
        let cell = [&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 4, 5][..], &[9; 64]].concat();
        let expected = [&[2][..], &[0; 80], &cell, &[10]].concat();
        assert_eq!(container[..5], [0, 0, 0, 0, 1 + 160 + 65]);
        assert_eq!(container[5..5 + 162], expected);
        assert_eq!(container[5 + 162..], digest(&expected[..161]));
        assert_eq!(decode(MasterFormat::Lengths, &container).unwrap(), [NONE, entry]);
        let all: Vec<_> = vec![entry; 255];
        for format in MasterFormat::ALL {
            let container = encode(format, &all).unwrap();
            assert_eq!(decode(format, &container).unwrap(), vec![entry.in_format(format); 255]);
            assert!(container.len() <= MASTER_INDEX_LEN_MAX, "{format}");
        }
    }
}
