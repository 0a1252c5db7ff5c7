//! How connections come to a worker: accepted, decided on, begun.
//!
//! Accepting is bounded twice: other work has its turn after so many, and nothing is accepted
//! while there is no room to tell a peer that it is refused.

use super::admission::Verdict;
use super::connection::Connection;
use super::counters::add;
use super::errnos;
use super::listener::Listener;
use super::ops::{self, ReadBuffer};
use super::peer::{Peer, Phase};
use super::worker::Worker;
use crate::protocol::Status;
use crate::protocol::session::ServerSession;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// Connections accepted before other work has its turn.
const ACCEPTS_MAX: usize = 64;

/// How long to leave a listener alone after a failed accept: at most 10 failures a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Worker {
    /// Accepts until the worker drains.
    pub(super) async fn accept(self: Rc<Self>, listener: Rc<Listener>) {
        while !self.draining.get() {
            let (result, _) = ops::acceptable(Rc::clone(&listener)).await;
            let accepted = match result {
                Ok(_) if self.draining.get() => return,
                Ok(_) => self.accept_some(&listener),
                Err(error) => Err(error),
            };
            if let Err(error) = accepted {
                add(&self.counters.accept_errors, 1);
                errnos::count(&self.counters.accept_errnos, &error);
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
    fn accept_some(self: &Rc<Self>, listener: &Listener) -> io::Result<()> {
        for _ in 0..ACCEPTS_MAX {
            if !self.may_accept() {
                break;
            }
            match rustix::net::acceptfrom_with(&listener.socket, SocketFlags::CLOEXEC) {
                Ok((socket, address)) => {
                    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
                    if let Some(address) = address {
                        self.welcome(socket, canonical(address), listener.proxy);
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
        let (place, peer) = self.enlist(socket, Phase::of(&verdict));
        self.serve(place, peer, verdict, None);
    }

    /// What becomes of a JS5 connection from `address`.
    pub(super) fn decide(&self, address: SocketAddr) -> Verdict {
        let verdict = match self.draining.get() {
            true => self.config.admission.refuse(Status::ServerFull),
            false => self.config.admission.decide(address),
        };
        if let Verdict::Refused(_, status) = &verdict {
            debug!(%address, ?status, "connection refused");
        }
        verdict
    }

    /// Lets the sweep see a connection.
    pub(super) fn enlist(&self, socket: OwnedFd, phase: Phase) -> (usize, Rc<Peer>) {
        let ordinal = self.snapshot().ordinal();
        let peer = Rc::new(Peer::new(socket, phase, ordinal, self.now_ms()));
        (self.peers.borrow_mut().insert(Rc::clone(&peer)), peer)
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
        read: Option<(ReadBuffer, Range<u16>)>,
    ) {
        let (permit, refusal) = match verdict {
            Verdict::Admitted(permit) => (permit, None),
            Verdict::Refused(permit, status) => (permit, Some(status)),
        };
        let snapshot = self.snapshot();
        peer.serve_from(snapshot.ordinal());
        let session = ServerSession::new(Arc::clone(&self.config.clients), refusal);
        let mut connection = Connection::new(Rc::clone(self), peer, session, snapshot);
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

    /// Tells those that wait to be accepted that they come too late, and shuts the listeners;
    /// unless another process has them, too, which will accept those that wait.
    pub(super) fn stop_listening(self: &Rc<Self>, handed_over: bool) {
        for listener in self.listeners.borrow_mut().drain(..) {
            if handed_over || listener.kept {
                continue;
            }
            if let Err(error) = self.accept_some(&listener) {
                debug!(%error, "connections that wait cannot be told");
            }
            let _ = rustix::net::shutdown(&listener.socket, rustix::net::Shutdown::Both);
        }
    }
}

/// IPv4 addresses as such, also where an inherited socket takes both kinds.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
