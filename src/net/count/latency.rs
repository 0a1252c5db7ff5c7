//! How long requests wait, from a sample that costs the hot path nothing measurable.
//!
//! To time every request would take two readings of the clock for each, and memory in every
//! connection. Instead each worker picks about a thousand requests a second, and a picked request
//! counts for all that arrived since the pick before. Counts are therefore close to the number of
//! requests, and percentiles are estimates for all of them. Chance decides which request of a read
//! is picked, so neither the first nor the last of a batch is preferred.

use super::bounds::{BOUNDS_NS, LATENCY_LEN, SUM_AT};
use super::cell::add;
use super::counters::Counters;
use crate::protocol::Class;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// Requests that a worker picks in one heartbeat, at a steady load.
const PICKS_A_BEAT: u64 = 100;

/// If the load rises suddenly, picks become rarer until the next heartbeat computes the rate again.
const PICKS_UNTIL_DOUBLED: u32 = 100;

/// Requests that a worker times at once, each of another connection. Only those of slow peers take
/// long.
const PICKED_MAX: usize = 4096;

/// The index of a picked request; [`NOT_PICKED`] is none.
pub(in crate::net) type PickId = u16;

/// This connection has no picked request.
pub(in crate::net) const NOT_PICKED: PickId = PickId::MAX;

/// Picks requests and times them.
#[derive(Default)]
pub(in crate::net) struct Sampler {
    /// Requests since the last pick, which the next pick will count for.
    since: Cell<u32>,
    /// One request in so many is picked.
    interval: Cell<u32>,
    picks: Cell<u32>,
    requests_before: Cell<u64>,
    picked: RefCell<Slab<Picked>>,
}

/// A request that is timed.
struct Picked {
    class: Class,
    /// Requests that are before it in its queue.
    ahead: usize,
    /// Whether it has left its queue.
    is_begun: bool,
    /// How many requests it counts for.
    weight: u32,
    start: Instant,
}

impl Sampler {
    /// Counts so many requests; true if one of them should be picked.
    #[inline]
    pub(in crate::net) fn passes(&self, requests: u32) -> bool {
        let since = self.since.get().saturating_add(requests);
        self.since.set(since);
        since > self.interval.get()
    }

    /// Picks the request that has `ahead` others before it in its queue.
    pub(in crate::net) fn pick(&self, class: Class, ahead: usize) -> PickId {
        let mut picked = self.picked.borrow_mut();
        if picked.len() >= PICKED_MAX {
            return NOT_PICKED;
        }
        let weight = self.since.replace(0);
        self.picks.set(self.picks.get() + 1);
        if self.picks.get().is_multiple_of(PICKS_UNTIL_DOUBLED) {
            self.interval.set(self.interval.get().saturating_mul(2).max(1));
        }
        let start = Instant::now();
        let place = picked.insert(Picked { class, ahead, is_begun: false, weight, start });
        PickId::try_from(place).unwrap_or(NOT_PICKED)
    }

    /// A connection with a picked request was chosen again: the request counts for more instead.
    pub(in crate::net) fn weigh_more(&self, id: PickId) {
        if let Some(picked) = self.picked.borrow_mut().get_mut(id.into()) {
            picked.weight = picked.weight.saturating_add(self.since.replace(0));
        }
    }

    /// So many requests of each class have left the connection's queues.
    pub(in crate::net) fn left(&self, id: PickId, urgent: usize, prefetch: usize) {
        if let Some(picked) = self.picked.borrow_mut().get_mut(id.into()) {
            let left = match picked.class {
                Class::Urgent => urgent,
                Class::Prefetch => prefetch,
            };
            picked.is_begun |= left > picked.ahead;
            picked.ahead = picked.ahead.saturating_sub(left);
        }
    }

    /// The kernel has taken what had left the queues. True if the picked request was in it; it
    /// is counted then.
    pub(in crate::net) fn taken_by_kernel(&self, id: PickId, counters: &Counters) -> bool {
        let mut all = self.picked.borrow_mut();
        if !all.get(id.into()).is_some_and(|picked| picked.is_begun) {
            return false;
        }
        let picked = all.remove(id.into());
        let row = match picked.class {
            Class::Urgent => &counters.latency_urgent,
            Class::Prefetch => &counters.latency_prefetch,
        };
        record(row, picked.start.elapsed(), picked.weight.into());
        true
    }

    /// The connection ends before its picked request is answered.
    pub(in crate::net) fn forget(&self, id: PickId) {
        self.picked.borrow_mut().try_remove(id.into());
    }

    /// A heartbeat: the number of requests since the last one decides how often to pick.
    pub(in crate::net) fn beat(&self, counters: &Counters) {
        let requests = counters.requests_urgent.get() + counters.requests_prefetch.get();
        let recent = requests - self.requests_before.replace(requests);
        let interval = u32::try_from(recent / PICKS_A_BEAT).unwrap_or(u32::MAX);
        self.interval.set(interval);
        self.picks.set(0);
    }
}

fn record(row: &[Cell<u64>; LATENCY_LEN], waited: Duration, weight: u64) {
    let waited_ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
    let place = BOUNDS_NS.partition_point(|&bound| bound < waited_ns);
    if let Some(count) = row.get(place) {
        add(count, weight);
    }
    if let Some(sum) = row.get(SUM_AT) {
        add(sum, waited_ns.saturating_mul(weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(row: &[Cell<u64>; LATENCY_LEN]) -> u64 {
        row[..SUM_AT].iter().map(Cell::get).sum()
    }

    #[test]
    fn a_wait_is_counted_below_the_bound_that_holds_it() {
        let row: [Cell<u64>; LATENCY_LEN] = std::array::from_fn(|_| Cell::new(0));
        for (waited_ns, place) in
            [(0, 0), (10_000, 0), (10_001, 1), (999_999, 8), (31_600_000_000, 26), (1 << 40, 27)]
        {
            let before = row[place].get();
            record(&row, Duration::from_nanos(waited_ns), 3);
            assert_eq!(row[place].get(), before + 3, "{waited_ns} ns");
        }
        assert_eq!(counts(&row), 18);
        assert_eq!(row[SUM_AT].get(), 3 * (10_000 + 10_001 + 999_999 + 31_600_000_000 + (1 << 40)));
    }

    #[test]
    fn a_picked_request_is_counted_when_the_kernel_has_it_and_not_before() {
        let (sampler, counters) = (Sampler::default(), Counters::default());
        assert!(sampler.passes(40), "an idle worker picks at once");
        let id = sampler.pick(Class::Prefetch, 2);
        sampler.left(id, 20, 2);
        assert!(!sampler.taken_by_kernel(id, &counters), "two were before it");
        sampler.left(id, 0, 1);
        assert!(sampler.taken_by_kernel(id, &counters));
        assert_eq!(counts(&counters.latency_prefetch), 40, "it stands for the whole batch");
        assert_eq!(counts(&counters.latency_urgent), 0);
        sampler.forget(id);
        assert!(!sampler.taken_by_kernel(id, &counters));
    }

    #[test]
    fn the_number_of_picks_is_bounded_whatever_the_load() {
        let (sampler, counters) = (Sampler::default(), Counters::default());
        let mut requests = 0;
        for beat in 0..20 {
            let mut picks = 0;
            for _ in 0..15_000 {
                add(&counters.requests_urgent, 40);
                requests += 40;
                if sampler.passes(40) {
                    let id = sampler.pick(Class::Urgent, 0);
                    sampler.left(id, 40, 0);
                    assert!(sampler.taken_by_kernel(id, &counters));
                    picks += 1;
                }
            }
            sampler.beat(&counters);
            // The first beat does not know the load: each hundred picks halve what follows.
            let max = if beat == 0 { 1500 } else { 110 };
            assert!((50..max).contains(&picks), "{picks} at beat {beat}");
        }
        let counted = counts(&counters.latency_urgent);
        assert!(requests - counted < 10_000, "{counted} of {requests} are stood for");
    }
}
