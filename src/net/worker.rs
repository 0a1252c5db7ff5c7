//! A worker: one thread, one ring, its own listeners and connections.
//!
//! Its heartbeat drives every deadline, publishes the counters, and bounds what a lost
//! submission can cost: the runtime submits when its thread parks and ignores a failure there,
//! so the next beat tries again.

use super::admission::{Admission, Verdict};
use super::connection::Connection;
use super::counters::{Close, Counters, Published, add};
use super::front::Front;
use super::listener::Listener;
use super::log::{LogGates, LogState};
use super::ops::{self, ReadBuffer};
use super::output::{OutputPool, SnapshotRef};
use super::peer::{Peer, Phase};
use crate::catalog::SnapshotHandle;
use crate::platform::socket::{acknowledged_bytes, is_delivered};
use crate::protocol::session::{Profile, ServerSession};
use crate::protocol::{GroupId, Status};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::debug;

/// How often a worker looks at its deadlines.
const HEARTBEAT_MS: u64 = 100;

/// How often the kernel is asked whether a peer takes anything in, at most.
const PROGRESS_SAMPLE_MS: u64 = 1000;

/// And how many times at least before a peer is cut for taking in nothing.
const PROGRESS_SAMPLES: u64 = 4;

/// A send that the ring holds this long makes its peer slow.
const SLOW_AFTER_MS: u64 = 2 * HEARTBEAT_MS;

/// Connections accepted before other work has its turn.
const ACCEPTS_MAX: usize = 64;

/// How long to leave a listener alone after a failed accept: at most 10 failures a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Submission entries; completions are many more, as thousands may come at once.
const RING_ENTRIES: u32 = 4096;
const RING_COMPLETIONS: u32 = 32768;

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
    /// From the stop signal to the end.
    pub drain_timeout: Duration,
    /// Close a connection that asks for a group that is not there; else ignore the request.
    pub close_on_missing_group: bool,
}

/// What all workers share.
#[derive(Debug)]
pub struct ServeConfig {
    /// Deadlines and bounds.
    pub limits: Limits,
    /// What sessions expect.
    pub profile: Arc<Profile>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// What must be known of a connection first.
    pub front: Front,
    /// What is served.
    pub snapshots: Arc<SnapshotHandle>,
    /// Bounds what the workers log.
    pub log_gates: LogGates,
}

/// How the main thread steers its workers.
#[derive(Debug, Default)]
pub struct Control {
    /// Set once: accept no more, finish what is queued, end.
    pub draining: AtomicBool,
}

/// A worker's own state, on one thread.
pub(super) struct Worker {
    pub(super) config: Arc<ServeConfig>,
    pub(super) counters: Counters,
    pub(super) outputs: RefCell<OutputPool>,
    pub(super) draining: Cell<bool>,
    /// The group that was last missed, for the log.
    pub(super) missed: Cell<Option<GroupId>>,
    /// The failure that last ended a connection and was not the peer's, for the log.
    pub(super) last_errno: Cell<i32>,
    /// Emptied and shut when the worker drains; true, if their connections open with a PROXY
    /// header.
    listeners: RefCell<Vec<(Rc<OwnedFd>, bool)>>,
    peers: RefCell<Slab<Rc<Peer>>>,
    /// Milliseconds since the start, as far as heartbeats have come: a process that was stopped
    /// for a minute has not aged, so its healthy peers are not cut.
    now_ms: Cell<u64>,
    snapshot: RefCell<SnapshotRef>,
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
    let mut ring = tokio_uring::uring_builder();
    // Not DEFER_TASKRUN, with which the runtime hangs: it never enters to reap events.
    ring.setup_cqsize(RING_COMPLETIONS).setup_coop_taskrun().setup_single_issuer();
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    let snapshot = Rc::new(config.snapshots.load());
    let worker = Rc::new(Worker {
        config,
        counters: Counters::default(),
        outputs: RefCell::default(),
        draining: Cell::new(false),
        missed: Cell::new(None),
        last_errno: Cell::new(0),
        listeners: RefCell::default(),
        peers: RefCell::default(),
        now_ms: Cell::new(0),
        snapshot: RefCell::new(snapshot),
    });
    runtime.block_on(async move {
        for listener in listeners {
            let socket = Rc::new(listener.socket);
            worker.listeners.borrow_mut().push((Rc::clone(&socket), listener.proxy));
            tokio_uring::spawn(Rc::clone(&worker).accept(socket, listener.proxy));
        }
        ready();
        worker.beat(&control, &published).await;
    });
    Ok(())
}

impl Worker {
    /// The time, as of the last heartbeat.
    #[inline]
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Accepts until the worker drains.
    async fn accept(self: Rc<Self>, listener: Rc<OwnedFd>, proxy: bool) {
        while !self.draining.get() {
            let (result, _) = ops::acceptable(Rc::clone(&listener)).await;
            let accepted = match result {
                Ok(_) if self.draining.get() => return,
                Ok(_) => self.accept_some(&listener, proxy),
                Err(error) => Err(error),
            };
            if let Err(error) = accepted {
                add(&self.counters.accept_errors, 1);
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            while !self.may_accept() {
                // Each refused peer is given the time to read why; the others wait their turn.
                tokio::time::sleep(ACCEPT_PAUSE / 10).await;
            }
        }
    }

    /// Whether there is room for whatever comes. With a game server, game connections come too,
    /// and do not wait for JS5 peers that are being refused.
    fn may_accept(&self) -> bool {
        let front = &self.config.front;
        front.may_accept() && (front.game.is_some() || self.config.admission.may_accept())
    }

    /// Accepts what waits, up to a share.
    fn accept_some(self: &Rc<Self>, listener: &OwnedFd, proxy: bool) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            if !self.may_accept() {
                break;
            }
            match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC) {
                Ok((socket, address)) => {
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    if let Some(address) = address {
                        self.welcome(socket, address, proxy);
                    }
                }
                Err(Errno::AGAIN) => break,
                // The peer is gone again.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn welcome(self: &Rc<Self>, socket: OwnedFd, address: SocketAddr, proxy: bool) {
        add(&self.counters.accepted, 1);
        if self.has_front(proxy) {
            return self.open(socket, address, proxy);
        }
        let verdict = self.decide(address);
        let peer = Rc::new(Peer::new(socket, Phase::of(&verdict), self.now_ms()));
        let place = self.enlist(&peer);
        self.serve(place, peer, verdict, None);
    }

    /// What becomes of a JS5 connection from `address`.
    pub(super) fn decide(&self, address: SocketAddr) -> Verdict {
        match self.draining.get() {
            true => self.config.admission.refuse(Status::ServerFull),
            false => self.config.admission.decide(address),
        }
    }

    /// Lets the sweep see a connection.
    pub(super) fn enlist(&self, peer: &Rc<Peer>) -> usize {
        self.peers.borrow_mut().insert(Rc::clone(peer))
    }

    /// The sweep need not look at it any more.
    pub(super) fn strike(&self, place: usize) {
        self.peers.borrow_mut().remove(place);
    }

    /// Serves or refuses a JS5 connection, of which something may have been `read` already.
    pub(super) fn serve(
        self: &Rc<Self>,
        place: usize,
        peer: Rc<Peer>,
        verdict: Verdict,
        read: Option<(ReadBuffer, Range<usize>)>,
    ) {
        let (permit, refusal) = match verdict {
            Verdict::Admitted(permit) => (permit, None),
            Verdict::Refused(permit, status) => (permit, Some(status)),
        };
        let session = ServerSession::new(Arc::clone(&self.config.profile), refusal);
        let mut connection = Connection::new(Rc::clone(self), peer, session, self.snapshot());
        if let Some((buffer, input)) = read {
            connection.begin_with(buffer, input);
        }
        // Boxed, as the runtime rounds a task up to a multiple of 128 bytes: an idle peer should
        // cost little. The connection is used in place; passed on, it would be held twice.
        tokio_uring::spawn(Box::pin(async move {
            connection.run().await;
            connection.worker().strike(place);
            drop(permit);
        }));
    }

    /// What a new connection serves from; asked for once a connection.
    fn snapshot(&self) -> SnapshotRef {
        let mut mine = self.snapshot.borrow_mut();
        let current = self.config.snapshots.load();
        if !Arc::ptr_eq(&mine, &current) {
            *mine = Rc::new(current);
        }
        Rc::clone(&mine)
    }

    /// Deadlines, counters, the log and the end, every [`HEARTBEAT_MS`].
    async fn beat(self: &Rc<Self>, control: &Control, published: &Published) {
        let interval = Duration::from_millis(HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut drain_ms, mut logged) = (Instant::now(), 0, LogState::default());
        loop {
            ticks.tick().await;
            let elapsed = last.elapsed();
            last = Instant::now();
            if elapsed > interval * 2 {
                add(&self.counters.late_heartbeats, 1);
            }
            let step = elapsed.min(interval * 2);
            let now_ms = self.now_ms() + u64::try_from(step.as_millis()).unwrap_or(HEARTBEAT_MS);
            self.now_ms.set(now_ms);
            if control.draining.load(Ordering::Relaxed) && !self.draining.replace(true) {
                drain_ms = now_ms;
                self.stop_listening();
                self.peers.borrow().iter().for_each(|(_, peer)| peer.wake());
            }
            self.sweep(now_ms);
            logged.report(self, now_ms);
            self.counters.connections.set(self.peers.borrow().len() as u64);
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

    /// Tells those that wait to be accepted that they come too late, and shuts the listeners.
    fn stop_listening(self: &Rc<Self>) {
        for (listener, proxy) in self.listeners.borrow_mut().drain(..) {
            if let Err(error) = self.accept_some(&listener, proxy) {
                debug!(%error, "connections that wait cannot be told");
            }
            let _ = rustix::net::shutdown(&listener, rustix::net::Shutdown::Both);
        }
    }

    /// Looks at every connection's deadline.
    fn sweep(&self, now_ms: u64) {
        let limits = &self.config.limits;
        let handshake_ms = millis(limits.handshake_timeout);
        let idle_ms = millis(limits.idle_timeout);
        let send_ms = millis(limits.send_timeout);
        let linger_ms = millis(limits.linger_timeout);
        let sample_ms = PROGRESS_SAMPLE_MS.min(send_ms / PROGRESS_SAMPLES);
        for (_, peer) in &*self.peers.borrow() {
            let waited = peer.waited_ms(now_ms);
            match peer.phase() {
                Phase::Proxy | Phase::Opening => self.sweep_opening(peer, now_ms),
                Phase::Handshake if waited > handshake_ms => peer.cut(Close::HandshakeTimeout),
                Phase::Refusing if waited > linger_ms => {
                    peer.hurry.set(true);
                    peer.wake();
                }
                Phase::Idle if waited > idle_ms => {
                    // What it asked for last may still be on its way: taking it in is progress.
                    if !is_delivered(&**peer).unwrap_or(true) {
                        peer.sample(acknowledged_bytes(&**peer).unwrap_or(0), now_ms);
                    }
                    if peer.waited_ms(now_ms) > idle_ms {
                        peer.cut(Close::IdleTimeout);
                    }
                }
                Phase::Lingering if waited > linger_ms => {
                    // A slow peer still gets what was begun.
                    if peer.unsampled_ms(now_ms) >= sample_ms {
                        peer.sample(acknowledged_bytes(&**peer).unwrap_or(0), now_ms);
                    }
                    let waited = peer.waited_ms(now_ms);
                    if is_delivered(&**peer).unwrap_or(true) || waited > send_ms {
                        peer.shut_down();
                    }
                }
                Phase::Sending if waited >= SLOW_AFTER_MS => {
                    if !peer.slow.replace(true) {
                        add(&self.counters.slow_peers, 1);
                        peer.wake();
                    }
                    if peer.unsampled_ms(now_ms) >= sample_ms {
                        peer.sample(acknowledged_bytes(&**peer).unwrap_or(0), now_ms);
                    }
                    if peer.waited_ms(now_ms) > send_ms {
                        peer.cut(Close::SendTimeout);
                    }
                }
                _ => {}
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
