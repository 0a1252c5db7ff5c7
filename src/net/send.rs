//! A connection's output: what its session has ready, filled into outputs and sent.
//!
//! A small batch is sent directly, and by the ring only if the socket is full; a large one goes
//! straight to the ring.

use super::connection::Connection;
use super::counters::{Close, add};
use super::latency::NOT_PICKED;
use super::ops;
use super::output::{COPY_LEN_MAX, Cursor, Output};
use super::pace::{DIRECT_LEN_MAX, Pace};
use super::peer::Phase;
use crate::platform::socket::bound_unsent;
use crate::protocol::session::{CloseCause, ServerSession, Step};
use crate::protocol::{Class, GroupId, Status};
use std::io;
use std::rc::Rc;
use std::time::Instant;

impl Connection {
    /// Sends what the session has ready: directly as long as the socket takes it, else by the
    /// ring, after which a send is under way.
    pub(super) fn send_ready(&mut self) -> io::Result<()> {
        while self.sending.is_none() {
            let len_max = self.send_len_max();
            let mut output = self.worker.outputs.borrow_mut().take();
            let queued = self.session.queued();
            let was_begun = self.current.is_some();
            match &self.worker.egress {
                None => self.fill(&mut output, len_max, ServerSession::next_step),
                Some(egress) => self.fill_on_credit(&Rc::clone(egress), &mut output, len_max),
            }
            if self.picked != NOT_PICKED {
                self.follow_picked(queued);
            }
            if output.is_empty() {
                self.worker.outputs.borrow_mut().put(output);
                return Ok(());
            }
            output.seal();
            self.worker.turns.charge(output.len(), was_begun);
            if self.pace.is_slow() {
                output.submitted = Some(Instant::now());
            }
            if output.len() < DIRECT_LEN_MAX + COPY_LEN_MAX && self.send_directly(&mut output)? {
                self.sent_whole(output);
            } else {
                self.send_by_ring(output);
            }
        }
        Ok(())
    }

    fn send_len_max(&mut self) -> usize {
        if self.peer.slow.get() && !self.pace.is_slow() {
            self.adapt(Pace::slow_down);
        }
        self.pace.send_len_max()
    }

    /// Fills an output with the session's steps, which `next` takes.
    #[inline]
    pub(super) fn fill(
        &mut self,
        output: &mut Output,
        len_max: usize,
        next: impl Fn(&mut ServerSession) -> Step,
    ) {
        if let Some(cursor) = self.current.take() {
            self.push_large(output, cursor, len_max);
        }
        self.prefetch_first();
        while self.current.is_none() && !output.is_full(len_max) {
            if self.pace.is_slow()
                && !output.is_empty()
                && self.next_exceeds(len_max - output.len())
            {
                // Once begun it is finished first: later an urgent one may be there instead.
                return;
            }
            self.prefetch_next();
            match next(&mut self.session) {
                Step::Response(response) if self.closing.is_some() => {
                    self.worker.counters.count_unanswered(response.class(), 1);
                }
                Step::Response(response) => match self.snapshot.answer(response) {
                    Some(framed) => {
                        self.worker.counters.count_response(response.class(), framed.len());
                        if !output.push_small(response, framed) {
                            self.push_large(output, Cursor { response, taken: 0 }, len_max);
                        }
                    }
                    None => self.miss(response.class(), response.id()),
                },
                Step::Status(status) => {
                    self.worker.counters.count_status(status);
                    output.push_status(status.to_byte());
                    if status == Status::Ok {
                        output.push_plain(self.session.greeting());
                    }
                }
                Step::Close(cause) => {
                    let reason = match cause {
                        CloseCause::Refused(_) => Close::Refused,
                        CloseCause::Disconnected => Close::Disconnect,
                    };
                    self.closing.get_or_insert(reason);
                    return;
                }
                Step::Idle => return,
            }
        }
    }

    /// Whether the response that comes next is longer than `room`.
    fn next_exceeds(&self, room: usize) -> bool {
        let next = self
            .session
            .upcoming(0)
            .and_then(|id| self.snapshot.response_in(self.session.dialect(), id));
        next.is_some_and(|framed| framed.len() > room)
    }

    /// Adds what fits of a response that is too large to be copied whole.
    fn push_large(&mut self, output: &mut Output, mut cursor: Cursor, len_max: usize) {
        let framed = self.snapshot.answer(cursor.response).unwrap_or_default();
        if !output.push(&mut cursor, framed, &self.snapshot, len_max) {
            self.current = Some(cursor);
        }
    }

    /// A request for a group that the cache does not hold: no answer is made up.
    fn miss(&mut self, class: Class, id: GroupId) {
        self.worker.counters.count_unanswered(class, 1);
        add(&self.worker.counters.missing_groups, 1);
        self.worker.missed.set(Some(id));
        if self.worker.config.limits.close_on_missing_group {
            self.closing.get_or_insert(Close::MissingGroup);
        }
    }

    /// Sends without the ring. True if all of it went.
    fn send_directly(&mut self, output: &mut Output) -> io::Result<bool> {
        match ops::send_now(output, &self.peer) {
            Ok(sent) => {
                add(&self.worker.counters.sent_bytes, sent as u64);
                let done = output.advance(sent);
                // After a wait for room it says nothing.
                if done && !self.waits_for_room() {
                    self.adapt(|pace| pace.went_through(sent));
                }
                Ok(done)
            }
            // The socket is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // Says nothing about the socket: the ring tries again, with a pause if it must.
            Err(error) if ops::is_passing(&error) => {
                self.count_passing(&error);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn send_by_ring(&mut self, mut output: Box<Output>) {
        output.submitted.get_or_insert_with(Instant::now);
        self.peer.enter(Phase::Sending, self.worker.now_ms());
        self.sending = Some(ops::send(output, Rc::clone(&self.peer)));
    }

    /// Takes note of a completed send; what is left of it goes out again.
    pub(super) fn sent(&mut self, sent: usize, mut output: Box<Output>) {
        add(&self.worker.counters.sent_bytes, sent as u64);
        if let Some(submitted) = output.submitted
            && !self.pace.is_slow()
        {
            let (took, busy) = (submitted.elapsed(), self.worker.is_busy());
            self.adapt(|pace| pace.was_sent(sent, took, busy));
        }
        if output.advance(sent) {
            self.sent_whole(output);
        } else {
            self.send_by_ring(output);
        }
    }

    /// All of an output has gone out. What a slow peer gets next is decided when there is room
    /// for it, not before.
    fn sent_whole(&mut self, mut output: Box<Output>) {
        self.handed_over();
        if self.waits_for_room() {
            output.wait_for_room();
            self.peer.enter(Phase::Sending, self.worker.now_ms());
            self.sending = Some(ops::writable(output, Rc::clone(&self.peer)));
        } else {
            self.worker.outputs.borrow_mut().put(output);
        }
    }

    fn waits_for_room(&self) -> bool {
        self.pace.is_slow() && (self.current.is_some() || self.session.has_queued())
    }

    /// The socket of a slow peer takes more, or has failed, which the next send shows.
    pub(super) fn has_room(&mut self, output: Box<Output>) {
        if let Some(submitted) = output.submitted {
            let (took, busy) = (submitted.elapsed(), self.worker.is_busy());
            self.adapt(|pace| pace.was_sent(output.sent_before, took, busy));
        }
        self.worker.outputs.borrow_mut().put(output);
    }

    /// Lets the pace know how a send went, and acts on what follows from it.
    #[inline]
    fn adapt(&mut self, change: impl FnOnce(&mut Pace)) {
        let before = self.pace;
        change(&mut self.pace);
        if self.pace != before {
            self.pace_changed(before);
        }
    }

    fn pace_changed(&mut self, before: Pace) {
        if self.pace.unsent_max() != before.unsent_max() {
            // It may fail on a socket that is gone, which shows soon enough.
            let _ = bound_unsent(&*self.peer, self.pace.unsent_max());
        }
        let is_slow = self.pace.is_slow();
        if !self.peer.slow.replace(is_slow) && is_slow {
            add(&self.worker.counters.slow_peers, 1);
        }
    }
}
