//! What is asked for: a group's id and the class of the request.

/// The archive whose groups are the archive indexes, and the master index.
pub const ARCHIVE_INDEXES: u8 = 255;

/// The master index: group (255, 255), made by the server.
pub const MASTER_INDEX: GroupId = GroupId { archive: 255, group: 255 };

/// A group as the wire names it. Stores may hold groups of 65,536 and more, which cannot be
/// asked for and have no `GroupId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId {
    /// The archive, 0 to 255.
    pub archive: u8,
    /// The group within it.
    pub group: u16,
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
