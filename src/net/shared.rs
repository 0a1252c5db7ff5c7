//! The state that the connections of a worker share: clock, pools, counters, turns and credit.
//!
//! A connection gets a reference to it whenever it is stepped, and uses nothing else of its worker.
//! It holds no socket and no operation, so that simulations can run machines with it.

use super::admission::Verdict;
use super::batch::{BatchPool, SnapshotRef};
use super::config::ServeConfig;
use super::control::Course;
use super::count::{Close, Counters, Notes, Sampler, count_errno, is_of_peer};
use super::driver::READ_LEN;
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

/// The state that the connections of one worker share.
pub struct Shared {
    pub(super) config: Arc<ServeConfig>,
    pub(super) counters: Counters,
    pub(super) sampler: Sampler,
    pub(super) notes: Notes,
    pub(super) batches: RefCell<BatchPool>,
    pub(super) queues: RefCell<QueuePool>,
    /// Scratch: the places of the next responses of the connection that fills a batch.
    pub(super) ahead: RefCell<Vec<Place>>,
    /// Scratch: what has arrived for the connection that receives.
    pub(super) read_buffer: RefCell<[u8; READ_LEN]>,
    /// Sends given to the driver since it was last left to try them.
    pub(super) driven: Cell<u32>,
    /// Gives connections credit under the caps; none without a cap.
    pub(super) egress: Option<Rc<Egress>>,
    /// Has large batches wait for a turn of the ring.
    pub(super) turns: Rc<Turns>,
    /// The course of the process as of the last heartbeat.
    course: Cell<Course>,
    /// `--drain-timeout` has passed since the worker began to drain.
    pub(super) drain_timed_out: Cell<bool>,
    /// The number of tasks that accept, or refuse the connections that wait at a stop.
    pub(super) accepting: Cell<usize>,
    /// The worker's clock: milliseconds since its start, as the sum of its heartbeats. While a
    /// process is stopped this clock does not go on, so that healthy peers are not cut.
    now_ms: Cell<u64>,
    /// The snapshot that new connections serve from.
    snapshot: RefCell<SnapshotRef>,
    /// The thread ran for more than 60 % of the time between the last two heartbeats.
    busy: Cell<bool>,
    /// Whether connections may serve from an earlier snapshot.
    pub(super) has_earlier: Cell<bool>,
}

impl Shared {
    /// The state of a worker that starts.
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
            read_buffer: RefCell::new([0; READ_LEN]),
            driven: Cell::new(0),
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

    /// The worker's clock in milliseconds, as of the last heartbeat.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Sets the worker's clock.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
    }

    /// Whether the worker is busy: ready connections may wait so long that measured times say
    /// little about their peers.
    pub fn is_busy(&self) -> bool {
        self.busy.get()
    }

    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.set(busy);
    }

    /// Whether the worker drains: it answers requests that have arrived, and then ends.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.course.get().is_draining()
    }

    /// Whether the server stops, and no process takes over: late handshakes are refused.
    #[inline]
    pub fn is_stopping(&self) -> bool {
        self.course.get() == Course::Stopping
    }

    /// Takes over the course of the process. True if the worker begins to drain by that.
    pub fn follow(&self, course: Course) -> bool {
        let drained = self.is_draining();
        if !drained {
            self.course.set(course);
        }
        !drained && course.is_draining()
    }

    /// The snapshot that a new connection serves from. To be called once for each connection, and
    /// at heartbeats, as it also takes up the current snapshot.
    pub fn snapshot(&self) -> SnapshotRef {
        let mut mine = self.snapshot.borrow_mut();
        let current = self.config.snapshots.load();
        if !Arc::ptr_eq(&mine, &current) {
            *mine = Rc::new(current);
            self.has_earlier.set(true);
        }
        Rc::clone(&mine)
    }

    /// Admits or refuses a JS5 connection from `address`.
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

    /// The reason to close a connection on which an operation failed: the peer's end, or an error
    /// of the server, which is kept for the log.
    pub(super) fn reason_of(&self, error: &io::Error) -> Close {
        if is_of_peer(error) {
            return Close::ByPeer;
        }
        count_errno(&self.counters.ring_errnos, error);
        self.notes.last_errno.set(error.raw_os_error().unwrap_or(0));
        Close::Error
    }

    /// Counts a request for a group that the cache does not hold, and keeps it for the log.
    pub(super) fn missed(&self, id: GroupId) {
        super::count::add(&self.counters.missing_groups, 1);
        self.notes.missed.set(Some(id));
    }
}
