//! What hostile clients do: each connection tries one trick, holds it, goes and comes back.
//!
//! Nothing here is measured but what becomes of the connection: a server may cut a hostile
//! client whenever it likes. What it must not do is to serve wrong bytes where the trick itself
//! keeps to the protocol, or to let honest clients suffer: run those beside, with `--mix`.

use super::check::Token;
use super::client::{After, Client, Phase};
use super::core::Core;
use super::plan::{Plan, Tricks};
use super::socket;
use super::tally::{Event, Wrong};
use crate::cli::Trick;
use js5d::protocol::handshake::handshake;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, GroupId};

/// What a client that drips lets pass between two bytes.
const DRIP_NS: u64 = 1_000_000_000;

/// Before the next connection: tricks that are cut at once would measure the opening of
/// connections, which login-storm does.
const PAUSE_NS: u64 = 10_000_000;

/// Requests of the tricks that ask for something.
const REQUESTS: u32 = 20;

/// Requests of a client that overruns its windows and reads nothing.
const OVER_WINDOW_REQUESTS: u32 = 100_000;

/// Messages of a client that is legal but useless.
const USELESS_MESSAGES: u32 = 10_000;

/// Bytes of responses within which a client resets: three blocks and a little more.
const RESET_WITHIN_BYTES: usize = 1600;

/// A connection's trick and how far it is.
#[derive(Debug)]
pub(crate) struct Hostile {
    trick: Trick,
    hold_ns: u64,
    /// When the client goes by itself; 0 before the first step.
    until_ns: u64,
    step: u32,
    next_step_ns: u64,
    /// Bytes of responses that came, the status not counted.
    received: usize,
    answers: u32,
    reset_after: usize,
}

/// What a step of a trick asks of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Nothing,
    EndMySide,
    Leave,
    Reset,
}

impl Hostile {
    pub(crate) fn begin(tricks: &Tricks, rng: &mut fastrand::Rng) -> Self {
        Self {
            trick: rng.choice(&tricks.tricks).copied().unwrap_or(Trick::Silent),
            hold_ns: tricks.hold_ns,
            until_ns: 0,
            step: 0,
            next_step_ns: 0,
            received: 0,
            answers: 0,
            reset_after: rng.usize(..=RESET_WITHIN_BYTES),
        }
    }

    pub(crate) fn reads_nothing(&self) -> bool {
        self.trick == Trick::OverWindow
    }

    /// How many bytes may be read next, for a client that resets at a byte.
    pub(crate) fn read_limit(&self) -> Option<u32> {
        if self.trick != Trick::Reset {
            return None;
        }
        // One more for the status byte, which comes first.
        Some((self.reset_after + 1).saturating_sub(self.received).max(1) as u32)
    }

    pub(crate) fn received(&mut self, bytes: usize, answers: u32) {
        self.received += bytes;
        self.answers += answers;
    }

    fn is_handshake_of_js5(&self) -> bool {
        !matches!(self.trick, Trick::Silent | Trick::OneByte | Trick::Drip | Trick::NotJs5)
    }

    /// Whether the server may send what it likes before it closes.
    pub(crate) fn broke_the_protocol(&self) -> bool {
        matches!(self.trick, Trick::NotJs5 | Trick::UnknownOpcode)
    }
}

impl Client {
    /// The next step of the trick.
    pub(super) fn hostile_go_on(&mut self, core: &mut Core) {
        let Some(mut hostile) = self.hostile.take() else { return };
        if hostile.until_ns == 0 {
            hostile.until_ns = core.now_ns + hostile.hold_ns;
            if hostile.is_handshake_of_js5() {
                self.out.extend(handshake(core.plan.build));
            }
        }
        let plan = core.plan.clone();
        let todo = self.trick(core, &plan, &mut hostile);
        let (until_ns, next_step_ns) = (hostile.until_ns, hostile.next_step_ns);
        let segments = hostile.trick == Trick::OneByteSegments;
        self.hostile = Some(hostile);
        if segments {
            self.flush_bytewise(core);
        } else {
            self.flush(core);
        }
        match todo {
            Do::Nothing if core.now_ns < until_ns => {
                self.wake_at(core, until_ns);
                if next_step_ns > core.now_ns {
                    self.wake_at(core, next_step_ns);
                }
            }
            Do::EndMySide => {
                if let Some(socket) = &self.socket {
                    socket::shutdown(socket, rustix::net::Shutdown::Write);
                }
                self.wake_at(core, until_ns);
            }
            Do::Reset => self.hostile_reset(core),
            Do::Nothing | Do::Leave => {
                core.tally.event(Event::Left);
                self.close(core, After::Reopen(core.now_ns + PAUSE_NS));
            }
        }
    }

    /// The server closed on a hostile client.
    pub(super) fn hostile_cut(&mut self, core: &mut Core) {
        core.tally.event(Event::HostileCut);
        self.close(core, After::Reopen(core.now_ns + PAUSE_NS));
    }

    fn hostile_reset(&mut self, core: &mut Core) {
        if let Some(socket) = &self.socket {
            socket::reset_on_close(socket);
        }
        core.tally.event(Event::Left);
        self.close(core, After::Reopen(core.now_ns + PAUSE_NS));
    }

    fn trick(&mut self, core: &mut Core, plan: &Plan, hostile: &mut Hostile) -> Do {
        match hostile.trick {
            Trick::Silent => {}
            Trick::OneByte => self.once(hostile, &[15]),
            Trick::NotJs5 => self.once(hostile, &[14, 0, 0, 0, 0, 0, 0, 0]),
            Trick::Drip => self.drip(core, plan, hostile),
            Trick::OverWindow if hostile.step == 0 => {
                hostile.step = 1;
                for _ in 0..OVER_WINDOW_REQUESTS {
                    let id = plan.catalogue.popular(self.asker.rng());
                    self.out.extend(Message::Request(Class::Urgent, id).to_bytes());
                }
            }
            Trick::OverWindow => {}
            _ if self.phase != Phase::Open => {}
            _ => return self.trick_after_status(core, plan, hostile),
        }
        Do::Nothing
    }

    fn trick_after_status(&mut self, core: &mut Core, plan: &Plan, hostile: &mut Hostile) -> Do {
        let first = hostile.step == 0;
        hostile.step = 1;
        match hostile.trick {
            Trick::HalfRequest if first => self.out.extend([1, 255]),
            Trick::UnknownOpcode if first => self.out.extend([99, 0, 0, 0]),
            Trick::Useless if first => {
                for i in 0..USELESS_MESSAGES {
                    self.out.extend(Message::LoggedIn(i % 2 == 0).to_bytes());
                    self.session.rekey(i as u8, &mut self.out);
                }
                self.ask_for(core, plan, 1);
            }
            Trick::UnknownGroup if first => {
                for _ in 0..REQUESTS {
                    let id = plan.catalogue.unlisted(self.asker.rng());
                    self.ask_one(core, id);
                }
            }
            Trick::UnknownGroup if hostile.answers > 0 => {
                core.tally.wrong(self.number, &Wrong::MadeUp);
                return Do::Leave;
            }
            Trick::Reset | Trick::OneByteSegments | Trick::HalfClose if first => {
                self.ask_for(core, plan, REQUESTS);
                if hostile.trick == Trick::HalfClose {
                    return Do::EndMySide;
                }
            }
            Trick::Reset if hostile.received > hostile.reset_after => return Do::Reset,
            Trick::OneByteSegments if hostile.answers >= REQUESTS => return Do::Leave,
            _ => {}
        }
        Do::Nothing
    }

    fn once(&mut self, hostile: &mut Hostile, bytes: &[u8]) {
        if hostile.step == 0 {
            hostile.step = 1;
            self.out.extend(bytes);
        }
    }

    fn drip(&mut self, core: &Core, plan: &Plan, hostile: &mut Hostile) {
        if hostile.next_step_ns > core.now_ns {
            return;
        }
        // The handshake, then what a real client says next, over and over.
        let connected = Message::Connected.to_bytes();
        let byte = handshake(plan.build).get(hostile.step as usize).copied();
        self.out.push(byte.unwrap_or(connected[(hostile.step as usize + 3) % 4]));
        hostile.step += 1;
        hostile.next_step_ns = core.now_ns + DRIP_NS;
    }

    fn ask_for(&mut self, core: &Core, plan: &Plan, count: u32) {
        for _ in 0..count {
            let id = plan.catalogue.popular(self.asker.rng());
            self.ask_one(core, id);
        }
    }

    fn ask_one(&mut self, core: &Core, id: GroupId) {
        let token = Token { intended_ns: core.now_ns, written_ns: core.now_ns };
        self.session.request(Class::Urgent, id, token, &mut self.out);
    }

    fn flush_bytewise(&mut self, core: &mut Core) {
        let Some(socket) = &self.socket else { return };
        let out = std::mem::take(&mut self.out);
        // The socket's buffer holds thousands of such segments: nothing is left over.
        let sent = out.iter().all(|byte| socket::send(socket, &[*byte]).is_ok_and(|n| n == 1));
        if !sent {
            self.hostile_cut(core);
        }
    }
}
