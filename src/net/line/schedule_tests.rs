//! The order and the shares, by hand and in simulated seconds.

use super::*;
use Rank::{PrefetchLoggedIn, PrefetchLoggedOut, UrgentLoggedIn, UrgentLoggedOut};

const TICK_US: u64 = 5000;

fn caps(total: u64, prefetch: u64) -> Caps {
    let some = |rate| (rate > 0).then_some(rate);
    Caps { total: some(total), prefetch: some(prefetch), connection: None }
}

/// A peer that wants bytes, and what it got.
#[derive(Clone)]
struct Peer {
    rank: Rank,
    worker: usize,
    wants: u64,
    /// Bytes by which each batch is shorter than what was granted: the next response is longer.
    short: u64,
    served: ByRank<u64>,
    ticket: Option<Ticket>,
    sent: u64,
    /// When what it wanted last was sent whole.
    done_us: u64,
}

/// Workers that collect in turn, and their peers.
struct Simulation {
    schedule: Schedule,
    workers: usize,
    now_us: u64,
    peers: Vec<Peer>,
}

impl Simulation {
    fn new(caps: Caps, workers: usize) -> Self {
        Self { schedule: Schedule::new(caps, workers), workers, now_us: 0, peers: Vec::new() }
    }

    fn add(&mut self, count: usize, rank: Rank, wants: u64, short: u64) {
        for _ in 0..count {
            let (worker, served) = (self.peers.len() % self.workers, self.schedule.clocks());
            let (ticket, sent, done_us) = (None, 0, 0);
            self.peers.push(Peer { rank, worker, wants, short, served, ticket, sent, done_us });
        }
    }

    /// Lets a peer that does not wait ask until it has to, or wants no more.
    fn ask(&mut self, key: usize) {
        let peer = &mut self.peers[key];
        while peer.wants > 0 && peer.ticket.is_none() {
            let place = Asker { worker: peer.worker, key };
            let served = &mut peer.served[peer.rank as usize];
            match self.schedule.ask(peer.rank, served, place, self.now_us) {
                Answer::Granted(grant) => Self::send(&mut self.schedule, peer, grant, self.now_us),
                Answer::Waits(ticket) => peer.ticket = Some(ticket),
            }
        }
    }

    fn send(schedule: &mut Schedule, peer: &mut Peer, grant: Grant, now_us: u64) {
        let sent = peer.wants.min(grant.len - peer.short);
        peer.wants -= sent;
        peer.sent += sent;
        peer.done_us = now_us;
        peer.served[peer.rank as usize] += sent;
        schedule.settle(grant, sent);
    }

    /// Runs until this time. The workers' ticks are spread evenly.
    fn run_to(&mut self, end_us: u64) {
        (0..self.peers.len()).for_each(|key| self.ask(key));
        let step_us = TICK_US / self.workers as u64;
        while self.now_us + step_us <= end_us {
            self.now_us += step_us;
            let worker = (self.now_us / step_us) as usize % self.workers;
            while self.collect(worker) {}
        }
    }

    /// Collects a worker's grants once, and sends what they allow. True if there were grants.
    fn collect(&mut self, worker: usize) -> bool {
        let mut grants = Vec::new();
        self.schedule.collect(worker, self.now_us, &mut grants);
        for grant in &grants {
            let peer = &mut self.peers[grant.key];
            assert_eq!(peer.worker, worker, "a grant goes to its worker");
            assert_eq!(peer.ticket.take(), Some(grant.ticket));
            Self::send(&mut self.schedule, peer, *grant, self.now_us);
            self.ask(grant.key);
        }
        !grants.is_empty()
    }

    fn sent(&self, rank: Rank) -> u64 {
        self.peers.iter().filter(|peer| peer.rank == rank).map(|peer| peer.sent).sum()
    }

    fn total(&self) -> u64 {
        self.peers.iter().map(|peer| peer.sent).sum()
    }

    /// Asserts that the peers of a rank were sent the same, to a bound.
    fn assert_even(&self, rank: Rank, bound: u64) {
        let of_rank = || self.peers.iter().filter(|peer| peer.rank == rank).map(|peer| peer.sent);
        let (least, most) = (of_rank().min().expect("some"), of_rank().max().expect("some"));
        assert!(most - least <= bound, "{rank:?}: {least} to {most}");
    }
}

/// Asserts that bytes are those of a rate over a time, to what a bucket and a batch may add.
fn assert_rate(bytes: u64, rate: u64, time_us: u64) {
    let expected = rate * time_us / 1_000_000;
    let beyond = (rate / 50).max(QUANTUM_MIN) + quantum(rate);
    let missing = rate * TICK_US / 1_000_000 + quantum(rate);
    let range = expected.saturating_sub(missing)..=expected + beyond;
    assert!(range.contains(&bytes), "{bytes} bytes, not within {range:?}");
}

#[test]
fn ranks_go_in_order_whichever_peer_was_first() {
    let mut schedule = Schedule::new(caps(10_000_000, 0), 1);
    let mut clock = schedule.clocks();
    let mut ask = |schedule: &mut Schedule, rank: Rank, key| {
        schedule.ask(rank, &mut clock[rank as usize], Asker { worker: 0, key }, 0)
    };
    // 20 ms of the rate are there: 200 kB, twenty quanta of 10 kB.
    for key in 0..20 {
        let Answer::Granted(grant) = ask(&mut schedule, PrefetchLoggedOut, key) else {
            panic!("{key} waits")
        };
        assert_eq!(grant.len, 10_000);
        schedule.settle(grant, 10_000);
    }
    let ranks = [PrefetchLoggedOut, UrgentLoggedOut, PrefetchLoggedIn, UrgentLoggedIn];
    for (key, rank) in ranks.into_iter().enumerate() {
        assert!(matches!(ask(&mut schedule, rank, key), Answer::Waits(_)));
    }
    let mut order = Vec::new();
    for now_us in [1, 1000, 1001, 2000, 3000, 4000, 9000] {
        let mut grants = Vec::new();
        schedule.collect(0, now_us, &mut grants);
        for grant in grants {
            schedule.settle(grant, grant.len);
            order.push((now_us, grant.ticket.rank));
        }
    }
    let expected = [
        (1, UrgentLoggedIn),
        (1001, UrgentLoggedOut),
        (2000, PrefetchLoggedIn),
        (3000, PrefetchLoggedOut),
    ];
    // A grant of 10 kB is a millisecond; the bucket is in debt until it has passed.
    assert_eq!(order.iter().map(|at| at.1).collect::<Vec<_>>(), expected.map(|at| at.1));
    assert_eq!(order[0], expected[0]);
    assert!(order.windows(2).all(|pair| pair[1].0 > pair[0].0), "one a millisecond: {order:?}");
}

#[test]
fn logged_in_peers_without_pause_get_the_whole_line_in_even_shares() {
    for workers in [1, 2, 3] {
        let mut simulation = Simulation::new(caps(10_000_000, 0), workers);
        simulation.add(1000, UrgentLoggedOut, u64::MAX, 0);
        simulation.add(100, UrgentLoggedIn, u64::MAX, 0);
        simulation.run_to(1_000_000);
        let first = simulation.sent(UrgentLoggedOut);
        // The peers that asked first got what the bucket had saved up.
        assert!(first <= 200_000 + 10_000, "{first}");
        simulation.assert_even(UrgentLoggedIn, 10_000);
        assert_rate(simulation.total(), 10_000_000, 1_000_000);
    }
}

#[test]
fn the_line_that_logged_in_peers_leave_unused_goes_to_the_others_in_even_shares() {
    for workers in [1, 2] {
        let mut simulation = Simulation::new(caps(10_000_000, 0), workers);
        simulation.add(100, UrgentLoggedIn, 0, 0);
        simulation.add(10, PrefetchLoggedIn, u64::MAX, 0);
        simulation.add(200, UrgentLoggedOut, u64::MAX, 1500);
        for round in 1..=40_u64 {
            simulation.run_to(round * 50_000);
            for key in 0..100 {
                simulation.peers[key].wants = 3000;
            }
            let asked_us = simulation.now_us;
            simulation.run_to(asked_us + 45_000);
            for peer in &simulation.peers[..100] {
                // 300 kB at 10 MB/s are 30 ms, also beside others. A worker checks every 5 ms, and
                // takes what another one left when it looks next.
                let waited_us = peer.done_us.saturating_sub(asked_us);
                assert!(peer.wants == 0 && waited_us <= 30_000 + 2 * TICK_US, "{waited_us} us");
            }
        }
        assert_eq!(simulation.sent(UrgentLoggedIn), 100 * 40 * 3000);
        simulation.assert_even(UrgentLoggedOut, 10_000);
        let prefetch = simulation.sent(PrefetchLoggedIn);
        // Prefetch asked first, and got the 20 ms of the rate that the bucket had saved up.
        assert!(prefetch <= 200_000 + 10_000, "{prefetch}");
        assert_rate(simulation.total(), 10_000_000, simulation.now_us);
    }
}

#[test]
fn the_prefetch_cap_leaves_the_rest_of_the_line_to_urgent_requests() {
    let mut simulation = Simulation::new(caps(10_000_000, 2_000_000), 2);
    simulation.add(50, PrefetchLoggedOut, u64::MAX, 0);
    simulation.add(50, PrefetchLoggedIn, 10_000, 0);
    simulation.run_to(2_000_000);
    assert_eq!(simulation.sent(PrefetchLoggedIn), 500_000);
    assert_rate(simulation.total(), 2_000_000, 2_000_000);
    simulation.add(10, UrgentLoggedOut, u64::MAX, 0);
    let before = simulation.total();
    simulation.run_to(3_000_000);
    assert_rate(simulation.total() - before, 10_000_000, 1_000_000);
    let mut alone = Simulation::new(caps(0, 2_000_000), 1);
    alone.add(3, PrefetchLoggedOut, u64::MAX, 700);
    alone.run_to(1_000_000);
    assert_rate(alone.total(), 2_000_000, 1_000_000);
    alone.assert_even(PrefetchLoggedOut, QUANTUM_MIN);
}

#[test]
fn a_peer_that_asks_for_one_group_at_a_time_gets_its_share() {
    let mut simulation = Simulation::new(caps(2_000_000, 0), 1);
    simulation.add(1, UrgentLoggedOut, u64::MAX, 0);
    simulation.add(1, UrgentLoggedOut, 0, 0);
    while simulation.now_us < 2_000_000 {
        // It asks for 50 kB, and the next time a few milliseconds after it has them.
        if simulation.peers[1].wants == 0 {
            simulation.peers[1].wants = 50_000;
        }
        simulation.run_to(simulation.now_us + TICK_US);
    }
    let [pipelined, single] = [0, 1].map(|key| simulation.peers[key].sent);
    assert_eq!(pipelined + single, simulation.total());
    assert!(pipelined.abs_diff(single) <= 50_000, "{pipelined} and {single}");
}

#[test]
fn a_peer_that_comes_back_is_not_ahead_by_more_than_its_arrears() {
    let mut simulation = Simulation::new(caps(2_000_000, 0), 1);
    simulation.add(2, UrgentLoggedOut, u64::MAX, 0);
    simulation.peers[1].wants = QUANTUM_MIN;
    simulation.run_to(2_000_000);
    let before = simulation.peers[0].sent;
    simulation.peers[1].wants = u64::MAX;
    simulation.run_to(3_000_000);
    let (other, back) = (simulation.peers[0].sent - before, simulation.peers[1].sent - QUANTUM_MIN);
    let ahead = back - other;
    let arrears = 2000 * ARREARS_MS;
    // The other's last quanta count as well: what is granted, and what it asks for next.
    assert!((arrears..=arrears + 3 * QUANTUM_MIN).contains(&ahead), "{ahead}");
}

#[test]
fn a_peer_that_is_alone_on_its_worker_gets_no_more_than_the_others() {
    for rate in [1_000_000, 10_000_000, 1_000_000_000] {
        let mut simulation = Simulation::new(caps(rate, 0), 2);
        simulation.add(30, UrgentLoggedOut, u64::MAX, 0);
        simulation.peers.iter_mut().skip(1).for_each(|peer| peer.worker = 0);
        simulation.peers[0].worker = 1;
        simulation.run_to(1_000_000);
        assert_rate(simulation.total(), rate, 1_000_000);
        // The first to ask had the line to itself for what was saved up, and caught none up.
        let others = simulation.peers[1..].iter().map(|peer| peer.sent);
        let (least, most) = (others.clone().min().expect("some"), others.max().expect("some"));
        let bound = rate * AHEAD_MS / 1000 + 2 * quantum(rate);
        assert!(most - least <= bound, "{rate}: {least} to {most}");
        let first = simulation.peers[0].sent;
        assert!(first.abs_diff(most) <= rate / 50 + bound, "{rate}: {first} and {most}");
    }
}

#[test]
fn a_peer_that_withdraws_leaves_nothing_behind() {
    let mut schedule = Schedule::new(caps(1_000_000, 0), 1);
    let mut served = 0;
    while let Answer::Granted(grant) =
        schedule.ask(UrgentLoggedIn, &mut served, Asker { worker: 0, key: 0 }, 0)
    {
        schedule.settle(grant, grant.len);
        served += grant.len;
    }
    let place = Asker { worker: 0, key: 1 };
    let Answer::Waits(ticket) = schedule.ask(PrefetchLoggedIn, &mut 0, place, 0) else {
        panic!("there is nothing left")
    };
    schedule.withdraw(ticket, 0);
    let mut grants = Vec::new();
    schedule.collect(0, 100_000, &mut grants);
    assert_eq!(grants.len(), 1, "the other one: {grants:?}");
    assert_eq!(grants[0].key, 0);
    schedule.settle(grants[0], 0);

    // A peer withdraws whose grant was made while another worker asked.
    let mut schedule = Schedule::new(caps(1_000_000, 0), 2);
    schedule.total.as_mut().expect("a cap").take(20_000);
    let Answer::Waits(ticket) = schedule.ask(UrgentLoggedIn, &mut 0, place, 0) else {
        panic!("there is nothing left")
    };
    schedule.collect(1, 5000, &mut Vec::new());
    assert_eq!(schedule.queues[0].unsettled.len(), 1);
    schedule.withdraw(ticket, 0);
    assert_eq!(schedule.queues[0].unsettled.len(), 0);
    assert_eq!(
        schedule.total.as_ref().expect("a cap").available(),
        5000,
        "the grant is given back"
    );
    schedule.collect(0, 5000, &mut grants);
    assert_eq!(grants.len(), 1, "nothing is left to collect");
}

#[test]
fn at_any_load_the_cap_holds_and_the_line_is_used() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rate = 10_u64.pow(rng.u32(5..=8)) * rng.u64(1..=9);
        let mut simulation = Simulation::new(caps(rate, 0), rng.usize(1..=4));
        let short = rng.u64(0..2048);
        for rank in Rank::ALL {
            simulation.add(rng.usize(1..40), rank, 0, short);
        }
        let always = simulation.peers.len();
        simulation.add(1, PrefetchLoggedOut, u64::MAX, short);
        for round in 1..=400_u64 {
            for _ in 0..rng.usize(0..20) {
                let key = rng.usize(..always);
                simulation.peers[key].wants += rng.u64(0..rate / 200 + 3000);
            }
            simulation.run_to(round * 2 * TICK_US);
            assert_rate(simulation.total(), rate, simulation.now_us);
        }
    }
}
