//! Connections to the game server, forwarded both ways by a thread of their own.
//!
//! Workers answer JS5 in large batches, for a thousand connections in a row; a game packet that
//! waited for these would be milliseconds late. So the workers only read a connection's first byte
//! and hand the connection on to this thread, which has a ring of its own (docs/decisions/0011).

mod forward;
mod server;

pub use server::GameServer;

use super::admission::{Admission, Permit};
use super::control::{Control, millis};
use super::count::{Counters, Gate, Published, add};
use super::driver::{Buffer, Driver, GAME, HEARTBEAT_MS, Runtime, Socket, spawn};
use crate::proxy::Endpoints;
use forward::{Cut, Pair};
use rustix::net::sockopt::set_socket_linger;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{info, warn};

/// A buffer of a game connection, one a direction: a game's largest packet, and what both sides
/// have to wait for each other.
pub(super) const GAME_BUFFER_LEN: usize = 4096;

/// Buffers kept for reuse: 256 KB.
pub(super) const POOL_LEN_MAX: usize = 64;

/// What holds for each connection to the game server.
#[derive(Clone, Debug)]
pub struct GameLimits {
    /// Begin with a PROXY header that names the client.
    pub announce: bool,
    /// How long to try to connect to each address of the server.
    pub connect_timeout: Duration,
    /// How long a connection may be without a byte in either direction.
    pub idle_timeout: Duration,
    /// From the stop signal until connections that are left are ended.
    pub drain_timeout: Duration,
}

/// The workers' way to this thread.
#[derive(Debug)]
pub struct Door {
    /// The limits. Refused connections are closed without a message: js5d does not speak the game's
    /// protocol.
    pub(super) admission: Arc<Admission>,
    /// Bounded by admission.
    sender: UnboundedSender<Handed>,
}

impl Door {
    /// Hands a connection on.
    pub(super) fn hand_on(&self, handed: Handed) {
        if let Err(late) = self.sender.send(handed) {
            // The thread has drained and gone.
            reset(&late.0.socket);
        }
    }
}

/// The receiving end of a [`Door`].
pub struct Inbox(UnboundedReceiver<Handed>);

/// A door and its receiving end.
#[must_use]
pub fn door(connections_max: usize, connections_per_ip_max: Option<usize>) -> (Door, Inbox) {
    let (sender, receiver) = unbounded_channel();
    // Refused game connections are closed at once, so they need no bound.
    let admission = Admission::new(connections_max, connections_per_ip_max, usize::MAX);
    (Door { admission, sender }, Inbox(receiver))
}

/// A connection that is the game server's.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) socket: OwnedFd,
    /// The address that the connection came from; behind a balancer, the balancer's.
    pub(super) address: SocketAddr,
    /// The addresses that a balancer announced.
    pub(super) announced: Option<Endpoints>,
    /// The bytes that the worker received.
    pub(super) first: Vec<u8>,
    /// Its place among the game connections, until it ends.
    pub(super) permit: Permit,
}

/// The thread's own state.
struct Game {
    server: GameServer,
    limits: GameLimits,
    counters: Counters,
    pairs: RefCell<Slab<Rc<Pair>>>,
    buffers: RefCell<Vec<Buffer>>,
    /// The thread's clock in milliseconds: the sum of its heartbeats.
    now_ms: Cell<u64>,
    /// The workers have ended.
    is_cut_off: Cell<bool>,
    /// Why the game server could last not be reached, for the log.
    last_errno: Cell<i32>,
}

/// Forwards connections on the calling thread until the server stops and they have ended.
///
/// # Errors
/// The ring cannot be set up.
pub fn run(
    driver: Driver,
    server: GameServer,
    limits: GameLimits,
    inbox: Inbox,
    control: Arc<Control>,
    published: Arc<Published>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let runtime = Runtime::new(driver, GAME)?;
    let game = Rc::new(Game {
        server,
        limits,
        counters: Counters::default(),
        pairs: RefCell::default(),
        buffers: RefCell::default(),
        now_ms: Cell::new(0),
        is_cut_off: Cell::new(false),
        last_errno: Cell::new(0),
    });
    runtime.block_on(async move {
        spawn(Rc::clone(&game).take_in(inbox));
        ready();
        game.beat(&control, &published).await;
        published.pulse.end();
    });
    Ok(())
}

impl Game {
    async fn take_in(self: Rc<Self>, mut inbox: Inbox) {
        while let Some(handed) = inbox.0.recv().await {
            let pair = Rc::new(Pair::new(Socket::new(handed.socket), self.now_ms.get()));
            let place = self.pairs.borrow_mut().insert(Rc::clone(&pair));
            let game = Rc::clone(&self);
            spawn(async move {
                let first = game.begin(handed.first, handed.address, handed.announced, &pair);
                forward::run(&game, &pair, first).await;
                game.pairs.borrow_mut().remove(place);
                drop(handed.permit);
            });
        }
        self.is_cut_off.set(true);
    }

    /// The heartbeat: checks deadlines, publishes counters and writes the log. Returns at the end.
    async fn beat(&self, control: &Control, published: &Published) {
        let interval = Duration::from_millis(HEARTBEAT_MS);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut drain_ms) = (Instant::now(), None);
        let (gate, mut said) = (Gate::default(), 0);
        loop {
            ticks.tick().await;
            let step = last.elapsed().min(interval * 2);
            last = Instant::now();
            published.pulse.beat(last);
            let now_ms = self.now_ms.get() + millis(step);
            self.now_ms.set(now_ms);
            self.sweep(now_ms);
            self.report(&gate, &mut said, now_ms);
            let count = self.pairs.borrow().len();
            self.counters.game_connections.set(count as u64);
            self.counters.publish(published);
            if !control.is_draining() {
                continue;
            }
            if count == 0 {
                // As long as workers run, they may hand on connections that they have accepted.
                match self.is_cut_off.get() {
                    true => return,
                    false => continue,
                }
            }
            let since_ms = *drain_ms.get_or_insert_with(|| {
                let at_most = humantime::format_duration(self.limits.drain_timeout);
                info!(
                    "{count} game connections go on until they end, for {at_most} at most; \
                     a second signal ends them at once"
                );
                now_ms
            });
            if now_ms - since_ms > millis(self.limits.drain_timeout) {
                self.pairs.borrow().iter().for_each(|(_, pair)| pair.cut(Cut::Drain));
            }
        }
    }

    fn sweep(&self, now_ms: u64) {
        let connect_ms = millis(self.limits.connect_timeout);
        let idle_ms = millis(self.limits.idle_timeout);
        for (_, pair) in &*self.pairs.borrow() {
            let waited_ms = now_ms.saturating_sub(pair.since_ms.get());
            if pair.is_forwarding.get() {
                if waited_ms > idle_ms {
                    pair.cut(Cut::Idle);
                }
            } else if waited_ms > connect_ms {
                pair.give_up_connecting();
            }
        }
    }

    /// Logs that the game server cannot be reached, at most once a second.
    fn report(&self, gate: &Gate, said: &mut u64, now_ms: u64) {
        let count = self.counters.game_connect_errors.get();
        if count > *said && gate.passes(now_ms) {
            let last = io::Error::from_raw_os_error(self.last_errno.get());
            let (times, server) = (count - *said, self.server.name());
            warn!(times, %last, server, "the game server cannot be reached; is it running?");
            *said = count;
        }
    }

    fn count_end(&self, cut: Option<Cut>) {
        let counter = match cut {
            None => &self.counters.game_closed,
            Some(Cut::Unreachable) => &self.counters.game_connect_errors,
            Some(Cut::Reset) => &self.counters.game_closed_reset,
            Some(Cut::Idle) => &self.counters.game_closed_idle,
            Some(Cut::Drain) => &self.counters.game_closed_drain,
            Some(Cut::Error) => &self.counters.game_closed_error,
        };
        add(counter, 1);
    }

    fn take_buffer(&self) -> Buffer {
        self.buffers.borrow_mut().pop().unwrap_or_else(|| vec![0; GAME_BUFFER_LEN].into())
    }

    fn give_back(&self, buffer: Buffer) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < POOL_LEN_MAX {
            buffers.push(buffer);
        }
    }
}

/// Makes the close of a socket a reset: the peer sees at once that the connection has failed, as
/// with a server that is down, and the kernel keeps no data for it.
pub(super) fn reset(socket: impl AsFd) {
    // An error means that it has ended already.
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}
