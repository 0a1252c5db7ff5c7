//! What a session has decided to send, in one word.

use super::frame::Framing;
use super::master_index::MasterFormat;
use super::{Class, GroupId};

/// How a client is answered: what decides which bytes a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// How containers are cut.
    pub framing: Framing,
    /// What the master index says.
    pub master: MasterFormat,
}

impl Dialect {
    /// That of build 550.
    pub const BUILD_550: Self = Self { framing: Framing::Marked3, master: MasterFormat::Versioned };
}

impl Default for Dialect {
    fn default() -> Self {
        Self::BUILD_550
    }
}

/// A response to send: the group, and what is applied to its framed bytes.
///
/// One word, because a struct of bytes and half-words travels through memory in pieces, which
/// costs 5 ns a response in stalled loads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Response(u64);

impl Response {
    const URGENT: u64 = 1 << 32;
    const PREFETCH_BIT: u64 = 1 << 33;
    /// Two bits of framing, and two of the master index' format.
    const FRAMING_AT: u32 = 34;
    const MASTER_AT: u32 = 36;
    /// The group's bits above the sixteenth.
    const GROUP_HIGH_AT: u32 = 40;

    /// The answer to a request for `id` in `class`, XORed with `key`, to a client of build 550.
    #[inline]
    #[must_use]
    pub const fn new(id: GroupId, class: Class, prefetch_bit: bool, key: u8) -> Self {
        let class = match class {
            Class::Urgent => Self::URGENT,
            Class::Prefetch => 0,
        };
        let bit = if prefetch_bit { Self::PREFETCH_BIT } else { 0 };
        let group = id.group as u64;
        let id = (id.archive as u64) << 16 | group & 0xFFFF;
        let id = id | (group >> 16 & 0xFFFF) << Self::GROUP_HIGH_AT;
        Self(id | (key as u64) << 24 | class | bit).in_dialect(Dialect::BUILD_550)
    }

    /// The same in another dialect.
    #[inline]
    #[must_use]
    pub const fn in_dialect(self, dialect: Dialect) -> Self {
        let dialect = (dialect.framing.number() as u64) << Self::FRAMING_AT
            | (dialect.master.number() as u64) << Self::MASTER_AT;
        Self(self.0 & !(0xF << Self::FRAMING_AT) | dialect)
    }

    /// How the client is answered.
    #[inline]
    #[must_use]
    pub const fn dialect(self) -> Dialect {
        let master = match self.0 >> Self::MASTER_AT & 3 {
            0 => MasterFormat::Original,
            1 => MasterFormat::Versioned,
            2 => MasterFormat::Digests,
            _ => MasterFormat::Lengths,
        };
        Dialect { framing: self.framing(), master }
    }

    /// How its container is cut.
    #[inline]
    #[must_use]
    pub const fn framing(self) -> Framing {
        match self.0 >> Self::FRAMING_AT & 3 {
            0 => Framing::Marked3,
            1 => Framing::Marked5,
            2 => Framing::Multi512,
            _ => Framing::Multi102400,
        }
    }

    /// The group asked for.
    #[inline]
    #[must_use]
    pub const fn id(self) -> GroupId {
        let [_, higher, high, _, _, archive, low, lowest] = self.0.to_be_bytes();
        // Bits 40 to 55 stand above the low sixteen.
        GroupId { archive, group: u32::from_be_bytes([higher, high, low, lowest]) }
    }

    /// XORed with every byte; 0 is none. Holds for the whole response.
    #[inline]
    #[must_use]
    pub const fn key(self) -> u8 {
        let [_, _, _, _, key, _, _, _] = self.0.to_be_bytes();
        key
    }

    /// The class asked for.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Class {
        if self.0 & Self::URGENT != 0 { Class::Urgent } else { Class::Prefetch }
    }

    /// Whether it carries the prefetch bit, where [`Framing::mark`] puts it.
    #[inline]
    #[must_use]
    pub const fn prefetch_bit(self) -> bool {
        self.0 & Self::PREFETCH_BIT != 0
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (class, key) = (self.class(), self.key());
        write!(f, "Response({} {class:?}, bit {}, key {key}", self.id(), self.prefetch_bit())?;
        match self.dialect() {
            Dialect::BUILD_550 => f.write_str(")"),
            Dialect { framing, master } => write!(f, ", {framing} {master})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_holds_all_that_it_was_given() {
        let ids = [(0, 0), (255, 255), (5, 65_535), (40, 65_536), (255, 0x00FF_FFFF)];
        let formats = [
            MasterFormat::Original,
            MasterFormat::Versioned,
            MasterFormat::Digests,
            MasterFormat::Lengths,
        ];
        for (archive, group) in ids {
            let id = GroupId { archive, group };
            for (class, bit, key) in [(Class::Urgent, false, 0), (Class::Prefetch, true, 255)] {
                let response = Response::new(id, class, bit, key);
                assert_eq!(response.dialect(), Dialect::BUILD_550);
                for framing in Framing::ALL {
                    for master in formats {
                        let dialect = Dialect { framing, master };
                        let response = response.in_dialect(dialect);
                        assert_eq!((response.id(), response.class()), (id, class));
                        assert_eq!((response.prefetch_bit(), response.key()), (bit, key));
                        assert_eq!((response.dialect(), response.framing()), (dialect, framing));
                    }
                }
            }
        }
    }
}
