//! What the clients of one worker share: its ring, timers, clock and books.

use super::pace::Arrivals;
use super::plan::Plan;
use super::tally::Tally;
use crate::trace::Written;
use js5_ring::Ring;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nanoseconds since the run's start; before it, 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) start: Instant,
}

impl Clock {
    pub(crate) fn now_ns(self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Operations that a client may have under way. The lowest byte of an operation's user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Receive,
    Writable,
    Cancel,
}

impl Op {
    pub(crate) fn user_data(self, slot: u32) -> u64 {
        u64::from(slot) << 8 | self as u64
    }

    pub(crate) fn parse(user_data: u64) -> (u32, Self) {
        let op = match user_data & 0xFF {
            0 => Self::Receive,
            1 => Self::Writable,
            _ => Self::Cancel,
        };
        ((user_data >> 8) as u32, op)
    }
}

/// If two readings of the clock are further apart than this, the process was stopped or had no
/// core.
const PAUSE_MIN_NS: u64 = 10_000_000;

/// Shared by the clients of a worker.
pub(crate) struct Core {
    pub(crate) ring: Ring,
    pub(crate) timers: Timers,
    pub(crate) arrivals: Arrivals,
    pub(crate) tally: Tally,
    pub(crate) plan: Arc<Plan>,
    pub(crate) clock: Clock,
    /// Read once a completion: the time of everything that is done about it.
    pub(crate) now_ns: u64,
    /// How long the worker means to wait for the ring.
    waits_ns: u64,
    /// How long it has been kept from its work.
    paused_ns: u64,
    /// Connects under way.
    pub(crate) opening: u32,
    /// Clients whose connect must wait until fewer are under way.
    pub(crate) queued: VecDeque<u32>,
    /// Clients that will do nothing more.
    pub(crate) finished: usize,
    /// Those of them that wanted to, and could not: refused, cut, stalled.
    pub(crate) given_up: usize,
    /// What was written, if a trace is wanted.
    pub(crate) written: Option<Vec<Written>>,
}

impl Core {
    pub(crate) fn new(ring: Ring, arrivals: Arrivals, tally: Tally, plan: &Arc<Plan>) -> Self {
        Self {
            ring,
            timers: Timers::default(),
            arrivals,
            tally,
            plan: Arc::clone(plan),
            clock: Clock { start: Instant::now() },
            now_ns: 0,
            waits_ns: 0,
            paused_ns: 0,
            opening: 0,
            queued: VecDeque::new(),
            finished: 0,
            given_up: 0,
            written: plan.trace.then(Vec::new),
        }
    }

    /// Begins to look at the clock, at the run's start. A worker that comes later has been kept
    /// from its work until now.
    pub(crate) fn begin(&mut self, clock: Clock) {
        self.clock = clock;
        self.now_ns = 0;
        self.tick();
    }

    /// Looks at the clock. What has passed since the last look, beyond what the worker meant to
    /// wait, is a pause if it is long: nothing else takes a worker that long.
    pub(crate) fn tick(&mut self) -> u64 {
        let before_ns = std::mem::replace(&mut self.now_ns, self.clock.now_ns());
        let meant_ns = std::mem::take(&mut self.waits_ns);
        let excess_ns = (self.now_ns - before_ns).saturating_sub(meant_ns);
        if excess_ns > PAUSE_MIN_NS {
            self.paused_ns += excess_ns;
            self.tally.recorder.pause(excess_ns, self.now_ns);
        }
        self.tally.now_ns = self.now_ns;
        self.now_ns
    }

    /// The run's time without the pauses: in it a server is waited for.
    pub(crate) fn awake_ns(&self) -> u64 {
        self.now_ns - self.paused_ns
    }

    /// Submits what has been asked for and waits for a completion, `ns` at most.
    ///
    /// # Errors
    /// The ring failed.
    pub(crate) fn wait(&mut self, ns: u64) -> io::Result<()> {
        self.waits_ns = ns;
        self.ring.wait(Some(Duration::from_nanos(ns)))?;
        self.tick();
        Ok(())
    }

    pub(crate) fn poll_out(&mut self, slot: u32, socket: BorrowedFd<'_>) {
        self.ring.poll_out(socket, Op::Writable.user_data(slot));
    }

    pub(crate) fn cancel(&mut self, slot: u32, op: Op) {
        self.ring.cancel(op.user_data(slot), Op::Cancel.user_data(slot));
    }
}

/// When clients want to be woken. Entries that a client no longer wants stay until they are
/// due: the client knows its own time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Timers {
    pub(crate) fn add(&mut self, due_ns: u64, slot: u32) {
        self.heap.push(Reverse((due_ns, slot)));
    }

    /// The earliest time.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ns, _))| *due_ns)
    }

    /// The next that is due.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<(u64, u32)> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
