//! One connection, driven as `connection/mod.rs` drives it, over a socket that is a few numbers.
//!
//! Each action of the machine is compared with the model and then carried out. The world decides
//! when operations complete, and whether in whole, in part or with an error. A connection is
//! stepped only after something has woken it, so a wake that is missing shows as a connection that
//! stops.

use super::peer::{Peer, Unanswered};
use super::stats::Stats;
use super::tally::Fault;
use crate::net::batch::{COPY_LEN_MAX, Sealed};
use crate::net::connection::{
    Action, Check, Deadlines, Doing, KernelProgress, Machine, SEND_LEN_MAX, Sample,
};
use crate::net::control::millis;
use crate::net::count::Close;
use crate::net::driver::{HEARTBEAT_MS, Key, READ_LEN, wake};
use crate::net::generations::Generations;
use crate::net::{Course, Shared};
use std::time::Duration;

/// Batches up to this length are sent directly first.
const DIRECT_LEN_MAX: usize = 18 << 10;

/// Bytes of a batch to a careful peer at most, apart from the end of its last response.
const SLOW_LEN_MAX: usize = 16 << 10;

/// Bytes of the longest part of a batch that is not a response: status and greeting.
const GREETING_LEN_MAX: usize = 257;

/// The time until an operation with a passing failure is tried again.
const RETRY_PAUSE_US: u64 = 10_000;

/// How a peer takes in what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    AtOnce,
    BytesASecond(u64),
    Nothing,
}

/// What the kernel holds for a peer, and at which rate the peer takes it in.
pub(super) struct Kernel {
    capacity: usize,
    unsent: usize,
    acknowledged: u64,
    /// Millionths of a byte that the peer has had time for.
    saved: u64,
    pub(super) rate: Rate,
}

impl Kernel {
    pub(super) fn new(capacity: usize, rate: Rate) -> Self {
        Self { capacity, unsent: 0, acknowledged: 0, saved: 0, rate }
    }

    /// From here on the peer reads everything at once.
    pub(super) fn takes_everything(&mut self) {
        self.capacity = 1 << 20;
        self.rate = Rate::AtOnce;
    }

    fn take(&mut self, len: usize) -> usize {
        let taken = len.min(self.capacity - self.unsent);
        self.unsent += taken;
        taken
    }

    /// Lets the peer read for so long. True if it has taken something in.
    fn pass(&mut self, us: u64) -> bool {
        let len = match self.rate {
            Rate::AtOnce => self.unsent,
            Rate::Nothing => 0,
            Rate::BytesASecond(rate) => {
                self.saved += rate * us;
                let len = self.unsent.min(usize::try_from(self.saved / 1_000_000).unwrap_or(0));
                // A peer saves up no time for bytes that are not there yet.
                self.saved %= 1_000_000;
                len
            }
        };
        self.unsent -= len;
        self.acknowledged += len as u64;
        len > 0
    }
}

impl KernelProgress for Kernel {
    fn acknowledged_bytes(&self) -> u64 {
        self.acknowledged
    }

    fn is_delivered(&self) -> bool {
        self.unsent == 0
    }
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The failure says nothing about the socket.
    Passing,
    /// The peer is gone.
    Reset,
}

enum Input {
    /// The machine has not taken so many bytes of these.
    Here(Vec<u8>, usize),
    UnderWay(Option<Result<Vec<u8>, Failure>>),
    Pauses(u64),
}

enum Output {
    Nothing,
    /// The socket has taken so many bytes of what is left of the batch.
    Sends(Sealed, usize, u64, Option<Result<usize, Failure>>),
    AwaitsRoom(bool),
    Pauses(Sealed, u64, u64),
}

/// What a step is given.
pub(super) struct Scene<'a> {
    pub(super) shared: &'a Shared,
    pub(super) course: Course,
    pub(super) now_us: u64,
    /// Whether sends may fail.
    pub(super) has_faults: bool,
    pub(super) rng: &'a mut fastrand::Rng,
    pub(super) stats: &'a mut Stats,
}

/// One connection and its operations.
pub(super) struct Link {
    key: Key,
    machine: Machine,
    pub(super) peer: Peer,
    pub(super) kernel: Kernel,
    input: Input,
    output: Output,
    /// The bytes of the batch that is sent, and how many of them the machine knows to be sent.
    bytes: Vec<u8>,
    gone: usize,
    /// What a careful peer had acknowledged when it began to be measured.
    measured_from: Option<(u64, u64)>,
    unanswered: Unanswered,
    begun_ms: u64,
    received_ms: u64,
    progress_ms: u64,
    is_closing: bool,
}

impl Link {
    pub(super) fn new(key: Key, machine: Machine, peer: Peer, kernel: Kernel, now_ms: u64) -> Self {
        wake(key);
        Self {
            key,
            machine,
            peer,
            kernel,
            input: Input::Here(Vec::new(), 0),
            output: Output::Nothing,
            bytes: Vec::new(),
            gone: 0,
            measured_from: None,
            unanswered: Unanswered::default(),
            begun_ms: now_ms,
            received_ms: now_ms,
            progress_ms: now_ms,
            is_closing: false,
        }
    }

    // What the world does to it.

    /// Whether something that the client has written, or its end, could be read.
    pub(super) fn is_readable(&self) -> bool {
        let reads = matches!(self.input, Input::UnderWay(None));
        let has_end = self.peer.has_ended && !self.peer.input_ended;
        reads && (!self.peer.upstream.is_empty() || has_end)
    }

    /// Completes the receive with at most `len_max` bytes.
    pub(super) fn deliver(&mut self, len_max: usize) {
        if self.is_readable() {
            let len = self.peer.upstream.len().min(len_max).min(READ_LEN);
            let bytes = self.peer.upstream.drain(..len).collect();
            self.input = Input::UnderWay(Some(Ok(bytes)));
            wake(self.key);
        }
    }

    /// Has an operation fail that is under way.
    pub(super) fn fail_operation(&mut self, failure: Failure, receives: bool) {
        match (&mut self.input, &mut self.output) {
            (Input::UnderWay(outcome @ None), _) if receives => *outcome = Some(Err(failure)),
            (_, Output::Sends(_, moved, _, outcome @ None)) if !receives => {
                // An error after a part of a batch is reported by the next send.
                *outcome = Some(if *moved > 0 { Ok(*moved) } else { Err(failure) });
            }
            _ => return,
        }
        wake(self.key);
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, us: u64, now_us: u64) {
        if self.kernel.pass(us) {
            self.progress_ms = now_us / 1000;
        }
        self.pump();
        let pauses_until = match (&self.input, &self.output) {
            (Input::Pauses(until), _) | (_, Output::Pauses(_, until, _)) => Some(*until),
            _ => None,
        };
        if pauses_until.is_some_and(|until| until <= now_us) {
            wake(self.key);
        }
    }

    /// Moves the bytes that the socket has room for, and completes the operations that end by that.
    fn pump(&mut self) {
        let unsent_max = if self.machine.is_careful() { 0 } else { self.kernel.capacity / 3 };
        match &mut self.output {
            Output::Sends(batch, moved, _, outcome @ None) => {
                *moved += self.kernel.take(batch.len() - *moved);
                if *moved < batch.len() {
                    return;
                }
                *outcome = Some(Ok(*moved));
            }
            Output::AwaitsRoom(is_there @ false) if self.kernel.unsent <= unsent_max => {
                *is_there = true;
            }
            _ => return,
        }
        wake(self.key);
    }

    /// Ends the connection at once.
    pub(super) fn cut(&mut self, reason: Close) {
        if self.machine.ending().is_none() {
            self.peer.cut = Some(reason);
        }
        self.machine.cut(reason);
        wake(self.key);
    }

    /// What the sweep does after each heartbeat.
    pub(super) fn sweep(
        &mut self,
        deadlines: &Deadlines,
        generations: Option<&mut Generations>,
        shared: &Shared,
    ) -> Result<(), Fault> {
        let ending = self.machine.ending();
        let mut acts = false;
        if let Some(generations) = generations {
            acts = generations.check(shared, &mut self.machine);
            if self.machine.is_asked_to_leave() {
                self.peer.told_to_leave();
            }
            if ending.is_none() && self.machine.ending().is_some() {
                self.peer.cut = Some(Close::Generation);
            }
        }
        let ending = self.machine.ending();
        let doing = self.machine.doing();
        acts |= self.machine.check(deadlines, &self.kernel, shared) == Check::Acts;
        if ending.is_none()
            && let Some(reason) = self.machine.ending()
        {
            self.check_late(reason, doing, shared)?;
            self.peer.cut = Some(reason);
        } else if acts && doing == Doing::Refuses {
            self.peer.is_refused(crate::protocol::Status::ServerFull);
        }
        if acts {
            wake(self.key);
        }
        Ok(())
    }

    /// An error if the connection must not be cut for being late.
    fn check_late(&self, reason: Close, doing: Doing, shared: &Shared) -> Result<(), Fault> {
        let now_ms = shared.now_ms();
        let limits = &shared.config.limits;
        let send_ms = millis(limits.send_timeout);
        let is_late = match reason {
            Close::HandshakeTimeout => {
                self.peer.is_opening() && now_ms > self.begun_ms + millis(limits.handshake_timeout)
            }
            Close::IdleTimeout => {
                !self.peer.is_owed() && now_ms > self.received_ms + millis(limits.idle_timeout)
            }
            Close::ByPeer => self.peer.input_ended && doing == Doing::AwaitsLastCredit,
            Close::SendTimeout => {
                // The kernel is asked four times in that time, at heartbeats.
                let unseen_ms = send_ms / 4 + 2 * HEARTBEAT_MS;
                let is_recent = self.progress_ms + send_ms > now_ms;
                !is_recent || self.progress_ms + unseen_ms > now_ms
            }
            _ => false,
        };
        match is_late {
            true => Ok(()),
            false => {
                Err(format!("late as {reason:?} while it {doing:?}: {}", self.peer.describe()))
            }
        }
    }

    /// Whether the peer reads, and the server owes it a response or has unread bytes of it.
    pub(super) fn has_business(&self) -> bool {
        !self.is_closing
            && self.kernel.rate != Rate::Nothing
            && self.machine.ending().is_none()
            && (self.peer.is_owed() || self.is_readable())
    }

    /// Whether our side has been ended.
    pub(super) fn lingers(&self) -> bool {
        self.machine.doing() == Doing::Lingers
    }

    /// The states of the machine and the peer, for the report of a fault.
    pub(super) fn describe(&self) -> String {
        format!(
            "{:?} ({:?}), {} in the kernel: {}",
            self.machine.doing(),
            self.machine.ending(),
            self.kernel.unsent,
            self.peer.describe()
        )
    }

    // What the driver does.

    /// Collects results and starts operations, as a step does. True if the connection has ended.
    pub(super) fn step(&mut self, scene: &mut Scene<'_>) -> Result<bool, Fault> {
        self.poll(scene)?;
        loop {
            if self.act(scene)? {
                return Ok(true);
            }
            if !self.poll(scene)? {
                return Ok(false);
            }
        }
    }

    fn poll(&mut self, scene: &mut Scene<'_>) -> Result<bool, Fault> {
        let has_sent = self.poll_output(scene)?;
        Ok(self.poll_input(scene) | has_sent)
    }

    fn poll_input(&mut self, scene: &Scene<'_>) -> bool {
        match std::mem::replace(&mut self.input, Input::Here(Vec::new(), 0)) {
            Input::UnderWay(Some(_)) if self.is_closing => {}
            Input::UnderWay(Some(Ok(bytes))) if bytes.is_empty() => {
                self.machine.receive_end();
                self.peer.input_ended = true;
            }
            Input::UnderWay(Some(Ok(bytes))) => {
                self.received_ms = scene.shared.now_ms();
                self.input = Input::Here(bytes, 0);
            }
            Input::UnderWay(Some(Err(Failure::Passing))) => {
                self.input = Input::Pauses(scene.now_us + RETRY_PAUSE_US);
            }
            Input::UnderWay(Some(Err(Failure::Reset))) => self.cut(Close::ByPeer),
            Input::Pauses(until) if until <= scene.now_us => {}
            waits => {
                self.input = waits;
                return false;
            }
        }
        true
    }

    fn poll_output(&mut self, scene: &mut Scene<'_>) -> Result<bool, Fault> {
        match std::mem::replace(&mut self.output, Output::Nothing) {
            Output::Sends(batch, _, since_us, Some(outcome)) => {
                self.sent(batch, since_us, outcome, scene)?;
            }
            Output::AwaitsRoom(true) => self.has_room(scene),
            Output::Pauses(batch, until, since_us) if until <= scene.now_us => {
                self.begin_send(batch, since_us)?;
            }
            waits => {
                self.output = waits;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pause_measurement(&mut self) {
        if self.measured_from.is_some() && !self.machine.measures_on() {
            self.measured_from = None;
        }
    }

    fn has_room(&mut self, scene: &Scene<'_>) {
        let Some((before, since_us)) = self.measured_from else { return };
        let acknowledged = self.kernel.acknowledged;
        let sample = Sample {
            bytes: acknowledged - before,
            took: Duration::from_micros(scene.now_us - since_us),
            is_round: self.kernel.unsent == 0,
            round_trip: Duration::ZERO,
        };
        if self.machine.has_room(sample, scene.shared) {
            self.measured_from = Some((acknowledged, scene.now_us));
        }
    }

    fn sent(
        &mut self,
        mut batch: Sealed,
        since_us: u64,
        outcome: Result<usize, Failure>,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fault> {
        match outcome {
            _ if self.is_closing => {}
            Ok(len) => {
                let whole = batch.advance(len);
                self.gone += len;
                self.peer.tally.sent += len as u64;
                let took = Duration::from_micros(scene.now_us - since_us);
                self.machine.sent(len, took, whole, scene.shared);
                if !whole {
                    scene.stats.partial_sends += 1;
                    self.machine.sends_on(scene.shared);
                    return self.begin_send(batch, since_us);
                }
            }
            Err(Failure::Passing) => {
                scene.stats.failed_sends += 1;
                self.output = Output::Pauses(batch, scene.now_us + RETRY_PAUSE_US, since_us);
                return Ok(());
            }
            Err(Failure::Reset) => self.cut(Close::ByPeer),
        }
        scene.shared.batches.borrow_mut().put(batch);
        Ok(())
    }

    /// Gives a batch, or what is left of it, to the ring.
    fn begin_send(&mut self, batch: Sealed, since_us: u64) -> Result<(), Fault> {
        let piece = batch.first_piece();
        let left = &self.bytes[self.gone..];
        if piece.is_empty() || !left.starts_with(piece) || batch.len() != left.len() {
            return Err(format!("the rest of a batch, {} bytes, has other bytes", left.len()));
        }
        self.output = Output::Sends(batch, 0, since_us, None);
        self.pump();
        Ok(())
    }

    fn act(&mut self, scene: &mut Scene<'_>) -> Result<bool, Fault> {
        loop {
            if self.is_closing {
                return Ok(self.has_nothing_under_way());
            }
            if !matches!(self.output, Output::Nothing) && self.machine.ending().is_none() {
                if self.machine.reads_beside_send(scene.shared) {
                    self.feed(scene)?;
                    if self.machine.ending().is_some() {
                        continue;
                    }
                    self.receive();
                }
                return Ok(false);
            }
            self.feed(scene)?;
            if self.machine.ending().is_none() {
                self.peer.is_stepped(scene.course);
            }
            let was_slow = self.machine.is_slow();
            let was_careful = self.machine.is_careful();
            let before = unanswered(scene.shared);
            let action = self.machine.next(self.key, scene.shared);
            self.unanswered.grow(before, unanswered(scene.shared));
            if let Action::Send(batch) = &action {
                self.check_batch(batch, was_slow, was_careful)?;
            }
            self.peer.drop_unanswered(&self.unanswered)?;
            if self.machine.ending().is_some() {
                self.check_end(scene.course)?;
            }
            self.peer.check_unanswered(&self.unanswered)?;
            match action {
                Action::Send(batch) => self.send(batch, scene)?,
                Action::Receive => {
                    self.peer.check_idle(scene.course)?;
                    self.pause_measurement();
                    if !self.has_input() {
                        self.receive();
                        return Ok(false);
                    }
                }
                Action::AwaitCredit => {
                    scene.stats.credit_waits += 1;
                    self.pause_measurement();
                    self.peer.check_owed()?;
                    self.receive();
                    return Ok(false);
                }
                Action::AwaitTurn => {
                    scene.stats.turn_waits += 1;
                    self.pause_measurement();
                    self.peer.check_owed()?;
                    return Ok(false);
                }
                Action::AwaitRoom => self.await_room(scene),
                Action::Linger => {
                    self.input = match std::mem::replace(&mut self.input, Input::UnderWay(None)) {
                        Input::Here(..) => Input::UnderWay(None),
                        input => input,
                    };
                    return Ok(false);
                }
                Action::Close(_) => self.close(),
            }
        }
    }

    fn await_room(&mut self, scene: &mut Scene<'_>) {
        scene.stats.room_waits += 1;
        self.measured_from.get_or_insert((self.kernel.acknowledged, scene.now_us));
        if self.kernel.unsent == 0 {
            return self.has_room(scene);
        }
        self.output = Output::AwaitsRoom(false);
        self.pump();
    }

    fn check_end(&mut self, course: Course) -> Result<(), Fault> {
        let Some(reason) = self.machine.ending() else {
            return Err("closes without a reason".to_owned());
        };
        self.peer.check_end(reason, course)
    }

    /// Gives the machine the received bytes, and checks that it takes as many as it must.
    fn feed(&mut self, scene: &Scene<'_>) -> Result<(), Fault> {
        let Input::Here(bytes, start) = &mut self.input else { return Ok(()) };
        if *start == bytes.len() {
            return Ok(());
        }
        let ending = self.machine.ending();
        let requests = self.peer.tally.requests;
        let left = &bytes[*start..];
        let before = unanswered(scene.shared);
        let taken = self.machine.receive(left, scene.shared);
        let expected = if ending.is_none() { self.peer.take(left, scene.course, taken) } else { 0 };
        self.unanswered.grow(before, unanswered(scene.shared));
        self.peer.check_unanswered(&self.unanswered)?;
        if taken != expected {
            return Err(format!("takes {taken} of {} bytes, not {expected}", left.len()));
        }
        *start += taken;
        if taken > 0 && self.peer.tally.requests == requests {
            self.peer.count_read();
        }
        if ending.is_none()
            && let Some(reason) = self.machine.ending()
        {
            if reason != Close::Chatter || !self.peer.says_much() {
                return Err(format!("cut as {reason:?} for bytes that the model allows"));
            }
            self.peer.cut = Some(reason);
        }
        Ok(())
    }

    /// An error if a batch must not be sent at this moment, or is not what must come next.
    fn check_batch(
        &mut self,
        batch: &Sealed,
        was_slow: bool,
        was_careful: bool,
    ) -> Result<(), Fault> {
        if !matches!(self.output, Output::Nothing) {
            return Err("a send begins while another is under way".to_owned());
        }
        self.bytes = batch.to_bytes();
        self.gone = 0;
        let len_max = if was_careful { SLOW_LEN_MAX } else { SEND_LEN_MAX };
        if self.bytes.is_empty() || self.bytes.len() > len_max + COPY_LEN_MAX + GREETING_LEN_MAX {
            return Err(format!("a batch of {} bytes, careful: {was_careful}", self.bytes.len()));
        }
        self.peer.check_batch(&self.bytes, was_slow)
    }

    fn has_input(&self) -> bool {
        matches!(&self.input, Input::Here(bytes, start) if *start < bytes.len())
    }

    fn receive(&mut self) {
        if matches!(&self.input, Input::Here(bytes, start) if *start == bytes.len()) {
            self.input = Input::UnderWay(None);
        }
    }

    /// Sends a batch that was checked: directly as far as the socket takes it, else by the driver.
    fn send(&mut self, mut batch: Sealed, scene: &mut Scene<'_>) -> Result<(), Fault> {
        scene.stats.bytes += self.bytes.len() as u64;
        let since_us = scene.now_us;
        let fate = if scene.has_faults { scene.rng.u16(..1000) } else { 1000 };
        if fate == 0 && batch.len() < DIRECT_LEN_MAX {
            scene.shared.batches.borrow_mut().put(batch);
            self.cut(Close::ByPeer);
            return Ok(());
        }
        if fate > 30 && batch.len() < DIRECT_LEN_MAX {
            let taken = self.kernel.take(batch.len());
            if taken > 0 {
                let whole = batch.advance(taken);
                self.gone = taken;
                self.peer.tally.sent += taken as u64;
                self.machine.sent_directly(taken, whole, scene.shared);
                if whole {
                    scene.shared.batches.borrow_mut().put(batch);
                    return Ok(());
                }
            }
        }
        self.machine.sends_on(scene.shared);
        self.begin_send(batch, since_us)
    }

    /// Shuts the socket down, so that operations under way complete.
    fn close(&mut self) {
        self.is_closing = true;
        if let Input::UnderWay(outcome) = &mut self.input {
            *outcome = Some(Ok(Vec::new()));
            wake(self.key);
        }
        match &mut self.output {
            Output::Sends(.., outcome) => *outcome = Some(Err(Failure::Reset)),
            Output::AwaitsRoom(is_there) => *is_there = true,
            Output::Nothing | Output::Pauses(..) => return,
        }
        wake(self.key);
    }

    fn has_nothing_under_way(&self) -> bool {
        !matches!(self.input, Input::UnderWay(_))
            && !matches!(self.output, Output::Sends(..) | Output::AwaitsRoom(_))
    }
}

impl Unanswered {
    fn grow(&mut self, before: Self, after: Self) {
        self.missing += after.missing - before.missing;
        for class in 0..2 {
            self.by_class[class] += after.by_class[class] - before.by_class[class];
        }
    }
}

/// What the worker has counted, of all its connections.
fn unanswered(shared: &Shared) -> Unanswered {
    let counters = &shared.counters;
    Unanswered {
        missing: counters.missing_groups.get(),
        by_class: [counters.unanswered_prefetch.get(), counters.unanswered_urgent.get()],
    }
}
