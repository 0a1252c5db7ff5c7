//! A connection: its session's steps, turned into ring operations.
//!
//! Everything that one read asked for goes out in one send; nothing else matters as much. A
//! small batch is sent directly, and by the ring only if the socket is full; a large one goes
//! straight to the ring. While the ring sends, nothing is read, so that more requests gather
//! for the next batch. A *slow* peer is the exception: it gets little at a time, and is read on
//! beside the send, so that an urgent request overtakes what waits.

use super::counters::{Close, add};
use super::ops::{self, InFlight, READ_LEN, ReadBuffer, Receiving, Sending};
use super::output::{COPY_LEN_MAX, Cursor, Output, SnapshotRef};
use super::pace::{DIRECT_LEN_MAX, Pace, SLOW_UNSENT_MAX, UNSENT_MAX};
use super::peer::{Peer, Phase};
use super::worker::Worker;
use crate::platform::socket::bound_unsent;
use crate::protocol::session::{CloseCause, Step};
use crate::protocol::{GroupId, ServerSession, Status};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// What a wait ended with.
enum Event {
    Received(io::Result<usize>, ReadBuffer),
    Sent(io::Result<usize>, Box<Output>),
    /// The sweep has something to say; it is in the peer.
    Woken,
}

/// One connection and its operations.
pub(super) struct Connection {
    worker: Rc<Worker>,
    pub(super) peer: Rc<Peer>,
    session: ServerSession,
    snapshot: SnapshotRef,
    /// The response that an earlier output holds the beginning of.
    current: Option<Cursor>,
    /// Here while no receive is under way; `input` says which of it the session has not taken.
    pub(super) buffer: Option<ReadBuffer>,
    input: std::ops::Range<usize>,
    pub(super) receiving: Option<InFlight<Receiving>>,
    pub(super) sending: Option<InFlight<Sending>>,
    pace: Pace,
    /// The peer has ended its side.
    input_ended: bool,
    /// No more responses are begun; close when those begun are out.
    closing: Option<Close>,
    logged_in: bool,
}

impl Connection {
    pub(super) fn new(
        worker: Rc<Worker>,
        peer: Rc<Peer>,
        session: ServerSession,
        snapshot: SnapshotRef,
    ) -> Self {
        Self {
            worker,
            peer,
            session,
            snapshot,
            current: None,
            buffer: Some(Box::new([0; READ_LEN])),
            input: 0..0,
            receiving: None,
            sending: None,
            pace: Pace::Fresh,
            input_ended: false,
            closing: None,
            logged_in: false,
        }
    }

    /// Begins with what was read before it was known to be JS5's.
    pub(super) fn begin_with(&mut self, buffer: ReadBuffer, input: std::ops::Range<usize>) {
        self.buffer = Some(buffer);
        self.input = input;
    }

    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Serves the peer to its end. The socket is closed when the connection is dropped.
    pub(super) async fn run(&mut self) {
        let reason = self.serve().await;
        self.set_logged_in(false);
        self.worker.counters.count_close(reason);
        tracing::debug!(?reason, "connection closed");
        self.close(reason).await;
    }

    async fn serve(&mut self) -> Close {
        loop {
            if self.worker.draining.get() {
                // It comes too late, and is told so.
                self.session.refuse(Status::ServerFull);
            }
            if let Err(reason) = self.feed() {
                return reason;
            }
            if let Err(error) = self.send_ready() {
                return self.reason_of(&error);
            }
            if self.sending.is_none() {
                if let Some(reason) = self.closing {
                    return reason;
                }
                if !self.input.is_empty() && !self.worker.draining.get() {
                    // A queue was full; now there is room.
                    continue;
                }
                if self.input_ended {
                    return Close::ByPeer;
                }
                if self.worker.draining.get() {
                    return Close::Drain;
                }
                self.await_input();
            }
            self.receive_if_wanted();
            match poll_fn(|context| self.poll(context)).await {
                Event::Received(result, buffer) => {
                    self.buffer = Some(buffer);
                    match result {
                        Ok(0) => self.input_ended = true,
                        Ok(len) => self.input = 0..len,
                        Err(error) if ops::is_passing(&error) => ops::pause().await,
                        Err(error) => return self.reason_of(&error),
                    }
                }
                Event::Sent(Err(error), output) if ops::is_passing(&error) => {
                    // Nothing went out; the deadline goes on.
                    ops::pause().await;
                    self.sending = Some(ops::send(output, Rc::clone(&self.peer)));
                }
                Event::Sent(Err(error), _) => return self.reason_of(&error),
                Event::Sent(Ok(sent), output) => self.sent(sent, output),
                Event::Woken => {
                    if self.peer.hurry.get() {
                        self.session.refuse(Status::ServerFull);
                    }
                }
            }
            if let Some(reason) = self.peer.cut.get() {
                return reason;
            }
        }
    }

    /// Gives the session what was read, as far as it takes it. Not while draining: what is
    /// queued is finished, nothing is added.
    fn feed(&mut self) -> Result<(), Close> {
        let Some(buffer) = &self.buffer else { return Ok(()) };
        if self.input.is_empty() || self.worker.draining.get() {
            return Ok(());
        }
        let bytes = buffer.get(self.input.clone()).unwrap_or_default();
        let result = self.session.receive(bytes);
        self.count_received();
        match result {
            Ok(taken) => {
                self.input.start += taken;
                Ok(())
            }
            Err(violation) => {
                self.input = 0..0;
                if self.session.awaits_handshake() {
                    return Err(Close::Violation(violation));
                }
                // A status that is due goes out before the close.
                self.closing = Some(Close::Violation(violation));
                Ok(())
            }
        }
    }

    /// Sends what the session has ready: directly as long as the socket takes it, else by the
    /// ring, after which a send is under way.
    fn send_ready(&mut self) -> io::Result<()> {
        while self.sending.is_none() {
            let len_max = self.send_len_max();
            let mut output = self.worker.outputs.borrow_mut().take();
            self.fill(&mut output, len_max);
            if output.is_empty() {
                self.worker.outputs.borrow_mut().put(output);
                return Ok(());
            }
            output.seal();
            if output.len() < DIRECT_LEN_MAX + COPY_LEN_MAX && self.send_directly(&mut output)? {
                self.worker.outputs.borrow_mut().put(output);
            } else {
                self.send_by_ring(output);
            }
        }
        Ok(())
    }

    fn send_len_max(&mut self) -> usize {
        if self.peer.slow.get() && !self.pace.is_slow() {
            self.slow_down();
        }
        self.pace.send_len_max()
    }

    /// Fills an output with the session's next steps.
    fn fill(&mut self, output: &mut Output, len_max: usize) {
        if let Some(cursor) = self.current.take() {
            self.push_large(output, cursor, len_max);
        }
        while self.current.is_none() && !output.is_full(len_max) {
            match self.session.next_step() {
                Step::Response(_) if self.closing.is_some() => {}
                Step::Response(response) => match self.snapshot.response(response.id()) {
                    Some(framed) => {
                        self.worker.counters.count_response(response.class());
                        if !output.push_small(response, framed) {
                            self.push_large(output, Cursor { response, taken: 0 }, len_max);
                        }
                    }
                    None => self.miss(response.id()),
                },
                Step::Status(status) => {
                    self.worker.counters.count_status(status);
                    output.push_status(status.to_byte());
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

    /// Adds what fits of a response that is too large to be copied whole.
    fn push_large(&mut self, output: &mut Output, mut cursor: Cursor, len_max: usize) {
        let framed = self.snapshot.response(cursor.response.id()).unwrap_or_default();
        if !output.push(&mut cursor, framed, &self.snapshot, len_max) {
            self.current = Some(cursor);
        }
    }

    /// A request for a group that the cache does not hold: no answer is made up.
    fn miss(&mut self, id: GroupId) {
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
                if done {
                    self.speed_up(sent)
                } else {
                    self.slow_down()
                }
                Ok(done)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.slow_down();
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send_by_ring(&mut self, output: Box<Output>) {
        self.peer.enter(Phase::Sending, self.worker.now_ms());
        self.sending = Some(ops::send(output, Rc::clone(&self.peer)));
    }

    /// Takes note of a completed send; what is left of it goes out again.
    fn sent(&mut self, sent: usize, mut output: Box<Output>) {
        add(&self.worker.counters.sent_bytes, sent as u64);
        if output.advance(sent) {
            self.worker.outputs.borrow_mut().put(output);
        } else {
            self.send_by_ring(output);
        }
    }

    /// The socket took everything at once.
    #[inline]
    fn speed_up(&mut self, sent: usize) {
        if self.pace.speed_up(sent) {
            self.peer.slow.set(false);
            let _ = bound_unsent(&*self.peer, UNSENT_MAX);
            self.session.shrink();
        }
    }

    /// The socket is full, or a send has taken long.
    fn slow_down(&mut self) {
        if self.pace.slow_down() {
            let _ = bound_unsent(&*self.peer, SLOW_UNSENT_MAX);
            if !self.peer.slow.replace(true) {
                add(&self.worker.counters.slow_peers, 1);
            }
        }
    }

    /// Nothing is being sent: the peer's next bytes have their deadline.
    fn await_input(&self) {
        if !self.session.awaits_handshake() {
            self.peer.enter(Phase::Idle, self.worker.now_ms());
        }
    }

    fn receive_if_wanted(&mut self) {
        let is_time = self.sending.is_none() || self.peer.slow.get();
        if is_time
            && self.can_read_on()
            && let Some(buffer) = self.buffer.take()
        {
            self.receiving = Some(ops::receive(buffer, Rc::clone(&self.peer)));
        }
    }

    /// Waits for whichever operation completes, or for the sweep. Nothing under way is dropped.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.peer.remember(context);
        if let Some(sending) = &mut self.sending
            && let Poll::Ready((result, (output, _))) = Pin::new(sending).poll(context)
        {
            self.sending = None;
            return Poll::Ready(Event::Sent(result, output));
        }
        if let Some(receiving) = &mut self.receiving
            && let Poll::Ready((result, (buffer, _))) = Pin::new(receiving).poll(context)
        {
            self.receiving = None;
            return Poll::Ready(Event::Received(result, buffer));
        }
        if self.wants_attention() { Poll::Ready(Event::Woken) } else { Poll::Pending }
    }

    /// Whether the sweep has set something that the loop has not acted on.
    fn wants_attention(&self) -> bool {
        self.peer.cut.get().is_some()
            || (self.peer.hurry.get() && self.session.awaits_handshake())
            || (self.worker.draining.get() && self.sending.is_none())
            || (self.peer.slow.get() && self.can_read_on())
    }

    /// Whether no receive is under way and one would be of use.
    fn can_read_on(&self) -> bool {
        self.buffer.is_some()
            && self.input.is_empty()
            && !self.input_ended
            && self.closing.is_none()
            && !self.worker.draining.get()
    }

    fn count_received(&mut self) {
        let received = self.session.take_received();
        let counters = &self.worker.counters;
        add(&counters.requests_urgent, received.urgent.into());
        add(&counters.requests_prefetch, received.prefetch.into());
        if received.rekeys | received.state_changes != 0 {
            add(&counters.rekeys, received.rekeys.into());
            add(&counters.state_changes, received.state_changes.into());
            self.set_logged_in(self.session.logged_in());
        }
    }

    fn set_logged_in(&mut self, logged_in: bool) {
        let gauge = &self.worker.counters.logged_in;
        match (std::mem::replace(&mut self.logged_in, logged_in), logged_in) {
            (false, true) => gauge.set(gauge.get() + 1),
            (true, false) => gauge.set(gauge.get() - 1),
            _ => {}
        }
    }
}
