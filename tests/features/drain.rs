//! How it stops.

use crate::support::{Cache, Client, Server, eventually, id, read_to_end};
use js5d::protocol::Class;
use rustix::process::Signal;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const HUGE: (u8, u16) = (3, 1);

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
