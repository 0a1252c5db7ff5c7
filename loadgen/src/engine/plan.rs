//! The plan of a run: everything that workers need, with nothing left to look up.

use super::checker::Verify;
use crate::catalogue::Catalogue;
use crate::human::Ramp;
use crate::scenario::{Kind, Work};
use crate::speech::Speech;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// One run of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Servers, of which each client has its own: one, unless a server's descriptors run out.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) sources: Vec<IpAddr>,
    /// Who the clients are.
    pub(crate) speech: Arc<Speech>,
    /// Whether a PROXY header stands before everything else.
    pub(crate) proxy_header: bool,
    pub(crate) seed: u64,
    /// Clients of the whole run, all processes together.
    pub(crate) connections: u32,
    /// Which of the processes this is, and of how many.
    pub(crate) part: Part,
    pub(crate) opening: Opening,
    /// What clients do, by weight.
    pub(crate) kinds: Vec<Kind>,
    /// The pace of an open loop, for those kinds that have a share in it.
    pub(crate) pace: Option<Curve>,
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
    /// Where the generator sleeps, for the stall test of `self-test`.
    pub(crate) own_stall: Option<OwnStall>,
}

/// Arrivals over time: a rate that may rise or fall evenly and then stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Curve {
    /// Arrivals a second, at the beginning and after the ramp.
    pub(crate) rate: Ramp,
    /// How long the rate takes from one to the other.
    pub(crate) ramp_s: f64,
    /// When the first second begins, on the run's clock.
    pub(crate) start_ns: u64,
}

impl Curve {
    /// When the arrival number `x` (fractions fall between arrivals) is due.
    pub(crate) fn due_ns(&self, x: f64) -> u64 {
        let Ramp { from, to } = self.rate;
        let in_ramp = (from + to) / 2.0 * self.ramp_s;
        let seconds = if from == to {
            x / to
        } else if x >= in_ramp {
            self.ramp_s + (x - in_ramp) / to
        } else {
            let slope = (to - from) / self.ramp_s;
            // Root of slope/2 t² + from t = x.
            ((from * from + 2.0 * slope * x).max(0.0).sqrt() - from) / slope
        };
        // Beyond any run, and a rate of 0, saturate: due never.
        self.start_ns.saturating_add((seconds * 1e9) as u64)
    }

    /// Arrivals that were due before `now_ns`.
    pub(crate) fn arrivals(&self, now_ns: u64) -> f64 {
        let t = now_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        let Ramp { from, to } = self.rate;
        let ramped = t.min(self.ramp_s);
        let slope = if self.ramp_s > 0.0 { (to - from) / self.ramp_s } else { 0.0 };
        from * ramped + slope / 2.0 * ramped * ramped + (t - ramped) * to
    }
}

/// A sleep of each worker, on the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnStall {
    pub(crate) at_ns: u64,
    pub(crate) length_ns: u64,
}

/// When a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As soon as all workers are ready.
    WhenReady,
    /// At a time that others begin at, too: a worker that is not ready by then is late.
    At(Instant),
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
    /// Connects under way in a worker at most. A connect beyond the server's backlog would wait a
    /// second for the kernel's next try, and that wait would be measured.
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

    /// Whether requests are due at times that no answer moves: a pace, or a trace.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.pace.is_some() || self.kinds.iter().any(|kind| matches!(kind.work, Work::Trace(_)))
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

    /// Whether a worker is done when its `foreground` clients are. A worker that has only hostile
    /// clients goes on until the run ends.
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
