//! One group's chain of sectors, followed through whatever part of the file is in memory.
//!
//! A chain checks each sector's header, passes on its data, and stops where the next sector is in
//! another part of the file. It cannot loop: the positions of its sectors count up, and it ends
//! after the group's length.

use super::error::{Entry, Place};
use super::sector::{Form, SECTOR_BYTES, SECTOR_BYTES_U64, SECTORS_MAX};
use super::{GroupError, GroupVisitor, StoredGroup};

/// What the chains of a data file are checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The name of the file.
    pub(super) name: &'static str,
    /// Its length when the store was opened.
    pub(super) len_bytes: u64,
    /// Whether archives count from one in the sector headers.
    pub(super) legacy: bool,
}

impl Extent {
    /// Sectors in the file that can be named, the last one perhaps cut short.
    pub(super) fn sector_count(&self) -> u32 {
        let count = self.len_bytes.div_ceil(SECTOR_BYTES_U64);
        u32::try_from(count).unwrap_or(u32::MAX).min(SECTORS_MAX)
    }
}

/// A part of a data file in memory.
pub(super) struct Window<'a> {
    /// The sector that it starts with.
    pub(super) first_sector: u32,
    /// The sectors that it was to hold.
    pub(super) sector_count: u32,
    /// Its bytes; fewer if the file ends before.
    pub(super) bytes: &'a [u8],
}

impl<'a> Window<'a> {
    /// The bytes of a sector, as far as the file has them; `None` outside the window.
    fn sector(&self, sector: u32) -> Option<&'a [u8]> {
        let ordinal = sector.checked_sub(self.first_sector)?;
        if ordinal >= self.sector_count {
            return None;
        }
        let start = usize::try_from(ordinal).ok()?.checked_mul(SECTOR_BYTES)?;
        let rest = self.bytes.get(start..).unwrap_or_default();
        Some(rest.get(..SECTOR_BYTES).unwrap_or(rest))
    }
}

/// Where following a chain through a window ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It goes on in a sector outside the window.
    Onwards,
    /// The visitor was told how it ended.
    Ended,
}

/// The part of a sector that belongs to the group, and where the chain goes on.
struct Link<'a> {
    data: &'a [u8],
    next: u32,
}

/// The chain of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// The group's place in the store's listing.
    slot: usize,
    group: StoredGroup,
    /// The sector to be read next. Always inside the file.
    sector: u32,
    /// How many sectors have been read.
    position: u32,
    /// How many bytes have been shown: less than the group's length while the chain goes on.
    offset: u32,
}

impl Chain {
    /// The chain that starts in `first_sector`, if the file can hold it at all.
    pub(super) fn start(
        slot: usize,
        group: StoredGroup,
        first_sector: u32,
        extent: &Extent,
    ) -> Result<Self, GroupError> {
        let StoredGroup { archive, group: id, len_bytes } = group;
        let entry = Entry { archive, group: id, len_bytes, sector: first_sector };
        let (file, file_bytes) = (extent.name, extent.len_bytes);
        let sectors_needed = len_bytes.div_ceil(Form::of(id).data_bytes());
        if len_bytes == 0 {
            Err(GroupError::NoLength { entry })
        } else if first_sector == 0 {
            Err(GroupError::NoSector { entry })
        } else if first_sector >= extent.sector_count() {
            Err(GroupError::StartsOutside { entry, file, file_bytes })
        } else if sectors_needed >= extent.sector_count() {
            // Not equal either: no chain uses sector 0.
            Err(GroupError::LargerThanFile { entry, file, file_bytes })
        } else {
            Ok(Self { slot, group, sector: first_sector, position: 0, offset: 0 })
        }
    }

    /// Tells the visitor that the chain is not followed any further.
    pub(super) fn give_up(&self, extent: &Extent, passes: u32, visitor: &mut impl GroupVisitor) {
        visitor.failed(self.slot, GroupError::Scattered { at: self.place(extent), passes });
    }

    /// The sector to be read next.
    pub(super) fn sector(&self) -> u32 {
        self.sector
    }

    /// Shows the visitor what the window holds of the group from here on.
    pub(super) fn follow(
        &mut self,
        window: &Window<'_>,
        extent: &Extent,
        visitor: &mut impl GroupVisitor,
    ) -> Followed {
        while let Some(sector) = window.sector(self.sector) {
            let Link { data, next } = match self.link(sector, extent) {
                Ok(link) => link,
                Err(error) => {
                    visitor.failed(self.slot, error);
                    return Followed::Ended;
                }
            };
            visitor.piece(self.slot, self.offset, data);
            if next == 0 {
                visitor.complete(self.slot);
                return Followed::Ended;
            }
            self.offset = self.offset.saturating_add(Form::of(self.group.group).data_bytes());
            self.position = self.position.saturating_add(1);
            self.sector = next;
        }
        Followed::Onwards
    }

    /// Checks everything that the sector says of itself. A `next` of 0 comes back exactly when
    /// the group is whole.
    fn link<'a>(&self, sector: &'a [u8], extent: &Extent) -> Result<Link<'a>, GroupError> {
        let at = self.place(extent);
        let StoredGroup { archive, group, len_bytes } = self.group;
        let form = Form::of(group);
        let rest_bytes = len_bytes.saturating_sub(self.offset);
        let here_bytes = usize::try_from(rest_bytes.min(form.data_bytes())).unwrap_or(usize::MAX);
        let cut = || GroupError::SectorCut {
            at,
            expected_bytes: form.header_bytes().saturating_add(here_bytes),
            found_bytes: sector.len(),
        };
        let (header, data) = form.split(sector).ok_or_else(cut)?;

        let expected = if extent.legacy { archive.wrapping_add(1) } else { archive };
        if header.archive != expected {
            return Err(GroupError::WrongArchive { at, expected, found: header.archive });
        }
        if header.group != group {
            return Err(GroupError::WrongGroup { at, found: header.group });
        }
        let (expected, found) = (self.position, u32::from(header.position));
        if found != expected {
            return Err(GroupError::WrongPosition { at, expected, found });
        }
        let data = data.get(..here_bytes).ok_or_else(cut)?;

        // The last sector's number of a next one is not checked: no client reads it, and some
        // packers leave any number there.
        let is_last = rest_bytes <= form.data_bytes();
        let next = if is_last { 0 } else { header.next };
        if !is_last && next == 0 {
            let found_bytes = self.offset.saturating_add(form.data_bytes());
            return Err(GroupError::EndsEarly { at, len_bytes, found_bytes });
        }
        if next >= extent.sector_count() {
            return Err(GroupError::NextOutside { at, next, file_bytes: extent.len_bytes });
        }
        Ok(Link { data, next })
    }

    fn place(&self, extent: &Extent) -> Place {
        let StoredGroup { archive, group, .. } = self.group;
        Place { archive, group, sector: self.sector, file: extent.name }
    }
}
