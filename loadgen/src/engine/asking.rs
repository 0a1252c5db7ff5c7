//! What a client asks for next, and when it should have: a pure little machine.
//!
//! Time is an argument, randomness comes from the seed, so that two runs with one seed ask for
//! the same groups in the same order, whatever the server's speed.

use super::plan::{Kind, Plan, Rhythm, Work};
use fastrand::Rng;
use js5d::protocol::{Class, GroupId, MASTER_INDEX};
use std::collections::VecDeque;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Send this request, which was due at `intended_ns`.
    Request { class: Class, id: GroupId, intended_ns: u64 },
    /// Nothing before this time.
    At(u64),
    /// Nothing before an answer makes room.
    Blocked,
    /// The work is done, or the client's share of requests is.
    Finished,
}

/// Whether another request of each class may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) urgent: bool,
    pub(crate) prefetch: bool,
}

/// The arrivals of one class at one client, on the pace of the whole run.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// The number of the next arrival among those of the whole run.
    x: f64,
    /// From one arrival of this line to the next; 0 for a line without any.
    step: f64,
    due_ns: u64,
}

/// The state of one client's asking.
#[derive(Debug)]
pub(crate) struct Asker {
    rng: Rng,
    /// The next place in the sequence of the work.
    place: usize,
    /// Requests left before the work counts as done.
    visit_left: u32,
    /// What a lost connection owed: asked again before anything else.
    owed: VecDeque<(Class, GroupId)>,
    /// The work goes on on the next connection.
    goes_on: bool,
    /// Requests left for this client.
    pub(crate) budget: u64,
    lines: [Line; 2],
    burst_left: u32,
    burst_due_ns: u64,
    prefetch_due_ns: u64,
    client: u32,
}

impl Asker {
    pub(crate) fn new(client: u32, kind: &Kind, plan: &Plan) -> Self {
        let seed = plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(client);
        let mut rng = Rng::with_seed(seed);
        let lines = lines(client, kind, plan, &mut rng);
        let budget = plan.requests.map_or(u64::MAX, |all| plan.share_of(client, all));
        let mut asker = Self {
            rng,
            place: 0,
            visit_left: 0,
            owed: VecDeque::new(),
            goes_on: false,
            budget,
            lines,
            burst_left: 0,
            burst_due_ns: 0,
            prefetch_due_ns: 0,
            client,
        };
        asker.begin(kind, 0);
        asker
    }

    /// Begins the work (again).
    pub(crate) fn begin(&mut self, kind: &Kind, now: u64) {
        self.place = 0;
        self.visit_left = kind.visit_requests.unwrap_or(u32::MAX);
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
    pub(crate) fn go_on_later(&mut self, owed: impl Iterator<Item = (Class, GroupId)>) {
        self.owed.extend(owed);
        self.goes_on = true;
    }

    /// Whether the next connection goes on with the work.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// A connection is open: begins the work, or goes on with it.
    pub(crate) fn begin_or_go_on(&mut self, kind: &Kind, now: u64) {
        if !std::mem::take(&mut self.goes_on) {
            self.begin(kind, now);
        }
    }

    /// When the next visit of a client whose visits are paced is due.
    pub(crate) fn visit_due_ns(&self) -> u64 {
        self.lines[0].due_ns
    }

    /// Moves on to the next visit of a client whose visits are paced, and says when it was due.
    pub(crate) fn take_visit(&mut self, plan: &Plan) -> u64 {
        let Some(pace) = &plan.pace else { return 0 };
        let line = &mut self.lines[0];
        let due_ns = line.due_ns;
        line.x += if plan.poisson { line.step * exponential(&mut self.rng) } else { line.step };
        line.due_ns = pace.due_ns(line.x);
        due_ns
    }

    /// A number for tricks and keys, from the client's own seed.
    pub(crate) fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// What to do next.
    pub(crate) fn next(&mut self, kind: &Kind, plan: &Plan, now: u64, room: Room) -> Ask {
        // Counted against the bounds when they were asked for the first time.
        if let Some((class, id)) = self.owed.pop_front() {
            return Ask::Request { class, id, intended_ns: now };
        }
        if self.budget == 0 || self.visit_left == 0 {
            return Ask::Finished;
        }
        let ask = match &kind.work {
            Work::KeepAlive(every_ns) => self.next_keep_alive(*every_ns, now, room),
            Work::Trace(clients) => self.next_traced(clients, plan, now),
            Work::Hostile(_) => Ask::Blocked,
            _ if self.at_end(kind, plan) => Ask::Finished,
            _ if plan.pace.is_some() && !kind.paced_visits => {
                self.next_paced(kind, plan, now, room)
            }
            _ => match kind.rhythm {
                Rhythm::Eager => self.next_eager(kind, plan, now, room),
                Rhythm::Thinking { think_ns, burst, prefetch_gap_ns } => {
                    self.next_thinking(plan, now, room, (think_ns, burst, prefetch_gap_ns))
                }
            },
        };
        if matches!(ask, Ask::Request { .. }) {
            self.budget -= 1;
            self.visit_left -= 1;
        }
        ask
    }

    /// Tells `each` the due times, up to `now`, of requests of an open loop that could not be
    /// written.
    pub(crate) fn unwritten(&self, plan: &Plan, now: u64, mut each: impl FnMut(Class, u64)) {
        let Some(pace) = &plan.pace else { return };
        let mut left = self.budget;
        for (line, class) in self.lines.iter().zip([Class::Urgent, Class::Prefetch]) {
            let (mut x, mut due_ns) = (line.x, line.due_ns);
            while line.step > 0.0 && due_ns < now && left > 0 {
                each(class, due_ns);
                left -= 1;
                x += line.step;
                due_ns = pace.due_ns(x);
            }
        }
    }

    fn at_end(&self, kind: &Kind, plan: &Plan) -> bool {
        match kind.work {
            Work::Everything => self.place >= plan.catalogue.len(),
            Work::Changed(part) => {
                let changed = (plan.catalogue.groups.len() as f64 * part).ceil() as usize;
                self.place >= plan.catalogue.indexes.len() + changed
            }
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

    fn next_paced(&mut self, kind: &Kind, plan: &Plan, now: u64, room: Room) -> Ask {
        let Some(pace) = &plan.pace else { return Ask::Blocked };
        let mut next_ns = u64::MAX;
        let classes = [(Class::Urgent, room.urgent), (Class::Prefetch, room.prefetch)];
        for (index, (class, has_room)) in classes.into_iter().enumerate() {
            let line = &mut self.lines[index];
            if line.step == 0.0 || !has_room {
                continue;
            }
            if line.due_ns > now {
                next_ns = next_ns.min(line.due_ns);
                continue;
            }
            let intended_ns = line.due_ns;
            line.x += if plan.poisson { line.step * exponential(&mut self.rng) } else { line.step };
            line.due_ns = pace.due_ns(line.x);
            return Ask::Request { class, id: self.take(&kind.work, plan), intended_ns };
        }
        if next_ns == u64::MAX { Ask::Blocked } else { Ask::At(next_ns) }
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

    fn next_traced(
        &mut self,
        clients: &[crate::trace::TracedClient],
        plan: &Plan,
        now: u64,
    ) -> Ask {
        let requests = clients.get(self.client as usize).map_or(&[][..], |c| &c.requests[..]);
        let Some(request) = requests.get(self.place) else { return Ask::Finished };
        let intended_ns = (request.at_us * 1000).saturating_add(plan.warmup_ns);
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

/// A draw with mean 1, as the gaps between independent arrivals are.
fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

/// The two lines of a client: the windows decide how the pace is shared between the classes.
fn lines(client: u32, kind: &Kind, plan: &Plan, rng: &mut Rng) -> [Line; 2] {
    let windows = [kind.urgent, kind.prefetch].map(f64::from);
    let all = windows[0] + windows[1];
    let mut lines = [Line { x: 0.0, step: 0.0, due_ns: u64::MAX }; 2];
    let Some(pace) = &plan.pace else { return lines };
    for (index, line) in lines.iter_mut().enumerate() {
        let share = if kind.paced_visits { [1.0, 0.0][index] } else { windows[index] / all };
        if share > 0.0 {
            line.step = f64::from(plan.connections) / share;
            let turn = (f64::from(client) + 0.5 * index as f64) / share;
            line.x = if plan.poisson { line.step * exponential(rng) } else { turn };
            line.due_ns = pace.due_ns(line.x);
        }
    }
    lines
}

#[cfg(test)]
#[path = "asking_tests.rs"]
mod tests;
