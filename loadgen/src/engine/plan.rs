//! A run, resolved: everything that workers need to know, and nothing that they must look up.

use super::check::Verify;
use super::pace::Pace;
use crate::catalogue::Catalogue;
use crate::cli::{Scenario, Trick};
use crate::trace::TracedClient;
use js5d::protocol::client::Matching;
use js5d::protocol::{Class, GroupId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One run of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Servers, of which each client has its own: one, unless a server's descriptors run out.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) build: u32,
    /// Whether a PROXY header stands before everything else.
    pub(crate) proxy_header: bool,
    pub(crate) matching: Matching,
    pub(crate) seed: u64,
    /// Clients of the whole run, all processes together.
    pub(crate) connections: u32,
    /// Which of the processes this is, and of how many.
    pub(crate) part: Part,
    pub(crate) opening: Opening,
    /// What clients do, by weight.
    pub(crate) kinds: Vec<Kind>,
    /// The pace of an open loop.
    pub(crate) pace: Option<Pace>,
    pub(crate) poisson: bool,
    pub(crate) warmup_ns: u64,
    /// The length of the intervals that are recorded apart.
    pub(crate) interval_ns: u64,
    /// How long to measure after the warm-up; without it another bound ends the run.
    pub(crate) duration_ns: Option<u64>,
    pub(crate) requests: Option<u64>,
    pub(crate) downloads: Option<u32>,
    pub(crate) key: KeyPolicy,
    /// Clients say that their player is logged in.
    pub(crate) logged_in: bool,
    pub(crate) settle_ns: u64,
    pub(crate) stall_timeout_ns: u64,
    pub(crate) retry_ns: Option<u64>,
    /// Whether a download goes on after a cut, instead of beginning anew.
    pub(crate) resume: bool,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) verify: Verify,
    pub(crate) threads: u32,
    /// Cores of the workers; empty leaves it to the kernel.
    pub(crate) pin: Vec<u32>,
    /// Whether to keep what was asked for, and when.
    pub(crate) trace: bool,
}

/// A process among the processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) index: u32,
    pub(crate) of: u32,
}

/// When the connections are opened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Opening {
    /// Opened at the very start.
    pub(crate) at_once: u32,
    /// The rest follow at this rate a second; infinite is all at once.
    pub(crate) rate: f64,
    /// Connects under way in a worker at most: what exceeds the server's backlog waits a second
    /// for the next try of the kernel, and that would be measured.
    pub(crate) pending_max: u32,
}

/// What a client does with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPolicy {
    /// The same for all; 0 is none.
    Fixed(u8),
    /// One a connection.
    Random,
    /// Changed while responses are under way.
    Changing,
}

/// One kind of clients.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) scenario: Scenario,
    pub(crate) weight: u32,
    pub(crate) urgent: u32,
    pub(crate) prefetch: u32,
    pub(crate) work: Work,
    /// Requests before the work counts as done, for work that has no end of its own.
    pub(crate) visit_requests: Option<u32>,
    pub(crate) rhythm: Rhythm,
    pub(crate) then: Then,
    /// Bytes that are read in a second at most.
    pub(crate) read_rate: Option<u64>,
    /// Whether the pace of an open loop counts visits, not requests.
    pub(crate) paced_visits: bool,
    /// Whether the end of the work is a download that is timed.
    pub(crate) is_download: bool,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// The indexes, then every group.
    Everything,
    /// The indexes, then this part of the groups.
    Changed(f64),
    /// Groups by popularity, without end.
    Popular,
    /// The master index.
    MasterIndex,
    /// The master index now and then, as proof of life.
    KeepAlive(u64),
    /// What a trace says.
    Trace(Arc<Vec<TracedClient>>),
    /// Whatever a server should not be sent.
    Hostile(Tricks),
}

/// When a client of a closed loop asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rhythm {
    /// Whenever its windows have room.
    Eager,
    /// In bursts between which it thinks, with prefetch in the background.
    Thinking { think_ns: u64, burst: u32, prefetch_gap_ns: u64 },
}

/// What follows when the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The work again, on the same connection.
    Repeat,
    /// The work again, on a new connection.
    Reconnect,
    /// Nothing; the connection stays.
    Stay,
}

/// What hostile clients try, and how long they hold it.
#[derive(Clone, Debug)]
pub(crate) struct Tricks {
    pub(crate) tricks: Vec<Trick>,
    pub(crate) hold_ns: u64,
}

/// One request that was written, for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) at_ns: u64,
    pub(crate) client: u32,
    pub(crate) class: Class,
    pub(crate) id: GroupId,
}

impl Kind {
    /// Whether the work has an end that is reached over several connections.
    pub(crate) fn can_go_on(&self) -> bool {
        self.is_download && !self.paced_visits
    }
}

impl Plan {
    /// The kind of a client: weights laid out in turn, so that any stretch of clients has the
    /// mix.
    pub(crate) fn kind_of(&self, client: u32) -> usize {
        let total: u32 = self.kinds.iter().map(|kind| kind.weight).sum::<u32>().max(1);
        let mut place = client % total;
        for (index, kind) in self.kinds.iter().enumerate() {
            match place.checked_sub(kind.weight) {
                None => return index,
                Some(rest) => place = rest,
            }
        }
        0
    }

    /// The clients that this process runs, of which worker `worker` takes every `threads`-th.
    pub(crate) fn clients_of(&self, worker: u32) -> impl Iterator<Item = u32> {
        let step = self.part.of * self.threads;
        (self.part.index * self.threads + worker..self.connections).step_by(step as usize)
    }

    /// How many clients this process runs.
    pub(crate) fn clients(&self) -> u64 {
        (0..self.threads).map(|worker| self.clients_of(worker).count() as u64).sum()
    }

    /// How many of a number of things client `client` is to do, if all share them evenly.
    pub(crate) fn share_of(&self, client: u32, all: u64) -> u64 {
        let clients = u64::from(self.connections.max(1));
        all / clients + u64::from(u64::from(client) < all % clients)
    }

    /// Whether a worker is done when its `foreground` clients are: one that has hostile clients
    /// only keeps them up for as long as the run takes.
    pub(crate) fn may_end_early(&self, foreground: usize) -> bool {
        foreground > 0 || self.duration_ns.is_none()
    }

    /// The server of a client.
    pub(crate) fn target_of(&self, client: u32) -> SocketAddr {
        self.targets[client as usize % self.targets.len()]
    }

    /// When client `client` opens its connection, counted from the start.
    pub(crate) fn opens_at_ns(&self, client: u32) -> u64 {
        let later = client.saturating_sub(self.opening.at_once.saturating_sub(1));
        (f64::from(later) / self.opening.rate * 1e9) as u64
    }
}
