//! Turns of the ring: so many bytes of large batches go out before what else is ready is seen.
//!
//! The kernel carries out what was submitted before it says what has come in meanwhile. With
//! twenty peers that download, five megabytes at once, a request for a small group would wait a
//! millisecond and more behind them. So large batches share a turn's bytes, and whoever finds
//! none left waits in a queue for the next turn, before anything is filled. Small batches never
//! wait; while there are none, turns have no end, as longer ones cost less.

use super::connection::Connection;
use super::ops;
use super::peer::Peer;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::Notify;

/// Bytes of large batches in a turn; the last may go beyond. With an end to each turn a response
/// of 100 KB costs 7 % more, and one of 4 MB is no cheaper (docs/performance.md).
const TURN_LEN_MAX: usize = 1 << 20;

/// A shorter batch is small.
const LARGE_FROM: usize = 16 << 10;

/// As many requests may make a large batch, whatever they are for.
const MANY_REQUESTS: usize = 8;

/// What is left of a worker's turn, and who waits for the next one.
#[derive(Debug)]
pub(super) struct Turns {
    /// Bytes for whoever comes; none while somebody waits.
    left: Cell<usize>,
    /// Bytes for those who wait, one after the other.
    kept: Cell<usize>,
    /// There has been a small batch since the last heartbeat.
    small: Cell<bool>,
    waiting: RefCell<VecDeque<Rc<Peer>>>,
    /// Told when somebody waits.
    somebody: Notify,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            left: Cell::new(TURN_LEN_MAX),
            kept: Cell::new(0),
            small: Cell::new(false),
            waiting: RefCell::default(),
            somebody: Notify::new(),
        }
    }
}

impl Turns {
    /// Whether nothing is left of the turn.
    #[inline]
    fn is_over(&self) -> bool {
        self.left.get() == 0
    }

    /// Takes note of a batch. The rest of a large response that `was_begun` before is not small,
    /// however short it is.
    #[inline]
    pub(super) fn charge(&self, len: usize, was_begun: bool) {
        if len < LARGE_FROM {
            self.small.set(self.small.get() || !was_begun);
        } else {
            let from = if self.is_over() { &self.kept } else { &self.left };
            from.set(from.get().saturating_sub(len));
        }
    }

    /// To be told at each heartbeat: whether turns have an end goes by the time since the last.
    pub(super) fn beat(&self) {
        if self.small.take() {
            self.left.set(self.left.get().min(TURN_LEN_MAX));
        } else {
            self.left.set(usize::MAX);
            // Turn by turn they would wait beside many who need not.
            self.waiting.borrow_mut().drain(..).for_each(|peer| peer.wake());
        }
    }

    fn enqueue(&self, peer: &Rc<Peer>) {
        self.waiting.borrow_mut().push_back(Rc::clone(peer));
        self.somebody.notify_one();
    }

    fn begin(&self) {
        self.kept.set(TURN_LEN_MAX);
        self.pass_on();
    }

    /// Lets the next one go that waits, as long as something is left for them. What they leave is
    /// for whoever comes.
    pub(super) fn pass_on(&self) {
        if self.kept.get() == 0 {
            return;
        }
        match self.waiting.borrow_mut().pop_front() {
            Some(peer) => peer.wake(),
            None => self.left.set(self.left.get().max(self.kept.take())),
        }
    }

    /// Begins turn after turn while somebody waits, for as long as the worker runs.
    pub(super) async fn keep(self: Rc<Self>) {
        loop {
            if self.waiting.borrow().is_empty() {
                self.somebody.notified().await;
            }
            // It completes when everything that was submitted before it has been tried.
            let (_tried, ()) = ops::nothing().await;
            self.begin();
        }
    }
}

impl Connection {
    /// Queues for a turn if the next batch will be a large one and there is none. True if it is
    /// to wait.
    #[inline]
    pub(super) fn queue_for_turn(&self) -> bool {
        let turns = &self.worker.turns;
        let waits = turns.is_over() && self.sending.is_none() && self.asks_for_much();
        if waits {
            turns.enqueue(&self.peer);
        }
        waits
    }

    /// Waits for its turn. Ends early if it is woken for another reason, which is rare.
    pub(super) fn turn(&self) -> impl Future<Output = ()> {
        // Small, as it is a part of each connection's task.
        let mut waits = false;
        poll_fn(move |context| {
            self.peer.remember(context);
            if std::mem::replace(&mut waits, true) { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    /// Whether what is queued may be a large batch.
    fn asks_for_much(&self) -> bool {
        let (urgent, prefetch) = self.session.queued();
        let next = || {
            self.session
                .upcoming(0)
                .and_then(|id| self.snapshot.response_in(self.session.dialect(), id))
        };
        self.current.is_some()
            || urgent + prefetch >= MANY_REQUESTS
            || next().is_some_and(|framed| framed.len() >= LARGE_FROM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::peer::Phase;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    fn peer() -> Rc<Peer> {
        let (ours, _) = UnixStream::pair().expect("pair");
        Rc::new(Peer::new(OwnedFd::from(ours), Phase::Idle, 0, 0))
    }

    #[test]
    fn small_batches_use_up_nothing() {
        let turns = Turns::default();
        for _ in 0..1000 {
            turns.charge(LARGE_FROM - 1, false);
        }
        assert_eq!(turns.left.get(), TURN_LEN_MAX);
    }

    #[test]
    fn turns_have_an_end_only_beside_small_batches() {
        let turns = Turns::default();
        turns.beat();
        turns.charge(TURN_LEN_MAX, false);
        turns.charge(TURN_LEN_MAX, false);
        assert!(!turns.is_over());
        turns.charge(1, true);
        turns.beat();
        turns.charge(TURN_LEN_MAX, false);
        assert!(!turns.is_over());
        turns.charge(1, false);
        turns.beat();
        turns.charge(TURN_LEN_MAX, false);
        assert!(turns.is_over());
        turns.beat();
        assert!(!turns.is_over());
        turns.begin();
        turns.charge(TURN_LEN_MAX, false);
        turns.charge(TURN_LEN_MAX, false);
        assert!(!turns.is_over(), "a turn that begins puts no end to it");
        turns.enqueue(&peer());
        turns.beat();
        assert!(turns.waiting.borrow().is_empty());
    }

    #[test]
    fn those_who_wait_go_one_after_the_other_until_their_turn_is_used_up() {
        let turns = Turns::default();
        turns.charge(TURN_LEN_MAX + 1, false);
        assert!(turns.is_over());
        let peers = [peer(), peer(), peer()];
        peers.iter().for_each(|peer| turns.enqueue(peer));
        let waiting = || turns.waiting.borrow().len();
        turns.begin();
        assert_eq!(waiting(), 2);
        assert!(turns.is_over(), "nobody overtakes them");
        turns.charge(TURN_LEN_MAX / 2, false);
        turns.pass_on();
        assert_eq!(waiting(), 1);
        turns.charge(TURN_LEN_MAX / 2, false);
        turns.pass_on();
        assert_eq!(waiting(), 1, "the turn is used up");
        turns.begin();
        assert_eq!(waiting(), 0);
        turns.charge(LARGE_FROM, false);
        turns.pass_on();
        assert_eq!(turns.left.get(), TURN_LEN_MAX - LARGE_FROM, "for whoever comes");
    }
}
