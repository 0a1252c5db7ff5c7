//! Turns of the ring: a bound on the bytes of large batches that are sent before the worker learns
//! which other connections are ready.
//!
//! The kernel carries out everything submitted before it reports what has arrived meanwhile. Twenty
//! peers that download make it send five megabytes at once, and a request for a small group then
//! waits for more than a millisecond. Therefore large batches share the bytes of a turn. If these
//! are used up, a connection waits in a queue for the next turn, before it fills its batch. Small
//! batches never wait. While there are no small batches, turns are unbounded, because longer turns
//! cost less.

use crate::net::driver::{self, Key, wake};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// Bytes of large batches in a turn; the last batch may exceed it. Bounded turns make a response of
/// 100 KB cost 7 % more; a bound of 4 MB would save none of that (docs/performance.md).
const TURN_LEN_MAX: usize = 1 << 20;

/// A batch of so many bytes or more is large, a shorter one small.
pub(in crate::net) const LARGE_FROM: usize = 16 << 10;

/// What is left of a worker's turn, and the connections that wait for the next one.
#[derive(Debug)]
pub(in crate::net) struct Turns {
    /// Bytes left for connections that are not in the queue; 0 while any connection is in it.
    left: Cell<usize>,
    /// Bytes left for connections in the queue, which send one after the other.
    queue_left: Cell<usize>,
    /// A small batch was sent since the last heartbeat.
    saw_small: Cell<bool>,
    /// The queue: connections by the number of their ticket, which is the order of arrival.
    waiting: RefCell<BTreeMap<u64, Key>>,
    /// The number of the next ticket.
    next_ticket: Cell<u64>,
    /// Notified when a connection enters the queue.
    wait_begun: Notify,
}

/// A connection's place in the queue of turns, and later its turn. Dropping the ticket leaves the
/// queue or passes the turn on, so a connection that ends leaves nothing behind.
#[derive(Debug)]
pub(in crate::net) struct TurnTicket {
    turns: Rc<Turns>,
    number: u64,
}

impl TurnTicket {
    /// Whether the ticket's turn has not come yet.
    pub(in crate::net) fn is_waiting(&self) -> bool {
        self.turns.waiting.borrow().contains_key(&self.number)
    }
}

impl Drop for TurnTicket {
    fn drop(&mut self) {
        let waited = self.turns.waiting.borrow_mut().remove(&self.number).is_some();
        if !waited {
            self.turns.pass_on();
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            left: Cell::new(TURN_LEN_MAX),
            queue_left: Cell::new(0),
            saw_small: Cell::new(false),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            wait_begun: Notify::new(),
        }
    }
}

impl Turns {
    /// Whether the turn has no bytes left for connections outside the queue.
    #[inline]
    pub(in crate::net) fn is_over(&self) -> bool {
        self.left.get() == 0
    }

    /// Charges a batch of `len` bytes to the turn. A short batch counts as a small one only if it
    /// is not the rest of a response that `was_begun` in an earlier batch.
    #[inline]
    pub(in crate::net) fn charge(&self, len: usize, was_begun: bool) {
        if len < LARGE_FROM {
            self.saw_small.set(self.saw_small.get() || !was_begun);
        } else {
            let from = if self.is_over() { &self.queue_left } else { &self.left };
            from.set(from.get().saturating_sub(len));
        }
    }

    /// To be called at each heartbeat: turns are bounded if there were small batches before it.
    pub(in crate::net) fn beat(&self) {
        if self.saw_small.take() {
            self.left.set(self.left.get().min(TURN_LEN_MAX));
        } else {
            self.left.set(usize::MAX);
            // Turns are unbounded from here on, so no connection needs to wait for one.
            std::mem::take(&mut *self.waiting.borrow_mut()).into_values().for_each(wake);
        }
    }

    /// Enters a connection in the queue. It is woken when its turn has come.
    pub(in crate::net) fn enqueue(self: &Rc<Self>, key: Key) -> TurnTicket {
        let number = self.next_ticket.get();
        self.next_ticket.set(number + 1);
        self.waiting.borrow_mut().insert(number, key);
        self.wait_begun.notify_one();
        TurnTicket { turns: Rc::clone(self), number }
    }

    fn begin(&self) {
        self.queue_left.set(TURN_LEN_MAX);
        self.pass_on();
    }

    /// Gives the turn to the next connection of the queue, while bytes are left for the queue. If
    /// the queue is empty, its bytes go to the connections outside.
    fn pass_on(&self) {
        if self.queue_left.get() == 0 {
            return;
        }
        match self.waiting.borrow_mut().pop_first() {
            Some((_, key)) => wake(key),
            None => self.left.set(self.left.get().max(self.queue_left.take())),
        }
    }

    /// Begins turn after turn while connections wait, for as long as the worker runs.
    pub(in crate::net) async fn begin_turns(self: Rc<Self>) {
        loop {
            if self.waiting.borrow().is_empty() {
                self.wait_begun.notified().await;
            }
            // The sends of the turn before have been tried when this completes.
            driver::everything_tried().await;
            self.begin();
        }
    }
}

/// For simulations, which have no ring.
#[cfg(test)]
impl Turns {
    /// Begins the next turn if a connection waits, as if all submitted operations had been tried.
    pub(in crate::net) fn simulate_round(&self) {
        if !self.waiting.borrow().is_empty() {
            self.begin();
        }
    }

    /// Whether no connection waits.
    pub(in crate::net) fn is_at_rest(&self) -> bool {
        self.waiting.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns() -> Rc<Turns> {
        Rc::default()
    }

    #[test]
    fn small_batches_use_up_nothing() {
        let turns = turns();
        for _ in 0..1000 {
            turns.charge(LARGE_FROM - 1, false);
        }
        assert_eq!(turns.left.get(), TURN_LEN_MAX);
    }

    #[test]
    fn turns_are_bounded_only_while_there_are_small_batches() {
        let turns = turns();
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
        assert!(!turns.is_over(), "the beginning of a turn does not bound it");
        let _waits = turns.enqueue(Key::new(0));
        turns.beat();
        assert!(turns.waiting.borrow().is_empty());
    }

    #[test]
    fn connections_in_the_queue_send_one_after_the_other_until_the_turn_is_used_up() {
        let turns = turns();
        turns.charge(TURN_LEN_MAX + 1, false);
        assert!(turns.is_over());
        let mut tickets = (0..3).map(|place| turns.enqueue(Key::new(place))).collect::<Vec<_>>();
        let waiting = || turns.waiting.borrow().len();
        turns.begin();
        assert_eq!(waiting(), 2);
        assert!(turns.is_over(), "no connection outside the queue may send");
        turns.charge(TURN_LEN_MAX / 2, false);
        drop(tickets.remove(0));
        assert_eq!(waiting(), 1);
        turns.charge(TURN_LEN_MAX / 2, false);
        drop(tickets.remove(0));
        assert_eq!(waiting(), 1, "the turn is used up");
        turns.begin();
        assert_eq!(waiting(), 0);
        turns.charge(LARGE_FROM, false);
        drop(tickets.remove(0));
        assert_eq!(
            turns.left.get(),
            TURN_LEN_MAX - LARGE_FROM,
            "the rest is for connections outside the queue"
        );
    }
}
