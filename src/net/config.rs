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
    /// Without a request.
    pub idle_timeout: Duration,
    /// Sending without any progress.
    pub send_timeout: Duration,
    /// For a refused peer to read its status and go.
    pub linger_timeout: Duration,
    /// From a reload on, for quiet connections of an earlier generation; none is never.
    pub generation_timeout: Option<Duration>,
    /// From the stop signal to the end.
    pub drain_timeout: Duration,
    /// Messages and reads a second that ask for nothing.
    pub chatter_max: u32,
    /// Close a connection that asks for a group that is not there; else ignore the request.
    pub close_on_missing_group: bool,
    /// Break off a prefetch response for an urgent one, where the client allows it.
    pub break_off: bool,
}

/// What all workers share.
#[derive(Debug)]
pub struct ServeConfig {
    /// The workers' way to the kernel.
    pub driver: Driver,
    /// Deadlines and bounds.
    pub limits: ConnectionLimits,
    /// What sessions expect.
    pub clients: Arc<Clients>,
    /// The limits of connections.
    pub admission: Arc<Admission>,
    /// What must be known of a connection first.
    pub front: Front,
    /// What is served.
    pub snapshots: Arc<SnapshotHandle>,
    /// Shares the line among all connections; none without a cap.
    pub shaper: Option<Arc<Shaper>>,
    /// Bounds what the workers log.
    pub log_gates: LogGates,
}

/// What must be known of a connection before it is decided on.
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

    /// Half of the places are taken: those who say nothing get less time.
    pub(super) fn is_crowded(&self) -> bool {
        self.openings.load(Ordering::Relaxed) >= self.openings_max.div_ceil(2)
    }

    /// Whether connections of such a listener are openings first, and decided on later.
    pub(super) fn is_needed(&self, proxy: bool) -> bool {
        proxy || self.game.is_some()
    }
}
