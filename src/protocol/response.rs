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

/// What all responses of a session share at a moment: its dialect, its key, and whether those to
/// prefetch requests carry the bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    urgent: u16,
    prefetch: u16,
}

impl Stamp {
    /// Key, class and bit stand where [`Response`] has them.
    pub(super) const fn new(dialect: Dialect, marks: bool, key: u8) -> Self {
        let [framing, ..] = dialect.framing.number().to_le_bytes();
        let [master, ..] = dialect.master.number().to_le_bytes();
        let both = key as u16 | (framing as u16) << 10 | (master as u16) << 12;
        Self { urgent: both | 1 << 8, prefetch: both | (marks as u16) << 9 }
    }

    /// The key that is in it.
    pub(super) const fn key(self) -> u8 {
        let [_, key] = self.urgent.to_be_bytes();
        key
    }
}

impl Response {
    const KEY_AT: u32 = 32;
    const URGENT: u64 = 1 << 40;
    const PREFETCH_BIT: u64 = 1 << 41;
    /// Two bits of framing, and two of the master index' format.
    const FRAMING_AT: u32 = 42;
    const MASTER_AT: u32 = 44;
    /// The byte that counts how often the response was broken off.
    const TIMES_AT: u32 = 48;

    /// The answer to a request for `id` in `class`, XORed with `key`, to a client of build 550.
    #[inline]
    #[must_use]
    pub const fn new(id: GroupId, class: Class, prefetch_bit: bool, key: u8) -> Self {
        let class = match class {
            Class::Urgent => Self::URGENT,
            Class::Prefetch => 0,
        };
        let bit = if prefetch_bit { Self::PREFETCH_BIT } else { 0 };
        let word = id.to_word() as u64 | (key as u64) << Self::KEY_AT;
        Self(word | class | bit).in_dialect(Dialect::BUILD_550)
    }

    /// The answer to a request of this word: see [`GroupId::to_word`].
    #[inline]
    pub(super) const fn stamped(word: u32, class: Class, stamp: Stamp) -> Self {
        let stamp = match class {
            Class::Urgent => stamp.urgent,
            Class::Prefetch => stamp.prefetch,
        };
        Self(word as u64 | (stamp as u64) << Self::KEY_AT)
    }

    /// The same in another dialect.
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

    /// The same, of a request whose response was broken off so often.
    #[inline]
    #[must_use]
    pub const fn broken_off(self, times: u8) -> Self {
        Self(self.0 | (times as u64) << Self::TIMES_AT)
    }

    /// How often the response to this request has been broken off.
    #[inline]
    #[must_use]
    pub const fn times_broken_off(self) -> u8 {
        let [_, times, ..] = self.0.to_be_bytes();
        times
    }

    /// The group asked for.
    #[inline]
    #[must_use]
    pub const fn id(self) -> GroupId {
        let [.., a, b, c, d] = self.0.to_be_bytes();
        GroupId::from_word(u32::from_be_bytes([a, b, c, d]))
    }

    /// XORed with every byte; 0 is none. Holds for the whole response.
    #[inline]
    #[must_use]
    pub const fn key(self) -> u8 {
        let [_, _, _, key, ..] = self.0.to_be_bytes();
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
                        let stamp = Stamp::new(dialect, bit || class == Class::Urgent, key);
                        assert_eq!(Response::stamped(id.to_word(), class, stamp), response);
                    }
                }
            }
        }
    }
}
