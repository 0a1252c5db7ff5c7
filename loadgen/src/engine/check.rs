//! The receiving end: each response is matched, timed and, as deep as asked for, compared.
//!
//! Framing, markers and matching are the session's and hold always. Here one container in N is
//! summed and compared with the archive index, or every byte with a local cache. A wrong body
//! does not end a connection: its framing was right, and the next response counts.

use super::tally::{Tally, Wrong};
use crate::catalogue::Catalogue;
use js5d::protocol::client::{Answered, Head, ResponseSink};
use js5d::protocol::frame::{framed_len, wire_offset};
use js5d::protocol::{Class, GroupId, MASTER_INDEX, Status};
use std::sync::Arc;

/// When a request should have been sent and when it was, on the run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) intended_ns: u64,
    pub(crate) written_ns: u64,
}

/// How deep responses are verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verify {
    /// One container in so many is summed; 0 is none.
    pub(crate) crc_every: u32,
    /// What each response must be, byte by byte.
    pub(crate) cache: Option<Arc<dyn Expected>>,
}

/// Knows what responses must be.
pub(crate) trait Expected: std::fmt::Debug + Send + Sync {
    /// The framed, unkeyed, urgent response; `None` if there is none.
    fn framed(&self, id: GroupId) -> Option<&[u8]>;
}

/// How the current container is verified.
#[derive(Debug, Default)]
enum Depth {
    #[default]
    Framing,
    Crc(crc32fast::Hasher, u32),
    Bytes,
}

/// How many answers a client remembers, to tell one that came twice from one never asked for.
const RECENT: usize = 64;

/// A client's state of verification.
#[derive(Debug)]
pub(crate) struct Check {
    depth: Depth,
    /// Responses until the next one that is summed.
    until_crc: u32,
    /// The group that is being compared, and how far.
    id: GroupId,
    offset: usize,
    wrong_at: Option<usize>,
    recent: Vec<GroupId>,
    recent_at: usize,
    /// When the latest answered request of each class was written.
    pub(crate) answered_written_ns: [u64; 2],
}

impl Default for Check {
    fn default() -> Self {
        Self {
            depth: Depth::Framing,
            until_crc: 0,
            id: MASTER_INDEX,
            offset: 0,
            wrong_at: None,
            recent: Vec::new(),
            recent_at: 0,
            answered_written_ns: [0; 2],
        }
    }
}

impl Check {
    /// Whether an answer for this group has come lately.
    pub(crate) fn has_come(&self, id: GroupId) -> bool {
        self.recent.contains(&id)
    }

    fn remember(&mut self, id: GroupId) {
        if self.recent.len() < RECENT {
            self.recent.push(id);
        } else {
            self.recent[self.recent_at] = id;
            self.recent_at = (self.recent_at + 1) % RECENT;
        }
    }
}

/// The sink of one piece of input.
pub(crate) struct Sink<'a> {
    pub(crate) tally: &'a mut Tally,
    pub(crate) verify: &'a Verify,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) check: &'a mut Check,
    pub(crate) client: u32,
    /// Whether its responses count, as those of hostile clients do not.
    pub(crate) is_measured: bool,
    pub(crate) now_ns: u64,
    pub(crate) status: Option<Status>,
    /// Responses that were completed.
    pub(crate) answers: u32,
}

impl ResponseSink<Token> for Sink<'_> {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, head: &Head) -> bool {
        let check = &mut *self.check;
        check.depth = Depth::Framing;
        if self.verify.cache.is_some() {
            (check.id, check.offset, check.wrong_at) = (head.id, 0, None);
            check.depth = Depth::Bytes;
            return true;
        }
        if self.verify.crc_every == 0 {
            return false;
        }
        if check.until_crc > 0 {
            check.until_crc -= 1;
            return false;
        }
        let Some(checksum) = self.catalogue.checksum(head.id) else { return false };
        check.until_crc = self.verify.crc_every - 1;
        check.depth = Depth::Crc(crc32fast::Hasher::new(), checksum);
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        let check = &mut *self.check;
        match &mut check.depth {
            Depth::Framing => {}
            Depth::Crc(hasher, _) => hasher.update(bytes),
            Depth::Bytes => {
                // The session's pieces never cross a block's edge.
                let expected = self.verify.framed(check.id);
                let at = wire_offset(check.offset);
                let same = expected.and_then(|framed| framed.get(at..at + bytes.len()));
                if same != Some(bytes) && check.wrong_at.is_none() {
                    check.wrong_at = Some(check.offset);
                }
                check.offset += bytes.len();
            }
        }
    }

    fn end(&mut self, answered: Answered<Token>) {
        let Answered { class, head, token } = answered;
        let wire_bytes = framed_len(head.container_len as usize);
        match std::mem::take(&mut self.check.depth) {
            Depth::Framing => {}
            Depth::Crc(hasher, checksum) => {
                self.tally.checked_by_crc();
                if hasher.finalize() != checksum {
                    self.tally.wrong(self.client, &Wrong::Checksum { id: head.id });
                }
            }
            Depth::Bytes => self.end_compared(head.id, wire_bytes),
        }
        if self.is_measured {
            self.tally.response(class, &token, self.now_ns, wire_bytes as u64);
        }
        self.check.remember(head.id);
        let written = &mut self.check.answered_written_ns[class_index(class)];
        *written = (*written).max(token.written_ns);
        self.answers += 1;
    }
}

impl Sink<'_> {
    fn end_compared(&mut self, id: GroupId, wire_bytes: usize) {
        self.tally.compared();
        let expected = self.verify.framed(id);
        let wrong = match (expected, self.check.wrong_at) {
            (None, _) => Some(Wrong::NotInCache { id }),
            (Some(_), Some(offset)) => Some(Wrong::Byte { id, offset }),
            (Some(framed), None) if framed.len() != wire_bytes => {
                Some(Wrong::Length { id, expected: framed.len(), found: wire_bytes })
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.tally.wrong(self.client, &wrong);
        }
    }
}

impl Verify {
    fn framed(&self, id: GroupId) -> Option<&[u8]> {
        self.cache.as_ref()?.framed(id)
    }
}

/// Urgent 0, prefetch 1.
pub(crate) fn class_index(class: Class) -> usize {
    match class {
        Class::Urgent => 0,
        Class::Prefetch => 1,
    }
}
