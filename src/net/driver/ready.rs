//! The connections that have something to do, as a list of numbers.
//!
//! A waker of a connection is its number: to wake it is to append the number to the list of the
//! thread, and nothing else. So a connection needs no task, no reference count and no place in a
//! queue of tasks, and whoever walks the list knows which connection comes after the next, and
//! can fetch it into the core's cache meanwhile. A number may stand in the list more than once,
//! and may be that of a connection that has ended: to step one that has nothing to do is nothing.
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
    /// The task that walks the list, while it waits.
    walker: Cell<Option<Waker>>,
}

impl Key {
    /// The number of a place. Places are bounded by descriptors, of which 32 bits hold all.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The place.
    pub(in crate::net) fn index(self) -> usize {
        self.0 as usize
    }

    /// Wakes the connection when an operation of this thread's completes.
    pub(in crate::net) fn waker(self) -> Waker {
        // SAFETY: the functions of the table keep the contract of a waker whatever the data, which
        // is a number and never read through.
        unsafe { Waker::from_raw(raw(self)) }
    }
}

/// Lets a connection of this thread have its turn.
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

/// Another thread's wake goes to the list of that thread and is lost: operations, timers and
/// notices of a worker wake on its own thread only.
static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| raw(Key::new(data.addr())),
    |data| wake(Key::new(data.addr())),
    |data| wake(Key::new(data.addr())),
    |_| {},
);

/// The walker's hold on the list of its thread.
#[derive(Default)]
pub(in crate::net) struct ReadyList {
    taken: Vec<Key>,
}

impl ReadyList {
    /// All that have become ready since the last time, at least one; in the order in which they
    /// were woken.
    pub(in crate::net) fn poll_take(&mut self, context: &Context<'_>) -> Poll<&[Key]> {
        self.taken.clear();
        READY.with(|list| {
            std::mem::swap(&mut *list.keys.borrow_mut(), &mut self.taken);
            if self.taken.is_empty() {
                list.walker.set(Some(context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(&self.taken[..])
        })
    }

    /// Whether others have become ready meanwhile. If none have, the walker is woken by the next.
    pub(in crate::net) fn poll_again(&self, context: &Context<'_>) -> bool {
        READY.with(|list| {
            let some = !list.keys.borrow().is_empty();
            if !some {
                list.walker.set(Some(context.waker().clone()));
            }
            some
        })
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
        assert_eq!(list.poll_take(&Context::from_waker(walker)), Poll::Ready(&keys[..]));
        assert!(list.poll_take(&context).is_pending());
    }
}
