//! A connection: a machine, its socket, and the operations under way on it.
//!
//! All requests of one read are answered in one send: this saves more time than anything else
//! here. A small batch is sent by a direct system call, and by the driver only if the socket is
//! full; a large one goes to the driver at once. While the driver sends, the connection receives
//! nothing, so that more requests gather for the next batch. A *careful* peer, one that is slow or
//! whose rate is not known, is the exception: it gets small sends, and the connection receives
//! during a send, so that an urgent request goes before what is queued.
//!
//! A connection is not a task. It is stepped when it was woken: because its socket can be read, its
//! send has completed, or something that it waits for has come. A step collects the result of a
//! completed send, asks the machine for the next action, and carries that out. A receive is a
//! system call that does not wait, into a buffer of the worker; a send may be an operation that is
//! under way for a while. There is one at most, and a connection may be dropped only while there is
//! none.

mod chatter;
mod machine;
mod opening;
mod pace;

pub use machine::{Action, Check, Deadlines, Doing, KernelProgress, Machine};
pub(super) use opening::{Opening, refuse_at_once, take_silent_permit};
pub use pace::Sample;
pub(super) use pace::{KernelBounds, SEND_LEN_MAX};

use super::admission::{Permit, Verdict};
use super::batch::{COPY_LEN_MAX, Sealed};
use super::count::{Close, count_errno};
use super::driver::{self, Key, READ_LEN, Room, Sending, Socket, is_readable, wake};
use super::openings::SilentPermit;
use super::shared::Shared;
use crate::platform::socket::{Delivery, acknowledged_bytes, delivery, is_delivered};
use crate::protocol::Status;
use opening::Opened;
use pace::DIRECT_LEN_MAX;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Rounds of one step at most, so that other connections have their turn. The ring completes
/// nothing while a connection is stepped, so only the epoll driver, whose sends may complete at
/// once, reaches this bound.
const ROUNDS_MAX: usize = 16;

/// Times that a connection receives in one round at most, so that a peer that sends without a pause
/// does not delay others.
const RECEIVES_MAX: usize = 16;

/// How long to wait before an operation is tried again whose failure says nothing about the socket
/// ([`driver::is_passing`]).
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// The connection waits; it is woken when there is something to do.
    Waits,
    /// The connection has ended, and no operation is under way on its socket.
    Ended,
    /// The connection belongs to the game server, and no operation is under way on its socket.
    HandsOn,
}

/// How far the connection has come.
enum Stage {
    /// Its announced address or its first byte has not arrived yet.
    Opening(Box<Opening>),
    /// It is a JS5 connection.
    Serving(Machine),
}

/// What the connection sends. The instants say when a send of the batch was first started.
enum Output {
    Nothing,
    Sends(Sending, Instant),
    /// Nothing; the next batch is filled when the socket has room.
    AwaitsRoom(Room),
    /// The last send failed with a passing error and is tried again after the pause.
    Pauses(Sealed, Pin<Box<Sleep>>, Instant),
}

/// Bytes since a connection began, modulo 2^32, so that it is small: only differences count.
#[derive(Clone, Copy)]
struct Delivered {
    /// Given to the kernel.
    written: u32,
    /// Acknowledged by the peer.
    acknowledged: u32,
}

impl Delivered {
    fn of(delivery: &Delivery) -> Self {
        let [written, acknowledged] =
            [delivery.written_bytes, delivery.acknowledged_bytes].map(|bytes| bytes as u32);
        Self { written, acknowledged }
    }
}

/// One connection and its operations.
pub(super) struct Connection {
    stage: Stage,
    socket: Socket,
    /// Received bytes that the machine or the opening has not taken.
    unread: Vec<u8>,
    /// The last receive failed with a passing error and is tried again after the pause.
    receive_pause: Option<Pin<Box<Sleep>>>,
    output: Output,
    /// For a careful peer, the beginning of a measurement of its rate: what had been delivered, and
    /// when. Since then the peer has always had something to take in, or the machine measures on.
    /// Boxed, because it is none for most connections.
    measured_from: Option<Box<(Delivered, Instant)>>,
    /// Its place among the admitted or refused connections; none while it is an opening.
    permit: Option<Permit>,
    /// The bounds that are set on the socket.
    kernel_bounds: KernelBounds,
    /// Our side of the connection has been ended.
    output_ended: bool,
    /// The socket is shut down; the connection ends when its operations have completed.
    is_closing: bool,
}

impl Connection {
    /// A connection that is JS5's from the start; `verdict` says whether it is served or refused.
    pub(super) fn new(
        socket: Socket,
        verdict: Verdict,
        silent: Option<Box<SilentPermit>>,
        shared: &Shared,
    ) -> Self {
        let (machine, permit) = decided(verdict, silent, shared, shared.now_ms());
        Self::with(socket, Stage::Serving(machine), Some(permit))
    }

    /// A connection whose announced address or first byte must arrive first.
    pub(super) fn opening(socket: Socket, opening: Opening) -> Self {
        Self::with(socket, Stage::Opening(Box::new(opening)), None)
    }

    fn with(socket: Socket, stage: Stage, permit: Option<Permit>) -> Self {
        Self {
            stage,
            socket,
            unread: Vec::new(),
            receive_pause: None,
            output: Output::Nothing,
            measured_from: None,
            permit,
            kernel_bounds: KernelBounds::UNKNOWN,
            output_ended: false,
            is_closing: false,
        }
    }

    /// The machine; none while the connection is an opening.
    pub(super) fn machine(&self) -> Option<&Machine> {
        match &self.stage {
            Stage::Serving(machine) => Some(machine),
            Stage::Opening(_) => None,
        }
    }

    /// The machine, to be changed; none while the connection is an opening. If it was changed, the
    /// caller must wake the connection.
    pub(super) fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.stage {
            Stage::Serving(machine) => Some(machine),
            Stage::Opening(_) => None,
        }
    }

    /// Ends the connection at once. The caller must wake it.
    pub(super) fn cut(&mut self, reason: Close) {
        match &mut self.stage {
            Stage::Serving(machine) => machine.cut(reason),
            Stage::Opening(opening) => opening.cut(reason),
        }
    }

    /// Checks the connection's deadline, and cuts it if the deadline has passed.
    pub(super) fn check(&mut self, deadlines: &Deadlines, shared: &Shared) -> Check {
        match &mut self.stage {
            Stage::Serving(machine) => machine.check(deadlines, &self.socket, shared),
            Stage::Opening(opening) => opening.check(shared),
        }
    }

    /// What the game's thread gets: the socket, the bytes received and not taken, and the opening.
    pub(super) fn into_parts(self) -> (Socket, Vec<u8>, Option<Opening>) {
        let opening = match self.stage {
            Stage::Opening(opening) => Some(*opening),
            Stage::Serving(_) => None,
        };
        (self.socket, self.unread, opening)
    }

    /// Has the connection be woken whenever its socket can be read. To be called once, before its
    /// first step.
    pub(super) fn watch(&mut self, key: Key, shared: &Shared) {
        if let Err(error) = driver::watch(&self.socket, key) {
            self.fail(&error, shared);
        }
    }

    /// Collects results and starts operations until the connection waits or has ended.
    pub(super) fn step(&mut self, key: Key, shared: &Shared) -> Flow {
        let waker = key.waker();
        let mut context = Context::from_waker(&waker);
        let mut has_sent = self.poll(&mut context, shared);
        for _ in 0..ROUNDS_MAX {
            if let Some(flow) = self.act(key, has_sent, shared) {
                return flow;
            }
            has_sent = self.poll(&mut context, shared);
            if !has_sent {
                return Flow::Waits;
            }
        }
        wake(key);
        Flow::Waits
    }

    // What has completed.

    /// Passes the result of a completed operation to the machine; false if none has completed.
    #[inline]
    fn poll(&mut self, context: &mut Context<'_>, shared: &Shared) -> bool {
        let has_paused = self.receive_pause.is_some() && self.poll_receive_pause(context);
        let has_sent = !matches!(self.output, Output::Nothing) && self.poll_output(context, shared);
        has_paused | has_sent
    }

    #[cold]
    fn poll_receive_pause(&mut self, context: &mut Context<'_>) -> bool {
        self.receive_pause.take_if(|pause| pause.as_mut().poll(context).is_ready()).is_some()
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
                // If the socket has failed, the next send returns the error.
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

    /// Passes the result of a send to the machine, and sends what is left of the batch.
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
                    return self.update_kernel_bounds(None);
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
        self.update_kernel_bounds(None);
    }

    fn fail(&mut self, error: &io::Error, shared: &Shared) {
        let reason = shared.reason_of(error);
        self.cut(reason);
    }

    /// Has a careful peer's connection wait until its socket has room. From here on the peer always
    /// has something to take in, so its rate can be measured. Most sockets have room already; then
    /// no operation is needed.
    fn await_room(&mut self, shared: &Shared) {
        let delivery = self.delivery();
        self.measured_from
            .get_or_insert_with(|| Box::new((Delivered::of(&delivery), Instant::now())));
        if delivery.unsent_bytes == 0 && self.socket.has_room() {
            self.has_room(delivery, shared);
        } else {
            self.output = Output::AwaitsRoom(self.socket.room());
        }
    }

    /// The socket of a careful peer has room: tells the machine what the peer has acknowledged
    /// since the measurement began.
    fn has_room(&mut self, delivery: Delivery, shared: &Shared) {
        let Stage::Serving(machine) = &mut self.stage else { return };
        let now = Instant::now();
        let delivered = Delivered::of(&delivery);
        let (before, since) = self.measured_from.as_deref().copied().unwrap_or((delivered, now));
        let bytes = delivered.acknowledged.wrapping_sub(before.acknowledged);
        let sample = Sample {
            bytes: bytes.into(),
            took: now.duration_since(since),
            is_round: bytes >= before.written.wrapping_sub(before.acknowledged),
            round_trip: delivery.round_trip_min,
        };
        if machine.has_room(sample, shared) {
            self.measured_from = Some(Box::new((delivered, now)));
            self.update_kernel_bounds(Some(delivery));
        }
    }

    /// From here on the peer may have nothing to take in.
    #[inline]
    fn pause_measurement(&mut self) {
        if self.measured_from.is_some()
            && let Stage::Serving(machine) = &mut self.stage
            && !machine.measures_on()
        {
            self.measured_from = None;
        }
    }

    fn delivery(&self) -> Delivery {
        // This fails only on a socket that has failed, and the next operation reports that.
        delivery(&self.socket).unwrap_or_default()
    }

    /// Sets the kernel's bounds on this socket to what the machine wants. `known` is the delivery
    /// if it was just read; otherwise it is read.
    #[inline]
    fn update_kernel_bounds(&mut self, known: Option<Delivery>) {
        let Stage::Serving(machine) = &self.stage else { return };
        if machine.is_careful() || self.kernel_bounds != KernelBounds::FAST {
            self.set_kernel_bounds(known);
        }
    }

    #[cold]
    fn set_kernel_bounds(&mut self, known: Option<Delivery>) {
        let Stage::Serving(machine) = &self.stage else { return };
        let known = known.unwrap_or_else(|| self.delivery());
        let wanted = machine.kernel_bounds(known.round_trip_min);
        if !wanted.is_near(self.kernel_bounds) {
            wanted.replace(self.kernel_bounds, &self.socket);
            self.kernel_bounds = wanted;
        }
    }

    // What is done next.

    /// Carries out the machine's actions until the connection waits, which returns none, or has
    /// ended. If it `has_sent` by an operation, what the peer asks for meanwhile is gathered.
    #[inline]
    fn act(&mut self, key: Key, has_sent: bool, shared: &Shared) -> Option<Flow> {
        if self.is_closing {
            return self.has_nothing_under_way().then_some(Flow::Ended);
        }
        if let Stage::Opening(_) = self.stage {
            return self.act_opening(key, shared);
        }
        let mut gathers = has_sent;
        let mut receives = 0;
        loop {
            if receives == RECEIVES_MAX {
                wake(key);
                return None;
            }
            self.feed(shared);
            let Stage::Serving(machine) = &mut self.stage else { return None };
            if !matches!(self.output, Output::Nothing) && machine.ending().is_none() {
                if machine.reads_beside_send(shared) && self.receive(key, shared) {
                    // It may have been cut because of what it sent. Then the send is not waited
                    // for, as the peer may never take it in.
                    receives += 1;
                    continue;
                }
                return None;
            }
            // A careful peer whose socket has room each time would not be read between its batches.
            if machine.reads_beside_send(shared) && is_readable(key) && self.receive(key, shared) {
                receives += 1;
                continue;
            }
            let Stage::Serving(machine) = &mut self.stage else { return None };
            match machine.next(key, shared) {
                Action::Send(batch) => self.send(batch, shared),
                Action::Receive if !self.unread.is_empty() => {
                    // A queue was full and has room again: the loop feeds the rest of the input.
                }
                Action::Receive | Action::AwaitCredit => {
                    if std::mem::take(&mut gathers) && is_readable(key) {
                        // The peer goes on asking as it takes in what was sent. Its requests are
                        // read after the other connections were stepped, so that a batch answers
                        // more of them.
                        wake(key);
                        return None;
                    }
                    if !self.receive(key, shared) {
                        self.pause_measurement();
                        return None;
                    }
                    receives += 1;
                }
                Action::AwaitTurn => {
                    self.pause_measurement();
                    return None;
                }
                Action::AwaitRoom => self.await_room(shared),
                Action::Linger => {
                    if !std::mem::replace(&mut self.output_ended, true) {
                        self.socket.end_output();
                    }
                    self.unread = Vec::new();
                    if !self.receive(key, shared) {
                        return None;
                    }
                    receives += 1;
                }
                Action::Close(reason) => return self.close(reason),
            }
        }
    }

    /// Gives the machine received bytes that it has not taken, as many as it takes.
    #[inline]
    fn feed(&mut self, shared: &Shared) {
        if !self.unread.is_empty()
            && let Stage::Serving(machine) = &mut self.stage
        {
            let taken = machine.receive(&self.unread, shared);
            self.unread.drain(..taken);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
        }
    }

    /// Receives what has arrived, and gives it to the machine; what an opening receives is left
    /// unread. False if nothing has arrived: the connection is woken when something has. Also false
    /// if the peer has ended its side, if there are unread bytes, or during a pause.
    ///
    /// A read that fills the buffer is followed by another, because clients may have more requests
    /// in flight than the buffer holds, and one batch should answer more of them.
    #[inline]
    fn receive(&mut self, key: Key, shared: &Shared) -> bool {
        if self.machine().is_some_and(Machine::has_input_ended) {
            return false;
        }
        let mut buffer = shared.read_buffer.borrow_mut();
        let mut has_received = false;
        for _ in 0..2 {
            if !self.unread.is_empty() || self.receive_pause.is_some() {
                break;
            }
            let Some(result) = self.socket.receive_now(key, &mut buffer[..]) else { break };
            has_received = true;
            let bytes = match result {
                Ok(len @ 1..) => buffer.get(..len).unwrap_or_default(),
                _ => {
                    self.received_no_bytes(result, shared);
                    break;
                }
            };
            let taken = match &mut self.stage {
                Stage::Serving(machine) => machine.receive(bytes, shared),
                Stage::Opening(_) => 0,
            };
            self.unread.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            if bytes.len() < READ_LEN {
                break;
            }
        }
        has_received
    }

    /// The stream has ended, or a receive has failed.
    #[cold]
    fn received_no_bytes(&mut self, result: io::Result<usize>, shared: &Shared) {
        match result {
            Ok(_) => match &mut self.stage {
                Stage::Serving(machine) => machine.receive_end(),
                Stage::Opening(opening) => opening.cut(Close::ByPeer),
            },
            Err(error) if driver::is_passing(&error) => {
                count_errno(&shared.counters.ring_errnos, &error);
                self.receive_pause = Some(Box::pin(tokio::time::sleep(RETRY_PAUSE)));
            }
            Err(error) => self.fail(&error, shared),
        }
    }

    /// Sends a batch. A small one is sent directly as far as the socket takes it; the rest, or a
    /// large one, is sent by the driver.
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
                // The error says nothing about the socket: the driver tries again.
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
        shared.driven.set(shared.driven.get() + 1);
        self.output = Output::Sends(self.socket.send(batch), Instant::now());
    }

    /// Shuts the socket down. It is closed when its operations have completed.
    fn close(&mut self, reason: Close) -> Option<Flow> {
        self.is_closing = true;
        if reason.is_reset() {
            let _ = rustix::net::sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
        }
        self.socket.shut_down();
        self.has_nothing_under_way().then_some(Flow::Ended)
    }

    fn has_nothing_under_way(&self) -> bool {
        !matches!(self.output, Output::Sends(..) | Output::AwaitsRoom(_))
    }

    // Openings.

    fn act_opening(&mut self, key: Key, shared: &Shared) -> Option<Flow> {
        while self.receive(key, shared) {
            let Stage::Opening(opening) = &mut self.stage else { return None };
            if opening.ending().is_some() || self.unread.is_empty() {
                break;
            }
            let opened = opening.receive(&self.unread, &self.socket, shared);
            self.unread.drain(..usize::from(opened.taken()).min(self.unread.len()));
            match opened {
                Opened::Partial { .. } => {}
                Opened::Js5 { .. } => return self.serve_js5(key, shared),
                Opened::Game { .. } => return Some(Flow::HandsOn),
            }
        }
        let Stage::Opening(opening) = &mut self.stage else { return None };
        if let Some(reason) = opening.ending() {
            opening.release_place(shared);
            if reason == Close::Openings {
                refuse_at_once(&self.socket, Status::TooManyConnections);
            }
            shared.counters.count_close(reason);
            tracing::debug!(address = %opening.address(), ?reason, "connection closed");
            return self.close(reason);
        }
        None
    }

    fn serve_js5(&mut self, key: Key, shared: &Shared) -> Option<Flow> {
        let Stage::Opening(opening) = &mut self.stage else { return None };
        let has_game = shared.config.front.game.is_some();
        let may_linger = shared.config.admission.may_accept();
        let since_ms = opening.release_place(shared);
        match shared.decide(opening.source()) {
            Verdict::Refused(_, status) if has_game && !may_linger => {
                shared.counters.count_status(status);
                shared.counters.count_close(Close::Refused);
                refuse_at_once(&self.socket, status);
                self.is_closing = true;
                self.has_nothing_under_way().then_some(Flow::Ended)
            }
            verdict => {
                let silent = opening.take_silent_permit();
                let (machine, permit) = decided(verdict, silent, shared, since_ms);
                self.stage = Stage::Serving(machine);
                self.permit = Some(permit);
                self.act(key, false, shared)
            }
        }
    }
}

/// The machine and the permit of a JS5 connection that was admitted or refused.
fn decided(
    verdict: Verdict,
    silent: Option<Box<SilentPermit>>,
    shared: &Shared,
    since_ms: u64,
) -> (Machine, Permit) {
    let (permit, refusal) = match verdict {
        Verdict::Admitted(permit) => (permit, None),
        Verdict::Refused(permit, status) => (permit, Some(status)),
    };
    // The time for reading a refused peer's handshake begins with the refusal.
    let since_ms = if refusal.is_some() { shared.now_ms() } else { since_ms };
    (Machine::new(shared, refusal, silent, since_ms), permit)
}

impl KernelProgress for Socket {
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
    fn the_size_of_a_connection_is_as_recorded() {
        // An idle connection's memory is mostly this; whoever enlarges it changes this figure.
        assert_eq!(size_of::<Connection>(), 336, "bytes");
    }
}
