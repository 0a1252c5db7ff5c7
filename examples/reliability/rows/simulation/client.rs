//! The client's end: the real client session, a script of what it writes, and what it expects.

use super::super::wire::Tongue;
use super::world::{Id, World};
use fastrand::Rng;
use js5d::protocol::client::{Answered, Head, ResponseSink};
use js5d::protocol::{Class, ClientSession, Status};
use std::collections::VecDeque;

/// Large groups are asked for only where at least this many bytes may move at once, and many
/// only from here on: byte by byte they would take all the time there is.
const LARGE_STEP_MIN: usize = 1024;
const SMALL_STEP_BELOW: usize = 32;

/// A response that is to come.
pub(super) struct Expected {
    pub(super) id: Id,
    pub(super) class: Class,
    pub(super) token: u32,
    pub(super) key: u8,
    pub(super) generation: usize,
}

/// Compares what the client session tells with what the model expects.
pub(super) struct Judge<'a> {
    pub(super) world: &'a World,
    /// Whether classes can be told apart by their bit.
    pub(super) by_bit: bool,
    pub(super) expected: VecDeque<Expected>,
    pub(super) status: Option<Status>,
    data: Vec<u8>,
    pub(super) wrong: Option<String>,
    pub(super) answered: u64,
}

impl<'a> Judge<'a> {
    pub(super) fn new(world: &'a World, by_bit: bool) -> Self {
        Self {
            world,
            by_bit,
            expected: VecDeque::new(),
            status: None,
            data: Vec::new(),
            wrong: None,
            answered: 0,
        }
    }
}

impl ResponseSink<(Class, u32)> for Judge<'_> {
    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }

    fn begin(&mut self, _: &Head) -> bool {
        self.data.clear();
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
    }

    fn end(&mut self, answered: Answered<(Class, u32)>) {
        self.answered += 1;
        let found = answered.head.id;
        let Some(expected) = self.expected.pop_front() else {
            self.wrong.get_or_insert(format!("{found} came, and nothing was to come"));
            return;
        };
        let Expected { id, class, token, key, generation } = expected;
        let same_request = !self.by_bit || answered.token == (class, token);
        let same_class = !self.by_bit || answered.class == class;
        let same_head = (found.archive, found.group) == id && answered.head.key == key;
        if !(same_request && same_class && same_head) {
            let what = format!("{id:?} {class:?} {token} was to come, {answered:?} came");
            self.wrong.get_or_insert(what);
        }
        if self.world.container(generation, id) != Some(&self.data[..]) {
            self.wrong.get_or_insert(format!("{id:?} {class:?} {token} has wrong bytes"));
        }
    }
}

/// Session, and what is left of the script.
pub(super) struct ClientEnd {
    pub(super) session: ClientSession<(Class, u32)>,
    asked: [u32; 2],
    /// Things to write.
    pub(super) script_len: u32,
    /// Whether something that ends the session may be written.
    pub(super) may_misbehave: bool,
    /// Whether it asks for large groups.
    asks_large: bool,
    /// Whether it can ask for groups of 65,536 and more.
    asks_wide: bool,
    message_len: usize,
    /// Requests are urgent, prefetch or both.
    urgent_share: u8,
    rekey_share: u8,
}

impl ClientEnd {
    pub(super) fn new(tongue: &Tongue, by_bit: bool, step_max: usize, rng: &mut Rng) -> Self {
        let session = ClientSession::of(&tongue.profile().0);
        Self {
            session: if by_bit { session } else { session.matching_by_group() },
            asked: [0; 2],
            script_len: rng.u32(..if step_max < SMALL_STEP_BELOW { 5 } else { 30 }),
            may_misbehave: rng.u8(..8) == 0,
            asks_large: step_max >= LARGE_STEP_MIN,
            asks_wide: tongue.is_wide(),
            message_len: tongue.message_len,
            urgent_share: [0, 128, 230, 255][rng.usize(..4)],
            rekey_share: [0, 20, 100][rng.usize(..3)],
        }
    }

    /// Writes one thing of the script.
    pub(super) fn write(&mut self, world: &World, rng: &mut Rng, out: &mut Vec<u8>) {
        self.script_len -= 1;
        if rng.u8(..) < self.rekey_share {
            // Few keys, so that they come back.
            self.session.rekey([0, 0, 1, 0x80, 0xFF, rng.u8(..)][rng.usize(..6)], out);
        } else if rng.u8(..10) == 0 {
            self.session.greet(rng.bool(), 0, out);
        } else if self.may_misbehave && rng.u8(..10) == 0 {
            let opcode = [5, 7, 7, 8, rng.u8(..)][rng.usize(..5)];
            // A request or a key that the session knows nothing of would mislead it.
            if ![0, 1, 4, 32, 33].contains(&opcode) {
                out.extend([opcode, rng.u8(..)]);
                out.extend((2..self.message_len).map(|_| 0));
            }
        } else {
            let class =
                if rng.u8(..) < self.urgent_share { Class::Urgent } else { Class::Prefetch };
            let number = &mut self.asked[usize::from(class == Class::Prefetch)];
            let token = (class, *number);
            *number += 1;
            let id = super::super::wire::name(world.any(self.asks_large, self.asks_wide, rng));
            self.session.request(class, id, token, out);
        }
    }
}
