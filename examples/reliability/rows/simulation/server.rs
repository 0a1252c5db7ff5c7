//! The server's end: the real session, and batches filled as a connection fills them.
//!
//! What a connection does with the ring is not here; the order of its steps is.

use fastrand::Rng;
use js5d::net::batch::{BatchPool, Cursor, Filling, Sealed, SnapshotRef};
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
    batch: Sealed,
    bytes: Vec<u8>,
    sent: usize,
}

/// Session, batches, and what was read and not taken.
pub(crate) struct ServerEnd {
    session: ServerSession,
    snapshot: SnapshotRef,
    len_max: usize,
    pool: BatchPool,
    /// What is filled; none between a send and the next filling.
    filling: Option<Filling>,
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
            pool: BatchPool::default(),
            filling: None,
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

    /// Whether a batch holds the beginning of a response whose end is to come.
    pub(crate) fn is_mid_response(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Fills a batch with the session's steps, which `next` takes.
    pub(crate) fn fill(&mut self, next: &mut dyn FnMut(&mut ServerSession) -> Step) {
        let mut batch = self.filling.take().unwrap_or_else(|| self.pool.take());
        self.fill_batch(&mut batch, next);
        self.filling = Some(batch);
    }

    fn fill_batch(
        &mut self,
        batch: &mut Filling,
        next: &mut dyn FnMut(&mut ServerSession) -> Step,
    ) {
        if let Some(cursor) = self.current.take() {
            self.push_large(batch, cursor);
        }
        while self.current.is_none() && !batch.is_full(self.len_max) {
            let room = self.len_max - batch.len();
            if self.slow && !batch.is_empty() && self.next_exceeds(room) {
                return;
            }
            match next(&mut self.session) {
                Step::Response(response) => self.respond(batch, response),
                Step::Status(status) => {
                    batch.push_status(status.to_byte());
                    if status == Status::Ok {
                        batch.push_plain(self.session.greeting());
                    }
                }
                Step::Close(_) => {
                    self.closing = true;
                    return;
                }
                Step::Idle => return,
            }
        }
    }

    fn respond(&mut self, batch: &mut Filling, response: Response) {
        let view = self.snapshot.view(response.dialect());
        let place = view.place(response.id());
        if self.closing || place.is_empty() {
            return;
        }
        if !batch.push_small(response, view.framed(place)) {
            self.push_large(batch, Cursor::new(response, place));
        }
    }

    fn push_large(&mut self, batch: &mut Filling, mut cursor: Cursor) {
        if !batch.push(&mut cursor, &self.snapshot, self.len_max) {
            self.current = Some(cursor);
        }
    }

    fn next_exceeds(&self, room: usize) -> bool {
        let view = self.snapshot.view(self.session.dialect());
        let next = self.session.upcoming().next().map(|id| view.place(id).len());
        next.is_some_and(|len| len > room)
    }

    /// The filled batch as bytes, gone out at once.
    pub(crate) fn take_output(&mut self) -> Vec<u8> {
        let Some(batch) = self.filling.take() else { return Vec::new() };
        let mut batch = batch.seal();
        let bytes = batch.to_bytes();
        batch.advance(bytes.len());
        self.pool.put(batch);
        bytes
    }

    /// Hands the filled batch to the socket, if there is something in it.
    pub(super) fn begin_send(&mut self) -> Result<(), String> {
        let Some(batch) = self.filling.take() else { return Ok(()) };
        if batch.is_empty() {
            self.pool.put_unused(batch);
            return Ok(());
        }
        let batch = batch.seal();
        let bytes = batch.to_bytes();
        if bytes.len() != batch.len() {
            return Err(format!("a batch of {} has {} bytes", batch.len(), bytes.len()));
        }
        self.sending = Some(Sending { batch, bytes, sent: 0 });
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
        let is_done = sending.batch.advance(taken);
        if is_done != (taken == left) || sending.batch.len() != left - taken {
            return Err(format!("{taken} of {left} were sent, {} left", sending.batch.len()));
        }
        if is_done && let Some(done) = self.sending.take() {
            self.pool.put(done.batch);
        }
        Ok(())
    }
}
