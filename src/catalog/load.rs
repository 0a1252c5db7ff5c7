//! From a source of stored groups to a checked snapshot, or to a report of why not.

use super::fill::{Filler, wire_id};
use super::readers::{MasterError, Readers};
use super::report::{Cause, Problem, Report};
use super::snapshot::{ArenaError, Snapshot, SnapshotBuilder};
use super::verify::{ARCHIVE_INDEX_LEN_MAX, report_unreadable, verify};
use crate::cache::{GroupVisitor, IndexCut, Store, StoreError, StoreKind, StoredGroup};
use crate::protocol::frame::Framing;
use crate::protocol::master_index::MasterFormat;

/// What a listed group needs while it is loaded, and what reading does (docs/limits.md, "A
/// snapshot").
const GROUP_LOADING_BYTES: u64 = 170;
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
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Make a snapshot without the groups that fail, rather than none.
    pub skip_corrupt: bool,
    /// Refuse, before anything is read, what may need more memory than this to load.
    pub memory_bytes_max: Option<u64>,
    /// For whom it is loaded.
    pub readers: Readers,
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
    /// The master index that was given is not this cache's.
    #[error(transparent)]
    Master(#[from] MasterError),
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
    let readers = &options.readers;
    if let Some(allowed) = options.memory_bytes_max {
        let needed = loading_bytes(source, readers);
        if needed > allowed {
            return Err(LoadError::Memory { needed, allowed });
        }
    }
    let sizes: Vec<_> = regions(source, readers).collect();
    let builder = SnapshotBuilder::with_framings(responses(groups), &sizes)?;
    let mut filler = Filler::new(groups, readers.ask_wide(), builder, progress);
    source.read_all(&mut filler).await?;

    let mut filled = filler.into_filled();
    let (master, cause) = if source.has_archive_indexes() {
        (verify(groups, readers, &mut filled, &mut report), Cause::Nothing)
    } else {
        // It was still read, so that the report names the groups that cannot be.
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
    readers.add_masters(&mut builder, &master)?;
    report.compare_with(readers.profiles());
    Ok(Loaded { snapshot: builder.seal()?, report })
}

/// What loading so many groups takes at most, beside the generation that it makes: listing and
/// checks, read buffers, and the archive index that is being unpacked.
#[must_use]
pub fn loading_bytes_beside(groups: usize) -> u64 {
    groups as u64 * GROUP_LOADING_BYTES + READ_BUFFER_BYTES + ARCHIVE_INDEX_LEN_MAX as u64
}

/// How much memory loading takes, at most: the arenas with their tables, what the groups' listing
/// and checks need, and the read buffers.
fn loading_bytes(source: &impl Source, readers: &Readers) -> u64 {
    let groups = source.groups();
    let arena = |(_, bytes): (Framing, u64)| SnapshotBuilder::arena_bytes(responses(groups), bytes);
    let arenas = regions(source, readers).map(arena).fold(0, u64::saturating_add);
    let asked_for = |group: &StoredGroup| wire_id(*group, readers.ask_wide()).is_some();
    let highest = groups.chunk_by(|a, b| a.archive == b.archive);
    let highest = highest.filter_map(|archive| archive.iter().rfind(|group| asked_for(group)));
    let tables: u64 = highest.map(|group| SnapshotBuilder::table_bytes(group.group)).sum();
    arenas
        .saturating_add(tables.saturating_mul(readers.framings().len() as u64))
        .saturating_add(groups.len() as u64 * GROUP_LOADING_BYTES)
        .saturating_add(READ_BUFFER_BYTES)
}

/// How many responses there can be in each framing: the groups, and a master index of each format.
fn responses(groups: &[StoredGroup]) -> usize {
    groups.len() + MasterFormat::ALL.len()
}

/// How large the arena of each framing may have to be.
///
/// Lengths are claims until they are read. What can be read has `data_bytes` together; twice
/// that leaves room for groups that are begun and fail.
fn regions(source: &impl Source, readers: &Readers) -> impl Iterator<Item = (Framing, u64)> {
    let groups = source.groups();
    let data = source.data_bytes();
    readers.framings().into_iter().map(move |framing| {
        let framed = |group: &StoredGroup| framing.framed_len(group.len_bytes as usize) as u64;
        let claimed = groups.iter().map(framed).sum();
        let lead = framing.lead_len();
        let leads = data / (framing.block_len() - lead) as u64 * lead as u64;
        let heads = (framing.header_len() + lead) as u64 * groups.len() as u64;
        let readable = data.saturating_add(leads).saturating_add(heads);
        let len_max = |format: MasterFormat| framing.framed_len(format.container_len_max());
        let masters = readers.formats().map(|format| len_max(format) as u64);
        (framing, readable.saturating_mul(2).min(claimed).saturating_add(masters.sum()))
    })
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
