//! The names of a store's files, the numbers in them, and how many groups a store can have.

use std::path::{Path, PathBuf};

/// The archive that describes the others.
pub(super) const INDEX_ARCHIVE: u8 = 255;
/// The most groups that are listed: as many as sectors that a data file can name.
pub(super) const GROUPS_MAX: usize = 1 << 24;

pub(super) const DAT2: &str = "main_file_cache.dat2";
pub(super) const DAT2M: &str = "main_file_cache.dat2m";
pub(super) const DAT: &str = "main_file_cache.dat";
pub(super) const IDX: &str = "main_file_cache.idx";

/// Reads a number that is written as a program writes one: no sign, no leading zeros.
pub(super) fn canonical(text: &str) -> Option<u32> {
    let number = text.parse::<u32>().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Where the idx file of an archive is.
pub(super) fn index_path(dir: &Path, archive: u8) -> PathBuf {
    dir.join(format!("{IDX}{archive}"))
}
