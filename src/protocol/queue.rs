//! Requests that wait: a bounded queue for each class.

use super::request::MESSAGE_LEN;
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

    /// Appends the requests that `messages` begin with, until another message comes or `len_max`
    /// of a class wait. Says how many of each.
    #[inline]
    #[must_use]
    pub fn push_all(&mut self, messages: &[[u8; MESSAGE_LEN]], len_max: usize) -> (usize, usize) {
        let before = self.len();
        for &message in messages {
            // The opcode, and then the request as it is queued.
            let word = u32::from_be_bytes(message);
            let queue = match word >> 24 {
                0 => &mut self.prefetch.requests,
                1 => &mut self.urgent.requests,
                _ => break,
            };
            if queue.len() >= len_max {
                break;
            }
            queue.push_back(word & 0x00FF_FFFF);
        }
        let after = self.len();
        (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
    }

    /// Takes the oldest urgent request, or the oldest prefetch if none is urgent; with how often
    /// its response was broken off.
    #[inline]
    pub fn pop(&mut self) -> Option<(Class, GroupId, u8)> {
        if let Some(request) = self.urgent.requests.pop_front() {
            return Some((Class::Urgent, unpack(request), 0));
        }
        let request = self.prefetch.requests.pop_front()?;
        let [times, ..] = request.to_be_bytes();
        Some((Class::Prefetch, unpack(request), times))
    }

    /// All requests, in the order in which they will be taken if no more are pushed.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = GroupId> {
        self.urgent.requests.iter().chain(&self.prefetch.requests).map(|&request| unpack(request))
    }

    /// Puts a prefetch request before all others, with how often its response was broken off.
    pub fn put_back(&mut self, id: GroupId, times_broken_off: u8) {
        let request = pack(id) | u32::from(times_broken_off) << TIMES_SHIFT;
        self.prefetch.requests.push_front(request);
    }

    /// Moves the first urgent request that is `fit` before the other urgent ones. False if there
    /// is none.
    pub fn bring_forward(&mut self, fit: impl Fn(GroupId) -> bool) -> bool {
        let requests = &mut self.urgent.requests;
        let Some(at) = requests.iter().position(|&request| fit(unpack(request))) else {
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
            self.requests.push_back(pack(id));
        }
        room
    }

    #[inline]
    fn len(&self) -> usize {
        self.requests.len()
    }
}

/// How often a response was broken off stands in the highest byte.
const TIMES_SHIFT: u32 = 24;

#[inline]
fn pack(id: GroupId) -> u32 {
    u32::from(id.archive) << 16 | u32::from(id.group)
}

#[inline]
fn unpack(request: u32) -> GroupId {
    let [_, archive, high, low] = request.to_be_bytes();
    GroupId { archive, group: u16::from_be_bytes([high, low]) }
}
