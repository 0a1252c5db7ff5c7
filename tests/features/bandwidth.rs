//! Caps on what is sent: how exact they are, which peers are first, and how others share.

use crate::support::{Cache, Client, Http, Server, eventually, id, js5d};
use js5d::protocol::Class::{self, Prefetch, Urgent};
use rustix::process::Signal;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Archives of the sample whose groups are small and large, and how many groups they have.
const SMALL: (u8, u32) = (1, 100);
const LARGE: (u8, u32) = (2, 40);

/// A client that keeps so many requests of a class in flight.
#[derive(Clone, Copy)]
struct Habit {
    logged_in: bool,
    class: Class,
    in_flight: usize,
    groups: (u8, u32),
}

const fn habit(logged_in: bool, class: Class, in_flight: usize, groups: (u8, u32)) -> Habit {
    Habit { logged_in, class, in_flight, groups }
}

/// Lets clients download without pause, and returns the bytes that each was sent in a time,
/// scaled to bytes a second.
fn rates(server: &Server, habits: &[Habit], warmup: Duration, time: Duration) -> Vec<f64> {
    let done = AtomicBool::new(false);
    let taken: Vec<_> = habits.iter().map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for (habit, taken) in habits.iter().zip(&taken) {
            let done = &done;
            scope.spawn(move || download(server, *habit, taken, done));
        }
        let read = || taken.iter().map(|taken| taken.load(Ordering::Relaxed)).collect::<Vec<_>>();
        thread::sleep(warmup);
        let (start, before) = (Instant::now(), read());
        thread::sleep(time);
        let (elapsed, after) = (start.elapsed().as_secs_f64(), read());
        done.store(true, Ordering::Relaxed);
        let rate = |(after, before)| (after - before) as f64 / elapsed;
        after.into_iter().zip(before).map(rate).collect()
    })
}

fn download(server: &Server, habit: Habit, taken: &AtomicU64, done: &AtomicBool) {
    let mut client = Client::connect(server, 0);
    client.log_in(habit.logged_in);
    let (archive, count) = habit.groups;
    let mut groups = (0..count).cycle().map(|group| (habit.class, id(archive, group)));
    client.request(groups.by_ref().take(habit.in_flight));
    while !done.load(Ordering::Relaxed) {
        // Some wait for others all the time.
        if client.hears_within(Duration::from_millis(50)) {
            let (bytes, answers) = client.read_answers();
            taken.fetch_add(bytes as u64, Ordering::Relaxed);
            client.request(groups.by_ref().take(answers.len()));
        }
    }
}

/// Ends the downloads, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asserts that a rate is the one expected, to within 3 %.
fn assert_rate(rate: f64, expected: f64) {
    let off_percent = (rate / expected - 1.0) * 100.0;
    assert!(off_percent.abs() <= 3.0, "{rate} is {off_percent:.1} % off {expected}");
}

#[test]
fn the_whole_server_sends_what_the_cap_says() {
    let cases = [
        ("100kB/s", 1e5, SMALL, 3),
        ("8Mbit/s", 1e6, SMALL, 2),
        ("20MB/s", 2e7, LARGE, 2),
        ("60MB/s", 6e7, LARGE, 2), // a busy machine reaches this, too, without optimisation
    ];
    for (cap, expected, groups, seconds) in cases {
        for workers in ["1", "2"] {
            let options = ["--egress-max", cap, "--workers", workers];
            let server = Server::with_cache(&Cache::sample(), &options);
            let habits = [habit(false, Urgent, 20, groups), habit(true, Prefetch, 20, groups)];
            let habits = habits.repeat(2);
            let rates = rates(&server, &habits, SECOND / 2, SECOND * seconds);
            assert_rate(rates.iter().sum(), expected);
        }
    }
}

#[test]
fn each_connection_is_sent_what_its_cap_says() {
    for (cap, expected, groups) in [("500kB/s", 5e5, SMALL), ("5MB/s", 5e6, LARGE)] {
        let options = ["--egress-max-per-connection", cap];
        let server = Server::with_cache(&Cache::sample(), &options);
        let of = |class| habit(false, class, 20, groups);
        for rate in rates(&server, &[of(Urgent), of(Prefetch), of(Urgent)], SECOND / 2, SECOND * 2)
        {
            assert_rate(rate, expected);
        }
    }
}

#[test]
fn the_prefetch_cap_holds_prefetch_back_and_nothing_else() {
    let options = ["--prefetch-egress-max", "2MB/s", "--workers", "2"];
    let server = Server::with_cache(&Cache::sample(), &options);
    let [urgent, prefetch] = [Urgent, Prefetch].map(|class| habit(false, class, 5, LARGE));
    let rates = rates(&server, &[urgent, prefetch, prefetch], SECOND / 2, SECOND * 2);
    assert_rate(rates[1] + rates[2], 2e6);
    assert!(rates[0] > 2e7, "{rates:?}");
}

#[test]
fn nothing_of_a_lower_rank_goes_while_a_higher_one_waits() {
    let order = [(true, Urgent), (false, Urgent), (true, Prefetch), (false, Prefetch)];
    for pair in order.windows(2) {
        for workers in ["1", "2"] {
            let options = ["--egress-max", "2MB/s", "--workers", workers];
            let server = Server::with_cache(&Cache::sample(), &options);
            let of = |(logged_in, class)| habit(logged_in, class, 20, LARGE);
            let habits = [of(pair[0]), of(pair[0]), of(pair[1]), of(pair[1])];
            let rates = rates(&server, &habits, SECOND / 2, SECOND);
            assert_rate(rates.iter().sum(), 2e6);
            // One that takes in what it was given does not wait for credit meanwhile.
            assert!(rates[2] + rates[3] < 1e5, "{pair:?}: {rates:?}");
        }
    }
}

#[test]
fn peers_share_by_bytes_whatever_they_ask_for() {
    for workers in ["1", "2"] {
        let options = ["--egress-max", "3MB/s", "--workers", workers];
        let server = Server::with_cache(&Cache::sample(), &options);
        let habits = [
            habit(false, Urgent, 1, LARGE),
            habit(false, Urgent, 200, SMALL),
            habit(false, Urgent, 20, LARGE),
        ];
        let rates = rates(&server, &habits, SECOND / 2, SECOND * 3);
        assert_rate(rates.iter().sum(), 3e6);
        for rate in &rates {
            assert!((rate / 1e6 - 1.0).abs() < 0.06, "a third each: {rates:?}");
        }
    }
}

#[test]
fn an_urgent_request_is_not_held_up_by_the_peers_own_prefetch() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--prefetch-egress-max", "40kB/s"]);
    let mut client = Client::connect(&server, 0x21);
    client.request((0..20).map(|group| (Prefetch, id(2, group))));
    // The first of them has begun, and would take 2.5 s.
    client.read_some(1);
    let start = Instant::now();
    client.request([(Urgent, id(1, 7))]);
    let answers = client.receive_many(2);
    assert!(start.elapsed() < SECOND / 2, "{:?}", start.elapsed());
    assert_eq!([answers[0].class, answers[1].class], [Prefetch, Urgent]);
    for answer in answers {
        assert!(answer.container == cache.container(answer.id), "{}", answer.id);
    }
    // What went beyond the cap is made up for.
    assert!(!client.hears_within(SECOND), "prefetch goes on before its time");
}

#[test]
fn groups_that_are_not_there_hold_up_nothing() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--egress-max", "1MB/s"]);
    let mut client = Client::connect(&server, 0);
    let requests = [(Urgent, id(4, 1)), (Prefetch, id(4, 2)), (Prefetch, id(1, 1))];
    client.request(requests);
    let answer = client.receive();
    assert_eq!((answer.class, answer.id), (Prefetch, id(1, 1)));
}

#[test]
fn who_waits_for_credit_is_not_cut_and_who_has_gone_is() {
    let options = ["--egress-max", "1MB/s", "--send-timeout", "1s", "--idle-timeout", "1s"];
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &options);
    let at_rest = server.descriptors();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (server, done) = (&server, &done);
        // It leaves nearly nothing to the others: a little, when the machine keeps it from reading.
        let first = scope.spawn(move || {
            download(server, habit(true, Urgent, 20, LARGE), &AtomicU64::new(0), done);
        });
        let stop = Stop(done);
        thread::sleep(SECOND / 4);
        let mut patient = Client::connect(server, 0);
        let mut half_closed = Client::connect(server, 0);
        let gone: Vec<_> = (0..5).map(|_| Client::connect(server, 0)).collect();
        for client in gone {
            let mut client = client;
            client.request([(Urgent, id(1, 1))]);
        }
        patient.request([(Urgent, id(2, 2)), (Prefetch, id(2, 3))]);
        // A large one, too: a small one goes whenever the first reads late.
        half_closed.request([(Urgent, id(2, 4))]);
        thread::sleep(SECOND * 5 / 2);
        assert!(patient.arrived() < cache.container(id(2, 2)).len() / 2, "it has no share");
        half_closed.stream.shutdown(Shutdown::Write).unwrap();
        // The runtimes' own, the first and the two that wait.
        eventually("those that have gone are closed", || server.descriptors() == at_rest + 3);
        drop(stop);
        first.join().unwrap();
        let answers = patient.receive_many(2);
        assert!(answers.iter().all(|answer| answer.container == cache.container(answer.id)));
        assert_eq!(half_closed.receive_to_end().len(), 1, "a half-closed peer gets its queue");
    });
    assert!(server.stop().contains("timeouts=0"));
}

#[test]
fn a_server_that_stops_keeps_to_its_cap_and_to_its_time() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--egress-max", "1MB/s"]);
    let mut client = Client::connect(&server, 0);
    client.request((0..10).map(|group| (Urgent, id(2, group))));
    client.read_some(1);
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(client.receive_to_end().len(), 10, "what was asked for is finished");
    assert!(start.elapsed() > SECOND * 9 / 10, "{:?}", start.elapsed());
    drop(client);
    assert_eq!(server.wait().0, Some(0));

    let options = ["--egress-max", "100kB/s", "--drain-timeout", "1s"];
    let mut server = Server::with_cache(&cache, &options);
    let mut client = Client::connect(&server, 0);
    client.request((0..10).map(|group| (Urgent, id(2, group))));
    client.read_some(1);
    server.signal(Signal::TERM);
    let (code, waited) = server.wait();
    assert_eq!(code, Some(0));
    assert!(waited < SECOND * 3, "{waited:?}");
}

#[test]
fn the_admin_address_shows_the_rate_beside_the_cap() {
    let options = ["--egress-max", "2MB/s", "--prefetch-egress-max", "1MB/s", "--workers", "2"];
    let admin = ["--admin", "127.0.0.1:0"];
    let server = Server::with_cache(&Cache::sample(), &[&options[..], &admin].concat());
    let http = Http::of(&server);
    let habits = [habit(false, Prefetch, 20, LARGE), habit(true, Prefetch, 20, LARGE)];
    thread::scope(|scope| {
        let asker = scope.spawn(|| {
            thread::sleep(SECOND * 9 / 2);
            (http.metrics(), http.status())
        });
        rates(&server, &habits, SECOND, SECOND * 4);
        let (metrics, status) = asker.join().unwrap();
        assert_eq!(metrics.value("js5d_egress_max_bytes_per_second{cap=\"total\"}"), 2e6);
        assert_eq!(metrics.value("js5d_egress_max_bytes_per_second{cap=\"prefetch\"}"), 1e6);
        let sent = metrics.sum("js5d_egress_bytes_total");
        let first = metrics.value("js5d_egress_bytes_total{rank=\"prefetch_logged_in\"}");
        assert!(sent > 3e6 && first > sent * 0.9, "{first} of {sent}");
        assert!(metrics.value("js5d_connections{state=\"credit\"}") >= 1.0);
        assert!(metrics.value("js5d_credit_waits_total") > 100.0);
        let limits = status["limits"].as_array().expect("limits");
        let named = |name: &str| limits.iter().find(|limit| limit["name"] == name).expect("it");
        for (name, max) in [("bytes a second", 2e6), ("bytes of prefetch a second", 1e6)] {
            assert_eq!(named(name)["max"].as_f64(), Some(max), "{name}");
            // Of the last second, which workers that publish ten times a second make 0.9 to 1.1.
            let used = named(name)["used"].as_f64().expect("a number");
            assert!((0.85e6..1.15e6).contains(&used), "{name}: {used}");
        }
    });
}

#[test]
fn caps_that_make_no_sense_are_refused() {
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["--egress-max", "10"],
            64,
            "10 lacks its unit; write it as 500kB/s, 10MB/s or 100Mbit/s",
        ),
        (&["--egress-max", "100Mb/s"], 64, "write 100Mbit/s for bits or 100MB/s for bytes"),
        (&["--prefetch-egress-max", "5mb/s"], 64, "write 5Mbit/s for bits or 5MB/s for bytes"),
        (&["--egress-max", "1B/s"], 64, "at least 1kB/s is wanted"),
        (
            &["--egress-max", "1MB/s", "--prefetch-egress-max", "16Mbit/s"],
            78,
            "--prefetch-egress-max 2MB/s is more than --egress-max 1MB/s lets through",
        ),
        (
            &["--egress-max", "1MB/s", "--egress-max-per-connection", "1001kB/s"],
            78,
            "lower --egress-max-per-connection, or leave it out",
        ),
    ];
    for (arguments, code, says) in cases {
        let ended = js5d(arguments);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{arguments:?}: {}", ended.stderr);
    }
}
