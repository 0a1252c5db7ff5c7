//! The connections of a worker, and the one task that steps those that are ready.
//!
//! While this task steps a connection, it fetches the one after the next into the core's cache,
//! which separate tasks could not do. With a thousand connections, none is still in that cache when
//! it is stepped again.

use super::connection::{Connection, Flow, KernelBounds};
use super::count::{Close, add};
use super::driver::{self, Key, ReadyList, wake};
use super::game::{Handed, reset};
use super::shared::Shared;
use crate::net::admission::Verdict;
use crate::platform::prefetch;
use slab::Slab;
use std::cell::RefCell;
use std::future::poll_fn;
use std::slice;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::debug;

/// How many connections ahead of the one that is stepped memory is fetched.
const FETCHED_AHEAD: usize = 2;

/// Connections that are stepped before the driver has its turn. Each step may answer dozens of
/// requests, and 64 connections are accepted at a time: with thousands of connections that always
/// have requests, others would wait for half a second to be accepted.
const STEPS_MAX: usize = 256;

/// Sends that are given to the driver before it is left to try them. What was copied for more of
/// them would have left the core's cache by then; with a thousand at once the mix costs a tenth
/// more (docs/performance.md).
const DRIVEN_MAX: u32 = 64;

/// All connections of a worker.
#[derive(Default)]
pub(super) struct Connections {
    /// Boxed, so that the memory of a connection is freed when it ends, and the table stays small.
    #[allow(clippy::vec_box, reason = "a table that grows must not move connections")]
    all: RefCell<Slab<Box<Connection>>>,
    /// Notified when connections have been stepped.
    stepped: Notify,
}

/// How long after a step operations are submitted again that the ring did not take then. Otherwise
/// each would wait for the next heartbeat, and a request may need several operations.
const SUBMITTED_AGAIN_AFTER: Duration = Duration::from_millis(5);

impl Connections {
    /// Adds a connection, and wakes it.
    pub(super) fn insert(&self, mut connection: Connection, shared: &Shared) {
        let mut all = self.all.borrow_mut();
        let key = Key::new(all.vacant_key());
        connection.watch(key, shared);
        all.insert(Box::new(connection));
        wake(key);
    }

    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// One more than the highest index that a connection can have.
    pub(super) fn end(&self) -> usize {
        self.all.borrow().capacity()
    }

    /// Wakes every connection, after a change that concerns all of them.
    pub(super) fn wake_all(&self) {
        self.all.borrow().iter().for_each(|(index, _)| wake(Key::new(index)));
    }

    /// Calls `show` with the connection at an index, if there is one.
    pub(super) fn with<T>(
        &self,
        index: usize,
        show: impl FnOnce(Key, &mut Connection) -> T,
    ) -> Option<T> {
        let mut all = self.all.borrow_mut();
        all.get_mut(index).map(|connection| show(Key::new(index), connection))
    }

    /// Ends all connections at once.
    pub(super) fn cut_all(&self, reason: Close) {
        for (index, connection) in &mut *self.all.borrow_mut() {
            connection.cut(reason);
            wake(Key::new(index));
        }
    }

    /// Steps connections that are ready, for as long as the worker runs.
    pub(super) async fn step_ready(&self, shared: &Shared) {
        let mut ready = ReadyList::default();
        loop {
            poll_fn(|context| ready.poll_take(context)).await;
            let mut stepped = 0;
            while stepped < ready.keys().len() {
                stepped = self.step_some(ready.keys(), stepped, shared);
                self.stepped.notify_one();
                if stepped < ready.keys().len() || ReadyList::has_more() {
                    // Accepts and sends have their turn before more connections are stepped.
                    driver::everything_tried().await;
                    shared.driven.set(0);
                }
            }
        }
    }

    /// Wakes the thread `SUBMITTED_AGAIN_AFTER` connections were stepped, for as long as the worker
    /// runs. The runtime submits operations when its thread parks and ignores a failure, so this
    /// has it submit them again.
    pub(super) async fn submit_again(&self) {
        loop {
            self.stepped.notified().await;
            tokio::time::sleep(SUBMITTED_AGAIN_AFTER).await;
        }
    }

    /// Steps connections that are ready, from a place in the list on. Returns how far it has come:
    /// not to the end if the driver should have its turn first.
    fn step_some(&self, keys: &[Key], from: usize, shared: &Shared) -> usize {
        let mut all = self.all.borrow_mut();
        for (at, &key) in keys.iter().enumerate().skip(from) {
            if at - from == STEPS_MAX || shared.driven.get() >= DRIVEN_MAX {
                return at;
            }
            if let Some(next) = keys.get(at + FETCHED_AHEAD)
                && let Some(connection) = all.get(next.index())
            {
                let connection = slice::from_ref(&**connection);
                prefetch::fetch(connection, size_of::<Connection>());
            }
            let Some(connection) = all.get_mut(key.index()) else { continue };
            match connection.step(key, shared) {
                Flow::Waits => {}
                Flow::Ended => drop(all.remove(key.index())),
                Flow::HandsOn => hand_on(*all.remove(key.index()), shared),
            }
        }
        keys.len()
    }
}

/// Gives a connection to the game's thread, or closes it if a limit of game connections is reached.
fn hand_on(connection: Connection, shared: &Shared) {
    let (socket, first, opening) = connection.into_parts();
    let (Some(mut opening), Some(door)) = (opening, &shared.config.front.game) else { return };
    opening.release_place(shared);
    if shared.is_stopping() {
        return shared.counters.count_close(Close::Drain);
    }
    let (address, source, announced) = (opening.address(), opening.source(), opening.announced());
    let Verdict::Admitted(permit) = door.admission.decide(source) else {
        add(&shared.counters.game_refused, 1);
        debug!(%address, %source, "closed: a limit of game connections");
        return reset(&socket);
    };
    add(&shared.counters.game_accepted, 1);
    debug!(%address, %source, "handed on to the game server");
    KernelBounds::FAST.replace(KernelBounds::UNKNOWN, &socket);
    let socket = socket.into_descriptor();
    door.hand_on(Handed { socket, address, announced, first, permit });
}
