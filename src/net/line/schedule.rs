//! Which peer may send next, and how much, when the line is shared. Pure state; time is an
//! argument.
//!
//! Ranks are strict: a lower rank sends nothing while a peer of a higher one waits. Within a rank
//! the peer that has been sent the least is first. Only bytes count, so neither large groups nor
//! long queues nor many requests give a peer more. A peer that asks for nothing during a round trip
//! keeps its arrears, up to `ARREARS_MS` of the line; otherwise peers that ask for one group at a
//! time would get less than those that pipeline.
//!
//! Each worker collects its grants at ticks of its own. A peer that has been granted something
//! counts as one that waits until the bytes that it sent are settled, and peers after it are held
//! up so long; otherwise peers of the worker that checks first would get the whole line.

use super::bucket::Bucket;
use crate::net::batch::COPY_LEN_MAX;
use crate::protocol::Class;
use std::collections::BTreeMap;

/// How long the line is one peer's, at a time.
const QUANTUM_US: u64 = 1000;

/// The least that is granted at once: twice what is not cut into pieces, as a batch may end
/// with a whole response of that length and must not be larger than its grant.
pub const QUANTUM_MIN: u64 = 2 * COPY_LEN_MAX as u64;

/// The most that is granted at once: what one direct send may hold.
const QUANTUM_MAX: u64 = 64 << 10;

/// What a peer that was quiet for a moment may catch up on, as time of the line: round trips,
/// and a worker that was late.
const ARREARS_MS: u64 = 50;

/// By how much a peer may be ahead of one whose grant is not settled, as time of the line: what
/// two ticks bring. Less would leave the line idle, more would be unfair.
const AHEAD_MS: u64 = 10;

/// A worker that has not checked for this time does not hold up others.
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
    /// The worker's own.
    pub key: usize,
}

/// A place in the order, for a connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// Which queue.
    pub rank: Rank,
    /// What the peer has been sent in it, on the rank's own count.
    served: u64,
    /// The order of arrival, among equals.
    number: u64,
}

/// Leave to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose, at the worker that it is handed to.
    pub key: usize,
    /// For which ticket.
    pub ticket: Ticket,
    /// Bytes.
    pub len: u64,
}

/// A grant whose bytes are not known to have been sent.
#[derive(Debug)]
struct Unsettled {
    number: u64,
    worker: usize,
    /// What the peer will have been sent with it.
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
    /// Those that wait, the least served first. Holds one entry a connection at most.
    waiting: BTreeMap<(u64, u64), Asker>,
    /// What is granted; as much as a few ticks bring, at most.
    unsettled: Vec<Unsettled>,
    /// What the peer that is due has been sent. Never falls: a later peer starts level with it.
    clock: u64,
}

/// The order of all connections of all workers.
#[derive(Debug)]
pub struct Schedule {
    total: Option<Bucket>,
    prefetch: Option<Bucket>,
    queues: ByRank<Queue>,
    /// What is granted at once: to urgent ranks, to prefetch ranks.
    quanta: [u64; 2],
    /// What the line takes in a millisecond: of urgent ranks, of prefetch ranks.
    line_ms: [u64; 2],
    next_number: u64,
    /// Grants that a worker has not picked up.
    granted: Vec<Vec<Grant>>,
    /// When each worker last looked.
    seen_us: Vec<u64>,
}

/// What is granted at once under a cap.
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

    /// Where a peer starts that has been sent nothing: level with the one that is due.
    #[must_use]
    pub fn clocks(&self) -> ByRank<u64> {
        Rank::ALL.map(|rank| self.queues[rank as usize].clock)
    }

    /// Asks for leave to send. `served` is what the peer was sent in this rank so far; it is
    /// brought up to what counts.
    pub fn ask(&mut self, rank: Rank, served: &mut u64, place: Asker, now_us: u64) -> Answer {
        self.note_seen(place.worker, now_us);
        let queue = &mut self.queues[rank as usize];
        let arrears = ARREARS_MS * self.line_ms[usize::from(rank.is_prefetch())];
        *served = (*served).max(queue.clock.saturating_sub(arrears));
        let number = self.next_number;
        self.next_number += 1;
        let ticket = Ticket { rank, served: *served, number };
        queue.waiting.insert((ticket.served, number), place);
        match self.dispatch(Some(number), now_us) {
            Some(grant) => Answer::Granted(grant),
            None => Answer::Waits(ticket),
        }
    }

    /// Gives up a place, or what it has been granted and `worker` has not collected. A grant left
    /// there would hold others up until that worker looks, which it may have no more reason to.
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

    /// Takes note of what was sent on a grant.
    pub fn settle(&mut self, grant: Grant, sent: u64) {
        let Ticket { rank, number, .. } = grant.ticket;
        self.queues[rank as usize].unsettled.retain(|unsettled| unsettled.number != number);
        for bucket in self.buckets(rank) {
            bucket.give_back(grant.len);
            bucket.take(sent);
        }
    }

    /// Takes note of prefetch bytes that went out in an urgent rank: the end of a response that
    /// an urgent one waited for.
    pub fn charge_prefetch(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.prefetch {
            bucket.take(bytes);
        }
    }

    /// Lets go what may go, and hands over what is `worker`'s.
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

    /// Grants in order, as long as the buckets are open. What `asker` gets is returned; the
    /// others' grants wait to be collected.
    fn dispatch(&mut self, asker: Option<u64>, now_us: u64) -> Option<Grant> {
        let mut own = None;
        while let Some(rank) = self.next_rank(now_us) {
            let queue = &mut self.queues[rank as usize];
            let Some(((served, number), place)) = queue.waiting.pop_first() else { break };
            queue.clock = queue.clock.max(served);
            let len = self.quanta[usize::from(rank.is_prefetch())];
            let grant = Grant { key: place.key, ticket: Ticket { rank, served, number }, len };
            let served = served + len;
            queue.unsettled.push(Unsettled { number, worker: place.worker, served });
            self.buckets(rank).for_each(|bucket| bucket.take(len));
            if asker == Some(number) {
                own = Some(grant);
            } else if let Some(granted) = self.granted.get_mut(place.worker) {
                granted.push(grant);
            }
        }
        own
    }

    /// The rank of the next peer, if that may send.
    fn next_rank(&self, now_us: u64) -> Option<Rank> {
        let is_open = |bucket: &Option<Bucket>| bucket.as_ref().is_none_or(Bucket::is_open);
        for rank in Rank::ALL {
            let queue = &self.queues[rank as usize];
            // What was granted and is not settled counts, if its worker is not too late for it.
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
