//! Sharing the line: what a worker's connections may send under the caps.
//!
//! Without a cap, a batch costs one check of an empty option. All workers share one [`Shaper`],
//! under a lock that is taken a few times for each batch of some kilobytes, so that ranks and
//! shares hold across workers. A connection without credit goes on reading and waits. While one of
//! its connections waits, a worker collects grants every `TICK` and wakes the connections that they
//! are for. Bytes count as sent when the kernel has taken them; headers of TCP and IP are not
//! counted.

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

/// How often a worker collects grants while one of its connections waits: what a higher rank
/// may have to wait beside the line itself. The time of 50 kB at 10 MB/s.
const TICK: Duration = Duration::from_millis(5);

#[cfg(test)]
thread_local! {
    static SIMULATED_US: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Has the shapers of this thread see this time, and no clock: for simulations.
#[cfg(test)]
pub(in crate::net) fn simulate_time(now_us: u64) {
    SIMULATED_US.set(Some(now_us));
}

/// The schedule of all workers, and its clock.
#[derive(Debug)]
pub struct Shaper {
    caps: Caps,
    start: Instant,
    /// Workers that have begun: the number of the next.
    workers: AtomicUsize,
    schedule: Mutex<Schedule>,
}

impl Shaper {
    /// A shaper, if there is a cap.
    #[must_use]
    pub fn new(caps: Caps, workers: usize) -> Option<Arc<Self>> {
        let schedule = Mutex::new(Schedule::new(caps, workers));
        let (start, begun) = (Instant::now(), AtomicUsize::new(0));
        (caps != Caps::default()).then(|| Arc::new(Self { caps, start, workers: begun, schedule }))
    }

    /// What it holds to.
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

    /// Whether a rank has to ask all workers' schedule.
    fn is_shared(&self, rank: Rank) -> bool {
        self.caps.total.is_some() || (rank.is_prefetch() && self.caps.prefetch.is_some())
    }
}

/// What a connection waits for.
#[derive(Debug)]
enum Wait {
    Nothing,
    /// Its own cap: nothing until then.
    OwnCap {
        until_us: u64,
        rank: Rank,
    },
    /// Its own cap lets it go on.
    OwnCapPassed,
    /// Its turn.
    Schedule(Ticket),
    /// It is its turn.
    Granted(Grant),
}

/// A connection's number among those that share the line; none before it has something to send.
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
    /// What it was sent, on each rank's own count.
    served: ByRank<u64>,
    /// Its own cap.
    own: Option<Bucket>,
}

/// Permission to send, to be settled as soon as the bytes that are sent are known.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Credit {
    pub(in crate::net) rank: Rank,
    /// Bytes at which the batch is full; the response that reaches them may end beyond.
    pub(in crate::net) len: usize,
    /// What the schedule granted; none if it was not asked.
    granted: Option<Grant>,
}

/// A worker's connections under the caps.
#[derive(Debug)]
pub(in crate::net) struct Egress {
    shaper: Arc<Shaper>,
    worker: usize,
    sharers: RefCell<Slab<Sharer>>,
    /// Those that wait for their own cap, the first to go first.
    sleepers: RefCell<BTreeSet<(u64, usize)>>,
    /// Connections that wait for credit.
    waiting: ByRank<Cell<u64>>,
    /// Notified when a connection waits.
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

    /// Whether what is urgent has to go alone, as a cap holds for prefetch by itself.
    pub(in crate::net) fn separates_classes(&self) -> bool {
        self.shaper.caps.total.is_some() || self.shaper.caps.prefetch.is_some()
    }

    /// Whether a connection waits for credit.
    pub(in crate::net) fn is_waiting(&self, share: Share) -> bool {
        let sharers = self.sharers.borrow();
        let sharer = share.index().and_then(|index| sharers.get(index));
        sharer.is_some_and(|sharer| matches!(sharer.wait, Wait::OwnCap { .. } | Wait::Schedule(_)))
    }

    /// Leave to send in a rank. Without it the connection waits, and is woken.
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
            // A higher rank, or another player's state: the place in the order is another.
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
        // Its last response may go beyond what a batch aims at, and not beyond what was granted.
        let aim = granted.map_or(u64::MAX, |grant| grant.len - COPY_LEN_MAX as u64);
        let len = aim.min(len_max);
        Some(Credit { rank, len: usize::try_from(len).unwrap_or(usize::MAX), granted })
    }

    /// Takes note of what was sent on credit, `prefetch_sent` of it in prefetch responses.
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

    /// Nothing is left to send: the connection waits no more.
    pub(in crate::net) fn stop_waiting(&self, share: Share) {
        if let Some(index) = share.index()
            && let Some(sharer) = self.sharers.borrow_mut().get_mut(index)
        {
            self.leave_queue(index, sharer);
        }
    }

    /// The connection ends.
    pub(in crate::net) fn forget(&self, share: &mut Share) {
        self.stop_waiting(*share);
        if let Some(index) = std::mem::take(share).index() {
            self.sharers.borrow_mut().try_remove(index);
        }
    }

    /// Collects what this worker's connections are granted, for as long as it runs.
    pub(in crate::net) async fn pace(self: Rc<Self>) {
        let mut grants = Vec::new();
        loop {
            if !self.has_waiting() {
                self.wait_begun.notified().await;
            }
            tokio::time::sleep(TICK).await;
            // A connection that sends less than its grant leaves room for others. What was
            // sent is submitted in between; where a task merely yields, the runtime does not.
            while self.collect(&mut grants) {
                driver::everything_tried().await;
            }
        }
    }

    /// Wakes connections that may send. True if there were grants.
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
                // No connection waits for it: it must not be lost.
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

    /// Gives up a place in the order, or gives back a grant.
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

    /// Counts connections that wait; to be called at the heartbeat.
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

    /// The connection's place among those that share; given out when it first has something to
    /// send.
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
    fn what_a_cap_costs_a_connection_is_known() {
        assert_eq!(size_of::<Sharer>(), 120, "as docs/limits.md says");
    }
}
