//! How it stops.

use crate::support::{
    CLIENT_BUILDS, CLIENTS, Cache, Client, Http, Server, eventually, id, raise_descriptors,
    read_to_end, slow_stream,
};
use js5d::protocol::Class;
use rustix::process::Signal;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const HUGE: (u8, u32) = (3, 1);

/// A peer that has begun to receive a response of 9 MB and reads no further.
fn mid_response(server: &Server, key: u8) -> Client {
    let mut client = Client::connect_slow(server, key);
    client.request([(Class::Urgent, id(HUGE.0, HUGE.1)), (Class::Prefetch, id(1, 1))]);
    client.read_some(1000);
    client
}

#[test]
fn sigterm_finishes_what_was_begun_and_closes_who_is_idle() {
    let cache = Cache::huge();
    let mut server = Server::with_cache(&cache, &[]);
    let busy = [mid_response(&server, 0), mid_response(&server, 0x40)];
    let mut idle = Client::connect(&server, 0);
    let mut mute = TcpStream::connect(server.address).unwrap();
    thread::sleep(Duration::from_millis(50));
    server.signal(Signal::TERM);

    let start = Instant::now();
    assert_eq!(idle.receive_to_end(), []);
    drop(idle);
    assert_eq!(read_to_end(&mut mute), [7], "whoever comes too late is told");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    for mut client in busy {
        let answers = client.receive_to_end();
        assert_eq!(answers.len(), 2, "what was queued is answered");
        for answer in answers {
            assert!(answer.container == cache.container(answer.id), "{}", answer.id);
        }
    }
    let (code, waited) = server.wait();
    assert_eq!(code, Some(0));
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    assert!(server.log().contains("stopped"), "{}", server.log());
}

#[test]
fn sigint_stops_a_server_that_nobody_uses() {
    let mut server = Server::with_cache(&Cache::sample(), &["--workers", "2"]);
    server.signal(Signal::INT);
    let (code, waited) = server.wait();
    assert_eq!(code, Some(0));
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[test]
fn a_second_signal_leaves_at_once() {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut server = Server::with_cache(&Cache::huge(), &[]);
        let _peer = mid_response(&server, 0);
        server.signal(Signal::TERM);
        eventually("it has heard", || server.log().contains("stopping"));
        server.signal(signal);
        let (code, waited) = server.wait();
        assert_eq!(code, Some(expected));
        assert!(waited < Duration::from_secs(2), "{waited:?}");
    }
}

#[test]
fn what_is_not_finished_in_time_is_cut() {
    let mut server = Server::with_cache(&Cache::huge(), &["--drain-timeout", "1s"]);
    let _peer = mid_response(&server, 0);
    server.signal(Signal::TERM);
    let (code, waited) = server.wait();
    assert_eq!(code, Some(0));
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

/// `count` peers of all framings in the middle of a response of 500 KB when the signal comes:
/// readiness fails first, each gets the whole of it, and the server ends in time.
fn stop_in_mid_response(count: usize) {
    const LARGE: (u8, u32) = (3, 0);
    raise_descriptors();
    let cache = Cache::sample();
    let options = ["--admin", "127.0.0.1:0", "--workers", "2", "--build", CLIENT_BUILDS];
    let server = Server::with_cache(&cache, &options);
    let (http, mut server) = (Http::of(&server), server);
    let begun = |number: usize| {
        let stream = slow_stream(server.address);
        let mut client = Client::connect_as(CLIENTS[number % CLIENTS.len()], stream);
        client.request([(Class::Urgent, id(LARGE.0, LARGE.1))]);
        client.read_some(1000);
        client
    };
    let mut clients: Vec<_> = (0..count).map(begun).collect();
    assert_eq!(http.get("/readyz").status, 200);
    server.signal(Signal::TERM);
    eventually("it is not ready", || http.get("/readyz").status == 503);
    let start = Instant::now();
    thread::scope(|scope| {
        for share in clients.chunks_mut(count.div_ceil(8)) {
            scope.spawn(|| {
                for client in share {
                    let answers = client.receive_to_end();
                    assert_eq!(answers.len(), 1, "what has begun is finished");
                    assert!(answers[0].container == cache.container(answers[0].id));
                }
            });
        }
    });
    drop(clients);
    assert_eq!(server.wait().0, Some(0), "{}", server.log());
    assert!(start.elapsed() < Duration::from_secs(25), "before the end of --drain-timeout");
    println!("{count} responses finished, and the server ended, in {:?}", start.elapsed());
}

#[test]
fn sigterm_with_many_peers_in_mid_response_loses_nothing() {
    stop_in_mid_response(100);
}

/// 300 who have greeted and wait in the kernel's queue when the signal comes, and room for two at
/// a time to be told.
#[test]
fn everybody_who_waits_to_be_accepted_at_a_stop_is_told() {
    let options = ["--connections-max", "1", "--refusals-max", "2", "--backlog", "400"];
    let mut server = Server::with_cache(&Cache::sample(), &options);
    let _only = Client::connect(&server, 0);
    server.freeze();
    let greeted = |_| {
        let mut stream = TcpStream::connect(server.address).expect("the queue has room");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        std::io::Write::write_all(&mut stream, &[15, 0, 0, 2, 38]).expect("the kernel takes it");
        stream
    };
    let waiting: Vec<_> = (0..300).map(greeted).collect();
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    let told = waiting.into_iter().map(|mut stream| {
        thread::spawn(move || {
            let mut heard = Vec::new();
            let ended = std::io::Read::read_to_end(&mut stream, &mut heard);
            ended.map(|_| heard).map_err(|error| error.kind())
        })
    });
    let told: Vec<_> = told.collect::<Vec<_>>().into_iter().map(|it| it.join()).collect();
    let count = told.iter().filter(|it| matches!(it, Ok(Ok(heard)) if *heard == [7])).count();
    assert_eq!(count, 300, "{:?}", told.last());
    assert_eq!(server.wait().0, Some(0), "{}", server.log());
    assert!(TcpStream::connect(server.address).is_err(), "the port is closed");
}

/// The kernel frees the ports of a process that had a ring a moment after its end.
#[test]
fn a_server_that_was_killed_is_started_again_at_once() {
    let cache = Cache::huge();
    let mut server = Server::with_cache(&cache, &["--workers", "2"]);
    let address = server.address.to_string();
    for _ in 0..5 {
        let _peers: Vec<_> = (0..20).map(|_| mid_response(&server, 0)).collect();
        server.signal(Signal::KILL);
        server.wait();
        let start = Instant::now();
        server = Server::with_cache(&cache, &["--workers", "2", "--listen", &address]);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let mut client = Client::connect(&server, 0);
        client.request([(Class::Urgent, id(1, 1))]);
        assert_eq!(client.receive().container, cache.container(id(1, 1)));
    }
}

/// Of full size: `cargo test --release --test features -- --ignored --nocapture thousand_peers`.
#[test]
#[ignore = "takes a while, and both cores"]
fn sigterm_with_a_thousand_peers_in_mid_response_loses_nothing() {
    stop_in_mid_response(1000);
}
