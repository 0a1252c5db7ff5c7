//! A store: found by looking, listed when it is opened, read as a whole.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::chain::{Chain, Extent};
use super::dat::DataFile;
use super::error::Warnings;
use super::index;
use super::names::{DAT, DAT2, DAT2M, GROUPS_MAX, IDX, INDEX_ARCHIVE, canonical, index_path};
use super::packed::{self, Opened, Packed};
use super::{GroupVisitor, IndexCut, Packing, StoreError, StoreWarning, StoredGroup, flat};

/// The archive whose sectors are in `main_file_cache.dat2m` where there is one.
pub(super) const MUSIC_ARCHIVE: u8 = 40;
/// How often a packed data file is read at most. The client gives a group that has grown sectors
/// at the end of the file, so that chains lead forwards; what packers write does, too.
const PACKED_PASSES_MAX: u32 = 8;

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
    /// The directory, or the packed file.
    path: PathBuf,
    kind: StoreKind,
    /// How it is read if it is packed into one file.
    packed: Option<Packed>,
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
    /// Finds by looking which kind of store is at `path`, a directory or a packed file, and lists
    /// its groups.
    ///
    /// To be called inside a tokio-uring runtime.
    ///
    /// # Errors
    /// If there is no store, or its listing cannot be read. Groups that cannot be read are
    /// listed, and fail in [`Store::read_all`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        match std::fs::metadata(path) {
            Ok(metadata) if !metadata.is_dir() => match path.file_name().and_then(OsStr::to_str) {
                Some(name) if name.starts_with(DAT) || name.starts_with(IDX) => {
                    Err(StoreError::FileOfStore { path: path.into() })
                }
                _ => Self::open_packed(path),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing { path: path.into() })
            }
            _ => Self::open_dir(path).await,
        }
    }

    fn open_packed(path: &Path) -> Result<Self, StoreError> {
        let mut warnings = Warnings::default();
        let Opened { packed, groups, first_sectors, archives, indexes_cut } =
            packed::open(path, &mut warnings)?;
        let data_file = |(name, len_bytes)| {
            let extent = Extent { name, len_bytes, legacy: false };
            DataFile { path: path.into(), extent }
        };
        Ok(Self {
            path: path.into(),
            kind: packed.kind(),
            data_files: packed.data_files().into_iter().map(data_file).collect(),
            packed: Some(packed),
            groups,
            first_sectors,
            archives,
            indexes_cut,
            warnings,
        })
    }

    async fn open_dir(dir: &Path) -> Result<Self, StoreError> {
        let found = look(dir)?;
        let dir = found.dir;
        let mut store = Self {
            path: dir.clone(),
            kind: found.kind,
            packed: None,
            groups: Vec::new(),
            first_sectors: Vec::new(),
            data_files: found.data_files,
            archives: found.archives,
            indexes_cut: Vec::new(),
            warnings: found.warnings,
        };
        match store.kind {
            StoreKind::Flat => {
                store.groups = flat::list(&dir, &store.archives, &mut store.warnings)?;
            }
            StoreKind::Dat2 | StoreKind::Dat => {
                let mut listed = Vec::new();
                for &archive in &store.archives {
                    let path = index_path(&dir, archive);
                    store.indexes_cut.extend(index::read(&path, archive, &mut listed).await?);
                    if listed.len() > GROUPS_MAX {
                        let groups_max = GROUPS_MAX;
                        return Err(StoreError::TooManyGroups { path: dir, groups_max });
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

    /// How it is packed, if it is one file.
    #[must_use]
    pub fn packing(&self) -> Option<Packing> {
        self.packed.as_ref().map(Packed::packing)
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
        match (&self.packed, self.kind) {
            (Some(packed), StoreKind::Flat) => packed.groups(&self.groups, visitor, &mut report)?,
            (None, StoreKind::Flat) => {
                flat::read(&self.path, &self.groups, visitor, &mut report).await;
            }
            _ => {}
        }
        for file in &self.data_files {
            let mut chains = self.chains(file, visitor);
            match &self.packed {
                None => file.read(&mut chains, visitor, &mut report).await?,
                Some(packed) => stream(packed, file, &mut chains, visitor, &mut report)?,
            }
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

/// Follows `chains` through a packed data file. It is read from front to back, and again for the
/// chains that lead back to where it has been.
fn stream<V: GroupVisitor>(
    packed: &Packed,
    file: &DataFile,
    chains: &mut [Chain],
    visitor: &mut V,
    done: &mut impl FnMut(&mut V, u64),
) -> Result<(), StoreError> {
    let mut waiting: Vec<_> = (0..chains.len()).collect();
    for _ in 0..PACKED_PASSES_MAX {
        let mut back = Vec::new();
        packed.data(file.extent.name, &mut |content| {
            let waiting = waiting.iter().copied();
            back = file.stream(content, chains, waiting, visitor, &mut *done)?;
            Ok(())
        })?;
        waiting = back;
        if waiting.is_empty() {
            return Ok(());
        }
    }
    for chain in waiting.into_iter().filter_map(|number| chains.get(number)) {
        chain.give_up(&file.extent, PACKED_PASSES_MAX, visitor);
    }
    Ok(())
}

/// What a look at the directory tells.
struct Found {
    /// The directory, or the one just below it that holds the store.
    dir: PathBuf,
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
    /// A file of an SQLite store.
    jcache: Option<PathBuf>,
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
    } else {
        let Names { others, packed, jcache, .. } = names;
        return look_elsewhere(dir, others, packed, jcache);
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
    Ok(Found { dir: dir.into(), kind, data_files, archives, warnings })
}

/// Looks just below a directory that holds no store itself.
fn look_elsewhere(
    dir: &Path,
    others: Vec<PathBuf>,
    packed: Option<PathBuf>,
    jcache: Option<PathBuf>,
) -> Result<Found, StoreError> {
    let mut nested = others.into_iter().filter(|other| is_store(other).unwrap_or(false));
    match (nested.next(), nested.next()) {
        (Some(first), None) => look(&first),
        (Some(first), Some(second)) => Err(StoreError::Several { path: dir.into(), first, second }),
        (None, _) => Err(match (packed, jcache) {
            (Some(file), _) => StoreError::PackedInside { dir: dir.into(), file },
            (None, Some(path)) => packed::refuse_sqlite(&path),
            (None, None) => StoreError::NoStore { path: dir.into() },
        }),
    }
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
        } else if name.ends_with(".jcache") {
            self.jcache = Some(path.into());
        }
        Ok(())
    }
}

fn is_packed(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".zip", ".tar.gz", ".tgz", ".tar"].iter().any(|ending| name.ends_with(ending))
}
