//! The client's side of one connection, as pure state: requests out, responses matched.
//!
//! As strict as the build 550 client: each response must answer a request of its class, every
//! marker must be in place, and no response may arrive without a request. The framing is checked
//! while scanning; a container's bytes are passed on only if the [`ResponseSink`] wants them.
//!
//! A response may be *broken off*: where a marker is due, another byte begins the response to an
//! urgent request, and the request of the one that was broken off stays outstanding.
//!
//! The key of a response is found in its length: a container that a store can hold is shorter than
//! 16 MiB, so the top byte of its length is 0, and XORed with the key it is the key itself. A
//! response is accepted with the key that was set when it was asked for, or with a later one: a
//! server takes in messages in their order. The real client sets one key, before its requests.
//!
//! A client speaks as its [`Profile`] says. Where each block names its response, blocks of several
//! may alternate: [`ResponseSink::resume`].

pub use super::fault::Fault;
use super::frame::{
    BLOCK_LEN, BLOCK_LEN_LONG, BLOCK_MARKER, Framing, PREFETCH_BIT, RESPONSE_HEADER_LEN_WIDE,
};
use super::handshake::{Prefixed, Status, handshake};
use super::profile::{Handshake, Language, Mark, Profile};
use super::request::{Frame, Message, Opcodes};
use super::{Class, GroupId};
use std::collections::{BTreeMap, VecDeque};

/// Of the container: what must be seen to know a response's length.
const CONTAINER_HEAD_LEN: usize = 5;

/// With a header of three bytes.
const SHORT_HEAD_LEN: usize = 3 + CONTAINER_HEAD_LEN;

/// The longest header, and the container's first bytes.
const HEAD_LEN_MAX: usize = RESPONSE_HEADER_LEN_WIDE + CONTAINER_HEAD_LEN;

/// A response as its first bytes describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The group.
    pub id: GroupId,
    /// Whether it carries the prefetch bit, in the compression byte or in the group.
    pub prefetch_bit: bool,
    /// The compression byte without the prefetch bit.
    pub compression: u8,
    /// The container's own length, its header included.
    pub container_len: u32,
    /// The key that it was XORed with.
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

/// Receives what the session reads.
pub trait ResponseSink<T> {
    /// The status byte.
    fn status(&mut self, status: Status);
    /// A response begins. True if its container's bytes are wanted in `data`.
    fn begin(&mut self, head: &Head) -> bool;
    /// The next bytes of the container, key removed, prefetch bit cleared.
    fn data(&mut self, bytes: &[u8]);
    /// What follows in `data` goes on with a response that has begun earlier: where each block
    /// names its response, blocks of another one may have come between.
    fn resume(&mut self, _answered: &Answered<T>) {}
    /// The response is complete, and answers the request sent with its token.
    fn end(&mut self, answered: Answered<T>);
    /// What has come of this response is void: it was broken off for an urgent one, which begins
    /// next. Its request stays outstanding.
    fn broken_off(&mut self, broken: Answered<T>) {
        let _ = broken;
    }
}

/// Puts containers together, for who does not ask for a group twice at a time: the group names
/// each.
#[derive(Debug, Default)]
pub struct Containers {
    /// The one that is being received. It grows with the bytes, whatever length it claims.
    coming: Option<(GroupId, Vec<u8>)>,
    /// Those of which blocks of others have come between.
    suspended: BTreeMap<GroupId, Vec<u8>>,
    whole: VecDeque<(GroupId, Vec<u8>)>,
}

impl Containers {
    /// Takes the first that has come whole.
    pub fn take(&mut self) -> Option<(GroupId, Vec<u8>)> {
        self.whole.pop_front()
    }
}

impl<T> ResponseSink<T> for Containers {
    fn status(&mut self, _: Status) {}

    fn begin(&mut self, head: &Head) -> bool {
        self.suspended.extend(self.coming.take());
        self.coming = Some((head.id, Vec::new()));
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        if let Some((_, container)) = &mut self.coming {
            container.extend_from_slice(bytes);
        }
    }

    fn resume(&mut self, answered: &Answered<T>) {
        self.suspended.extend(self.coming.take());
        self.coming = self.suspended.remove_entry(&answered.head.id);
    }

    fn broken_off(&mut self, _: Answered<T>) {
        self.coming = None;
    }

    fn end(&mut self, _: Answered<T>) {
        self.whole.extend(self.coming.take());
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
    /// The number of the last key that was sent before it.
    key_number: u32,
}

/// The response that is coming in.
#[derive(Clone, Copy, Debug)]
struct Incoming<T> {
    answered: Answered<T>,
    /// That of its request.
    key_number: u32,
    wanted: bool,
    /// Container bytes still to come.
    left: usize,
    /// Where in its block the next byte stands.
    at: usize,
    block: u32,
}

/// What of a profile a client needs all the time.
#[derive(Clone, Copy, Debug)]
struct Speech {
    handshake: Handshake,
    frame: Frame,
    opcodes: Opcodes,
    framing: Framing,
    /// What opcode 6 says; none if it is not sent.
    connected: Option<u32>,
    /// Whether a set prefetch bit is read as such, and not as a compression that does not exist.
    reads_bit: bool,
    /// Whether a server that speaks this applies keys.
    xor: bool,
    /// Of the greeting behind status 0.
    ints: usize,
    /// The build, as far as messages have room for it.
    build: u16,
}

/// A key that the client has set. Number 0 is the key 0, which is set from the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    number: u32,
    byte: u8,
}

impl Key {
    /// Whether it is the key of this number or a later one. By difference, because numbers begin
    /// anew after 4 billion keys.
    fn is_since(self, number: u32) -> bool {
        self.number.wrapping_sub(number) <= u32::MAX / 2
    }
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
    speech: Speech,
    matching: Matching,
    status: Option<Status>,
    urgent: VecDeque<Outstanding<T>>,
    prefetch: VecDeque<Outstanding<T>>,
    /// The last key that was seen.
    key: Key,
    /// Keys sent and not seen yet, oldest first.
    keys_pending: VecDeque<Key>,
    /// Bytes of the greeting that are to come.
    greeting_left: usize,
    head: [u8; HEAD_LEN_MAX],
    head_len: usize,
    incoming: Option<Incoming<T>>,
    /// Responses between two blocks, the latest at the end.
    suspended: Vec<Incoming<T>>,
    takes_break_offs: bool,
    /// Set between a response that was broken off and the first bytes of the next.
    instead_of_marker: Option<InsteadOfMarker>,
}

impl<T: Copy> ClientSession<T> {
    /// A session of a build 550 client that has sent nothing.
    #[must_use]
    pub fn new(matching: Matching) -> Self {
        let speech = Speech { reads_bit: true, ..Speech::of(&Profile::build_550()) };
        Self {
            speech,
            matching,
            status: None,
            urgent: VecDeque::new(),
            prefetch: VecDeque::new(),
            key: Key::default(),
            keys_pending: VecDeque::new(),
            greeting_left: 0,
            head: [0; HEAD_LEN_MAX],
            head_len: 0,
            incoming: None,
            suspended: Vec::new(),
            takes_break_offs: true,
            instead_of_marker: None,
        }
    }

    /// A session of a client of this profile that has sent nothing. It takes responses as
    /// strictly as that client.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let speech = Speech::of(profile);
        let matching = if speech.reads_bit { Matching::ByPrefetchBit } else { Matching::ByGroup };
        Self { speech, takes_break_offs: profile.break_off, ..Self::new(matching) }
    }

    /// Tells answers apart by their group alone, whether or not they carry the prefetch bit: for
    /// servers that do not set it as the client would want.
    #[must_use]
    pub fn matching_by_group(mut self) -> Self {
        self.matching = Matching::ByGroup;
        self
    }

    /// Takes a response that is broken off for a wrong marker, as clients do that do not know it.
    #[must_use]
    pub fn without_break_offs(mut self) -> Self {
        self.takes_break_offs = false;
        self
    }

    /// Appends the handshake. A client whose handshake holds a token sends an empty one.
    pub fn handshake(&mut self, build: u32, out: &mut Vec<u8>) {
        self.handshake_with(build, b"", out);
    }

    /// Appends the handshake, with a token where it holds one.
    pub fn handshake_with(&mut self, build: u32, token: &[u8], out: &mut Vec<u8>) {
        let [_, _, high, low] = build.to_be_bytes();
        self.speech.build = u16::from_be_bytes([high, low]);
        match self.speech.handshake {
            Handshake::Fixed { key } => {
                out.extend(handshake(build));
                // Jagex' servers take zeros for it, and so does everybody.
                out.extend(key.then_some([0; 16]).into_iter().flatten());
            }
            Handshake::Prefixed(language) => {
                let language = (language != Language::No).then_some(0);
                out.extend(Prefixed { build, sub_build: 1, token, language }.to_bytes());
            }
        }
    }

    /// Appends what the real client sends right after OK: connected, its state, and its key if
    /// it has one.
    pub fn greet(&mut self, logged_in: bool, key: u8, out: &mut Vec<u8>) {
        if self.speech.connected.is_some() {
            self.send(Message::Connected, out);
        }
        self.send(Message::LoggedIn(logged_in), out);
        if key != 0 {
            self.rekey(key, out);
        }
    }

    /// Appends what the client says before it goes. Those that do not send opcode 6 do not send
    /// this one either: they say nothing.
    pub fn say_goodbye(&self, out: &mut Vec<u8>) {
        if self.speech.connected.is_some() {
            self.send(Message::Disconnect, out);
        }
    }

    /// Appends a rekey. It changes nothing for a client that does not know keys.
    pub fn rekey(&mut self, key: u8, out: &mut Vec<u8>) {
        let Key { number, byte } = self.key_sent();
        if self.speech.xor && byte != key {
            self.keys_pending.push_back(Key { number: number.wrapping_add(1), byte: key });
        }
        self.send(Message::Rekey(key), out);
    }

    /// The last key that was sent.
    fn key_sent(&self) -> Key {
        self.keys_pending.back().copied().unwrap_or(self.key)
    }

    /// Appends a request. The caller bounds how many are outstanding.
    pub fn request(&mut self, class: Class, id: GroupId, token: T, out: &mut Vec<u8>) {
        let key_number = self.key_sent().number;
        self.class_mut(class).push_back(Outstanding { id, token, key_number });
        self.send(Message::Request(class, id), out);
    }

    /// Appends a message as this client writes it.
    pub fn send(&self, message: Message, out: &mut Vec<u8>) {
        let Speech { frame, opcodes, connected, build, .. } = self.speech;
        if frame == Frame::Four && message != Message::Connected {
            out.extend(message.to_bytes());
            return;
        }
        message.write(frame, opcodes, connected.unwrap_or_default(), build, out);
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
        let coming = self.incoming.iter().chain(&self.suspended).map(|incoming| {
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
        self.incoming.is_some() || self.head_len > 0 || !self.suspended.is_empty()
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
            if status == Status::Ok {
                self.greeting_left = self.speech.ints.saturating_mul(4);
            }
            sink.status(status);
            rest = after;
        }
        if self.status != Some(Status::Ok) && !rest.is_empty() {
            return Err(Fault::AfterRefusal);
        }
        let greeting = self.greeting_left.min(rest.len());
        self.greeting_left = self.greeting_left.saturating_sub(greeting);
        rest = rest.get(greeting..).unwrap_or_default();
        while !rest.is_empty() {
            rest = match self.incoming.take() {
                None => self.receive_head(rest, sink)?,
                Some(incoming) => self.receive_blocks(incoming, rest, sink)?,
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
        let framing = self.speech.framing;
        let whole_len = framing.header_len().saturating_add(CONTAINER_HEAD_LEN);
        // The header of a later block is all that there is before its bytes.
        let is_between = !self.suspended.is_empty() && self.head_len < RESPONSE_HEADER_LEN_WIDE;
        let head_len = if is_between { RESPONSE_HEADER_LEN_WIDE } else { whole_len };
        let rest = match input.split_first_chunk::<SHORT_HEAD_LEN>() {
            // Nearly always it is there at once.
            Some((bytes, rest)) if self.head_len == 0 && framing == Framing::Marked3 => {
                if let Some(to) = self.head.first_chunk_mut() {
                    *to = *bytes;
                }
                rest
            }
            _ => {
                let wanted = head_len.saturating_sub(self.head_len);
                let (bytes, rest) = input.split_at_checked(wanted).unwrap_or((input, &[]));
                let end = self.head_len.saturating_add(bytes.len());
                if let Some(to) = self.head.get_mut(self.head_len..end) {
                    to.copy_from_slice(bytes);
                }
                self.head_len = end;
                if end < head_len {
                    return Ok(rest);
                }
                rest
            }
        };
        if is_between {
            if let Some(incoming) = self.resumed() {
                self.head_len = 0;
                sink.resume(&incoming.answered);
                self.go_on(incoming, sink);
            }
            return Ok(rest);
        }
        self.head_len = 0;
        let instead = self.instead_of_marker.take();
        let explained = |fault| instead.map_or(fault, InsteadOfMarker::fault);
        let head = self.parse_head().map_err(explained)?;
        let (class, Outstanding { token, key_number, .. }) =
            self.match_outstanding(&head).map_err(explained)?;
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
        let incoming = Incoming { answered, key_number, wanted, left, at: head_len, block: 0 };
        self.go_on(incoming, sink);
        Ok(rest)
    }

    /// The response that goes on with the header that has come, if one does.
    fn resumed(&mut self) -> Option<Incoming<T>> {
        let [archive, a, b, c, d, ..] = self.head;
        let goes_on = |incoming: &Incoming<T>| {
            let Head { id, prefetch_bit, key, .. } = incoming.answered.head;
            let [e, f, g, h] = marked_group(id.group, prefetch_bit).to_be_bytes();
            [archive, a, b, c, d].map(|byte| byte ^ key) == [id.archive, e, f, g, h]
        };
        let place = self.suspended.iter().rposition(goes_on)?;
        let mut incoming = self.suspended.remove(place);
        incoming.block = incoming.block.saturating_add(1);
        incoming.at = RESPONSE_HEADER_LEN_WIDE;
        Some(incoming)
    }

    #[inline]
    fn parse_head(&mut self) -> Result<Head, Fault> {
        let [archive, e, f, ..] = self.head;
        if self.speech.framing == Framing::Marked3 {
            let [_, _, _, flags, key, b, c, d, ..] = self.head;
            self.accept_key(key)?;
            let id = GroupId {
                archive: archive ^ key,
                group: u32::from_be_bytes([0, 0, e ^ key, f ^ key]),
            };
            return self.head_of(id, key, flags ^ key, [b, c, d]);
        }
        let [_, _, _, g, h, flags, key, b, c, d] = self.head;
        self.accept_key(key)?;
        let group = u32::from_be_bytes([e, f, g, h].map(|byte| byte ^ key));
        let id = GroupId { archive: archive ^ key, group };
        self.head_of(id, key, flags ^ key, [b, c, d])
    }

    /// The length's lower bytes are keyed still; its highest one is 0, or there would be no key.
    #[inline]
    fn head_of(&self, id: GroupId, key: u8, flags: u8, len: [u8; 3]) -> Result<Head, Fault> {
        let (id, compression, prefetch_bit) = if self.speech.framing.is_multi() {
            let group = marked_group(id.group, false);
            (GroupId { group, ..id }, flags, group != id.group)
        } else if self.speech.reads_bit {
            (id, flags & !PREFETCH_BIT, flags & PREFETCH_BIT != 0)
        } else {
            (id, flags, false)
        };
        if compression > 3 {
            return Err(Fault::UnknownCompression { id, compression });
        }
        let mut head = Head { id, prefetch_bit, compression, container_len: 0, key };
        let [b, c, d] = len.map(|byte| byte ^ key);
        head.container_len = u32::from_be_bytes([0, b, c, d]).saturating_add(head.header_len());
        Ok(head)
    }

    /// A key is good if it is the last one that was seen, or was sent since; older ones are then
    /// over.
    fn accept_key(&mut self, byte: u8) -> Result<(), Fault> {
        if byte == self.key.byte {
            return Ok(());
        }
        let pending = (1..).zip(&self.keys_pending).find(|(_, pending)| pending.byte == byte);
        let (keys, _) = pending.ok_or(Fault::WrongKey { key: byte })?;
        self.take_keys(keys);
        Ok(())
    }

    /// How many pending keys have been taken up if a response under `byte` is to a request before
    /// which the key of this number was sent: the server has read that key before it. The error is
    /// the key that was expected.
    fn key_for(&self, byte: u8, number: u32) -> Result<usize, u8> {
        if self.key.is_since(number) {
            return Ok(0);
        }
        let since = (1..).zip(&self.keys_pending).filter(|(_, key)| key.is_since(number));
        let expected = since.clone().next().map_or(byte, |(_, key)| key.byte);
        let found = since.into_iter().find(|(_, key)| key.byte == byte);
        found.map(|(keys, _)| keys).ok_or(expected)
    }

    /// The server has taken up so many of the pending keys.
    fn take_keys(&mut self, keys: usize) {
        if let Some(key) = self.keys_pending.drain(..keys).next_back() {
            self.key = key;
        }
    }

    fn match_outstanding(&mut self, head: &Head) -> Result<(Class, Outstanding<T>), Fault> {
        let (first, second) = match (self.matching, head.prefetch_bit) {
            (Matching::ByPrefetchBit, true) => (Class::Prefetch, Class::Urgent),
            _ => (Class::Urgent, Class::Prefetch),
        };
        let Head { id, key, .. } = *head;
        let by_bit = self.matching == Matching::ByPrefetchBit;
        // Nearly always: the oldest request, under the last key that was seen.
        let seen = self.key;
        let queue = self.class_mut(first);
        if let Some(oldest) = queue.front()
            && oldest.id == id
            && seen.is_since(oldest.key_number)
        {
            return queue.pop_front().map(|oldest| (first, oldest)).ok_or(Fault::Unasked { id });
        }
        let mut fault = Fault::Unasked { id };
        // Without the bit it may answer either class: the one that passes over fewer keys.
        let mut best: Option<(usize, Class, usize)> = None;
        for class in [first, second] {
            let queue = self.class_mut(class);
            let Some(place) = place(queue, id) else { continue };
            if class == second && by_bit {
                return Err(Fault::WrongClass { id });
            }
            let number = queue.get(place).map_or(0, |outstanding| outstanding.key_number);
            match self.key_for(key, number) {
                Ok(keys) if best.is_none_or(|(least, ..)| keys < least) => {
                    best = Some((keys, class, place));
                }
                Ok(_) => {}
                Err(expected) => fault = Fault::OldKey { id, key, expected },
            }
            if by_bit || best.is_some_and(|(keys, ..)| keys == 0) {
                break;
            }
        }
        let (keys, class, place) = best.ok_or(fault)?;
        self.take_keys(keys);
        let outstanding = self.class_mut(class).remove(place).ok_or(fault)?;
        Ok((class, outstanding))
    }

    fn receive_blocks<'a>(
        &mut self,
        incoming: Incoming<T>,
        input: &'a [u8],
        sink: &mut impl ResponseSink<T>,
    ) -> Result<&'a [u8], Fault> {
        match self.speech.framing {
            Framing::Marked3 | Framing::Marked5 => {
                self.receive_body::<BLOCK_LEN, false>(incoming, input, sink)
            }
            Framing::Multi512 => self.receive_body::<BLOCK_LEN, true>(incoming, input, sink),
            Framing::Multi102400 => {
                self.receive_body::<BLOCK_LEN_LONG, true>(incoming, input, sink)
            }
        }
    }

    /// Takes in bytes of a response in blocks of `LEN`, which name it or have a marker before them.
    fn receive_body<'a, const LEN: usize, const NAMED: bool>(
        &mut self,
        mut incoming: Incoming<T>,
        input: &'a [u8],
        sink: &mut impl ResponseSink<T>,
    ) -> Result<&'a [u8], Fault> {
        let key = incoming.answered.head.key;
        let mut rest = input;
        while incoming.left > 0 && !rest.is_empty() {
            if incoming.at == LEN {
                if NAMED {
                    self.suspended.push(incoming);
                    return Ok(rest);
                }
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
            let room = LEN.saturating_sub(incoming.at).min(incoming.left);
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
        let Incoming { answered, key_number, .. } = incoming;
        if !self.takes_break_offs || answered.class == Class::Urgent {
            return Err(instead.fault());
        }
        self.instead_of_marker = Some(instead);
        let Answered { head: Head { id, .. }, token, .. } = answered;
        let outstanding = Outstanding { id, token, key_number };
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

/// Where the oldest request for `id` is. Servers answer in order mostly, so the first fits.
fn place<T>(queue: &VecDeque<Outstanding<T>>, id: GroupId) -> Option<usize> {
    queue.iter().position(|outstanding| outstanding.id == id)
}

/// Gives container bytes to the sink with the key removed.
#[inline]
fn hand_over<T>(piece: &[u8], key: u8, sink: &mut impl ResponseSink<T>) {
    if key == 0 { sink.data(piece) } else { hand_over_keyed(piece, key, sink) }
}

#[inline(never)]
fn hand_over_keyed<T>(piece: &[u8], key: u8, sink: &mut impl ResponseSink<T>) {
    let mut plain = [0; BLOCK_LEN];
    for piece in piece.chunks(BLOCK_LEN) {
        for (to, from) in plain.iter_mut().zip(piece) {
            *to = from ^ key;
        }
        sink.data(plain.get(..piece.len()).unwrap_or_default());
    }
}

/// The group as it stands in a block's header that has room for the prefetch bit.
const fn marked_group(group: u32, prefetch_bit: bool) -> u32 {
    let bit = (PREFETCH_BIT as u32) << 24;
    if prefetch_bit { group | bit } else { group & !bit }
}

impl Speech {
    fn of(profile: &Profile) -> Self {
        let reads_bit = matches!(profile.mark, Mark::TypeBit | Mark::GroupBit);
        Self {
            handshake: profile.handshake,
            frame: profile.frame,
            opcodes: profile.opcodes,
            framing: profile.framing,
            connected: reads_bit.then_some(profile.connected),
            reads_bit,
            xor: profile.xor,
            ints: profile.ints.len(),
            build: 0,
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
