//! What a server must answer, by the words of docs/protocol.md alone.
//!
//! A byte at a time, with plain lists and no bit tricks. It is told what the session is told and
//! when it is asked; what the session then does must be what the model does.

use super::super::wire::name;
use super::world::Id;
use js5d::protocol::session::{CloseCause, Response, Step, Violation};
use js5d::protocol::{Class, Status};
use std::collections::VecDeque;

/// A request as the model remembers it: the group, and its number in its class.
pub(crate) type Asked = (Id, u32);

/// A server's session, slowly.
pub(crate) struct Model {
    pub(crate) admits: bool,
    pub(crate) prefetch_bit: bool,
    pub(crate) queue_len_max: usize,
    pub(crate) refusal: Option<Status>,
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
        admits: bool,
        prefetch_bit: bool,
        queue_len_max: usize,
        refusal: Option<Status>,
    ) -> Self {
        Self {
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
            } else if self.partial.len() == 4 && !self.receive_message()? {
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
                if token.len() - end > 2 {
                    return Err(malformed);
                }
                self.status = Some(self.refusal.unwrap_or(Status::OutOfDate));
                self.partial.clear();
            }
            return Ok(());
        }
        if self.partial.len() == 5 {
            let own = if self.admits { Status::Ok } else { Status::OutOfDate };
            self.status = Some(self.refusal.unwrap_or(own));
            self.partial.clear();
        }
        Ok(())
    }

    /// False if its queue is full.
    fn receive_message(&mut self) -> Result<bool, Violation> {
        let [opcode, a, b, c] = self.partial[..] else { return Ok(true) };
        match opcode {
            0 | 1 => {
                let class = if opcode == 1 { 0 } else { 1 };
                if self.queues[class].len() == self.queue_len_max {
                    return Ok(false);
                }
                let group = u32::from(b) * 256 + u32::from(c);
                self.queues[class].push_back(((a, group), self.asked[class]));
                self.asked[class] += 1;
            }
            2 | 3 | 6 => {}
            4 => self.key = a,
            7 => {
                self.disconnected = true;
                self.queues = [VecDeque::new(), VecDeque::new()];
            }
            _ => return Err(Violation::UnknownOpcode { opcode }),
        }
        self.partial.clear();
        Ok(true)
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
            let bit = class == Class::Prefetch && self.prefetch_bit;
            let response = Response::new(name(asked.0), class, bit, self.key);
            return (Step::Response(response), Some((asked, class)));
        }
        let idle =
            if self.disconnected { Step::Close(CloseCause::Disconnected) } else { Step::Idle };
        (idle, None)
    }
}
