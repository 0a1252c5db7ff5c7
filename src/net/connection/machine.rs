//! What a connection does, as pure state: what happened goes in, an [`Action`] comes out.
//!
//! There is no socket here and no clock: whoever drives the machine tells it the time, what came
//! in and what became of a send, and does what it says. So the seeded simulation drives it through
//! any order of events. Deadlines are not timers: the machine knows what it waits for and since
//! when, and the sweep asks it whether that is over.

use super::chatter::Chatter;
use super::pace::{Held, Pace};
use crate::catalog::{Place, View};
use crate::net::batch::{Cursor, Filling, Sealed, SnapshotRef};
use crate::net::control::millis;
use crate::net::count::{Close, NOT_PICKED, PickId, add};
use crate::net::driver::Key;
use crate::net::line::{Credit, Egress, LARGE_FROM, Rank, Share, Ticket};
use crate::net::openings::SilentPlace;
use crate::net::shared::Shared;
use crate::protocol::session::{Allowance, CloseCause, Received, Response, ServerSession, Step};
use crate::protocol::{Class, Status};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// As many requests may make a large batch, whatever they are for.
const MANY_REQUESTS: usize = 8;

/// How far ahead of the copying memory is fetched: places first, as the responses' addresses
/// stand there. With the sizes of a build 550 cache this saves 12 % of a response's CPU time
/// (docs/performance.md).
const PLACES_AHEAD: usize = 64;
const RESPONSES_AHEAD: usize = 8;

/// How often one response is broken off at most, so that each comes to its end.
const BREAK_OFFS_MAX: u8 = 2;

/// A wait that is saved by breaking off must be longer than this.
const BREAK_OFF_SAVES_MS: u64 = 100;

/// A response of which less than this share is left is not broken off.
const BREAK_OFF_SHARE_LEFT: usize = 8;

/// What may have been sent in vain: this share of what was sent, ...
const WASTE_SHARE: u64 = 11;

/// ... or what the peer takes in in so long, ...
const WASTE_START_MS: u64 = 6_000;

/// ... if that is more: at least what may be on its way before it is known how slow a peer is,
/// and what a line of 56 kbit/s carries in 3 s, ...
const WASTE_START_MIN: u64 = 96 << 10;

/// ... and no more than seven eighths of the largest group of build 550.
const WASTE_START_MAX: u64 = 448 << 10;

/// What a connection does, and so which deadline holds.
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
    /// The same, of a peer that has ended its side, or is gone: which of the two shows when it is
    /// sent something.
    AwaitsLastCredit,
    /// Waits for the peer to end its side after an orderly end.
    Lingers,
    /// Waits for operations to complete, to be closed.
    Closes,
}

/// What is to be done with the socket.
pub enum Action {
    /// Read.
    Receive,
    /// Send this.
    Send(Sealed),
    /// Wait until the socket takes more.
    AwaitRoom,
    /// Nothing, until the turn comes.
    AwaitTurn,
    /// Read on, until there is credit.
    AwaitCredit,
    /// End our side, read and discard.
    Linger,
    /// Shut down, let operations complete, close.
    Close(Close),
}

/// What came of holding a connection to its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing is due.
    Fine,
    /// Nothing is due, as the kernel says.
    Asked,
    /// Something was decided: the connection is to be stepped.
    Acts,
}

/// The deadlines, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    handshake_ms: u64,
    idle_ms: u64,
    send_ms: u64,
    linger_ms: u64,
    /// Between two questions to the kernel.
    sample_ms: u64,
}

/// How often the kernel is asked whether a peer takes anything in, at most.
const PROGRESS_SAMPLE_MS: u64 = 1000;

/// And how many times at least before a peer is cut for taking in nothing.
const PROGRESS_SAMPLES: u64 = 4;

/// A send that the kernel has not taken after so long makes its peer slow.
const SLOW_AFTER_MS: u64 = 200;

impl Deadlines {
    /// Those of a configuration.
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

/// What only the kernel knows of how far a peer has come.
pub trait Progress {
    /// Bytes that it has acknowledged.
    fn acknowledged_bytes(&self) -> u64;
    /// Whether it has acknowledged everything.
    fn is_delivered(&self) -> bool;
}

/// One connection, without its socket.
pub struct Machine {
    session: ServerSession,
    /// Its place among those that have said nothing yet; a peer that is refused keeps it to the
    /// end, so that those of one address do not take every place of `--refusals-max`.
    silent: Option<Box<SilentPlace>>,
    snapshot: SnapshotRef,
    /// The response that an earlier batch holds the beginning of.
    begun: Option<Cursor>,
    /// A prefetch that urgent responses have overtaken between two of its blocks. Boxed, as few
    /// connections ever have one.
    overtaken: Option<Box<Cursor>>,
    doing: Doing,
    /// When that began or last made progress, in milliseconds of the worker's clock.
    since_ms: u64,
    /// When the kernel was last asked for progress, and what it said.
    sampled_ms: u64,
    acknowledged: u64,
    /// Bytes that batches had, and those of them that belonged to responses broken off since.
    sent_bytes: u64,
    wasted_bytes: u64,
    pace: Pace,
    /// The kernel has held a send for so long that the peer is read on beside it.
    is_held_up: bool,
    /// The last batch has gone to a slow peer, and more is to be sent when there is room.
    wants_room: bool,
    /// A turn that is waited for, or has come.
    ticket: Option<Ticket>,
    share: Share,
    /// The peer has ended its side.
    input_ended: bool,
    /// No more responses are begun; the end when those begun are out.
    closing: Option<Close>,
    /// Answer what is queued, then end in good order, as the snapshot is old.
    leaves: bool,
    /// Why it ends: nothing is served any more.
    ending: Option<Close>,
    /// What it waited for has been left, and its end has been counted.
    given_up: bool,
    logged_in: bool,
    /// Its request that is timed, if there is one.
    picked: PickId,
    chatter: Chatter,
}

impl Machine {
    /// A connection that waits for its handshake; with a `refusal`, to answer it with that.
    #[must_use]
    pub(in crate::net) fn new(
        shared: &Shared,
        refusal: Option<Status>,
        silent: Option<Box<SilentPlace>>,
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
            leaves: false,
            ending: None,
            given_up: false,
            logged_in: false,
            picked: NOT_PICKED,
            chatter: Chatter::default(),
        }
    }

    /// What it does.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.doing
    }

    /// Which snapshot it is served from: see [`crate::catalog::Snapshot::ordinal`].
    #[must_use]
    pub fn ordinal(&self) -> u32 {
        self.snapshot.ordinal()
    }

    /// The number of the profile that it is served by, if it is.
    #[must_use]
    pub fn profile_number(&self) -> Option<usize> {
        self.session.profile().map(|_| self.session.profile_number())
    }

    /// Why it ends, if it does.
    #[must_use]
    pub fn ending(&self) -> Option<Close> {
        self.ending
    }

    /// Whether it takes in what it is sent slowly.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.is_held_up || self.pace.is_slow()
    }

    /// Whether it gets little at a time: it takes in slowly, or it is not known how fast.
    #[inline]
    #[must_use]
    pub fn is_careful(&self) -> bool {
        self.is_held_up || self.pace.is_careful()
    }

    /// What the kernel should hold for it, of whom something takes so long to it and back.
    pub(super) fn held(&self, round_trip: Duration) -> Held {
        self.pace.held(round_trip)
    }

    /// Milliseconds without progress.
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

    /// Takes in what was read, and says how much: less if a queue is full. None is taken while it
    /// leaves or ends, so that what is queued is finished and nothing is added.
    pub fn receive(&mut self, bytes: &[u8], shared: &Shared) -> usize {
        if self.is_leaving(shared) || self.ending.is_some() {
            return 0;
        }
        if matches!(self.closing, Some(Close::Violation(_))) {
            // What follows has no meaning that is known.
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

    /// The socket takes only a part of a batch at once, or nothing: the kernel has the rest.
    pub fn sends_on(&mut self, shared: &Shared) {
        self.enter(Doing::Sends, shared.now_ms());
    }

    /// Bytes of a batch have gone out in one direct send. `whole` if nothing of it is left.
    #[inline]
    pub fn sent_directly(&mut self, len: usize, whole: bool, shared: &Shared) {
        add(&shared.counters.sent_bytes, len as u64);
        if whole {
            self.pace.went_through(len);
            self.sent_whole(shared);
        }
    }

    /// The kernel has taken `len` bytes of a batch, since it was given them `took` ago.
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

    /// There is room for more. The peer has acknowledged so many bytes in a time in which it had
    /// something to take in all along. True if the next such time begins.
    pub fn has_room(&mut self, acknowledged: u64, took: Duration, shared: &Shared) -> bool {
        let was_slow = self.is_slow();
        self.is_held_up = false;
        let is_judged = self.pace.acknowledged(acknowledged, took, shared.is_busy());
        self.count_slow(was_slow, shared);
        is_judged
    }

    /// All of a batch has gone out. What a slow peer gets next is decided when there is room for
    /// it, not before.
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

    /// The connection is to end at once. The first reason counts.
    pub fn cut(&mut self, reason: Close) {
        self.ending.get_or_insert(reason);
        if self.doing == Doing::Lingers {
            self.doing = Doing::Closes;
        }
    }

    /// The connection is to come back to the current generation: it answers what is queued, and
    /// ends in good order.
    pub fn leave(&mut self) {
        self.leaves = true;
    }

    /// Whether it has been asked to.
    #[must_use]
    pub fn leaves(&self) -> bool {
        self.leaves
    }

    // What to do.

    /// Whether no receive is under way and one would be of use, beside a send.
    #[must_use]
    pub fn reads_beside_send(&self, shared: &Shared) -> bool {
        self.is_careful() && !self.input_ended && self.closing.is_none() && !self.is_leaving(shared)
    }

    /// What is to be done next, while nothing is being sent.
    pub fn next(&mut self, key: Key, shared: &Shared) -> Action {
        if let Some(reason) = self.ending {
            return self.next_of_ending(reason, shared);
        }
        if shared.is_stopping() {
            // It comes too late, and is told so.
            self.session.refuse(Status::ServerFull);
        }
        if std::mem::take(&mut self.wants_room) {
            if let Some(egress) = &shared.egress {
                // Credit that it cannot use would be withheld from others.
                egress.wants_nothing(self.share);
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
            // A turn that came is over, and passed on.
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

    /// What is left to do of a connection that ends. The first call gives up what it waits for.
    fn next_of_ending(&mut self, reason: Close, shared: &Shared) -> Action {
        self.give_up(reason, shared);
        if self.doing == Doing::Lingers && !self.input_ended {
            return Action::Linger;
        }
        self.doing = Doing::Closes;
        Action::Close(reason)
    }

    /// Leaves every queue, and counts what gets no response, once.
    fn give_up(&mut self, reason: Close, shared: &Shared) {
        if std::mem::replace(&mut self.given_up, true) {
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

    /// Whether only what is queued is answered still: the server drains, or the connection is to
    /// come back. After a hand-over, who was accepted is greeted first.
    #[inline]
    fn is_leaving(&self, shared: &Shared) -> bool {
        let is_greeting = self.session.awaits_handshake() && !shared.is_stopping();
        !is_greeting && (shared.is_draining() || self.leaves)
    }

    /// Whether a batch may be filled. Large ones queue for a turn when none is left.
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

    /// Whether what is queued may be a large batch.
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

    /// Whether a response has begun and not come to its end.
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

    /// The batch, if there is something in it.
    #[inline]
    fn seal(&mut self, batch: Filling, shared: &Shared) -> Option<Sealed> {
        if batch.is_empty() {
            shared.batches.borrow_mut().put_unused(batch);
            return None;
        }
        self.sent_bytes += batch.len() as u64;
        Some(batch.seal())
    }

    /// Fills a batch with the session's steps, as far as they are allowed. Comes back with how many
    /// bytes are of a response that had begun before.
    fn fill(
        &mut self,
        batch: &mut Filling,
        len_max: usize,
        allowance: Allowance,
        shared: &Shared,
    ) -> usize {
        let queued = (self.picked != NOT_PICKED).then(|| self.session.queued());
        let was_begun = self.is_under_way();
        let (mut went_on, mut is_broken_off) = (0, false);
        let responses = shared.counters.responses();
        if let Some(cursor) = self.take_begun() {
            let len = batch.len();
            is_broken_off = self.push_begun(batch, cursor, len_max, allowance, shared);
            went_on = batch.len() - len;
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
        went_on
    }

    /// With `is_broken_off` a response begins in this batch, whether or not it fits: an urgent one
    /// must follow what was broken off, and before the next batch the key may change, or the
    /// request may be given up.
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
                // Once begun it is finished first: later an urgent one may be there instead.
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

    /// Finds where the next responses stand, and begins to fetch the first of them.
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
            // No answer is made up.
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

    /// Adds what fits of a response that is too large to be copied whole.
    fn push_large(&mut self, batch: &mut Filling, mut cursor: Cursor, len_max: usize) {
        if !batch.push(&mut cursor, &self.snapshot, len_max) {
            self.begun = Some(cursor);
        }
    }

    // Overtaking and breaking off.

    /// The response to go on with. What was overtaken may be overtaken again.
    #[inline]
    fn take_begun(&mut self) -> Option<Cursor> {
        self.begun.take().or_else(|| self.overtaken.take().map(|cursor| *cursor))
    }

    /// Whether urgent responses overtake one that has begun: it is a prefetch, an urgent request
    /// waits, and the client tells blocks of different responses apart.
    fn may_be_overtaken(&self, cursor: &Cursor) -> bool {
        let response = cursor.response();
        response.framing().is_multi()
            && response.class() == Class::Prefetch
            && self.closing.is_none()
            && self.session.queued().0 > 0
            && self.session.has_key_of(response)
    }

    /// Goes on with a response that has begun, or only as far as the block's edge where urgent
    /// ones overtake it, or it is broken off for one. True if it is broken off.
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
        // The client decides at a block's edge.
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

    /// Whether a response that has begun is to be broken off: it is a prefetch, an urgent request
    /// waits, and the wait that is saved is worth what was sent in vain.
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

    /// A batch of as much as there is credit for. What needs none, a status byte, goes in any
    /// case. None if there is nothing to send, or no credit: the connection reads on and waits,
    /// and no deadline runs, as the peer is not to blame.
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
            // All of it were groups that the cache does not hold.
        }
        egress.wants_nothing(self.share);
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

    /// The class of what is to be sent next; none if nothing is. A response that has begun goes on
    /// in the rank of the urgent one that waits behind it, or a peer's own prefetch could hold
    /// that up for ever.
    fn wanted_class(&self) -> Option<Class> {
        let (urgent, prefetch) = match self.closing {
            // They will not be begun.
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
        let allowance = match credit.rank.is_prefetch() || !egress.keeps_classes_apart() {
            true => Allowance::All,
            false => Allowance::Urgent,
        };
        let has_begun = match &self.begun {
            Some(begun) => begun.response().class() == Class::Prefetch,
            None => self.overtaken.is_some(),
        };
        let went_on = self.fill(batch, len_max.min(credit.len), allowance, shared);
        let sent = batch.len();
        let prefetch_sent = match (credit.rank.is_prefetch(), has_begun) {
            (true, _) => sent,
            // What comes behind it is urgent, where a cap holds for prefetch.
            (false, true) => went_on,
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

    /// Counts what was received, where so many requests were `unbegun` before, and whether
    /// anything was `taken`.
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
            // The peer has disconnected.
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

    /// Counts what asks for nothing, which a peer may do a little of (docs/decisions/0013).
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

    /// One of the requests that were just received is to be timed; chance says which.
    #[cold]
    fn pick(&mut self, received: Received, shared: &Shared) {
        if self.picked != NOT_PICKED {
            shared.sampler.weigh_more(self.picked);
            return;
        }
        let urgent = usize::from(received.urgent);
        let place = fastrand::usize(..(urgent + usize::from(received.prefetch)).max(1));
        let (queued_urgent, queued_prefetch) = self.session.queued();
        // Those that were just received are the last in their queue, unless the peer has
        // disconnected, which empties it.
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

    /// Holds the connection to its deadline. Says whether it is to be stepped.
    pub fn check(
        &mut self,
        deadlines: &Deadlines,
        progress: &impl Progress,
        shared: &Shared,
    ) -> Check {
        let now_ms = shared.now_ms();
        let &Deadlines { handshake_ms, idle_ms, send_ms, linger_ms, sample_ms } = deadlines;
        let (waited, unsampled) = (self.waited_ms(now_ms), now_ms.saturating_sub(self.sampled_ms));
        match self.doing {
            Doing::Closes | Doing::AwaitsTurn | Doing::AwaitsCredit => Check::Fine,
            _ if self.ending.is_some() && self.doing != Doing::Lingers => Check::Fine,
            Doing::AwaitsHandshake if waited > handshake_ms => self.late(Close::HandshakeTimeout),
            Doing::Refuses if waited > linger_ms => {
                self.session.refuse(Status::ServerFull);
                Check::Acts
            }
            Doing::Idles if waited > idle_ms / 2 && unsampled > idle_ms / 2 => {
                // Whether it takes in what is on its way is seen by two looks.
                self.sampled_ms = now_ms;
                self.acknowledged = progress.acknowledged_bytes();
                Check::Asked
            }
            Doing::Idles if waited > idle_ms => {
                // What it asked for last may still be on its way: taking it in is progress.
                if !progress.is_delivered() {
                    self.sample(progress, now_ms);
                }
                match self.waited_ms(now_ms) > idle_ms {
                    true => self.late(Close::IdleTimeout),
                    false => Check::Asked,
                }
            }
            Doing::Lingers if waited > linger_ms => {
                // A slow peer still gets what was begun.
                if unsampled >= sample_ms {
                    self.sample(progress, now_ms);
                }
                if !progress.is_delivered() && self.waited_ms(now_ms) <= send_ms {
                    return Check::Asked;
                }
                self.doing = Doing::Closes;
                Check::Acts
            }
            Doing::AwaitsLastCredit if waited > send_ms => self.late(Close::ByPeer),
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
                    (true, ..) => self.late(Close::SendTimeout),
                    (false, true, _) => Check::Acts,
                    (false, false, true) => Check::Asked,
                    (false, false, false) => Check::Fine,
                }
            }
            _ => Check::Fine,
        }
    }

    fn late(&mut self, reason: Close) -> Check {
        self.cut(reason);
        Check::Acts
    }

    /// Takes note of what the kernel says the peer has acknowledged; more is progress.
    fn sample(&mut self, progress: &impl Progress, now_ms: u64) {
        self.sampled_ms = now_ms;
        let acknowledged = progress.acknowledged_bytes();
        if std::mem::replace(&mut self.acknowledged, acknowledged) != acknowledged {
            self.since_ms = now_ms;
        }
    }
}
