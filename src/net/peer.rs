//! What a worker's sweep knows of a connection: its socket, what it waits for, since when.
//!
//! The connection's task writes it, the heartbeat reads it; both are on one thread. Deadlines
//! live here, not around operations: an operation that is dropped is not cancelled, so a late
//! peer's socket is shut down instead, which ends its operations.

use super::counters::Close;
use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::task::{Context, Waker};
use std::time::Duration;

/// What a connection waits for, and so which deadline holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A PROXY header.
    Proxy,
    /// The first byte, which tells whether it is JS5's.
    Opening,
    /// The five bytes of the handshake.
    Handshake,
    /// The handshake of a peer that will be refused.
    Refusing,
    /// Requests.
    Idle,
    /// The peer, to take in what is sent.
    Sending,
    /// The peer, to end its side after an orderly close.
    Lingering,
    /// Us, to let it have more under a cap.
    Credit,
    /// As `Credit`, of a peer that has ended its side, or is gone: which of the two shows when
    /// it is sent something.
    LastCredit,
}

/// One connection, as the sweep sees it.
#[derive(Debug)]
pub(super) struct Peer {
    socket: OwnedFd,
    phase: Cell<Phase>,
    /// Which snapshot it is served from: see [`crate::catalog::Snapshot::ordinal`].
    ordinal: Cell<u32>,
    /// When the phase began or last made progress, in milliseconds of the worker's clock.
    since_ms: Cell<u64>,
    /// While sending: when the kernel was last asked for progress, and what it said.
    sampled_ms: Cell<u64>,
    acknowledged: Cell<u64>,
    /// The peer takes in less than it asks for: send little at a time, and read on meanwhile.
    pub(super) slow: Cell<bool>,
    /// Set by the sweep: the connection is to end for this reason.
    pub(super) cut: Cell<Option<Close>>,
    /// Set by the sweep for a refused peer whose handshake is late.
    pub(super) hurry: Cell<bool>,
    /// Set by the sweep: answer what is queued, then end in good order, as its snapshot is old.
    pub(super) leave: Cell<bool>,
    /// Its number among those that share the line; none without a cap.
    pub(super) share: Cell<Option<NonZeroU32>>,
    waker: RefCell<Option<Waker>>,
}

impl Peer {
    pub(super) fn new(socket: OwnedFd, phase: Phase, ordinal: u32, now_ms: u64) -> Self {
        Self {
            socket,
            phase: Cell::new(phase),
            ordinal: Cell::new(ordinal),
            since_ms: Cell::new(now_ms),
            sampled_ms: Cell::new(now_ms),
            acknowledged: Cell::new(0),
            slow: Cell::new(false),
            cut: Cell::new(None),
            hurry: Cell::new(false),
            leave: Cell::new(false),
            share: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// It is served from this snapshot on.
    pub(super) fn serve_from(&self, ordinal: u32) {
        self.ordinal.set(ordinal);
    }

    /// The socket, for whoever goes on with it.
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub(super) fn ordinal(&self) -> u32 {
        self.ordinal.get()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Begins a phase, or notes progress in it.
    #[inline]
    pub(super) fn enter(&self, phase: Phase, now_ms: u64) {
        self.phase.set(phase);
        self.since_ms.set(now_ms);
        self.sampled_ms.set(now_ms);
    }

    /// Goes on in another phase, whose deadline has been running already.
    pub(super) fn go_on_as(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Milliseconds without progress.
    pub(super) fn waited_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms.get())
    }

    /// Milliseconds since the kernel was asked for progress, or since there was some.
    pub(super) fn unsampled_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.sampled_ms.get())
    }

    /// Takes note of what the kernel says the peer has acknowledged; more is progress.
    pub(super) fn sample(&self, acknowledged: u64, now_ms: u64) {
        self.sampled_ms.set(now_ms);
        if self.acknowledged.replace(acknowledged) != acknowledged {
            self.since_ms.set(now_ms);
        }
    }

    /// The same before there is anything to compare with.
    pub(super) fn look(&self, acknowledged: u64, now_ms: u64) {
        self.sampled_ms.set(now_ms);
        self.acknowledged.set(acknowledged);
    }

    /// Remembers the connection's task, so that the sweep can wake it. A task's wakers are
    /// alike, so the first is kept.
    #[inline]
    pub(super) fn remember(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(context.waker().clone());
        }
    }

    /// Wakes the connection's task to look at what the sweep has set.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Ends the connection: its operations complete, its task sees the reason.
    pub(super) fn cut(&self, reason: Close) {
        if self.cut.get().is_none() {
            self.cut.set(Some(reason));
        }
        if matches!(reason, Close::SendTimeout | Close::Drain | Close::Generation) {
            // The kernel would go on offering what it holds to a peer that takes nothing, and
            // keep the memory for minutes; a reset ends that.
            let _ = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
        }
        self.shut_down();
        self.wake();
    }

    /// Shuts both sides down, so that operations under way complete.
    pub(super) fn shut_down(&self) {
        // An error means that it is over already.
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Both);
    }

    /// Ends our side in good order: what was sent is delivered, then the end of the stream.
    pub(super) fn end_output(&self) {
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Write);
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
