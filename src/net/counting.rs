//! What a connection counts beside its work: what it receives, requests that get no response,
//! failures that pass, and the progress of a request that is timed (`latency.rs`).

use super::connection::Connection;
use super::counters::{Close, add};
use super::errnos;
use super::latency::NOT_PICKED;
use crate::protocol::Class;
use crate::protocol::session::Received;
use std::io;
use std::rc::Rc;

impl Connection {
    /// Counts what was received, where so many requests were `queued` before, and whether
    /// anything was `taken`.
    #[inline]
    pub(super) fn count_received(&mut self, queued: (usize, usize), taken: bool) {
        let received = self.session.take_received();
        let counters = &self.worker().counters;
        add(&counters.requests_urgent, received.urgent.into());
        add(&counters.requests_prefetch, received.prefetch.into());
        let (urgent, prefetch) = self.session.queued();
        let dropped = (
            queued.0 + usize::from(received.urgent) - urgent,
            queued.1 + usize::from(received.prefetch) - prefetch,
        );
        if dropped != (0, 0) {
            // The peer has disconnected.
            counters.count_unanswered(Class::Urgent, dropped.0);
            counters.count_unanswered(Class::Prefetch, dropped.1);
        }
        let requests = u32::from(received.urgent) + u32::from(received.prefetch);
        let is_due = self.worker().sampler.passes(requests);
        if received.rekeys | received.state_changes != 0 || (requests == 0 && taken) {
            self.count_chatter(received);
        }
        if is_due {
            self.pick(received);
        }
    }

    /// Counts what asks for nothing, which a peer may do a little of (docs/decisions/0013).
    #[cold]
    fn count_chatter(&mut self, received: Received) {
        let worker = Rc::clone(&self.worker);
        add(&worker.counters.rekeys, received.rekeys.into());
        add(&worker.counters.state_changes, received.state_changes.into());
        self.set_logged_in(self.session.logged_in());
        let rate = worker.config.limits.chatter_max;
        let said = u32::from(received.rekeys) + u32::from(received.state_changes);
        if !self.chatter.passes(said.max(1), rate, worker.now_ms()) {
            self.peer.cut(Close::Chatter);
        }
    }

    pub(super) fn set_logged_in(&mut self, logged_in: bool) {
        let before = std::mem::replace(&mut self.logged_in, logged_in);
        let gauge = &self.worker().counters.logged_in;
        match (before, logged_in) {
            (false, true) => gauge.set(gauge.get() + 1),
            (true, false) => gauge.set(gauge.get() - 1),
            _ => {}
        }
    }

    /// One of the requests that were just received is to be timed; chance says which.
    #[cold]
    fn pick(&mut self, received: Received) {
        let sampler = &self.worker().sampler;
        if self.picked != NOT_PICKED {
            sampler.weigh_more(self.picked);
            return;
        }
        let urgent = usize::from(received.urgent);
        let place = fastrand::usize(..(urgent + usize::from(received.prefetch)).max(1));
        let (queued_urgent, queued_prefetch) = self.session.queued();
        // Those that were just received are the last in their queue, unless the peer has
        // disconnected, which empties it.
        let (class, from_end, queued) = if place < urgent {
            (Class::Urgent, urgent - place, queued_urgent)
        } else {
            (Class::Prefetch, urgent + usize::from(received.prefetch) - place, queued_prefetch)
        };
        if let Some(ahead) = queued.checked_sub(from_end) {
            self.picked = self.worker().sampler.pick(class, ahead);
        }
    }

    /// Tells the sampler what has left the queues since they were as long as `before`.
    #[cold]
    pub(super) fn follow_picked(&self, before: (usize, usize)) {
        let (urgent, prefetch) = self.session.queued();
        self.worker().sampler.left(self.picked, before.0 - urgent, before.1 - prefetch);
    }

    /// The kernel has taken all of an output.
    #[inline]
    pub(super) fn handed_over(&mut self) {
        if self.picked != NOT_PICKED
            && self.worker().sampler.handed_over(self.picked, &self.worker().counters)
        {
            self.picked = NOT_PICKED;
        }
    }

    /// The connection has served: what waits still gets no response.
    pub(super) fn give_up_queued(&mut self) {
        self.worker().sampler.forget(self.picked);
        self.picked = NOT_PICKED;
        let (urgent, prefetch) = self.session.queued();
        self.worker().counters.count_unanswered(Class::Urgent, urgent);
        self.worker().counters.count_unanswered(Class::Prefetch, prefetch);
    }

    /// An operation failed and is tried again.
    #[cold]
    pub(super) fn count_passing(&self, error: &io::Error) {
        errnos::count(&self.worker().counters.ring_errnos, error);
    }
}
