//! A sector: 520 bytes of a data file, a header and a part of one group.
//!
//! Pure; it does not know chains. The header has 10 bytes instead of 8 for groups
//! of 65,536 and more; nothing in the sector says which, only its group's number does.
//! docs/cache-format.md, "Sectors".

/// Bytes in a sector, header included.
pub(super) const SECTOR_BYTES: usize = 520;
/// The same, for places in a file.
pub(super) const SECTOR_BYTES_U64: u64 = 520;
/// Sectors that can be named: their numbers have three bytes.
pub(super) const SECTORS_MAX: u32 = 1 << 24;

const SHORT_HEADER_BYTES: usize = 8;
const LONG_HEADER_BYTES: usize = 10;

/// What a sector's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The group.
    pub(super) group: u32,
    /// How many sectors of the group come before this one.
    pub(super) position: u16,
    /// The sector that follows in the chain, 0 after the last.
    pub(super) next: u32,
    /// The archive, or one more in a legacy store.
    pub(super) archive: u8,
}

/// Which of the two headers a sector has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Groups below 65,536.
    Short,
    /// Groups from 65,536 on.
    Long,
}

impl Form {
    /// The form that the sectors of `group` have.
    pub(super) fn of(group: u32) -> Self {
        if group <= u32::from(u16::MAX) { Self::Short } else { Self::Long }
    }

    /// Bytes of header in a sector.
    pub(super) const fn header_bytes(self) -> usize {
        match self {
            Self::Short => SHORT_HEADER_BYTES,
            Self::Long => LONG_HEADER_BYTES,
        }
    }

    /// Bytes of the group in a full sector.
    pub(super) const fn data_bytes(self) -> u32 {
        match self {
            Self::Short => 512,
            Self::Long => 510,
        }
    }

    /// Takes a sector apart; `None` if it is shorter than its header.
    pub(super) fn split(self, sector: &[u8]) -> Option<(Header, &[u8])> {
        match self {
            Self::Short => {
                let (header, data) = sector.split_first_chunk::<SHORT_HEADER_BYTES>()?;
                let &[g0, g1, p0, p1, n0, n1, n2, archive] = header;
                let group = u32::from(u16::from_be_bytes([g0, g1]));
                let next = u32::from_be_bytes([0, n0, n1, n2]);
                let position = u16::from_be_bytes([p0, p1]);
                Some((Header { group, position, next, archive }, data))
            }
            Self::Long => {
                let (header, data) = sector.split_first_chunk::<LONG_HEADER_BYTES>()?;
                let &[g0, g1, g2, g3, p0, p1, n0, n1, n2, archive] = header;
                let group = u32::from_be_bytes([g0, g1, g2, g3]);
                let next = u32::from_be_bytes([0, n0, n1, n2]);
                let position = u16::from_be_bytes([p0, p1]);
                Some((Header { group, position, next, archive }, data))
            }
        }
    }
}

impl Header {
    /// Appends the header to `out`, in the form that its group asks for.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match Form::of(self.group) {
            Form::Short => out.extend(self.group.to_be_bytes().into_iter().skip(2)),
            Form::Long => out.extend(self.group.to_be_bytes()),
        }
        out.extend(self.position.to_be_bytes());
        out.extend(self.next.to_be_bytes().into_iter().skip(1));
        out.push(self.archive);
    }
}
