//! One run: workers, their connections, and what chance has happen to them.
//!
//! In the first phase events happen at random. In the second nothing fails, and all peers but a few
//! read at once: all their requests must be answered in bounded time. In the last the peers leave
//! or the server stops, and every pooled or counted thing must have been given back.

use super::catalog::{Catalog, GENERATIONS, catalog};
use super::link::{Failure, Kernel, Link, Rate, Scene};
use super::peer::{Peer, Rules};
use super::stats::Stats;
use super::tally::Fault;
use super::tally::Tally;
use crate::catalog::SnapshotHandle;
use crate::net::admission::Admission;
use crate::net::connection::{Deadlines, Machine};
use crate::net::count::{Close, LogGates};
use crate::net::driver::{Driver, HEARTBEAT_MS, Key, ReadyList, wake};
use crate::net::generations::Generations;
use crate::net::line::{Caps, Shaper, simulate_time};
use crate::net::{ConnectionLimits, Course, Front, Openings, ServeConfig, Shared};
use crate::protocol::profile::table;
use crate::protocol::{Builds, Clients, Status};
use crate::proxy::Trusted;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

/// Connections of a run at a time.
const LINKS: usize = 5;

const BEAT_US: u64 = HEARTBEAT_MS * 1000;

/// How often credit is collected.
const TICK_US: u64 = 5000;

/// Longer than every deadline.
const END_US: u64 = 60_000_000;

/// Steps in a row by which connections may wake one another; more count as an endless circle.
const ROUNDS_MAX: usize = 1000;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Builds of every framing and of every handshake; build 550, the most important, is the most
/// frequent.
const BUILDS: [u32; 24] = [
    550, 550, 550, 550, 550, 550, 550, 550, 550, 550, 550, 550, 550, 550, 200, 300, 450, 515, 650,
    718, 750, 840, 880, 920,
];

const QUEUE_LENS_MAX: [usize; 4] = [1, 3, 20, 200];

/// The clients of all runs, by the length of their queues.
fn clients() -> &'static [Arc<Clients>; QUEUE_LENS_MAX.len()] {
    static CLIENTS: OnceLock<[Arc<Clients>; QUEUE_LENS_MAX.len()]> = OnceLock::new();
    CLIENTS.get_or_init(|| {
        QUEUE_LENS_MAX.map(|len| {
            Arc::new(Clients::new(table::all(), Builds::Any, len).expect("the table is sound"))
        })
    })
}

struct Worker {
    shared: Shared,
    generations: Generations,
    deadlines: Deadlines,
    course: Course,
    tally: Tally,
}

/// One run.
pub(super) struct World {
    rng: fastrand::Rng,
    rules: Rules,
    caps: Caps,
    catalog: &'static Catalog,
    clients: &'static Clients,
    handle: Arc<SnapshotHandle>,
    openings: Arc<Openings>,
    generation: usize,
    workers: Vec<Worker>,
    /// By the index of their key. An index is used again when its connection has ended.
    links: Vec<Option<Link>>,
    ready: ReadyList,
    now_us: u64,
    has_faults: bool,
    stats: Stats,
}

/// Performs the run of a seed.
pub(super) fn run(seed: u64) -> Result<Stats, Fault> {
    let mut world = World::new(seed);
    world.play()?;
    world.answer_all()?;
    world.end()?;
    world.stats.runs = 1;
    Ok(world.stats)
}

impl World {
    fn new(seed: u64) -> Self {
        // A run that failed before on this thread may have left connections in its ready list.
        let mut ready = ReadyList::default();
        let _ = ready.poll_take(&Context::from_waker(Waker::noop()));
        simulate_time(0);
        fastrand::seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let catalog = catalog();
        let place = rng.usize(..QUEUE_LENS_MAX.len());
        let caps = any_caps(&mut rng);
        let rules = Rules {
            queue_len_max: QUEUE_LENS_MAX[place],
            close_on_missing: rng.u8(..4) == 0,
            break_off: rng.u8(..8) != 0,
            is_capped: caps != Caps::default(),
            chatter_max: if rng.u8(..10) == 0 { 1 } else { 3000 },
            large_percent: [0, 3, 15, 60][rng.usize(..4)],
        };
        let workers = 1 + usize::from(rng.u8(..4) == 0);
        let handle = Arc::new(SnapshotHandle::of(Arc::clone(&catalog.snapshots[0])));
        let clients = &clients()[place];
        let shaper = Shaper::new(caps, workers);
        let config = config(&mut rng, rules, Arc::clone(clients), Arc::clone(&handle), shaper);
        let config = Arc::new(config);
        let worker = || {
            let shared = Shared::new(Arc::clone(&config));
            Worker {
                deadlines: Deadlines::new(&shared),
                shared,
                generations: Generations::default(),
                course: Course::Serving,
                tally: Tally::default(),
            }
        };
        Self {
            rules,
            caps,
            catalog,
            clients,
            handle,
            openings: Openings::new(Some(LINKS)),
            generation: 0,
            workers: (0..workers).map(|_| worker()).collect(),
            links: (0..LINKS).map(|_| None).collect(),
            ready,
            now_us: 0,
            has_faults: rng.bool(),
            stats: Stats::default(),
            rng,
        }
    }

    // In any order.

    fn play(&mut self) -> Result<(), Fault> {
        self.connect();
        for _ in 0..self.rng.usize(30..250) {
            self.happen()?;
            if self.rng.u8(..8) != 0 {
                self.step_ready()?;
            }
        }
        self.step_ready()
    }

    /// Has one random event happen.
    fn happen(&mut self) -> Result<(), Fault> {
        let place = self.rng.usize(..LINKS);
        let worker = place % self.workers.len();
        match self.rng.u16(..1000) {
            0..330 => {
                let len_max = [1, 7, 40, 256, 256][self.rng.usize(..5)];
                if let Some(link) = &mut self.links[place] {
                    link.deliver(len_max);
                }
            }
            330..500 => {
                if let Some(link) = &mut self.links[place] {
                    link.peer.say(&mut self.rng);
                }
            }
            500..800 => {
                let us = [10, 100, 1000, 5000, 40_000][self.rng.usize(..5)];
                self.advance(us)?;
            }
            800..860 => self.workers[worker].shared.turns.simulate_round(),
            860..900 => self.connect(),
            900..920 => self.fail(place),
            920..950 => {
                // Load of connections that the model does not hold.
                let len = if self.rng.bool() { 1 << 20 } else { 100 };
                self.workers[worker].shared.turns.charge(len, false);
            }
            950..960 => self.swap(),
            960..975 => {
                if let Some(link) = &mut self.links[place] {
                    link.kernel.rate = any_rate(&mut self.rng);
                }
            }
            975..985 => wake(Key::new(place)),
            985..990 => self.workers[worker].shared.set_busy(self.rng.bool()),
            990..993 => self.stop(worker),
            993 => {
                if let Some(link) = &mut self.links[place] {
                    link.cut(Close::Error);
                }
            }
            _ => self.advance(BEAT_US)?,
        }
        Ok(())
    }

    fn connect(&mut self) {
        let Some(place) = self.links.iter().position(Option::is_none) else { return };
        let Worker { shared, course, .. } = &self.workers[place % self.workers.len()];
        let rng = &mut self.rng;
        if course.is_draining() {
            return;
        }
        let build = BUILDS[rng.usize(..BUILDS.len())];
        let profiles = self.clients.profiles();
        let profile = profiles.iter().find(|profile| profile.builds.contains(&build));
        let profile = profile.expect("each build has one");
        let refusal = match rng.u8(..20) {
            0 => Some(Status::ServerFull),
            1 => Some(Status::TooManyConnections),
            _ => None,
        };
        let peer = Peer::new(self.rules, profile, build, self.generation, refusal, rng);
        let silent = if rng.bool() { self.openings.take(ADDRESS) } else { None };
        let now_ms = shared.now_ms();
        let machine = Machine::new(shared, refusal, silent, now_ms);
        let kernel = Kernel::new(1 << rng.u32(10..19), any_rate(rng));
        self.links[place] = Some(Link::new(Key::new(place), machine, peer, kernel, now_ms));
    }

    fn fail(&mut self, place: usize) {
        let Some(link) = &mut self.links[place] else { return };
        if self.has_faults {
            let is_lasting = self.rng.u8(..6) == 0;
            let failure = if is_lasting { Failure::Reset } else { Failure::Passing };
            link.fail_operation(failure, self.rng.bool());
        }
    }

    fn swap(&mut self) {
        self.generation = (self.generation + 1) % GENERATIONS;
        self.handle.set_current(Arc::clone(&self.catalog.snapshots[self.generation]));
        self.stats.swaps += 1;
    }

    /// The worker stops, or leaves its listeners to another process, from its next heartbeat on.
    fn stop(&mut self, worker: usize) {
        let stops = self.rng.bool();
        let course = &mut self.workers[worker].course;
        if !course.is_draining() {
            *course = if stops { Course::Stopping } else { Course::HandedOver };
        }
    }

    // Time.

    /// Lets time pass, with the heartbeats and the ticks that are due.
    fn advance(&mut self, us: u64) -> Result<(), Fault> {
        let until_us = self.now_us + us;
        while self.now_us < until_us {
            let mut next_us = until_us.min(self.now_us.next_multiple_of(BEAT_US).max(1));
            if next_us == self.now_us {
                next_us = until_us.min(self.now_us + BEAT_US);
            }
            if self.rules.is_capped {
                next_us = next_us.min((self.now_us / TICK_US + 1) * TICK_US);
            }
            let passed_us = next_us - self.now_us;
            self.now_us = next_us;
            simulate_time(next_us);
            self.links.iter_mut().flatten().for_each(|link| link.pass(passed_us, next_us));
            if self.rules.is_capped && next_us.is_multiple_of(TICK_US) {
                self.tick()?;
            }
            if next_us.is_multiple_of(BEAT_US) {
                self.beat()?;
            }
        }
        Ok(())
    }

    /// Collects credit, as long as there is some.
    fn tick(&mut self) -> Result<(), Fault> {
        let mut grants = Vec::new();
        for worker in 0..self.workers.len() {
            let egress = self.workers[worker].shared.egress.clone();
            for _ in 0..ROUNDS_MAX {
                if !egress.as_ref().is_some_and(|egress| egress.collect(&mut grants)) {
                    break;
                }
                self.step_ready()?;
            }
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), Fault> {
        let workers = self.workers.len();
        for (number, worker) in self.workers.iter_mut().enumerate() {
            let Worker { shared, generations, deadlines, course, .. } = worker;
            shared.set_now_ms(self.now_us / 1000);
            let links = self.links.iter_mut().enumerate().skip(number).step_by(workers);
            let mut links: Vec<_> =
                links.filter_map(|(place, link)| Some((place, link.as_mut()?))).collect();
            if shared.follow(*course) {
                links.iter().for_each(|(place, _)| wake(Key::new(*place)));
            }
            shared.turns.beat();
            shared.counters.reckon_queued();
            shared.sampler.beat(&shared.counters);
            let is_counting = generations.begin(shared);
            for (_, link) in &mut links {
                link.sweep(deadlines, is_counting.then_some(&mut *generations), shared)?;
            }
            if is_counting {
                generations.end(shared);
            }
        }
        Ok(())
    }

    /// Steps the connections that are ready, and those that these steps make ready.
    fn step_ready(&mut self) -> Result<(), Fault> {
        let context = Context::from_waker(Waker::noop());
        for _ in 0..ROUNDS_MAX {
            if self.ready.poll_take(&context).is_pending() {
                return Ok(());
            }
            let keys = self.ready.keys().to_vec();
            for key in keys {
                self.step(key)?;
            }
        }
        Err("connections wake each other for ever".to_owned())
    }

    fn step(&mut self, key: Key) -> Result<(), Fault> {
        let workers = self.workers.len();
        let worker = &mut self.workers[key.index() % workers];
        let Some(link) = &mut self.links[key.index()] else { return Ok(()) };
        let course = match worker.shared.is_draining() {
            true => worker.course,
            false => Course::Serving,
        };
        let mut scene = Scene {
            shared: &worker.shared,
            course,
            now_us: self.now_us,
            has_faults: self.has_faults,
            rng: &mut self.rng,
            stats: &mut self.stats,
        };
        let has_ended = link.step(&mut scene);
        let has_ended = has_ended.map_err(|fault| {
            let (number, link) = (key.index(), link.describe());
            format!("connection {number} at {} us: {fault}; {link}", self.now_us)
        })?;
        if has_ended {
            worker.tally.add(&link.peer.tally);
            self.links[key.index()] = None;
        }
        Ok(())
    }

    // To the end.

    /// Nothing fails, and the peers that read at all read at once. Their requests must all be
    /// answered, at the rate of the cap if there is one.
    fn answer_all(&mut self) -> Result<(), Fault> {
        self.has_faults = false;
        for link in self.links.iter_mut().flatten() {
            match self.rng.u8(..8) {
                0 => link.kernel.rate = Rate::Nothing,
                _ => link.kernel.takes_everything(),
            }
        }
        let start_us = self.now_us;
        let step_us = if self.rules.is_capped { 2000 } else { 200 };
        while self.links.iter().flatten().any(Link::has_business) {
            let used_us = self.now_us - start_us;
            // Bytes that were sent before may have put a cap's bucket into debt.
            let due_us = self.due_us(self.charged());
            if used_us > due_us + 1_000_000 {
                let stuck = self.links.iter().flatten().find(|link| link.has_business());
                let stuck = stuck.map(Link::describe).unwrap_or_default();
                return Err(format!(
                    "not answered after {used_us} us, due {due_us}, {:?}: {stuck}",
                    self.caps
                ));
            }
            self.do_all_that_is_due(step_us)?;
        }
        Ok(())
    }

    /// The time by which so many bytes must be sent under the caps, with a third added.
    fn due_us(&self, bytes: u64) -> u64 {
        let Caps { total, connection, prefetch } = self.caps;
        let caps = [total, connection, prefetch].into_iter().flatten();
        caps.map(|rate| bytes * 4_000_000 / 3 / rate).sum()
    }

    fn charged(&self) -> u64 {
        let open: u64 = self.links.iter().flatten().map(|link| link.peer.tally.charged).sum();
        let ended: u64 = self.workers.iter().map(|worker| worker.tally.charged).sum();
        open + ended
    }

    fn do_all_that_is_due(&mut self, us: u64) -> Result<(), Fault> {
        self.links.iter_mut().flatten().for_each(|link| link.deliver(usize::MAX));
        self.step_ready()?;
        self.workers.iter().for_each(|worker| worker.shared.turns.simulate_round());
        self.step_ready()?;
        self.advance(us)?;
        self.step_ready()
    }

    /// The peers leave or the server stops. All connections must end and give everything back.
    fn end(&mut self) -> Result<(), Fault> {
        if self.rng.u8(..3) == 0 {
            (0..self.workers.len()).for_each(|worker| self.stop(worker));
        }
        for link in self.links.iter_mut().flatten() {
            link.peer.leave(&mut self.rng);
            if self.rng.u8(..6) == 0 {
                link.kernel.rate = Rate::Nothing;
            }
        }
        let start_us = self.now_us;
        while self.links.iter().any(Option::is_some) {
            if self.now_us - start_us > END_US {
                let left = self.links.iter().flatten().next().map(Link::describe);
                return Err(format!("does not end: {}", left.unwrap_or_default()));
            }
            let us = [1000, 20_000, BEAT_US][self.rng.usize(..3)];
            self.do_all_that_is_due(us)?;
            for link in self.links.iter_mut().flatten() {
                link.peer.has_ended |= link.lingers() && self.rng.u8(..8) == 0;
            }
        }
        self.reckon()
    }

    /// An error if a count differs from the model's, or anything is still lent.
    fn reckon(&mut self) -> Result<(), Fault> {
        for worker in &self.workers {
            let Worker { shared, tally, .. } = worker;
            tally.check(&shared.counters)?;
            self.stats.count(tally);
            if !shared.turns.is_at_rest() {
                return Err("a connection that has ended still waits for a turn".to_owned());
            }
            if shared.egress.as_ref().is_some_and(|egress| !egress.is_at_rest()) {
                return Err(
                    "a connection that has ended still has credit or waits for it".to_owned()
                );
            }
            // One reference is the worker's, the other is this one.
            if Rc::strong_count(&shared.snapshot()) != 2 {
                return Err("a connection that has ended still holds a snapshot".to_owned());
            }
        }
        let places: Vec<_> = (0..LINKS).map_while(|_| self.openings.take(ADDRESS)).collect();
        match places.len() {
            LINKS => Ok(()),
            left => Err(format!("only {left} of {LINKS} silent connections may still be opened")),
        }
    }
}

fn any_rate(rng: &mut fastrand::Rng) -> Rate {
    match rng.u8(..10) {
        0..4 => Rate::AtOnce,
        4 => Rate::Nothing,
        _ => Rate::BytesASecond([7_000, 50_000, 400_000, 3_000_000][rng.usize(..4)]),
    }
}

fn any_caps(rng: &mut fastrand::Rng) -> Caps {
    if rng.u8(..3) != 0 {
        return Caps::default();
    }
    let mut cap = || rng.bool().then(|| [300_000, 2_000_000, 20_000_000][rng.usize(..3)]);
    Caps { total: cap(), connection: cap(), prefetch: cap() }
}

fn config(
    rng: &mut fastrand::Rng,
    rules: Rules,
    clients: Arc<Clients>,
    snapshots: Arc<SnapshotHandle>,
    shaper: Option<Arc<Shaper>>,
) -> ServeConfig {
    let mut any_ms = |from, to| Duration::from_millis(rng.u64(from..to));
    ServeConfig {
        driver: Driver::Ring,
        limits: ConnectionLimits {
            handshake_timeout: any_ms(300, 2000),
            idle_timeout: any_ms(500, 3000),
            send_timeout: any_ms(800, 4000),
            linger_timeout: any_ms(200, 1500),
            generation_timeout: (any_ms(0, 2) > Duration::ZERO).then(|| any_ms(200, 1000)),
            drain_timeout: Duration::from_secs(600),
            chatter_max: rules.chatter_max,
            close_on_missing_group: rules.close_on_missing,
            break_off: rules.break_off,
        },
        clients,
        admission: Admission::new(LINKS, None, LINKS),
        front: Front {
            trusted: Trusted::default(),
            proxy_timeout: Duration::from_secs(1),
            openings_max: LINKS,
            openings: AtomicUsize::new(0),
            openings_by_address: Openings::new(None),
            game: None,
        },
        snapshots,
        shaper,
        log_gates: LogGates::default(),
    }
}
