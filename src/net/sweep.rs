//! The sweep: after each heartbeat every connection is looked at, its state counted, and those
//! whose time is over are ended.
//!
//! It goes in slices, with pauses. Ending a connection takes the kernel 20 microseconds, and when
//! 15,000 are late at once, as after an outage, those who are served would wait for all of them.

use super::counters::{Close, Published, add};
use super::generations::Generations;
use super::ops;
use super::peer::{Peer, Phase};
use super::ring::HEARTBEAT_MS;
use super::states::States;
use super::worker::{Worker, millis};
use crate::platform::socket::{acknowledged_bytes, is_delivered};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a slice may cost. A look at a connection costs one, which is some 20 ns.
const SLICE_COST: usize = 2048;

/// What it costs to ask the kernel about a connection, and to end one.
const ASK_COST: usize = 32;
const END_COST: usize = 256;

/// Between two slices: more than half of the time is left for those who are served, and 15,000
/// that are late at once are ended within a second.
const SLICE_PAUSE: Duration = Duration::from_micros(300);

/// How often the kernel is asked whether a peer takes anything in, at most.
const PROGRESS_SAMPLE_MS: u64 = 1000;

/// And how many times at least before a peer is cut for taking in nothing.
const PROGRESS_SAMPLES: u64 = 4;

/// A send that the ring holds this long makes its peer slow.
const SLOW_AFTER_MS: u64 = 2 * HEARTBEAT_MS;

/// The limits that a sweep knows, in milliseconds.
struct Deadlines {
    handshake_ms: u64,
    idle_ms: u64,
    send_ms: u64,
    linger_ms: u64,
    /// Between two questions to the kernel.
    sample_ms: u64,
}

impl Worker {
    /// Sweeps once after each heartbeat, for as long as the worker runs. A busy worker's sweep
    /// may take longer than a heartbeat.
    pub(super) async fn sweep(self: Rc<Self>, published: Arc<Published>) {
        let limits = &self.config.limits;
        let send_ms = millis(limits.send_timeout);
        let deadlines = Deadlines {
            handshake_ms: millis(limits.handshake_timeout),
            idle_ms: millis(limits.idle_timeout),
            send_ms,
            linger_ms: millis(limits.linger_timeout),
            sample_ms: PROGRESS_SAMPLE_MS.min(send_ms / PROGRESS_SAMPLES),
        };
        let mut generations = Generations::default();
        loop {
            self.beaten.notified().await;
            let mut states = States::default();
            let is_counting = generations.begin(&self);
            let mut next = Some(0);
            while let Some(place) = next {
                let generations = is_counting.then_some(&mut generations);
                next = self.slice(place, &deadlines, &mut states, generations);
                if next.is_some() {
                    // That it is over comes as an error of its own.
                    let (_over, _) = ops::timer(SLICE_PAUSE).await;
                }
            }
            if is_counting {
                generations.end(&self);
            }
            states.publish(&self.counters);
            // Now, and not with the next heartbeat: they are of the same moment as what this one
            // has published.
            self.counters.publish(&published);
        }
    }

    /// Looks at the connections from `place` on. Returns where the next slice begins, if there
    /// is one.
    fn slice(
        &self,
        place: usize,
        deadlines: &Deadlines,
        states: &mut States,
        mut generations: Option<&mut Generations>,
    ) -> Option<usize> {
        let peers = self.peers.borrow();
        let (now_ms, current) = (self.now_ms(), self.snapshot().ordinal());
        let mut cost = 0;
        for place in place..peers.capacity() {
            if cost >= SLICE_COST {
                return Some(place);
            }
            cost += 1;
            let Some(peer) = peers.get(place) else { continue };
            states.add(peer);
            if let Some(generations) = &mut generations
                && generations.look(self, peer, current, now_ms)
            {
                cost += END_COST;
            }
            cost += self.enforce(deadlines, peer, now_ms);
        }
        None
    }

    /// Holds a connection to its deadline. Returns what that cost beyond a look.
    fn enforce(&self, deadlines: &Deadlines, peer: &Peer, now_ms: u64) -> usize {
        let &Deadlines { handshake_ms, idle_ms, send_ms, linger_ms, sample_ms } = deadlines;
        let waited = peer.waited_ms(now_ms);
        if peer.cut.get().is_some() {
            // It is ending.
            return 0;
        }
        match peer.phase() {
            Phase::Proxy | Phase::Opening if self.enforce_opening(peer, now_ms) => {}
            Phase::Handshake if waited > handshake_ms => peer.cut(Close::HandshakeTimeout),
            Phase::Refusing if waited > linger_ms => {
                peer.hurry.set(true);
                peer.wake();
            }
            Phase::Idle if waited > idle_ms / 2 && peer.unsampled_ms(now_ms) > idle_ms / 2 => {
                // Whether it takes in what is on its way is seen by two looks.
                peer.look(acknowledged_bytes(peer).unwrap_or(0), now_ms);
                return ASK_COST;
            }
            Phase::Idle if waited > idle_ms => {
                // What it asked for last may still be on its way: taking it in is progress.
                if !is_delivered(peer).unwrap_or(true) {
                    peer.sample(acknowledged_bytes(peer).unwrap_or(0), now_ms);
                }
                if peer.waited_ms(now_ms) > idle_ms {
                    peer.cut(Close::IdleTimeout);
                }
            }
            Phase::Lingering if waited > linger_ms => {
                // A slow peer still gets what was begun.
                if peer.unsampled_ms(now_ms) >= sample_ms {
                    peer.sample(acknowledged_bytes(peer).unwrap_or(0), now_ms);
                }
                let waited = peer.waited_ms(now_ms);
                if !is_delivered(peer).unwrap_or(true) && waited <= send_ms {
                    return ASK_COST;
                }
                peer.shut_down();
            }
            Phase::LastCredit if waited > send_ms => peer.cut(Close::ByPeer),
            Phase::Sending if waited >= SLOW_AFTER_MS => {
                if !peer.slow.replace(true) {
                    add(&self.counters.slow_peers, 1);
                    peer.wake();
                }
                let is_asked = peer.unsampled_ms(now_ms) >= sample_ms;
                if is_asked {
                    peer.sample(acknowledged_bytes(peer).unwrap_or(0), now_ms);
                }
                if peer.waited_ms(now_ms) <= send_ms {
                    return usize::from(is_asked) * ASK_COST;
                }
                peer.cut(Close::SendTimeout);
            }
            _ => return 0,
        }
        END_COST
    }
}
