//! A bounded queue of requests of one class.

use super::GroupId;
use std::collections::VecDeque;

/// Requests in the order in which they came. Full is back-pressure, never an error: the session
/// stops parsing and the connection stops reading.
#[derive(Debug, Default)]
pub struct RequestQueue {
    /// Grows to what the peer really keeps in flight, at most `len_max`. One word a request: a
    /// struct of a byte and a half-word is written and read in pieces, which costs 10 ns a
    /// request in stalled loads.
    requests: VecDeque<u32>,
}

impl RequestQueue {
    /// Appends a request, unless `len_max` are there already.
    #[inline]
    #[must_use]
    pub fn push(&mut self, id: GroupId, len_max: usize) -> bool {
        let room = self.requests.len() < len_max;
        if room {
            self.requests.push_back(u32::from(id.archive) << 16 | u32::from(id.group));
        }
        room
    }

    /// Takes the oldest request.
    #[inline]
    pub fn pop(&mut self) -> Option<GroupId> {
        self.requests.pop_front().map(unpack)
    }

    /// The request that has `before` others before it.
    #[inline]
    #[must_use]
    pub fn peek(&self, before: usize) -> Option<GroupId> {
        self.requests.get(before).copied().map(unpack)
    }

    /// How many requests wait.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether none waits.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Drops all requests and gives most of the memory back.
    pub fn clear(&mut self) {
        self.requests = VecDeque::new();
    }

    /// Gives back what a burst above `len_kept` places left behind.
    pub fn shrink(&mut self, len_kept: usize) {
        self.requests.shrink_to(len_kept);
    }
}

#[inline]
fn unpack(request: u32) -> GroupId {
    let [_, archive, high, low] = request.to_be_bytes();
    GroupId { archive, group: u16::from_be_bytes([high, low]) }
}
