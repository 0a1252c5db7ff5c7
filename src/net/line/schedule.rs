//! Which peer may send next, and how much, when the line is shared. Pure state; time is an
//! argument.
//!
//! Ranks are strict: a lower rank sends nothing while a peer of a higher one waits. Within a rank
//! the peer that has been sent the fewest bytes is first. Only bytes count, so large groups, long
//! queues and many requests give a peer no advantage. A peer that asks for nothing during a round
//! trip may catch up afterwards, by up to `ARREARS_MS` of the line; otherwise peers that ask for
//! one group at a time would get less than those that pipeline.
//!
//! Each worker collects its grants at ticks of its own. Until a grant is settled, its peer counts
//! as one that waits, and the peers after it in the order must wait, too. Otherwise the worker that
//! collects first would give the whole line to its own peers.

use super::bucket::Bucket;
use crate::net::batch::COPY_LEN_MAX;
use crate::protocol::Class;
use std::collections::BTreeMap;

/// A grant is what the line carries in this time.
const QUANTUM_US: u64 = 1000;

/// Bytes of a grant at least: twice the length of responses that are not cut, because a batch must
/// not exceed its grant and may end with a whole response of that length.
pub const QUANTUM_MIN: u64 = 2 * COPY_LEN_MAX as u64;

/// Bytes of a grant at most.
const QUANTUM_MAX: u64 = 64 << 10;

/// How far behind the order's clock a peer may start after it was quiet, as time of the line. It
/// covers a round trip, or a worker that was late.
const ARREARS_MS: u64 = 50;

/// By how much a peer may be ahead of one whose grant is not settled, as time of the line: two
/// ticks. Less would leave the line idle, more would be unfair.
const AHEAD_MS: u64 = 10;

/// Grants of a worker that has neither asked nor collected for this time do not hold up others.
const LATE_US: u64 = 50_000;

/// Caps on what is sent, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// All responses of the whole server.
    pub total: Option<u64>,
    /// All responses of one connection.
    pub connection: Option<u64>,
    /// All prefetch responses of the whole server.
    pub prefetch: Option<u64>,
}

/// The ranks, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Urgent requests of peers whose player is logged in.
    UrgentLoggedIn,
    /// Urgent requests of the others.
    UrgentLoggedOut,
    /// Prefetch requests of peers whose player is logged in.
    PrefetchLoggedIn,
    /// Prefetch requests of the others.
    PrefetchLoggedOut,
}

/// How many ranks there are.
pub const RANKS: usize = 4;

impl Rank {
    /// All of them, the first to go first.
    pub const ALL: [Self; RANKS] = [
        Self::UrgentLoggedIn,
        Self::UrgentLoggedOut,
        Self::PrefetchLoggedIn,
        Self::PrefetchLoggedOut,
    ];

    /// The rank of a peer's requests.
    #[must_use]
    pub fn of(class: Class, logged_in: bool) -> Self {
        match (class, logged_in) {
            (Class::Urgent, true) => Self::UrgentLoggedIn,
            (Class::Urgent, false) => Self::UrgentLoggedOut,
            (Class::Prefetch, true) => Self::PrefetchLoggedIn,
            (Class::Prefetch, false) => Self::PrefetchLoggedOut,
        }
    }

    /// Whether the prefetch cap holds for it.
    #[must_use]
    pub fn is_prefetch(self) -> bool {
        self >= Self::PrefetchLoggedIn
    }
}

/// One value a rank.
pub type ByRank<T> = [T; RANKS];

/// A connection that asks: its worker, and its share there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The worker's number.
    pub worker: usize,
    /// The number of the connection's share at that worker.
    pub key: usize,
}

/// A place in the order, for a connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The rank whose queue this is a place in.
    pub rank: Rank,
    /// Bytes sent to the peer in this rank, as the queue counts them.
    served: u64,
    /// The order of arrival, among equals.
    number: u64,
}

/// Permission to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The number of the connection's share at its worker.
    pub key: usize,
    /// The ticket that this grants.
    pub ticket: Ticket,
    /// Bytes that may be sent.
    pub len: u64,
}

/// A grant of which it is not known yet how many bytes were sent.
#[derive(Debug)]
struct Unsettled {
    number: u64,
    worker: usize,
    /// Bytes sent to the peer in this rank if the whole grant is used.
    served: u64,
}

/// The answer to a connection that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Send this many bytes, and settle the bytes that were sent.
    Granted(Grant),
    /// Wait for the grant of this ticket, or withdraw it.
    Waits(Ticket),
}

#[derive(Debug, Default)]
struct Queue {
    /// Waiting connections by the bytes that they were sent and their ticket's number. Holds one
    /// entry a connection at most.
    waiting: BTreeMap<(u64, u64), Asker>,
    /// Grants that are not settled; at most as many as a few ticks bring.
    unsettled: Vec<Unsettled>,
    /// The most bytes that a peer had been sent when it got its grant. Never falls. A peer that
    /// joins starts at this count.
    clock: u64,
}

/// The order of all connections of all workers.
#[derive(Debug)]
pub struct Schedule {
    total: Option<Bucket>,
    prefetch: Option<Bucket>,
    queues: ByRank<Queue>,
    /// Bytes of a grant: of urgent ranks, of prefetch ranks.
    quanta: [u64; 2],
    /// Bytes that the line carries in a millisecond: of urgent ranks, of prefetch ranks.
    line_ms: [u64; 2],
    next_number: u64,
    /// For each worker, the grants that it has not collected.
    granted: Vec<Vec<Grant>>,
    /// For each worker, when it last asked or collected, in microseconds.
    seen_us: Vec<u64>,
}

/// Bytes of a grant under a cap of `rate` bytes a second.
pub fn quantum(rate: u64) -> u64 {
    (rate / (1_000_000 / QUANTUM_US)).clamp(QUANTUM_MIN, QUANTUM_MAX)
}

impl Schedule {
    /// A schedule in which no peer waits.
    #[must_use]
    pub fn new(caps: Caps, workers: usize) -> Self {
        let bucket = |rate| Bucket::new(rate, QUANTUM_MIN, 0);
        let urgent = caps.total.map_or(QUANTUM_MAX, quantum);
        let prefetch = caps.prefetch.map_or(QUANTUM_MAX, quantum);
        Self {
            total: caps.total.map(bucket),
            prefetch: caps.prefetch.map(bucket),
            queues: ByRank::default(),
            quanta: [urgent, urgent.min(prefetch)],
            line_ms: [caps.total, caps.prefetch.or(caps.total)]
                .map(|rate| rate.unwrap_or(0) / 1000),
            next_number: 0,
            granted: vec![Vec::new(); workers],
            seen_us: vec![0; workers],
        }
    }

    /// The counts of bytes at which a new peer starts: level with the peer that is next.
    #[must_use]
    pub fn clocks(&self) -> ByRank<u64> {
        Rank::ALL.map(|rank| self.queues[rank as usize].clock)
    }

    /// Asks for a grant. `served`: the bytes that the peer was sent in this rank. It is raised to
    /// the least that counts, as a peer that was quiet for long may catch up on `ARREARS_MS` only.
    pub fn ask(&mut self, rank: Rank, served: &mut u64, asker: Asker, now_us: u64) -> Answer {
        self.note_seen(asker.worker, now_us);
        let queue = &mut self.queues[rank as usize];
        let arrears = ARREARS_MS * self.line_ms[usize::from(rank.is_prefetch())];
        *served = (*served).max(queue.clock.saturating_sub(arrears));
        let number = self.next_number;
        self.next_number += 1;
        let ticket = Ticket { rank, served: *served, number };
        queue.waiting.insert((ticket.served, number), asker);
        match self.dispatch(Some(number), now_us) {
            Some(grant) => Answer::Granted(grant),
            None => Answer::Waits(ticket),
        }
    }

    /// Gives up a place in the order, or its grant if `worker` has not collected it yet. Such a
    /// grant would otherwise hold up others until that worker collects, which it may never do.
    pub fn withdraw(&mut self, ticket: Ticket, worker: usize) {
        let waiting = &mut self.queues[ticket.rank as usize].waiting;
        if waiting.remove(&(ticket.served, ticket.number)).is_some() {
            return;
        }
        let Some(granted) = self.granted.get_mut(worker) else { return };
        if let Some(place) = granted.iter().position(|grant| grant.ticket == ticket) {
            let grant = granted.swap_remove(place);
            self.settle(grant, 0);
        }
    }

    /// Settles a grant: `sent` bytes of it were used.
    pub fn settle(&mut self, grant: Grant, sent: u64) {
        let Ticket { rank, number, .. } = grant.ticket;
        self.queues[rank as usize].unsettled.retain(|unsettled| unsettled.number != number);
        for bucket in self.buckets(rank) {
            bucket.give_back(grant.len);
            bucket.take(sent);
        }
    }

    /// Charges prefetch bytes that were sent in an urgent rank: the rest of a prefetch response
    /// that an urgent one waited for.
    pub fn charge_prefetch(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.prefetch {
            bucket.take(bytes);
        }
    }

    /// Makes the grants that are possible, and appends those of `worker` to `grants`.
    pub fn collect(&mut self, worker: usize, now_us: u64, grants: &mut Vec<Grant>) {
        self.note_seen(worker, now_us);
        self.dispatch(None, now_us);
        if let Some(granted) = self.granted.get_mut(worker) {
            grants.append(granted);
        }
    }

    /// Whether no peer waits, and every grant is settled.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        let is_empty = |queue: &Queue| queue.waiting.is_empty() && queue.unsettled.is_empty();
        self.queues.iter().all(is_empty) && self.granted.iter().all(Vec::is_empty)
    }

    fn note_seen(&mut self, worker: usize, now_us: u64) {
        if let Some(seen_us) = self.seen_us.get_mut(worker) {
            *seen_us = now_us;
        }
        self.refill(now_us);
    }

    fn refill(&mut self, now_us: u64) {
        let waits = |rank: &Rank| !self.queues[*rank as usize].waiting.is_empty();
        let first = Rank::ALL.into_iter().find(waits);
        let prefetch_waits = Rank::ALL.iter().any(|rank| rank.is_prefetch() && waits(rank));
        let prefetch_open = self.prefetch.as_ref().is_none_or(Bucket::is_open);
        if let Some(total) = &mut self.total {
            // A peer that waits for the prefetch bucket does not need more of this one.
            total.refill(now_us, first.is_some_and(|rank| !rank.is_prefetch() || prefetch_open));
        }
        if let Some(prefetch) = &mut self.prefetch {
            prefetch.refill(now_us, prefetch_waits && !prefetch_open);
        }
    }

    /// The buckets that a rank's bytes are taken from.
    fn buckets(&mut self, rank: Rank) -> impl Iterator<Item = &mut Bucket> {
        let prefetch = self.prefetch.as_mut().filter(|_| rank.is_prefetch());
        self.total.iter_mut().chain(prefetch)
    }

    /// Makes grants in order while the buckets are open. Returns the grant of the ticket number
    /// `asking`; the others' grants wait to be collected.
    fn dispatch(&mut self, asking: Option<u64>, now_us: u64) -> Option<Grant> {
        let mut own = None;
        while let Some(rank) = self.next_rank(now_us) {
            let queue = &mut self.queues[rank as usize];
            let Some(((served, number), asker)) = queue.waiting.pop_first() else { break };
            queue.clock = queue.clock.max(served);
            let len = self.quanta[usize::from(rank.is_prefetch())];
            let grant = Grant { key: asker.key, ticket: Ticket { rank, served, number }, len };
            let served = served + len;
            queue.unsettled.push(Unsettled { number, worker: asker.worker, served });
            self.buckets(rank).for_each(|bucket| bucket.take(len));
            if asking == Some(number) {
                own = Some(grant);
            } else if let Some(granted) = self.granted.get_mut(asker.worker) {
                granted.push(grant);
            }
        }
        own
    }

    /// The rank of the next peer; none if no peer may send.
    fn next_rank(&self, now_us: u64) -> Option<Rank> {
        let is_open = |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(Bucket::is_open);
        for rank in Rank::ALL {
            let queue = &self.queues[rank as usize];
            // Grants that are not settled hold up others, unless their worker is late.
            let mut before = queue.unsettled.iter().filter(|unsettled| {
                let seen_us = self.seen_us.get(unsettled.worker);
                seen_us.is_some_and(|seen_us| now_us.saturating_sub(*seen_us) <= LATE_US)
            });
            let Some((&(served, _), _)) = queue.waiting.first_key_value() else {
                if before.next().is_some() {
                    return None;
                }
                continue;
            };
            let ahead = AHEAD_MS * self.line_ms[usize::from(rank.is_prefetch())];
            let is_held_up = before.any(|unsettled| unsettled.served + ahead < served);
            let may_go = is_open(&self.total) && (!rank.is_prefetch() || is_open(&self.prefetch));
            return (may_go && !is_held_up).then_some(rank);
        }
        None
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
