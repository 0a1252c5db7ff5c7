//! What a client takes in: the status, responses, faults, and the end of a connection.

use super::{Client, Phase};
use crate::engine::check::Sink;
use crate::engine::core::{Core, Op};
use crate::engine::hostile::Hostile;
use crate::engine::plan::KeyPolicy;
use crate::engine::tally::{Event, Wrong};
use js5d::protocol::Status;
use js5d::protocol::client::Fault;
use std::os::fd::AsFd;

/// How often a slow reader reads, and thus the grain of its rate.
const SLOW_READS_PER_S: u64 = 20;

impl Client {
    /// Arms a receive if none is, and it is time.
    pub(in crate::engine) fn receive(&mut self, core: &mut Core) {
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
            is_measured: self.hostile.is_none(),
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

    pub(super) fn on_status(&mut self, core: &mut Core, status: Status) {
        if self.hostile.is_none() {
            core.tally.recorder.handshake(self.handshake_sent_ns, core.now_ns);
        }
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

    pub(super) fn greet(&mut self, core: &mut Core) {
        self.phase = Phase::Open;
        let plan = core.plan.clone();
        if self.hostile.is_none() {
            let key = match plan.key {
                KeyPolicy::Fixed(key) => key,
                KeyPolicy::Random | KeyPolicy::Changing => self.asker.rng().u8(..),
            };
            self.session.greet(plan.logged_in, key, &mut self.out);
            self.asker.begin_or_go_on(self.kind(&plan), core.now_ns);
        }
        self.go_on(core);
    }

    pub(super) fn on_fault(&mut self, core: &mut Core, fault: Fault) {
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
        // Who comes back after a cut expects cuts: a restart, a drain. Otherwise every request
        // is owed an answer.
        if owed > 0 && core.plan.retry_ns.is_none() {
            core.tally.wrong(self.number, &Wrong::CutOff { owed });
        }
        self.retry_or_finish(core);
    }
}
