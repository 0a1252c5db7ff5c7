//! The connections that have something to do, as a list of numbers.
//!
//! The waker of a connection holds only its number; waking the connection appends the number to the
//! list of the thread. A connection therefore needs no task, no reference count and no entry in a
//! queue of tasks. The task that walks the list can see which connections follow, and fetches them
//! into the core's cache. A number may be in the list more than once, or belong to a connection
//! that has ended: stepping a connection that has nothing to do has no effect.
#![allow(unsafe_code, reason = "a waker that is a number")]

use std::cell::{Cell, RefCell};
use std::ptr;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

/// A connection's number among those of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u32);

thread_local! {
    static READY: List = const { List { keys: RefCell::new(Vec::new()), walker: Cell::new(None) } };
}

struct List {
    keys: RefCell<Vec<Key>>,
    /// Wakes the task that walks the list; set while that waits.
    walker: Cell<Option<Waker>>,
}

impl Key {
    /// The key of an index in the worker's table. There are no more indexes than descriptors, which
    /// are numbers of 32 bits.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index in the worker's table.
    pub(in crate::net) fn index(self) -> usize {
        self.0 as usize
    }

    /// A waker for operations of this thread.
    pub(in crate::net) fn waker(self) -> Waker {
        // SAFETY: the functions of the table keep the contract of a waker whatever the data, which
        // is a number and never read through.
        unsafe { Waker::from_raw(raw(self)) }
    }
}

/// Has a connection of this thread be stepped soon.
#[inline]
pub(in crate::net) fn wake(key: Key) {
    READY.with(|list| {
        list.keys.borrow_mut().push(key);
        if let Some(walker) = list.walker.take() {
            walker.wake();
        }
    });
}

fn raw(key: Key) -> RawWaker {
    RawWaker::new(ptr::without_provenance(key.index()), &TABLE)
}

/// A wake on another thread would go to that thread's list and be lost. It does not happen:
/// operations, timers and notifications of a worker wake on its own thread only.
static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| raw(Key::new(data.addr())),
    |data| wake(Key::new(data.addr())),
    |data| wake(Key::new(data.addr())),
    |_| {},
);

/// The walker's access to the list of its thread.
#[derive(Default)]
pub(in crate::net) struct ReadyList {
    taken: Vec<Key>,
}

impl ReadyList {
    /// Takes the keys of connections that were woken since the last call, at least one, in the
    /// order of their wakes. Pending if there is none; then the next wake wakes the walker.
    pub(in crate::net) fn poll_take(&mut self, context: &Context<'_>) -> Poll<()> {
        self.taken.clear();
        READY.with(|list| {
            std::mem::swap(&mut *list.keys.borrow_mut(), &mut self.taken);
            if self.taken.is_empty() {
                list.walker.set(Some(context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    }

    /// The keys that were taken last.
    pub(in crate::net) fn keys(&self) -> &[Key] {
        &self.taken
    }

    /// Whether connections of this thread were woken since the last call of [`Self::poll_take`].
    pub(in crate::net) fn has_more() -> bool {
        READY.with(|list| !list.keys.borrow().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_is_its_number_and_wakes_the_walker_once() {
        let mut list = ReadyList::default();
        let (walker, context) = (Waker::noop(), Context::from_waker(Waker::noop()));
        assert!(list.poll_take(&context).is_pending());
        let waker = Key::new(7).waker();
        assert!(waker.will_wake(&Key::new(7).waker()) && !waker.will_wake(&Key::new(8).waker()));
        waker.wake_by_ref();
        wake(Key::new(9));
        Waker::clone(&waker).wake_by_ref();
        let keys = [Key::new(7), Key::new(9), Key::new(7)];
        assert!(ReadyList::has_more());
        assert!(list.poll_take(&Context::from_waker(walker)).is_ready());
        assert!(list.keys() == keys && !ReadyList::has_more());
        assert!(list.poll_take(&context).is_pending());
    }
}
