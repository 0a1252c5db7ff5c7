//! Many peers and greedy ones: bounded memory, urgent first, none starved.

use crate::support::{Cache, Client, Server, eventually, id, raise_descriptors};
use js5d::protocol::client::Matching;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, Status};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

#[test]
fn a_hundred_thousand_requests_written_without_reading_stay_in_bounded_memory() {
    const COUNT: usize = 100_000;
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    // 25 MB of responses are more than both kernels take.
    let mut client = Client::connect(&server, 0);
    let before_kb = server.resident_kb();
    for place in 0..COUNT {
        let class = if place % 3 == 0 { Class::Urgent } else { Class::Prefetch };
        client.prepare(class, id(1, (place % 100) as u32));
    }
    let requests = client.take_prepared();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = thread::spawn(move || stream.write_all(&requests).unwrap());
    // Long enough for a server without a bound to read all of it; it would hold 512 KB then.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(100));
        let grown_kb = server.resident_kb().saturating_sub(before_kb);

        assert!(grown_kb < 128, "{grown_kb} KB more, for one peer");
    }
    for _ in 0..COUNT {
        let answer = client.receive();
        assert!(answer.container == cache.container(answer.id), "{}", answer.id);
    }
    writer.join().unwrap();
    assert!(!client.hears_within(Duration::from_millis(50)), "each is answered once");
}

#[test]
fn urgent_overtakes_prefetch() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let mut client = Client::connect_slow(&server, 0);
    client.request((0..40).map(|group| (Class::Prefetch, id(2, group))));
    let mut late = 0;
    for round in 0..3 {
        // The peer is behind: everything between it and the server is full.
        thread::sleep(Duration::from_millis(400));
        client.request([(Class::Urgent, id(1, round))]);
        while client.receive().class != Class::Urgent {
            late += 1;
        }
    }
    // 4 MB were asked for before. What overtaking cannot change is the response that has begun
    // and what the kernels hold.
    assert!(late <= 9, "{late} prefetch responses of 100 KB before 3 urgent ones");
    let left = client.receive_many(40 - late);
    assert!(left.iter().all(|answer| answer.container == cache.container(answer.id)));
}

#[test]
fn two_thousand_peers_with_full_windows_are_all_served() {
    const PEERS: usize = 2000;
    raise_descriptors();
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--workers", "2"]);
    let mut clients: Vec<_> =
        (0..PEERS).map(|peer| Client::connect(&server, (peer % 3) as u8)).collect();
    for client in &mut clients {
        let prefetch = (0..20).map(|group| (Class::Prefetch, id(1, group)));
        client.request(prefetch.chain((20..40).map(|group| (Class::Urgent, id(1, group)))));
    }
    for client in &mut clients {
        for answer in client.receive_many(40) {
            assert!(answer.container == cache.container(answer.id), "{}", answer.id);
        }
    }
    drop(clients);
    let log = server.stop();
    assert!(log.contains("served 40,000 urgent and 40,000 prefetch responses"), "{log}");
    assert!(log.contains("errors=0"), "{log}");
}

#[test]
fn resets_in_mid_response_leak_nothing() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &[]);
    let at_rest = server.descriptors();
    for round in 0..150 {
        let mut client = Client::connect_slow(&server, (round % 2) as u8);
        let requests = (0..10).map(|group| (Class::Urgent, id(2, group)));
        client.request(requests.chain([(Class::Prefetch, id(3, 0))]));
        if round % 3 > 0 {
            client.read_some(1 + round * 11);
        }
        if round % 5 == 0 {
            client.stream.write_all(&Message::Connected.to_bytes()[..2]).unwrap();
        }
        client.reset();
    }
    eventually("the descriptors are back", || server.descriptors() == at_rest);
    let log = server.stop();
    assert!(log.contains("errors=0"), "a reset is the peer's affair: {log}");
}

#[test]
fn a_half_closed_peer_still_gets_its_queue() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    for key in [0, 9] {
        let mut client = Client::connect_slow(&server, key);
        client.request((0..20).map(|group| (Class::Urgent, id(2, group))));
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        thread::sleep(Duration::from_millis(100));
        let answers = client.receive_to_end();
        assert_eq!(answers.len(), 20);
        assert!(answers.iter().all(|answer| answer.container == cache.container(answer.id)));
    }
}

/// What gives way first when there is more to do than can be done: who is new, then who takes
/// nothing in, then prefetch behind urgent. Who makes progress is never cut.
#[test]
fn an_overloaded_server_gives_way_in_order() {
    let cache = Cache::sample();
    let options = ["--connections-max", "4", "--send-timeout", "1s", "--linger-timeout", "200ms"];
    let server = Server::with_cache(&cache, &options);
    let mut stuck: Vec<_> = (0..3).map(|_| Client::connect_slow(&server, 0)).collect();
    for client in &mut stuck {
        client.request((0..40).map(|group| (Class::Prefetch, id(2, group))));
    }
    let mut honest = Client::connect(&server, 0);
    let mut refused = 0;
    let mut comes_in = || {
        let mut late = Client::new(TcpStream::connect(server.address).unwrap(), Matching::ByGroup);
        late.prepare_handshake(550);
        late.flush();
        let is_refused = late.read_status() == Status::ServerFull;
        refused += u32::from(is_refused);
        !is_refused
    };
    assert!(!comes_in(), "new ones give way first");
    let mut rounds = 0;
    while !comes_in() {
        let prefetch = (0..10).map(|group| (Class::Prefetch, id(2, group)));
        honest.request(prefetch.chain([(Class::Urgent, id(1, 7))]));
        assert_eq!(honest.receive_many(11)[0].class, Class::Urgent, "prefetch gives way to it");
        rounds += 1;
        thread::sleep(Duration::from_millis(20));
    }
    assert!(rounds > 5, "those that take nothing in were cut later than that: {rounds}");
    honest.request([(Class::Urgent, id(1, 8))]);
    assert_eq!(honest.receive().id, id(1, 8), "who makes progress stays");
    assert!(refused > 5, "{refused}");
}
