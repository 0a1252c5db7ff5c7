//! How connections come to a worker: accepted, decided on, begun.
//!
//! Accepting is bounded twice: other work has its turn after so many, and nothing is accepted
//! while there is no room to tell a peer that it is refused.

use super::connection::{Connection, Opening, refuse_at_once, take_silent_place};
use super::connections::Connections;
use super::count::{Close, add, count_errno};
use super::driver::{self, Socket};
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
use tracing::debug;

/// Connections accepted before other work has its turn.
const ACCEPTS_MAX: usize = 64;

/// How long to leave a listener alone after a failed accept: at most 10 failures a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the worker drains.
pub(super) async fn accept(listener: &Listener, connections: &Connections, shared: &Shared) {
    while !shared.is_draining() {
        let waits = driver::connection_waits(listener.socket.as_fd()).await;
        let accepted = match waits {
            Ok(()) if shared.is_draining() => return,
            Ok(()) => accept_some(listener, connections, shared),
            Err(error) => Err(error),
        };
        if let Err(error) = accepted {
            add(&shared.counters.accept_errors, 1);
            count_errno(&shared.counters.accept_errnos, &error);
            debug!(%error, "accept failed");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        while !may_accept(shared) {
            // Each refused peer is given the time to read why; the others wait their turn.
            tokio::time::sleep(ACCEPT_PAUSE / 10).await;
        }
    }
}

/// Whether there is room for whatever comes. With a game server, game connections come too, and
/// do not wait for JS5 peers that are being refused.
fn may_accept(shared: &Shared) -> bool {
    let front = &shared.config.front;
    front.may_accept() && (front.game.is_some() || shared.config.admission.may_accept())
}

/// Accepts what waits, up to a share.
fn accept_some(listener: &Listener, connections: &Connections, shared: &Shared) -> io::Result<()> {
    for _ in 0..ACCEPTS_MAX {
        if !may_accept(shared) {
            break;
        }
        match rustix::net::acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC) {
            Ok((socket, address)) => {
                let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                if let Some(address) = address {
                    welcome(socket, canonical(address), listener.proxy, connections, shared);
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

fn welcome(
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
    // All clients of a balancer have its address; their own is counted once it is announced.
    let silent = match proxy {
        true => Ok(None),
        false => take_silent_place(&socket, address, &[], shared),
    };
    let silent = match silent {
        Ok(silent) => silent,
        Err(reason) => {
            refuse_at_once(&socket, Status::TooManyConnections);
            return shared.counters.count_close(reason);
        }
    };
    let socket = Socket::new(socket);
    connections.insert(if front.is_needed(proxy) {
        Connection::opening(socket, Opening::new(address, proxy, silent, shared))
    } else {
        Connection::new(socket, shared.decide(address), silent, shared)
    });
}

/// Tells those that wait to be accepted that they come too late, and shuts the listeners; unless
/// another process has them, too, which will accept those that wait.
pub(super) fn stop_listening(
    listeners: &[Rc<Listener>],
    handed_over: bool,
    connections: &Connections,
    shared: &Shared,
) {
    for listener in listeners {
        if handed_over || listener.kept {
            continue;
        }
        if let Err(error) = accept_some(listener, connections, shared) {
            debug!(%error, "connections that wait cannot be told");
        }
        let _ = rustix::net::shutdown(&listener.socket, rustix::net::Shutdown::Both);
    }
}

/// IPv4 addresses as such, also where an inherited socket takes both kinds.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
