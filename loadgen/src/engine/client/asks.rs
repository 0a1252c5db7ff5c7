//! What a client sends: requests when it is time, a visit's end, and the next visit.

use super::{After, Client, Phase};
use crate::engine::asking::{Ask, Room};
use crate::engine::check::Token;
use crate::engine::core::Core;
use crate::engine::plan::{KeyPolicy, Kind, Plan, Then, Written};
use crate::engine::socket;
use js5d::protocol::Class;
use js5d::protocol::request::Message;
use std::os::fd::AsFd;

/// A client of changing keys changes it about this often.
const REKEY_EVERY_REQUESTS: u32 = 50;

impl Client {
    /// Asks for what there is to ask for, and sends it.
    pub(crate) fn go_on(&mut self, core: &mut Core) {
        if self.hostile.is_some() {
            return self.hostile_go_on(core);
        }
        // What the socket does not take yet is not asked either: it would count as written.
        if self.phase == Phase::Open && !self.polling && !self.rests {
            self.ask(core);
        }
        self.flush(core);
    }

    pub(super) fn ask(&mut self, core: &mut Core) {
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

    pub(super) fn rekey_now_and_then(&mut self, plan: &Plan) {
        self.requests_sent = self.requests_sent.wrapping_add(1);
        let due = self.requests_sent.is_multiple_of(REKEY_EVERY_REQUESTS);
        if plan.key == KeyPolicy::Changing && due {
            let key = self.asker.rng().u8(..);
            self.session.rekey(key, &mut self.out);
        }
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.session.outstanding_len(Class::Urgent) == 0
            && self.session.outstanding_len(Class::Prefetch) == 0
            && !self.session.is_mid_response()
    }

    /// The work is done and all of it answered. True if it begins again at once.
    pub(super) fn end_visit(&mut self, core: &mut Core, kind: &Kind, now: u64) -> bool {
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
            Then::Stay => {
                self.rests = true;
                false
            }
        }
    }

    pub(super) fn reconnect(&mut self, core: &mut Core, kind: &Kind, now: u64) {
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
    pub(in crate::engine) fn flush(&mut self, core: &mut Core) {
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
}
