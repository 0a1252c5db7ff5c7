//! A connection: its session's steps, turned into ring operations.
//!
//! Everything that one read asked for goes out in one send; nothing else matters as much. A
//! small batch is sent directly, and by the ring only if the socket is full; a large one goes
//! straight to the ring. While the ring sends, nothing is read, so that more requests gather
//! for the next batch. A *slow* peer is the exception: it gets little at a time, and is read on
//! beside the send, so that an urgent request overtakes what waits.

use super::chatter::Chatter;
use super::counters::Close;
use super::latency::{NOT_PICKED, PickId};
use super::ops::{self, InFlight, READ_LEN, ReadBuffer, Receiving, Retry, Sending};
use super::output::{Cursor, Output, SnapshotRef};
use super::pace::Pace;
use super::peer::{Peer, Phase};
use super::worker::Worker;
use crate::protocol::{ServerSession, Status};
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
    pub(super) worker: Rc<Worker>,
    pub(super) peer: Rc<Peer>,
    pub(super) session: ServerSession,
    pub(super) snapshot: SnapshotRef,
    /// The response that an earlier output holds the beginning of.
    pub(super) current: Option<Cursor>,
    /// Here while no receive is under way; `input` says which of it the session has not taken.
    pub(super) buffer: Option<ReadBuffer>,
    input: std::ops::Range<u16>,
    pub(super) receiving: Option<InFlight<Receiving>>,
    pub(super) sending: Option<InFlight<Sending>>,
    pub(super) pace: Pace,
    /// The peer has ended its side.
    pub(super) input_ended: bool,
    /// No more responses are begun; close when those begun are out.
    pub(super) closing: Option<Close>,
    pub(super) logged_in: bool,
    /// Its request that is timed, if there is one.
    pub(super) picked: PickId,
    pub(super) chatter: Chatter,
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
            pace: Pace::new(),
            input_ended: false,
            closing: None,
            logged_in: false,
            picked: NOT_PICKED,
            chatter: Chatter::default(),
        }
    }

    /// Begins with what was read before it was known to be JS5's.
    pub(super) fn begin_with(&mut self, buffer: ReadBuffer, input: std::ops::Range<u16>) {
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
        if let Some(egress) = &self.worker.egress {
            egress.forget(&self.peer);
        }
        self.give_up_queued();
        self.worker.counters.count_close(reason);
        tracing::debug!(?reason, "connection closed");
        // Boxed: it is awaited once, and would make each idle connection larger.
        Box::pin(self.close(reason)).await;
    }

    async fn serve(&mut self) -> Close {
        loop {
            if self.worker.is_stopping() {
                // It comes too late, and is told so.
                self.session.refuse(Status::ServerFull);
            }
            if let Err(reason) = self.feed() {
                return reason;
            }
            let waits = self.queue_for_turn();
            if waits {
                self.turn().await;
            }
            if let Err(error) = self.send_ready() {
                return self.reason_of(&error);
            }
            self.reclaim_queues();
            if waits {
                self.worker.turns.pass_on();
            }
            if self.sending.is_none() && !self.waits_for_credit() {
                if let Some(reason) = self.closing {
                    return reason;
                }
                if !self.input.is_empty() && !self.is_leaving() {
                    // A queue was full; now there is room.
                    continue;
                }
                if self.input_ended {
                    return Close::ByPeer;
                }
                if self.is_leaving() {
                    let drains = self.worker.is_draining();
                    return if drains { Close::Drain } else { Close::Generation };
                }
                self.await_input();
            }
            self.receive_if_wanted();
            let event = poll_fn(|context| self.poll(context)).await;
            let retry = match self.note(event) {
                Ok(retry) => retry,
                Err(reason) => return reason,
            };
            if let Some(retry) = retry
                && let Some(sending) = retry.await
            {
                self.sending = Some(sending);
            }
            if let Some(reason) = self.peer.cut.get() {
                return reason;
            }
        }
    }

    /// Takes note of what a wait ended with. The retry of an operation that failed in passing is
    /// to be awaited; its deadline goes on.
    fn note(&mut self, event: Event) -> Result<Option<Retry>, Close> {
        match event {
            Event::Received(result, buffer) => {
                self.buffer = Some(buffer);
                match result {
                    Ok(0) => self.input_ended = true,
                    Ok(len) => self.input = 0..u16::try_from(len).unwrap_or(0),
                    Err(error) if !ops::is_passing(&error) => return Err(self.reason_of(&error)),
                    Err(error) => {
                        self.count_passing(&error);
                        return Ok(Some(ops::pause()));
                    }
                }
            }
            Event::Sent(_, output) if output.sent_before > 0 => self.has_room(output),
            Event::Sent(Ok(sent), output) => self.sent(sent, output),
            Event::Sent(Err(error), output) if ops::is_passing(&error) => {
                self.count_passing(&error);
                return Ok(Some(ops::send_again(output, Rc::clone(&self.peer))));
            }
            Event::Sent(Err(error), _) => return Err(self.reason_of(&error)),
            Event::Woken => {
                if self.peer.hurry.get() {
                    self.session.refuse(Status::ServerFull);
                }
            }
        }
        Ok(None)
    }

    /// Gives the session what was read, as far as it takes it. Not while leaving: what is
    /// queued is finished, nothing is added.
    fn feed(&mut self) -> Result<(), Close> {
        if self.input.is_empty() || self.is_leaving() {
            return Ok(());
        }
        self.lend_queues();
        let Some(buffer) = &self.buffer else { return Ok(()) };
        let (start, end) = (usize::from(self.input.start), usize::from(self.input.end));
        let bytes = buffer.get(start..end).unwrap_or_default();
        let queued = self.session.queued();
        let result = self.session.receive(bytes);
        self.count_received(queued, result.is_ok_and(|taken| taken > 0));
        match result {
            Ok(taken) => {
                self.input.start += u16::try_from(taken).unwrap_or(0);
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
            || (self.is_leaving() && self.sending.is_none() && !self.waits_for_credit())
            || (self.is_called() && self.sending.is_none())
            || (self.peer.slow.get() && self.can_read_on())
    }

    /// Whether no receive is under way and one would be of use.
    fn can_read_on(&self) -> bool {
        self.buffer.is_some()
            && self.input.is_empty()
            && !self.input_ended
            && self.closing.is_none()
            && !self.is_leaving()
    }

    /// Whether only what is queued is answered still: the server drains, or the connection is to
    /// come back. After a hand-over, who was accepted is greeted first.
    fn is_leaving(&self) -> bool {
        let is_greeting = self.session.awaits_handshake() && !self.worker.is_stopping();
        !is_greeting && (self.worker.is_draining() || self.peer.leave.get())
    }
}
