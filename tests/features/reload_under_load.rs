//! Many reloads beside busy clients: none is dropped or refused, none sees two generations, and
//! memory comes back.

use crate::support::{
    CLIENT_BUILDS, CLIENTS, Cache, Client, Deployment, eventually, id, raise_descriptors,
};
use js5d::protocol::{ARCHIVE_INDEXES, Class, GroupId};
use rustix::process::Signal;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Requests that a client has under way.
const IN_FLIGHT: usize = 20;

/// Rounds after which every second client comes back; the others stay for good.
const ROUNDS: usize = 50;

struct Load<'a> {
    caches: &'a [Cache],
    groups: Vec<GroupId>,
    /// The index of an archive that is another one in each cache.
    telling: GroupId,
    stop: AtomicBool,
    answers: AtomicU64,
    connections: AtomicU64,
}

impl Load<'_> {
    /// A client of one framing or another that asks without a pause, and knows which generation it
    /// was given.
    fn client(&self, site: &Deployment, number: usize) {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        let may_leave = number / CLIENTS.len() % 2 == 1;
        while !self.stop.load(Ordering::Relaxed) {
            let stream = TcpStream::connect(site.server.address).expect("js5d listens");
            let mut client = Client::connect_as(CLIENTS[number % CLIENTS.len()], stream);
            self.connections.fetch_add(1, Ordering::Relaxed);
            client.request([(Class::Urgent, self.telling)]);
            let index = client.receive().container;
            let mine = self.caches.iter().find(|cache| cache.container(self.telling) == index);
            let mine = mine.expect("a generation that is served");
            let mut rounds = 0;
            while !(self.stop.load(Ordering::Relaxed) || may_leave && rounds == ROUNDS) {
                let ids = (0..IN_FLIGHT).map(|_| self.groups[rng.usize(..self.groups.len())]);
                client.request(ids.map(|id| (Class::Urgent, id)));
                for answer in client.receive_many(IN_FLIGHT) {
                    assert!(answer.container == mine.container(answer.id), "{}", answer.id);
                }
                self.answers.fetch_add(IN_FLIGHT as u64, Ordering::Relaxed);
                rounds += 1;
            }
        }
    }
}

/// Reloads again and again, every fifth time a cache that is corrupt, while clients are busy.
fn check(client_count: usize, reload_count: usize) {
    raise_descriptors();
    let caches = [Cache::sample(), Cache::reworked()];
    let named = [("0", &caches[0]), ("1", &caches[1]), ("corrupt", &caches[1])];
    let site = Deployment::start(&named, &["--workers", "2", "--build", CLIENT_BUILDS]);
    let indexes = (0..).map(|archive| id(ARCHIVE_INDEXES, archive));
    let telling =
        indexes.into_iter().find(|&it| caches[0].container(it) != caches[1].container(it));
    let broken = site.path("corrupt").join("3/0.dat");
    std::fs::write(&broken, b"\0\0\0\0\x01A").expect("writable");
    // Both generations have been in memory once before the memory is looked at.
    site.switch_to("1");
    site.switch_to("0");
    let settled = || {
        thread::sleep(Duration::from_millis(1200));
        site.server.resident_kb()
    };
    let resident_before = settled();
    let load = Load {
        caches: &caches,
        telling: telling.expect("an index that differs"),
        // Small ones, for many answers, and one that takes several sends.
        groups: (0..100).map(|group| id(1, group)).chain([id(3, 0)]).collect(),
        stop: AtomicBool::new(false),
        answers: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    };
    let mut served_in_between = u64::MAX;
    thread::scope(|scope| {
        for number in 0..client_count {
            let builder = thread::Builder::new().stack_size(256 << 10);
            let (load, site) = (&load, &site);
            builder.spawn_scoped(scope, move || load.client(site, number)).expect("a thread");
        }
        let connections = || load.connections.load(Ordering::Relaxed) as usize;
        eventually("all are there", || connections() >= client_count);
        for number in 1..=reload_count {
            let before = load.answers.load(Ordering::Relaxed);
            if number % 5 == 0 {
                site.point_to("corrupt");
                site.reload_until("reload failed");
            } else {
                site.switch_to(&(number % 2).to_string());
            }
            let after = load.answers.load(Ordering::Relaxed);
            served_in_between = served_in_between.min(after - before);
        }
        load.stop.store(true, Ordering::Relaxed);
    });
    let answers = load.answers.load(Ordering::Relaxed);
    let connections = load.connections.load(Ordering::Relaxed);
    let resident_after = settled();
    println!(
        "{client_count} clients, {connections} connections, {answers} answers, {reload_count} \
         reloads with at least {served_in_between} answers beside each; resident \
         {resident_before} KB before, {resident_after} KB after"
    );
    assert!(served_in_between > 0 && connections > client_count as u64);
    // Pools of outputs grow with use: 66 KB each, 64 a worker.
    let pools_kb = 2 * 64 * 66;
    // The address sanitizer (.ci/deep) holds back what is freed.
    let sanitized = std::env::var_os("ASAN_OPTIONS").is_some();
    let within = resident_after < resident_before + pools_kb + 1000;
    assert!(sanitized || within, "{resident_after} KB");
    let mut server = site.server;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let log = server.log();
    let stopped = log.lines().rfind(|line| line.contains("stopped")).expect("a last line");
    for none in ["refused=0", "missing_groups=0", "violations=0", "timeouts=0", "errors=0"] {
        assert!(stopped.contains(none), "{none}: {stopped}");
    }
}

#[test]
fn busy_clients_are_neither_dropped_nor_mixed_up_by_reloads() {
    check(40, 20);
}

#[test]
#[ignore = "takes minutes: 2,000 clients, 50 reloads"]
fn two_thousand_busy_clients_are_neither_dropped_nor_mixed_up_by_fifty_reloads() {
    check(2000, 50);
}
