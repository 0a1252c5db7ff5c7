//! Flat-file stores: a directory an archive, a file a group.
//!
//! Names and lengths are listed with plain system calls; the files themselves are opened and
//! read through the ring, many at once, each in pieces.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::error::Warnings;
use super::file::{self, InputFile, Started};
use super::names::{GROUPS_MAX, canonical};
use super::{GROUP_BYTES_MAX, GroupError, GroupVisitor, StoreError, StoreWarning, StoredGroup};

/// Files that are read at once.
const IN_FLIGHT_MAX: usize = 64;
/// How much of a file is read at a time; all buffers together have 8 MiB.
const PIECE_BYTES: usize = 128 * 1024;

/// The groups in the directories of `archives`, sorted.
///
/// A file that is too large to be a group is listed with the largest length; reading it then fails.
pub(super) fn list(
    dir: &Path,
    archives: &[u8],
    warnings: &mut Warnings,
) -> Result<Vec<StoredGroup>, StoreError> {
    let mut groups = Vec::new();
    for &archive in archives {
        let dir = dir.join(archive.to_string());
        let io = |source| StoreError::Io { path: dir.clone(), source };
        for entry in std::fs::read_dir(&dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let group = name.and_then(|name| name.strip_suffix(".dat")).and_then(canonical);
            // Follows links, as reading will; one that leads nowhere is no group.
            let len_bytes = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.is_file().then_some(metadata.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(source) => return Err(StoreError::Io { path, source }),
            };
            let (Some(group), Some(len_bytes)) = (group, len_bytes) else {
                warnings.push(StoreWarning::NotAGroup { path });
                continue;
            };
            let len_bytes = u32::try_from(len_bytes).unwrap_or(u32::MAX).min(GROUP_BYTES_MAX);
            groups.push(StoredGroup { archive, group, len_bytes });
            if groups.len() > GROUPS_MAX {
                return Err(StoreError::TooManyGroups { path: dir, groups_max: GROUPS_MAX });
            }
        }
    }
    groups.sort_unstable_by_key(|group| (group.archive, group.group));
    Ok(groups)
}

/// Shows `visitor` every group, and tells `done` of each piece's length.
pub(super) async fn read<V: GroupVisitor>(
    dir: &Path,
    groups: &[StoredGroup],
    visitor: &mut V,
    mut done: impl FnMut(&mut V, u64),
) {
    let mut to_come = groups.iter().enumerate();
    let mut in_flight = VecDeque::new();
    let mut idle = Vec::new();
    loop {
        while in_flight.len() < IN_FLIGHT_MAX {
            let Some((slot, &group)) = to_come.next() else { break };
            if group.len_bytes == 0 {
                let StoredGroup { archive, group, .. } = group;
                visitor.failed(slot, GroupError::FileEmpty { archive, group });
                continue;
            }
            let progress = Progress { slot, group, offset: 0 };
            let source = Source::Path(path(dir, group));
            in_flight.push_back(progress.read(source, idle.pop().unwrap_or_default()));
        }
        let Some(Reading { mut progress, piece }) = in_flight.pop_front() else { break };
        let (file, buf) = match piece.outcome().await {
            Ok(piece) => piece,
            Err(error) => {
                visitor.failed(progress.slot, progress.unreadable(&error));
                continue;
            }
        };
        match progress.take(&buf, visitor) {
            Ok(true) => visitor.complete(progress.slot),
            Ok(false) => {
                done(visitor, u64::try_from(buf.len()).unwrap_or(0));
                in_flight.push_back(progress.read(Source::Open(file), buf));
                continue;
            }
            Err(error) => visitor.failed(progress.slot, error),
        }
        done(visitor, u64::try_from(buf.len()).unwrap_or(0));
        idle.push(buf);
    }
}

/// Where a group's file is.
pub(super) fn path(dir: &Path, group: StoredGroup) -> PathBuf {
    dir.join(group.archive.to_string()).join(format!("{}.dat", group.group))
}

/// A file, before and after it was opened.
enum Source {
    Path(PathBuf),
    Open(InputFile),
}

/// A piece of a file on its way, and the file with it.
struct Reading {
    progress: Progress,
    piece: Started<(InputFile, Vec<u8>)>,
}

/// How far a file was shown.
struct Progress {
    slot: usize,
    group: StoredGroup,
    /// At most the group's length.
    offset: u32,
}

impl Progress {
    /// Bytes still to be shown.
    fn rest(&self) -> u32 {
        self.group.len_bytes.saturating_sub(self.offset)
    }

    /// How much to ask for: one byte more than the rest, to see that the file ends there.
    fn asked(&self) -> usize {
        let rest = usize::try_from(self.rest()).unwrap_or(usize::MAX);
        rest.saturating_add(1).min(PIECE_BYTES)
    }

    /// Starts reading the next piece into `buf`.
    fn read(self, source: Source, buf: Vec<u8>) -> Reading {
        let (offset, len) = (u64::from(self.offset), self.asked());
        let piece = file::start(async move {
            let file = match source {
                Source::Path(path) => InputFile::open(&path).await?,
                Source::Open(file) => file,
            };
            let buf = file.read_at(buf, offset, len).await?;
            Ok((file, buf))
        });
        Reading { progress: self, piece }
    }

    /// Shows a piece. True once the group is whole.
    fn take(&mut self, bytes: &[u8], visitor: &mut impl GroupVisitor) -> Result<bool, GroupError> {
        let StoredGroup { archive, group, len_bytes } = self.group;
        let here = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let is_end = bytes.len() < self.asked();
        if here > self.rest() && len_bytes == GROUP_BYTES_MAX {
            return Err(GroupError::FileTooLarge { archive, group, len_bytes_max: len_bytes });
        }
        if here > self.rest() || (is_end && here < self.rest()) {
            let found_bytes = self.offset.saturating_add(here);
            return Err(GroupError::FileChanged { archive, group, len_bytes, found_bytes });
        }
        if !bytes.is_empty() {
            visitor.piece(self.slot, self.offset, bytes);
        }
        self.offset = self.offset.saturating_add(here);
        Ok(is_end)
    }

    fn unreadable(&self, error: &io::Error) -> GroupError {
        let StoredGroup { archive, group, .. } = self.group;
        let (offset, cause) = (self.offset, error.to_string());
        GroupError::FileUnreadable { archive, group, offset, cause }
    }
}
