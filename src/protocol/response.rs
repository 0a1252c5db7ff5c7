//! What a session has decided to send, in one word.

use super::{Class, GroupId};

/// A response to send: the group, and what is applied to its framed bytes.
///
/// One word, because a struct of bytes and half-words travels through memory in pieces, which
/// costs 5 ns a response in stalled loads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Response(u64);

impl Response {
    const URGENT: u64 = 1 << 32;
    const PREFETCH_BIT: u64 = 1 << 33;
    /// The byte that counts how often the response was broken off.
    const TIMES_SHIFT: u32 = 40;

    /// The answer to a request for `id` in `class`, XORed with `key`.
    #[inline]
    #[must_use]
    pub const fn new(id: GroupId, class: Class, prefetch_bit: bool, key: u8) -> Self {
        let class = match class {
            Class::Urgent => Self::URGENT,
            Class::Prefetch => 0,
        };
        let bit = if prefetch_bit { Self::PREFETCH_BIT } else { 0 };
        let id = (id.archive as u64) << 16 | id.group as u64;
        Self(id | (key as u64) << 24 | class | bit)
    }

    /// The same, of a request whose response was broken off so often.
    #[inline]
    #[must_use]
    pub const fn broken_off(self, times: u8) -> Self {
        Self(self.0 | (times as u64) << Self::TIMES_SHIFT)
    }

    /// How often the response to this request has been broken off.
    #[inline]
    #[must_use]
    pub const fn times_broken_off(self) -> u8 {
        let [_, _, times, ..] = self.0.to_be_bytes();
        times
    }

    /// The group asked for.
    #[inline]
    #[must_use]
    pub const fn id(self) -> GroupId {
        let [_, _, _, _, _, archive, high, low] = self.0.to_be_bytes();
        GroupId { archive, group: u16::from_be_bytes([high, low]) }
    }

    /// XORed with every byte; 0 is none. Holds for the whole response.
    #[inline]
    #[must_use]
    pub const fn key(self) -> u8 {
        let [.., key, _, _, _] = self.0.to_be_bytes();
        key
    }

    /// The class asked for.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Class {
        if self.0 & Self::URGENT != 0 { Class::Urgent } else { Class::Prefetch }
    }

    /// Whether the compression byte carries the prefetch bit.
    #[inline]
    #[must_use]
    pub const fn prefetch_bit(self) -> bool {
        self.0 & Self::PREFETCH_BIT != 0
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (class, key) = (self.class(), self.key());
        write!(f, "Response({} {class:?}, bit {}, key {key})", self.id(), self.prefetch_bit())
    }
}
