//! The server's side of one connection, as pure state.
//!
//! [`ServerSession::receive`] takes bytes of the peer, and [`ServerSession::next_step`] says what
//! to do. The session keeps at most a partial message and two bounded queues, which can be lent to
//! it for the time in which requests wait. If a queue is full, `receive` takes fewer bytes than it
//! is given, and the rest must be offered again once responses have been taken: that is the
//! back-pressure.

use super::handshake::{HANDSHAKE_LEN, OPCODE_JS5, PREFIXED_LEN_MAX, Prefixed, Status};
use super::profile::{Admitted, Clients, Mark, Profile};
pub use super::queue::Queues;
pub use super::received::Received;
use super::request::{Frame, MESSAGE_LEN_MAX, Message, Opcodes};
use super::response::Stamp;
pub use super::response::{Dialect, Response};
use super::{ARCHIVE_INDEXES, Class, GroupId};
use std::sync::Arc;

/// Something that a peer must not do. Counted, and answered by closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// The connection opened with another service's opcode.
    NotJs5 {
        /// The first byte.
        opcode: u8,
    },
    /// A message with an opcode that the protocol does not know.
    UnknownOpcode {
        /// The first byte of the message.
        opcode: u8,
    },
    /// A prefixed handshake of a length that none has, or that does not hold what it must.
    MalformedHandshake {
        /// The length of its rest, as it says.
        len: u8,
    },
}

/// The opcode of [`Message::Connected`].
const OPCODE_CONNECTED: u8 = 6;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this status byte.
    Status(Status),
    /// Send this response.
    Response(Response),
    /// Everything is sent that will be: close.
    Close(CloseCause),
    /// Nothing until more is received.
    Idle,
}

/// Which responses may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// None.
    Nothing,
    /// Those to urgent requests.
    Urgent,
    /// All.
    All,
}

/// Why a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The status byte refused the peer.
    Refused(Status),
    /// The peer sent opcode 7.
    Disconnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The handshake is not complete.
    Handshake,
    /// The build is known and served; what some clients add is not complete.
    Key {
        /// How many bytes are to come.
        left: u8,
    },
    /// The status byte is decided and not taken yet.
    Answer(Status),
    /// Requests are served.
    Open,
    /// The status byte has been taken; nothing is parsed and nothing served.
    Refused(Status),
}

/// A prefixed handshake that has come in part, opcode and length included.
type PartialHandshake = Vec<u8>;

/// The fields of a profile that are needed often.
#[derive(Clone, Copy, Debug)]
struct Speech {
    dialect: Dialect,
    frame: Frame,
    /// The profile's number.
    number: u8,
    /// Whether responses to prefetch requests carry the prefetch bit.
    marks: bool,
    /// Whether the first message, which decides on `marks`, is still to come.
    undecided: bool,
    xor: bool,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct ServerSession {
    clients: Arc<Clients>,
    /// What waits. None is nothing.
    queues: Option<Box<Queues>>,
    /// Only while it is incomplete.
    opening: Option<Box<PartialHandshake>>,
    speech: Speech,
    /// The beginning of a message whose end has not come; the first `partial_len` bytes count.
    partial: [u8; MESSAGE_LEN_MAX],
    partial_len: u8,
    phase: Phase,
    /// Set by admission before the handshake: what it is answered with.
    refusal: Option<Status>,
    /// With the key that responses are to have from here on.
    stamp: Stamp,
    logged_in: bool,
    /// Opcode 7 has come: the status byte still goes out, nothing else does.
    disconnected: bool,
    received: Received,
}

impl ServerSession {
    /// A session that waits for its handshake. With a `refusal` it answers that status
    /// whatever the build.
    #[must_use]
    pub fn new(clients: Arc<Clients>, refusal: Option<Status>) -> Self {
        Self {
            clients,
            queues: None,
            opening: None,
            speech: Speech::BUILD_550,
            partial: [0; MESSAGE_LEN_MAX],
            partial_len: 0,
            phase: Phase::Handshake,
            refusal,
            stamp: Stamp::new(Dialect::BUILD_550, false, 0),
            logged_in: false,
            disconnected: false,
            received: Received::default(),
        }
    }

    /// Takes in bytes of the peer, and says how many. Fewer than given: a queue is full.
    ///
    /// # Errors
    /// The peer broke the protocol; the connection is to be closed.
    pub fn receive(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let mut rest = input;
        if self.awaits_handshake() {
            rest = self.receive_handshake(rest)?;
        }
        if self.speech.undecided
            && let Some(&opcode) = rest.first()
        {
            self.speech.undecided = false;
            self.speech.marks = opcode == OPCODE_CONNECTED;
            self.stamp = self.speech.stamp(0);
        }
        while self.accepts_messages() {
            rest = self.take_requests(rest);
            let Some((message, later)) = self.complete_message(rest) else {
                rest = self.keep_partial(rest);
                break;
            };
            match Message::read(self.speech.frame, self.opcodes(), message) {
                Ok(message) => {
                    if !self.take(message) {
                        break;
                    }
                }
                Err(unknown) => return Err(Violation::UnknownOpcode { opcode: unknown.0 }),
            }
            self.partial_len = 0;
            rest = later;
        }
        if self.discards() {
            // Still taken in: unread input at a close becomes a reset, which can destroy
            // what the peer has not read yet.
            rest = &[];
        }
        Ok(input.len().saturating_sub(rest.len()))
    }

    /// What to do next. `Response` is popped from its queue: it must be sent, and sent once.
    #[inline]
    pub fn next_step(&mut self) -> Step {
        match self.phase {
            Phase::Open => {
                // The key of the moment in which the response is taken: none of its bytes has
                // been handed to the socket.
                let stamp = self.stamp;
                if let Some(next) = self.queues.as_mut().and_then(|queues| queues.pop(stamp)) {
                    Step::Response(next)
                } else if self.disconnected {
                    Step::Close(CloseCause::Disconnected)
                } else {
                    Step::Idle
                }
            }
            Phase::Handshake | Phase::Key { .. } => Step::Idle,
            Phase::Answer(status) => {
                self.phase = match status {
                    Status::Ok => Phase::Open,
                    refused => Phase::Refused(refused),
                };
                Step::Status(status)
            }
            Phase::Refused(status) => Step::Close(CloseCause::Refused(status)),
        }
    }

    /// As [`ServerSession::next_step`], with responses of some classes held back: `Idle` while
    /// only such wait. The status byte and the end are never held back.
    pub fn next_step_within(&mut self, allowance: Allowance) -> Step {
        let held_back = match allowance {
            Allowance::Nothing => self.has_queued(),
            Allowance::Urgent => matches!(self.queued(), (0, 1..)),
            Allowance::All => false,
        };
        if held_back && self.phase == Phase::Open { Step::Idle } else { self.next_step() }
    }

    /// Answers a handshake that is late, or arrives too late to be served: with the refusal that
    /// was decided on, or else with `status`.
    pub fn refuse(&mut self, status: Status) {
        if self.awaits_handshake() {
            self.opening = None;
            self.phase = Phase::Answer(self.refusal.unwrap_or(status));
        }
    }

    /// What is to go out right behind status 0, unkeyed: the integers that some clients read there.
    #[must_use]
    pub fn greeting(&self) -> &[u8] {
        self.clients.greeting(self.speech.number.into())
    }

    /// Whose session it is, once its handshake has been answered with status 0.
    #[must_use]
    pub fn profile(&self) -> Option<&Profile> {
        let is_known = matches!(self.phase, Phase::Open | Phase::Answer(Status::Ok));
        self.clients.profiles().get(usize::from(self.speech.number)).filter(|_| is_known)
    }

    /// The number of that profile among the clients'.
    #[inline]
    #[must_use]
    pub fn profile_number(&self) -> usize {
        self.speech.number.into()
    }

    /// How its requests are answered.
    #[inline]
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.speech.dialect
    }

    /// Whether the handshake is still to come.
    #[must_use]
    pub fn awaits_handshake(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Key { .. })
    }

    /// Whether responses wait to be taken by `next_step`.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        self.queued() != (0, 0)
    }

    /// Whether `next_step` has something else than `Idle` to say.
    #[inline]
    #[must_use]
    pub fn has_step(&self) -> bool {
        match self.phase {
            Phase::Handshake | Phase::Key { .. } => false,
            Phase::Open => self.has_queued() || self.disconnected,
            Phase::Answer(_) | Phase::Refused(_) => true,
        }
    }

    /// What will be answered, in order, if nothing more comes in.
    #[inline]
    pub fn upcoming(&self) -> impl Iterator<Item = GroupId> {
        self.queues.iter().flat_map(|queues| queues.iter())
    }

    /// Whether what is answered next has the key of `response`.
    #[must_use]
    pub fn has_key_of(&self, response: Response) -> bool {
        response.key() == self.stamp.key()
    }

    /// Makes ready to break `response` off for an urgent one that `is_there` and may stand where
    /// a block marker is due: that one is answered next. False if there is none, or if the key has
    /// changed since the response began, as the client decides by one key what it reads there, or
    /// if it is not known to take it.
    pub fn prepare_break_off(
        &mut self,
        response: Response,
        is_there: impl Fn(GroupId) -> bool,
    ) -> bool {
        // The first byte is the archive's number, and 255 is the marker.
        let fit = |id: GroupId| id.archive != ARCHIVE_INDEXES && is_there(id);
        let may_be = self.profile().is_some_and(|profile| profile.break_off);
        self.has_key_of(response)
            && may_be
            && self.queues.as_mut().is_some_and(|queues| queues.bring_forward(fit))
    }

    /// Takes back a prefetch response that was broken off: it is answered again, whole, before
    /// the other prefetch requests. There is room for it, whatever has come in meanwhile.
    pub fn put_back(&mut self, response: Response) {
        let times = response.times_broken_off().saturating_add(1);
        self.queues.get_or_insert_default().put_back(response.id(), times);
    }

    /// Requests that wait, urgent and prefetch.
    #[must_use]
    pub fn queued(&self) -> (usize, usize) {
        self.queues.as_ref().map_or((0, 0), |queues| queues.len())
    }

    /// Those of them whose response has never begun, urgent and prefetch: what was broken off has.
    #[inline]
    #[must_use]
    pub fn unbegun(&self) -> (usize, usize) {
        self.queues.as_ref().map_or((0, 0), |queues| queues.unbegun())
    }

    /// Whether the player is logged in, as far as the peer has said.
    #[must_use]
    pub fn logged_in(&self) -> bool {
        self.logged_in
    }

    /// What was received since the last call.
    pub fn take_received(&mut self) -> Received {
        std::mem::take(&mut self.received)
    }

    /// Whether it has queues, its own or lent ones.
    #[inline]
    #[must_use]
    pub fn has_queues(&self) -> bool {
        self.queues.is_some()
    }

    /// Lends it empty queues for requests that come. Without it makes its own.
    #[inline]
    pub fn lend(&mut self, queues: Box<Queues>) {
        debug_assert_eq!((queues.len(), self.queued()), ((0, 0), (0, 0)), "nothing is lost");
        self.queues = Some(queues);
    }

    /// Gives the queues back, unless requests wait in them.
    #[inline]
    pub fn reclaim(&mut self) -> Option<Box<Queues>> {
        self.queues.take_if(|queues| queues.len() == (0, 0))
    }

    #[inline]
    fn opcodes(&self) -> Opcodes {
        let profile = self.clients.profiles().get(usize::from(self.speech.number));
        profile.map_or(Opcodes::BUILD_550, |profile| profile.opcodes)
    }

    fn accepts_messages(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Answer(Status::Ok)) && !self.disconnected
    }

    fn discards(&self) -> bool {
        !self.awaits_handshake() && !self.accepts_messages()
    }

    fn receive_handshake<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Violation> {
        if let Phase::Key { left } = self.phase {
            return Ok(self.skip_key(left, input));
        }
        if self.opening.is_some() {
            return self.receive_prefixed(input);
        }
        let first = if self.partial_len == 0 { input.first() } else { self.partial.first() };
        match first {
            None => return Ok(input),
            Some(&OPCODE_JS5) => {}
            Some(&opcode) => return Err(Violation::NotJs5 { opcode }),
        }
        let have = usize::from(self.partial_len);
        let second =
            if have > 1 { self.partial.get(1) } else { input.get(1_usize.saturating_sub(have)) };
        if let Some(&len) = second
            && len != 0
        {
            let opening = self.partial.get(..have).unwrap_or_default().to_vec();
            self.opening = Some(Box::new(opening));
            self.partial_len = 0;
            return self.receive_prefixed(input);
        }
        let wanted = HANDSHAKE_LEN.saturating_sub(have);
        let Some((head, rest)) = input.split_at_checked(wanted) else {
            return Ok(self.keep_partial(input));
        };
        self.keep_partial(head);
        self.partial_len = 0;
        let [_, a, b, c, d, ..] = self.partial;
        let admitted = self.clients.admit_fixed(u32::from_be_bytes([a, b, c, d]));
        let skip = self.answer_handshake(admitted);
        Ok(if skip > 0 { self.skip_key(skip, rest) } else { rest })
    }

    /// Takes in a prefixed handshake, whose length comes second.
    fn receive_prefixed<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Violation> {
        let Some(mut opening) = self.opening.take() else { return Ok(input) };
        let mut rest = input;
        while let Some((&byte, later)) = rest.split_first() {
            opening.push(byte);
            rest = later;
            let [_, len, handshake @ ..] = &opening[..] else { continue };
            let len = *len;
            let malformed = Violation::MalformedHandshake { len };
            if !Prefixed::is_possible(len) {
                return Err(malformed);
            }
            if handshake.len() == usize::from(len) {
                let handshake = Prefixed::parse(handshake).ok_or(malformed)?;
                let admitted = self.clients.admit_prefixed(&handshake);
                self.answer_handshake(admitted);
                return Ok(rest);
            }
        }
        debug_assert!(opening.len() <= PREFIXED_LEN_MAX.saturating_add(2), "its length bounds it");
        self.opening = Some(opening);
        Ok(rest)
    }

    /// Decides on the status. Comes back with how much of the handshake is still to come.
    fn answer_handshake(&mut self, admitted: Result<Admitted, Status>) -> u8 {
        let status = match (self.refusal, admitted) {
            (Some(refusal), _) => refusal,
            (None, Err(status)) => status,
            (None, Ok(Admitted { number, skip })) => {
                if let Some(profile) = self.clients.profiles().get(usize::from(number)) {
                    self.speech = Speech::of(profile, number);
                    self.stamp = self.speech.stamp(0);
                }
                if skip > 0 {
                    return skip;
                }
                Status::Ok
            }
        };
        self.phase = Phase::Answer(status);
        0
    }

    /// Lets the rest of a handshake go by.
    fn skip_key<'a>(&mut self, left: u8, input: &'a [u8]) -> &'a [u8] {
        match input.split_at_checked(left.into()) {
            Some((_, rest)) => {
                self.phase = Phase::Answer(self.refusal.unwrap_or(Status::Ok));
                rest
            }
            None => {
                let came = u8::try_from(input.len()).unwrap_or(left);
                self.phase = Phase::Key { left: left.saturating_sub(came) };
                &[]
            }
        }
    }

    /// The next whole message, from the partial one and `input`, and what follows it. Changes
    /// nothing, so that a message for which there is no room can be offered again.
    #[inline]
    fn complete_message<'a>(&self, input: &'a [u8]) -> Option<([u8; MESSAGE_LEN_MAX], &'a [u8])> {
        let have = self.partial.get(..usize::from(self.partial_len))?;
        let wanted = self.speech.frame.message_len().saturating_sub(have.len());
        let (head, rest) = input.split_at_checked(wanted)?;
        let mut message = [0; MESSAGE_LEN_MAX];
        for (to, from) in message.iter_mut().zip(have.iter().chain(head)) {
            *to = *from;
        }
        Some((message, rest))
    }

    /// Takes the requests that `input` begins with, as far as there is room. Nearly all that comes
    /// is requests, and taken together each costs half.
    #[inline]
    fn take_requests<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        if self.partial_len != 0 {
            return input;
        }
        let (opcodes, len_max) = (self.opcodes(), self.clients.queue_len_max());
        let queues = self.queues.get_or_insert_default();
        let taken = match self.speech.frame {
            Frame::Four => queues.push_all(input.as_chunks::<4>().0, opcodes, len_max),
            Frame::Six => queues.push_all(input.as_chunks::<6>().0, opcodes, len_max),
            Frame::Ten => queues.push_all(input.as_chunks::<10>().0, opcodes, len_max),
        };
        self.received.count(Class::Urgent, taken.0);
        self.received.count(Class::Prefetch, taken.1);
        let taken = taken.0.saturating_add(taken.1);
        let len = taken.saturating_mul(self.speech.frame.message_len());
        input.get(len..).unwrap_or_default()
    }

    /// Keeps the beginning of a message; takes all of `input`, which does not complete it.
    fn keep_partial<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        for byte in input {
            if let Some(to) = self.partial.get_mut(usize::from(self.partial_len)) {
                *to = *byte;
                self.partial_len = self.partial_len.saturating_add(1);
            }
        }
        &[]
    }

    /// Acts on one message; false if there is no room for it.
    #[inline]
    fn take(&mut self, message: Message) -> bool {
        let len_max = self.clients.queue_len_max();
        match message {
            Message::Request(class, id) => {
                let taken = self.queues.get_or_insert_default().push(class, id, len_max);
                self.received.count(class, usize::from(taken));
                return taken;
            }
            Message::Rekey(key) => {
                self.stamp = self.speech.stamp(if self.speech.xor { key } else { 0 });
                self.received.rekeys = self.received.rekeys.saturating_add(1);
            }
            Message::LoggedIn(logged_in) => {
                self.logged_in = logged_in;
                self.received.state_changes = self.received.state_changes.saturating_add(1);
            }
            Message::Connected | Message::Ignored => {}
            Message::Disconnect => {
                self.queues = None;
                self.disconnected = true;
            }
        }
        true
    }
}

impl Speech {
    /// Until the handshake says otherwise.
    const BUILD_550: Self = Self {
        dialect: Dialect::BUILD_550,
        frame: Frame::Four,
        number: 0,
        marks: false,
        undecided: false,
        xor: true,
    };

    const fn stamp(&self, key: u8) -> Stamp {
        Stamp::new(self.dialect, self.marks, key)
    }

    fn of(profile: &Profile, number: u8) -> Self {
        Self {
            dialect: profile.dialect(),
            frame: profile.frame,
            number,
            marks: matches!(profile.mark, Mark::TypeBit | Mark::GroupBit),
            undecided: profile.mark == Mark::ByFirstOp6,
            xor: profile.xor,
        }
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
