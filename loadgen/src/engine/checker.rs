//! A client's end of the protocol: requests out, and each response matched, timed and, as deep as
//! asked for, compared.
//!
//! Framing, markers and matching are the session's and hold always. Here one container in N is
//! summed and compared with the archive index, or every byte with a local cache. A wrong body
//! does not end a connection: its framing was right, and the next response counts.

use super::faults::{Token, Wrong};
use super::tally::Tally;
use crate::catalogue::Catalogue;
use js5d::protocol::client::{Answered, Fault, Head, Matching, ResponseSink};
use js5d::protocol::frame::{framed_len, wire_offset};
use js5d::protocol::{Class, ClientSession, GroupId, MASTER_INDEX, Status};
use std::sync::Arc;

/// How deep responses are verified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verify {
    /// One container in so many is summed; 0 is none.
    pub(crate) crc_every: u32,
    /// What each response must be, byte by byte.
    pub(crate) cache: Option<Arc<dyn Expected>>,
}

impl Verify {
    fn framed(&self, id: GroupId) -> Option<&[u8]> {
        self.cache.as_ref()?.framed(id)
    }
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

/// What one piece of input brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// The status, if it came with this piece.
    pub(crate) status: Option<Status>,
    /// Responses that were completed.
    pub(crate) answers: u32,
    /// What ends the connection, if something does.
    pub(crate) fault: Option<Wrong>,
}

/// Where what comes is written down, and what it is compared with.
pub(crate) struct Books<'a> {
    pub(crate) tally: &'a mut Tally,
    pub(crate) verify: &'a Verify,
    pub(crate) catalogue: &'a Catalogue,
    /// Whether its responses count, as those of hostile clients do not.
    pub(crate) is_measured: bool,
    pub(crate) now_ns: u64,
}

/// A client's session, and its state of verification.
#[derive(Debug)]
pub(crate) struct Checker {
    client: u32,
    matching: Matching,
    session: ClientSession<Token>,
    check: Check,
}

impl Checker {
    /// Of client number `client`, which has sent nothing.
    pub(crate) fn new(client: u32, matching: Matching) -> Self {
        Self { client, matching, session: ClientSession::new(matching), check: Check::default() }
    }

    /// A new connection.
    pub(crate) fn renew(&mut self) {
        self.session = ClientSession::new(self.matching);
        self.check = Check::default();
    }

    /// Appends the handshake.
    pub(crate) fn handshake(&mut self, build: u32, out: &mut Vec<u8>) {
        self.session.handshake(build, out);
    }

    /// Appends what the real client says after the status.
    pub(crate) fn greet(&mut self, logged_in: bool, key: u8, out: &mut Vec<u8>) {
        self.session.greet(logged_in, key, out);
    }

    /// Appends a rekey.
    pub(crate) fn rekey(&mut self, key: u8, out: &mut Vec<u8>) {
        self.session.rekey(key, out);
    }

    /// Appends a request.
    pub(crate) fn request(&mut self, class: Class, id: GroupId, token: Token, out: &mut Vec<u8>) {
        self.session.request(class, id, token, out);
    }

    /// Requests of a class without an answer; one whose answer is coming in counts no more.
    pub(crate) fn outstanding_len(&self, class: Class) -> usize {
        self.session.outstanding_len(class)
    }

    /// All requests without an answer.
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (Class, GroupId, Token)> {
        self.session.outstanding()
    }

    /// Whether nothing is to come.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.outstanding_len(Class::Urgent) == 0
            && self.outstanding_len(Class::Prefetch) == 0
            && !self.session.is_mid_response()
    }

    /// Whether the status has come on this connection.
    pub(crate) fn has_status(&self) -> bool {
        self.session.status().is_some()
    }

    /// Whether any request was answered on this connection.
    pub(crate) fn has_answered(&self) -> bool {
        self.check.answered_written_ns != [0; 2]
    }

    /// Requests that were written long before another of their class that has been answered:
    /// these are not slow, but lost.
    pub(crate) fn missing(&self, stall_timeout_ns: u64) -> impl Iterator<Item = Wrong> {
        let answered_ns = self.check.answered_written_ns;
        self.outstanding().filter_map(move |(class, id, token)| {
            let is_lost = token.written_ns + stall_timeout_ns < answered_ns[class_index(class)];
            is_lost.then_some(Wrong::Missing { class, id })
        })
    }

    /// Takes in what the server sent.
    pub(crate) fn receive(&mut self, bytes: &[u8], books: Books<'_>) -> Received {
        let Self { client, session, check, .. } = self;
        let mut sink = Sink { books, check, client: *client, status: None, answers: 0 };
        let result = session.receive(bytes, &mut sink);
        let Sink { status, answers, check, .. } = sink;
        let fault = result.err().map(|fault| match fault {
            Fault::Unasked { id } if check.has_come(id) => Wrong::Duplicate { id },
            other => Wrong::Fault(other),
        });
        Received { status, answers, fault }
    }
}

/// What is remembered for the verification.
#[derive(Debug)]
struct Check {
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
    answered_written_ns: [u64; 2],
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
    fn has_come(&self, id: GroupId) -> bool {
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
struct Sink<'a> {
    books: Books<'a>,
    check: &'a mut Check,
    client: u32,
    status: Option<Status>,
    answers: u32,
}

impl ResponseSink<Token> for Sink<'_> {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, head: &Head) -> bool {
        let check = &mut *self.check;
        check.depth = Depth::Framing;
        if self.books.verify.cache.is_some() {
            (check.id, check.offset, check.wrong_at) = (head.id, 0, None);
            check.depth = Depth::Bytes;
            return true;
        }
        if self.books.verify.crc_every == 0 {
            return false;
        }
        if check.until_crc > 0 {
            check.until_crc -= 1;
            return false;
        }
        let Some(checksum) = self.books.catalogue.checksum(head.id) else { return false };
        check.until_crc = self.books.verify.crc_every - 1;
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
                let expected = self.books.verify.framed(check.id);
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
                self.books.tally.checked_by_crc();
                if hasher.finalize() != checksum {
                    self.books.tally.wrong(self.client, &Wrong::Checksum { id: head.id });
                }
            }
            Depth::Bytes => self.end_compared(head.id, wire_bytes),
        }
        if self.books.is_measured {
            self.books.tally.response(class, &token, self.books.now_ns, wire_bytes as u64);
        }
        self.check.remember(head.id);
        let written = &mut self.check.answered_written_ns[class_index(class)];
        *written = (*written).max(token.written_ns);
        self.answers += 1;
    }
}

impl Sink<'_> {
    fn end_compared(&mut self, id: GroupId, wire_bytes: usize) {
        self.books.tally.compared();
        let expected = self.books.verify.framed(id);
        let wrong = match (expected, self.check.wrong_at) {
            (None, _) => Some(Wrong::NotInCache { id }),
            (Some(_), Some(offset)) => Some(Wrong::Byte { id, offset }),
            (Some(framed), None) if framed.len() != wire_bytes => {
                Some(Wrong::Length { id, expected: framed.len(), found: wire_bytes })
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.books.tally.wrong(self.client, &wrong);
        }
    }
}

/// Urgent 0, prefetch 1.
pub(crate) fn class_index(class: Class) -> usize {
    match class {
        Class::Urgent => 0,
        Class::Prefetch => 1,
    }
}
