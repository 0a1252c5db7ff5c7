//! `js5d convert`: a cache in another form, its groups byte by byte as they were.
//!
//! Groups are not judged: what is corrupt in the one form is so in the other, and `check` says
//! the same of both. Only what cannot be read at all is refused.

use super::progress::Progress;
use super::text::{counted, megabytes, print};
use crate::cache::{
    Form, GroupError, GroupVisitor, Packing, StagedStore, Store, StoreError, StoreKind,
    StoredGroup, block_on,
};
use crate::cli::{ConvertArgs, TargetFormat};
use crate::failure::{Exit, Failure};
use std::collections::HashMap;
use std::io;
use std::process::ExitCode;

/// What groups may have in memory that have begun and not ended: those of a dat2 file may be
/// interleaved in any way.
const BEGUN_BYTES_MAX: usize = 1 << 30;

/// How many of the groups that cannot be read are named.
const FAILURES_SHOWN_MAX: usize = 20;

/// Writes the cache in its other form.
///
/// # Errors
/// It cannot be read, or not written.
pub fn run(args: &ConvertArgs) -> Result<ExitCode, Failure> {
    let mut progress = Progress::new(|percent| eprintln!("converting: {percent}%"));
    let result = block_on(convert(args, &mut progress));
    progress.end();
    print(result?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

async fn convert(args: &ConvertArgs, progress: &mut Progress) -> Result<String, Failure> {
    let store = Store::open(&args.from).await?;
    if store.kind() == StoreKind::Dat {
        let cause = format!(
            "{}: a legacy cache (main_file_cache.dat) has no archive indexes, and no other form",
            args.from.display(),
        );
        let remedy = "js5d converts main_file_cache.dat2, flat files, zip, tar and tar.gz";
        return Err(Failure::new(Exit::CorruptCache, cause, remedy));
    }
    let mut target = StagedStore::create(&args.to, form(args.format), false).map_err(unwritten)?;
    if let Err(failure) = copy(args, &store, &mut target, progress).await {
        target.discard();
        return Err(failure);
    }
    let written = target.finish().map_err(unwritten)?;
    let to = args.to.display();
    Ok(format!(
        "wrote {}, {}, to {to}\ncheck it with: js5d check --cache {to}\n",
        counted(written.groups as u64, "group"),
        megabytes(written.bytes),
    ))
}

/// Puts everything that can be read into the target.
async fn copy(
    args: &ConvertArgs,
    store: &Store,
    target: &mut StagedStore,
    progress: &mut Progress,
) -> Result<(), Failure> {
    for &archive in store.archives() {
        target.writer().add_archive(archive);
    }
    let mut copy = Copy::new(store.groups(), target, progress);
    store.read_all(&mut copy).await?;
    let Copy { failures, failed, error, .. } = copy;
    error.map_or(Ok(()), |error| Err(unwritten(error)))?;
    for cut in store.indexes_cut() {
        eprintln!("{cut}");
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    let damaged = failed + store.indexes_cut().len() as u64;
    if damaged > 0 && !args.skip_corrupt {
        let what = counted(damaged, "part");
        let cause = format!("{what} of the cache cannot be read; nothing is written");
        let remedy = "fetch the cache again, or leave them out with --skip-corrupt";
        return Err(Failure::new(Exit::CorruptCache, cause, remedy));
    }
    Ok(())
}

/// The form of a store that is written.
pub(super) fn form(format: TargetFormat) -> Form {
    match format {
        TargetFormat::Dat2 => Form::Directory(StoreKind::Dat2),
        TargetFormat::Flat => Form::Directory(StoreKind::Flat),
        TargetFormat::TarGz => Form::File(Packing::TarGz),
        TargetFormat::Zip => Form::File(Packing::Zip),
    }
}

/// A failure to write is not a fault of the cache that was read.
pub(super) fn unwritten(error: StoreError) -> Failure {
    let (exit, remedy) = match &error {
        StoreError::AlreadyAStore { .. } => {
            (Exit::Usage, "name another place, or remove what is there")
        }
        StoreError::Busy { .. } => (Exit::System, "wait until it has ended, or name another place"),
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            (Exit::Permission, "name a place that can be written")
        }
        StoreError::CannotPut { .. } => {
            (Exit::CorruptCache, "write another form, or repair the cache")
        }
        _ => (Exit::System, "name a place that can be written, with room for the cache"),
    };
    Failure::new(exit, format!("no cache is written: {error}"), remedy)
}

/// Puts each group that is shown into the target, once it is whole.
struct Copy<'a> {
    groups: &'a [StoredGroup],
    target: &'a mut StagedStore,
    progress: &'a mut Progress,
    begun: HashMap<usize, Vec<u8>>,
    begun_bytes: usize,
    /// The first groups that cannot be read.
    failures: Vec<GroupError>,
    failed: u64,
    /// Why nothing more is written.
    error: Option<StoreError>,
}

impl<'a> Copy<'a> {
    fn new(
        groups: &'a [StoredGroup],
        target: &'a mut StagedStore,
        progress: &'a mut Progress,
    ) -> Self {
        Self {
            groups,
            target,
            progress,
            begun: HashMap::new(),
            begun_bytes: 0,
            failures: Vec::new(),
            failed: 0,
            error: None,
        }
    }

    fn end(&mut self, slot: usize) -> Vec<u8> {
        let bytes = self.begun.remove(&slot).unwrap_or_default();
        self.begun_bytes -= bytes.len();
        bytes
    }
}

impl GroupVisitor for Copy<'_> {
    fn piece(&mut self, slot: usize, _: u32, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.begun_bytes += bytes.len();
        self.begun.entry(slot).or_default().extend_from_slice(bytes);
        if self.begun_bytes > BEGUN_BYTES_MAX {
            let StoredGroup { archive, group, .. } = self.groups[slot];
            let why = "groups of more than 1 GiB are interleaved in the data file";
            self.error = Some(StoreError::CannotPut { archive, group, why });
        }
    }

    fn complete(&mut self, slot: usize) {
        let bytes = self.end(slot);
        let StoredGroup { archive, group, .. } = self.groups[slot];
        if self.error.is_none() {
            self.error = self.target.writer().put(archive, group, &bytes).err();
        }
    }

    fn failed(&mut self, slot: usize, error: GroupError) {
        self.end(slot);
        self.failed += 1;
        if self.failures.len() < FAILURES_SHOWN_MAX {
            self.failures.push(error);
        }
    }

    fn progress(&mut self, done: u64, total: u64) {
        self.progress.show(done, total);
    }
}
