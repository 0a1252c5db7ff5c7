//! `js5d demo-cache`: writes a demo cache to a directory.

use super::text::{counted, megabytes, print};
use crate::cache::{StoreError, StoreKind, StoreWriter};
use crate::catalog::{DEMO_GROUPS_MAX, DEMO_GROUPS_MIN, Demo};
use crate::cli::{DemoCacheArgs, StoreFormat};
use crate::failure::{Exit, Failure};
use std::io::ErrorKind;
use std::process::ExitCode;

/// Writes the demo cache.
///
/// # Errors
/// The number of groups is out of range, or the directory cannot be written.
pub fn run(args: &DemoCacheArgs) -> Result<ExitCode, Failure> {
    if !(DEMO_GROUPS_MIN..=DEMO_GROUPS_MAX).contains(&args.groups) {
        return Err(Failure::new(
            Exit::Usage,
            format!("a demo cache cannot have {} groups", args.groups),
            format!("use --groups {DEMO_GROUPS_MIN} to {DEMO_GROUPS_MAX}"),
        ));
    }
    let kind = match args.format {
        StoreFormat::Dat2 => StoreKind::Dat2,
        StoreFormat::Flat => StoreKind::Flat,
    };
    let writer = StoreWriter::create(&args.dir, kind).map_err(unwritten)?;
    let written = Demo::new(args.groups, args.seed).write(writer).map_err(unwritten)?;
    let dir = args.dir.display();
    let done = format!(
        "wrote {}, {}, as a {kind} store to {dir}\nserve it with: js5d --cache {dir}\n",
        counted(written.groups as u64, "group"),
        megabytes(written.bytes),
    );
    print(done.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A failure to write is not a fault of a cache.
fn unwritten(error: StoreError) -> Failure {
    let StoreError::Io { source, .. } = &error else { return error.into() };
    let exit = match source.kind() {
        ErrorKind::PermissionDenied => Exit::Permission,
        _ => Exit::System,
    };
    let cause = format!("no demo cache is written: {error}");
    Failure::new(exit, cause, "name a directory that can be written, with room for the cache")
}
