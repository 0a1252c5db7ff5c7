//! A connection: a machine, its socket, and the operations under way on it.
//!
//! Everything that one read asked for goes out in one send; nothing else matters as much. A small
//! batch is sent directly, and by the ring only if the socket is full; a large one goes straight
//! to the ring. While the ring sends, nothing is read, so that more requests gather for the next
//! batch. A *slow* peer is the exception: it gets little at a time, and is read on beside the
//! send, so that an urgent request overtakes what waits.
//!
//! A connection is no task. It is stepped when one of its operations has completed, or when
//! somebody has woken it: it looks at what has completed, asks its machine what to do, and starts
//! that. At most one receive and one send are under way. It may be dropped when none is.

mod chatter;
mod machine;
mod opening;
mod pace;

pub use machine::{Action, Check, Deadlines, Doing, Machine, Progress};
pub(super) use opening::{Opening, refuse_at_once, take_silent_place};
pub(super) use pace::{Held, SEND_LEN_MAX};

use super::admission::{Permit, Verdict};
use super::batch::{COPY_LEN_MAX, Sealed};
use super::count::{Close, count_errno};
use super::driver::{self, Key, READ_LEN, ReadBuffer, Receiving, Room, Sending, Socket, wake};
use super::openings::SilentPlace;
use super::shared::Shared;
use crate::platform::socket::{Delivery, acknowledged_bytes, delivery, is_delivered};
use crate::protocol::Status;
use opening::Opened;
use pace::DIRECT_LEN_MAX;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Rounds of a step before other connections have their turn. The ring completes nothing while a
/// connection is stepped, so only a driver that completes at once gets there.
const ROUNDS_MAX: usize = 16;

/// How long to wait before an operation that failed in passing is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What comes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It is woken when there is something to do.
    Waits,
    /// It has ended, and nothing is under way on its socket.
    Ended,
    /// It is the game server's, and nothing is under way on its socket.
    HandsOn,
}

/// What is known of the connection.
enum Stage {
    /// Not whose it is, or whether it is JS5's.
    Opening(Box<Opening>),
    /// It is JS5's.
    Serving(Machine),
}

/// The read buffer, and who has it.
enum Input {
    /// The connection: the range has not been taken by the machine.
    Here(ReadBuffer, Range<u16>),
    /// The kernel.
    UnderWay(Receiving<READ_LEN>),
    /// The connection; the last receive failed in passing and is tried again after a while.
    Pauses(ReadBuffer, Pin<Box<Sleep>>),
}

/// What is being sent.
enum Output {
    Nothing,
    Sends(Sending, Instant),
    /// Nothing, until there is room.
    AwaitsRoom(Room),
    /// The last send failed in passing and is tried again after a while.
    Pauses(Sealed, Pin<Box<Sleep>>, Instant),
}

/// One connection and its operations.
pub(super) struct Connection {
    stage: Stage,
    socket: Socket,
    input: Option<Input>,
    output: Output,
    /// Since when a careful peer has had something to take in all along, and what it had
    /// acknowledged by then.
    measured_from: Option<(u64, Instant)>,
    /// Its place among the peers, once it is decided on.
    permit: Option<Permit>,
    /// What the kernel has been told to hold at most.
    held: Held,
    output_ended: bool,
    /// The socket is shut down; what is under way comes to its end.
    is_closing: bool,
}

impl Connection {
    /// A JS5 connection that was accepted.
    pub(super) fn new(
        socket: Socket,
        verdict: Verdict,
        silent: Option<Box<SilentPlace>>,
        shared: &Shared,
    ) -> Self {
        let (machine, permit) = decided(verdict, silent, shared, shared.now_ms());
        Self::with(socket, Stage::Serving(machine), Some(permit))
    }

    /// A connection that was accepted and of which more must be known.
    pub(super) fn opening(socket: Socket, opening: Opening) -> Self {
        Self::with(socket, Stage::Opening(Box::new(opening)), None)
    }

    fn with(socket: Socket, stage: Stage, permit: Option<Permit>) -> Self {
        Self {
            stage,
            socket,
            input: Some(Input::Here(Box::new([0; READ_LEN]), 0..0)),
            output: Output::Nothing,
            measured_from: None,
            permit,
            held: Held::UNKNOWN,
            output_ended: false,
            is_closing: false,
        }
    }

    /// Its machine, if it is known to be JS5's.
    pub(super) fn machine(&self) -> Option<&Machine> {
        match &self.stage {
            Stage::Serving(machine) => Some(machine),
            Stage::Opening(_) => None,
        }
    }

    /// The same, to be told something. It is to be stepped afterwards.
    pub(super) fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.stage {
            Stage::Serving(machine) => Some(machine),
            Stage::Opening(_) => None,
        }
    }

    /// Cuts the connection off. It is to be stepped afterwards.
    pub(super) fn cut(&mut self, reason: Close) {
        match &mut self.stage {
            Stage::Serving(machine) => machine.cut(reason),
            Stage::Opening(opening) => opening.cut(reason),
        }
    }

    /// Holds it to its deadline.
    pub(super) fn check(&mut self, deadlines: &Deadlines, shared: &Shared) -> Check {
        match &mut self.stage {
            Stage::Serving(machine) => machine.check(deadlines, &self.socket, shared),
            Stage::Opening(opening) => opening.check(shared),
        }
    }

    /// What goes to the game server: the socket, what was read of it, and what it has shown.
    pub(super) fn into_parts(self) -> (Socket, Vec<u8>, Option<Opening>) {
        let read = match &self.input {
            Some(Input::Here(buffer, range)) => bytes_of(buffer, range).to_vec(),
            _ => Vec::new(),
        };
        let opening = match self.stage {
            Stage::Opening(opening) => Some(*opening),
            Stage::Serving(_) => None,
        };
        (self.socket, read, opening)
    }

    /// Does what there is to do, until it waits or has ended.
    pub(super) fn step(&mut self, key: Key, shared: &Shared) -> Flow {
        let waker = key.waker();
        let mut context = Context::from_waker(&waker);
        self.poll(&mut context, shared);
        for _ in 0..ROUNDS_MAX {
            if let Some(flow) = self.act(key, shared) {
                return flow;
            }
            if !self.poll(&mut context, shared) {
                return Flow::Waits;
            }
        }
        wake(key);
        Flow::Waits
    }

    // What has completed.

    /// Takes note of what has completed; false if nothing has.
    #[inline]
    fn poll(&mut self, context: &mut Context<'_>, shared: &Shared) -> bool {
        let has_sent = !matches!(self.output, Output::Nothing) && self.poll_output(context, shared);
        self.poll_input(context, shared) | has_sent
    }

    #[inline]
    fn poll_input(&mut self, context: &mut Context<'_>, shared: &Shared) -> bool {
        match &mut self.input {
            Some(Input::UnderWay(receiving)) => {
                let Poll::Ready((result, buffer)) = receiving.poll(&self.socket, context) else {
                    return false;
                };
                self.received(result, buffer, shared);
                true
            }
            Some(Input::Pauses(_, pause)) => {
                let is_over = pause.as_mut().poll(context).is_ready();
                if is_over && let Some(Input::Pauses(buffer, _)) = self.input.take() {
                    self.input = Some(Input::Here(buffer, 0..0));
                }
                is_over
            }
            _ => false,
        }
    }

    #[inline]
    fn received(&mut self, result: io::Result<usize>, buffer: ReadBuffer, shared: &Shared) {
        let mut range = 0..0;
        match result {
            _ if self.is_closing => {}
            Ok(0) => match &mut self.stage {
                Stage::Serving(machine) => machine.receive_end(),
                Stage::Opening(opening) => opening.cut(Close::ByPeer),
            },
            Ok(len) => range.end = u16::try_from(len).unwrap_or(0),
            Err(error) if driver::is_passing(&error) => {
                count_errno(&shared.counters.ring_errnos, &error);
                let pause = Box::pin(tokio::time::sleep(RETRY_PAUSE));
                self.input = Some(Input::Pauses(buffer, pause));
                return;
            }
            Err(error) => self.fail(&error, shared),
        }
        self.input = Some(Input::Here(buffer, range));
    }

    fn poll_output(&mut self, context: &mut Context<'_>, shared: &Shared) -> bool {
        match &mut self.output {
            Output::Nothing => false,
            Output::Sends(sending, since) => {
                let since = *since;
                let Poll::Ready((result, batch)) = sending.poll(&self.socket, context) else {
                    return false;
                };
                self.output = Output::Nothing;
                self.sent(result, batch, since, shared);
                true
            }
            Output::AwaitsRoom(room) => {
                // A failure is shown by the next send.
                if room.poll(&self.socket, context).is_pending() {
                    return false;
                }
                self.output = Output::Nothing;
                let delivery = self.delivery();
                self.has_room(delivery, shared);
                true
            }
            Output::Pauses(_, pause, _) => {
                if pause.as_mut().poll(context).is_pending() {
                    return false;
                }
                let output = std::mem::replace(&mut self.output, Output::Nothing);
                if let Output::Pauses(batch, _, since) = output {
                    self.output = Output::Sends(self.socket.send(batch), since);
                }
                true
            }
        }
    }

    /// Takes note of a completed send; what is left of it goes out again.
    fn sent(&mut self, result: io::Result<usize>, batch: Sealed, since: Instant, shared: &Shared) {
        let Stage::Serving(machine) = &mut self.stage else { return };
        match result {
            _ if self.is_closing => {}
            Ok(len) => {
                let whole = batch.is_empty();
                machine.sent(len, since.elapsed(), whole, shared);
                if !whole {
                    machine.sends_on(shared);
                    self.output = Output::Sends(self.socket.send(batch), since);
                    return self.hold(None);
                }
            }
            Err(error) if driver::is_passing(&error) => {
                count_errno(&shared.counters.ring_errnos, &error);
                let pause = Box::pin(tokio::time::sleep(RETRY_PAUSE));
                self.output = Output::Pauses(batch, pause, since);
                return;
            }
            Err(error) => self.fail(&error, shared),
        }
        shared.batches.borrow_mut().put(batch);
        self.hold(None);
    }

    fn fail(&mut self, error: &io::Error, shared: &Shared) {
        let reason = shared.reason_of(error);
        self.cut(reason);
    }

    /// Waits for room, of a careful peer, which has something to take in from here on. Most have
    /// room at once, and are spared an operation.
    fn await_room(&mut self, shared: &Shared) {
        let delivery = self.delivery();
        self.measured_from.get_or_insert_with(|| (delivery.acknowledged_bytes, Instant::now()));
        if delivery.unsent_bytes == 0 && self.socket.has_room() {
            self.has_room(delivery, shared);
        } else {
            self.output = Output::AwaitsRoom(self.socket.room());
        }
    }

    /// The socket of a careful peer has room. How fast the peer is shows by what it has
    /// acknowledged since.
    fn has_room(&mut self, delivery: Delivery, shared: &Shared) {
        let Stage::Serving(machine) = &mut self.stage else { return };
        let now = Instant::now();
        let (before, since) = self.measured_from.unwrap_or((delivery.acknowledged_bytes, now));
        let acknowledged = delivery.acknowledged_bytes.saturating_sub(before);
        if machine.has_room(acknowledged, now.duration_since(since), shared) {
            self.measured_from = Some((delivery.acknowledged_bytes, now));
            self.hold(Some(delivery));
        }
    }

    fn delivery(&self) -> Delivery {
        // It may fail on a socket that is gone, which shows soon enough.
        delivery(&self.socket).unwrap_or_default()
    }

    /// Has the kernel hold as much as the machine wants.
    #[inline]
    fn hold(&mut self, known: Option<Delivery>) {
        let Stage::Serving(machine) = &self.stage else { return };
        if machine.is_careful() || self.held != Held::FAST {
            self.hold_other(known);
        }
    }

    #[cold]
    fn hold_other(&mut self, known: Option<Delivery>) {
        let Stage::Serving(machine) = &self.stage else { return };
        let known = known.unwrap_or_else(|| self.delivery());
        let held = machine.held(known.round_trip_min);
        if !held.is_near(self.held) {
            held.replace(self.held, &self.socket);
            self.held = held;
        }
    }

    // What is to be done.

    /// Does what is to be done, until the connection waits: none. Or it has come to its end.
    #[inline]
    fn act(&mut self, key: Key, shared: &Shared) -> Option<Flow> {
        if self.is_closing {
            return self.has_nothing_under_way().then_some(Flow::Ended);
        }
        if let Stage::Opening(_) = self.stage {
            return self.act_opening(key, shared);
        }
        let mut may_read_on = true;
        loop {
            let Stage::Serving(machine) = &mut self.stage else { return None };
            if !matches!(self.output, Output::Nothing) && machine.ending().is_none() {
                if machine.reads_beside_send(shared) {
                    self.feed(shared);
                    if self.machine().is_some_and(|machine| machine.ending().is_some()) {
                        // Cut for what it said. It may never take in what is being sent.
                        continue;
                    }
                    self.receive();
                }
                return None;
            }
            self.feed(shared);
            if std::mem::take(&mut may_read_on) {
                self.read_on(shared);
            }
            let Stage::Serving(machine) = &mut self.stage else { return None };
            match machine.next(key, shared) {
                Action::Send(batch) => self.send(batch, shared),
                Action::Receive if self.has_input() => {
                    // A queue was full, and there is room.
                }
                Action::Receive | Action::AwaitCredit => {
                    self.measured_from = None;
                    self.receive();
                    return None;
                }
                Action::AwaitTurn => {
                    self.measured_from = None;
                    return None;
                }
                Action::AwaitRoom => self.await_room(shared),
                Action::Linger => {
                    if !std::mem::replace(&mut self.output_ended, true) {
                        self.socket.end_output();
                    }
                    self.discard_input();
                    self.receive();
                    return None;
                }
                Action::Close(reason) => return self.close(reason),
            }
        }
    }

    /// Gives the machine what was read, as far as it takes it.
    #[inline]
    fn feed(&mut self, shared: &Shared) {
        if let Some(Input::Here(buffer, range)) = &mut self.input
            && let Stage::Serving(machine) = &mut self.stage
            && range.start < range.end
        {
            let taken = machine.receive(bytes_of(buffer, range), shared);
            range.start += u16::try_from(taken).unwrap_or(0);
        }
    }

    /// Reads on at once if what came has filled the buffer and was taken: what the youngest clients
    /// keep in flight is longer than one read, and one batch is to answer all of it. Once a step,
    /// so that a peer that never stops holds up nobody.
    #[inline]
    fn read_on(&mut self, shared: &Shared) {
        let Some(Input::Here(buffer, range)) = &mut self.input else { return };
        if usize::from(range.start) < READ_LEN {
            return;
        }
        // An end and errors are left to the next receive.
        let len = self.socket.receive_now(&mut buffer[..]).unwrap_or(0);
        *range = 0..u16::try_from(len).unwrap_or(0);
        self.feed(shared);
    }

    #[inline]
    fn has_input(&self) -> bool {
        matches!(&self.input, Some(Input::Here(_, range)) if range.start < range.end)
    }

    fn discard_input(&mut self) {
        if let Some(Input::Here(_, range)) = &mut self.input {
            *range = 0..0;
        }
    }

    /// Begins to read, unless that is under way or something that was read has not been taken.
    #[inline]
    fn receive(&mut self) {
        if !matches!(&self.input, Some(Input::Here(_, range)) if range.start >= range.end) {
            return;
        }
        if let Some(Input::Here(buffer, _)) = self.input.take() {
            self.input = Some(Input::UnderWay(self.socket.receive(buffer)));
        }
    }

    /// Sends a batch: directly what the socket takes of a small one, the rest by the ring.
    #[inline]
    fn send(&mut self, mut batch: Sealed, shared: &Shared) {
        let Stage::Serving(machine) = &mut self.stage else { return };
        if batch.len() < DIRECT_LEN_MAX + COPY_LEN_MAX {
            match self.socket.send_now(&batch) {
                Ok(len) => {
                    let whole = batch.advance(len);
                    machine.sent_directly(len, whole, shared);
                    if whole {
                        shared.batches.borrow_mut().put(batch);
                        return;
                    }
                }
                // The socket is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Says nothing about the socket: the ring tries again, with a pause if it must.
                Err(error) if driver::is_passing(&error) => {
                    count_errno(&shared.counters.ring_errnos, &error);
                }
                Err(error) => {
                    shared.batches.borrow_mut().put(batch);
                    return self.fail(&error, shared);
                }
            }
        }
        machine.sends_on(shared);
        self.output = Output::Sends(self.socket.send(batch), Instant::now());
    }

    /// Shuts the socket down; it is closed when nothing is under way on it.
    fn close(&mut self, reason: Close) -> Option<Flow> {
        self.is_closing = true;
        if reason.is_reset() {
            let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
        self.socket.shut_down();
        self.has_nothing_under_way().then_some(Flow::Ended)
    }

    fn has_nothing_under_way(&self) -> bool {
        !matches!(self.input, Some(Input::UnderWay(_)))
            && !matches!(self.output, Output::Sends(..) | Output::AwaitsRoom(_))
    }

    // Before it is known what it is.

    fn act_opening(&mut self, key: Key, shared: &Shared) -> Option<Flow> {
        let Stage::Opening(opening) = &mut self.stage else { return None };
        if let (None, Some(Input::Here(buffer, range))) = (opening.ending(), &mut self.input)
            && range.start < range.end
        {
            let opened = opening.receive(bytes_of(buffer, range), &self.socket, shared);
            range.start = (range.start + opened.taken()).min(range.end);
            match opened {
                Opened::Partial { .. } => {}
                Opened::Js5 { .. } => return self.go_on_as_js5(key, shared),
                Opened::Game { .. } => return Some(Flow::HandsOn),
            }
        }
        let Stage::Opening(opening) = &mut self.stage else { return None };
        if let Some(reason) = opening.ending() {
            opening.leave(shared);
            if reason == Close::Openings {
                refuse_at_once(&self.socket, Status::TooManyConnections);
            }
            shared.counters.count_close(reason);
            tracing::debug!(address = %opening.address(), ?reason, "connection closed");
            return self.close(reason);
        }
        self.receive();
        None
    }

    fn go_on_as_js5(&mut self, key: Key, shared: &Shared) -> Option<Flow> {
        let Stage::Opening(opening) = &mut self.stage else { return None };
        let has_game = shared.config.front.game.is_some();
        let may_linger = shared.config.admission.may_accept();
        let since_ms = opening.leave(shared);
        match shared.decide(opening.source()) {
            Verdict::Refused(_, status) if has_game && !may_linger => {
                shared.counters.count_status(status);
                shared.counters.count_close(Close::Refused);
                refuse_at_once(&self.socket, status);
                self.is_closing = true;
                self.has_nothing_under_way().then_some(Flow::Ended)
            }
            verdict => {
                let silent = opening.take_silent_place();
                let (machine, permit) = decided(verdict, silent, shared, since_ms);
                self.stage = Stage::Serving(machine);
                self.permit = Some(permit);
                self.act(key, shared)
            }
        }
    }
}

/// How a JS5 connection goes on that was decided on.
fn decided(
    verdict: Verdict,
    silent: Option<Box<SilentPlace>>,
    shared: &Shared,
    since_ms: u64,
) -> (Machine, Permit) {
    let (permit, refusal) = match verdict {
        Verdict::Admitted(permit) => (permit, None),
        Verdict::Refused(permit, status) => (permit, Some(status)),
    };
    // Who is refused is given his time from here on.
    let since_ms = if refusal.is_some() { shared.now_ms() } else { since_ms };
    (Machine::new(shared, refusal, silent, since_ms), permit)
}

#[inline]
fn bytes_of<'a>(buffer: &'a ReadBuffer, range: &Range<u16>) -> &'a [u8] {
    buffer.get(usize::from(range.start)..usize::from(range.end)).unwrap_or_default()
}

impl Progress for Socket {
    fn acknowledged_bytes(&self) -> u64 {
        acknowledged_bytes(self).unwrap_or(0)
    }

    fn is_delivered(&self) -> bool {
        is_delivered(self).unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_grows_by_no_byte_unnoticed() {
        // What an idle connection costs is decided here: growth must be meant.
        assert_eq!(size_of::<Connection>(), 352, "bytes");
    }
}
