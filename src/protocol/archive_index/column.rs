//! Reads the columns of an archive index, and knows where each began.

use super::{ArchiveIndexError, IndexEntry};

/// Set in a 32-bit count or id of format 7, to tell it from a 16-bit one.
const WIDE_BIT: u32 = 0x8000_0000;

/// A cursor over the payload.
pub(super) struct Columns<'a> {
    payload: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { payload, rest: payload }
    }

    pub(super) fn rest_len(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(
        &mut self,
        column: &'static str,
        len: usize,
    ) -> Result<&'a [u8], ArchiveIndexError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(self.truncated(column))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(
        &mut self,
        column: &'static str,
    ) -> Result<&'a [u8; N], ArchiveIndexError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.truncated(column))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self, column: &'static str) -> Result<u8, ArchiveIndexError> {
        self.array(column).map(|[byte]| *byte)
    }

    pub(super) fn int(&mut self, column: &'static str) -> Result<u32, ArchiveIndexError> {
        self.array(column).map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// A count or a difference of ids: `u16`, or in format 7 `u32` if the top bit is set.
    pub(super) fn sized(
        &mut self,
        column: &'static str,
        wide: bool,
    ) -> Result<u32, ArchiveIndexError> {
        if wide && self.rest.first().is_some_and(|byte| byte & 0x80 != 0) {
            return Ok(self.int(column)? & !WIDE_BIT);
        }
        self.array(column).map(|bytes| u32::from(u16::from_be_bytes(*bytes)))
    }

    /// `count` as a size, if that many entries of `entry_len_min` bytes can follow.
    pub(super) fn believe(
        &self,
        column: &'static str,
        count: u32,
        entry_len_min: usize,
    ) -> Result<usize, ArchiveIndexError> {
        let count = count as usize;
        if count.saturating_mul(entry_len_min) > self.rest.len() {
            return Err(self.truncated(column));
        }
        Ok(count)
    }

    /// Hands each group its `N` bytes of a column.
    pub(super) fn each<const N: usize>(
        &mut self,
        column: &'static str,
        groups: &mut [IndexEntry],
        mut set: impl FnMut(&mut IndexEntry, &[u8; N]),
    ) -> Result<(), ArchiveIndexError> {
        let bytes = self.take(column, groups.len().saturating_mul(N))?;
        let (cells, _) = bytes.as_chunks::<N>();
        for (group, cell) in groups.iter_mut().zip(cells) {
            set(group, cell);
        }
        Ok(())
    }

    fn truncated(&self, column: &'static str) -> ArchiveIndexError {
        let len = self.payload.len();
        let offset = len.saturating_sub(self.rest.len());
        ArchiveIndexError::Truncated { column, offset, len }
    }
}

/// Appends a count or a difference of ids. Formats 5 and 6 keep the low 16 bits.
pub(super) fn put_sized(out: &mut Vec<u8>, value: u32, wide: bool) {
    match u16::try_from(value & 0xFFFF) {
        Ok(low) if !wide || value < 0x8000 => out.extend(low.to_be_bytes()),
        _ => out.extend((value | WIDE_BIT).to_be_bytes()),
    }
}
