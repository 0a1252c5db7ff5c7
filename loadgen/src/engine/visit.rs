//! A client's visits: what it asks for next, when that was due, and what follows when all of it
//! is answered. A pure state machine.
//!
//! Time is an argument and randomness comes from the seed, so that two runs with one seed ask for
//! the same groups in the same order, whatever the server's speed. In an open loop `pace` decides
//! when a request is due, and this file decides which group it asks for.

use super::pace::exponential;
use super::plan::Plan;
use crate::scenario::{Kind, Paced, Rhythm, Then, Work};
use crate::trace::TracedClient;
use fastrand::Rng;
use js5d::protocol::{Class, GroupId, MASTER_INDEX};
use std::collections::VecDeque;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Send this request, which was due at `intended_ns`.
    Request { class: Class, id: GroupId, intended_ns: u64 },
    /// Send this again, which an earlier connection owed.
    Again { class: Class, id: GroupId, intended_ns: u64 },
    /// Nothing before this time.
    At(u64),
    /// Nothing before an answer makes room.
    Blocked,
    /// Nothing before the pace calls.
    OnCall,
    /// The work is done, or the client's share of requests is.
    Finished,
}

/// Whether another request of each class may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) urgent: bool,
    pub(crate) prefetch: bool,
}

/// What follows a visit whose requests are all answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The work again, at once.
    Again,
    /// The work again, on a new connection.
    Reconnect,
    /// Nothing; the connection stays up.
    Rest,
    /// Nothing.
    Done,
}

/// A client's visits.
#[derive(Debug)]
pub(crate) struct Visit {
    rng: Rng,
    /// The next place in the sequence of the work.
    place: usize,
    /// Requests left before the work counts as done.
    requests_left: u32,
    /// What a lost connection owed, with the times at which it was due: asked again before
    /// anything else.
    owed: VecDeque<(Class, GroupId, u64)>,
    /// The work goes on on the next connection.
    goes_on: bool,
    /// Requests left for this client.
    budget: u64,
    burst_left: u32,
    burst_due_ns: u64,
    prefetch_due_ns: u64,
    client: u32,
    /// When it began, or should have.
    started_ns: u64,
    downloads: u32,
}

impl Visit {
    pub(crate) fn new(client: u32, kind: &Kind, plan: &Plan) -> Self {
        let seed = plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(client);
        let budget = plan.requests.map_or(u64::MAX, |all| plan.share_of(client, all));
        let mut visit = Self {
            rng: Rng::with_seed(seed),
            place: 0,
            requests_left: 0,
            owed: VecDeque::new(),
            goes_on: false,
            budget,
            burst_left: 0,
            burst_due_ns: 0,
            prefetch_due_ns: 0,
            client,
            started_ns: 0,
            downloads: 0,
        };
        visit.begin(kind, 0);
        visit
    }

    /// Begins the work (again).
    fn begin(&mut self, kind: &Kind, now: u64) {
        self.place = 0;
        self.requests_left = kind.visit_requests.unwrap_or(u32::MAX);
        self.owed.clear();
        self.goes_on = false;
        self.burst_left = 0;
        if let Rhythm::Thinking { think_ns, prefetch_gap_ns, .. } = kind.rhythm {
            self.burst_due_ns = now + self.exponential(think_ns);
            self.prefetch_due_ns = now + self.exponential(prefetch_gap_ns);
        }
        if let Work::KeepAlive(every_ns) = kind.work {
            self.burst_due_ns = now + every_ns;
        }
    }

    /// The connection is lost: what it owed is asked for again on the next one, and the work goes
    /// on from where it was.
    pub(crate) fn go_on_later(&mut self, owed: impl Iterator<Item = (Class, GroupId, u64)>) {
        let later = std::mem::take(&mut self.owed);
        self.owed.extend(owed);
        self.owed.extend(later);
        self.goes_on = true;
    }

    /// What was owed by a connection and has not been asked for again.
    pub(crate) fn owed(&self) -> impl Iterator<Item = (Class, GroupId, u64)> {
        self.owed.iter().copied()
    }

    /// A connection is begun for a visit that was due at `due_ns`.
    pub(crate) fn connects(&mut self, due_ns: u64) {
        if !self.goes_on {
            self.started_ns = due_ns;
        }
    }

    /// When the visit began, or should have.
    pub(crate) fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// A connection is open: begins the work, or goes on with it. What a trace says is said once.
    pub(crate) fn begin_or_go_on(&mut self, kind: &Kind, now: u64) {
        let is_trace = matches!(kind.work, Work::Trace(_));
        if !std::mem::take(&mut self.goes_on) && !is_trace {
            self.begin(kind, now);
        }
    }

    /// All that was asked for is answered: what follows, and whether that was a download.
    pub(crate) fn end(&mut self, kind: &Kind, plan: &Plan, now: u64) -> (Next, bool) {
        let is_download = self.budget > 0 && kind.is_download;
        self.downloads += u32::from(is_download);
        let enough = plan.downloads.is_some_and(|enough| self.downloads >= enough);
        let next = match kind.then {
            _ if self.budget == 0 || enough => Next::Done,
            Then::Repeat => Next::Again,
            Then::Reconnect => Next::Reconnect,
            Then::Stay if plan.duration_ns.is_none() => Next::Done,
            Then::Stay => Next::Rest,
        };
        match next {
            Next::Again => {
                self.started_ns = now;
                self.begin(kind, now);
            }
            Next::Reconnect => self.begin(kind, now),
            Next::Rest | Next::Done => {}
        }
        (next, is_download)
    }

    /// A number for tricks and keys, from the client's own seed.
    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// What to do next.
    pub(crate) fn next(&mut self, kind: &Kind, plan: &Plan, now: u64, room: Room) -> Ask {
        // Counted against the bounds when they were asked for the first time.
        if let Some((class, id, intended_ns)) = self.owed.pop_front() {
            return Ask::Again { class, id, intended_ns };
        }
        if self.is_at_end(kind, plan) {
            return Ask::Finished;
        }
        let ask = match &kind.work {
            Work::KeepAlive(every_ns) => self.next_keep_alive(*every_ns, now, room),
            Work::Trace(clients) => self.next_traced(clients, plan, now),
            Work::Hostile(_) => Ask::Blocked,
            _ if plan.pace.is_some() && kind.paced == Paced::Requests => Ask::OnCall,
            _ => match kind.rhythm {
                Rhythm::Eager => self.next_eager(kind, plan, now, room),
                Rhythm::Thinking { think_ns, burst, prefetch_gap_ns } => {
                    self.next_thinking(plan, now, room, (think_ns, burst, prefetch_gap_ns))
                }
            },
        };
        if matches!(ask, Ask::Request { .. }) {
            self.count();
        }
        ask
    }

    /// The group for which the pace has called; `None` if the work is done.
    pub(crate) fn called(&mut self, kind: &Kind, plan: &Plan) -> Option<GroupId> {
        if !self.owed.is_empty() || self.is_at_end(kind, plan) {
            return None;
        }
        self.count();
        Some(self.take(&kind.work, plan))
    }

    fn count(&mut self) {
        self.budget -= 1;
        self.requests_left -= 1;
    }

    /// The requests of a trace that have not been asked for: class, and when they are due. All of
    /// them, or those that are due before `until_ns`.
    pub(crate) fn untraced(
        &self,
        kind: &Kind,
        plan: &Plan,
        until_ns: u64,
    ) -> impl Iterator<Item = (Class, u64)> {
        let clients = match &kind.work {
            Work::Trace(clients) => &clients[..],
            _ => &[],
        };
        let left = clients.get(self.client as usize).map_or(&[][..], |c| &c.requests[..]);
        let left = left.get(self.place..).unwrap_or_default();
        let due = left.iter().map(|request| (request.class, due_ns(request.at_us, plan)));
        due.take_while(move |(_, due_ns)| *due_ns < until_ns)
    }

    fn is_at_end(&self, kind: &Kind, plan: &Plan) -> bool {
        if self.budget == 0 || self.requests_left == 0 {
            return true;
        }
        match &kind.work {
            Work::Everything => self.place >= plan.catalogue.len(),
            Work::Changed(part) => {
                let changed = (plan.catalogue.groups.len() as f64 * part).ceil() as usize;
                self.place >= plan.catalogue.indexes.len() + changed
            }
            Work::Listed(groups) => self.place >= groups.len(),
            Work::MasterIndex => self.place > 0,
            _ => false,
        }
    }

    /// The next group of the work's sequence.
    fn take(&mut self, work: &Work, plan: &Plan) -> GroupId {
        let place = self.place;
        self.place += 1;
        let catalogue = &plan.catalogue;
        match work {
            Work::Popular => catalogue.popular(&mut self.rng),
            Work::MasterIndex => MASTER_INDEX,
            Work::Listed(groups) => groups.get(place).copied().unwrap_or(MASTER_INDEX),
            _ => match place.checked_sub(catalogue.indexes.len()) {
                None => catalogue.indexes[place],
                // Changed groups are the same for all clients; a whole download begins
                // elsewhere for each, so that clients do not march in step.
                Some(group) => {
                    let from = if matches!(work, Work::Changed(_)) { 0 } else { self.offset(plan) };
                    catalogue.groups[(group + from) % catalogue.groups.len()]
                }
            },
        }
    }

    fn offset(&self, plan: &Plan) -> usize {
        // The golden ratio spreads any number of clients evenly over the sequence.
        let part = u64::from(self.client).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((part * plan.catalogue.groups.len() as u64) >> 32) as usize
    }

    fn next_eager(&mut self, kind: &Kind, plan: &Plan, now: u64, room: Room) -> Ask {
        let class = match room {
            Room { urgent: true, .. } => Class::Urgent,
            Room { prefetch: true, .. } => Class::Prefetch,
            _ => return Ask::Blocked,
        };
        // The real client waits for the indexes before it asks for what they list, and a
        // popular group is urgent or not by the window that has room: nothing to wait for here.
        Ask::Request { class, id: self.take(&kind.work, plan), intended_ns: now }
    }

    fn next_thinking(
        &mut self,
        plan: &Plan,
        now: u64,
        room: Room,
        (think_ns, burst, prefetch_gap_ns): (u64, u32, u64),
    ) -> Ask {
        if self.burst_left == 0 && self.burst_due_ns <= now {
            self.burst_left = self.rng.u32(1..=burst.max(1));
        }
        if self.burst_left > 0 && room.urgent {
            self.burst_left -= 1;
            let intended_ns = self.burst_due_ns;
            if self.burst_left == 0 {
                self.burst_due_ns = now + self.exponential(think_ns);
            }
            let id = plan.catalogue.popular(&mut self.rng);
            return Ask::Request { class: Class::Urgent, id, intended_ns };
        }
        if self.prefetch_due_ns <= now && room.prefetch {
            let intended_ns = self.prefetch_due_ns;
            self.prefetch_due_ns += self.exponential(prefetch_gap_ns);
            let id = plan.catalogue.popular(&mut self.rng);
            return Ask::Request { class: Class::Prefetch, id, intended_ns };
        }
        let burst = if self.burst_left > 0 { u64::MAX } else { self.burst_due_ns };
        let prefetch = if room.prefetch { self.prefetch_due_ns } else { u64::MAX };
        match burst.min(prefetch) {
            u64::MAX => Ask::Blocked,
            due => Ask::At(due),
        }
    }

    fn next_keep_alive(&mut self, every_ns: u64, now: u64, room: Room) -> Ask {
        let intended_ns = self.burst_due_ns;
        if intended_ns > now {
            return Ask::At(intended_ns);
        }
        if !room.urgent {
            return Ask::Blocked;
        }
        self.burst_due_ns = now + every_ns;
        Ask::Request { class: Class::Urgent, id: MASTER_INDEX, intended_ns }
    }

    fn next_traced(&mut self, clients: &[TracedClient], plan: &Plan, now: u64) -> Ask {
        let requests = clients.get(self.client as usize).map_or(&[][..], |c| &c.requests[..]);
        let Some(request) = requests.get(self.place) else { return Ask::Finished };
        let intended_ns = due_ns(request.at_us, plan);
        if intended_ns > now {
            return Ask::At(intended_ns);
        }
        self.place += 1;
        Ask::Request { class: request.class, id: request.id, intended_ns }
    }

    fn exponential(&mut self, mean_ns: u64) -> u64 {
        (exponential(&mut self.rng) * mean_ns as f64) as u64
    }
}

/// When a request of a trace is due: its time counts from the end of the warm-up.
fn due_ns(at_us: u64, plan: &Plan) -> u64 {
    at_us.saturating_mul(1000).saturating_add(plan.warmup_ns)
}

#[cfg(test)]
#[path = "visit_tests.rs"]
mod tests;
