//! The server's end: the real session, and outputs filled as a connection fills them.
//!
//! What a connection does with the ring is not here; the order of its steps is.

use fastrand::Rng;
use js5d::net::output::{Cursor, Output, SnapshotRef};
use js5d::protocol::session::{Response, Step};
use js5d::protocol::{Clients, ServerSession, Status};
use std::sync::Arc;

/// Takes the session's queues, if nothing waits in them, and lends it such as have been used
/// before, or leaves it to make its own.
pub(crate) fn change_queues(session: &mut ServerSession, lend: bool) {
    if let Some(mut queues) = session.reclaim()
        && lend
    {
        queues.clear(4);
        session.lend(queues);
    }
}

/// The most that one read takes in, as a connection's buffer.
pub(super) const READ_LEN: usize = 256;

/// A send that is under way.
struct Sending {
    output: Output,
    bytes: Vec<u8>,
    sent: usize,
}

/// Session, outputs, and what was read and not taken.
pub(crate) struct ServerEnd {
    session: ServerSession,
    snapshot: SnapshotRef,
    len_max: usize,
    output: Output,
    current: Option<Cursor>,
    sending: Option<Sending>,
    /// No more responses are begun.
    pub(super) closing: bool,
    /// What was read and the session has not taken.
    pub(super) input: Vec<u8>,
    /// Whether it is read on beside a send, and one response exceeding the room waits.
    pub(super) slow: bool,
}

impl ServerEnd {
    pub(crate) fn new(
        snapshot: SnapshotRef,
        clients: Arc<Clients>,
        refusal: Option<Status>,
        len_max: usize,
    ) -> Self {
        Self {
            session: ServerSession::new(clients, refusal),
            snapshot,
            len_max,
            output: Output::default(),
            current: None,
            sending: None,
            closing: false,
            input: Vec::new(),
            slow: false,
        }
    }

    pub(crate) fn session_mut(&mut self) -> &mut ServerSession {
        &mut self.session
    }

    /// Whether an output holds the beginning of a response whose end is to come.
    pub(crate) fn is_mid_response(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Fills the output with the session's steps, which `next` takes.
    pub(crate) fn fill(&mut self, next: &mut dyn FnMut(&mut ServerSession) -> Step) {
        if let Some(cursor) = self.current.take() {
            self.push_large(cursor);
        }
        while self.current.is_none() && !self.output.is_full(self.len_max) {
            let room = self.len_max - self.output.len();
            if self.slow && !self.output.is_empty() && self.next_exceeds(room) {
                return;
            }
            match next(&mut self.session) {
                Step::Response(response) => self.respond(response),
                Step::Status(status) => self.output.push_status(status.to_byte()),
                Step::Close(_) => {
                    self.closing = true;
                    return;
                }
                Step::Idle => return,
            }
        }
    }

    fn respond(&mut self, response: Response) {
        if self.closing {
            return;
        }
        let Some(framed) = self.snapshot.response(response.id()) else { return };
        if !self.output.push_small(response, framed) {
            self.push_large(Cursor { response, taken: 0 });
        }
    }

    fn push_large(&mut self, mut cursor: Cursor) {
        let framed = self.snapshot.response(cursor.response.id()).unwrap_or_default();
        if !self.output.push(&mut cursor, framed, &self.snapshot, self.len_max) {
            self.current = Some(cursor);
        }
    }

    fn next_exceeds(&self, room: usize) -> bool {
        let next = self.session.upcoming(0).and_then(|id| self.snapshot.response(id));
        next.is_some_and(|framed| framed.len() > room)
    }

    /// The filled output as bytes, gone out at once.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        self.output.seal();
        let bytes = self.output.to_bytes();
        self.output.advance(bytes.len());
        self.output.clear();
        bytes
    }

    /// Hands the filled output to the socket, if there is something in it.
    pub(super) fn begin_send(&mut self) -> Result<(), String> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.output.seal();
        let bytes = self.output.to_bytes();
        if bytes.len() != self.output.len() {
            return Err(format!("an output of {} has {} bytes", self.output.len(), bytes.len()));
        }
        let output = std::mem::take(&mut self.output);
        self.sending = Some(Sending { output, bytes, sent: 0 });
        Ok(())
    }

    /// The socket takes at most `room` bytes of what is being sent, or fewer.
    pub(super) fn send_some(
        &mut self,
        room: usize,
        pipe: &mut Vec<u8>,
        rng: &mut Rng,
    ) -> Result<(), String> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        let left = sending.bytes.len() - sending.sent;
        let taken = super::super::wire::any_scale(rng, left).min(room);
        pipe.extend(&sending.bytes[sending.sent..sending.sent + taken]);
        sending.sent += taken;
        let is_done = sending.output.advance(taken);
        if is_done != (taken == left) || sending.output.len() != left - taken {
            return Err(format!("{taken} of {left} were sent, {} left", sending.output.len()));
        }
        if is_done && let Some(mut done) = self.sending.take() {
            done.output.clear();
            self.output = done.output;
        }
        Ok(())
    }
}
