//! Row 4: server session and client session over a pipe, in every order of events.
//!
//! A case is a client of build 550, or of one of the others, that connects up to three times, each
//! time to the generation of that moment. What it writes, how the pipe cuts, delays and delivers
//! it, when the server reads, fills and sends, what is held back, when the cache is swapped and
//! where the pipe breaks: all of it is decided by the case's seed. The model says what each step
//! must be, and a second, slow framing says which bytes it is on the wire.

mod client;
pub(super) mod model;
mod server;
mod world;

pub(super) use server::{ServerEnd, change_queues};
pub(super) use world::World;

use super::Case;
use super::wire::{BUILD_550, Bit, TONGUES, Tongue, any_scale};
use client::{ClientEnd, Expected, Judge};
use fastrand::Rng;
use js5d::protocol::frame::Framing;
use js5d::protocol::profile::Mark;
use js5d::protocol::session::{Allowance, Step};
use js5d::protocol::{Builds, Clients, Status};
use model::Model;
use server::READ_LEN;
use std::rc::Rc;
use std::sync::Arc;

/// A session is stuck after so many events in which neither end has read or written a byte. All
/// events are no measure: 300 KB in steps of a few bytes take millions.
const EVENTS_WITHOUT_PROGRESS_MAX: u32 = 100_000;

/// A case is one client.
pub(super) fn prepare() -> Case {
    let world = Rc::new(World::new());
    Box::new(move |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut generation = rng.usize(..world::GENERATIONS);
        let sessions = rng.u64(1..=3);
        // One client in two is of build 550, some of which have no use for the prefetch bit.
        let bit = if rng.u8(..5) > 0 { Bit::Always } else { Bit::Never };
        let own = Tongue { bit, ..BUILD_550 };
        let tongue = if rng.bool() { &own } else { &TONGUES[rng.usize(..TONGUES.len())] };
        for number in 1..=sessions {
            let mut connection = Connection::new(&world, tongue, &mut generation, &mut rng);
            connection
                .run(&mut rng)
                .map_err(|what| format!("connection {number} of {}: {what}", tongue.name))?;
        }
        Ok(sessions)
    })
}

/// Both ends, the pipe between them, and the model.
struct Connection<'a> {
    world: &'a World,
    /// The current generation; connections to come get it.
    current: &'a mut usize,
    /// The one that this connection began with.
    generation: usize,
    server: ServerEnd,
    model: Model,
    framing: Framing,
    client: ClientEnd,
    judge: Judge<'a>,
    /// Bytes on their way to the server.
    upstream: Vec<u8>,
    upstream_ended: bool,
    /// Bytes on their way to the client, from `delivered` on.
    downstream: Vec<u8>,
    delivered: usize,
    downstream_room: usize,
    /// What the model says that the client must read from here on.
    wire: Vec<u8>,
    /// How far of `wire` has been compared.
    read: usize,
    /// Events until the pipe breaks.
    cut_after: Option<u32>,
    /// Bytes the client or the server moves at once, at most.
    step_max: usize,
    holds_back: bool,
}

impl<'a> Connection<'a> {
    fn new(world: &'a World, tongue: &Tongue, current: &'a mut usize, rng: &mut Rng) -> Self {
        let (by_bit, admits) = (tongue.bit == Bit::Always, rng.u8(..30) > 0);
        let (mut profile, build) = tongue.profile();
        if !by_bit && profile.mark == Mark::TypeBit {
            profile.mark = Mark::Never;
        }
        let refusals = [Status::ServerFull, Status::TooManyConnections];
        let refusal = (rng.u8(..40) == 0).then(|| refusals[rng.usize(..2)]);
        // A build that is not admitted is another one's neighbour.
        let builds = match (admits, rng.bool()) {
            (true, true) => Builds::Any,
            (true, false) => Builds::only([build]),
            (false, _) => Builds::only([*tongue.builds.start()]),
        };
        let queue_len_max = [1, 2, 20, 500][rng.usize(..4)];
        let clients =
            Clients::new(vec![profile], builds, queue_len_max).expect("a sound profile's builds");
        let len_max = if rng.u8(..4) == 0 { rng.usize(1..4096) } else { 1 << rng.u8(12..19) };
        let (generation, step_max) = (*current, 1 << rng.u8(1..18));
        let mut server =
            ServerEnd::new(world.snapshot(generation), Arc::new(clients), refusal, len_max);
        server.slow = rng.bool();
        let mut client = ClientEnd::new(tongue, by_bit, step_max, rng);
        let mut upstream = Vec::new();
        let announced = if admits { build } else { tongue.builds.start() + 1 };
        client.session.handshake(announced, &mut upstream);
        if rng.u8(..100) == 0 {
            upstream[0] = rng.u8(..);
        }
        Self {
            world,
            current,
            generation,
            server,
            model: Model::new(tongue.clone(), admits, queue_len_max, refusal),
            framing: tongue.framing,
            client,
            judge: Judge::new(world, by_bit),
            upstream,
            upstream_ended: false,
            downstream: Vec::new(),
            delivered: 0,
            downstream_room: 1 << rng.u8(6..18),
            wire: Vec::new(),
            read: 0,
            cut_after: (rng.u8(..5) == 0).then(|| rng.u32(..200)),
            step_max,
            holds_back: rng.u8(..4) == 0,
        }
    }

    /// Lets events happen until nothing can or the pipe breaks; then says whether all is there.
    fn run(&mut self, rng: &mut Rng) -> Result<(), String> {
        let (mut progress, mut without) = ((0, 0), 0);
        for event in 0.. {
            if self.cut_after == Some(event) {
                return Ok(());
            }
            let now = (self.read, self.upstream.len());
            without = if now == progress { without + 1 } else { 0 };
            progress = now;
            if without > EVENTS_WITHOUT_PROGRESS_MAX {
                break;
            }
            match rng.u8(..16) {
                0..3 if self.client.script_len > 0 => self.write(rng),
                0..6 => self.deliver_up(rng)?,
                6..9 => self.serve(rng)?,
                9..12 => {
                    let room = self.downstream_room.saturating_sub(self.on_the_way());
                    let room = room.min(self.step_max);
                    self.server.send_some(room, &mut self.downstream, rng)?;
                }
                12..15 => self.deliver_down(rng)?,
                _ => self.disturb(rng),
            }
            if self.is_over() {
                return self.check_end();
            }
        }
        let (up, down, queued) =
            (self.upstream.len(), self.downstream.len(), self.server.session_mut().queued());
        let sending = self.server.is_sending();
        Err(format!(
            "it does not end: {up} bytes up, {down} down, {queued:?} queued, sending: {sending}, \
             closing: {}, status: {:?}",
            self.server.closing, self.judge.status
        ))
    }

    fn write(&mut self, rng: &mut Rng) {
        for _ in 0..rng.u32(1..=self.client.script_len) {
            self.client.write(self.world, rng, &mut self.upstream);
        }
    }

    /// The server reads, if a connection would at this moment.
    fn deliver_up(&mut self, rng: &mut Rng) -> Result<(), String> {
        let is_time = !self.server.is_sending() || self.server.slow;
        if !is_time || !self.server.input.is_empty() || self.server.closing {
            return Ok(());
        }
        if self.upstream.is_empty() {
            self.upstream_ended |= self.client.script_len == 0 && rng.bool();
            return Ok(());
        }
        let len = any_scale(rng, self.upstream.len().min(READ_LEN).min(self.step_max));
        self.server.input.extend(self.upstream.drain(..len));
        self.feed()
    }

    fn feed(&mut self) -> Result<(), String> {
        let input = &mut self.server.input;
        if input.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(input);
        let expected = self.model.receive(&bytes);
        let found = self.server.session_mut().receive(&bytes);
        if found != expected {
            return Err(format!("of {bytes:?} {expected:?} was to be taken, not {found:?}"));
        }
        match found {
            Ok(taken) => self.server.input.extend(&bytes[taken..]),
            Err(_) => self.server.closing = true,
        }
        let queued = self.server.session_mut().queued();
        if queued != self.model.queued() {
            return Err(format!("{queued:?} are queued, not {:?}", self.model.queued()));
        }
        Ok(())
    }

    /// One turn of a connection: feed what is left, fill, hand over.
    fn serve(&mut self, rng: &mut Rng) -> Result<(), String> {
        if !self.server.closing {
            self.feed()?;
        }
        if self.server.is_sending() {
            return Ok(());
        }
        let (mut allowance, mut held_back) = (Allowance::All, [false; 2]);
        if self.holds_back && rng.bool() {
            let urgent = rng.bool();
            allowance = if urgent { Allowance::Urgent } else { Allowance::Nothing };
            held_back = [!urgent, true];
        }
        let before = rng.usize(..4);
        let upcoming =
            self.server.session_mut().upcoming().nth(before).map(|id| (id.archive, id.group));
        if upcoming != self.model.upcoming(before) {
            return Err(format!("{upcoming:?} is announced, {before} before it"));
        }
        let was_closing = self.server.closing;
        let mut wrong = None;
        let (model, judge, wire) = (&mut self.model, &mut self.judge, &mut self.wire);
        let (world, generation, framing) = (self.world, self.generation, self.framing);
        self.server.fill(&mut |session| {
            let (expected, asked) = model.next(held_back);
            let found = session.next_step_within(allowance);
            if found != expected {
                wrong.get_or_insert(format!("{expected:?} was to be done, not {found:?}"));
            }
            if let Step::Status(status) = expected {
                wire.push(status.to_byte());
                wire.extend(model.greeting());
            }
            let (Step::Response(answer), Some(((id, token), class))) = (expected, asked) else {
                return found;
            };
            let (bit, key) = (answer.prefetch_bit(), answer.key());
            let framed = world.framed(generation, framing, bit, id);
            if let (Some(framed), false) = (framed, was_closing) {
                wire.extend(framed.iter().map(|byte| byte ^ key));
                judge.expected.push_back(Expected { id, class, token, key, generation });
            }
            found
        });
        wrong.map_or(Ok(()), Err)?;
        self.server.begin_send()
    }

    /// Bytes between the server's socket and the client.
    fn on_the_way(&self) -> usize {
        self.downstream.len() - self.delivered
    }

    fn deliver_down(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.on_the_way() == 0 {
            self.downstream.clear();
            self.delivered = 0;
            return Ok(());
        }
        let len = any_scale(rng, self.on_the_way().min(self.step_max));
        let bytes = &self.downstream[self.delivered..self.delivered + len];
        let end = self.read + len;
        if self.wire.get(self.read..end) != Some(bytes) {
            let expected = self.wire.get(self.read..).unwrap_or_default();
            let place = bytes.iter().zip(expected).position(|(byte, right)| byte != right);
            return Err(format!("wrong byte on the wire, {place:?} after {}", self.read));
        }
        self.read = end;
        let received = self.client.session.receive(bytes, &mut self.judge);
        received.map_err(|fault| format!("the client complains: {fault}"))?;
        self.delivered += len;
        self.judge.wrong.take().map_or(Ok(()), Err)
    }

    /// Rare things.
    fn disturb(&mut self, rng: &mut Rng) {
        match rng.u8(..8) {
            0 | 1 => *self.current = (*self.current + 1) % world::GENERATIONS,
            2 => change_queues(self.server.session_mut(), rng.bool()),
            3 if rng.u8(..8) == 0 => {
                self.server.session_mut().refuse(Status::ServerFull);
                self.model.refuse();
            }
            4 => self.server.slow = !self.server.slow,
            _ => {}
        }
    }

    /// Whether nothing is on its way in either direction, nor can be.
    fn is_over(&mut self) -> bool {
        let (server, quiet) = (&mut self.server, self.downstream.len() == self.delivered);
        if !quiet || server.is_sending() || server.is_mid_response() {
            return false;
        }
        let has_status = self.judge.status.is_some();
        if server.closing {
            // After a violation the status still goes out, unless the handshake was none.
            return has_status || server.session_mut().awaits_handshake();
        }
        let nothing_up = self.upstream_ended && server.input.is_empty();
        nothing_up && has_status && !self.model.disconnected && !server.session_mut().has_queued()
    }

    fn check_end(&self) -> Result<(), String> {
        if self.read != self.wire.len() {
            return Err(format!("{} of {} bytes came", self.read, self.wire.len()));
        }
        if !self.judge.expected.is_empty() || self.client.session.is_mid_response() {
            return Err(format!("{} responses are missing", self.judge.expected.len()));
        }
        if self.server.closing {
            return Ok(());
        }
        // What is left are the groups that this generation does not hold.
        for (class, id, token) in self.client.session.outstanding() {
            if self.world.container(self.generation, (id.archive, id.group)).is_some() {
                return Err(format!("{id} {class:?} {token:?} was never answered"));
            }
        }
        Ok(())
    }
}
