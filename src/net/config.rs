//! What all workers share.

use super::admission::Admission;
use super::count::LogGates;
use super::driver::Driver;
use super::game::Door;
use super::line::Shaper;
use super::openings::Openings;
use crate::catalog::SnapshotHandle;
use crate::protocol::Clients;
use crate::proxy::Trusted;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Deadlines and bounds of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// From accept to the handshake's last byte.
    pub handshake_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// How long a peer that is sent to may make no progress.
    pub send_timeout: Duration,
    /// How long a peer that was sent the end may take to end its own side.
    pub linger_timeout: Duration,
    /// How long after a reload a quiet connection of an earlier generation is ended; none is never.
    pub generation_timeout: Option<Duration>,
    /// From the stop signal until connections that are left are cut.
    pub drain_timeout: Duration,
    /// Messages and reads a second that ask for nothing.
    pub chatter_max: u32,
    /// Close a connection that asks for a group that the cache lacks; else ignore the request.
    pub close_on_missing_group: bool,
    /// Break off a prefetch response for an urgent one, where the client allows it.
    pub break_off: bool,
}

/// What all workers share.
#[derive(Debug)]
pub struct ServeConfig {
    /// The driver of the workers.
    pub driver: Driver,
    /// Deadlines and bounds.
    pub limits: ConnectionLimits,
    /// The clients that sessions serve.
    pub clients: Arc<Clients>,
    /// The limits of connections.
    pub admission: Arc<Admission>,
    /// What happens to a connection before it is admitted or refused.
    pub front: Front,
    /// The current snapshot.
    pub snapshots: Arc<SnapshotHandle>,
    /// Shares the line among all connections; none without a cap.
    pub shaper: Option<Arc<Shaper>>,
    /// Bounds what the workers log.
    pub log_gates: LogGates,
}

/// What happens to a connection before it is admitted or refused: PROXY headers, and the game
/// server behind the same port.
#[derive(Debug)]
pub struct Front {
    /// The networks whose PROXY headers are believed.
    pub trusted: Trusted,
    /// From accept to a complete PROXY header.
    pub proxy_timeout: Duration,
    /// The most openings at once; while there are so many, no connection is accepted.
    pub openings_max: usize,
    /// The number of openings at this moment.
    pub openings: AtomicUsize,
    /// Silent connections by address: openings, and handshakes that are awaited.
    pub openings_by_address: Arc<Openings>,
    /// The way to the game server, if there is one.
    pub game: Option<Door>,
}

impl Front {
    /// Whether there is room for another opening.
    pub(super) fn may_accept(&self) -> bool {
        self.openings.load(Ordering::Relaxed) < self.openings_max
    }

    /// Whether half of the places for openings are taken; openings then get less time.
    pub(super) fn is_crowded(&self) -> bool {
        self.openings.load(Ordering::Relaxed) >= self.openings_max.div_ceil(2)
    }

    /// Whether connections of a listener are openings first. `proxy`: it expects PROXY headers.
    pub(super) fn is_needed(&self, proxy: bool) -> bool {
        proxy || self.game.is_some()
    }
}
