//! How many connections are in which state, counted while the sweep passes them.

use super::counters::Counters;
use super::peer::{Peer, Phase};

/// Connections by state, of one sweep.
#[derive(Default)]
pub(super) struct States {
    opening: u64,
    handshake: u64,
    refusing: u64,
    idle: u64,
    sending: u64,
    slow: u64,
    credit: u64,
    lingering: u64,
}

impl States {
    #[inline]
    pub(super) fn add(&mut self, peer: &Peer) {
        let state = match peer.phase() {
            Phase::Proxy | Phase::Opening => &mut self.opening,
            Phase::Handshake => &mut self.handshake,
            Phase::Refusing => &mut self.refusing,
            Phase::Idle => &mut self.idle,
            Phase::Sending if peer.slow.get() => &mut self.slow,
            Phase::Sending => &mut self.sending,
            Phase::Credit | Phase::LastCredit => &mut self.credit,
            Phase::Lingering => &mut self.lingering,
        };
        *state += 1;
    }

    pub(super) fn publish(&self, counters: &Counters) {
        counters.connections_opening.set(self.opening);
        counters.connections_handshake.set(self.handshake);
        counters.connections_refusing.set(self.refusing);
        counters.connections_idle.set(self.idle);
        counters.connections_sending.set(self.sending);
        counters.connections_slow.set(self.slow);
        counters.connections_credit.set(self.credit);
        counters.connections_lingering.set(self.lingering);
    }
}
