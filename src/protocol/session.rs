//! The server's side of one connection, as pure state.
//!
//! Bytes go in through [`ServerSession::receive`], what to do comes out of
//! [`ServerSession::next_step`]. The session keeps at most a partial message and two bounded
//! queues, which can be lent to it for the time in which requests wait. The surprise: `receive`
//! may take less than it is given. A queue is full then, and the rest must be offered again once
//! responses have gone out: that is the back-pressure.

use super::handshake::{Builds, HANDSHAKE_LEN, OPCODE_JS5, Status};
pub use super::queue::Queues;
pub use super::received::Received;
use super::request::{MESSAGE_LEN, Message};
pub use super::response::Response;
use super::{ARCHIVE_INDEXES, Class, GroupId};
use std::sync::Arc;

/// What a revision of the client expects, and how much a session may hold.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Builds that are served; others read status 6.
    pub builds: Builds,
    /// Whether responses to prefetch requests carry the prefetch bit. The old-school clients
    /// must not get it.
    pub prefetch_bit: bool,
    /// Requests a class that wait at most. The real client sends 20, tools up to 500.
    pub queue_len_max: usize,
}

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
}

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
    /// The five bytes are not complete.
    Handshake,
    /// The status byte is decided and not taken yet.
    Answer(Status),
    /// Requests are served.
    Open,
    /// The status byte has been taken; nothing is parsed and nothing served.
    Refused(Status),
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct ServerSession {
    profile: Arc<Profile>,
    /// What waits. None is nothing.
    queues: Option<Box<Queues>>,
    /// The beginning of a message whose end has not come; the first `partial_len` bytes count.
    partial: [u8; HANDSHAKE_LEN],
    partial_len: u8,
    phase: Phase,
    /// Set by admission before the handshake: what it is answered with.
    refusal: Option<Status>,
    key: u8,
    logged_in: bool,
    /// Opcode 7 has come: the status byte still goes out, nothing else does.
    disconnected: bool,
    received: Received,
}

impl ServerSession {
    /// A session that waits for its handshake. With a `refusal` it answers that status
    /// whatever the build.
    #[must_use]
    pub fn new(profile: Arc<Profile>, refusal: Option<Status>) -> Self {
        Self {
            profile,
            queues: None,
            partial: [0; HANDSHAKE_LEN],
            partial_len: 0,
            phase: Phase::Handshake,
            refusal,
            key: 0,
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
        if self.phase == Phase::Handshake {
            rest = self.receive_handshake(rest)?;
        }
        while self.accepts_messages() {
            rest = self.take_requests(rest);
            let Some((message, later)) = self.complete_message(rest) else {
                rest = self.keep_partial(rest);
                break;
            };
            match Message::parse(message) {
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
            // Taken in all the same: unread input at a close becomes a reset, which can destroy
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
                let next = self.queues.as_mut().and_then(|queues| queues.pop());
                if let Some((class, id, times)) = next {
                    Step::Response(self.response(id, class).broken_off(times))
                } else if self.disconnected {
                    Step::Close(CloseCause::Disconnected)
                } else {
                    Step::Idle
                }
            }
            Phase::Handshake => Step::Idle,
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

    /// Answers a handshake that is late, or comes too late to be served: with the refusal that
    /// was decided on, or else with `status`. A peer reads a reason before every close.
    pub fn refuse(&mut self, status: Status) {
        if self.phase == Phase::Handshake {
            self.phase = Phase::Answer(self.refusal.unwrap_or(status));
        }
    }

    /// Whether the handshake is still to come.
    #[must_use]
    pub fn awaits_handshake(&self) -> bool {
        self.phase == Phase::Handshake
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
            Phase::Handshake => false,
            Phase::Open => self.has_queued() || self.disconnected,
            Phase::Answer(_) | Phase::Refused(_) => true,
        }
    }

    /// What will be answered, in order, if nothing more comes in.
    #[inline]
    pub fn upcoming(&self) -> impl Iterator<Item = GroupId> {
        self.queues.iter().flat_map(|queues| queues.iter())
    }

    /// Makes ready to break `response` off for an urgent one that `is_there` and may stand where
    /// a block marker is due: that one is answered next. False if there is none, or if the key has
    /// changed since the response began, as the client decides by one key what it reads there.
    pub fn prepare_break_off(
        &mut self,
        response: Response,
        is_there: impl Fn(GroupId) -> bool,
    ) -> bool {
        // The first byte is the archive's number, and 255 is the marker.
        let fit = |id: GroupId| id.archive != ARCHIVE_INDEXES && is_there(id);
        let same_key = response.key() == self.key;
        same_key && self.queues.as_mut().is_some_and(|queues| queues.bring_forward(fit))
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

    /// Whether the player is logged in, as far as the peer has said.
    #[must_use]
    pub fn logged_in(&self) -> bool {
        self.logged_in
    }

    /// What came in since the last call.
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
    fn response(&self, id: GroupId, class: Class) -> Response {
        let prefetch_bit = class == Class::Prefetch && self.profile.prefetch_bit;
        // The key of the moment in which the response is taken: none of its bytes has been
        // handed to the socket.
        Response::new(id, class, prefetch_bit, self.key)
    }

    fn accepts_messages(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Answer(Status::Ok)) && !self.disconnected
    }

    fn discards(&self) -> bool {
        self.phase != Phase::Handshake && !self.accepts_messages()
    }

    fn receive_handshake<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Violation> {
        let first = if self.partial_len == 0 { input.first() } else { self.partial.first() };
        match first {
            None => return Ok(input),
            Some(&OPCODE_JS5) => {}
            Some(&opcode) => return Err(Violation::NotJs5 { opcode }),
        }
        let have = usize::from(self.partial_len);
        let wanted = HANDSHAKE_LEN.saturating_sub(have);
        let Some((head, rest)) = input.split_at_checked(wanted) else {
            return Ok(self.keep_partial(input));
        };
        if let Some(to) = self.partial.get_mut(have..) {
            to.copy_from_slice(head);
        }
        self.partial_len = 0;
        let [_, a, b, c, d] = self.partial;
        let build = u32::from_be_bytes([a, b, c, d]);
        let status = match self.refusal {
            Some(refusal) => refusal,
            None if self.profile.builds.admits(build) => Status::Ok,
            None => Status::OutOfDate,
        };
        self.phase = Phase::Answer(status);
        Ok(rest)
    }

    /// The next whole message, from the partial one and `input`, and what follows it. Changes
    /// nothing, so that a message for which there is no room can be offered again.
    #[inline]
    fn complete_message<'a>(&self, input: &'a [u8]) -> Option<([u8; MESSAGE_LEN], &'a [u8])> {
        if self.partial_len == 0 {
            let (message, rest) = input.split_first_chunk::<MESSAGE_LEN>()?;
            return Some((*message, rest));
        }
        let have = self.partial.get(..usize::from(self.partial_len))?;
        let (head, rest) = input.split_at_checked(MESSAGE_LEN.saturating_sub(have.len()))?;
        let mut message = [0; MESSAGE_LEN];
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
        let (messages, _) = input.as_chunks::<MESSAGE_LEN>();
        let queues = self.queues.get_or_insert_default();
        let taken = queues.push_all(messages, self.profile.queue_len_max);
        self.received.count(Class::Urgent, taken.0);
        self.received.count(Class::Prefetch, taken.1);
        let len = taken.0.saturating_add(taken.1).saturating_mul(MESSAGE_LEN);
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
        let len_max = self.profile.queue_len_max;
        match message {
            Message::Request(class, id) => {
                let taken = self.queues.get_or_insert_default().push(class, id, len_max);
                self.received.count(class, usize::from(taken));
                return taken;
            }
            Message::Rekey(key) => {
                self.key = key;
                self.received.rekeys = self.received.rekeys.saturating_add(1);
            }
            Message::LoggedIn(logged_in) => {
                self.logged_in = logged_in;
                self.received.state_changes = self.received.state_changes.saturating_add(1);
            }
            Message::Connected => {}
            Message::Disconnect => {
                self.queues = None;
                self.disconnected = true;
            }
        }
        true
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
