//! One client: it brings together a [`Connection`], the [`Visit`]s that it makes over it, and the
//! [`Checker`] that matches and verifies what comes; a hostile one has a [`Hostile`] behaviour in
//! place of visits.
//!
//! A connection passes through the phases of a small state machine. There are two clocks: recorded
//! times are by the run's clock; whether the server has stalled is measured in the worker's waking
//! time (`Core::awake_ns`), which does not pass while the generator is stopped.

use super::checker::{Books, Checker, class_index};
use super::connection::{Connection, Route};
use super::core::Core;
use super::faults::{Stall, Token, Wrong};
use super::hostile::{Act, Hostile, Talk};
use super::pace::Call;
use super::plan::{KeyPolicy, Plan};
use super::visit::{Ask, Next, Room, Visit};
use crate::scenario::{Kind, Paced, Work};
use crate::stats::Outcome;
use crate::trace::Written;
use crate::verdict;
use js5_ring::Buffer;
use js5d::protocol::{Class, GroupId, Status};
use rustix::net::Shutdown;
use std::io;

/// A client of changing keys changes it about this often.
const REKEY_EVERY_REQUESTS: u32 = 50;

/// But no sooner than after this time: js5d, for one, closes peers that change it 100 times a
/// second (`--chatter-max`).
const REKEY_GAP_NS: u64 = 20_000_000;

/// How often a slow reader reads, and thus the grain of its rate.
const SLOW_READS_PER_S: u64 = 20;

/// How many requests of a stalled connection the report names.
const STALL_EXAMPLES: usize = 5;

/// Between two connections of a hostile client: tricks that are cut at once would measure the
/// opening of connections, which login-storm does.
const HOSTILE_PAUSE_NS: u64 = 10_000_000;

const CLASSES: [Class; 2] = [Class::Urgent, Class::Prefetch];

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Not open: waits for its time, or for the pace to call.
    Waiting,
    /// Waits until fewer connects are under way.
    Queued,
    Connecting,
    /// The handshake is out, the status is not in.
    Handshaking,
    /// The status is in, and the server is given time.
    Settling,
    Open,
    /// Operations are being cancelled.
    Closing(After),
    /// Does nothing more.
    Finished,
}

/// What follows a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// A new connection at this time.
    Reopen(u64),
    Nothing,
}

/// A time in which the server owed answers and sent nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    since_ns: u64,
    until_ns: u64,
}

/// One client.
pub(crate) struct Client {
    slot: u32,
    number: u32,
    kind: usize,
    phase: Phase,
    connection: Connection,
    checker: Checker,
    visit: Visit,
    /// What this connection tries, if the client is hostile.
    hostile: Option<Hostile>,
    /// The earliest timer that counts.
    timer_ns: u64,
    connect_started_ns: u64,
    handshake_sent_ns: u64,
    /// When the visit was due for which the pace has called, until its first request is written.
    visit_due_ns: Option<u64>,
    /// When a byte last arrived, or a request was last written while nothing was owed, in waking
    /// time.
    progress_ns: u64,
    quiet_longest: Quiet,
    /// A slow reader reads again at this time.
    next_read_ns: u64,
    requests_sent: u32,
    /// When the key was last changed.
    rekeyed_ns: u64,
    /// Since when each class's window has had room.
    room_since_ns: [u64; 2],
    /// Whether the pace knows that it may call, for each class.
    is_ready: [bool; 2],
    /// The work is done, and the connection stays.
    rests: bool,
}

impl Client {
    pub(crate) fn new(slot: u32, number: u32, plan: &Plan) -> Self {
        let kind = plan.kind_of(number);
        Self {
            slot,
            number,
            kind,
            phase: Phase::Waiting,
            connection: Connection::new(slot),
            checker: Checker::new(number, &plan.speech),
            visit: Visit::new(number, &plan.kinds[kind], plan),
            hostile: None,
            timer_ns: u64::MAX,
            connect_started_ns: 0,
            handshake_sent_ns: 0,
            visit_due_ns: None,
            progress_ns: 0,
            quiet_longest: Quiet::default(),
            next_read_ns: 0,
            requests_sent: 0,
            rekeyed_ns: 0,
            room_since_ns: [0; 2],
            is_ready: [false; 2],
            rests: false,
        }
    }

    /// Asks to be woken when the connection is to be opened.
    pub(crate) fn start(&mut self, core: &mut Core) {
        let at_ns = core.plan.opens_at_ns(self.number);
        self.wake_at(core, at_ns);
    }

    /// Whether the run ends when this client and its like have: hostile ones never do.
    pub(crate) fn is_foreground(&self, plan: &Plan) -> bool {
        !matches!(self.kind(plan).work, Work::Hostile(_))
    }

    fn kind<'a>(&self, plan: &'a Plan) -> &'a Kind {
        &plan.kinds[self.kind]
    }

    /// Whether the pace says when this client connects.
    fn has_paced_visits(&self, plan: &Plan) -> bool {
        plan.pace.is_some() && self.kind(plan).paced == Paced::Visits
    }

    /// Asks for `on_timer` at `due_ns`, or before.
    fn wake_at(&mut self, core: &mut Core, due_ns: u64) {
        if due_ns < self.timer_ns {
            self.timer_ns = due_ns;
            core.timers.add(due_ns, self.slot);
        }
    }

    /// A timer that was added for `due_ns` has come.
    pub(crate) fn on_timer(&mut self, core: &mut Core, due_ns: u64) {
        if due_ns != self.timer_ns {
            return;
        }
        self.timer_ns = u64::MAX;
        match self.phase {
            Phase::Waiting if self.visit_due_ns.is_none() && self.has_paced_visits(&core.plan) => {
                self.be_ready(core, Class::Urgent);
            }
            Phase::Waiting => self.open(core),
            Phase::Settling => self.greet(core),
            Phase::Open | Phase::Handshaking => {
                self.receive(core);
                self.go_on(core);
            }
            _ => {}
        }
    }

    /// Tells the pace that it may call.
    fn be_ready(&mut self, core: &mut Core, class: Class) {
        if !std::mem::replace(&mut self.is_ready[class_index(class)], true) {
            core.arrivals.ready(self.kind, class, self.slot, core.now_ns);
        }
    }

    /// The pace calls: something is due. False if this client cannot take it after all. What it
    /// says is sent by `flush`.
    pub(crate) fn on_call(&mut self, core: &mut Core, call: &Call) -> bool {
        self.is_ready[class_index(call.class)] = false;
        let plan = core.plan.clone();
        if self.has_paced_visits(&plan) {
            if self.phase != Phase::Waiting || self.visit_due_ns.is_some() {
                return false;
            }
            self.visit_due_ns = Some(call.due_ns);
            self.open(core);
        } else {
            let can_ask = self.phase == Phase::Open && !self.connection.is_blocked() && !self.rests;
            if !can_ask || !self.has_room(&plan, call.class) {
                return false;
            }
            let Some(id) = self.visit.called(self.kind(&plan), &plan) else { return false };
            self.request(core, &plan, (call.class, id), call.due_ns);
            if self.has_room(&plan, call.class) {
                self.be_ready(core, call.class);
            }
        }
        core.tally.recorder.due(call.due_ns, 1, true);
        core.tally.recorder.lag(call.possible_ns, core.now_ns);
        true
    }

    /// Begins to connect, if not too many are at it.
    pub(crate) fn open(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        if core.opening >= plan.opening.pending_max {
            self.phase = Phase::Queued;
            core.queued.push_back(self.slot);
            return;
        }
        self.connect_started_ns = core.tick();
        self.progress_ns = core.awake_ns();
        self.visit.connects(self.visit_due_ns.unwrap_or(self.connect_started_ns));
        self.checker.renew();
        let kind = self.kind(&plan);
        let source = match plan.sources.len() {
            0 => None,
            n => plan.sources.get(self.slot as usize % n).copied(),
        };
        let receive_bytes = kind.read_rate.map(|rate| (rate as usize / 2).clamp(2048, 65_536));
        let route = Route { target: plan.target_of(self.number), source, receive_bytes };
        match self.connection.open(core, &route) {
            Ok(()) => {
                core.opening += 1;
                self.phase = Phase::Connecting;
            }
            Err(error) => self.connect_failed(core, &error),
        }
    }

    fn connect_failed(&mut self, core: &mut Core, error: &io::Error) {
        core.tally.connect_failed(error);
        self.retry_or_give_up(core);
    }

    /// The connect has come to an end, or the socket takes bytes again.
    pub(crate) fn on_writable(&mut self, core: &mut Core) {
        self.connection.writable();
        match self.phase {
            Phase::Connecting => {
                core.opening -= 1;
                match self.connection.connected() {
                    Ok(()) => self.connected(core),
                    Err(error) => self.connect_failed(core, &error),
                }
            }
            Phase::Closing(_) => self.closed_if_quiet(core),
            _ => {
                self.room_since_ns = [core.now_ns; 2];
                self.go_on(core);
            }
        }
    }

    fn connected(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        if self.is_foreground(&plan) {
            let paced = self.has_paced_visits(&plan);
            let since = if paced { self.visit.started_ns() } else { self.connect_started_ns };
            core.tally.recorder.connect(since, core.now_ns);
        } else {
            // A hostile client causes its own waits, so they are no latency.
            core.tally.recorder.connected(core.now_ns);
        }
        self.progress_ns = core.awake_ns();
        self.phase = Phase::Handshaking;
        self.handshake_sent_ns = core.now_ns;
        if plan.proxy_header {
            self.connection.announce();
        }
        if let Work::Hostile(tricks) = &self.kind(&plan).work {
            self.hostile = Some(Hostile::begin(tricks, core.now_ns, self.visit.rng()));
        } else {
            self.checker.handshake(self.connection.out());
        }
        self.receive(core);
        self.go_on(core);
    }

    /// Arms a receive if none is, and it is time.
    fn receive(&mut self, core: &mut Core) {
        if matches!(self.phase, Phase::Connecting | Phase::Closing(_)) {
            return;
        }
        if let Some(hostile) = &self.hostile {
            if !hostile.reads_nothing() {
                self.connection.receive(core, hostile.read_limit());
            }
            return;
        }
        match core.plan.kinds[self.kind].read_rate {
            None => self.connection.receive(core, None),
            Some(_) if self.next_read_ns > core.now_ns => self.wake_at(core, self.next_read_ns),
            Some(rate) => {
                let piece = (rate / SLOW_READS_PER_S).clamp(1, u64::from(u16::MAX));
                self.connection.receive(core, Some(piece as u32));
            }
        }
    }

    /// Bytes have come.
    pub(crate) fn on_bytes(&mut self, core: &mut Core, buffer: &mut Option<Buffer>) {
        let Some(held) = buffer else { return };
        self.note_quiet(core);
        self.progress_ns = core.awake_ns();
        if let Phase::Closing(_) = self.phase {
            return core.ring.give_back(buffer);
        }
        self.connection.received(held);
        let len = held.len();
        let had_room = CLASSES.map(|class| self.has_room(&core.plan, class));
        let books = Books {
            tally: &mut core.tally,
            verify: &core.plan.verify,
            catalogue: &core.plan.catalogue,
            is_measured: self.hostile.is_none(),
            now_ns: core.now_ns,
        };
        let received = self.checker.receive(core.ring.bytes(held), books);
        core.ring.give_back(buffer);
        for class in CLASSES {
            if !had_room[class_index(class)] && self.has_room(&core.plan, class) {
                self.room_since_ns[class_index(class)] = core.now_ns;
            }
        }
        if let Some(rate) = core.plan.kinds[self.kind].read_rate {
            self.next_read_ns = core.now_ns + len as u64 * 1_000_000_000 / rate.max(1);
        }
        if let Some(hostile) = &mut self.hostile {
            hostile.received(len, received.answers);
        }
        if let Some(wrong) = received.fault {
            return self.on_fault(core, &wrong);
        }
        if let Some(status) = received.status {
            self.on_status(core, status);
        }
    }

    /// What follows a completion of the receive: another one, and more requests. `is_over` says
    /// that the one that was armed has ended.
    pub(crate) fn received(&mut self, core: &mut Core) {
        match self.phase {
            Phase::Closing(_) => self.closed_if_quiet(core),
            Phase::Handshaking | Phase::Settling | Phase::Open => {
                self.receive(core);
                self.go_on(core);
            }
            _ => {}
        }
    }

    /// The receive that was armed has ended.
    pub(crate) fn receive_ended(&mut self) {
        self.connection.receive_ended();
    }

    fn on_status(&mut self, core: &mut Core, status: Status) {
        if self.hostile.is_none() {
            core.tally.recorder.handshake(self.handshake_sent_ns, core.now_ns);
        }
        core.tally.outcome(status.into());
        if status != Status::Ok {
            return self.retry_or_give_up(core);
        }
        if core.plan.settle_ns > 0 && self.hostile.is_none() {
            self.phase = Phase::Settling;
            self.wake_at(core, core.now_ns + core.plan.settle_ns);
        } else {
            self.greet(core);
        }
    }

    fn greet(&mut self, core: &mut Core) {
        self.phase = Phase::Open;
        self.room_since_ns = [core.now_ns; 2];
        let plan = core.plan.clone();
        if self.hostile.is_none() {
            let key = match plan.key {
                KeyPolicy::Fixed(key) => key,
                KeyPolicy::Random | KeyPolicy::Changing => self.visit.rng().u8(..),
            };
            self.checker.greet(plan.logged_in, key, self.connection.out());
            self.visit.begin_or_go_on(self.kind(&plan), core.now_ns);
        }
        self.go_on(core);
    }

    /// Writes the requests that are due and fit into the windows, and sends them.
    fn go_on(&mut self, core: &mut Core) {
        if self.hostile.is_some() {
            return self.act(core);
        }
        // What the socket does not take yet is not asked either: it would count as written.
        if self.phase == Phase::Open && !self.connection.is_blocked() && !self.rests {
            self.ask(core);
        }
        self.flush(core);
    }

    /// Sends what has been said.
    pub(crate) fn flush(&mut self, core: &mut Core) {
        self.connection.flush(core);
    }

    fn has_room(&self, plan: &Plan, class: Class) -> bool {
        let kind = self.kind(plan);
        let window = if class == Class::Urgent { kind.urgent } else { kind.prefetch };
        self.checker.outstanding_len(class) < window as usize
    }

    fn ask(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        let kind = self.kind(&plan);
        let now = core.tick();
        loop {
            let [urgent, prefetch] = CLASSES.map(|class| self.has_room(&plan, class));
            match self.visit.next(kind, &plan, now, Room { urgent, prefetch }) {
                Ask::Request { class, id, intended_ns } => {
                    // What is asked as soon as there is room is due when it is asked.
                    if intended_ns < now {
                        let possible_ns = intended_ns.max(self.room_since_ns[class_index(class)]);
                        core.tally.recorder.lag(possible_ns, now);
                    }
                    if plan.is_open_loop() && matches!(kind.work, Work::Trace(_)) {
                        core.tally.recorder.due(intended_ns, 1, true);
                    }
                    let visit = self.has_paced_visits(&plan);
                    let intended_ns = if visit { self.visit.started_ns() } else { intended_ns };
                    self.visit_due_ns = None;
                    self.request(core, &plan, (class, id), intended_ns);
                }
                Ask::Again { class, id, intended_ns } => {
                    self.request(core, &plan, (class, id), intended_ns);
                }
                Ask::At(due_ns) => return self.wake_at(core, due_ns),
                Ask::OnCall => {
                    for (class, has_room) in CLASSES.into_iter().zip([urgent, prefetch]) {
                        if has_room {
                            self.be_ready(core, class);
                        }
                    }
                    return;
                }
                Ask::Finished if self.checker.owes_nothing() => {
                    if !self.end_visit(core, &plan, now) {
                        return;
                    }
                }
                Ask::Blocked | Ask::Finished => return,
            }
        }
    }

    fn request(
        &mut self,
        core: &mut Core,
        plan: &Plan,
        (class, id): (Class, GroupId),
        intended_ns: u64,
    ) {
        if self.checker.owes_nothing() {
            self.progress_ns = core.awake_ns();
        }
        self.requests_sent = self.requests_sent.wrapping_add(1);
        let now = core.now_ns;
        let is_turn = self.requests_sent.is_multiple_of(REKEY_EVERY_REQUESTS);
        if plan.key == KeyPolicy::Changing && is_turn {
            // Drawn even if it is not used: what is asked for does not depend on the time.
            let key = self.visit.rng().u8(..);
            if now >= self.rekeyed_ns + REKEY_GAP_NS {
                self.rekeyed_ns = now;
                self.checker.rekey(key, self.connection.out());
            }
        }
        let token = Token { intended_ns, written_ns: now };
        self.checker.request(class, id, token, self.connection.out());
        core.tally.recorder.request(class, now);
        if let Some(written) = &mut core.written {
            written.push(Written { at_ns: now, client: self.number, class, id });
        }
    }

    /// The work is done and all of it answered. True if it begins again at once.
    fn end_visit(&mut self, core: &mut Core, plan: &Plan, now: u64) -> bool {
        let started_ns = self.visit.started_ns();
        let (next, is_download) = self.visit.end(self.kind(plan), plan, now);
        if is_download {
            core.tally.recorder.download(started_ns, now);
        }
        match next {
            Next::Again => return true,
            Next::Reconnect => {
                // Half of the clients say good-bye, and the server closes.
                if self.visit.rng().bool() {
                    self.checker.say_goodbye(self.connection.out());
                    self.flush(core);
                }
                self.close(core, After::Reopen(now));
            }
            Next::Rest => {
                self.rests = true;
                core.arrivals.done(self.kind);
            }
            Next::Done => {
                core.arrivals.done(self.kind);
                self.close(core, After::Nothing);
            }
        }
        false
    }

    fn on_fault(&mut self, core: &mut Core, wrong: &Wrong) {
        if self.hostile.as_ref().is_some_and(Hostile::broke_the_protocol) {
            core.tally.outcome(Outcome::ClosedByServer);
            return self.close_hostile(core);
        }
        core.tally.wrong(self.number, wrong);
        // The stream cannot be trusted any more.
        self.lose_what_is_owed(core);
        self.retry_or_give_up(core);
    }

    /// The server ended the connection, orderly or not.
    pub(crate) fn on_end(&mut self, core: &mut Core, errno: i32) {
        match self.phase {
            Phase::Closing(_) => return self.closed_if_quiet(core),
            Phase::Finished | Phase::Waiting | Phase::Queued => return,
            _ => {}
        }
        if self.hostile.is_some() {
            core.tally.outcome(Outcome::ClosedByServer);
            return self.close_hostile(core);
        }
        self.note_quiet(core);
        let owed = self.checker.outstanding().count();
        core.tally.outcome(match errno {
            _ if !self.checker.has_status() => Outcome::ClosedWithoutStatus,
            0 if owed > 0 => Outcome::Cut,
            0 => Outcome::ClosedByServer,
            _ => Outcome::Reset,
        });
        // A client with --retry expects cuts: a restart, a drain. Otherwise every request
        // is owed an answer.
        if owed > 0 && core.plan.retry_ns.is_none() {
            core.tally.wrong(self.number, &Wrong::CutOff { owed });
        }
        self.lose_what_is_owed(core);
        self.retry_or_give_up(core);
    }

    /// What the connection owes is asked for again on the next one, or is at least this slow.
    fn lose_what_is_owed(&mut self, core: &mut Core) {
        let plan = &core.plan;
        let outstanding = self.checker.outstanding();
        if plan.resume && plan.retry_ns.is_some() && self.kind(plan).can_go_on() {
            let owed = outstanding.map(|(class, id, token)| (class, id, token.intended_ns));
            self.visit.go_on_later(owed);
        } else {
            outstanding.for_each(|(class, _, token)| core.tally.in_flight(class, &token));
        }
        self.checker.renew();
    }

    /// The client has lost its connection, or got none.
    fn retry_or_give_up(&mut self, core: &mut Core) {
        match core.plan.retry_ns {
            Some(ns) => self.close(core, After::Reopen(core.now_ns + ns)),
            None => {
                core.given_up += 1;
                self.close(core, After::Nothing);
            }
        }
    }

    /// Closes as soon as the ring has let go of the socket.
    fn close(&mut self, core: &mut Core, after: After) {
        if matches!(self.phase, Phase::Handshaking | Phase::Settling | Phase::Open) {
            core.tally.recorder.disconnect(core.now_ns);
        }
        self.phase = Phase::Closing(after);
        self.connection.end(core);
        self.closed_if_quiet(core);
    }

    fn closed_if_quiet(&mut self, core: &mut Core) {
        let Phase::Closing(after) = self.phase else { return };
        if !self.connection.is_quiet() {
            return;
        }
        self.connection.close();
        self.hostile = None;
        match after {
            After::Reopen(at_ns) => {
                self.phase = Phase::Waiting;
                self.timer_ns = u64::MAX;
                self.wake_at(core, at_ns);
            }
            After::Nothing => {
                self.phase = Phase::Finished;
                core.finished += usize::from(self.is_foreground(&core.plan));
            }
        }
    }

    /// The next step of a hostile client.
    fn act(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        let Some(hostile) = &mut self.hostile else { return };
        let act = hostile.act(&mut Talk {
            now_ns: core.now_ns,
            is_open: self.phase == Phase::Open,
            catalogue: &plan.catalogue,
            rng: self.visit.rng(),
            checker: &mut self.checker,
            out: self.connection.out(),
        });
        if !hostile.sends_bytewise() {
            self.flush(core);
        } else if !self.connection.flush_bytewise() {
            core.tally.outcome(Outcome::ClosedByServer);
            return self.close_hostile(core);
        }
        match act {
            Act::Hold { until_ns } => return self.wake_at(core, until_ns),
            Act::EndMySide { until_ns } => {
                self.connection.shut_down(Shutdown::Write);
                return self.wake_at(core, until_ns);
            }
            Act::Reset => self.connection.reset_on_close(),
            Act::Accuse => core.tally.wrong(self.number, &Wrong::MadeUp),
            Act::Leave => {}
        }
        core.tally.outcome(Outcome::ClosedByClient);
        self.close_hostile(core);
    }

    fn close_hostile(&mut self, core: &mut Core) {
        self.close(core, After::Reopen(core.now_ns + HOSTILE_PAUSE_NS));
    }

    /// Whether the server is to send something and nothing of this client's doing is between.
    fn waits(&self, plan: &Plan) -> bool {
        match self.phase {
            _ if self.hostile.is_some() || self.kind(plan).read_rate.is_some() => false,
            Phase::Handshaking => true,
            Phase::Open => !self.checker.owes_nothing(),
            _ => false,
        }
    }

    /// Remembers the longest stretch, within the measurement, in which the server was waited for.
    fn note_quiet(&mut self, core: &Core) {
        let quiet_ns = core.awake_ns().saturating_sub(self.progress_ns);
        let since_ns = core.now_ns.saturating_sub(quiet_ns).max(core.plan.warmup_ns);
        let longest_ns = self.quiet_longest.until_ns - self.quiet_longest.since_ns;
        if core.now_ns.saturating_sub(since_ns) > longest_ns && self.waits(&core.plan) {
            self.quiet_longest = Quiet { since_ns, until_ns: core.now_ns };
        }
    }

    /// Looks for a stall; called a few times a second.
    pub(crate) fn watch(&mut self, core: &mut Core) {
        let quiet_ns = core.awake_ns().saturating_sub(self.progress_ns);
        if quiet_ns <= core.plan.stall_timeout_ns {
            return;
        }
        if self.phase == Phase::Connecting {
            core.opening -= 1;
            core.tally.outcome(Outcome::ConnectTimeout);
            return self.retry_or_give_up(core);
        }
        let reads_slowly = self.kind(&core.plan).read_rate.is_some()
            && self.phase == Phase::Open
            && !self.checker.owes_nothing()
            && self.next_read_ns <= core.now_ns;
        if !self.waits(&core.plan) && !reads_slowly {
            return;
        }
        let since_ns = core.now_ns - quiet_ns;
        self.report_stall(core, Quiet { since_ns, until_ns: core.now_ns });
        self.lose_what_is_owed(core);
        self.quiet_longest = Quiet::default();
        // A server that has stopped answering one of its peers is not asked again.
        core.given_up += 1;
        self.close(core, After::Nothing);
    }

    fn report_stall(&self, core: &mut Core, quiet: Quiet) {
        let outstanding: Vec<_> = self.checker.outstanding().collect();
        core.tally.stalled(&Stall {
            client: self.number,
            since_ns: quiet.since_ns,
            until_ns: quiet.until_ns,
            bytes: self.connection.bytes(),
            outstanding: outstanding.len(),
            examples: outstanding.iter().take(STALL_EXAMPLES).map(|o| (o.0, o.1)).collect(),
            has_status: self.checker.has_status(),
            ever_answered: self.checker.has_answered(),
            went_on: quiet.until_ns < core.now_ns,
        });
    }

    /// Time is up: what is in flight is at least this slow, and what was due was due.
    pub(crate) fn end(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        let now = core.now_ns;
        self.look_for_standstill(core);
        if self.hostile.is_none() && self.phase == Phase::Open {
            for (class, _, token) in self.checker.outstanding() {
                core.tally.in_flight(class, &token);
            }
            for missing in self.checker.missing(plan.stall_timeout_ns) {
                core.tally.wrong(self.number, &missing);
            }
        }
        let owed = self.visit.owed().map(|(class, _, due_ns)| (class, due_ns));
        let visit = self.visit_due_ns.map(|due_ns| (Class::Urgent, due_ns));
        owed.chain(visit).for_each(|(class, due_ns)| core.tally.unwritten(class, due_ns, 1));
        // Without a duration the whole trace was to be asked.
        let until_ns = plan.duration_ns.map_or(u64::MAX, |_| now);
        for (class, due_ns) in self.visit.untraced(self.kind(&plan), &plan, until_ns) {
            core.tally.recorder.due(due_ns, 1, false);
            core.tally.unwritten(class, due_ns, 1);
        }
        self.connection.shut_down(Shutdown::Both);
    }

    /// A server that let this client wait for most of the measurement has stood still, whatever
    /// the stall timeout.
    fn look_for_standstill(&mut self, core: &mut Core) {
        self.note_quiet(core);
        let Quiet { since_ns, until_ns } = self.quiet_longest;
        let measured_ns = core.now_ns.saturating_sub(core.plan.warmup_ns);
        let answer_ns = core.tally.recorder.answer_ns();
        let stood_still = verdict::is_standstill(until_ns - since_ns, measured_ns, answer_ns);
        // A run that ends with its last answer has waited for that as long as it took.
        if stood_still && core.plan.duration_ns.is_some() {
            self.report_stall(core, self.quiet_longest);
        }
    }
}
