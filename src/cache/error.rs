//! What can be wrong with a store, with the place and the numbers to act on.
//!
//! A [`StoreError`] ends the reading of a store, a [`GroupError`] that of one group. An
//! [`IndexCut`] is damage to a listing, whose whole entries are still read; a
//! [`StoreWarning`] is no damage.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{PackedFault, Packing, StoreKind};

/// Why a store cannot be read, or written, at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What was named is not there.
    #[error("{}: no such file or directory", path.display())]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },
    /// All that is there is a packed store.
    #[error(
        "{}: no cache in this directory, but a packed one: name the file {}",
        dir.display(), file.display()
    )]
    PackedInside {
        /// The directory.
        dir: PathBuf,
        /// The packed file.
        file: PathBuf,
    },
    /// A file of a store in a directory was named.
    #[error("{}: one file of a cache: name the directory that it is in", path.display())]
    FileOfStore {
        /// The file.
        path: PathBuf,
    },
    /// Several directories just below hold a store each.
    #[error(
        "{}: no cache in this directory, and more than one just below it: name {} or {}",
        path.display(), first.display(), second.display()
    )]
    Several {
        /// The directory.
        path: PathBuf,
        /// A store.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A packed store cannot be read.
    #[error(
        "{}: {}{fault}", path.display(),
        name.as_ref().map(|name| format!("{name} (byte {at}): ")).unwrap_or_default()
    )]
    Packed {
        /// The packed file.
        path: PathBuf,
        /// The entry, if one is at fault.
        name: Option<String>,
        /// Where it begins: in the file, or in the unpacked tar.
        at: u64,
        /// What is wrong.
        fault: PackedFault,
    },
    /// The directory holds nothing that looks like a store.
    #[error(
        "{}: no cache in this directory (neither main_file_cache.dat2, nor main_file_cache.dat, \
         nor directories 0 to 255 of .dat files)",
        path.display()
    )]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// There are idx files, but not the file that they point into.
    #[error("{}: idx files, but no main_file_cache.dat2 beside them", path.display())]
    NoDataFile {
        /// The directory.
        path: PathBuf,
    },
    /// There is a data file, but no idx file that says what is where in it.
    #[error("{}: {data_file}, but no idx files beside it", path.display())]
    NoIndexFiles {
        /// The directory.
        path: PathBuf,
        /// Its name.
        data_file: &'static str,
    },
    /// A part of the store is a directory, a pipe or a device.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The part.
        path: PathBuf,
    },
    /// The system refuses to open, read or write something.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was opened, read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An idx file that no cache can need.
    #[error("{}: {len_bytes} bytes; an idx file has {len_bytes_max} at most", path.display())]
    IndexTooLong {
        /// The idx file.
        path: PathBuf,
        /// Its length.
        len_bytes: u64,
        /// The longest that is read.
        len_bytes_max: u64,
    },
    /// More groups than any data file has sectors.
    #[error("{}: more than {groups_max} groups", path.display())]
    TooManyGroups {
        /// The directory.
        path: PathBuf,
        /// The most that are listed.
        groups_max: usize,
    },
    /// Asked to write where a store is.
    #[error("{}: holds a cache already", path.display())]
    AlreadyAStore {
        /// The directory.
        path: PathBuf,
    },
    /// Asked to write a kind that is only read.
    #[error("a {kind} cache can be read, but not written")]
    CannotWrite {
        /// The kind.
        kind: StoreKind,
    },
    /// Asked to pack in a way that is only read.
    #[error("a {packing} can be read, but not written")]
    CannotPack {
        /// The packing.
        packing: Packing,
    },
    /// Another process writes there.
    #[error("{}: another js5d writes there", path.display())]
    Busy {
        /// The temporary file or directory.
        path: PathBuf,
    },
    /// Asked to write a group that the format has no room for.
    #[error("archive {archive}, group {group}: cannot be written: {why}")]
    CannotPut {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
        /// What is in the way.
        why: &'static str,
    },
}

/// What a [`StoreError`] comes down to, for an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// There is no store where one was asked for.
    Missing,
    /// The system does not let this user read it.
    Permission,
    /// It is there, and cannot be read.
    Unreadable,
    /// Anything else, writing included.
    Other,
}

impl StoreError {
    /// What it comes down to.
    #[must_use]
    pub fn fault(&self) -> StoreFault {
        match self {
            Self::Missing { .. }
            | Self::PackedInside { .. }
            | Self::FileOfStore { .. }
            | Self::Several { .. }
            | Self::NoStore { .. }
            | Self::NoDataFile { .. }
            | Self::NoIndexFiles { .. } => StoreFault::Missing,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                StoreFault::Permission
            }
            Self::Io { .. }
            | Self::NotAFile { .. }
            | Self::Packed { .. }
            | Self::IndexTooLong { .. }
            | Self::TooManyGroups { .. } => StoreFault::Unreadable,
            Self::AlreadyAStore { .. }
            | Self::CannotWrite { .. }
            | Self::CannotPack { .. }
            | Self::Busy { .. }
            | Self::CannotPut { .. } => StoreFault::Other,
        }
    }
}

impl StoreError {
    /// Whether it is a whole file that holds something else than a cache that can be served.
    #[must_use]
    pub fn is_another_kind(&self) -> bool {
        let Self::Packed { fault, .. } = self else { return false };
        matches!(
            fault,
            PackedFault::OpenNxt
                | PackedFault::JagexNxt
                | PackedFault::OtherKind(_)
                | PackedFault::NoCache
                | PackedFault::Legacy
        )
    }
}

/// A sector, and the group that was being read when it was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The archive of the group that was being read.
    pub archive: u8,
    /// The group that was being read.
    pub group: u32,
    /// The sector, counted from 0 at the start of the file.
    pub sector: u32,
    /// The name of the file that the sector is in.
    pub file: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, group, sector, file } = self;
        let byte = u64::from(*sector).saturating_mul(super::sector::SECTOR_BYTES_U64);
        write!(f, "archive {archive}, group {group}: sector {sector} (byte {byte} of {file})")
    }
}

/// The six bytes of an idx file that list a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The archive, which is the idx file's number.
    pub archive: u8,
    /// The group.
    pub group: u32,
    /// The length that the entry gives.
    pub len_bytes: u32,
    /// The first sector that the entry gives.
    pub sector: u32,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, group, len_bytes, sector } = self;
        let byte = u64::from(*group).saturating_mul(super::index::ENTRY_BYTES_U64);
        write!(
            f,
            "archive {archive}, group {group}: main_file_cache.idx{archive} (byte {byte}) says \
             {len_bytes} bytes from sector {sector} on"
        )
    }
}

/// Why one group of a store cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The idx entry gives a sector, but no length.
    #[error("{entry}: a group has at least one byte")]
    NoLength {
        /// The idx entry.
        entry: Entry,
    },
    /// The idx entry gives a length, but sector 0, which no group uses.
    #[error("{entry}: sector 0 belongs to no group")]
    NoSector {
        /// The idx entry.
        entry: Entry,
    },
    /// The idx entry points past the end of the data file.
    #[error("{entry}, which is byte {} of {file}, but that file has {file_bytes} bytes",
        u64::from(entry.sector).saturating_mul(super::sector::SECTOR_BYTES_U64))]
    StartsOutside {
        /// The idx entry.
        entry: Entry,
        /// The data file.
        file: &'static str,
        /// Its length.
        file_bytes: u64,
    },
    /// The whole data file is shorter than the group would be.
    #[error("{entry}, but all of {file} has {file_bytes} bytes")]
    LargerThanFile {
        /// The idx entry.
        entry: Entry,
        /// The data file.
        file: &'static str,
        /// Its length.
        file_bytes: u64,
    },
    /// The sector carries another archive's number.
    #[error("{at} carries archive byte {found}, expected {expected}")]
    WrongArchive {
        /// Where.
        at: Place,
        /// The byte that belongs there; one more than the archive in a legacy store.
        expected: u8,
        /// The byte that is there.
        found: u8,
    },
    /// The sector carries another group's number.
    #[error("{at} belongs to group {found}")]
    WrongGroup {
        /// Where; its group is the one that belongs there.
        at: Place,
        /// The group that is there.
        found: u32,
    },
    /// The sector belongs elsewhere in the chain.
    #[error("{at} has position {found} in its chain, expected {expected}")]
    WrongPosition {
        /// Where.
        at: Place,
        /// How many sectors are before it.
        expected: u32,
        /// What it says itself.
        found: u32,
    },
    /// The chain is shorter than the group.
    #[error("{at} ends the chain after {found_bytes} bytes, expected {len_bytes}")]
    EndsEarly {
        /// The chain's last sector.
        at: Place,
        /// The length that the idx file gives.
        len_bytes: u32,
        /// How much of it the chain held.
        found_bytes: u32,
    },
    /// The chain leaves the file.
    #[error("{at} names sector {next} as the next, but that file has {file_bytes} bytes")]
    NextOutside {
        /// The sector that points outside.
        at: Place,
        /// The sector that it names.
        next: u32,
        /// The length of the data file.
        file_bytes: u64,
    },
    /// The file ends within the sector.
    #[error("{at} is cut off: {found_bytes} bytes are there, expected {expected_bytes}")]
    SectorCut {
        /// Where.
        at: Place,
        /// How many of its bytes the group needs.
        expected_bytes: usize,
        /// How many are in the file.
        found_bytes: usize,
    },
    /// The chain leads backwards too often for a file that is read from front to back.
    #[error(
        "{at} lies before others of the group, and the packed file was read {passes} times for \
         such groups; unpack it"
    )]
    Scattered {
        /// The sector that was to be read next.
        at: Place,
        /// How often the file was read.
        passes: u32,
    },
    /// The entry of a packed store cannot be read.
    #[error(
        "archive {archive}, group {group}: {archive}/{group}.dat (byte {at} of the zip): {cause}"
    )]
    Packed {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
        /// Where the entry begins.
        at: u64,
        /// What is wrong.
        cause: PackedFault,
    },
    /// The file of a flat-file store holds nothing.
    #[error("archive {archive}, group {group}: {archive}/{group}.dat is empty")]
    FileEmpty {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
    },
    /// The file of a flat-file store is larger than any group can be.
    #[error(
        "archive {archive}, group {group}: {archive}/{group}.dat has more than {len_bytes_max} \
         bytes, the most that a group can have"
    )]
    FileTooLarge {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
        /// The largest that a group can be.
        len_bytes_max: u32,
    },
    /// The file of a flat-file store was written to while it was read.
    #[error(
        "archive {archive}, group {group}: {archive}/{group}.dat changed while it was read: \
         expected {len_bytes} bytes, found {}",
        if *found_bytes > *len_bytes { "more".to_owned() } else { found_bytes.to_string() }
    )]
    FileChanged {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
        /// Its length when the store was opened.
        len_bytes: u32,
        /// How much was there; reading stops one byte past `len_bytes`.
        found_bytes: u32,
    },
    /// The file of a flat-file store cannot be opened or read.
    #[error(
        "archive {archive}, group {group}: {archive}/{group}.dat cannot be read from byte \
         {offset} on: {cause}"
    )]
    FileUnreadable {
        /// The archive.
        archive: u8,
        /// The group.
        group: u32,
        /// How far it was read.
        offset: u32,
        /// What the system said.
        cause: String,
    },
}

/// An idx file that ends within an entry: it was cut while it was written, and how many entries
/// followed cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "main_file_cache.idx{archive} has {len_bytes} bytes, no multiple of {}: it was cut off within \
     the entry of group {}, and whatever it listed from there on is lost",
    super::index::ENTRY_BYTES_U64, len_bytes / super::index::ENTRY_BYTES_U64
)]
pub struct IndexCut {
    /// The archive, which is the idx file's number.
    pub archive: u8,
    /// The length of the idx file.
    pub len_bytes: u64,
}

/// Something in a store's directory that is not as it should be, and keeps no group from being
/// read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreWarning {
    /// An idx file, or a directory, whose number is no archive's.
    #[error("{}: the number is no archive's; ignored", path.display())]
    NotAnArchive {
        /// The file or directory.
        path: PathBuf,
    },
    /// Something in an archive's directory that is no group.
    #[error("{}: not a group (GROUP.dat is expected); ignored", path.display())]
    NotAGroup {
        /// The file.
        path: PathBuf,
    },
    /// A second store in the same directory.
    #[error("{}: a second cache in the same directory; ignored", path.display())]
    SecondStore {
        /// What the second store begins with.
        path: PathBuf,
    },
    /// More warnings than are kept.
    #[error("and {count} more of this kind")]
    More {
        /// How many were not kept.
        count: u64,
    },
}

/// The most warnings that are kept.
const WARNINGS_MAX: usize = 100;

/// Warnings, as many as are kept.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    pub(super) kept: Vec<StoreWarning>,
}

impl Warnings {
    pub(super) fn push(&mut self, warning: StoreWarning) {
        if self.kept.len() < WARNINGS_MAX {
            self.kept.push(warning);
        } else if let Some(StoreWarning::More { count }) = self.kept.last_mut() {
            *count = count.saturating_add(1);
        } else {
            self.kept.push(StoreWarning::More { count: 1 });
        }
    }
}
