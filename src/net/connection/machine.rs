//! What a connection does, as pure state: what happened goes in, an [`Action`] comes out.
//!
//! The machine has no socket and no clock. Its caller tells it the time, the bytes received and
//! the result of each send, and carries out the actions that it returns. The seeded simulation can
//! therefore drive it through any order of events. Deadlines are not timers: the machine stores
//! what it waits for and since when, and the sweep calls [`Machine::check`], which compares.

use super::chatter::Chatter;
use super::pace::{KernelBounds, Pace, Sample};
use crate::catalog::{Place, View};
use crate::net::batch::{Cursor, Filling, Sealed, SnapshotRef};
use crate::net::control::millis;
use crate::net::count::{Close, NOT_PICKED, PickId, add};
use crate::net::driver::Key;
use crate::net::line::{Credit, Egress, LARGE_FROM, Rank, Share, TurnTicket};
use crate::net::openings::SilentPermit;
use crate::net::shared::Shared;
use crate::protocol::session::{Allowance, CloseCause, Received, Response, ServerSession, Step};
use crate::protocol::{Class, Status};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// So many queued requests count as a large batch, whatever the sizes of their responses.
const MANY_REQUESTS: usize = 8;

/// How many responses ahead memory is fetched into the core's cache: first the places, which hold
/// the addresses of the responses, then the responses. With the sizes of a build 550 cache this
/// saves 12 % of a response's CPU time (docs/performance.md).
const PLACES_AHEAD: usize = 64;
const RESPONSES_AHEAD: usize = 8;

/// How often one response is broken off at most. The bound ensures that each is completed.
const BREAK_OFFS_MAX: u8 = 2;

/// A response is broken off only if the rest of it would take the peer longer than this.
const BREAK_OFF_SAVES_MS: u64 = 100;

/// A response is broken off only while more than one eighth of it is left.
const BREAK_OFF_SHARE_LEFT: usize = 8;

/// Bytes sent in vain are bytes of responses that were broken off later. At most one eleventh of
/// all bytes sent may be in vain, or the number that follows from `WASTE_START_MS`, if that is
/// larger.
const WASTE_SHARE: u64 = 11;

/// A connection may always send in vain as many bytes as its peer takes in within this time,
/// bounded by `WASTE_START_MIN` and `WASTE_START_MAX`.
const WASTE_START_MS: u64 = 6_000;

/// In bytes. The sum of what may be unacknowledged before the rate of a peer is known (32 KB), of a
/// burst that a router lets pass before it holds the line to its rate (32 KB), and of what a line
/// of 56 kbit/s carries in 4 s (28 KB), rounded up.
const WASTE_START_MIN: u64 = 96 << 10;

/// In bytes: seven eighths of the largest group of build 550.
const WASTE_START_MAX: u64 = 448 << 10;

/// What a connection does; this determines its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Waits for the handshake.
    AwaitsHandshake,
    /// Waits for the handshake of a peer that will be refused.
    Refuses,
    /// Waits for requests.
    Idles,
    /// Waits for the peer to take in what is sent, or for room for more.
    Sends,
    /// Waits for a turn of the ring.
    AwaitsTurn,
    /// Waits for credit under a cap.
    AwaitsCredit,
    /// Waits for credit, and the peer has ended its side or is gone. The two cannot be told apart
    /// until something is sent. A deadline bounds this wait.
    AwaitsLastCredit,
    /// Waits for the peer to end its side after an orderly end.
    Lingers,
    /// Waits for its operations to complete; then its socket is closed.
    Closes,
}

/// What the connection has to do with its socket next.
pub enum Action {
    /// Receive.
    Receive,
    /// Send this batch.
    Send(Sealed),
    /// Wait until the socket takes more.
    AwaitRoom,
    /// Do nothing until the turn of the ring comes.
    AwaitTurn,
    /// Receive until there is credit.
    AwaitCredit,
    /// End our side, then receive and discard.
    Linger,
    /// Shut the socket down, let its operations complete, close it.
    Close(Close),
}

/// The result of checking a connection's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing is due.
    Fine,
    /// Nothing is due. To find out, the kernel was asked for the peer's progress.
    Asked,
    /// The machine has changed its state; the caller must step the connection.
    Acts,
}

/// The deadlines, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    handshake_ms: u64,
    idle_ms: u64,
    send_ms: u64,
    linger_ms: u64,
    /// The least time between two questions to the kernel about the same peer's progress.
    sample_ms: u64,
}

/// The kernel is asked for a peer's progress at most once in this time.
const PROGRESS_SAMPLE_MS: u64 = 1000;

/// The kernel is asked at least this often before a peer is cut for making no progress.
const PROGRESS_SAMPLES: u64 = 4;

/// A peer counts as slow when the kernel has not taken all of a send after this time.
const SLOW_AFTER_MS: u64 = 200;

impl Deadlines {
    /// The deadlines that the configuration sets.
    #[must_use]
    pub fn new(shared: &Shared) -> Self {
        let limits = &shared.config.limits;
        let send_ms = millis(limits.send_timeout);
        Self {
            handshake_ms: millis(limits.handshake_timeout),
            idle_ms: millis(limits.idle_timeout),
            send_ms,
            linger_ms: millis(limits.linger_timeout),
            sample_ms: PROGRESS_SAMPLE_MS.min(send_ms / PROGRESS_SAMPLES),
        }
    }
}

/// What the kernel reports about the delivery of a connection's bytes.
pub trait KernelProgress {
    /// Bytes that the peer has acknowledged since the connection began.
    fn acknowledged_bytes(&self) -> u64;
    /// Whether the peer has acknowledged everything that was sent.
    fn is_delivered(&self) -> bool;
}

/// One connection, without its socket.
pub struct Machine {
    session: ServerSession,
    /// Counts the connection among the silent ones of its address until its handshake is answered
    /// OK. A refused connection keeps the permit to its end, so that the peers of one address
    /// cannot take every place of `--refusals-max`.
    silent: Option<Box<SilentPermit>>,
    snapshot: SnapshotRef,
    /// The response whose beginning is in an earlier batch and whose rest is not in any yet.
    begun: Option<Cursor>,
    /// A prefetch that urgent responses have overtaken between two of its blocks. Boxed, as few
    /// connections ever have one.
    overtaken: Option<Box<Cursor>>,
    doing: Doing,
    /// When `doing` began or the peer last made progress, in milliseconds of the worker's clock.
    since_ms: u64,
    /// When the kernel was last asked for progress, in milliseconds of the worker's clock.
    sampled_ms: u64,
    /// Bytes that the peer had acknowledged at that time.
    acknowledged: u64,
    /// Bytes of all batches that were sealed.
    sent_bytes: u64,
    /// Bytes in batches of responses that were broken off later.
    wasted_bytes: u64,
    pace: Pace,
    /// The kernel has not taken all of a send for `SLOW_AFTER_MS`, so the connection receives
    /// during the send.
    is_held_up: bool,
    /// The last batch went to a careful peer and more is queued: the next batch is filled when the
    /// socket has room.
    wants_room: bool,
    /// The place in the queue of turns, or the turn itself.
    ticket: Option<TurnTicket>,
    share: Share,
    /// The peer has ended its side.
    input_ended: bool,
    /// Set: no further response is begun, and the connection ends when those begun are sent.
    closing: Option<Close>,
    /// The snapshot is old: the connection answers what is queued, then ends in good order.
    asked_to_leave: bool,
    /// Set: the connection ends for this reason and sends nothing more.
    ending: Option<Close>,
    /// The connection has left the queues that it waited in, and its end has been counted.
    waits_ended: bool,
    logged_in: bool,
    /// The request whose latency is measured; `NOT_PICKED` if none is.
    picked: PickId,
    chatter: Chatter,
}

impl Machine {
    /// A connection that waits for its handshake, which it answers with `refusal` if there is one.
    /// Its deadline runs from `since_ms`, in milliseconds of the worker's clock.
    #[must_use]
    pub(in crate::net) fn new(
        shared: &Shared,
        refusal: Option<Status>,
        silent: Option<Box<SilentPermit>>,
        since_ms: u64,
    ) -> Self {
        let clients = Arc::clone(&shared.config.clients);
        Self {
            session: ServerSession::new(clients, refusal),
            silent,
            snapshot: shared.snapshot(),
            begun: None,
            overtaken: None,
            doing: if refusal.is_some() { Doing::Refuses } else { Doing::AwaitsHandshake },
            since_ms,
            sampled_ms: since_ms,
            acknowledged: 0,
            sent_bytes: 0,
            wasted_bytes: 0,
            pace: Pace::new(),
            is_held_up: false,
            wants_room: false,
            ticket: None,
            share: Share::default(),
            input_ended: false,
            closing: None,
            asked_to_leave: false,
            ending: None,
            waits_ended: false,
            logged_in: false,
            picked: NOT_PICKED,
            chatter: Chatter::default(),
        }
    }

    /// What the connection does.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Which snapshot it is served from: see [`crate::catalog::Snapshot::ordinal`].
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.snapshot.ordinal()
    }

    /// The number of the profile that the connection is served by; none before its handshake.
    #[must_use]
    pub fn profile_number(&self) -> Option<usize> {
        self.session.profile().map(|_| self.session.profile_number())
    }

    /// Why the connection ends; none while it does not.
    #[must_use]
    pub fn ending(&self) -> Option<Close> {
        self.ending
    }

    /// Whether the peer is known to be slow.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_held_up || self.pace.is_slow()
    }

    /// Whether the peer gets small sends, each when there is room: it is slow, or its rate is not
    /// known.
    #[inline]
    #[must_use]
    pub fn is_careful(&self) -> bool {
        self.is_held_up || self.pace.is_careful()
    }

    /// How much of the connection's output the kernel may hold, given the peer's round trip.
    pub(super) fn kernel_bounds(&self, round_trip: Duration) -> KernelBounds {
        self.pace.kernel_bounds(round_trip)
    }

    /// Milliseconds since the connection's doing began or its peer last made progress.
    #[must_use]
    pub fn waited_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms)
    }

    #[inline]
    fn enter(&mut self, doing: Doing, now_ms: u64) {
        self.doing = doing;
        self.since_ms = now_ms;
        self.sampled_ms = now_ms;
    }

    // What happens.

    /// Takes received bytes, and returns how many were taken: fewer than given if a queue is full.
    /// None are taken while the connection leaves or ends, so that no request is added to those
    /// that are still answered.
    pub fn receive(&mut self, bytes: &[u8], shared: &Shared) -> usize {
        if self.is_leaving(shared) || self.ending.is_some() {
            return 0;
        }
        if matches!(self.closing, Some(Close::Violation(_))) {
            // After a violation, message boundaries are unknown: the bytes are discarded.
            return bytes.len();
        }
        if !self.session.has_queues() {
            self.session.lend(shared.queues.borrow_mut().take());
        }
        let unbegun = self.session.unbegun();
        let result = self.session.receive(bytes);
        self.count_received(unbegun, result.is_ok_and(|taken| taken > 0), shared);
        match result {
            Ok(taken) => taken,
            Err(violation) => {
                // A status that is due goes out before the close.
                self.closing = Some(Close::Violation(violation));
                bytes.len()
            }
        }
    }

    /// The peer has ended its side.
    pub fn receive_end(&mut self) {
        self.input_ended = true;
    }

    /// Whether the peer has ended its side, so that there is nothing left to receive.
    #[inline]
    #[must_use]
    pub fn has_input_ended(&self) -> bool {
        self.input_ended
    }

    /// A direct send took a part of a batch or nothing; the driver sends the rest.
    pub fn sends_on(&mut self, shared: &Shared) {
        self.enter(Doing::Sends, shared.now_ms());
    }

    /// A direct send took `len` bytes of a batch. `whole` if none of it is left.
    #[inline]
    pub fn sent_directly(&mut self, len: usize, whole: bool, shared: &Shared) {
        add(&shared.counters.sent_bytes, len as u64);
        if whole {
            self.pace.went_through(len);
            self.sent_whole(shared);
        }
    }

    /// An operation has sent `len` bytes of a batch, `took` after it began. `whole` if none of the
    /// batch is left.
    pub fn sent(&mut self, len: usize, took: Duration, whole: bool, shared: &Shared) {
        add(&shared.counters.sent_bytes, len as u64);
        let was_slow = self.is_slow();
        if !self.pace.is_careful() {
            self.pace.was_sent(len, took, shared.is_busy());
        }
        if std::mem::take(&mut self.is_held_up) {
            self.pace.slow_down();
        }
        self.count_slow(was_slow, shared);
        if whole {
            self.sent_whole(shared);
        }
    }

    /// The socket has room for more. True if `sample` was enough to determine the peer's rate: the
    /// caller then begins the next measurement.
    pub fn has_room(&mut self, sample: Sample, shared: &Shared) -> bool {
        let was_slow = self.is_slow();
        self.is_held_up = false;
        let is_judged = self.pace.acknowledged(sample, shared.is_busy());
        self.count_slow(was_slow, shared);
        is_judged
    }

    /// The peer has nothing to take in for a while. True if the measurement of its rate goes on.
    #[inline]
    pub fn measures_on(&mut self) -> bool {
        self.pace.measures_on()
    }

    /// The kernel has taken all of a batch. The next batch of a careful peer is filled only when
    /// the socket has room, so that urgent requests that arrive until then go first.
    #[inline]
    fn sent_whole(&mut self, shared: &Shared) {
        if self.picked != NOT_PICKED
            && shared.sampler.taken_by_kernel(self.picked, &shared.counters)
        {
            self.picked = NOT_PICKED;
        }
        let has_more = self.is_under_way() || self.session.has_queued();
        self.wants_room = self.pace.is_careful() && has_more;
    }

    fn count_slow(&self, was_slow: bool, shared: &Shared) {
        if self.pace.is_slow() && !was_slow {
            add(&shared.counters.slow_peers, 1);
        }
    }

    /// Ends the connection at once. If this is called more than once, the first reason holds.
    pub fn cut(&mut self, reason: Close) {
        self.ending.get_or_insert(reason);
        if self.doing == Doing::Lingers {
            self.doing = Doing::Closes;
        }
    }

    /// Has the connection answer what is queued and then end in good order. Its client reconnects
    /// and is served from the current generation.
    pub fn ask_to_leave(&mut self) {
        self.asked_to_leave = true;
    }

    /// Whether [`Self::ask_to_leave`] was called.
    #[must_use]
    pub fn is_asked_to_leave(&self) -> bool {
        self.asked_to_leave
    }

    // What to do.

    /// Whether the connection should receive while a send is under way.
    #[must_use]
    pub fn reads_beside_send(&self, shared: &Shared) -> bool {
        self.is_careful() && !self.input_ended && self.closing.is_none() && !self.is_leaving(shared)
    }

    /// The next action. To be called only while no send is under way.
    pub fn next(&mut self, key: Key, shared: &Shared) -> Action {
        if let Some(reason) = self.ending {
            return self.next_of_ending(reason, shared);
        }
        if shared.is_stopping() {
            // A handshake that has not arrived yet is answered "full", because the server stops.
            self.session.refuse(Status::ServerFull);
        }
        if std::mem::take(&mut self.wants_room) {
            if let Some(egress) = &shared.egress {
                // A grant that this connection cannot use yet would hold up others.
                egress.stop_waiting(self.share);
            }
            self.enter(Doing::Sends, shared.now_ms());
            return Action::AwaitRoom;
        }
        if self.is_under_way() || self.session.has_step() {
            if !self.has_turn(key, shared) {
                self.enter(Doing::AwaitsTurn, shared.now_ms());
                return Action::AwaitTurn;
            }
            let batch = match &shared.egress {
                None => self.fill_batch(shared),
                Some(egress) => self.fill_on_credit(egress, key, shared),
            };
            // The batch has used this connection's turn; dropping the ticket passes the turn on.
            self.ticket = None;
            if let Some(batch) = batch {
                return Action::Send(batch);
            }
            if shared.egress.as_ref().is_some_and(|egress| egress.is_waiting(self.share)) {
                return Action::AwaitCredit;
            }
        }
        self.next_without_output(shared)
    }

    fn next_without_output(&mut self, shared: &Shared) -> Action {
        if let Some(queues) = self.session.reclaim() {
            shared.queues.borrow_mut().put(queues);
        }
        let reason = match self.closing {
            None if self.input_ended => Close::ByPeer,
            None if self.is_leaving(shared) => match shared.is_draining() {
                true => Close::Drain,
                false => Close::Generation,
            },
            None => {
                if !self.session.awaits_handshake() {
                    self.enter(Doing::Idles, shared.now_ms());
                }
                return Action::Receive;
            }
            Some(reason) => reason,
        };
        self.ending = Some(reason);
        if reason.is_orderly() {
            self.enter(Doing::Lingers, shared.now_ms());
        }
        self.next_of_ending(reason, shared)
    }

    /// The next action of a connection that ends. The first call leaves the queues it waits in.
    fn next_of_ending(&mut self, reason: Close, shared: &Shared) -> Action {
        self.end_waits(reason, shared);
        if self.doing == Doing::Lingers && !self.input_ended {
            return Action::Linger;
        }
        self.doing = Doing::Closes;
        Action::Close(reason)
    }

    /// Leaves every queue, and counts the end and the requests without a response. Has an effect
    /// once only.
    fn end_waits(&mut self, reason: Close, shared: &Shared) {
        if std::mem::replace(&mut self.waits_ended, true) {
            return;
        }
        self.set_logged_in(false, shared);
        self.ticket = None;
        if let Some(egress) = &shared.egress {
            egress.forget(&mut self.share);
        }
        shared.sampler.forget(self.picked);
        self.picked = NOT_PICKED;
        let (urgent, prefetch) = self.session.unbegun();
        shared.counters.count_unanswered(Class::Urgent, urgent);
        shared.counters.count_unanswered(Class::Prefetch, prefetch);
        shared.counters.count_close(reason);
        tracing::debug!(?reason, "connection closed");
    }

    /// Whether the connection only answers what is queued, because the server drains or
    /// [`Self::leave`] was called. When another process takes over, a connection that was accepted
    /// before still gets its handshake answered first.
    #[inline]
    fn is_leaving(&self, shared: &Shared) -> bool {
        let is_greeting = self.session.awaits_handshake() && !shared.is_stopping();
        !is_greeting && (shared.is_draining() || self.asked_to_leave)
    }

    /// Whether a batch may be filled. If the turn's bytes are used up, a connection with a large
    /// batch enters the queue of turns instead.
    #[inline]
    fn has_turn(&mut self, key: Key, shared: &Shared) -> bool {
        if let Some(ticket) = &self.ticket {
            return !ticket.is_waiting();
        }
        if shared.turns.is_over() && self.asks_for_much() {
            self.ticket = Some(shared.turns.enqueue(key));
            return false;
        }
        true
    }

    /// Whether the next batch may be a large one.
    fn asks_for_much(&self) -> bool {
        let (urgent, prefetch) = self.session.queued();
        let dialect = self.session.dialect();
        let view = self.snapshot.view(dialect);
        let place = |id| view.place(id);
        let next_len = || self.session.upcoming().next().map(|id| place(id).len());
        self.is_under_way()
            || urgent + prefetch >= MANY_REQUESTS
            || next_len().is_some_and(|len| len >= LARGE_FROM)
    }

    /// Whether a response is partly in earlier batches.
    #[inline]
    fn is_under_way(&self) -> bool {
        self.begun.is_some() || self.overtaken.is_some()
    }

    // Filling.

    fn fill_batch(&mut self, shared: &Shared) -> Option<Sealed> {
        let len_max = self.pace.send_len_max();
        let mut batch = shared.batches.borrow_mut().take();
        self.fill(&mut batch, len_max, Allowance::All, shared);
        self.seal(batch, shared)
    }

    /// Seals the batch; none if it is empty.
    #[inline]
    fn seal(&mut self, batch: Filling, shared: &Shared) -> Option<Sealed> {
        if batch.is_empty() {
            shared.batches.borrow_mut().put_unused(batch);
            return None;
        }
        self.sent_bytes += batch.len() as u64;
        Some(batch.seal())
    }

    /// Fills a batch up to `len_max` bytes with the responses that `allowance` permits. Returns how
    /// many bytes belong to a response that had begun in an earlier batch.
    fn fill(
        &mut self,
        batch: &mut Filling,
        len_max: usize,
        allowance: Allowance,
        shared: &Shared,
    ) -> usize {
        let queued = (self.picked != NOT_PICKED).then(|| self.session.queued());
        let was_begun = self.is_under_way();
        let (mut begun_sent, mut is_broken_off) = (0, false);
        let responses = shared.counters.responses();
        if let Some(cursor) = self.take_begun() {
            let len = batch.len();
            is_broken_off = self.push_begun(batch, cursor, len_max, allowance, shared);
            begun_sent = batch.len() - len;
        }
        if self.begun.is_none() {
            let within = match (&self.overtaken, allowance) {
                (Some(_), Allowance::All) => Allowance::Urgent,
                _ => allowance,
            };
            self.fill_with_steps(batch, len_max, within, is_broken_off, shared);
        }
        let is_over = self.begun.is_none() && self.session.queued().0 == 0;
        if is_over
            && allowance == Allowance::All
            && let Some(cursor) = self.overtaken.take_if(|_| !batch.is_full(len_max))
        {
            self.push_large(batch, *cursor, len_max);
        }
        shared.counters.count_responses_since(responses, self.session.profile_number());
        if let Some(before) = queued {
            let (urgent, prefetch) = self.session.queued();
            let left = (before.0 - urgent, before.1.saturating_sub(prefetch));
            shared.sampler.left(self.picked, left.0, left.1);
        }
        shared.turns.charge(batch.len(), was_begun);
        begun_sent
    }

    /// Appends the session's steps. With `is_broken_off` the first response begins in this batch
    /// even if it does not fit: an urgent response must follow one that was broken off, and before
    /// the next batch the key may change or the peer may disconnect.
    fn fill_with_steps(
        &mut self,
        batch: &mut Filling,
        len_max: usize,
        allowance: Allowance,
        mut is_broken_off: bool,
        shared: &Shared,
    ) {
        let snapshot = Rc::clone(&self.snapshot);
        let view = snapshot.view(self.session.dialect());
        let ahead = &mut *shared.ahead.borrow_mut();
        let mut at = ahead.len();
        while self.begun.is_none() && !batch.is_full(len_max) {
            if at >= ahead.len() {
                self.look_ahead(view, ahead);
                at = 0;
            }
            let place = ahead.get(at).copied().unwrap_or_default();
            if self.pace.is_careful()
                && !batch.is_empty()
                && !is_broken_off
                && place.len() > len_max.saturating_sub(batch.len())
            {
                // A response that has begun is finished before others. This one is not begun yet,
                // so that an urgent request that arrives before the next batch goes first.
                return;
            }
            if let Some(&later) = ahead.get(at + RESPONSES_AHEAD) {
                view.prefetch_framed(later);
            }
            match self.session.next_step_within(allowance) {
                Step::Response(response) => {
                    at += 1;
                    is_broken_off = false;
                    self.respond(batch, response, (view, place), len_max, shared);
                }
                Step::Status(status) => {
                    shared.counters.count_status(status);
                    if status == Status::Ok {
                        self.silent = None;
                    }
                    batch.push_status(status.to_byte());
                    if status == Status::Ok {
                        shared.counters.count_profile(self.session.profile_number());
                        batch.push_plain(self.session.greeting());
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

    /// Writes the places of the next responses to `ahead`, and has the core's cache fetch the first
    /// of these responses.
    #[inline]
    fn look_ahead(&self, view: View<'_>, ahead: &mut Vec<Place>) {
        ahead.clear();
        let next = || self.session.upcoming().take(PLACES_AHEAD);
        next().for_each(|id| view.prefetch_place(id));
        ahead.extend(next().map(|id| view.place(id)));
        ahead.iter().take(RESPONSES_AHEAD).for_each(|&place| view.prefetch_framed(place));
    }

    #[inline]
    fn respond(
        &mut self,
        batch: &mut Filling,
        response: Response,
        (view, place): (View<'_>, Place),
        len_max: usize,
        shared: &Shared,
    ) {
        let class = response.class();
        let is_unbegun = response.times_broken_off() == 0;
        if self.closing.is_some() {
            return shared.counters.count_unanswered(class, usize::from(is_unbegun));
        }
        if place.is_empty() {
            // The cache does not hold this group: the request gets no response.
            shared.counters.count_unanswered(class, 1);
            shared.missed(response.id());
            if shared.config.limits.close_on_missing_group {
                self.closing.get_or_insert(Close::MissingGroup);
            }
            return;
        }
        if is_unbegun {
            shared.counters.count_response(class, place.len());
        }
        let framed = view.framed(place);
        if !batch.push_small(response, framed) {
            self.push_large(batch, Cursor::new(response, place), len_max);
        }
    }

    /// Appends what fits of a response that is too large to be copied whole, and stores the rest
    /// in `begun`.
    fn push_large(&mut self, batch: &mut Filling, mut cursor: Cursor, len_max: usize) {
        if !batch.push(&mut cursor, &self.snapshot, len_max) {
            self.begun = Some(cursor);
        }
    }

    // Overtaking and breaking off.

    /// Takes the response to continue: the one that has begun, else the one that was overtaken,
    /// which may be overtaken again.
    #[inline]
    fn take_begun(&mut self) -> Option<Cursor> {
        self.begun.take().or_else(|| self.overtaken.take().map(|cursor| *cursor))
    }

    /// Whether urgent responses overtake the response of `cursor`: it is a prefetch, an urgent
    /// request waits, and each block names its response, so that the client can tell them apart.
    fn may_be_overtaken(&self, cursor: &Cursor) -> bool {
        let response = cursor.response();
        response.framing().is_multi()
            && response.class() == Class::Prefetch
            && self.closing.is_none()
            && self.session.queued().0 > 0
            && self.session.has_key_of(response)
    }

    /// Continues a response that has begun. If urgent responses overtake it, or it is broken off
    /// for one, only up to the end of its current block. True if it was broken off.
    fn push_begun(
        &mut self,
        batch: &mut Filling,
        mut cursor: Cursor,
        len_max: usize,
        allowance: Allowance,
        shared: &Shared,
    ) -> bool {
        let is_overtaken = allowance != Allowance::Nothing && self.may_be_overtaken(&cursor);
        let is_broken_off =
            allowance != Allowance::Nothing && !is_overtaken && self.breaks_off(&cursor, shared);
        if !is_overtaken && !is_broken_off {
            self.push_large(batch, cursor, len_max);
            return false;
        }
        // The client accepts another response only where a block ends.
        let block_len = cursor.response().framing().block_len();
        let to_edge = cursor.taken().next_multiple_of(block_len) - cursor.taken();
        let edge = len_max.min(batch.len() + to_edge);
        if to_edge > 0 && batch.push_exactly(&mut cursor, &self.snapshot, edge) {
            return false;
        }
        if !cursor.taken().is_multiple_of(block_len) || batch.is_full(len_max) {
            self.begun = Some(cursor);
            return false;
        }
        if is_overtaken {
            self.overtaken = Some(Box::new(cursor));
            return false;
        }
        self.wasted_bytes += cursor.taken() as u64;
        add(&shared.counters.broken_off, 1);
        add(&shared.counters.wasted_bytes, cursor.taken() as u64);
        self.session.put_back(cursor.response());
        true
    }

    /// Whether a response that has begun should be broken off: it is a prefetch, an urgent request
    /// waits, the wait that this saves is long enough, and the bytes sent in vain stay within their
    /// bound.
    fn breaks_off(&mut self, cursor: &Cursor, shared: &Shared) -> bool {
        let response = cursor.response();
        if !shared.config.limits.break_off
            || response.class() == Class::Urgent
            || self.closing.is_some()
            || self.session.queued().0 == 0
            || response.times_broken_off() >= BREAK_OFFS_MAX
        {
            return false;
        }
        let (taken, left) = (cursor.taken(), cursor.left());
        let Some(bytes_a_s) = self.pace.bytes_a_second() else { return false };
        let takes_ms = left as u64 * 1000 / bytes_a_s.max(1);
        let start = (bytes_a_s * WASTE_START_MS / 1000).clamp(WASTE_START_MIN, WASTE_START_MAX);
        let waste_max = start.max(self.sent_bytes / WASTE_SHARE);
        let is_worth_it = takes_ms > BREAK_OFF_SAVES_MS
            && left > (taken + left) / BREAK_OFF_SHARE_LEFT
            && self.wasted_bytes + taken as u64 <= waste_max;
        let view = self.snapshot.view(response.dialect());
        let is_there = |id| !view.place(id).is_empty();
        is_worth_it && self.session.prepare_break_off(response, is_there)
    }

    // Under a cap.

    /// A batch no larger than the credit for it. A status byte needs no credit. None if there is
    /// nothing to send or no credit. While the connection waits for credit it goes on receiving,
    /// and no deadline runs, because the server causes the wait.
    #[cold]
    fn fill_on_credit(&mut self, egress: &Egress, key: Key, shared: &Shared) -> Option<Sealed> {
        let mut batch = shared.batches.borrow_mut().take();
        let len_max = self.pace.send_len_max();
        while let Some(class) = self.wanted_class() {
            let was_waiting = egress.is_waiting(self.share);
            let rank = Rank::of(class, self.session.logged_in());
            let Some(credit) = egress.credit(&mut self.share, key, rank) else {
                if !was_waiting {
                    add(&shared.counters.credit_waits, 1);
                }
                self.await_credit(&mut batch, len_max, shared);
                return self.seal(batch, shared);
            };
            self.spend(egress, credit, &mut batch, len_max, shared);
            if !batch.is_empty() {
                return self.seal(batch, shared);
            }
            // The batch is empty because all requests were for groups that the cache lacks.
        }
        egress.stop_waiting(self.share);
        self.fill(&mut batch, len_max, Allowance::All, shared);
        self.seal(batch, shared)
    }

    fn await_credit(&mut self, batch: &mut Filling, len_max: usize, shared: &Shared) {
        let ended = self.input_ended;
        let doing = if ended { Doing::AwaitsLastCredit } else { Doing::AwaitsCredit };
        if self.doing != doing {
            self.enter(doing, shared.now_ms());
        }
        if !self.is_under_way() {
            self.fill(batch, len_max, Allowance::Nothing, shared);
        }
    }

    /// The class under which credit is asked for; none if there is nothing to send. A prefetch
    /// response that has begun continues as urgent if an urgent request waits behind it: under
    /// prefetch, which may get no credit for long, it would hold that request up.
    fn wanted_class(&self) -> Option<Class> {
        let (urgent, prefetch) = match self.closing {
            // Queued requests are not answered any more.
            Some(_) => (0, 0),
            None => self.session.queued(),
        };
        match &self.begun {
            _ if urgent > 0 => Some(Class::Urgent),
            Some(begun) => Some(begun.response().class()),
            None => (prefetch > 0 || self.overtaken.is_some()).then_some(Class::Prefetch),
        }
    }

    fn spend(
        &mut self,
        egress: &Egress,
        credit: Credit,
        batch: &mut Filling,
        len_max: usize,
        shared: &Shared,
    ) {
        let allowance = match credit.rank.is_prefetch() || !egress.separates_classes() {
            true => Allowance::All,
            false => Allowance::Urgent,
        };
        let has_begun = match &self.begun {
            Some(begun) => begun.response().class() == Class::Prefetch,
            None => self.overtaken.is_some(),
        };
        let begun_sent = self.fill(batch, len_max.min(credit.len), allowance, shared);
        let sent = batch.len();
        let prefetch_sent = match (credit.rank.is_prefetch(), has_begun) {
            (true, _) => sent,
            // A prefetch was continued on urgent credit; everything after it in the batch is
            // urgent wherever a prefetch cap holds.
            (false, true) => begun_sent,
            (false, false) => 0,
        };
        egress.settle(self.share, credit, sent, prefetch_sent);
        let counters = &shared.counters;
        let counter = match credit.rank {
            Rank::UrgentLoggedIn => &counters.egress_urgent_logged_in_bytes,
            Rank::UrgentLoggedOut => &counters.egress_urgent_logged_out_bytes,
            Rank::PrefetchLoggedIn => &counters.egress_prefetch_logged_in_bytes,
            Rank::PrefetchLoggedOut => &counters.egress_prefetch_logged_out_bytes,
        };
        add(counter, sent as u64);
    }

    // Counting.

    /// Counts what was received. `unbegun`: urgent and prefetch requests without a response before
    /// these bytes. `taken`: whether the session took any byte.
    #[inline]
    fn count_received(&mut self, unbegun: (usize, usize), taken: bool, shared: &Shared) {
        let received = self.session.take_received();
        let counters = &shared.counters;
        add(&counters.requests_urgent, received.urgent.into());
        add(&counters.requests_prefetch, received.prefetch.into());
        let (urgent, prefetch) = self.session.unbegun();
        let dropped = (
            unbegun.0 + usize::from(received.urgent) - urgent,
            unbegun.1 + usize::from(received.prefetch) - prefetch,
        );
        if dropped != (0, 0) {
            // The session drops queued requests only when the peer sends a disconnect message.
            counters.count_unanswered(Class::Urgent, dropped.0);
            counters.count_unanswered(Class::Prefetch, dropped.1);
        }
        let requests = u32::from(received.urgent) + u32::from(received.prefetch);
        let is_due = shared.sampler.passes(requests);
        if received.rekeys | received.state_changes != 0 || (requests == 0 && taken) {
            self.count_chatter(received, shared);
        }
        if is_due {
            self.pick(received, shared);
        }
    }

    /// Counts messages that ask for nothing and reads without a whole message. Cuts a peer that
    /// exceeds its budget of them (docs/decisions/0013).
    #[cold]
    fn count_chatter(&mut self, received: Received, shared: &Shared) {
        add(&shared.counters.rekeys, received.rekeys.into());
        add(&shared.counters.state_changes, received.state_changes.into());
        self.set_logged_in(self.session.logged_in(), shared);
        let rate = shared.config.limits.chatter_max;
        let said = u32::from(received.rekeys) + u32::from(received.state_changes);
        if !self.chatter.passes(said.max(1), rate, shared.now_ms()) {
            self.cut(Close::Chatter);
        }
    }

    fn set_logged_in(&mut self, logged_in: bool, shared: &Shared) {
        let before = std::mem::replace(&mut self.logged_in, logged_in);
        let gauge = &shared.counters.logged_in;
        match (before, logged_in) {
            (false, true) => gauge.set(gauge.get() + 1),
            (true, false) => gauge.set(gauge.get() - 1),
            _ => {}
        }
    }

    /// Chooses at random one of the requests just received, whose latency is measured.
    #[cold]
    fn pick(&mut self, received: Received, shared: &Shared) {
        if self.picked != NOT_PICKED {
            shared.sampler.weigh_more(self.picked);
            return;
        }
        let urgent = usize::from(received.urgent);
        let place = fastrand::usize(..(urgent + usize::from(received.prefetch)).max(1));
        let (queued_urgent, queued_prefetch) = self.session.queued();
        // The requests just received are the last of their queue, unless a disconnect message has
        // emptied it.
        let (class, from_end, queued) = if place < urgent {
            (Class::Urgent, urgent - place, queued_urgent)
        } else {
            (Class::Prefetch, urgent + usize::from(received.prefetch) - place, queued_prefetch)
        };
        if let Some(ahead) = queued.checked_sub(from_end) {
            self.picked = shared.sampler.pick(class, ahead);
        }
    }

    // Deadlines.

    /// Checks the connection's deadline, and cuts it if the deadline has passed. The result says
    /// whether the caller must step the connection.
    pub fn check(
        &mut self,
        deadlines: &Deadlines,
        progress: &impl KernelProgress,
        shared: &Shared,
    ) -> Check {
        let now_ms = shared.now_ms();
        let &Deadlines { handshake_ms, idle_ms, send_ms, linger_ms, sample_ms } = deadlines;
        let (waited, unsampled) = (self.waited_ms(now_ms), now_ms.saturating_sub(self.sampled_ms));
        match self.doing {
            Doing::Closes | Doing::AwaitsTurn | Doing::AwaitsCredit => Check::Fine,
            _ if self.ending.is_some() && self.doing != Doing::Lingers => Check::Fine,
            Doing::AwaitsHandshake if waited > handshake_ms => {
                self.cut_late(Close::HandshakeTimeout)
            }
            Doing::Refuses if waited > linger_ms => {
                self.session.refuse(Status::ServerFull);
                Check::Acts
            }
            Doing::Idles if waited > idle_ms / 2 && unsampled > idle_ms / 2 => {
                // Half-way to the deadline, the first of two samples: progress between the two
                // shows that the peer is still receiving.
                self.sampled_ms = now_ms;
                self.acknowledged = progress.acknowledged_bytes();
                Check::Asked
            }
            Doing::Idles if waited > idle_ms => {
                // The last response may still be in the kernel: acknowledging it is progress.
                if !progress.is_delivered() {
                    self.sample(progress, now_ms);
                }
                match self.waited_ms(now_ms) > idle_ms {
                    true => self.cut_late(Close::IdleTimeout),
                    false => Check::Asked,
                }
            }
            Doing::Lingers if waited > linger_ms => {
                // A peer that is still receiving the last response is given time for it.
                if unsampled >= sample_ms {
                    self.sample(progress, now_ms);
                }
                if !progress.is_delivered() && self.waited_ms(now_ms) <= send_ms {
                    return Check::Asked;
                }
                self.doing = Doing::Closes;
                Check::Acts
            }
            Doing::AwaitsLastCredit if waited > send_ms => self.cut_late(Close::ByPeer),
            Doing::Sends if waited >= SLOW_AFTER_MS => {
                let is_news = !self.is_slow();
                if is_news {
                    self.is_held_up = true;
                    add(&shared.counters.slow_peers, 1);
                }
                let is_asked = unsampled >= sample_ms;
                if is_asked {
                    self.sample(progress, now_ms);
                }
                match (self.waited_ms(now_ms) > send_ms, is_news, is_asked) {
                    (true, ..) => self.cut_late(Close::SendTimeout),
                    (false, true, _) => Check::Acts,
                    (false, false, true) => Check::Asked,
                    (false, false, false) => Check::Fine,
                }
            }
            _ => Check::Fine,
        }
    }

    fn cut_late(&mut self, reason: Close) -> Check {
        self.cut(reason);
        Check::Acts
    }

    /// Asks the kernel what the peer has acknowledged. Any change is progress: the wait begins
    /// again.
    fn sample(&mut self, progress: &impl KernelProgress, now_ms: u64) {
        self.sampled_ms = now_ms;
        let acknowledged = progress.acknowledged_bytes();
        if std::mem::replace(&mut self.acknowledged, acknowledged) != acknowledged {
            self.since_ms = now_ms;
        }
    }
}
