//! Which peers are cut, and when. Lower bounds are exact; upper bounds leave room for a machine
//! that runs other tests at the same time.

use crate::support::{
    Cache, Client, Server, eventually, id, js5d, raise_descriptors, read_to_end, slow_stream,
};
use js5d::protocol::Class;
use js5d::protocol::handshake::handshake;
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_late_handshake_is_cut() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--handshake-timeout", "500ms"]);
    let start = Instant::now();
    let mut streams: Vec<_> = (0..5).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for (len, stream) in streams.iter_mut().enumerate() {
        // Nothing, a byte, … all but the last byte.
        stream.write_all(&handshake(550)[..len]).unwrap();
    }
    for mut stream in streams {
        let _ = read_to_end(&mut stream);
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let log = server.stop();
    assert!(log.contains("timeouts=5"), "{log}");
}

#[test]
fn a_quiet_peer_is_cut_after_the_idle_timeout_and_not_before() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--idle-timeout", "2s"]);
    let mut client = Client::connect(&server, 0);
    let mut start = Instant::now();
    for group in 0..2 {
        thread::sleep(Duration::from_millis(1200));
        start = Instant::now();
        client.request([(Class::Urgent, id(1, group))]);
        assert_eq!(client.receive().id, id(1, group), "quiet for less than the timeout");
    }
    assert_eq!(client.receive_to_end(), []);
    // A deadline begins at the last heartbeat, which may be 100 ms old.
    assert!(start.elapsed() >= Duration::from_millis(1850), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let log = server.stop();
    assert!(log.contains("timeouts=1"), "{log}");
}

#[test]
fn any_byte_renews_the_idle_deadline_as_its_text_says() {
    let help = js5d(&["serve", "--help"]).stdout;
    let (_, text) = help.split_once("--idle-timeout").expect("an option");
    assert!(text.contains("How long a peer may send no byte"), "{text:.300}");
    let server = Server::with_cache(&Cache::sample(), &["--idle-timeout", "2s"]);
    let mut client = Client::connect(&server, 0);
    for logged_in in [true, false] {
        thread::sleep(Duration::from_millis(1200));
        // What a real client says between regions is no request.
        client.log_in(logged_in);
    }
    thread::sleep(Duration::from_millis(1200));
    // The beginning of a message.
    client.stream.write_all(&[1]).unwrap();
    let start = Instant::now();
    assert!(!client.hears_within(Duration::from_millis(1500)), "not cut before its time");
    assert_eq!(client.receive_to_end(), []);
    assert!(start.elapsed() >= Duration::from_millis(1850), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn peers_that_read_nothing_are_cut_and_their_memory_is_used_again() {
    const PEERS: usize = 600;
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--send-timeout", "1500ms"]);
    let (at_rest, before_kb) = (server.descriptors(), server.resident_kb());
    let grown_kb = || server.resident_kb().saturating_sub(before_kb);
    let mut rounds = Vec::new();
    for _ in 0..2 {
        let mut peers: Vec<_> = (0..PEERS).map(|_| Client::connect_slow(&server, 1)).collect();
        let start = Instant::now();
        for client in &mut peers {
            // Keyed responses are the ones that the server copies.
            client.request((0..40).map(|group| (Class::Urgent, id(2, group))));
        }
        let mut most_kb = 0;
        eventually("the peers are cut", || {
            most_kb = most_kb.max(grown_kb());
            server.descriptors() == at_rest
        });
        assert!(start.elapsed() > Duration::from_millis(1400), "{:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        // What is free goes back at a heartbeat, as long as no other test keeps the core busy.
        let mut left_kb = grown_kb();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(50));
            left_kb = left_kb.min(grown_kb());
        }
        rounds.push((most_kb, left_kb));
    }
    let [(first_most_kb, first_left_kb), (_, left_kb)] = rounds[..] else { unreachable!() };
    // Each peer's copied responses are 8 KB, as none has read anything; the allocator may keep
    // their room for the next.
    assert!(first_most_kb > 4 << 10, "that was no test: {rounds:?}");
    assert!(first_most_kb < 12 << 10, "{rounds:?}");
    assert!(left_kb < first_left_kb + (1 << 10), "{rounds:?}");
    let log = server.stop();
    assert!(log.contains("timeouts=1200"), "{log}");
}

/// Asks for 500 KB and reads them at this pace, after some seconds as fast as it can.
fn check_slow_reader(server: &Server, cache: &Cache, key: u8, bytes_a_second: u32, slow: Duration) {
    let mut client = Client::connect_slow(server, key);
    client.request([(Class::Urgent, id(3, 0))]);
    let (start, mut read) = (Instant::now(), 0);
    while read < 500_000 && start.elapsed() < slow {
        if (start.elapsed() * bytes_a_second).as_secs() > read as u64 {
            read += client.read_some(2_000);
        } else {
            thread::sleep(Duration::from_millis(10));
        }
    }
    let answer = client.receive();
    assert!(answer.container == cache.container(id(3, 0)));
    let took = start.elapsed();
    assert!(took > Duration::from_secs(4), "{bytes_a_second} B/s, that was no test: {took:?}");
}

#[test]
fn a_peer_that_makes_progress_is_never_cut() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--send-timeout", "1500ms"]);
    thread::scope(|scope| {
        // With a key the response is copied in pieces, without one it is sent in place.
        for key in [0, 0x33] {
            let (server, cache) = (&server, &cache);
            // All of it takes longer than the timeout.
            let whole = Duration::from_secs(60);
            scope.spawn(move || check_slow_reader(server, cache, key, 120_000, whole));
            // What is sent at once to a slow peer, 16 KB, does.
            let slow = Duration::from_secs(5);
            scope.spawn(move || check_slow_reader(server, cache, key, 8_000, slow));
        }
    });
}

#[test]
fn peers_that_stop_reading_are_all_cut_wherever_they_stop() {
    // So many that operations fail, by the cut, before the sweep is through with it.
    const PEERS: usize = 2400;
    raise_descriptors();
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--send-timeout", "1100ms"]);
    let at_rest = server.descriptors();
    let mut peers: Vec<_> = (0..PEERS).map(|_| Client::connect_slow(&server, 1)).collect();
    for (place, client) in peers.iter_mut().enumerate() {
        client.request((0..40).map(|group| (Class::Urgent, id(2, group))));
        let mut left = if place < 40 { 50_000 + 1_500 * place } else { 0 };
        while left > 0 {
            left = left.saturating_sub(client.read_some(1_000));
        }
    }
    eventually("the peers are cut", || server.descriptors() == at_rest);
    drop(peers);
    let log = server.stop();
    assert!(log.contains(&format!("timeouts={PEERS} ")), "none by itself: {log}");
}

#[test]
fn a_refused_peer_that_sends_nothing_still_gets_its_status() {
    let cache = Cache::sample();
    let options = ["--connections-max", "0", "--linger-timeout", "300ms"];
    let server = Server::with_cache(&cache, &options);
    let at_rest = server.descriptors();
    let mut stream = slow_stream(server.address);
    assert_eq!(read_to_end(&mut stream), [7]);
    // It neither ends its side nor closes.
    eventually("its descriptor is back", || server.descriptors() == at_rest);
}
