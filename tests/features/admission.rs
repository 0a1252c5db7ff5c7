//! Which connections are admitted, and that a refused one reads why.

use crate::support::{Cache, Client, PATIENCE, Server, eventually, id, read_to_end, stream_from};
use js5d::protocol::handshake::handshake;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, Status};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// Shakes hands and asks at once for what a refused peer must not get; all that comes back.
fn knock(server: &Server, build: u32) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).expect("js5d listens");
    stream.write_all(&opening(build)).expect("js5d reads");
    stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    read_to_end(&mut stream)
}

/// A handshake and requests in one segment, more than is read at once: a close with the rest
/// unread would be a reset.
fn opening(build: u32) -> Vec<u8> {
    let mut bytes = handshake(build).to_vec();
    for group in 0..100 {
        bytes.extend(Message::Request(Class::Urgent, id(1, group)).to_bytes());
    }
    bytes
}

#[test]
fn a_client_of_another_build_reads_that_it_is_out_of_date() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &["--build", "550", "--build", "634"]);
    for (build, status) in [(550, 0), (634, 0), (0, 6), (549, 6), (551, 6), (0x00FF_FFFF, 6)] {
        let answer = knock(&server, build);
        assert_eq!(answer.first(), Some(&status), "build {build}");
        assert_eq!(answer.len() > 1, status == 0, "build {build}: a response");
    }
    let log = server.stop();
    assert!(log.contains("refused=4"), "{log}");
}

/// 500 peers at a full server, `refusals_max` of which are told at a time.
fn check_full(refusals_max: &str) {
    let cache = Cache::sample();
    let limits = ["--connections-max", "1", "--refusals-max", refusals_max];
    // All of them have one address.
    let options = [&limits[..], &["--openings-per-ip-max", "1000"]].concat();
    let server = Server::with_cache(&cache, &options);
    let mut admitted = Client::connect(&server, 0);
    let mut refused: Vec<_> = (0..500)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("js5d listens");
            stream.write_all(&opening(550)).expect("js5d reads");
            stream
        })
        .collect();
    for stream in refused.drain(..) {
        let mut stream = stream;
        assert_eq!(read_to_end(&mut stream), [7], "a status, then an orderly end");
    }
    admitted.request([(Class::Urgent, id(0, 0))]);
    assert_eq!(admitted.receive().container, cache.container(id(0, 0)), "served throughout");
    drop(admitted);
    eventually("the place comes back", || knock(&server, 550)[0] == 0);
}

#[test]
fn five_hundred_refused_peers_each_read_that_the_server_is_full() {
    check_full("900");
}

#[test]
fn refused_peers_beyond_the_limit_wait_their_turn() {
    check_full("16");
}

#[test]
fn the_next_peer_of_a_busy_address_is_told_so() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--connections-per-ip-max", "2"]);
    let first = Client::connect(&server, 0);
    let _second = Client::connect(&server, 0);
    assert_eq!(knock(&server, 550), [9]);
    let mut other = stream_from("127.0.0.2:0", server.address);
    other.write_all(&opening(550)).unwrap();
    other.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut other)[0], 0, "another address has its own places");
    drop(first);
    eventually("the place comes back", || knock(&server, 550)[0] == 0);
}

#[test]
fn another_services_opcode_is_closed_and_counted() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &[]);
    for opcode in [14, 16, 17, 18, 0, 255] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(&[opcode, 0, 0, 0, 0, 0]).unwrap();
        assert!(read_to_end(&mut stream).is_empty(), "opcode {opcode}");
    }
    let log = server.stop();
    assert!(log.contains("violations=6"), "{log}");
}

#[test]
fn another_services_peer_holds_no_place_once_its_first_byte_is_there() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--linger-timeout", "15s"]);
    let at_rest = server.descriptors();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&[14, 0]).unwrap();
    assert!(read_to_end(&mut stream).is_empty());
    // It neither ends its side nor closes, and there is nothing of ours that it could still read.
    let waited = eventually("its descriptor is back", || server.descriptors() == at_rest);
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn an_unknown_message_destroys_nothing_that_was_sent_before() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--linger-timeout", "5s"]);
    let mut client = Client::connect(&server, 0);
    client.request([(Class::Urgent, id(2, 0))]);
    assert!(client.hears_within(PATIENCE), "the response is begun");
    client.stream.write_all(&[5; 1000]).unwrap();
    thread::sleep(Duration::from_millis(300));
    // It has read nothing yet, and goes on: unread input would make a close a reset.
    client.stream.write_all(&[5; 100_000]).unwrap();
    thread::sleep(Duration::from_millis(300));
    let answers = client.receive_to_end();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].container == cache.container(id(2, 0)));
}

#[test]
fn an_unknown_message_closes_after_what_was_begun() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &[]);
    for opcode in [5, 8, 15, 255] {
        let mut client = Client::connect(&server, 0);
        client.request([(Class::Urgent, id(3, 0))]);
        assert_eq!(client.receive().container, cache.container(id(3, 0)));
        // What follows is more than is read at once.
        client.stream.write_all(&[opcode; 1000]).unwrap();
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.receive_to_end(), [], "opcode {opcode}");
    }
    // In the handshake's own segment: the status still goes out.
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(&[&handshake(550)[..], &[5, 0, 0, 0]].concat()).unwrap();
    assert_eq!(read_to_end(&mut stream), [Status::Ok.to_byte()]);
    let log = server.stop();
    assert!(log.contains("violations=5"), "{log}");
}

#[test]
fn several_addresses_are_listened_on_ipv6_too() {
    let dir = tempfile::tempdir().unwrap();
    Cache::sample().write_flat(dir.path());
    let path = dir.path().to_str().unwrap();
    let server =
        Server::start(&["--cache", path, "--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
    let log = server.log();
    let second = log.split("[::1]:").nth(1).expect("both are named");
    let port: String = second.chars().take_while(char::is_ascii_digit).collect();
    let six: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    for address in [server.address, six] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&opening(550)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut stream)[0], 0, "{address}");
    }
}
