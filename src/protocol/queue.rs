//! Requests that wait: a bounded queue for each class.

use super::request::Opcodes;
use super::{Class, GroupId};
use std::collections::VecDeque;

/// The queues of a session.
#[derive(Debug, Default)]
pub struct Queues {
    urgent: RequestQueue,
    prefetch: RequestQueue,
}

impl Queues {
    /// Appends a request to its queue, unless `len_max` are there already.
    #[inline]
    #[must_use]
    pub fn push(&mut self, class: Class, id: GroupId, len_max: usize) -> bool {
        match class {
            Class::Urgent => self.urgent.push(id, len_max),
            Class::Prefetch => self.prefetch.push(id, len_max),
        }
    }

    /// Appends the requests that `messages` begin with, until another message comes, one that is
    /// none of `opcodes`, or `len_max` of a class wait. Says how many of each.
    #[inline]
    #[must_use]
    pub fn push_all<const LEN: usize>(
        &mut self,
        messages: &[[u8; LEN]],
        opcodes: Opcodes,
        len_max: usize,
    ) -> (usize, usize) {
        let before = self.len();
        for message in messages {
            let Some((opcode, request)) = word(message) else { break };
            let queue = match opcode {
                0 => &mut self.prefetch.requests,
                1 => &mut self.urgent.requests,
                32 if LEN > 4 && opcodes.has(32) => &mut self.prefetch.requests,
                33 if LEN > 4 && opcodes.has(33) => &mut self.urgent.requests,
                _ => break,
            };
            if queue.len() >= len_max {
                break;
            }
            queue.push_back(request);
        }
        let after = self.len();
        (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
    }

    /// Takes the oldest urgent request, or the oldest prefetch if none is urgent: as
    /// [`GroupId::to_word`] has it.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(Class, u32)> {
        if let Some(request) = self.urgent.pop() {
            return Some((Class::Urgent, request));
        }
        self.prefetch.pop().map(|request| (Class::Prefetch, request))
    }

    /// The request that has `before` others before it, if no more are pushed.
    #[inline]
    #[must_use]
    pub fn peek(&self, before: usize) -> Option<GroupId> {
        match before.checked_sub(self.urgent.len()) {
            None => self.urgent.peek(before),
            Some(before) => self.prefetch.peek(before),
        }
    }

    /// How many requests wait, urgent and prefetch.
    #[inline]
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.urgent.len(), self.prefetch.len())
    }

    /// Drops all requests, and what memory the queues have beyond `len_kept` places each. They
    /// begin at the beginning of their memory again: the next requests stand where the core's
    /// cache has it.
    pub fn clear(&mut self, len_kept: usize) {
        for queue in [&mut self.urgent, &mut self.prefetch] {
            queue.requests.clear();
            queue.requests.shrink_to(len_kept);
        }
    }
}

/// Requests in the order in which they came. Full is back-pressure, never an error: the session
/// stops parsing and the connection stops reading.
#[derive(Debug, Default)]
struct RequestQueue {
    /// Grows to what the peer really keeps in flight, at most `len_max`. One word a request: a
    /// struct of a byte and a half-word is written and read in pieces, which costs 10 ns a
    /// request in stalled loads.
    requests: VecDeque<u32>,
}

impl RequestQueue {
    #[inline]
    fn push(&mut self, id: GroupId, len_max: usize) -> bool {
        let room = self.requests.len() < len_max;
        if room {
            self.requests.push_back(id.to_word());
        }
        room
    }

    #[inline]
    fn pop(&mut self) -> Option<u32> {
        self.requests.pop_front()
    }

    #[inline]
    fn peek(&self, before: usize) -> Option<GroupId> {
        self.requests.get(before).copied().map(GroupId::from_word)
    }

    #[inline]
    fn len(&self) -> usize {
        self.requests.len()
    }
}

/// The opcode of a message, and the request as it waits; none if it is shorter than any.
#[inline]
fn word<const LEN: usize>(message: &[u8; LEN]) -> Option<(u32, u32)> {
    if LEN == 4 {
        let word = u32::from_be_bytes(*message.first_chunk()?);
        return Some((word >> 24, word << 8 & 0xFF00_0000 | word & 0xFFFF));
    }
    let [opcode, archive, a, b, c, d] = *message.first_chunk()?;
    let id = GroupId { archive, group: u32::from_be_bytes([a, b, c, d]) };
    Some((opcode.into(), id.to_word()))
}
