//! What is asked for: a group's id and the class of the request.

/// The archive whose groups are the archive indexes, and the master index.
pub const ARCHIVE_INDEXES: u8 = 255;

/// The master index: group (255, 255), made by the server.
pub const MASTER_INDEX: GroupId = GroupId { archive: 255, group: 255 };

/// Groups are numbered below this, so that a request fits into one word while it waits. No store
/// of the field comes near it. A request for a group beyond stands for [`GROUP_BEYOND`].
pub const GROUPS_MAX: u32 = GROUP_BEYOND;

/// What a request for a group of this number or a higher one is taken for. No store holds it.
pub const GROUP_BEYOND: u32 = 0x00FF_FFFF;

/// The groups that a request frame of four bytes has room for.
pub const GROUPS_NARROW: u32 = 1 << 16;

/// A group as the wire names it. Frames of four bytes have room for 16 bits of the group, longer
/// ones for 32, of which [`GROUPS_MAX`] bounds what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The archive, 0 to 255.
    pub archive: u8,
    /// The group within it.
    pub group: u32,
}

impl GroupId {
    /// In one word, archive first, as it waits and as it is answered: a struct of a byte and a word
    /// travels through memory in pieces, which costs 5 to 10 ns in stalled loads. A group beyond
    /// [`GROUPS_MAX`] becomes [`GROUP_BEYOND`].
    #[inline]
    #[must_use]
    pub(super) const fn to_word(self) -> u32 {
        let group = if self.group < GROUP_BEYOND { self.group } else { GROUP_BEYOND };
        (self.archive as u32) << 24 | group
    }

    /// The other way.
    #[inline]
    #[must_use]
    pub(super) const fn from_word(word: u32) -> Self {
        let [archive, ..] = word.to_be_bytes();
        Self { archive, group: word & GROUP_BEYOND }
    }
}

impl std::fmt::Display for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.archive, self.group)
    }
}

/// The class of a request, and of the response that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Opcode 0: wanted some time. Its response carries the prefetch bit.
    Prefetch,
    /// Opcode 1: the player waits for it.
    Urgent,
}
