//! One client: its connection from the first SYN to the last byte, and again.
//!
//! The life of a connection is a small machine of phases; what is asked for is the affair of
//! [`Asker`], what is checked that of the [`Sink`], what hostile clients do that of `hostile`.
//! A socket is closed only when no operation of the ring is left on it, so that a client's slot
//! is never confused with its next connection.

use super::asking::{Ask, Asker, Room};
use super::check::{Check, Sink, Token, class_index};
use super::core::{Core, Op};
use super::hostile::Hostile;
use super::plan::{KeyPolicy, Kind, Plan, Then, Work, Written};
use super::socket;
use super::tally::{Event, Stall, Wrong};
use js5d::protocol::client::Fault;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, ClientSession, Status};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How often a slow reader reads, and thus the grain of its rate.
const SLOW_READS_PER_S: u64 = 20;

/// A client of changing keys changes it about this often.
const REKEY_EVERY_REQUESTS: u32 = 50;

/// How many requests of a stalled connection the report names.
const STALL_EXAMPLES: usize = 5;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not open: waits for its time.
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
pub(super) enum After {
    /// A new connection at this time.
    Reopen(u64),
    Nothing,
}

/// One client.
pub(crate) struct Client {
    pub(super) slot: u32,
    pub(super) number: u32,
    kind: usize,
    pub(super) phase: Phase,
    pub(super) socket: Option<OwnedFd>,
    pub(super) session: ClientSession<Token>,
    pub(super) asker: Asker,
    check: Check,
    pub(super) hostile: Option<Hostile>,
    /// What is to be sent, and how much of it has been.
    pub(super) out: Vec<u8>,
    out_sent: usize,
    receiving: bool,
    polling: bool,
    /// The earliest timer that counts.
    timer_ns: u64,
    connect_started_ns: u64,
    handshake_sent_ns: u64,
    visit_started_ns: u64,
    /// When a byte last came, or a request was last written to a connection that owed nothing.
    progress_ns: u64,
    /// A slow reader reads again at this time.
    next_read_ns: u64,
    /// Bytes that came on this connection.
    bytes: u64,
    downloads: u32,
    requests_sent: u32,
}

impl Client {
    pub(crate) fn new(slot: u32, number: u32, plan: &Plan) -> Self {
        let kind = plan.kind_of(number);
        let asker = Asker::new(number, &plan.kinds[kind], plan);
        Self {
            slot,
            number,
            kind,
            phase: Phase::Waiting,
            socket: None,
            session: ClientSession::new(plan.matching),
            asker,
            check: Check::default(),
            hostile: None,
            out: Vec::new(),
            out_sent: 0,
            receiving: false,
            polling: false,
            timer_ns: u64::MAX,
            connect_started_ns: 0,
            handshake_sent_ns: 0,
            visit_started_ns: 0,
            progress_ns: 0,
            next_read_ns: 0,
            bytes: 0,
            downloads: 0,
            requests_sent: 0,
        }
    }

    /// Asks to be woken when the connection is to be opened.
    pub(crate) fn start(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        let mut at_ns = plan.opens_at_ns(self.number);
        if plan.pace.is_some() && self.kind(&plan).paced_visits {
            at_ns = at_ns.max(self.asker.visit_due_ns());
        }
        self.wake_at(core, at_ns);
    }

    pub(super) fn kind<'a>(&self, plan: &'a Plan) -> &'a Kind {
        &plan.kinds[self.kind]
    }

    /// Asks for `on_timer` at `due_ns`, or before.
    pub(super) fn wake_at(&mut self, core: &mut Core, due_ns: u64) {
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
            Phase::Waiting => self.open(core),
            Phase::Settling => self.greet(core),
            Phase::Open | Phase::Handshaking => {
                if self.hostile.is_none() && self.kind(&core.plan).read_rate.is_none() {
                    // How late the generator itself is: nothing but its own loop is between.
                    let noticed_ns = core.tick();
                    core.tally.recorder.lag(due_ns, noticed_ns);
                }
                self.receive(core);
                self.go_on(core);
            }
            _ => {}
        }
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
        self.visit_started_ns = self.connect_started_ns;
        self.bytes = 0;
        self.session = ClientSession::new(plan.matching);
        self.check = Check::default();
        self.out.clear();
        self.out_sent = 0;
        let kind = self.kind(&plan);
        if plan.pace.is_some() && kind.paced_visits {
            self.visit_started_ns = self.asker.take_visit(&plan);
        }
        let source = match plan.sources.len() {
            0 => None,
            n => plan.sources.get((self.number / plan.part.of) as usize % n).copied(),
        };
        let receive_bytes = kind.read_rate.map(|rate| (rate as usize / 2).clamp(2048, 65_536));
        match socket::connect(plan.target, source, receive_bytes) {
            Ok(socket) => {
                core.opening += 1;
                core.poll_out(self.slot, socket.as_fd());
                self.polling = true;
                self.socket = Some(socket);
                self.phase = Phase::Connecting;
            }
            Err(error) => self.connect_failed(core, &error),
        }
    }

    fn connect_failed(&mut self, core: &mut Core, error: &io::Error) {
        core.tally.connect_failed(error);
        self.retry_or_finish(core);
    }

    /// The connect has come to an end, or the socket takes bytes again.
    pub(crate) fn on_writable(&mut self, core: &mut Core) {
        self.polling = false;
        match self.phase {
            Phase::Connecting => {
                core.opening -= 1;
                let result = self.socket.as_ref().map_or(Ok(()), socket::connect_result);
                match result {
                    Ok(()) => self.connected(core),
                    Err(error) => self.connect_failed(core, &error),
                }
            }
            Phase::Closing(_) => self.closed_if_quiet(core),
            _ => self.go_on(core),
        }
    }

    fn connected(&mut self, core: &mut Core) {
        core.tally.recorder.connect(self.connect_started_ns, core.now_ns);
        self.progress_ns = core.now_ns;
        self.phase = Phase::Handshaking;
        self.handshake_sent_ns = core.now_ns;
        let plan = core.plan.clone();
        if let Work::Hostile(tricks) = &self.kind(&plan).work {
            self.hostile = Some(Hostile::begin(tricks, self.asker.rng()));
        } else {
            self.session.handshake(plan.build, &mut self.out);
        }
        self.receive(core);
        self.go_on(core);
    }

    /// Arms a receive if none is, and it is time.
    pub(super) fn receive(&mut self, core: &mut Core) {
        let Some(socket) = &self.socket else { return };
        if self.receiving || matches!(self.phase, Phase::Connecting | Phase::Closing(_)) {
            return;
        }
        let user_data = Op::Receive.user_data(self.slot);
        if self.hostile.as_ref().is_some_and(Hostile::reads_nothing) {
            return;
        }
        if let Some(len) = self.hostile.as_ref().and_then(Hostile::read_limit) {
            core.ring.recv(socket.as_fd(), user_data, len);
            self.receiving = true;
            return;
        }
        match core.plan.kinds[self.kind].read_rate {
            None => core.ring.recv_multi(socket.as_fd(), user_data),
            Some(_) if self.next_read_ns > core.now_ns => {
                return self.wake_at(core, self.next_read_ns);
            }
            Some(rate) => {
                let piece = (rate / SLOW_READS_PER_S).clamp(1, u64::from(u16::MAX));
                core.ring.recv(socket.as_fd(), user_data, piece as u32);
            }
        }
        self.receiving = true;
    }

    /// Bytes have come; `more` says whether the receive is still armed.
    pub(crate) fn on_bytes(&mut self, core: &mut Core, buffer: &mut Option<crate::ring::Buffer>) {
        let Some(held) = buffer else { return };
        self.progress_ns = core.now_ns;
        if let Phase::Closing(_) = self.phase {
            return core.ring.give_back(buffer);
        }
        let bytes = core.ring.bytes(held);
        let len = bytes.len();
        self.bytes += len as u64;
        let mut sink = Sink {
            tally: &mut core.tally,
            verify: &core.plan.verify,
            catalogue: &core.plan.catalogue,
            check: &mut self.check,
            client: self.number,
            now_ns: core.now_ns,
            status: None,
            answers: 0,
        };
        let result = self.session.receive(bytes, &mut sink);
        let (status, answers) = (sink.status, sink.answers);
        core.ring.give_back(buffer);
        if let Some(rate) = core.plan.kinds[self.kind].read_rate {
            self.next_read_ns = core.now_ns + len as u64 * 1_000_000_000 / rate.max(1);
        }
        if let Some(hostile) = &mut self.hostile {
            hostile.received(len, answers);
        }
        if let Err(fault) = result {
            return self.on_fault(core, fault);
        }
        if let Some(status) = status {
            self.on_status(core, status);
        }
    }

    /// What follows a completion of the receive: another one, and more requests.
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

    /// The receive that was armed has ended: it is armed again by `receive`.
    pub(crate) fn receive_ended(&mut self) {
        self.receiving = false;
    }

    fn on_status(&mut self, core: &mut Core, status: Status) {
        core.tally.recorder.handshake(self.handshake_sent_ns, core.now_ns);
        core.tally.event(Event::Status(status));
        if status != Status::Ok {
            return self.retry_or_finish(core);
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
        let plan = core.plan.clone();
        if self.hostile.is_none() {
            let key = match plan.key {
                KeyPolicy::Fixed(key) => key,
                KeyPolicy::Random | KeyPolicy::Changing => self.asker.rng().u8(..),
            };
            self.session.greet(false, key, &mut self.out);
            self.asker.begin(self.kind(&plan), core.now_ns);
        }
        self.go_on(core);
    }

    fn on_fault(&mut self, core: &mut Core, fault: Fault) {
        if self.hostile.as_ref().is_some_and(Hostile::broke_the_protocol) {
            return self.hostile_cut(core);
        }
        let wrong = match fault {
            Fault::Unasked { id } if self.check.has_come(id) => Wrong::Duplicate { id },
            other => Wrong::Fault(other),
        };
        core.tally.wrong(self.number, &wrong);
        // The stream cannot be trusted any more; what is outstanding is not the server's debt.
        self.retry_or_finish(core);
    }

    /// The server ended the connection, orderly or not.
    pub(crate) fn on_end(&mut self, core: &mut Core, errno: i32) {
        match self.phase {
            Phase::Closing(_) => return self.closed_if_quiet(core),
            Phase::Finished | Phase::Waiting | Phase::Queued => return,
            _ => {}
        }
        if self.hostile.is_some() {
            return self.hostile_cut(core);
        }
        let owed = self.session.outstanding().count();
        for (class, _, token) in self.session.outstanding() {
            core.tally.in_flight(class, &token);
        }
        let has_status = self.session.status().is_some();
        core.tally.event(Event::Cut { errno, owed, has_status });
        self.retry_or_finish(core);
    }

    /// Asks for what there is to ask for, and sends it.
    pub(crate) fn go_on(&mut self, core: &mut Core) {
        if self.hostile.is_some() {
            return self.hostile_go_on(core);
        }
        if self.phase == Phase::Open && self.out_sent == self.out.len() {
            self.ask(core);
        }
        self.flush(core);
    }

    fn ask(&mut self, core: &mut Core) {
        let plan = core.plan.clone();
        let kind = self.kind(&plan);
        let now = core.tick();
        loop {
            let room = Room {
                urgent: self.session.outstanding_len(Class::Urgent) < kind.urgent as usize,
                prefetch: self.session.outstanding_len(Class::Prefetch) < kind.prefetch as usize,
            };
            match self.asker.next(kind, &plan, now, room) {
                Ask::Request { class, id, intended_ns } => {
                    if self.owes_nothing() {
                        self.progress_ns = now;
                    }
                    let visit = plan.pace.is_some() && kind.paced_visits;
                    let intended_ns = if visit { self.visit_started_ns } else { intended_ns };
                    self.rekey_now_and_then(&plan);
                    let token = Token { intended_ns, written_ns: now };
                    self.session.request(class, id, token, &mut self.out);
                    core.tally.recorder.request(class, now);
                    if let Some(written) = &mut core.written {
                        written.push(Written { at_ns: now, client: self.number, class, id });
                    }
                }
                Ask::At(due_ns) => return self.wake_at(core, due_ns),
                Ask::Blocked => return,
                Ask::Finished if self.owes_nothing() => {
                    if !self.end_visit(core, kind, now) {
                        return;
                    }
                }
                Ask::Finished => return,
            }
        }
    }

    fn rekey_now_and_then(&mut self, plan: &Plan) {
        self.requests_sent = self.requests_sent.wrapping_add(1);
        let due = self.requests_sent.is_multiple_of(REKEY_EVERY_REQUESTS);
        if plan.key == KeyPolicy::Changing && due {
            let key = self.asker.rng().u8(..);
            self.session.rekey(key, &mut self.out);
        }
    }

    fn owes_nothing(&self) -> bool {
        self.session.outstanding_len(Class::Urgent) == 0
            && self.session.outstanding_len(Class::Prefetch) == 0
            && !self.session.is_mid_response()
    }

    /// The work is done and all of it answered. True if it begins again at once.
    fn end_visit(&mut self, core: &mut Core, kind: &Kind, now: u64) -> bool {
        if self.asker.budget > 0 && kind.is_download {
            core.tally.recorder.download(self.visit_started_ns, now);
            self.downloads += 1;
        }
        let enough = core.plan.downloads.is_some_and(|enough| self.downloads >= enough);
        if self.asker.budget == 0 || enough {
            self.close(core, After::Nothing);
            return false;
        }
        match kind.then {
            Then::Repeat => {
                self.visit_started_ns = now;
                self.asker.begin(kind, now);
                true
            }
            Then::Reconnect => {
                self.reconnect(core, kind, now);
                false
            }
            Then::Stay if core.plan.duration_ns.is_none() => {
                self.close(core, After::Nothing);
                false
            }
            Then::Stay => false,
        }
    }

    fn reconnect(&mut self, core: &mut Core, kind: &Kind, now: u64) {
        let paced = core.plan.pace.is_some() && kind.paced_visits;
        let at_ns = if paced { self.asker.visit_due_ns() } else { now };
        // Half of the clients say good-bye, and the server closes.
        if self.asker.rng().bool() {
            self.out.extend(Message::Disconnect.to_bytes());
            self.flush(core);
        }
        self.asker.begin(kind, now);
        self.close(core, After::Reopen(at_ns));
    }

    /// Sends what is to be sent; waits for room where there is none.
    pub(super) fn flush(&mut self, core: &mut Core) {
        let Some(socket) = &self.socket else { return };
        if self.polling || self.out.is_empty() {
            return;
        }
        match socket::send(socket, &self.out[self.out_sent..]) {
            Ok(sent) => {
                self.out_sent += sent;
                if self.out_sent == self.out.len() {
                    self.out.clear();
                    self.out_sent = 0;
                } else {
                    core.poll_out(self.slot, socket.as_fd());
                    self.polling = true;
                }
            }
            // The end of the connection is seen where it is read, with its reason.
            Err(_) => self.out_sent = self.out.len(),
        }
    }

    pub(super) fn retry_or_finish(&mut self, core: &mut Core) {
        let after = core.plan.retry_ns.map_or(After::Nothing, |ns| After::Reopen(core.now_ns + ns));
        self.close(core, after);
    }

    /// Closes as soon as the ring has let go of the socket.
    pub(super) fn close(&mut self, core: &mut Core, after: After) {
        if matches!(self.phase, Phase::Handshaking | Phase::Settling | Phase::Open) {
            core.tally.recorder.disconnect(core.now_ns);
        }
        self.phase = Phase::Closing(after);
        for (armed, op) in [(self.receiving, Op::Receive), (self.polling, Op::Writable)] {
            if armed {
                core.cancel(self.slot, op);
            }
        }
        self.closed_if_quiet(core);
    }

    fn closed_if_quiet(&mut self, core: &mut Core) {
        let Phase::Closing(after) = self.phase else { return };
        if self.receiving || self.polling {
            return;
        }
        self.socket = None;
        self.hostile = None;
        match after {
            After::Reopen(at_ns) => {
                self.phase = Phase::Waiting;
                self.timer_ns = u64::MAX;
                self.wake_at(core, at_ns);
            }
            After::Nothing => {
                self.phase = Phase::Finished;
                core.finished += 1;
            }
        }
    }

    /// Looks for a stall; called a few times a second.
    pub(crate) fn watch(&mut self, core: &mut Core) {
        let quiet_ns = core.now_ns.saturating_sub(self.progress_ns);
        let waits = match self.phase {
            Phase::Connecting => {
                if core.now_ns - self.connect_started_ns > core.plan.stall_timeout_ns {
                    core.opening -= 1;
                    core.tally.event(Event::ConnectTimeout);
                    self.retry_or_finish(core);
                }
                return;
            }
            Phase::Handshaking => true,
            Phase::Open => !self.owes_nothing() && self.next_read_ns <= core.now_ns,
            _ => false,
        };
        if self.hostile.is_some() || !waits || quiet_ns <= core.plan.stall_timeout_ns {
            return;
        }
        let outstanding: Vec<_> = self.session.outstanding().collect();
        for (class, _, token) in &outstanding {
            core.tally.in_flight(*class, token);
        }
        core.tally.stalled(&Stall {
            client: self.number,
            since_ns: self.progress_ns,
            bytes: self.bytes,
            outstanding: outstanding.len(),
            examples: outstanding.iter().take(STALL_EXAMPLES).map(|o| (o.0, o.1)).collect(),
            has_status: self.session.status().is_some(),
            ever_answered: self.check.answered_written_ns != [0; 2],
        });
        // A server that has stopped answering one of its peers is not asked again.
        self.close(core, After::Nothing);
    }

    /// Time is up: what is in flight is at least this slow.
    pub(crate) fn end(&mut self, core: &mut Core) {
        let now = core.now_ns;
        if self.hostile.is_none() && matches!(self.phase, Phase::Open | Phase::Closing(_)) {
            for (class, id, token) in self.session.outstanding() {
                core.tally.in_flight(class, &token);
                // One that was written long before another of its class that has been answered
                // is not slow: it is lost.
                let answered_ns = self.check.answered_written_ns[class_index(class)];
                if token.written_ns + core.plan.stall_timeout_ns < answered_ns {
                    core.tally.wrong(self.number, &Wrong::Missing { class, id });
                }
            }
        }
        let plan = core.plan.clone();
        let paced_visits = self.kind(&plan).paced_visits && plan.pace.is_some();
        let visits = matches!(self.phase, Phase::Connecting | Phase::Queued | Phase::Handshaking);
        if paced_visits && visits {
            core.tally.unwritten(Class::Urgent, self.visit_started_ns);
        }
        if paced_visits || self.phase == Phase::Open {
            for (class, due_ns) in self.asker.unwritten(&plan, now) {
                core.tally.unwritten(class, due_ns);
            }
        }
        if let Some(socket) = &self.socket {
            socket::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}
