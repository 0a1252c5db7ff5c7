//! The least of a server's session: a handshake, messages of four bytes, one queue in order.
//!
//! It knows no limits and no priorities: the generator's windows bound its queue.

use crate::batch::Batch;
use js5d::catalog::Snapshot;
use js5d::protocol::Class;
use js5d::protocol::handshake::{HANDSHAKE_LEN, OPCODE_JS5, Status};
use js5d::protocol::request::{MESSAGE_LEN, Message};
use js5d::protocol::session::Response;
use std::collections::VecDeque;

/// A client that said what no client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation;

/// What the server knows of one client.
#[derive(Debug, Default)]
pub struct Session {
    partial: Vec<u8>,
    is_open: bool,
    owes_status: bool,
    is_disconnected: bool,
    key: u8,
    queue: VecDeque<Response>,
}

impl Session {
    /// Takes bytes of the client.
    ///
    /// # Errors
    /// It is not JS5.
    pub fn receive(&mut self, input: &[u8]) -> Result<(), Violation> {
        if self.partial.is_empty() {
            return self.take(input);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(input);
        self.take(&joined)
    }

    /// Whether the client has said goodbye.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        self.is_disconnected
    }

    /// Puts answers into `batch` until it is full or all are in.
    pub fn fill(&mut self, batch: &mut Batch, snapshot: &'static Snapshot) {
        if std::mem::take(&mut self.owes_status) {
            batch.push_byte(Status::Ok.to_byte());
        }
        while !batch.is_full() {
            let Some(response) = self.queue.pop_front() else { return };
            if let Some(framed) = snapshot.response(response.id()) {
                batch.push(framed, response.prefetch_bit(), response.key());
            }
        }
    }

    fn take(&mut self, input: &[u8]) -> Result<(), Violation> {
        let mut rest = input;
        if !self.is_open {
            if input.first().is_some_and(|&opcode| opcode != OPCODE_JS5) {
                return Err(Violation);
            }
            let Some((_, later)) = input.split_at_checked(HANDSHAKE_LEN) else {
                self.partial.extend_from_slice(input);
                return Ok(());
            };
            (self.is_open, self.owes_status) = (true, true);
            rest = later;
        }
        while let Some((message, later)) = rest.split_first_chunk::<MESSAGE_LEN>() {
            match Message::parse(*message).map_err(|_| Violation)? {
                Message::Request(class, id) => {
                    let prefetch_bit = class == Class::Prefetch;
                    self.queue.push_back(Response::new(id, class, prefetch_bit, self.key));
                }
                Message::Rekey(key) => self.key = key,
                Message::LoggedIn(_) | Message::Connected | Message::Ignored => {}
                Message::Disconnect => self.is_disconnected = true,
            }
            rest = later;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }
}
