//! What can be wrong with a cache that is packed into one file.

use crate::cache::StoreError;
use std::io;
use std::path::Path;

/// Why a packed cache, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackedFault {
    /// The file ends before what it holds does.
    #[error("cut short: the file ends too early")]
    Cut,
    /// A zip without its central directory.
    #[error("the zip's central directory, which stands at its end, is missing: the file was cut")]
    NoDirectory,
    /// A part that no zip or tar can have.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The unpacked bytes are not those that were packed.
    #[error("damaged: CRC-32 is {found:08x}, the zip says {expected:08x}")]
    Checksum {
        /// What the zip says.
        expected: u32,
        /// The CRC-32 of the unpacked bytes.
        found: u32,
    },
    /// The entry has a password.
    #[error("encrypted; pack the cache without a password")]
    Encrypted,
    /// Packed by a method that is not read.
    #[error("packed by zip method {0}; stored (0) and deflate (8) are read")]
    Method(u16),
    /// A link, a device or a sparse file, where a file is expected.
    #[error("not a regular file (tar type '{}')", char::from(*.0).escape_default())]
    NotAFile(u8),
    /// Two entries of one name.
    #[error("listed twice; the first is at byte {first}")]
    Twice {
        /// Where the first is.
        first: u64,
    },
    /// Two entries share bytes.
    #[error("overlaps the entry at byte {other}")]
    Overlaps {
        /// Where the other is.
        other: u64,
    },
    /// A name that begins at a root.
    #[error("its name is absolute; names must stay inside the packed directory")]
    Absolute,
    /// A name that leads out.
    #[error("its name leads out of the packed directory (..)")]
    LeadsOut,
    /// A name, or what carries one, that is longer than any that is needed.
    #[error("its name has {len} bytes; {len_max} are accepted")]
    NameTooLong {
        /// How long.
        len: u64,
        /// The most that is accepted.
        len_max: u64,
    },
    /// It unpacks to more than its length allows.
    #[error(
        "unpacks to more than {bytes_max} bytes ({} times the packed file, and 64 MiB more), \
         which no cache does",
        super::RATIO_MAX
    )]
    Bomb {
        /// The most that is accepted of this file.
        bytes_max: u64,
    },
    /// Two caches in one file.
    #[error("a second cache in the same file; the first is in '{first}'")]
    SecondCache {
        /// The directory of the first, inside the packed file.
        first: String,
    },
    /// The store of the time before JS5.
    #[error(
        "a legacy cache (main_file_cache.dat) has no archive indexes and cannot be served over \
         JS5; js5d serves main_file_cache.dat2"
    )]
    Legacy,
    /// Neither a dat2 nor a flat-file store is in it.
    #[error(
        "no cache in this file (neither main_file_cache.dat2 with idx files, nor \
         ARCHIVE/GROUP.dat)"
    )]
    NoCache,
    /// Idx files without a data file, or a data file without idx files.
    #[error("no {0} in this file")]
    Lacks(&'static str),
    /// Another kind of file.
    #[error("{0}; js5d reads directories, zip, tar and tar.gz")]
    OtherKind(&'static str),
    /// `OpenNXT`'s store.
    #[error(
        "an OpenNXT cache (SQLite); js5d does not read SQLite: export its groups with OpenNXT's \
         or OpenRS2's tools to ARCHIVE/GROUP.dat, or mirror a server that has it with \
         'js5d fetch'"
    )]
    OpenNxt,
    /// The store of Jagex's NXT client.
    #[error(
        "a cache of Jagex's NXT client (SQLite, zlib): the containers as they were on the wire \
         are lost, so that no checksum could match and it cannot be served; take the cache from \
         the OpenRS2 archive, or mirror a server with 'js5d fetch'"
    )]
    JagexNxt,
    /// It was written to while it was read.
    #[error("changed while it was read")]
    Changed,
}

/// A fault on its way through `Read`.
pub(super) fn fault(fault: PackedFault) -> io::Error {
    io::Error::other(fault)
}

/// The fault that an error carries or means.
pub(super) fn fault_of(error: &io::Error) -> PackedFault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<PackedFault>()) {
        Some(fault) => fault.clone(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => PackedFault::Cut,
        None => PackedFault::Damaged(error.to_string()),
    }
}

/// The error for a failure while a packed file, or an entry of it, was read.
pub(super) fn refused_by(path: &Path, entry: Option<(&str, u64)>, error: io::Error) -> StoreError {
    match error.raw_os_error() {
        Some(_) => StoreError::Io { path: path.into(), source: error },
        None => refused(path, entry, fault_of(&error)),
    }
}

/// What is said of a packed file, or of an entry.
pub(super) fn refused(path: &Path, entry: Option<(&str, u64)>, fault: PackedFault) -> StoreError {
    let (name, at) = entry.map_or((None, 0), |(name, at)| (Some(name.to_owned()), at));
    StoreError::Packed { path: path.into(), name, at, fault }
}
