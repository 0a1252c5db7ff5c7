//! From a source of stored groups to a checked snapshot, or to a report of why not.

use super::fill::Filler;
use super::report::{Cause, Problem, Report};
use super::snapshot::{ArenaError, Snapshot, SnapshotBuilder};
use super::verify::{ARCHIVE_INDEX_LEN_MAX, report_unreadable, verify};
use crate::cache::{GroupVisitor, IndexCut, Store, StoreError, StoreKind, StoredGroup};
use crate::protocol::container::ContainerError;
use crate::protocol::frame::{framed_len, place};
use crate::protocol::master_index::{self, MASTER_ENTRIES_MAX, MasterEntry, MasterFormat};
use crate::protocol::{GroupId, MASTER_INDEX};

/// The format of the master index: what the build 550 client reads (docs/protocol.md).
const MASTER_FORMAT: MasterFormat = MasterFormat::Versioned;

/// The longest master index container: a header of 5 bytes and the entries.
const MASTER_INDEX_LEN_MAX: usize = 5 + MASTER_ENTRIES_MAX * 8;

/// What a listed group needs while it is loaded, and what reading does (docs/limits.md, "A
/// snapshot").
const GROUP_LOADING_BYTES: u64 = 140;
const READ_BUFFER_BYTES: u64 = 10 << 20;

/// Where groups come from: a store, or the demo cache.
pub trait Source {
    /// The groups it says it holds, sorted by archive and group, no pair twice. A slot is an
    /// index into this.
    fn groups(&self) -> &[StoredGroup];
    /// No more bytes than these can be read of all groups together.
    fn data_bytes(&self) -> u64;
    /// Whether its format has archive indexes at all.
    fn has_archive_indexes(&self) -> bool;
    /// What was remarkable when it was opened, a line each; a bounded number.
    fn remarks(&self) -> Vec<String>;
    /// Listings that lost a part of themselves.
    fn indexes_cut(&self) -> &[IndexCut] {
        &[]
    }
    /// Shows `visitor` every group.
    ///
    /// # Errors
    /// The source cannot be read at all.
    fn read_all(
        &self,
        visitor: &mut impl GroupVisitor,
    ) -> impl Future<Output = Result<(), StoreError>>;
}

impl Source for Store {
    fn groups(&self) -> &[StoredGroup] {
        Self::groups(self)
    }

    fn data_bytes(&self) -> u64 {
        Self::data_bytes(self)
    }

    fn has_archive_indexes(&self) -> bool {
        self.kind() != StoreKind::Dat
    }

    fn remarks(&self) -> Vec<String> {
        self.warnings().iter().map(ToString::to_string).collect()
    }

    fn indexes_cut(&self) -> &[IndexCut] {
        Self::indexes_cut(self)
    }

    async fn read_all(&self, visitor: &mut impl GroupVisitor) -> Result<(), StoreError> {
        Self::read_all(self, visitor).await
    }
}

/// What to do with what is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Make a snapshot without the groups that fail, rather than none.
    pub skip_corrupt: bool,
    /// Refuse, before anything is read, what may need more memory than this to load.
    pub memory_bytes_max: Option<u64>,
}

/// A snapshot, and what was found on the way to it.
#[derive(Debug)]
pub struct Loaded {
    /// Everything that passed.
    pub snapshot: Snapshot,
    /// What did not, and what is remarkable.
    pub report: Report,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The store cannot be read at all.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no memory to hold it.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// It may need more memory than it is given.
    #[error(
        "the cache may need {} MB to load, and {} MB are left for it",
        needed.div_ceil(1_000_000), allowed / 1_000_000
    )]
    Memory {
        /// Bytes, at most.
        needed: u64,
        /// Bytes.
        allowed: u64,
    },
    /// Something in it is corrupt and was not to be skipped, or nothing in it can be served.
    #[error("the cache is corrupt\n{0}")]
    Corrupt(Box<Report>),
}

/// Reads all of `source`, checks each group against its archive index, and frames what passes.
///
/// Memory: the arena, which is touched only as it fills, and about 40 bytes a group until it is
/// done. `progress` is told how many bytes of how many have been read.
///
/// # Errors
/// See [`LoadError`].
pub async fn load(
    source: &impl Source,
    options: LoadOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Loaded, LoadError> {
    let mut report = Report::new(source.remarks());
    for &cut in source.indexes_cut() {
        let cause = Cause::IndexCut(cut);
        report.problem(Problem { archive: Some(cut.archive), group: None, cause });
    }
    let groups = source.groups();
    if let Some(allowed) = options.memory_bytes_max {
        let needed = loading_bytes(source);
        if needed > allowed {
            return Err(LoadError::Memory { needed, allowed });
        }
    }
    let builder = SnapshotBuilder::new(groups.len() + 1, arena_bytes(source))?;
    let mut filler = Filler::new(groups, builder, progress);
    source.read_all(&mut filler).await?;

    let mut filled = filler.into_filled();
    let (master, cause) = if source.has_archive_indexes() {
        (verify(groups, &mut filled, &mut report), Cause::Nothing)
    } else {
        // It was read all the same, so that the report names the groups that cannot be.
        report_unreadable(groups, 0..groups.len(), &mut filled, &mut report);
        (Vec::new(), Cause::Legacy)
    };
    if master.is_empty() {
        report.problem(Problem { archive: None, group: None, cause });
    }
    report.finish();
    if master.is_empty() || !(report.is_sound() || options.skip_corrupt) {
        return Err(LoadError::Corrupt(Box::new(report)));
    }
    let mut builder = filled.builder;
    add_master_index(&mut builder, &master);
    Ok(Loaded { snapshot: builder.seal()?, report })
}

/// What loading so many groups takes at most, beside the generation that it makes: listing and
/// checks, read buffers, and the archive index that is being unpacked.
#[must_use]
pub fn loading_bytes_beside(groups: usize) -> u64 {
    groups as u64 * GROUP_LOADING_BYTES + READ_BUFFER_BYTES + ARCHIVE_INDEX_LEN_MAX as u64
}

/// How much memory loading takes, at most: the arena, what the groups' listing and checks need,
/// and the read buffers.
fn loading_bytes(source: &impl Source) -> u64 {
    let groups = source.groups().len();
    SnapshotBuilder::arena_bytes(groups + 1, arena_bytes(source))
        .saturating_add(groups as u64 * GROUP_LOADING_BYTES)
        .saturating_add(READ_BUFFER_BYTES)
}

/// How large the arena may have to be.
///
/// Lengths are claims until they are read. What can be read has `data_bytes` together; twice
/// that leaves room for groups that are begun and fail.
fn arena_bytes(source: &impl Source) -> u64 {
    let groups = source.groups();
    let claimed = groups.iter().map(|group| framed_len(group.len_bytes as usize) as u64).sum();
    let data = source.data_bytes();
    let readable = data.saturating_add(data / 511).saturating_add(4 * groups.len() as u64);
    let master = framed_len(MASTER_INDEX_LEN_MAX) as u64;
    readable.saturating_mul(2).min(claimed).saturating_add(master)
}

/// Makes group (255, 255) of what the archive indexes turned out to be.
fn add_master_index(builder: &mut SnapshotBuilder, entries: &[MasterEntry]) {
    // Neither can fail: the format is supported, there are at most 255 archives, and the arena
    // has room for the longest master index.
    let Ok(container) = master_index::encode(MASTER_FORMAT, entries) else { return };
    let Some(at) = builder.allocate(MASTER_INDEX, container.len()) else { return };
    place(builder.framed_mut(at), 0, &container);
    builder.publish(MASTER_INDEX, at);
}

/// The id of a stored group, if it can be asked for: the master index is the server's own.
pub(super) fn wire_id(group: StoredGroup) -> Option<GroupId> {
    let id = GroupId { archive: group.archive, group: u16::try_from(group.group).ok()? };
    (id.archive != 255 || id.group < 255).then_some(id)
}

/// What is wrong with a group that ends before its container does.
pub(super) fn cut_short(needed: usize, group: StoredGroup) -> ContainerError {
    ContainerError::Truncated { needed, found: group.len_bytes as usize }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
