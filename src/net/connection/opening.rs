//! What comes before a session: the address that a balancer announces, and the first byte, which
//! tells a JS5 connection from a game connection.
//!
//! A connection to a PROXY listener first sends the header that announces its address. With a
//! game server behind the same port, its first byte decides where it belongs. Until both are
//! known it is an *opening*. Openings are bounded in number; the limits on JS5 and on game
//! connections do not apply to them yet, because these limits count the announced address. Without
//! PROXY and without a game server there are no openings: a connection is admitted or refused when
//! it is accepted.

use super::Check;
use crate::net::control::millis;
use crate::net::count::{Close, add};
use crate::net::driver::READ_LEN;
use crate::net::openings::{SilentPermit, has_spoken};
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
    /// The first byte, which tells whether this is a JS5 connection.
    FirstByte,
}

/// A connection before it is known whose it is and which protocol it speaks.
pub(in crate::net) struct Opening {
    /// The address that the connection came from; behind a balancer, the balancer's.
    address: SocketAddr,
    /// The addresses that a balancer announced.
    announced: Option<Endpoints>,
    reader: HeaderReader,
    /// Counts the connection among the silent ones of its address.
    silent: Option<Box<SilentPermit>>,
    kind: OpeningKind,
    /// When the wait for `kind` began, in milliseconds of the worker's clock.
    since_ms: u64,
    ending: Option<Close>,
    /// The connection still counts among the openings.
    holds_place: bool,
}

/// What the bytes received so far show. `taken`: how many of the bytes just given belong to a PROXY
/// header, and not to the protocol behind it.
pub(super) enum Opened {
    /// More bytes are needed.
    Partial { taken: u16 },
    /// It is a JS5 connection.
    Js5 { taken: u16 },
    /// It is a game connection.
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
    /// A connection that was accepted; it counts among the openings from here on.
    pub(in crate::net) fn new(
        address: SocketAddr,
        proxy: bool,
        silent: Option<Box<SilentPermit>>,
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
            holds_place: true,
        }
    }

    /// The address that the connection came from; behind a balancer, the balancer's.
    pub(in crate::net) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses that a balancer announced.
    pub(in crate::net) fn announced(&self) -> Option<Endpoints> {
        self.announced
    }

    /// The peer's own address: the announced one, if there is one.
    pub(in crate::net) fn source(&self) -> SocketAddr {
        self.announced.map_or(self.address, |ends| ends.source)
    }

    /// Why the connection ends; none while it does not.
    pub(super) fn ending(&self) -> Option<Close> {
        self.ending
    }

    /// Ends the connection. If this is called more than once, the first reason holds.
    pub(super) fn cut(&mut self, reason: Close) {
        self.ending.get_or_insert(reason);
    }

    /// Has the connection no longer count among the openings. Returns when its wait began, in
    /// milliseconds of the worker's clock.
    pub(in crate::net) fn release_place(&mut self, shared: &Shared) -> u64 {
        if std::mem::take(&mut self.holds_place) {
            shared.config.front.openings.fetch_sub(1, Ordering::Relaxed);
        }
        self.since_ms
    }

    /// Takes the permit that counts the connection among the silent ones of its address.
    pub(super) fn take_silent_permit(&mut self) -> Option<Box<SilentPermit>> {
        self.silent.take()
    }

    /// Takes bytes that were received from `socket`.
    pub(super) fn receive(&mut self, bytes: &[u8], socket: impl AsFd, shared: &Shared) -> Opened {
        let mut taken = 0;
        if self.kind == OpeningKind::Proxy {
            match self.reader.receive(bytes) {
                Ok(Progress::Partial) => return Opened::Partial { taken: all(bytes) },
                Ok(Progress::Whole { announced, taken: header }) => {
                    // The header's last bytes are among these, which are 256 at most.
                    taken = u16::try_from(header).unwrap_or_default();
                    self.announced = announced;
                    self.kind = OpeningKind::FirstByte;
                    self.since_ms = shared.now_ms();
                    self.count_header(shared);
                    let said = bytes.get(header..).unwrap_or_default();
                    if announced.is_some() {
                        match take_silent_permit(socket, self.source(), said, shared) {
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

    /// Checks the opening's deadline, and cuts it if the deadline has passed.
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

/// Counts a connection from `source` among the silent ones of its address. None if silent
/// connections are not bounded. None also if the bound is reached and the connection is not silent:
/// what it needs to say has arrived already, in `said` or in its socket.
///
/// # Errors
/// The bound is reached and the connection is silent: the caller refuses it.
pub(in crate::net) fn take_silent_permit(
    socket: impl AsFd,
    source: SocketAddr,
    said: &[u8],
    shared: &Shared,
) -> Result<Option<Box<SilentPermit>>, Close> {
    let openings = &shared.config.front.openings_by_address;
    if !openings.is_bounded() {
        return Ok(None);
    }
    let place = openings.take(source.ip());
    if place.is_some() || has_spoken(said) || (said.is_empty() && has_spoken_unread(&socket)) {
        return Ok(place);
    }
    shared.notes.crowded.set(Some(source.ip()));
    shared.counters.count_status(Status::TooManyConnections);
    debug!(%source, "closed: its address has as many silent connections as --openings-per-ip-max");
    Err(Close::Openings)
}

/// Whether the unread bytes in the socket make the connection count as not silent.
fn has_spoken_unread(socket: impl AsFd) -> bool {
    let mut said = [0; HANDSHAKE_LEN];
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    rustix::net::recv(socket, &mut said, flags)
        .is_ok_and(|(len, _)| said.get(..len).is_some_and(has_spoken))
}

fn all(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

/// Sends a refused peer its status and ends our side, without lingering. Used where
/// `--refusals-max` refused peers linger already and game clients must not wait behind them. The
/// peer's input is read first, because unread input would turn the close into a reset.
pub(in crate::net) fn refuse_at_once(socket: impl AsFd, status: Status) {
    let mut discarded = [0; READ_LEN];
    let _ = rustix::net::recv(&socket, &mut discarded, RecvFlags::DONTWAIT);
    let (status, flags) = ([status.to_byte()], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::send(&socket, &status, flags);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
}
