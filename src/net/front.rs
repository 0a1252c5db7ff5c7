//! What comes before a session: whose a connection is, and whether it is JS5's at all.
//!
//! A connection to a PROXY listener first sends the header that announces its address. With a
//! game server behind the same port, its first byte decides where it belongs. Until both are
//! known it is an *opening*: it holds a place among a bounded number, and no limit of JS5's or of
//! the game's binds it, as those count the announced address. Without PROXY and without a game
//! server none of this happens: a connection is decided on when it is accepted.

use super::admission::Verdict;
use super::counters::{Close, add};
use super::game::{Door, Handed, reset};
use super::ops::{self, READ_LEN, ReadBuffer};
use super::peer::{Peer, Phase};
use super::worker::{Worker, millis};
use crate::protocol::handshake::is_js5;
use crate::proxy::{Endpoints, HeaderFault, HeaderReader, Progress, Trusted};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tracing::debug;

/// What must be known of a connection before it is decided on. Shared by the workers.
#[derive(Debug)]
pub struct Front {
    /// Whose PROXY headers are believed.
    pub trusted: Trusted,
    /// From accept to a complete PROXY header.
    pub proxy_timeout: Duration,
    /// Openings at once; while there are as many, none is accepted.
    pub openings_max: usize,
    /// The openings that there are.
    pub openings: AtomicUsize,
    /// The way to the game server, if there is one.
    pub game: Option<Door>,
}

impl Front {
    /// Whether there is room for another opening.
    pub(super) fn may_accept(&self) -> bool {
        self.openings.load(Ordering::Relaxed) < self.openings_max
    }

    /// Half of the places are taken: those who say nothing get less time.
    fn is_crowded(&self) -> bool {
        self.openings.load(Ordering::Relaxed) >= self.openings_max.div_ceil(2)
    }
}

/// What a connection has shown of itself.
struct Opened {
    announced: Option<Endpoints>,
    buffer: ReadBuffer,
    /// What of the buffer belongs to the protocol that follows.
    input: Range<u16>,
}

impl Opened {
    fn bytes(&self) -> &[u8] {
        let range = usize::from(self.input.start)..usize::from(self.input.end);
        self.buffer.get(range).unwrap_or_default()
    }
}

impl Worker {
    /// Whether connections of this listener are decided on only when they have shown more.
    pub(super) fn has_front(&self, proxy: bool) -> bool {
        proxy || self.config.front.game.is_some()
    }

    /// Takes in a connection about which more must be known.
    pub(super) fn open(self: &Rc<Self>, socket: OwnedFd, address: SocketAddr, proxy: bool) {
        let front = &self.config.front;
        if proxy && !front.trusted.contains(address.ip()) {
            self.counters.count_close(Close::ProxyUntrusted);
            debug!(%address, "closed: its network is not among --proxy-trusted");
            return;
        }
        front.openings.fetch_add(1, Ordering::Relaxed);
        let phase = if proxy { Phase::Proxy } else { Phase::Opening };
        let (place, peer) = self.enlist(socket, phase);
        let worker = Rc::clone(self);
        tokio_uring::spawn(async move {
            let opened = worker.hear(&peer, address, proxy).await;
            worker.config.front.openings.fetch_sub(1, Ordering::Relaxed);
            match opened {
                Ok(opened) => worker.go_on(place, peer, address, opened),
                Err(reason) => {
                    worker.strike(place);
                    worker.counters.count_close(reason);
                    debug!(%address, ?reason, "connection closed");
                }
            }
        });
    }

    /// Reads until it is known whose connection this is and what for.
    async fn hear(
        &self,
        peer: &Rc<Peer>,
        address: SocketAddr,
        proxy: bool,
    ) -> Result<Opened, Close> {
        let buffer = Box::new([0; READ_LEN]);
        let mut opened = Opened { announced: None, buffer, input: 0..0 };
        if proxy {
            opened = self.hear_header(peer, address, opened).await?;
            peer.enter(Phase::Opening, self.now_ms());
        }
        if self.config.front.game.is_some() && opened.input.is_empty() {
            opened = self.read(peer, opened).await?;
        }
        Ok(opened)
    }

    async fn hear_header(
        &self,
        peer: &Rc<Peer>,
        address: SocketAddr,
        mut opened: Opened,
    ) -> Result<Opened, Close> {
        let mut reader = HeaderReader::default();
        loop {
            opened = self.read(peer, opened).await?;
            match reader.receive(opened.bytes()) {
                Ok(Progress::Partial) => {}
                Ok(Progress::Whole { announced, taken }) => {
                    // It belongs to what was read last, 256 bytes at most.
                    opened.input.start += u16::try_from(taken).unwrap_or_default();
                    opened.announced = announced;
                    self.count_header(address, announced);
                    return Ok(opened);
                }
                Err(HeaderFault::Malformed) => return Err(Close::ProxyMalformed),
                Err(HeaderFault::TooLong) => return Err(Close::ProxyTooLong),
            }
        }
    }

    fn count_header(&self, address: SocketAddr, announced: Option<Endpoints>) {
        if let Some(Endpoints { source, .. }) = announced {
            add(&self.counters.proxy_headers, 1);
            debug!(%address, announced = %source, "PROXY header");
        } else {
            add(&self.counters.proxy_headers_local, 1);
            debug!(%address, "PROXY header without an address");
        }
    }

    /// Reads at least a byte.
    async fn read(&self, peer: &Rc<Peer>, mut opened: Opened) -> Result<Opened, Close> {
        loop {
            let (result, (buffer, _)) = ops::receive(opened.buffer, Rc::clone(peer)).await;
            opened.buffer = buffer;
            if let Some(reason) = peer.cut.get() {
                return Err(reason);
            }
            match result {
                Ok(0) => return Err(Close::ByPeer),
                Ok(len) => {
                    opened.input = 0..u16::try_from(len).unwrap_or_default();
                    return Ok(opened);
                }
                Err(error) if ops::is_passing(&error) => drop(ops::pause().await),
                Err(error) => return Err(self.reason_of(&error)),
            }
        }
    }

    /// Decides on a connection that has shown what it is.
    fn go_on(self: &Rc<Self>, place: usize, peer: Rc<Peer>, address: SocketAddr, opened: Opened) {
        let source = opened.announced.map_or(address, |ends| ends.source);
        let Some(door) = &self.config.front.game else {
            let verdict = self.decide(source);
            peer.enter(Phase::of(&verdict), self.now_ms());
            return self.serve(place, peer, verdict, Some((opened.buffer, opened.input)));
        };
        if !opened.bytes().first().copied().is_some_and(is_js5) {
            return self.hand_on(door, place, peer, address, &opened);
        }
        let may_linger = self.config.admission.may_accept();
        match self.decide(source) {
            Verdict::Refused(_, status) if !may_linger => {
                self.counters.count_status(status);
                self.counters.count_close(Close::Refused);
                refuse_at_once(&*peer, status.to_byte());
                self.strike(place);
            }
            verdict => {
                match verdict {
                    Verdict::Admitted(_) => peer.go_on_as(Phase::Handshake),
                    Verdict::Refused(..) => peer.enter(Phase::Refusing, self.now_ms()),
                }
                self.serve(place, peer, verdict, Some((opened.buffer, opened.input)));
            }
        }
    }

    /// Gives a connection to the game's thread, if its limits have room.
    fn hand_on(
        &self,
        door: &Door,
        place: usize,
        peer: Rc<Peer>,
        address: SocketAddr,
        opened: &Opened,
    ) {
        self.strike(place);
        // The last one that holds it: nothing is under way on it.
        let Some(socket) = Rc::into_inner(peer).map(Peer::into_socket) else { return };
        if self.is_stopping() {
            self.counters.count_close(Close::Drain);
            return;
        }
        let announced = opened.announced;
        let source = announced.map_or(address, |ends| ends.source);
        let Verdict::Admitted(permit) = door.admission.decide(source) else {
            add(&self.counters.game_refused, 1);
            debug!(%address, %source, "closed: a limit of game connections");
            return reset(&socket);
        };
        add(&self.counters.game_accepted, 1);
        debug!(%address, %source, "handed on to the game server");
        let first = opened.bytes().to_vec();
        door.hand_on(Handed { socket, address, announced, first, permit });
    }

    /// Holds a connection that has not shown what it is to its deadline. True if it is cut.
    pub(super) fn enforce_opening(&self, peer: &Peer, now_ms: u64) -> bool {
        let (timeout, reason) = match peer.phase() {
            Phase::Proxy => (self.config.front.proxy_timeout, Close::ProxyTimeout),
            Phase::Opening => (self.config.limits.handshake_timeout, Close::HandshakeTimeout),
            _ => return false,
        };
        let is_stopping = self.is_stopping();
        let timeout = match is_stopping || self.config.front.is_crowded() {
            true => timeout.min(self.config.limits.linger_timeout),
            false => timeout,
        };
        let is_late = peer.waited_ms(now_ms) > millis(timeout);
        if is_late {
            peer.cut(if is_stopping { Close::Drain } else { reason });
        }
        is_late
    }
}

impl Phase {
    /// How a connection goes on that was decided on.
    pub(super) fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Admitted(_) => Self::Handshake,
            Verdict::Refused(..) => Self::Refusing,
        }
    }
}

/// Tells a peer why it is refused and lets it go without waiting for it: as many as may be
/// waited for are being told already, and a game client must not wait behind them. What it has
/// sent is read first, as unread input would make the close a reset.
fn refuse_at_once(socket: impl AsFd, status: u8) {
    let mut discarded = [0; READ_LEN];
    let _ = rustix::net::recv(&socket, &mut discarded, RecvFlags::DONTWAIT);
    let _ = rustix::net::send(&socket, &[status], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    let _ = rustix::net::shutdown(&socket, Shutdown::Write);
}
