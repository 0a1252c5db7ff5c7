//! Caches packed into one file: zip, tar and tar.gz, read without unpacking them to disk.
//!
//! The first bytes of a file, and not its name, decide its kind. [`Packed`] lists what is in it.
//! The store is then read like one in a directory, with the packed file's entries in place of
//! files, in their order in the file. Reads block: nothing else runs on the thread that loads a
//! cache.
//!
//! A tar.gz is unpacked twice, once to list and once to read, because it has no list of its
//! entries. To hold it in memory instead would double the memory for loading.

mod fault;
mod name;
mod read;
mod sqlite;
mod tar;
mod zip;

pub use fault::PackedFault;
pub(super) use sqlite::refuse as refuse_sqlite;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use self::name::{Name, Part};
use super::error::Warnings;
use super::file::fill;
use super::index::{Entries, Listed};
use super::names::{DAT2, GROUPS_MAX};
use super::{GROUP_BYTES_MAX, IndexCut, StoreError, StoreKind, StoreWarning, StoredGroup};
use fault::{fault_of, refused};

/// How much of the packed file is read at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// A packed file may unpack to this many times its length. Caches are compressed already: a tar
/// of a build 550 cache packs to nine tenths, and idx files and padding are a small part of it.
pub(super) const RATIO_MAX: u64 = 100;
/// What it may unpack to beside that, so that small test caches pass.
const FREE_BYTES: u64 = 64 << 20;
/// The most entries of a packed file: as many as groups can be listed, and some.
const ENTRIES_MAX: usize = GROUPS_MAX + 4096;
/// How much is unpacked at a time.
pub(super) const PIECE_BYTES: usize = 128 * 1024;

/// How a cache is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// A zip, read by its central directory.
    Zip,
    /// A tar.
    Tar,
    /// A tar in gzip.
    TarGz,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
        })
    }
}

/// An entry of a packed file that is a part of its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    part: Part,
    /// Where its header stands: in the zip, or in the unpacked tar.
    at: u64,
    /// Its length, unpacked.
    len_bytes: u64,
    /// What a zip says of it beside.
    zip: zip::Body,
}

/// A packed cache, listed.
#[derive(Debug)]
pub(super) struct Packed {
    path: PathBuf,
    packing: Packing,
    kind: StoreKind,
    /// The data files or groups that are read, in their order in the file.
    members: Vec<Member>,
    /// By member, its slot. Empty for a store of sectors.
    slots: Vec<usize>,
    /// How much may be unpacked of it.
    bytes_max: u64,
}

/// What a listing comes back with.
pub(super) struct Opened {
    pub(super) packed: Packed,
    pub(super) groups: Vec<StoredGroup>,
    /// By slot, the first sector; empty for flat files.
    pub(super) first_sectors: Vec<u32>,
    pub(super) archives: Vec<u8>,
    /// Idx files that end in the middle of an entry.
    pub(super) indexes_cut: Vec<IndexCut>,
}

/// Lists the cache that is packed into the file `path`.
pub(super) fn open(path: &Path, warnings: &mut Warnings) -> Result<Opened, StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile { path: path.into() });
    }
    let packing = packing(path, &mut file)?;
    let bytes_max = metadata.len().saturating_mul(RATIO_MAX).saturating_add(FREE_BYTES);
    let listing = Listing::new(path, warnings);
    let listing = match packing {
        Packing::Zip => zip::list(file, listing, bytes_max)?,
        Packing::Tar | Packing::TarGz => tar::list(path, packing, listing, bytes_max)?,
    };
    listing.finish(packing, bytes_max)
}

/// What kind of file it is, by its content.
fn packing(path: &Path, file: &mut File) -> Result<Packing, StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    let head = head(file).map_err(io)?;
    let refuse = |fault| Err(refused(path, None, fault));
    match &head[..] {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Packing::Zip),
        [b'P', b'K', 7, 8, ..] => {
            refuse(PackedFault::OtherKind("a part of a zip of several volumes"))
        }
        [0x1F, 0x8B, ..] => {
            let file = File::open(path).map_err(io)?;
            let inner =
                tar::head_of_gzip(file).map_err(|error| refused(path, None, fault_of(&error)))?;
            match tar::is_tar(&inner) {
                true => Ok(Packing::TarGz),
                false => {
                    refuse(PackedFault::OtherKind("a gzip file with something else than a tar"))
                }
            }
        }
        head if head.starts_with(sqlite::MAGIC) => refuse(sqlite::which(path)?),
        [b'7', b'z', 0xBC, 0xAF, ..] => refuse(PackedFault::OtherKind("a 7z file")),
        [b'R', b'a', b'r', b'!', ..] => refuse(PackedFault::OtherKind("a RAR file")),
        [0xFD, b'7', b'z', b'X', b'Z', ..] => refuse(PackedFault::OtherKind("an xz file")),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => refuse(PackedFault::OtherKind("a zstd file")),
        [b'B', b'Z', b'h', ..] => refuse(PackedFault::OtherKind("a bzip2 file")),
        head if tar::is_tar(head) => Ok(Packing::Tar),
        [] => refuse(PackedFault::OtherKind("an empty file")),
        _ => refuse(PackedFault::OtherKind("neither a directory nor a packed cache")),
    }
}

/// The first bytes of a file, as many as a tar header has.
fn head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(tar::BLOCK_U64).read_to_end(&mut head)?;
    Ok(head)
}

/// A listing that grows entry by entry, in the order in which they are found.
struct Listing<'a> {
    path: &'a Path,
    warnings: &'a mut Warnings,
    members: Vec<Member>,
    /// The directory of the cache inside the packed file, ending in a slash unless it is empty.
    dir: Option<String>,
    listed: Vec<Listed>,
    indexes_cut: Vec<IndexCut>,
    legacy: Option<(String, u64)>,
    entries: usize,
}

impl<'a> Listing<'a> {
    fn new(path: &'a Path, warnings: &'a mut Warnings) -> Self {
        Self {
            path,
            warnings,
            members: Vec::new(),
            dir: None,
            listed: Vec::new(),
            indexes_cut: Vec::new(),
            legacy: None,
            entries: 0,
        }
    }

    fn refuse(&self, name: &str, at: u64, fault: PackedFault) -> StoreError {
        refused(self.path, Some((name, at)), fault)
    }

    /// Looks at an entry's name. `None` if it is no part of a cache.
    fn part(&mut self, name: &str, at: u64) -> Result<Option<Part>, StoreError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > ENTRIES_MAX {
            return Err(StoreError::TooManyGroups {
                path: self.path.into(),
                groups_max: GROUPS_MAX,
            });
        }
        let Name { dir, part } = name::read(name).map_err(|fault| self.refuse(name, at, fault))?;
        let path = || self.path.join(name);
        match part {
            Part::Other => return Ok(None),
            Part::NotAnArchive => {
                self.warnings.push(StoreWarning::NotAnArchive { path: path() });
                return Ok(None);
            }
            Part::NotAGroup => {
                self.warnings.push(StoreWarning::NotAGroup { path: path() });
                return Ok(None);
            }
            Part::LegacyData => {
                self.legacy.get_or_insert_with(|| (name.to_owned(), at));
                return Ok(None);
            }
            Part::Data | Part::MusicData | Part::Index(_) | Part::Group { .. } => {}
        }
        match &self.dir {
            None => self.dir = Some(dir),
            Some(first) if *first != dir => {
                let fault = PackedFault::SecondCache { first: first.clone() };
                return Err(self.refuse(name, at, fault));
            }
            Some(_) => {}
        }
        Ok(Some(part))
    }

    /// Takes the content of an idx file.
    fn index(&mut self, archive: u8, content: &mut dyn Read) -> io::Result<()> {
        let mut entries = Entries::new(archive);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let len = fill(content, &mut piece)?;
            entries.take(piece.get(..len).unwrap_or_default(), &mut self.listed);
            if self.listed.len() > GROUPS_MAX {
                return Err(io::Error::other("more groups than a data file has sectors"));
            }
            if len < piece.len() {
                break;
            }
        }
        self.indexes_cut.extend(entries.finish());
        Ok(())
    }

    fn finish(mut self, packing: Packing, bytes_max: u64) -> Result<Opened, StoreError> {
        self.twice()?;
        let has = |part: Part| self.members.iter().any(|member| member.part == part);
        let has_index = self.members.iter().any(|member| matches!(member.part, Part::Index(_)));
        let has_groups =
            self.members.iter().any(|member| matches!(member.part, Part::Group { .. }));
        if !has(Part::Data)
            && let Some((name, at)) = &self.legacy
        {
            return Err(self.refuse(name, *at, PackedFault::Legacy));
        }
        let refuse = |fault| Err(refused(self.path, None, fault));
        let is_dat2 = match (has(Part::Data), has_index, has_groups) {
            (true, true, _) => true,
            (true, false, _) => return refuse(PackedFault::Lacks("idx files")),
            (false, true, _) => return refuse(PackedFault::Lacks(DAT2)),
            (false, false, true) => false,
            (false, false, false) => return refuse(PackedFault::NoCache),
        };
        if is_dat2 && has_groups {
            self.warnings.push(StoreWarning::SecondStore { path: self.path.into() });
        }
        self.members.sort_unstable_by_key(|member| member.at);
        if is_dat2 {
            self.finish_dat2(packing, bytes_max)
        } else {
            self.finish_flat(packing, bytes_max)
        }
    }

    /// Refuses two entries for one part.
    fn twice(&mut self) -> Result<(), StoreError> {
        self.members.sort_unstable_by_key(|member| (member.part, member.at));
        for pair in self.members.windows(2) {
            if let [first, second] = pair
                && first.part == second.part
            {
                let name = second.part.name(self.dir.as_deref());
                let fault = PackedFault::Twice { first: first.at };
                return Err(self.refuse(&name, second.at, fault));
            }
        }
        Ok(())
    }

    fn finish_dat2(mut self, packing: Packing, bytes_max: u64) -> Result<Opened, StoreError> {
        let index = |member: &Member| match member.part {
            Part::Index(archive) => Some(archive),
            _ => None,
        };
        let mut archives: Vec<_> = self.members.iter().filter_map(index).collect();
        archives.sort_unstable();
        self.members.retain(|member| matches!(member.part, Part::Data | Part::MusicData));
        self.indexes_cut.sort_unstable_by_key(|cut| cut.archive);
        // Each idx file is sorted; the files may be in any order.
        self.listed.sort_by_key(|listed| listed.group.archive);
        let groups = self.listed.iter().map(|listed| listed.group).collect();
        let first_sectors = self.listed.iter().map(|listed| listed.first_sector).collect();
        let packed = Packed {
            path: self.path.into(),
            packing,
            kind: StoreKind::Dat2,
            members: self.members,
            slots: Vec::new(),
            bytes_max,
        };
        Ok(Opened { packed, groups, first_sectors, archives, indexes_cut: self.indexes_cut })
    }

    fn finish_flat(mut self, packing: Packing, bytes_max: u64) -> Result<Opened, StoreError> {
        self.members.retain(|member| matches!(member.part, Part::Group { .. }));
        let mut order: Vec<_> = (0..self.members.len()).collect();
        order.sort_unstable_by_key(|&number| self.members.get(number).map(|member| member.part));
        let mut slots = vec![0; self.members.len()];
        let mut groups = Vec::with_capacity(order.len());
        for (slot, number) in order.into_iter().enumerate() {
            let Some(Member { part: Part::Group { archive, group }, len_bytes, .. }) =
                self.members.get(number).copied()
            else {
                continue;
            };
            if let Some(place) = slots.get_mut(number) {
                *place = slot;
            }
            let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX).min(GROUP_BYTES_MAX);
            groups.push(StoredGroup { archive, group, len_bytes });
        }
        let mut archives: Vec<_> = groups.iter().map(|group| group.archive).collect();
        archives.dedup();
        let packed = Packed {
            path: self.path.into(),
            packing,
            kind: StoreKind::Flat,
            members: self.members,
            slots,
            bytes_max,
        };
        let (first_sectors, indexes_cut) = (Vec::new(), Vec::new());
        Ok(Opened { packed, groups, first_sectors, archives, indexes_cut })
    }
}
