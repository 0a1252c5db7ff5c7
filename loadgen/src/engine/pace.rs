//! The pace of an open loop: when the n-th arrival of the whole run is due, and who takes it.
//!
//! A worker has a [`Line`] of arrivals for each kind of clients that the pace counts, and for each
//! class of their requests. An arrival is given to a client only when it is due: to the one that
//! has been ready for longest. If none is ready, the arrival waits in the line and keeps its time.
//! So there is no queue that could overflow, and no arrival is lost with a client that is refused,
//! cut or done. Arrivals that still wait at the end of the run are counted.

use super::plan::{Curve, Plan};
use crate::scenario::Paced;
use fastrand::Rng;
use js5d::protocol::Class;
use std::collections::VecDeque;

/// Arrivals that were never written are recorded at this many different times at most.
const UNWRITTEN_STEPS_MAX: f64 = 100_000.0;

/// An arrival that is due, and the client that is to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    line: usize,
    pub(crate) slot: u32,
    pub(crate) class: Class,
    pub(crate) due_ns: u64,
    /// When it could have been taken: what passes from here on is the generator's lateness.
    pub(crate) possible_ns: u64,
}

/// The arrivals of one kind and class at one worker.
#[derive(Debug)]
struct Line {
    kind: usize,
    class: Class,
    /// The number of the next arrival among those of the whole run, and from one to the next.
    x: f64,
    step: f64,
    /// When the next one is due; never, once no client of the kind wants to ask any more.
    due_ns: u64,
    ready: VecDeque<u32>,
    /// Since when a client has been ready.
    ready_since_ns: u64,
    /// Clients that have not done all they wanted to do.
    clients: u32,
}

/// The arrivals at one worker.
#[derive(Debug)]
pub(crate) struct Arrivals {
    curve: Option<Curve>,
    lines: Vec<Line>,
    /// Draws the gaps, if arrivals are independent of each other.
    rng: Option<Rng>,
}

impl Arrivals {
    /// The share of worker `worker` in the plan's pace: as large as its share of the clients that
    /// the pace counts.
    pub(crate) fn new(plan: &Plan, worker: u32) -> Self {
        let mut arrivals = Self { curve: plan.pace, lines: Vec::new(), rng: None };
        let Some(curve) = plan.pace else { return arrivals };
        let workers = u64::from(plan.part.of) * u64::from(plan.threads);
        let place = u64::from(plan.part.index) * u64::from(plan.threads) + u64::from(worker);
        if plan.poisson {
            let seed = plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place;
            arrivals.rng = Some(Rng::with_seed(seed));
        }
        let mut own = vec![0_u32; plan.kinds.len()];
        plan.clients_of(worker).for_each(|client| own[plan.kind_of(client)] += 1);
        let is_paced = |client: &u32| plan.kinds[plan.kind_of(*client)].paced != Paced::Nothing;
        let all = (0..plan.connections).filter(is_paced).count() as f64;
        for (index, kind) in plan.kinds.iter().enumerate() {
            let windows = match kind.paced {
                Paced::Nothing => continue,
                Paced::Visits => [1.0, 0.0],
                Paced::Requests => [kind.urgent, kind.prefetch].map(f64::from),
            };
            for (class, window) in [Class::Urgent, Class::Prefetch].into_iter().zip(windows) {
                let share = f64::from(own[index]) / all * window / (windows[0] + windows[1]);
                if share > 0.0 {
                    arrivals.lines.push(Line {
                        kind: index,
                        class,
                        x: 0.0,
                        step: 1.0 / share,
                        due_ns: 0,
                        ready: VecDeque::new(),
                        ready_since_ns: 0,
                        clients: own[index],
                    });
                }
            }
        }
        // Lines and workers take turns, so that all together are one even pace.
        let turns = arrivals.lines.len() as f64 * workers as f64;
        for (number, line) in arrivals.lines.iter_mut().enumerate() {
            let turn = number as f64 * workers as f64 + place as f64;
            let gap = arrivals.rng.as_mut().map_or(turn / turns, exponential);
            line.x = gap * line.step;
            line.due_ns = curve.due_ns(line.x);
        }
        arrivals
    }

    /// A client of a kind can take an arrival of a class from now on. It is asked once; after
    /// that it says so again.
    pub(crate) fn ready(&mut self, kind: usize, class: Class, slot: u32, now_ns: u64) {
        let line = self.lines.iter_mut().find(|line| line.kind == kind && line.class == class);
        if let Some(line) = line {
            if line.ready.is_empty() {
                line.ready_since_ns = now_ns;
            }
            line.ready.push_back(slot);
        }
    }

    /// The client has done all it wanted to do. When all of its kind have, nothing more is due.
    pub(crate) fn done(&mut self, kind: usize) {
        for line in self.lines.iter_mut().filter(|line| line.kind == kind) {
            line.clients = line.clients.saturating_sub(1);
            if line.clients == 0 {
                line.due_ns = u64::MAX;
            }
        }
    }

    /// The next that is due, if a client is ready for it. It stays due unless it is `taken`.
    pub(crate) fn call(&mut self, now_ns: u64) -> Option<Call> {
        let is_due =
            |line: &(usize, &mut Line)| line.1.due_ns <= now_ns && !line.1.ready.is_empty();
        let lines = self.lines.iter_mut().enumerate().filter(is_due);
        let (index, line) = lines.min_by_key(|(_, line)| line.due_ns)?;
        let slot = line.ready.pop_front()?;
        let Line { class, due_ns, ready_since_ns, .. } = *line;
        let possible_ns = due_ns.max(ready_since_ns);
        Some(Call { line: index, slot, class, due_ns, possible_ns })
    }

    /// The client has taken it.
    pub(crate) fn taken(&mut self, call: &Call) {
        let (Some(curve), Some(line)) = (&self.curve, self.lines.get_mut(call.line)) else {
            return;
        };
        line.x += self.rng.as_mut().map_or(line.step, |rng| line.step * exponential(rng));
        line.due_ns = curve.due_ns(line.x);
    }

    /// When the next is due for which a client is ready.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let awaited = self.lines.iter().filter(|line| !line.ready.is_empty());
        awaited.map(|line| line.due_ns).min()
    }

    /// Tells `each` what was due before `now` and not taken: class, time, and how many.
    pub(crate) fn unwritten(&self, now_ns: u64, mut each: impl FnMut(Class, u64, u64)) {
        let Some(curve) = &self.curve else { return };
        for line in self.lines.iter().filter(|line| line.due_ns < now_ns) {
            let count = ((curve.arrivals(now_ns) - line.x) / line.step).ceil();
            let at_once = (count / UNWRITTEN_STEPS_MAX).ceil().max(1.0);
            let (mut x, mut due_ns) = (line.x, line.due_ns);
            while due_ns < now_ns {
                each(line.class, due_ns, at_once as u64);
                x += line.step * at_once;
                due_ns = curve.due_ns(x);
            }
        }
    }
}

/// A draw with mean 1, as the gaps between independent arrivals are.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
