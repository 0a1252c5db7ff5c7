//! Breaches of the protocol by a server, as a client finds them.

use super::GroupId;

/// What a server must not do. The stream cannot be trusted after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The protocol has no such status byte.
    #[error("status byte {0} means nothing in JS5")]
    UnknownStatus(u8),
    /// Bytes after a status that refuses.
    #[error("bytes after a status that refuses the client")]
    AfterRefusal,
    /// A response to nothing that is outstanding.
    #[error("{id} was sent, but no request for it is outstanding")]
    Unasked {
        /// The group that came.
        id: GroupId,
    },
    /// The group is outstanding in the other class only.
    #[error("{id} was answered in the wrong class")]
    WrongClass {
        /// The group that came.
        id: GroupId,
    },
    /// Something else than a marker at a block's edge.
    #[error("{id}: byte {found:#04x} where block {block} needs its marker")]
    WrongMarker {
        /// The group.
        id: GroupId,
        /// Which block of the response, from 0.
        block: u32,
        /// What stood there.
        found: u8,
    },
    /// A compression byte that no container has.
    #[error("{id}: compression {compression} does not exist")]
    UnknownCompression {
        /// The group.
        id: GroupId,
        /// The byte, prefetch bit removed.
        compression: u8,
    },
    /// The length's top byte is neither 0 nor a key that was asked for.
    #[error("a response longer than any group, or under key {key:#04x}, which was not set")]
    WrongKey {
        /// The key that would explain the length.
        key: u8,
    },
    /// The response is under a key that was over when its request was sent. The real client reads
    /// with its new key as soon as it has sent it.
    #[error(
        "{id} was sent under key {key}, though the client had set key {expected} before it asked"
    )]
    OldKey {
        /// The group.
        id: GroupId,
        /// Under which it came; 0 is none.
        key: u8,
        /// Which the client had set.
        expected: u8,
    },
}
