//! One game connection: the client's socket, the server's, and the bytes between them.
//!
//! Each direction has one buffer, and reads again only when it has sent what it read. So a side
//! that reads nothing makes the other side wait, and memory does not grow. The end of one
//! direction is passed on and the other goes on, so half-closes work. A reset or a deadline resets
//! both sides.

use super::{Buffer, GAME_BUFFER_LEN, Game, reset};
use crate::net::count::{add, is_of_peer};
use crate::net::driver::{self, Socket as Driven, spawn};
use crate::proxy::{Endpoints, announce};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, getsockname, shutdown};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tracing::debug;

/// The kernel's probes find a side that vanished without ending its connection: after a minute of
/// silence they go out every ten seconds, and after six without an answer the side counts as gone.
/// A game that is silent for an hour answers them, and is not cut.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;

/// How long to wait before an operation with a temporary failure is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Why a connection ends, if not because both sides ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The game server could not be reached.
    Unreachable,
    /// A side reset it, or vanished.
    Reset,
    /// Neither side sent a byte for too long.
    Idle,
    /// The server stops.
    Drain,
    /// A socket or the ring failed.
    Error,
}

/// Both sockets, as the sweep and the two directions see them.
pub(super) struct Pair {
    client: Rc<Driven>,
    /// The server's: being connected, or connected.
    server: RefCell<Option<Rc<Driven>>>,
    pub(super) is_forwarding: Cell<bool>,
    /// When the attempt to connect began, or a byte last arrived.
    pub(super) since_ms: Cell<u64>,
    cut: Cell<Option<Cut>>,
    /// The ring sends to this side, whose socket was full.
    is_client_full: Cell<bool>,
    is_server_full: Cell<bool>,
}

impl Pair {
    pub(super) fn new(client: Driven, now_ms: u64) -> Self {
        Self {
            client: Rc::new(client),
            server: RefCell::new(None),
            is_forwarding: Cell::new(false),
            since_ms: Cell::new(now_ms),
            cut: Cell::new(None),
            is_client_full: Cell::new(false),
            is_server_full: Cell::new(false),
        }
    }

    /// Ends the connection for a reason; the first one counts. Both sides get a reset.
    pub(super) fn cut(&self, reason: Cut) {
        if self.cut.get().is_some() {
            return;
        }
        self.cut.set(Some(reason));
        end_operations(&self.client, self.is_client_full.get());
        if let Some(server) = &*self.server.borrow() {
            end_operations(server, self.is_server_full.get());
        }
    }

    /// Ends an attempt to connect: the next address has its turn.
    pub(super) fn give_up_connecting(&self) {
        if let Some(socket) = &*self.server.borrow() {
            let _ = shutdown(&**socket, Shutdown::Both);
        }
    }
}

/// Ends the operations under way on a socket, and makes its close a reset.
fn end_operations(socket: impl AsFd, is_full: bool) {
    reset(&socket);
    // Our side is not ended before the reset, because the peer would take that for an orderly
    // end. Only a send that waits needs it.
    let _ = shutdown(&socket, if is_full { Shutdown::Both } else { Shutdown::Read });
}

/// The bytes that are sent to the server first.
pub(super) struct First {
    buffer: Buffer,
    range: Range<usize>,
}

impl Game {
    /// The header for the game server, if it wants one, and what was read already.
    pub(super) fn begin(
        &self,
        read: Vec<u8>,
        address: SocketAddr,
        announced: Option<Endpoints>,
        pair: &Pair,
    ) -> First {
        let mut bytes = Vec::new();
        if self.limits.announce {
            let own = getsockname(&*pair.client).ok();
            let destination = own.and_then(|own| SocketAddr::try_from(own).ok());
            let direct = Endpoints { source: address, destination: destination.unwrap_or(address) };
            bytes = announce(announced.unwrap_or(direct));
        }
        bytes.extend(&read);
        add(&self.counters.game_received_bytes, read.len() as u64);
        let mut buffer = self.take_buffer();
        // A header is 52 bytes and a worker's read 256: they always fit.
        let len = bytes.len().min(GAME_BUFFER_LEN);
        for (to, from) in buffer.iter_mut().zip(&bytes) {
            *to = *from;
        }
        First { buffer, range: 0..len }
    }
}

/// Connects to the game server and forwards until both sides have ended.
pub(super) async fn run(game: &Rc<Game>, pair: &Rc<Pair>, first: First) {
    let Some(server) = connect(game, pair).await else {
        game.give_back(first.buffer);
        pair.cut(Cut::Unreachable);
        game.count_end(pair.cut.get());
        game.server.look_up_again();
        return;
    };
    keep_alive(&pair.client);
    pair.since_ms.set(game.now_ms.get());
    pair.is_forwarding.set(true);
    let client = Rc::clone(&pair.client);
    let down = Direction::new(game, pair, &server, &client, false);
    let down = spawn(down.run(None));
    Direction::new(game, pair, &client, &server, true).run(Some(first)).await;
    // A task that panics ends the process.
    let _ = down.await;
    game.count_end(pair.cut.get());
    debug!(cut = ?pair.cut.get(), "game connection closed");
}

/// A socket that is connected to one of the server's addresses.
async fn connect(game: &Game, pair: &Pair) -> Option<Rc<Driven>> {
    for address in game.server.addresses() {
        pair.since_ms.set(game.now_ms.get());
        match connect_to(address, pair).await {
            // The connection was ended during the attempt.
            _ if pair.cut.get().is_some() => return None,
            Ok(socket) => return Some(socket),
            Err(error) => {
                debug!(%address, %error, "no connection to the game server");
                game.last_errno.set(error.raw_os_error().unwrap_or(0));
            }
        }
    }
    None
}

async fn connect_to(address: SocketAddr, pair: &Pair) -> io::Result<Rc<Driven>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    let socket = Rc::new(Driven::new(OwnedFd::from(socket)));
    keep_alive(&socket);
    *pair.server.borrow_mut() = Some(Rc::clone(&socket));
    match rustix::net::connect(&*socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        match socket.room().done(&socket).await {
            Ok(()) => break,
            Err(error) if driver::is_passing(&error) => tokio::time::sleep(RETRY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    if let Some(error) = SockRef::from(&*socket).take_error()? {
        return Err(error);
    }
    // Without one it was given up: the sweep has shut it down.
    rustix::net::getpeername(&*socket).map_err(|_| io::Error::from(Errno::TIMEDOUT))?;
    Ok(socket)
}

fn keep_alive(socket: impl AsFd) {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    // If this fails, the connection has ended, and the next operation fails, too.
    let _ = SockRef::from(&socket).set_tcp_keepalive(&keepalive);
}

/// One direction of a connection.
struct Direction {
    game: Rc<Game>,
    pair: Rc<Pair>,
    from: Rc<Driven>,
    to: Rc<Driven>,
    /// From the client to the server.
    is_up: bool,
}

impl Direction {
    fn new(
        game: &Rc<Game>,
        pair: &Rc<Pair>,
        from: &Rc<Driven>,
        to: &Rc<Driven>,
        is_up: bool,
    ) -> Self {
        let (game, pair) = (Rc::clone(game), Rc::clone(pair));
        Self { game, pair, from: Rc::clone(from), to: Rc::clone(to), is_up }
    }

    /// Forwards to the end of this direction.
    async fn run(self, first: Option<First>) {
        let mut buffer = match first {
            Some(First { buffer, range }) => self.send(buffer, range).await,
            None => self.game.take_buffer(),
        };
        while self.pair.cut.get().is_none() {
            let (result, back) = self.from.receive(buffer).done(&self.from).await;
            buffer = back;
            match result {
                _ if self.pair.cut.get().is_some() => {}
                Ok(0) => {
                    let _ = shutdown(&*self.to, Shutdown::Write);
                    break;
                }
                Ok(len) => {
                    self.count(len);
                    buffer = self.send(buffer, 0..len).await;
                }
                Err(error) if driver::is_passing(&error) => tokio::time::sleep(RETRY_PAUSE).await,
                Err(error) => self.fail(&error),
            }
        }
        self.game.give_back(buffer);
    }

    fn count(&self, len: usize) {
        let counters = &self.game.counters;
        let bytes = match self.is_up {
            true => &counters.game_received_bytes,
            false => &counters.game_sent_bytes,
        };
        add(bytes, len as u64);
        self.pair.since_ms.set(self.game.now_ms.get());
    }

    /// Sends all bytes: directly as far as the socket takes them, the rest by the driver.
    async fn send(&self, mut buffer: Buffer, mut range: Range<usize>) -> Buffer {
        let bytes = buffer.get(range.clone()).unwrap_or_default();
        match rustix::net::send(&*self.to, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => range.start += sent,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {}
            Err(error) => self.fail(&error.into()),
        }
        let is_full = match self.is_up {
            true => &self.pair.is_server_full,
            false => &self.pair.is_client_full,
        };
        while !range.is_empty() && self.pair.cut.get().is_none() {
            is_full.set(true);
            let sending = self.to.send_buffer(buffer, range.clone());
            let (result, back) = sending.done(&self.to).await;
            is_full.set(false);
            buffer = back;
            match result {
                Ok(sent) => range.start += sent,
                Err(error) if driver::is_passing(&error) => tokio::time::sleep(RETRY_PAUSE).await,
                Err(error) => self.fail(&error),
            }
        }
        buffer
    }

    fn fail(&self, error: &io::Error) {
        let is_theirs = is_of_peer(error);
        if !is_theirs {
            debug!(%error, "a game connection failed");
        }
        self.pair.cut(if is_theirs { Cut::Reset } else { Cut::Error });
    }
}
