//! Messages that ask for nothing: a peer may send some, and is cut if it sends too many.

use crate::support::{Cache, Client, Http, Server, eventually, id};
use js5d::protocol::Class;
use js5d::protocol::request::Message;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

fn start(chatter_max: &str) -> (Server, Http) {
    let options = ["--admin", "127.0.0.1:0", "--chatter-max", chatter_max];
    let server = Server::with_cache(&Cache::sample(), &options);
    let http = Http::of(&server);
    (server, http)
}

fn closed_for_it(http: Http) -> f64 {
    http.metrics().value("js5d_closed_total{reason=\"chatter\"}")
}

/// Whether `server` is through with a peer that writes these bytes again and again.
fn is_closed(mut stream: TcpStream, bytes: &[u8], times: usize) -> bool {
    let _ = stream.set_nodelay(true);
    (0..times).any(|_| {
        thread::sleep(Duration::from_micros(200));
        stream.write_all(bytes).is_err()
    })
}

#[test]
fn a_peer_that_sends_a_million_rekeys_is_cut() {
    let (server, http) = start("10");
    let mut honest = Client::connect(&server, 0);
    let rekeys: Vec<u8> = (0..64).flat_map(|key| Message::Rekey(key).to_bytes()).collect();
    let states = Message::LoggedIn(true).to_bytes().repeat(64);
    let connected = Message::Connected.to_bytes();
    for (place, bytes) in [&rekeys[..], &states, &connected, &[0][..]].into_iter().enumerate() {
        let client = Client::connect(&server, 0);
        // A byte of a prefetch request at a time: three in four ask for nothing.
        assert!(is_closed(client.stream, bytes, 20_000), "{bytes:?}");
        eventually("it is counted", || closed_for_it(http) == (place + 1) as f64);
    }
    honest.request([(Class::Urgent, id(1, 1))]);
    assert_eq!(honest.receive().id, id(1, 1), "the others do not notice");
}

#[test]
fn a_peer_that_sends_too_much_chatter_is_cut_even_while_it_is_being_sent_to() {
    let (mut server, http) = start("2");
    let mut client = Client::connect_slow(&server, 0);
    client.request((0..40).map(|group| (Class::Prefetch, id(2, group))));
    let slow = "js5d_connections{state=\"slow\"}";
    eventually("it takes in nothing", || http.metrics().value(slow) == 1.0);
    // One read of them is too much, and nothing follows by which it would be noticed later.
    let rekeys: Vec<u8> = (0..64).flat_map(|key| Message::Rekey(key).to_bytes()).collect();
    client.stream.write_all(&rekeys).expect("js5d reads beside a send");
    eventually("it is cut", || closed_for_it(http) == 1.0);
    eventually("it is gone", || http.metrics().value("js5d_connections_open") == 0.0);
    assert!(server.stop().contains("chatter=1"));
}

#[test]
fn what_a_real_client_says_is_always_heard() {
    let (server, http) = start("10");
    let cache = Cache::sample();
    let mut client = Client::connect(&server, 0);
    // It says who it is, changes its key and its state, and asks, for a hundred requests.
    for round in 0..100_u32 {
        if round % 10 == 0 {
            client.prepare_rekey((round + 1) as u8);
            client.flush();
        }
        client.request([(Class::Urgent, id(1, round))]);
        assert!(client.receive().container == cache.container(id(1, round)));
    }
    assert_eq!(closed_for_it(http), 0.0);
}
