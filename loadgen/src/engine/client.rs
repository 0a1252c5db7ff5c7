//! One client: its connection from the first SYN to the last byte, and again.
//!
//! The life of a connection is a small machine of phases; what is asked for is the affair of
//! [`Asker`], what is checked that of the sink in `check`, what hostile clients do that of
//! `hostile`. A socket is closed only when no operation of the ring is left on it, so that a
//! client's slot is never confused with its next connection.

mod asks;
mod receives;
mod watches;

use super::asking::Asker;
use super::check::{Check, Token};
use super::core::{Core, Op};
use super::hostile::Hostile;
use super::plan::{Kind, Plan, Work};
use super::socket;
use js5d::protocol::ClientSession;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

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
    /// The work is done, and the connection stays.
    rests: bool,
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
            rests: false,
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

    /// Whether the run ends when this client and its like have: hostile ones never do.
    pub(crate) fn is_foreground(&self, plan: &Plan) -> bool {
        !matches!(self.kind(plan).work, Work::Hostile(_))
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
        if !self.asker.goes_on() {
            self.visit_started_ns = self.connect_started_ns;
        }
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
            n => plan.sources.get(self.slot as usize % n).copied(),
        };
        let receive_bytes = kind.read_rate.map(|rate| (rate as usize / 2).clamp(2048, 65_536));
        match socket::connect(plan.target_of(self.number), source, receive_bytes) {
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
        if self.is_foreground(&core.plan) {
            let paced = core.plan.pace.is_some() && self.kind(&core.plan).paced_visits;
            let since = if paced { self.visit_started_ns } else { self.connect_started_ns };
            core.tally.recorder.connect(since, core.now_ns);
        } else {
            // What a hostile client waits for is its own doing, and nobody's latency.
            core.tally.recorder.connected(core.now_ns);
        }
        self.progress_ns = core.now_ns;
        self.phase = Phase::Handshaking;
        self.handshake_sent_ns = core.now_ns;
        let plan = core.plan.clone();
        if let (true, Some(socket)) = (plan.proxy_header, &self.socket) {
            // Who is cut off at once has no address; the next operation says so.
            self.out.extend(socket::proxy_header(socket).unwrap_or_default());
        }
        if let Work::Hostile(tricks) = &self.kind(&plan).work {
            self.hostile = Some(Hostile::begin(tricks, self.asker.rng()));
        } else {
            self.session.handshake(plan.build, &mut self.out);
        }
        self.receive(core);
        self.go_on(core);
    }

    pub(super) fn retry_or_finish(&mut self, core: &mut Core) {
        if core.plan.resume && self.kind(&core.plan).can_go_on() {
            let owed = self.session.outstanding().map(|(class, id, _)| (class, id));
            self.asker.go_on_later(owed);
        }
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
                core.finished += usize::from(self.is_foreground(&core.plan));
            }
        }
    }
}
