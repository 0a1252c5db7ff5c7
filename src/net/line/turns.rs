//! Turns of the ring: a bound on the bytes of large batches that are sent before the worker sees
//! what else is ready.
//!
//! The kernel carries out what was submitted before it reports what has arrived meanwhile. With
//! twenty peers that download, five megabytes at once, a request for a small group would wait for
//! more than a millisecond. So large batches share a turn's bytes, and a connection that finds none
//! left waits in a queue for the next turn, before it fills its batch. Small batches never wait;
//! while there are none, turns have no bound, because longer ones cost less.

use crate::net::driver::{self, Key, wake};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// Bytes of large batches in a turn; the last may go beyond. With an end to each turn a response
/// of 100 KB costs 7 % more, and one of 4 MB is no cheaper (docs/performance.md).
const TURN_LEN_MAX: usize = 1 << 20;

/// A shorter batch is small.
pub(in crate::net) const LARGE_FROM: usize = 16 << 10;

/// What is left of a worker's turn, and the connections that wait for the next one.
#[derive(Debug)]
pub(in crate::net) struct Turns {
    /// Bytes for connections that are not in the queue; none while one is.
    left: Cell<usize>,
    /// Bytes for those who wait, one after the other.
    kept: Cell<usize>,
    /// There has been a small batch since the last heartbeat.
    small: Cell<bool>,
    /// By ticket, so the first to come is the first to go.
    waiting: RefCell<BTreeMap<u64, Key>>,
    /// The number of the next ticket.
    next_ticket: Cell<u64>,
    /// Notified when a connection waits.
    wait_begun: Notify,
}

/// A place in the queue of turns, and then the turn itself. Dropping it gives up the one, or
/// passes the other on; so none outlives what it stands for.
#[derive(Debug)]
pub(in crate::net) struct TurnTicket {
    turns: Rc<Turns>,
    number: u64,
}

impl TurnTicket {
    /// Whether its turn has not come.
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
            kept: Cell::new(0),
            small: Cell::new(false),
            waiting: RefCell::default(),
            next_ticket: Cell::new(0),
            wait_begun: Notify::new(),
        }
    }
}

impl Turns {
    /// Whether nothing is left of the turn.
    #[inline]
    pub(in crate::net) fn is_over(&self) -> bool {
        self.left.get() == 0
    }

    /// Takes note of a batch. The rest of a large response that `was_begun` before is not small,
    /// however short it is.
    #[inline]
    pub(in crate::net) fn charge(&self, len: usize, was_begun: bool) {
        if len < LARGE_FROM {
            self.small.set(self.small.get() || !was_begun);
        } else {
            let from = if self.is_over() { &self.kept } else { &self.left };
            from.set(from.get().saturating_sub(len));
        }
    }

    /// To be called at each heartbeat: turns are bounded if there were small batches before it.
    pub(in crate::net) fn beat(&self) {
        if self.small.take() {
            self.left.set(self.left.get().min(TURN_LEN_MAX));
        } else {
            self.left.set(usize::MAX);
            // Turn by turn they would wait beside many who need not.
            std::mem::take(&mut *self.waiting.borrow_mut()).into_values().for_each(wake);
        }
    }

    /// Queues a connection for a turn; it is woken when its turn has come.
    pub(in crate::net) fn enqueue(self: &Rc<Self>, key: Key) -> TurnTicket {
        let number = self.next_ticket.get();
        self.next_ticket.set(number + 1);
        self.waiting.borrow_mut().insert(number, key);
        self.wait_begun.notify_one();
        TurnTicket { turns: Rc::clone(self), number }
    }

    fn begin(&self) {
        self.kept.set(TURN_LEN_MAX);
        self.pass_on();
    }

    /// Lets the next one go that waits, as long as something is left for them. What they leave is
    /// for connections that are not in the queue.
    fn pass_on(&self) {
        if self.kept.get() == 0 {
            return;
        }
        match self.waiting.borrow_mut().pop_first() {
            Some((_, key)) => wake(key),
            None => self.left.set(self.left.get().max(self.kept.take())),
        }
    }

    /// Begins turn after turn while connections wait, for as long as the worker runs.
    pub(in crate::net) async fn begin_turns(self: Rc<Self>) {
        loop {
            if self.waiting.borrow().is_empty() {
                self.wait_begun.notified().await;
            }
            // It completes when everything that was submitted before it has been tried.
            driver::everything_tried().await;
            self.begin();
        }
    }
}

/// For simulations, which have no ring.
#[cfg(test)]
impl Turns {
    /// All that was submitted has been tried: the next turn begins, if a connection waits.
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
    fn turns_have_an_end_only_beside_small_batches() {
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
        assert!(!turns.is_over(), "a turn that begins puts no end to it");
        let _waits = turns.enqueue(Key::new(0));
        turns.beat();
        assert!(turns.waiting.borrow().is_empty());
    }

    #[test]
    fn those_who_wait_go_one_after_the_other_until_their_turn_is_used_up() {
        let turns = turns();
        turns.charge(TURN_LEN_MAX + 1, false);
        assert!(turns.is_over());
        let mut tickets = (0..3).map(|place| turns.enqueue(Key::new(place))).collect::<Vec<_>>();
        let waiting = || turns.waiting.borrow().len();
        turns.begin();
        assert_eq!(waiting(), 2);
        assert!(turns.is_over(), "nobody overtakes them");
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
        assert_eq!(turns.left.get(), TURN_LEN_MAX - LARGE_FROM, "for whoever comes");
    }
}
