//! The caps on bandwidth: gives a worker's connections credit, and takes it from them when they
//! have sent.
//!
//! Without a cap, a batch costs one check of an empty option. All workers share one [`Shaper`], so
//! that ranks and shares hold across workers; its lock is taken a few times for each batch of some
//! kilobytes. A connection without credit waits and goes on receiving. While one of its connections
//! waits, a worker collects grants every `TICK` and wakes the connections that they are for. Bytes
//! are charged when a batch is filled with them; headers of TCP and IP are not counted.

use super::bucket::Bucket;
use super::schedule::{Answer, Asker, ByRank, Caps, Grant, Rank, Schedule, Ticket, quantum};
use crate::net::batch::COPY_LEN_MAX;
use crate::net::count::{Counters, add};
use crate::net::driver::{self, Key, wake};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How often a worker collects grants while one of its connections waits. A connection may have to
/// wait so much longer than the line itself requires: the time of 50 kB at 10 MB/s.
const TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
thread_local! {
    static SIMULATED_US: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Replaces the clock of this thread's shapers by this time, for simulations.
#[cfg(test)]
pub(in crate::net) fn simulate_time(now_us: u64) {
    SIMULATED_US.set(Some(now_us));
}

/// The schedule of all workers, and its clock.
#[derive(Debug)]
pub struct Shaper {
    caps: Caps,
    start: Instant,
    /// The number of workers that have started, and so the number of the next worker.
    workers: AtomicUsize,
    schedule: Mutex<Schedule>,
}

impl Shaper {
    /// A shaper; none if there is no cap.
    #[must_use]
    pub fn new(caps: Caps, workers: usize) -> Option<Arc<Self>> {
        let schedule = Mutex::new(Schedule::new(caps, workers));
        let (start, begun) = (Instant::now(), AtomicUsize::new(0));
        (caps != Caps::default()).then(|| Arc::new(Self { caps, start, workers: begun, schedule }))
    }

    /// The caps.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }

    fn now_us(&self) -> u64 {
        #[cfg(test)]
        if let Some(now_us) = SIMULATED_US.get() {
            return now_us;
        }
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether connections of a rank must ask the schedule of all workers.
    fn is_shared(&self, rank: Rank) -> bool {
        self.caps.total.is_some() || (rank.is_prefetch() && self.caps.prefetch.is_some())
    }
}

/// What a connection waits for.
#[derive(Debug)]
enum Wait {
    Nothing,
    /// The cap of this connection, until this time.
    OwnCap {
        until_us: u64,
        rank: Rank,
    },
    /// Nothing: the time of its own cap has come, and it was woken.
    OwnCapPassed,
    /// A grant of the schedule.
    Schedule(Ticket),
    /// Nothing: it has a grant, and was woken.
    Granted(Grant),
}

/// A connection's number among the worker's sharers, plus one. None before the connection first has
/// something to send, and after its end.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::net) struct Share(Option<NonZeroU32>);

impl Share {
    fn index(self) -> Option<usize> {
        self.0.map(|number| number.get() as usize - 1)
    }
}

/// A connection that has sent or waited under a cap.
#[derive(Debug)]
struct Sharer {
    key: Key,
    wait: Wait,
    /// Bytes sent to it in each rank, as the rank's queue counts them: see [`Schedule::ask`].
    served: ByRank<u64>,
    /// The bucket of the cap on one connection, if there is one.
    own: Option<Bucket>,
}

/// Permission to send. It must be settled when the batch has been filled and its length is known.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Credit {
    pub(in crate::net) rank: Rank,
    /// Bytes at which the batch is full. Its last response may exceed them by `COPY_LEN_MAX`.
    pub(in crate::net) len: usize,
    /// The grant of the schedule; none if the schedule was not asked.
    granted: Option<Grant>,
}

/// A worker's connections under the caps.
#[derive(Debug)]
pub(in crate::net) struct Egress {
    shaper: Arc<Shaper>,
    worker: usize,
    sharers: RefCell<Slab<Sharer>>,
    /// The sharers that wait for their own cap: until when, in microseconds, and their index.
    sleepers: RefCell<BTreeSet<(u64, usize)>>,
    /// The number of connections that wait for credit.
    waiting: ByRank<Cell<u64>>,
    /// Notified when a connection begins to wait and no other does.
    wait_begun: Notify,
}

impl Egress {
    pub(in crate::net) fn new(shaper: Arc<Shaper>) -> Self {
        Self {
            worker: shaper.workers.fetch_add(1, Ordering::Relaxed),
            shaper,
            sharers: RefCell::default(),
            sleepers: RefCell::default(),
            waiting: ByRank::default(),
            wait_begun: Notify::new(),
        }
    }

    /// Whether a batch on urgent credit must hold no prefetch response that begins in it, because
    /// ranks are scheduled apart.
    pub(in crate::net) fn separates_classes(&self) -> bool {
        self.shaper.caps.total.is_some() || self.shaper.caps.prefetch.is_some()
    }

    /// Whether a connection waits for credit.
    pub(in crate::net) fn is_waiting(&self, share: Share) -> bool {
        let sharers = self.sharers.borrow();
        let sharer = share.index().and_then(|index| sharers.get(index));
        sharer.is_some_and(|sharer| matches!(sharer.wait, Wait::OwnCap { .. } | Wait::Schedule(_)))
    }

    /// Credit to send in a rank. With none, the connection waits and is woken later.
    pub(in crate::net) fn credit(&self, share: &mut Share, key: Key, rank: Rank) -> Option<Credit> {
        let now_us = self.shaper.now_us();
        let index = self.index_of(share, key, now_us);
        let sharers = &mut *self.sharers.borrow_mut();
        let sharer = sharers.get_mut(index)?;
        let granted = match sharer.wait {
            Wait::OwnCap { .. } => return None,
            Wait::Schedule(ticket) if ticket.rank == rank => return None,
            Wait::Granted(grant) if grant.ticket.rank == rank => Some(grant),
            _ => None,
        };
        if granted.is_none() {
            // The rank has changed, and with it the place in the order.
            self.leave_queue(index, sharer);
        }
        sharer.wait = Wait::Nothing;
        let mut len_max = u64::MAX;
        if let (Some(own), Some(rate)) = (&mut sharer.own, self.shaper.caps.connection) {
            own.refill(now_us, true);
            if !own.is_open() {
                if let Some(grant) = granted {
                    self.shaper.schedule().settle(grant, 0);
                }
                let until_us = now_us + own.wait_us(quantum(rate));
                sharer.wait = Wait::OwnCap { until_us, rank };
                self.sleepers.borrow_mut().insert((until_us, index));
                self.begin_wait(rank);
                return None;
            }
            len_max = own.available().max(1);
        }
        let granted = match granted {
            None if self.shaper.is_shared(rank) => {
                let asker = Asker { worker: self.worker, key: index };
                let served = &mut sharer.served[rank as usize];
                match self.shaper.schedule().ask(rank, served, asker, now_us) {
                    Answer::Granted(grant) => Some(grant),
                    Answer::Waits(ticket) => {
                        sharer.wait = Wait::Schedule(ticket);
                        self.begin_wait(rank);
                        return None;
                    }
                }
            }
            granted => granted,
        };
        // The last response of a batch may exceed `len`, but the batch must not exceed its grant.
        let aim = granted.map_or(u64::MAX, |grant| grant.len - COPY_LEN_MAX as u64);
        let len = aim.min(len_max);
        Some(Credit { rank, len: usize::try_from(len).unwrap_or(usize::MAX), granted })
    }

    /// Charges `sent` bytes of a batch that was filled on credit; `prefetch_sent` of them are of
    /// prefetch responses.
    pub(in crate::net) fn settle(
        &self,
        share: Share,
        credit: Credit,
        sent: usize,
        prefetch_sent: usize,
    ) {
        let (sent, prefetch_sent) = (sent as u64, prefetch_sent as u64);
        let mut sharers = self.sharers.borrow_mut();
        let Some(sharer) = share.index().and_then(|index| sharers.get_mut(index)) else {
            return;
        };
        sharer.served[credit.rank as usize] += sent;
        if let Some(own) = &mut sharer.own {
            own.take(sent);
        }
        let charged_elsewhere = !credit.rank.is_prefetch() && prefetch_sent > 0;
        if credit.granted.is_some() || charged_elsewhere {
            let mut schedule = self.shaper.schedule();
            if let Some(grant) = credit.granted {
                schedule.settle(grant, sent);
            }
            if charged_elsewhere {
                schedule.charge_prefetch(prefetch_sent);
            }
        }
    }

    /// The connection does not need credit at the moment: it leaves the order and gives back a
    /// grant.
    pub(in crate::net) fn stop_waiting(&self, share: Share) {
        if let Some(index) = share.index()
            && let Some(sharer) = self.sharers.borrow_mut().get_mut(index)
        {
            self.leave_queue(index, sharer);
        }
    }

    /// Forgets a connection that ends.
    pub(in crate::net) fn forget(&self, share: &mut Share) {
        self.stop_waiting(*share);
        if let Some(index) = std::mem::take(share).index() {
            self.sharers.borrow_mut().try_remove(index);
        }
    }

    /// Collects the grants of this worker's connections every `TICK` while one of them waits, for
    /// as long as the worker runs.
    pub(in crate::net) async fn collect_grants(self: Rc<Self>) {
        let mut grants = Vec::new();
        loop {
            if !self.has_waiting() {
                self.wait_begun.notified().await;
            }
            tokio::time::sleep(TICK).await;
            // A connection that sends less than its grant leaves room for others, so this repeats.
            // Waiting for a round of the ring has the runtime submit the sends in between; a task
            // that only yields would not.
            while self.collect(&mut grants) {
                driver::everything_tried().await;
            }
        }
    }

    /// Collects grants once and wakes the connections that may send. True if there were grants.
    pub(in crate::net) fn collect(&self, grants: &mut Vec<Grant>) -> bool {
        let now_us = self.shaper.now_us();
        self.shaper.schedule().collect(self.worker, now_us, grants);
        let some = !grants.is_empty();
        let mut sharers = self.sharers.borrow_mut();
        for grant in grants.drain(..) {
            match sharers.get_mut(grant.key) {
                Some(sharer) if matches!(sharer.wait, Wait::Schedule(at) if at == grant.ticket) => {
                    sharer.wait = Wait::Granted(grant);
                    self.end_wait(grant.ticket.rank);
                    wake(sharer.key);
                }
                // No connection waits for this grant: its bytes are given back.
                _ => self.shaper.schedule().settle(grant, 0),
            }
        }
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(&(until_us, index)) = sleepers.first()
            && until_us <= now_us
        {
            sleepers.pop_first();
            if let Some(sharer) = sharers.get_mut(index)
                && let Wait::OwnCap { rank, .. } = sharer.wait
            {
                sharer.wait = Wait::OwnCapPassed;
                self.end_wait(rank);
                wake(sharer.key);
            }
        }
        some
    }

    /// Ends a sharer's wait: leaves the order, or gives back a grant.
    fn leave_queue(&self, index: usize, sharer: &mut Sharer) {
        match std::mem::replace(&mut sharer.wait, Wait::Nothing) {
            Wait::Nothing | Wait::OwnCapPassed => {}
            Wait::OwnCap { until_us, rank } => {
                self.sleepers.borrow_mut().remove(&(until_us, index));
                self.end_wait(rank);
            }
            Wait::Schedule(ticket) => {
                self.shaper.schedule().withdraw(ticket, self.worker);
                self.end_wait(ticket.rank);
            }
            Wait::Granted(grant) => self.shaper.schedule().settle(grant, 0),
        }
    }

    /// Whether no connection has a share, waits, or has credit.
    #[cfg(test)]
    pub(in crate::net) fn is_at_rest(&self) -> bool {
        self.sharers.borrow().is_empty()
            && self.sleepers.borrow().is_empty()
            && !self.has_waiting()
            && self.shaper.schedule().is_at_rest()
    }

    fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.get() > 0)
    }

    fn begin_wait(&self, rank: Rank) {
        if !self.has_waiting() {
            self.wait_begun.notify_one();
        }
        add(&self.waiting[rank as usize], 1);
    }

    fn end_wait(&self, rank: Rank) {
        let waiting = &self.waiting[rank as usize];
        waiting.set(waiting.get() - 1);
    }

    /// Sets the counters of waiting connections. To be called at each heartbeat.
    pub(in crate::net) fn count_waiting(&self, counters: &Counters) {
        let by_rank: ByRank<_> = [
            &counters.waiting_urgent_logged_in,
            &counters.waiting_urgent_logged_out,
            &counters.waiting_prefetch_logged_in,
            &counters.waiting_prefetch_logged_out,
        ];
        for (counter, waiting) in by_rank.into_iter().zip(&self.waiting) {
            counter.set(waiting.get());
        }
    }

    /// The connection's index among the sharers. Its first call makes it a sharer.
    fn index_of(&self, share: &mut Share, key: Key, now_us: u64) -> usize {
        if let Some(index) = share.index() {
            return index;
        }
        let connection = self.shaper.caps.connection;
        let index = self.sharers.borrow_mut().insert(Sharer {
            key,
            wait: Wait::Nothing,
            served: self.shaper.schedule().clocks(),
            own: connection.map(|rate| Bucket::new(rate, 2 * quantum(rate), now_us)),
        });
        *share = Share(u32::try_from(index + 1).ok().and_then(NonZeroU32::new));
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_sharer_is_the_documented_one() {
        assert_eq!(size_of::<Sharer>(), 120, "as docs/limits.md says");
    }
}
