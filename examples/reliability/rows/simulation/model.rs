//! What a server must answer, by the words of docs/protocol.md and docs/clients.md alone.
//!
//! A byte at a time, with plain lists and no bit tricks. It is told what the session is told and
//! when it is asked; what the session then does must be what the model does.

use super::super::wire::{Bit, Opening, Tongue, name};
use super::world::Id;
use js5d::protocol::session::{CloseCause, Response, Step, Violation};
use js5d::protocol::{Class, Status};
use std::collections::VecDeque;

/// A request as the model remembers it: the group, and its number in its class.
pub(crate) type Asked = (Id, u32);

/// A server's session, slowly.
pub(crate) struct Model {
    /// How the one kind of clients speaks that is served.
    tongue: Tongue,
    /// Whether any of their builds is admitted.
    admits: bool,
    /// None until the first message, if that decides.
    prefetch_bit: Option<bool>,
    queue_len_max: usize,
    refusal: Option<Status>,
    /// The message that is coming in.
    partial: Vec<u8>,
    /// Once the handshake is over: what it is answered with.
    status: Option<Status>,
    status_taken: bool,
    /// Urgent and prefetch.
    queues: [VecDeque<Asked>; 2],
    asked: [u32; 2],
    key: u8,
    /// The client has said that it goes: what was queued is dropped, and the end must come.
    pub(crate) disconnected: bool,
}

impl Model {
    pub(crate) fn new(
        tongue: Tongue,
        admits: bool,
        queue_len_max: usize,
        refusal: Option<Status>,
    ) -> Self {
        let prefetch_bit = match tongue.bit {
            Bit::Never => Some(false),
            Bit::Always => Some(true),
            Bit::IfOpcode6First => None,
        };
        Self {
            tongue,
            admits,
            prefetch_bit,
            queue_len_max,
            refusal,
            partial: Vec::new(),
            status: None,
            status_taken: false,
            queues: [VecDeque::new(), VecDeque::new()],
            asked: [0; 2],
            key: 0,
            disconnected: false,
        }
    }

    /// How many of these bytes are taken in.
    pub(crate) fn receive(&mut self, input: &[u8]) -> Result<usize, Violation> {
        let mut begun = (0, self.partial.clone());
        for (place, &byte) in input.iter().enumerate() {
            if self.disconnected || self.status.is_some_and(|status| status != Status::Ok) {
                return Ok(input.len());
            }
            if self.partial.is_empty() {
                begun = (place, Vec::new());
            }
            self.partial.push(byte);
            if self.status.is_none() {
                self.receive_handshake()?;
                continue;
            }
            self.prefetch_bit.get_or_insert(byte == 6);
            if self.partial.len() == self.tongue.message_len && !self.receive_message()? {
                // No room: what came of this message is offered again.
                self.partial = begun.1;
                return Ok(begun.0);
            }
        }
        Ok(input.len())
    }

    fn receive_handshake(&mut self) -> Result<(), Violation> {
        if self.partial[0] != 15 {
            return Err(Violation::NotJs5 { opcode: self.partial[0] });
        }
        // A length before it, as clients have that are not served here.
        if let Some(&len) = self.partial.get(1).filter(|&&len| len != 0) {
            let malformed = Violation::MalformedHandshake { len };
            if !(9..=74).contains(&len) {
                return Err(malformed);
            }
            if self.partial.len() == 2 + usize::from(len) {
                let token = &self.partial[10..];
                let end = token.iter().position(|&byte| byte == 0).ok_or(malformed)?;
                let rest = token.len() - end - 1;
                if rest > 1 {
                    return Err(malformed);
                }
                let fits = match self.tongue.opening {
                    Opening::Prefixed { has_language } => {
                        has_language.is_none_or(|has_one| has_one == (rest == 1))
                    }
                    _ => false,
                };
                self.answer(fits && self.is_served(2));
            }
            return Ok(());
        }
        let fits = matches!(self.tongue.opening, Opening::Plain | Opening::Keyed);
        let is_served = self.partial.len() >= 5 && fits && self.is_served(1);
        // Who is refused is told so before 16 bytes that mean nothing.
        let has_key = self.tongue.opening == Opening::Keyed && is_served && self.refusal.is_none();
        if self.partial.len() == if has_key { 21 } else { 5 } {
            self.answer(is_served);
        }
        Ok(())
    }

    /// Whether the build that stands at `place` of the handshake is served.
    fn is_served(&self, place: usize) -> bool {
        let build = self.partial[place..place + 4].iter().fold(0, |n, &b| n << 8 | u32::from(b));
        self.admits && self.tongue.builds.contains(&build)
    }

    fn answer(&mut self, is_served: bool) {
        let own = if is_served { Status::Ok } else { Status::OutOfDate };
        self.status = Some(self.refusal.unwrap_or(own));
        self.partial.clear();
    }

    /// False if its queue is full.
    fn receive_message(&mut self) -> Result<bool, Violation> {
        let (opcode, first) = (self.partial[0], self.partial[1]);
        if !self.tongue.opcodes.contains(&opcode) {
            return Err(Violation::UnknownOpcode { opcode });
        }
        match opcode {
            0 | 1 | 32 | 33 => {
                let class = if opcode % 2 == 1 { 0 } else { 1 };
                if self.queues[class].len() == self.queue_len_max {
                    return Ok(false);
                }
                let group_end = if self.tongue.is_wide() { 6 } else { 4 };
                let group = self.partial[2..group_end].iter();
                let group = group.fold(0, |n, &byte| n << 8 | u32::from(byte));
                // One beyond is a group that is not there, whatever its number.
                let id = (first, group.min(0x00FF_FFFF));
                self.queues[class].push_back((id, self.asked[class]));
                self.asked[class] += 1;
            }
            4 => self.key = first,
            7 => {
                self.disconnected = true;
                self.queues = [VecDeque::new(), VecDeque::new()];
            }
            _ => {}
        }
        self.partial.clear();
        Ok(true)
    }

    /// What stands behind the status byte.
    pub(crate) fn greeting(&self) -> Vec<u8> {
        [0, 0, 0, 1].repeat(if self.status == Some(Status::Ok) { self.tongue.ints } else { 0 })
    }

    /// A handshake that is late is answered all the same.
    pub(crate) fn refuse(&mut self) {
        self.status = self.status.or(Some(self.refusal.unwrap_or(Status::ServerFull)));
    }

    pub(crate) fn queued(&self) -> (usize, usize) {
        (self.queues[0].len(), self.queues[1].len())
    }

    /// What is answered after `before` others.
    pub(crate) fn upcoming(&self, before: usize) -> Option<Id> {
        self.queues.iter().flatten().nth(before).map(|&(id, _)| id)
    }

    /// What must be done next, and for which request; `urgent_only` and `nothing` hold back.
    pub(crate) fn next(&mut self, held_back: [bool; 2]) -> (Step, Option<(Asked, Class)>) {
        let Some(status) = self.status else { return (Step::Idle, None) };
        if !self.status_taken {
            self.status_taken = true;
            return (Step::Status(status), None);
        }
        if status != Status::Ok {
            return (Step::Close(CloseCause::Refused(status)), None);
        }
        for (place, class) in [Class::Urgent, Class::Prefetch].into_iter().enumerate() {
            if self.queues[place].is_empty() {
                continue;
            }
            if held_back[place] {
                return (Step::Idle, None);
            }
            let Some(asked) = self.queues[place].pop_front() else { continue };
            let bit = class == Class::Prefetch && self.prefetch_bit == Some(true);
            let response = Response::new(name(asked.0), class, bit, self.key);
            let response = response.in_dialect(self.tongue.dialect());
            return (Step::Response(response), Some((asked, class)));
        }
        let idle =
            if self.disconnected { Step::Close(CloseCause::Disconnected) } else { Step::Idle };
        (idle, None)
    }
}
