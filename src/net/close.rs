//! The one way in which a connection ends.
//!
//! Closing a socket with unread input sends a reset, which can destroy what the peer has not
//! read yet, a status byte above all. An orderly end is therefore: end our side, read and
//! discard until the peer ends its own or a short deadline, then close. Any other end shuts both
//! sides down. Both await the operations under way: dropped, they would keep the descriptor.

use super::connection::Connection;
use super::counters::Close;
use super::errnos;
use super::ops;
use super::peer::Phase;
use super::worker::Worker;
use crate::protocol::session::Violation;
use std::io;
use std::rc::Rc;

impl Connection {
    /// Ends the connection; its socket may be closed afterwards.
    pub(super) async fn close(&mut self, reason: Close) {
        if is_orderly(reason) && self.peer.cut.get().is_none() {
            self.peer.end_output();
            self.peer.enter(Phase::Lingering, self.worker().now_ms());
            self.discard_input().await;
        }
        if self.peer.cut.get().is_none() {
            self.peer.shut_down();
        }
        if let Some(sending) = self.sending.take() {
            let _ = sending.await;
        }
        if let Some(receiving) = self.receiving.take() {
            let _ = receiving.await;
        }
    }

    /// Whose fault the end is.
    pub(super) fn reason_of(&self, error: &io::Error) -> Close {
        // The sweep may have shut the socket down, which is why this operation failed.
        self.peer.cut.get().unwrap_or_else(|| self.worker().reason_of(error))
    }

    /// Reads and discards until the peer ends its side or the sweep shuts the socket down.
    async fn discard_input(&mut self) {
        loop {
            let operation = match (self.receiving.take(), self.buffer.take()) {
                (Some(operation), _) => operation,
                (None, Some(buffer)) => ops::receive(buffer, Rc::clone(&self.peer)),
                (None, None) => return,
            };
            let (result, (buffer, _)) = operation.await;
            self.buffer = Some(buffer);
            match result {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if ops::is_passing(&error) => drop(ops::pause().await),
                Err(_) => return,
            }
        }
    }
}

impl Worker {
    /// Whose fault it is that an operation on a connection failed. Ours is kept for the log.
    pub(super) fn reason_of(&self, error: &io::Error) -> Close {
        if errnos::is_of_peer(error) {
            return Close::ByPeer;
        }
        errnos::count(&self.counters.ring_errnos, error);
        self.last_errno.set(error.raw_os_error().unwrap_or(0));
        Close::Error
    }
}

/// Whether the peer may have something of ours to read still.
fn is_orderly(reason: Close) -> bool {
    match reason {
        Close::Refused
        | Close::Disconnect
        | Close::Generation
        | Close::Drain
        | Close::MissingGroup
        | Close::Violation(Violation::UnknownOpcode { .. }) => true,
        // It has ended its side and may be reading; there is nothing to discard.
        Close::ByPeer => false,
        Close::HandshakeTimeout | Close::IdleTimeout | Close::SendTimeout | Close::Error => false,
        // It would go on.
        Close::Chatter => false,
        // Nothing was ever sent to it.
        Close::Violation(Violation::NotJs5 { .. })
        | Close::ProxyUntrusted
        | Close::ProxyMalformed
        | Close::ProxyTooLong
        | Close::ProxyTimeout => false,
        // Refused before it was a connection.
        Close::Openings => false,
    }
}
