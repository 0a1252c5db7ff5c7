//! The one way in which a connection ends.
//!
//! Closing a socket with unread input sends a reset, which can destroy what the peer has not
//! read yet, a status byte above all. An orderly end is therefore: end our side, read and
//! discard until the peer ends its own or a short deadline, then close. Any other end shuts both
//! sides down. Both await the operations under way: dropped, they would keep the descriptor.

use super::connection::Connection;
use super::counters::Close;
use super::peer::Phase;

impl Connection {
    /// Ends the connection; its socket may be closed afterwards.
    pub(super) async fn close(&mut self, reason: Close) {
        if is_orderly(reason) && self.peer.cut.get().is_none() {
            self.peer.end_output();
            self.peer.enter(Phase::Lingering, self.worker().now_ms());
            self.discard_input().await;
        }
        self.peer.shut_down();
        if let Some(sending) = self.sending.take() {
            let _ = sending.await;
        }
        if let Some(receiving) = self.receiving.take() {
            let _ = receiving.await;
        }
    }
}

/// Whether the peer may have something of ours to read still.
fn is_orderly(reason: Close) -> bool {
    match reason {
        Close::Refused | Close::Disconnect | Close::Drain | Close::MissingGroup => true,
        // It has ended its side and may be reading; there is nothing to discard.
        Close::ByPeer => false,
        Close::Violation(_)
        | Close::HandshakeTimeout
        | Close::IdleTimeout
        | Close::SendTimeout
        | Close::Error => false,
    }
}
