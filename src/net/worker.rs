//! A worker: one thread, one ring, its own listeners and connections.
//!
//! Its heartbeat drives every deadline, publishes the counters, and bounds what a lost
//! submission can cost: the runtime submits when its thread parks and ignores a failure there,
//! so the next beat tries again.

use super::admission::Admission;
use super::counters::{Close, Counters, Published, add};
use super::crowd::Crowd;
use super::egress::{Egress, Shaper};
use super::front::Front;
use super::latency::Sampler;
use super::listener::Listener;
use super::log::{LogGates, LogState};
use super::output::{OutputPool, SnapshotRef};
use super::peer::Peer;
use super::queue_pool::QueuePool;
use super::ring::{self, HEARTBEAT_MS};
use super::turns::Turns;
use crate::catalog::SnapshotHandle;
use crate::platform::cpu;
use crate::protocol::{Clients, GroupId};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A worker that runs for a larger share of the time is busy.
const BUSY_PERCENT: u32 = 60;

/// Deadlines and bounds of a connection.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to the handshake's last byte.
    pub handshake_timeout: Duration,
    /// Without a request.
    pub idle_timeout: Duration,
    /// Sending without any progress.
    pub send_timeout: Duration,
    /// For a refused peer to read its status and go.
    pub linger_timeout: Duration,
    /// From a reload on, for quiet connections of an earlier generation; none is never.
    pub generation_timeout: Option<Duration>,
    /// From the stop signal to the end.
    pub drain_timeout: Duration,
    /// Messages and reads a second that ask for nothing.
    pub chatter_max: u32,
    /// Close a connection that asks for a group that is not there; else ignore the request.
    pub close_on_missing_group: bool,
}

/// What all workers share.
#[derive(Debug)]
pub struct ServeConfig {
    /// Deadlines and bounds.
    pub limits: Limits,
    /// What sessions expect.
    pub clients: Arc<Clients>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// What must be known of a connection first.
    pub front: Front,
    /// What is served.
    pub snapshots: Arc<SnapshotHandle>,
    /// Shares the line among all connections; none without a cap.
    pub shaper: Option<Arc<Shaper>>,
    /// Bounds what the workers log.
    pub log_gates: LogGates,
}

/// How the main thread steers its workers.
#[derive(Debug, Default)]
pub struct Control {
    /// Set once: accept no more, finish what is queued, end.
    pub draining: AtomicBool,
    /// Set before `draining`: another process accepts from the listeners from here on. Whoever
    /// waits there is for it, and the sockets stay open.
    pub handed_over: AtomicBool,
}

/// A worker's own state, on one thread.
pub(super) struct Worker {
    pub(super) config: Arc<ServeConfig>,
    pub(super) counters: Counters,
    pub(super) sampler: Sampler,
    pub(super) outputs: RefCell<OutputPool>,
    pub(super) queues: RefCell<QueuePool>,
    /// What connections may send; none without a cap.
    pub(super) egress: Option<Rc<Egress>>,
    /// What large batches wait for.
    pub(super) turns: Rc<Turns>,
    pub(super) draining: Cell<bool>,
    /// The group that was last missed, for the log.
    pub(super) missed: Cell<Option<GroupId>>,
    /// The failure that last ended a connection and was not the peer's, for the log.
    pub(super) last_errno: Cell<i32>,
    /// Emptied when the worker drains, and shut unless they are kept.
    pub(super) listeners: RefCell<Vec<Rc<Listener>>>,
    pub(super) peers: RefCell<Slab<Rc<Peer>>>,
    /// Milliseconds since the start, as far as heartbeats have come: a process that was stopped
    /// for a minute has not aged, so its healthy peers are not cut.
    now_ms: Cell<u64>,
    snapshot: RefCell<SnapshotRef>,
    /// Between the last two heartbeats the thread ran for more than [`BUSY_PERCENT`].
    busy: Cell<bool>,
    /// Whether connections may serve from an earlier snapshot.
    pub(super) has_earlier: Cell<bool>,
    /// Told at each heartbeat.
    pub(super) beaten: Notify,
}

/// Runs a worker on the calling thread until it has drained. `ready` is called once its ring is
/// set up and connections are accepted.
///
/// # Errors
/// Its ring cannot be set up.
pub fn run(
    config: Arc<ServeConfig>,
    listeners: Vec<Listener>,
    control: Arc<Control>,
    published: Arc<Published>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let runtime = ring::WORKER.runtime()?;
    let snapshot = Rc::new(config.snapshots.load());
    let worker = Rc::new(Worker {
        egress: config.shaper.as_ref().map(|shaper| Rc::new(Egress::new(Arc::clone(shaper)))),
        config,
        counters: Counters::default(),
        sampler: Sampler::default(),
        outputs: RefCell::default(),
        queues: RefCell::default(),
        turns: Rc::default(),
        draining: Cell::new(false),
        missed: Cell::new(None),
        last_errno: Cell::new(0),
        listeners: RefCell::default(),
        peers: RefCell::default(),
        now_ms: Cell::new(0),
        snapshot: RefCell::new(snapshot),
        busy: Cell::new(false),
        has_earlier: Cell::new(false),
        beaten: Notify::new(),
    });
    runtime.block_on(async move {
        tokio_uring::spawn(Rc::clone(&worker.turns).keep());
        tokio_uring::spawn(Rc::clone(&worker).sweep(Arc::clone(&published)));
        if let Some(egress) = &worker.egress {
            tokio_uring::spawn(Rc::clone(egress).pace());
        }
        for listener in listeners {
            let listener = Rc::new(listener);
            worker.listeners.borrow_mut().push(Rc::clone(&listener));
            tokio_uring::spawn(Rc::clone(&worker).accept(listener));
        }
        ready();
        worker.beat(&control, &published).await;
        published.pulse.end();
    });
    Ok(())
}

impl Worker {
    /// The time, as of the last heartbeat.
    #[inline]
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Whether what is ready may wait so long for its turn that times say little about peers.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    /// What a new connection serves from; asked for once a connection, and at heartbeats.
    pub(super) fn snapshot(&self) -> SnapshotRef {
        let mut mine = self.snapshot.borrow_mut();
        let current = self.config.snapshots.load();
        if !Arc::ptr_eq(&mine, &current) {
            *mine = Rc::new(current);
            self.has_earlier.set(true);
        }
        Rc::clone(&mine)
    }

    /// Time, counters, the log and the end, every [`HEARTBEAT_MS`]; and the sweep begins.
    async fn beat(self: &Rc<Self>, control: &Control, published: &Published) {
        let interval = Duration::from_millis(HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ran = cpu::thread_time();
        let (mut last, mut drain_ms) = (Instant::now(), 0);
        let (mut logged, mut crowd) = (LogState::default(), Crowd::default());
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed();
            last = Instant::now();
            if elapsed > interval * 2 {
                add(&self.counters.late_heartbeats, 1);
            }
            let ran_before = std::mem::replace(&mut ran, cpu::thread_time());
            self.busy.set(ran.saturating_sub(ran_before) > elapsed * BUSY_PERCENT / 100);
            let step = elapsed.min(interval * 2);
            let now_ms = self.now_ms() + u64::try_from(step.as_millis()).unwrap_or(HEARTBEAT_MS);
            self.now_ms.set(now_ms);
            if control.draining.load(Ordering::Relaxed) && !self.draining.replace(true) {
                drain_ms = now_ms;
                self.stop_listening(control.handed_over.load(Ordering::Relaxed));
                self.peers.borrow().iter().for_each(|(_, peer)| peer.wake());
            }
            self.beaten.notify_one();
            logged.report(self, now_ms);
            let connections = self.peers.borrow().len() as u64;
            self.counters.connections.set(connections);
            crowd.beat(connections, self.is_busy());
            self.turns.beat();
            self.counters.reckon_queued();
            self.egress.iter().for_each(|egress| egress.count_waiting(&self.counters));
            self.sampler.beat(&self.counters);
            published.pulse.beat(last);
            self.counters.publish(published);
            if self.draining.get() {
                if self.peers.borrow().is_empty() {
                    return;
                }
                if now_ms.saturating_sub(drain_ms) > millis(self.config.limits.drain_timeout) {
                    self.peers.borrow().iter().for_each(|(_, peer)| peer.cut(Close::Drain));
                }
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
