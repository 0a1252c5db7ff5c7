//! A store: found by looking, listed when it is opened, read as a whole.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{Chain, Extent};
use super::dat::DataFile;
use super::index;
use super::{GroupVisitor, IndexCut, StoreError, StoreWarning, StoredGroup, flat};

/// The archive whose sectors are in `main_file_cache.dat2m` where there is one.
const MUSIC_ARCHIVE: u8 = 40;
/// The archive that describes the others.
const INDEX_ARCHIVE: u8 = 255;
/// The most groups that are listed: as many as sectors that a data file can name.
pub(super) const GROUPS_MAX: usize = 1 << 24;
/// The most warnings that are kept.
const WARNINGS_MAX: usize = 100;

pub(super) const DAT2: &str = "main_file_cache.dat2";
const DAT2M: &str = "main_file_cache.dat2m";
const DAT: &str = "main_file_cache.dat";
const IDX: &str = "main_file_cache.idx";

/// The kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// `main_file_cache.dat2` and idx files.
    Dat2,
    /// `main_file_cache.dat` and idx files: older, and archives count from one in the sector
    /// headers.
    Dat,
    /// A directory an archive, a file a group.
    Flat,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dat2 => "dat2",
            Self::Dat => "legacy dat",
            Self::Flat => "flat-file",
        })
    }
}

/// A store that was opened: its listing, and where its bytes are. Holds no file open.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    kind: StoreKind,
    /// Sorted by archive and group, no pair twice.
    groups: Vec<StoredGroup>,
    /// By slot, the sector that the group starts with. Empty for flat files.
    first_sectors: Vec<u32>,
    /// Those that the sectors are in. Empty for flat files.
    data_files: Vec<DataFile>,
    archives: Vec<u8>,
    indexes_cut: Vec<IndexCut>,
    warnings: Warnings,
}

impl Store {
    /// Finds by looking which kind of store `dir` holds, and lists its groups.
    ///
    /// To be called inside a tokio-uring runtime.
    ///
    /// # Errors
    /// If `dir` holds no store, or its listing cannot be read. Groups that cannot be read are
    /// listed, and fail in [`Store::read_all`].
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        let found = look(dir)?;
        let mut store = Self {
            dir: dir.into(),
            kind: found.kind,
            groups: Vec::new(),
            first_sectors: Vec::new(),
            data_files: found.data_files,
            archives: found.archives,
            indexes_cut: Vec::new(),
            warnings: found.warnings,
        };
        match store.kind {
            StoreKind::Flat => {
                store.groups = flat::list(dir, &store.archives, &mut store.warnings)?;
            }
            StoreKind::Dat2 | StoreKind::Dat => {
                let mut listed = Vec::new();
                for &archive in &store.archives {
                    let path = index_path(dir, archive);
                    store.indexes_cut.extend(index::read(&path, archive, &mut listed).await?);
                    if listed.len() > GROUPS_MAX {
                        let groups_max = GROUPS_MAX;
                        return Err(StoreError::TooManyGroups { path: dir.into(), groups_max });
                    }
                }
                store.groups = listed.iter().map(|listed| listed.group).collect();
                store.first_sectors = listed.iter().map(|listed| listed.first_sector).collect();
            }
        }
        Ok(store)
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> StoreKind {
        self.kind
    }

    /// All groups that the store says it holds, sorted by archive and group. A slot is an index
    /// into this.
    #[must_use]
    pub fn groups(&self) -> &[StoredGroup] {
        &self.groups
    }

    /// The archives that have an idx file or a directory, empty ones and 255 included, sorted.
    #[must_use]
    pub fn archives(&self) -> &[u8] {
        &self.archives
    }

    /// The idx files that end within an entry, by archive.
    #[must_use]
    pub fn indexes_cut(&self) -> &[IndexCut] {
        &self.indexes_cut
    }

    /// What is not as it should be and keeps no group from being read. At most 101.
    #[must_use]
    pub fn warnings(&self) -> &[StoreWarning] {
        &self.warnings.kept
    }

    /// The bytes of all files that groups are read from. The groups below 65,536 that can be
    /// read have no more bytes than this together, whatever their listed lengths add up to.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        match self.kind {
            StoreKind::Flat => self
                .groups
                .iter()
                .fold(0, |sum: u64, group| sum.saturating_add(u64::from(group.len_bytes))),
            StoreKind::Dat2 | StoreKind::Dat => self
                .data_files
                .iter()
                .fold(0, |sum: u64, file| sum.saturating_add(file.extent.len_bytes)),
        }
    }

    /// Shows `visitor` every group.
    ///
    /// To be called inside a tokio-uring runtime. Holds about 8.5 MB of buffers at most.
    ///
    /// # Errors
    /// If a data file cannot be opened or read. Whatever is wrong with one group goes to the
    /// visitor.
    pub async fn read_all(&self, visitor: &mut impl GroupVisitor) -> Result<(), StoreError> {
        let total = self.data_bytes();
        let mut done: u64 = 0;
        let mut report = |visitor: &mut _, bytes: u64| {
            done = done.saturating_add(bytes).min(total);
            GroupVisitor::progress(visitor, done, total);
        };
        if self.kind == StoreKind::Flat {
            flat::read(&self.dir, &self.groups, visitor, &mut report).await;
        }
        for file in &self.data_files {
            let mut chains = self.chains(file, visitor);
            file.read(&mut chains, visitor, &mut report).await?;
        }
        visitor.progress(total, total);
        Ok(())
    }

    /// The chains that run through `file`; those that cannot even start have failed.
    fn chains(&self, file: &DataFile, visitor: &mut impl GroupVisitor) -> Vec<Chain> {
        let mut chains = Vec::new();
        let has_music = self.data_files.len() > 1;
        for (slot, (&group, &first)) in self.groups.iter().zip(&self.first_sectors).enumerate() {
            let is_music = has_music && group.archive == MUSIC_ARCHIVE;
            if is_music != (file.extent.name == DAT2M) {
                continue;
            }
            match Chain::start(slot, group, first, &file.extent) {
                Ok(chain) => chains.push(chain),
                Err(error) => visitor.failed(slot, error),
            }
        }
        chains
    }
}

/// Warnings, as many as are kept.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    kept: Vec<StoreWarning>,
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

/// What a look at the directory tells.
struct Found {
    kind: StoreKind,
    data_files: Vec<DataFile>,
    archives: Vec<u8>,
    warnings: Warnings,
}

/// The names in a directory that stores are recognised by.
#[derive(Default)]
struct Names {
    dat2: bool,
    dat2m: bool,
    dat: bool,
    /// The numbers of idx files.
    indexes: Vec<u8>,
    /// The numbers of directories.
    directories: Vec<u8>,
    /// A packed store.
    packed: Option<PathBuf>,
    /// Other directories.
    others: Vec<PathBuf>,
    warnings: Warnings,
}

/// Whether there is a store, or a part of one, in `dir`.
pub(super) fn is_store(dir: &Path) -> Result<bool, StoreError> {
    let names = names(dir)?;
    let has_data_file = names.dat2 || names.dat2m || names.dat;
    Ok(has_data_file || !names.indexes.is_empty() || !names.directories.is_empty())
}

/// Finds out which kind of store `dir` holds, from its names alone.
fn look(dir: &Path) -> Result<Found, StoreError> {
    let names = names(dir)?;
    let mut warnings = names.warnings;
    let (kind, mut archives, files) = if names.dat2 {
        let files: &[_] = if names.dat2m { &[DAT2, DAT2M] } else { &[DAT2] };
        (StoreKind::Dat2, names.indexes, files)
    } else if names.dat {
        (StoreKind::Dat, names.indexes, &[DAT] as &[_])
    } else if !names.indexes.is_empty() {
        return Err(StoreError::NoDataFile { path: dir.into() });
    } else if !names.directories.is_empty() {
        (StoreKind::Flat, names.directories.clone(), &[] as &[_])
    } else if let Some(path) = names.packed {
        return Err(StoreError::Packed { path });
    } else {
        let nested = names.others.into_iter().find(|other| is_store(other).unwrap_or(false));
        return Err(StoreError::NoStore { path: dir.into(), nested });
    };
    if let (true, Some(&data_file)) = (archives.is_empty(), files.first()) {
        return Err(StoreError::NoIndexFiles { path: dir.into(), data_file });
    }
    if names.dat2 && names.dat {
        warnings.push(StoreWarning::SecondStore { path: dir.join(DAT) });
    }
    if let (true, Some(first)) = (kind != StoreKind::Flat, names.directories.first()) {
        warnings.push(StoreWarning::SecondStore { path: dir.join(first.to_string()) });
    }
    if kind == StoreKind::Dat && archives.contains(&INDEX_ARCHIVE) {
        // Its number plus one does not fit into a sector header.
        archives.retain(|&archive| archive != INDEX_ARCHIVE);
        warnings.push(StoreWarning::NotAnArchive { path: index_path(dir, INDEX_ARCHIVE) });
    }
    archives.sort_unstable();
    let legacy = kind == StoreKind::Dat;
    let data_files = files.iter().map(|name| data_file(dir, name, legacy));
    let data_files = data_files.collect::<Result<Vec<_>, _>>()?;
    Ok(Found { kind, data_files, archives, warnings })
}

fn data_file(dir: &Path, name: &'static str, legacy: bool) -> Result<DataFile, StoreError> {
    let path = dir.join(name);
    let io = |source| StoreError::Io { path: path.clone(), source };
    let metadata = std::fs::metadata(&path).map_err(io)?;
    if !metadata.is_file() {
        return Err(StoreError::NotAFile { path });
    }
    let extent = Extent { name, len_bytes: metadata.len(), legacy };
    Ok(DataFile { path, extent })
}

/// Looks at the names in `dir`.
fn names(dir: &Path) -> Result<Names, StoreError> {
    let mut names = Names::default();
    let io = |source| StoreError::Io { path: dir.into(), source };
    let entries = std::fs::read_dir(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing { path: dir.into() },
        io::ErrorKind::NotADirectory if is_packed(dir) => StoreError::Packed { path: dir.into() },
        io::ErrorKind::NotADirectory => StoreError::NotADirectory { path: dir.into() },
        _ => io(error),
    })?;
    for entry in entries {
        let path = entry.map_err(io)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        match name {
            DAT2 => names.dat2 = true,
            DAT2M => names.dat2m = true,
            DAT => names.dat = true,
            _ => names.sort_in(&path, name)?,
        }
    }
    names.directories.sort_unstable();
    names.others.sort_unstable();
    Ok(names)
}

impl Names {
    /// Takes a name that is not one of the data files'.
    fn sort_in(&mut self, path: &Path, name: &str) -> Result<(), StoreError> {
        if let Some(number) = name.strip_prefix(IDX) {
            match canonical(number).and_then(|number| u8::try_from(number).ok()) {
                Some(_) if !path.is_file() => {
                    return Err(StoreError::NotAFile { path: path.into() });
                }
                Some(archive) => self.indexes.push(archive),
                None => self.warnings.push(StoreWarning::NotAnArchive { path: path.into() }),
            }
        } else if path.is_dir() {
            match canonical(name).map(u8::try_from) {
                Some(Ok(archive)) => self.directories.push(archive),
                Some(Err(_)) => {
                    self.warnings.push(StoreWarning::NotAnArchive { path: path.into() });
                }
                None => self.others.push(path.into()),
            }
        } else if is_packed(path) {
            self.packed = Some(path.into());
        }
        Ok(())
    }
}

/// Reads a number that is written as a program writes one: no sign, no leading zeros.
pub(super) fn canonical(text: &str) -> Option<u32> {
    let number = text.parse::<u32>().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_packed(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".zip", ".tar.gz", ".tgz", ".tar"].iter().any(|ending| name.ends_with(ending))
}

/// Where the idx file of an archive is.
pub(super) fn index_path(dir: &Path, archive: u8) -> PathBuf {
    dir.join(format!("{IDX}{archive}"))
}
