//! How a worker accepts connections, admits or refuses them, and starts them.
//!
//! Accepting is bounded twice: after `ACCEPTS_MAX` connections other tasks run, and no connection
//! is accepted while `--refusals-max` refused ones are open, as it might have to be refused, too.

use super::connection::{Connection, Opening, refuse_at_once, take_silent_permit};
use super::connections::Connections;
use super::count::{Close, add, count_errno, is_of_listener};
use super::driver::{self, Socket, spawn};
use super::listener::Listener;
use super::shared::Shared;
use crate::protocol::Status;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tracing::{debug, error};

/// Connections accepted before other tasks run.
const ACCEPTS_MAX: usize = 64;

/// How long a listener pauses after a failed accept, so that there are 10 failures a second at
/// most.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether connections may still wait to be accepted.
enum Backlog {
    Empty,
    More,
}

/// Accepts until the worker drains. If the server stops, refuses the connections that wait to be
/// accepted.
pub(super) async fn accept(listener: &Listener, connections: &Connections, shared: &Shared) {
    let mut is_lost = false;
    while !shared.is_draining() && !is_lost {
        let waits = driver::connection_waits(listener.socket.as_fd()).await;
        let accepted = match waits {
            // `stop_listening` has ended the wait, or a connection came as the worker began to
            // drain.
            _ if shared.is_draining() => break,
            Ok(()) => accept_some(listener, connections, shared),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            is_lost = accept_failed(listener, &error, shared);
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        while !may_accept(shared) && !shared.is_draining() {
            // Refused peers are given time to read their status; further ones wait meanwhile.
            tokio::time::sleep(ACCEPT_PAUSE / 10).await;
        }
    }
    if shared.is_stopping() && !is_lost && !listener.kept {
        refuse_waiting(listener, connections, shared).await;
    }
    shared.accepting.set(shared.accepting.get() - 1);
}

/// Counts and logs a failed accept. True if the listener is lost, so that no accept can succeed.
fn accept_failed(listener: &Listener, error: &io::Error, shared: &Shared) -> bool {
    add(&shared.counters.accept_errors, 1);
    count_errno(&shared.counters.accept_errnos, error);
    debug!(%error, "accept failed");
    let is_lost = is_of_listener(error);
    if is_lost {
        add(&shared.counters.listeners_lost, 1);
        let address = listener.address;
        error!(
            "no connection can be accepted on {address} any more: {error}; another process that \
             holds the same socket has shut it down: start js5d again"
        );
    }
    is_lost
}

/// Refuses all connections that wait to be accepted, at most `--refusals-max` at a time.
async fn refuse_waiting(listener: &Listener, connections: &Connections, shared: &Shared) {
    while !shared.drain_timed_out.get() {
        if may_accept(shared) {
            match accept_some(listener, connections, shared) {
                Ok(Backlog::Empty) => return,
                Ok(Backlog::More) => {
                    // Lets other tasks run.
                    driver::everything_tried().await;
                    continue;
                }
                Err(error) if accept_failed(listener, &error, shared) => return,
                Err(_) => {}
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE / 10).await;
    }
}

/// Whether there is room for another connection. With a game server, accepting goes on while JS5
/// peers are being refused, because the next connection may be a game client's.
fn may_accept(shared: &Shared) -> bool {
    let front = &shared.config.front;
    front.may_accept() && (front.game.is_some() || shared.config.admission.may_accept())
}

/// Accepts up to `ACCEPTS_MAX` connections that wait.
fn accept_some(
    listener: &Listener,
    connections: &Connections,
    shared: &Shared,
) -> io::Result<Backlog> {
    for _ in 0..ACCEPTS_MAX {
        if !may_accept(shared) {
            break;
        }
        match rustix::net::acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC) {
            Ok((socket, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                if let Some(address) = address {
                    take_in(socket, canonical(address), listener.proxy, connections, shared);
                }
            }
            Err(Errno::AGAIN) => return Ok(Backlog::Empty),
            // The peer has already gone.
            Err(Errno::CONNABORTED | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Backlog::More)
}

fn take_in(
    socket: OwnedFd,
    address: SocketAddr,
    proxy: bool,
    connections: &Connections,
    shared: &Shared,
) {
    add(&shared.counters.accepted, 1);
    let front = &shared.config.front;
    if proxy && !front.trusted.contains(address.ip()) {
        shared.counters.count_close(Close::ProxyUntrusted);
        debug!(%address, "closed: its network is not among --proxy-trusted");
        return;
    }
    // All clients of a balancer share its address, so a connection with a PROXY header is counted
    // when its own address has been announced.
    let silent = match proxy {
        true => Ok(None),
        false => take_silent_permit(&socket, address, &[], shared),
    };
    let silent = match silent {
        Ok(silent) => silent,
        Err(reason) => {
            refuse_at_once(&socket, Status::TooManyConnections);
            return shared.counters.count_close(reason);
        }
    };
    let socket = Socket::new(socket);
    let connection = if front.is_needed(proxy) {
        Connection::opening(socket, Opening::new(address, proxy, silent, shared))
    } else {
        Connection::new(socket, shared.decide(address), silent, shared)
    };
    connections.insert(connection, shared);
}

/// Ends the waits of the tasks that accept, which then find that the worker drains and close their
/// listeners. There is no shutdown(2), because that would act on every process that has the
/// sockets; the port is closed when the last of these processes has closed them.
pub(super) fn stop_listening(listeners: Vec<Rc<Listener>>) {
    for listener in listeners {
        spawn(async move { driver::give_up_waiting(listener.socket.as_fd()).await });
    }
}

/// Turns an IPv4-mapped IPv6 address, as an inherited socket for both kinds reports it, into an
/// IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
