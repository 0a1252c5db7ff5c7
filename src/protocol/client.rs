//! The client's side of one connection, as pure state: requests out, responses matched.
//!
//! As strict as the build 550 client: each response must answer a request of its class, every
//! marker must be in place, nothing may come that was not asked for. The framing is checked
//! while scanning; a container's bytes are looked at only if the [`ResponseSink`] wants them.
//!
//! A response may be *broken off*: where a marker is due, another byte begins the response to an
//! urgent request, and the request of the one that was broken off stays outstanding.
//!
//! The surprise is how a key is found: a container that a store can hold is shorter than 16 MiB,
//! so the top byte of its length is 0 and, keyed, shows the key itself. A response is accepted
//! under the current key or one that was asked for since.

pub use super::fault::Fault;
use super::frame::{BLOCK_LEN, BLOCK_MARKER, PREFETCH_BIT};
use super::handshake::{Status, handshake};
use super::request::Message;
use super::{Class, GroupId};
use std::collections::VecDeque;

/// Header and the container's first five bytes: what must be seen to know a response's length.
const HEAD_LEN: usize = 8;

/// A response as its first eight bytes describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The group.
    pub id: GroupId,
    /// Whether the compression byte carries the prefetch bit.
    pub prefetch_bit: bool,
    /// The compression byte without the prefetch bit.
    pub compression: u8,
    /// The container's own length, its header included.
    pub container_len: u32,
    /// The key under which it came.
    pub key: u8,
}

/// A response that has come whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// The class that was asked for.
    pub class: Class,
    /// How it began.
    pub head: Head,
    /// What the request was sent with.
    pub token: T,
}

/// Is told what comes.
pub trait ResponseSink<T> {
    /// The status byte.
    fn status(&mut self, status: Status);
    /// A response begins. True if its container's bytes are wanted in `data`.
    fn begin(&mut self, head: &Head) -> bool;
    /// The next bytes of the container, key removed, prefetch bit cleared.
    fn data(&mut self, bytes: &[u8]);
    /// The response is complete, and answers the request sent with its token.
    fn end(&mut self, answered: Answered<T>);
    /// What has come of this response is void: it was broken off for an urgent one, which begins
    /// next. Its request stays outstanding.
    fn broken_off(&mut self, broken: Answered<T>) {
        let _ = broken;
    }
}

/// Whether prefetch responses are told apart by the prefetch bit, as the build 550 client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// By (bit, archive, group).
    ByPrefetchBit,
    /// By (archive, group), urgent requests first: for servers and revisions without the bit.
    ByGroup,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding<T> {
    id: GroupId,
    token: T,
}

/// The response that is coming in.
#[derive(Clone, Copy, Debug)]
struct Incoming<T> {
    answered: Answered<T>,
    wanted: bool,
    /// Container bytes still to come.
    left: usize,
    /// Where in its block the next byte stands.
    at: usize,
    block: u32,
}

/// A byte where a marker was due: an urgent response begins with it, or it is wrong.
#[derive(Clone, Copy, Debug)]
struct InsteadOfMarker {
    id: GroupId,
    block: u32,
    found: u8,
}

impl InsteadOfMarker {
    fn fault(self) -> Fault {
        let Self { id, block, found } = self;
        Fault::WrongMarker { id, block, found }
    }
}

/// The client's side of one connection. `T` is a token of the caller's that comes back with the
/// answer.
#[derive(Debug)]
pub struct ClientSession<T> {
    matching: Matching,
    status: Option<Status>,
    urgent: VecDeque<Outstanding<T>>,
    prefetch: VecDeque<Outstanding<T>>,
    key: u8,
    /// Keys sent and not seen yet, oldest first.
    keys_pending: VecDeque<u8>,
    head: [u8; HEAD_LEN],
    head_len: usize,
    incoming: Option<Incoming<T>>,
    takes_break_offs: bool,
    /// Set between a response that was broken off and the first bytes of the next.
    instead_of_marker: Option<InsteadOfMarker>,
}

impl<T: Copy> ClientSession<T> {
    /// A session that has sent nothing.
    #[must_use]
    pub fn new(matching: Matching) -> Self {
        Self {
            matching,
            status: None,
            urgent: VecDeque::new(),
            prefetch: VecDeque::new(),
            key: 0,
            keys_pending: VecDeque::new(),
            head: [0; HEAD_LEN],
            head_len: 0,
            incoming: None,
            takes_break_offs: true,
            instead_of_marker: None,
        }
    }

    /// Takes a response that is broken off for a wrong marker, as clients do that do not know it.
    #[must_use]
    pub fn without_break_offs(mut self) -> Self {
        self.takes_break_offs = false;
        self
    }

    /// Appends the handshake.
    pub fn handshake(&mut self, build: u32, out: &mut Vec<u8>) {
        out.extend(handshake(build));
    }

    /// Appends what the real client sends right after OK: connected, its state, and its key if
    /// it has one.
    pub fn greet(&mut self, logged_in: bool, key: u8, out: &mut Vec<u8>) {
        out.extend(Message::Connected.to_bytes());
        out.extend(Message::LoggedIn(logged_in).to_bytes());
        if key != 0 {
            self.rekey(key, out);
        }
    }

    /// Appends a rekey.
    pub fn rekey(&mut self, key: u8, out: &mut Vec<u8>) {
        if self.keys_pending.back().copied().unwrap_or(self.key) != key {
            self.keys_pending.push_back(key);
        }
        out.extend(Message::Rekey(key).to_bytes());
    }

    /// Appends a request. How many may be outstanding is the caller's affair.
    pub fn request(&mut self, class: Class, id: GroupId, token: T, out: &mut Vec<u8>) {
        self.class_mut(class).push_back(Outstanding { id, token });
        out.extend(Message::Request(class, id).to_bytes());
    }

    /// Requests without an answer in a class; one whose answer is coming in counts no more.
    #[must_use]
    pub fn outstanding_len(&self, class: Class) -> usize {
        match class {
            Class::Urgent => self.urgent.len(),
            Class::Prefetch => self.prefetch.len(),
        }
    }

    /// All requests without an answer, the one coming in included, oldest first in each class.
    pub fn outstanding(&self) -> impl Iterator<Item = (Class, GroupId, T)> {
        let coming = self.incoming.iter().map(|incoming| {
            let answered = &incoming.answered;
            (answered.class, answered.head.id, answered.token)
        });
        let urgent = self.urgent.iter().map(|o| (Class::Urgent, o.id, o.token));
        coming.chain(urgent).chain(self.prefetch.iter().map(|o| (Class::Prefetch, o.id, o.token)))
    }

    /// The status byte, once it has come.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// Whether a response has begun and not ended.
    #[must_use]
    pub fn is_mid_response(&self) -> bool {
        self.incoming.is_some() || self.head_len > 0
    }

    /// Takes in bytes of the server.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn receive(&mut self, input: &[u8], sink: &mut impl ResponseSink<T>) -> Result<(), Fault> {
        let mut rest = input;
        if self.status.is_none() {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            let status = Status::from_byte(byte).ok_or(Fault::UnknownStatus(byte))?;
            self.status = Some(status);
            sink.status(status);
            rest = after;
        }
        if self.status != Some(Status::Ok) && !rest.is_empty() {
            return Err(Fault::AfterRefusal);
        }
        while !rest.is_empty() {
            rest = match self.incoming.take() {
                None => self.receive_head(rest, sink)?,
                Some(incoming) => self.receive_body(incoming, rest, sink)?,
            };
        }
        Ok(())
    }

    fn class_mut(&mut self, class: Class) -> &mut VecDeque<Outstanding<T>> {
        match class {
            Class::Urgent => &mut self.urgent,
            Class::Prefetch => &mut self.prefetch,
        }
    }

    fn receive_head<'a>(
        &mut self,
        input: &'a [u8],
        sink: &mut impl ResponseSink<T>,
    ) -> Result<&'a [u8], Fault> {
        let wanted = HEAD_LEN.saturating_sub(self.head_len);
        let (bytes, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
        let end = self.head_len.saturating_add(bytes.len());
        if let Some(to) = self.head.get_mut(self.head_len..end) {
            to.copy_from_slice(bytes);
        }
        self.head_len = end;
        if end < HEAD_LEN {
            return Ok(rest);
        }
        self.head_len = 0;
        let instead = self.instead_of_marker.take();
        let explained = |fault| instead.map_or(fault, InsteadOfMarker::fault);
        let head = self.parse_head(self.head).map_err(explained)?;
        let (class, token) = self.match_outstanding(&head).map_err(explained)?;
        if let (Some(instead), Class::Prefetch) = (instead, class) {
            // Only an urgent response is worth breaking another off.
            return Err(instead.fault());
        }
        let wanted = sink.begin(&head);
        if wanted {
            let length = head.container_len.saturating_sub(head.header_len()).to_be_bytes();
            let [a, b, c, d] = length;
            sink.data(&[head.compression, a, b, c, d]);
        }
        let answered = Answered { class, head, token };
        // Five bytes of the container have come.
        let left = usize::try_from(head.container_len).unwrap_or(usize::MAX).saturating_sub(5);
        let incoming = Incoming { answered, wanted, left, at: HEAD_LEN, block: 0 };
        self.go_on(incoming, sink);
        Ok(rest)
    }

    fn parse_head(&mut self, bytes: [u8; HEAD_LEN]) -> Result<Head, Fault> {
        let [_, _, _, _, key, _, _, _] = bytes;
        self.accept_key(key)?;
        let [archive, high, low, flags, a, b, c, d] = bytes.map(|byte| byte ^ key);
        let id = GroupId { archive, group: u16::from_be_bytes([high, low]) };
        let compression = flags & !PREFETCH_BIT;
        if compression > 3 {
            return Err(Fault::UnknownCompression { id, compression });
        }
        let prefetch_bit = flags & PREFETCH_BIT != 0;
        let mut head = Head { id, prefetch_bit, compression, container_len: 0, key };
        head.container_len = u32::from_be_bytes([a, b, c, d]).saturating_add(head.header_len());
        Ok(head)
    }

    /// A key is good if it is the current one or was sent since; older ones are then over.
    fn accept_key(&mut self, key: u8) -> Result<(), Fault> {
        if key == self.key {
            return Ok(());
        }
        let pending = self.keys_pending.iter().position(|&pending| pending == key);
        let place = pending.ok_or(Fault::WrongKey { key })?;
        self.keys_pending.drain(..=place);
        self.key = key;
        Ok(())
    }

    fn match_outstanding(&mut self, head: &Head) -> Result<(Class, T), Fault> {
        let (first, second) = match (self.matching, head.prefetch_bit) {
            (Matching::ByPrefetchBit, true) => (Class::Prefetch, Class::Urgent),
            _ => (Class::Urgent, Class::Prefetch),
        };
        if let Some(token) = remove(self.class_mut(first), head.id) {
            return Ok((first, token));
        }
        match (self.matching, remove(self.class_mut(second), head.id)) {
            (_, None) => Err(Fault::Unasked { id: head.id }),
            (Matching::ByGroup, Some(token)) => Ok((second, token)),
            (Matching::ByPrefetchBit, Some(_)) => Err(Fault::WrongClass { id: head.id }),
        }
    }

    fn receive_body<'a>(
        &mut self,
        mut incoming: Incoming<T>,
        input: &'a [u8],
        sink: &mut impl ResponseSink<T>,
    ) -> Result<&'a [u8], Fault> {
        let key = incoming.answered.head.key;
        let mut rest = input;
        while incoming.left > 0 && !rest.is_empty() {
            if incoming.at == BLOCK_LEN {
                let Some((&byte, after)) = rest.split_first() else { break };
                incoming.block = incoming.block.saturating_add(1);
                let found = byte ^ key;
                if found != BLOCK_MARKER {
                    let (id, block) = (incoming.answered.head.id, incoming.block);
                    self.break_off(incoming, InsteadOfMarker { id, block, found }, sink)?;
                    return Ok(rest);
                }
                rest = after;
                incoming.at = 1;
            }
            let room = BLOCK_LEN.saturating_sub(incoming.at).min(incoming.left);
            let (piece, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            if incoming.wanted {
                hand_over(piece, key, sink);
            }
            incoming.at = incoming.at.saturating_add(piece.len());
            incoming.left = incoming.left.saturating_sub(piece.len());
            rest = after;
        }
        self.go_on(incoming, sink);
        Ok(rest)
    }

    /// The client keeps the byte as the first of a new response, and asks nothing again.
    fn break_off(
        &mut self,
        incoming: Incoming<T>,
        instead: InsteadOfMarker,
        sink: &mut impl ResponseSink<T>,
    ) -> Result<(), Fault> {
        let Incoming { answered, .. } = incoming;
        if !self.takes_break_offs || answered.class == Class::Urgent {
            return Err(instead.fault());
        }
        self.instead_of_marker = Some(instead);
        let outstanding = Outstanding { id: answered.head.id, token: answered.token };
        self.class_mut(answered.class).push_front(outstanding);
        sink.broken_off(answered);
        Ok(())
    }

    fn go_on(&mut self, incoming: Incoming<T>, sink: &mut impl ResponseSink<T>) {
        if incoming.left == 0 {
            sink.end(incoming.answered);
        } else {
            self.incoming = Some(incoming);
        }
    }
}

impl Head {
    fn header_len(&self) -> u32 {
        if self.compression == 0 { 5 } else { 9 }
    }
}

/// Takes the oldest request for `id`. Servers answer in order mostly, so the first fits.
fn remove<T: Copy>(queue: &mut VecDeque<Outstanding<T>>, id: GroupId) -> Option<T> {
    let place = queue.iter().position(|outstanding| outstanding.id == id)?;
    queue.remove(place).map(|outstanding| outstanding.token)
}

/// Gives container bytes to the sink with the key removed.
fn hand_over<T>(piece: &[u8], key: u8, sink: &mut impl ResponseSink<T>) {
    if key == 0 {
        sink.data(piece);
        return;
    }
    let mut plain = [0; BLOCK_LEN];
    for (to, from) in plain.iter_mut().zip(piece) {
        *to = from ^ key;
    }
    if let Some(plain) = plain.get(..piece.len()) {
        sink.data(plain);
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
