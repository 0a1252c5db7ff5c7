//! What the connections of a worker have in common: its clock, its pools, its counters, the line.
//!
//! A connection gets this whenever it is stepped, and knows nothing else of its worker. It has no
//! socket and no operation, so that simulations can run the machines of connections.

use super::admission::Verdict;
use super::batch::{BatchPool, SnapshotRef};
use super::config::ServeConfig;
use super::control::Course;
use super::count::{Close, Counters, Notes, Sampler, count_errno, is_of_peer};
use super::line::{Egress, Turns};
use super::queue_pool::QueuePool;
use crate::catalog::Place;
use crate::protocol::{GroupId, Status};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use tracing::debug;

/// A worker's own state, on one thread.
pub struct Shared {
    pub(super) config: Arc<ServeConfig>,
    pub(super) counters: Counters,
    pub(super) sampler: Sampler,
    pub(super) notes: Notes,
    pub(super) batches: RefCell<BatchPool>,
    pub(super) queues: RefCell<QueuePool>,
    /// Where the next responses of the connection that fills a batch stand.
    pub(super) ahead: RefCell<Vec<Place>>,
    /// What connections may send; none without a cap.
    pub(super) egress: Option<Rc<Egress>>,
    /// What large batches wait for.
    pub(super) turns: Rc<Turns>,
    /// As the last heartbeat has seen it.
    course: Cell<Course>,
    /// The time of `--drain-timeout` is over.
    pub(super) drain_timed_out: Cell<bool>,
    /// Tasks that accept, or tell those who wait.
    pub(super) accepting: Cell<usize>,
    /// Milliseconds since the start, as far as heartbeats have come: a process that was stopped
    /// for a minute has not aged, so its healthy peers are not cut.
    now_ms: Cell<u64>,
    snapshot: RefCell<SnapshotRef>,
    /// Between the last two heartbeats the thread ran for most of the time.
    busy: Cell<bool>,
    /// Whether connections may serve from an earlier snapshot.
    pub(super) has_earlier: Cell<bool>,
}

impl Shared {
    /// The state of a worker at its beginning.
    #[must_use]
    pub fn new(config: Arc<ServeConfig>) -> Self {
        let snapshot = Rc::new(config.snapshots.load());
        Self {
            egress: config.shaper.as_ref().map(|shaper| Rc::new(Egress::new(Arc::clone(shaper)))),
            config,
            counters: Counters::default(),
            sampler: Sampler::default(),
            notes: Notes::default(),
            batches: RefCell::default(),
            queues: RefCell::default(),
            ahead: RefCell::default(),
            turns: Rc::default(),
            course: Cell::new(Course::Serving),
            drain_timed_out: Cell::new(false),
            accepting: Cell::new(0),
            now_ms: Cell::new(0),
            snapshot: RefCell::new(snapshot),
            busy: Cell::new(false),
            has_earlier: Cell::new(false),
        }
    }

    /// The time, as of the last heartbeat.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Lets time pass.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    /// Whether ready connections may wait so long that times say little about their peers.
    pub fn is_busy(&self) -> bool {
        self.busy.get()
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.set(busy);
    }

    /// Whether what is open is finished, and nothing else is served.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.course.get().is_draining()
    }

    /// Whether the server stops, and no process takes over: late handshakes are refused.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.course.get() == Course::Stopping
    }

    /// Takes note of the course. True if it drains from here on.
    pub fn follow(&self, course: Course) -> bool {
        let drained = self.is_draining();
        if !drained {
            self.course.set(course);
        }
        !drained && course.is_draining()
    }

    /// What a new connection serves from; asked for once a connection, and at heartbeats.
    pub fn snapshot(&self) -> SnapshotRef {
        let mut mine = self.snapshot.borrow_mut();
        let current = self.config.snapshots.load();
        if !Arc::ptr_eq(&mine, &current) {
            *mine = Rc::new(current);
            self.has_earlier.set(true);
        }
        Rc::clone(&mine)
    }

    /// What becomes of a JS5 connection from `address`.
    pub(super) fn decide(&self, address: SocketAddr) -> Verdict {
        let verdict = match self.is_stopping() {
            true => self.config.admission.refuse(Status::ServerFull),
            false => self.config.admission.decide(address),
        };
        if let Verdict::Refused(_, status) = &verdict {
            debug!(%address, ?status, "connection refused");
        }
        verdict
    }

    /// Whose fault it is that an operation on a connection failed. Ours is kept for the log.
    pub(super) fn reason_of(&self, error: &io::Error) -> Close {
        if is_of_peer(error) {
            return Close::ByPeer;
        }
        count_errno(&self.counters.ring_errnos, error);
        self.notes.last_errno.set(error.raw_os_error().unwrap_or(0));
        Close::Error
    }

    /// Takes note of a request for a group that the cache does not hold.
    pub(super) fn missed(&self, id: GroupId) {
        super::count::add(&self.counters.missing_groups, 1);
        self.notes.missed.set(Some(id));
    }
}
