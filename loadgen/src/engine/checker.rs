//! A client's end of the protocol: writes requests, and matches, times and verifies responses.
//!
//! The session always checks framing, markers and matching. This file compares the checksum of
//! one container in N with the archive index, or every byte with a local cache. A wrong body does
//! not end a connection: its framing is right, so the next response can be checked too.

use super::faults::{Token, Wrong};
use super::tally::Tally;
use crate::catalogue::Catalogue;
use crate::speech::Speech;
use js5d::protocol::client::{Answered, Fault, Head, ResponseSink};
use js5d::protocol::frame::Framing;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, ClientSession, GroupId, Status};
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
    /// From where in its container on a response of `wire_bytes`, which is no length of ours, may
    /// differ for a client that reads no further; `None` if it reads all.
    fn free_from(&self, id: GroupId, wire_bytes: usize) -> Option<usize>;
}

/// How a container is verified.
#[derive(Debug)]
enum Depth {
    Framing,
    Crc(crc32fast::Hasher, u32),
    Bytes(Comparison),
}

/// A container that is being compared, and how far.
#[derive(Clone, Copy, Debug, Default)]
struct Comparison {
    offset: usize,
    wrong_at: Option<usize>,
    /// Of another length than ours, and free to differ from this place on: a master index.
    free_from: Option<usize>,
}

/// A response that has begun.
#[derive(Debug)]
struct Running {
    head: Head,
    depth: Depth,
}

/// How many answers a client remembers, to tell a second answer from one never asked for.
const RECENT: usize = 64;

/// The contents of one piece of input.
#[derive(Debug)]
pub(crate) struct Received {
    /// The status, if it is in this piece.
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
    speech: Arc<Speech>,
    session: ClientSession<Token>,
    check: Check,
}

impl Checker {
    /// Of client number `client`, which has sent nothing.
    pub(crate) fn new(client: u32, speech: &Arc<Speech>) -> Self {
        let (speech, session) = (Arc::clone(speech), speech.session());
        Self { client, speech, session, check: Check::default() }
    }

    /// A new connection.
    pub(crate) fn renew(&mut self) {
        self.session = self.speech.session();
        self.check = Check::default();
    }

    /// How this client speaks.
    pub(crate) fn speech(&self) -> &Speech {
        &self.speech
    }

    /// Appends the handshake.
    pub(crate) fn handshake(&mut self, out: &mut Vec<u8>) {
        self.speech.handshake(&mut self.session, out);
    }

    /// Appends a message, and keeps no account of it.
    pub(crate) fn send(&self, message: Message, out: &mut Vec<u8>) {
        self.session.send(message, out);
    }

    /// Appends what the client says before it goes, if it is one that says something.
    pub(crate) fn say_goodbye(&self, out: &mut Vec<u8>) {
        self.session.say_goodbye(out);
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
        let Self { client, session, check, speech } = self;
        let framing = speech.profile.framing;
        let mut sink = Sink { books, check, framing, client: *client, status: None, answers: 0 };
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
#[derive(Debug, Default)]
struct Check {
    /// The response that is coming in, ...
    current: Option<Running>,
    /// ... and those of which blocks of others have come between, the last one at the end.
    suspended: Vec<Running>,
    /// Responses until the next one that is summed.
    until_crc: u32,
    recent: Vec<GroupId>,
    recent_at: usize,
    /// When the latest answered request of each class was written.
    answered_written_ns: [u64; 2],
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
    framing: Framing,
    client: u32,
    status: Option<Status>,
    answers: u32,
}

impl ResponseSink<Token> for Sink<'_> {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, head: &Head) -> bool {
        let depth = self.depth(head);
        let is_wanted = !matches!(depth, Depth::Framing);
        self.check.suspended.extend(self.check.current.take());
        self.check.current = Some(Running { head: *head, depth });
        is_wanted
    }

    fn data(&mut self, bytes: &[u8]) {
        let Some(Running { head, depth }) = &mut self.check.current else { return };
        match depth {
            Depth::Framing => {}
            Depth::Crc(hasher, _) => hasher.update(bytes),
            Depth::Bytes(comparison) => {
                // The session's pieces never cross a block's edge.
                let expected = self.books.verify.framed(head.id);
                let at = self.framing.wire_offset(comparison.offset);
                let same = expected.and_then(|framed| framed.get(at..at + bytes.len()));
                if same != Some(bytes) && comparison.wrong_at.is_none() {
                    let found = comparison.first_wrong(bytes, expected, self.framing);
                    comparison.wrong_at = found;
                }
                comparison.offset += bytes.len();
            }
        }
    }

    fn resume(&mut self, answered: &Answered<Token>) {
        let check = &mut *self.check;
        check.suspended.extend(check.current.take());
        // As in the session: if two look alike, the later one goes on.
        let place = check.suspended.iter().rposition(|running| running.head == answered.head);
        check.current = place.map(|place| check.suspended.remove(place));
    }

    fn broken_off(&mut self, _: Answered<Token>) {
        self.check.current = None;
    }

    fn end(&mut self, answered: Answered<Token>) {
        let Answered { class, head, token } = answered;
        let wire_bytes = self.framing.framed_len(head.container_len as usize);
        match self.check.current.take().map_or(Depth::Framing, |running| running.depth) {
            Depth::Framing => {}
            Depth::Crc(hasher, checksum) => {
                self.books.tally.recorder.checked(1, 0);
                if hasher.finalize() != checksum {
                    self.books.tally.wrong(self.client, &Wrong::Checksum { id: head.id });
                }
            }
            Depth::Bytes(comparison) => self.end_compared(head.id, comparison, wire_bytes),
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
    /// How deep a response is verified that begins.
    fn depth(&mut self, head: &Head) -> Depth {
        let verify = self.books.verify;
        if let Some(cache) = &verify.cache {
            let wire_bytes = self.framing.framed_len(head.container_len as usize);
            let free_from = cache.free_from(head.id, wire_bytes);
            return Depth::Bytes(Comparison { free_from, ..Comparison::default() });
        }
        if verify.crc_every == 0 {
            return Depth::Framing;
        }
        if self.check.until_crc > 0 {
            self.check.until_crc -= 1;
            return Depth::Framing;
        }
        match self.books.catalogue.checksum(head.id) {
            Some(checksum) => {
                self.check.until_crc = verify.crc_every - 1;
                Depth::Crc(crc32fast::Hasher::new(), checksum)
            }
            None => Depth::Framing,
        }
    }

    fn end_compared(&mut self, id: GroupId, comparison: Comparison, wire_bytes: usize) {
        self.books.tally.recorder.checked(0, 1);
        let expected = self.books.verify.framed(id);
        let wrong = match (expected, comparison.wrong_at) {
            (None, _) => Some(Wrong::NotInCache { id }),
            (Some(_), Some(offset)) => Some(Wrong::Byte { id, offset }),
            (Some(framed), None)
                if framed.len() != wire_bytes && comparison.free_from.is_none() =>
            {
                Some(Wrong::Length { id, expected: framed.len(), found: wire_bytes })
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.books.tally.wrong(self.client, &wrong);
        }
    }
}

impl Comparison {
    /// Where the container is wrong, of which `bytes` come next and are not as expected.
    fn first_wrong(self, bytes: &[u8], expected: Option<&[u8]>, framing: Framing) -> Option<usize> {
        let Some(free_from) = self.free_from else { return Some(self.offset) };
        // The container's length goes with what is free.
        let is_free = |offset: usize| (1..5).contains(&offset) || offset >= free_from;
        (self.offset..).zip(bytes).find_map(|(offset, byte)| {
            let wanted = expected.and_then(|framed| framed.get(framing.wire_offset(offset)));
            (wanted != Some(byte) && !is_free(offset)).then_some(offset)
        })
    }
}

/// Urgent 0, prefetch 1.
pub(crate) fn class_index(class: Class) -> usize {
    match class {
        Class::Urgent => 0,
        Class::Prefetch => 1,
    }
}
