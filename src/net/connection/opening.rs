//! What comes before a session: whose a connection is, and whether it is JS5's at all. Pure state.
//!
//! A connection to a PROXY listener first sends the header that announces its address. With a
//! game server behind the same port, its first byte decides where it belongs. Until both are
//! known it is an *opening*: it holds a place among a bounded number, and no limit of JS5's or of
//! the game's binds it, as those count the announced address. Without PROXY and without a game
//! server none of this happens: a connection is decided on when it is accepted.

use super::Check;
use crate::net::control::millis;
use crate::net::count::{Close, add};
use crate::net::driver::READ_LEN;
use crate::net::openings::{SilentPlace, has_spoken};
use crate::net::shared::Shared;
use crate::protocol::Status;
use crate::protocol::handshake::{HANDSHAKE_LEN, is_js5};
use crate::proxy::{Endpoints, HeaderFault, HeaderReader, Progress};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use tracing::debug;

/// What an opening waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::net) enum OpeningKind {
    /// A PROXY header.
    Proxy,
    /// The first byte, which tells whether it is JS5's.
    FirstByte,
}

/// A connection of which more must be known.
pub(in crate::net) struct Opening {
    /// Where it comes from.
    address: SocketAddr,
    /// What a balancer announced.
    announced: Option<Endpoints>,
    reader: HeaderReader,
    /// Its place among those of its address that have said nothing yet.
    silent: Option<Box<SilentPlace>>,
    kind: OpeningKind,
    since_ms: u64,
    ending: Option<Close>,
    /// It still holds its place among the openings.
    counts: bool,
}

/// What bytes showed; with how many of them belong to what comes before the protocol.
pub(super) enum Opened {
    /// Not enough.
    Partial { taken: u16 },
    /// It is JS5's.
    Js5 { taken: u16 },
    /// It is the game server's.
    Game { taken: u16 },
}

impl Opened {
    pub(super) fn taken(&self) -> u16 {
        match *self {
            Self::Partial { taken } | Self::Js5 { taken } | Self::Game { taken } => taken,
        }
    }
}

impl Opening {
    /// A connection that was accepted. It takes a place among the openings.
    pub(in crate::net) fn new(
        address: SocketAddr,
        proxy: bool,
        silent: Option<Box<SilentPlace>>,
        shared: &Shared,
    ) -> Self {
        shared.config.front.openings.fetch_add(1, Ordering::Relaxed);
        Self {
            address,
            announced: None,
            reader: HeaderReader::default(),
            silent,
            kind: if proxy { OpeningKind::Proxy } else { OpeningKind::FirstByte },
            since_ms: shared.now_ms(),
            ending: None,
            counts: true,
        }
    }

    /// Where it comes from.
    pub(in crate::net) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a balancer announced.
    pub(in crate::net) fn announced(&self) -> Option<Endpoints> {
        self.announced
    }

    /// Whose it is.
    pub(in crate::net) fn source(&self) -> SocketAddr {
        self.announced.map_or(self.address, |ends| ends.source)
    }

    /// Why it ends, if it does.
    pub(super) fn ending(&self) -> Option<Close> {
        self.ending
    }

    /// It is to end.
    pub(super) fn cut(&mut self, reason: Close) {
        self.ending.get_or_insert(reason);
    }

    /// Gives its place up, once. Since when it waits comes back.
    pub(in crate::net) fn leave(&mut self, shared: &Shared) -> u64 {
        if std::mem::take(&mut self.counts) {
            shared.config.front.openings.fetch_sub(1, Ordering::Relaxed);
        }
        self.since_ms
    }

    /// The place that it holds among the silent ones of its address.
    pub(super) fn take_silent_place(&mut self) -> Option<Box<SilentPlace>> {
        self.silent.take()
    }

    /// Takes in what was read of `socket`.
    pub(super) fn receive(&mut self, bytes: &[u8], socket: impl AsFd, shared: &Shared) -> Opened {
        let mut taken = 0;
        if self.kind == OpeningKind::Proxy {
            match self.reader.receive(bytes) {
                Ok(Progress::Partial) => return Opened::Partial { taken: all(bytes) },
                Ok(Progress::Whole { announced, taken: header }) => {
                    // It belongs to what was read last, 256 bytes at most.
                    taken = u16::try_from(header).unwrap_or_default();
                    self.announced = announced;
                    self.kind = OpeningKind::FirstByte;
                    self.since_ms = shared.now_ms();
                    self.count_header(shared);
                    let said = bytes.get(header..).unwrap_or_default();
                    if announced.is_some() {
                        match take_silent_place(socket, self.source(), said, shared) {
                            Ok(place) => self.silent = place,
                            Err(reason) => {
                                self.cut(reason);
                                return Opened::Partial { taken: all(bytes) };
                            }
                        }
                    }
                }
                Err(fault) => {
                    self.cut(match fault {
                        HeaderFault::Malformed => Close::ProxyMalformed,
                        HeaderFault::TooLong => Close::ProxyTooLong,
                    });
                    return Opened::Partial { taken: all(bytes) };
                }
            }
        }
        if shared.config.front.game.is_none() {
            return Opened::Js5 { taken };
        }
        match bytes.get(usize::from(taken)) {
            None => Opened::Partial { taken },
            Some(&first) if is_js5(first) => Opened::Js5 { taken },
            Some(_) => Opened::Game { taken },
        }
    }

    fn count_header(&self, shared: &Shared) {
        let address = self.address;
        if let Some(Endpoints { source, .. }) = self.announced {
            add(&shared.counters.proxy_headers, 1);
            debug!(%address, announced = %source, "PROXY header");
        } else {
            add(&shared.counters.proxy_headers_local, 1);
            debug!(%address, "PROXY header without an address");
        }
    }

    /// Holds it to its deadline.
    pub(super) fn check(&mut self, shared: &Shared) -> Check {
        if self.ending.is_some() {
            return Check::Fine;
        }
        let (front, limits) = (&shared.config.front, &shared.config.limits);
        let (timeout, reason) = match self.kind {
            OpeningKind::Proxy => (front.proxy_timeout, Close::ProxyTimeout),
            OpeningKind::FirstByte => (limits.handshake_timeout, Close::HandshakeTimeout),
        };
        let is_stopping = shared.is_stopping();
        let timeout = match is_stopping || front.is_crowded() {
            true => timeout.min(limits.linger_timeout),
            false => timeout,
        };
        if shared.now_ms().saturating_sub(self.since_ms) <= millis(timeout) {
            return Check::Fine;
        }
        self.cut(if is_stopping { Close::Drain } else { reason });
        Check::Acts
    }
}

/// The place of a connection from `source` among those that have said nothing yet; none for one
/// that has `said` enough, here or in what waits to be read, and none without a bound.
///
/// # Errors
/// Its address has no place left: the peer is to be told so, and closed.
pub(in crate::net) fn take_silent_place(
    socket: impl AsFd,
    source: SocketAddr,
    said: &[u8],
    shared: &Shared,
) -> Result<Option<Box<SilentPlace>>, Close> {
    let openings = &shared.config.front.openings_by_address;
    if !openings.is_bounded() {
        return Ok(None);
    }
    let place = openings.take(source.ip());
    if place.is_some() || has_spoken(said) || (said.is_empty() && is_heard(&socket)) {
        return Ok(place);
    }
    shared.notes.crowded.set(Some(source.ip()));
    shared.counters.count_status(Status::TooManyConnections);
    debug!(%source, "closed: as many of its address have said nothing yet as may");
    Err(Close::Openings)
}

/// Whether what waits to be read is all that is waited for.
fn is_heard(socket: impl AsFd) -> bool {
    let mut said = [0; HANDSHAKE_LEN];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    rustix::net::recv(socket, &mut said, flags)
        .is_ok_and(|(len, _)| said.get(..len).is_some_and(has_spoken))
}

fn all(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// Tells a peer why it is refused and lets it go without waiting for it: as many as may be
/// waited for are being told already, and a game client must not wait behind them. What it has
/// sent is read first, as unread input would make the close a reset.
pub(in crate::net) fn refuse_at_once(socket: impl AsFd, status: Status) {
    let mut discarded = [0; READ_LEN];
    let _ = rustix::net::recv(&socket, &mut discarded, RecvFlags::DONTWAIT);
    let (status, flags) = ([status.to_byte()], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::send(&socket, &status, flags);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
}
