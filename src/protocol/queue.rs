//! Requests that wait: a bounded queue for each class.

use super::request::Opcodes;
use super::response::{Response, Stamp};
use super::{Class, GroupId};
use std::collections::VecDeque;

/// The queues of a session.
#[derive(Debug, Default)]
pub struct Queues {
    urgent: RequestQueue,
    prefetch: RequestQueue,
    /// How often the response to the first prefetch request was broken off. No other was: one is
    /// under way at a time, and comes back to where it was.
    times_broken_off: u8,
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

    /// Takes the oldest urgent request, or the oldest prefetch if none is urgent, and says how it
    /// is to be answered, stamped so.
    #[inline]
    pub(super) fn pop(&mut self, stamp: Stamp) -> Option<Response> {
        if let Some(request) = self.urgent.requests.pop_front() {
            return Some(Response::stamped(request, Class::Urgent, stamp));
        }
        let request = self.prefetch.requests.pop_front()?;
        let response = Response::stamped(request, Class::Prefetch, stamp);
        if self.times_broken_off == 0 {
            return Some(response);
        }
        Some(response.broken_off(std::mem::take(&mut self.times_broken_off)))
    }

    /// All requests, in the order in which they will be taken if no more are pushed.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = GroupId> {
        self.urgent
            .requests
            .iter()
            .chain(&self.prefetch.requests)
            .map(|&request| GroupId::from_word(request))
    }

    /// Puts a prefetch request before all others, with how often its response was broken off.
    pub fn put_back(&mut self, id: GroupId, times_broken_off: u8) {
        debug_assert_eq!(self.times_broken_off, 0, "one response is under way, and was the first");
        self.prefetch.requests.push_front(id.to_word());
        self.times_broken_off = times_broken_off;
    }

    /// Moves the first urgent request that is `fit` before the other urgent ones. False if there
    /// is none.
    pub fn bring_forward(&mut self, fit: impl Fn(GroupId) -> bool) -> bool {
        let requests = &mut self.urgent.requests;
        let Some(at) = requests.iter().position(|&request| fit(GroupId::from_word(request))) else {
            return false;
        };
        if at > 0
            && let Some(request) = requests.remove(at)
        {
            requests.push_front(request);
        }
        true
    }

    /// How many requests wait, urgent and prefetch.
    #[inline]
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.urgent.len(), self.prefetch.len())
    }

    /// How many of them wait whose response has never begun, urgent and prefetch: all but one that
    /// was broken off.
    #[inline]
    #[must_use]
    pub(super) fn unbegun(&self) -> (usize, usize) {
        let (urgent, prefetch) = self.len();
        (urgent, prefetch.saturating_sub(usize::from(self.times_broken_off > 0)))
    }

    /// Drops all requests, and what memory the queues have beyond `len_kept` places each. They
    /// begin at the beginning of their memory again: the next requests stand where the core's
    /// cache has it.
    pub fn clear(&mut self, len_kept: usize) {
        self.times_broken_off = 0;
        for queue in [&mut self.urgent, &mut self.prefetch] {
            queue.requests.clear();
            queue.requests.shrink_to(len_kept);
        }
    }
}

/// Requests in the order of their arrival. Full is back-pressure, never an error: the session
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
