//! SQLite caches (`js5-A.jcache`): recognised, so that the error says why they are not served.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::PackedFault;
use super::fault::refused;
use crate::cache::StoreError;

/// What each SQLite file begins with.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";
/// How much is looked through.
const LOOK_BYTES: u64 = 4 << 20;
/// What each group in a cache of Jagex's NXT client begins with.
const ZLIB_BLOB: &[u8] = b"ZLB\x01";

/// Which of the two it is. The blobs of the NXT client begin with a mark of their own; OpenNXT's
/// are containers as they were on the wire.
pub(super) fn which(path: &Path) -> Result<PackedFault, StoreError> {
    let io = |source| StoreError::Io { path: path.into(), source };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(LOOK_BYTES).read_to_end(&mut start)).map_err(io)?;
    let has_mark = start.windows(ZLIB_BLOB.len()).any(|bytes| bytes == ZLIB_BLOB);
    Ok(if has_mark { PackedFault::JagexNxt } else { PackedFault::OpenNxt })
}

/// The error for a directory in which `path` is a `.jcache` file.
pub(in crate::cache) fn refuse(path: &Path) -> StoreError {
    let mut start = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start));
    match read {
        Err(source) => StoreError::Io { path: path.into(), source },
        Ok(_) if start == MAGIC => match which(path) {
            Ok(fault) => refused(path, None, fault),
            Err(error) => error,
        },
        Ok(_) => refused(path, None, PackedFault::OtherKind("a .jcache file that is no SQLite")),
    }
}
