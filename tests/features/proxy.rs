//! Behind a balancer: a PROXY header announces the client of a connection.

use crate::support::{Cache, Server, eventually, id, read_to_end};
use js5d::protocol::Class;
use js5d::protocol::handshake::handshake;
use js5d::protocol::request::Message;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[command, family], &len, payload].concat()
}

/// Announces an IPv4 address.
fn v2_ipv4(source: [u8; 4]) -> Vec<u8> {
    v2(0x21, 0x11, &[&source[..], &[192, 0, 2, 1], &[0xD9, 0x03, 0xAA, 0x4A]].concat())
}

/// Announces fd00:1:2:NET::HOST.
fn v2_ipv6(net: u8, host: u8) -> Vec<u8> {
    let source = [0xFD, 0, 0, 1, 0, 2, 0, net, 0, 0, 0, 0, 0, 0, 0, host];
    v2(0x21, 0x21, &[&source[..], &[0; 16], &[0xD9, 0x03, 0xAA, 0x4A]].concat())
}

fn v1(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 192.0.2.1 55555 43594\r\n").into_bytes()
}

fn start(options: &[&str]) -> Server {
    let all = [&["--listen-proxy", "127.0.0.1:0", "--log-level", "debug"], options].concat();
    Server::with_cache(&Cache::sample(), &all)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("js5d listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream
}

/// Sends a header and a handshake, and reads the status.
fn greet(server: &Server, header: &[u8]) -> (TcpStream, u8) {
    let mut stream = connect(server);
    stream.write_all(&[header, &handshake(550)].concat()).expect("js5d reads");
    let mut status = [0xEE];
    stream.read_exact(&mut status).expect("a status");
    (stream, status[0])
}

/// The value of a field in the last log line with these words.
fn field(log: &str, line: &str, name: &str) -> u64 {
    let line = log.lines().rev().find(|text| text.contains(line)).expect("it says so");
    let value = line.split(&format!(" {name}=")).nth(1).expect("the field");
    value.split(' ').next().expect("a value").parse().expect("a number")
}

#[test]
fn what_follows_a_header_in_whatever_pieces_is_served() {
    let cache = Cache::sample();
    let mut server = start(&[]);
    let request = Message::Request(Class::Urgent, id(1, 7)).to_bytes();
    let tlvs = [&[0x04, 0x03, 0xE8][..], &[0; 1000]].concat();
    let long = v2(0x21, 0x11, &[&[203, 0, 113, 9, 0, 0, 0, 0, 0, 1, 0, 2][..], &tlvs].concat());
    let local = v2(0x20, 0, &[]);
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    let headers = [v1("203.0.113.9"), v2_ipv4([203, 0, 113, 9]), long, local, unknown];
    for header in &headers {
        let all = [&header[..], &handshake(550), &request].concat();
        // At once, byte by byte, and cut at the header's end.
        for piece_len in [all.len(), 1, header.len()] {
            let mut stream = connect(&server);
            for piece in all.chunks(piece_len) {
                stream.write_all(piece).expect("js5d reads");
            }
            stream.shutdown(std::net::Shutdown::Write).expect("a socket");
            let answer = read_to_end(&mut stream);
            let expected = [&[0, 1, 0, 7], cache.container(id(1, 7))].concat();
            assert!(answer == expected, "{} in {piece_len}", header.escape_ascii());
        }
    }
    let log = server.stop();
    assert_eq!(field(&log, "PROXY headers", "headers"), 15, "{log}");
    assert!(log.contains("announced=203.0.113.9:55555"), "the log shows who it is: {log}");
}

#[test]
fn the_limit_an_address_counts_the_announced_address() {
    let server = start(&["--connections-per-ip-max", "1"]);
    let (first, status) = greet(&server, &v2_ipv4([203, 0, 113, 9]));
    assert_eq!(status, 0);
    assert_eq!(greet(&server, &v1("203.0.113.9")).1, 9, "in whatever version");
    let mapped = [&[0; 10][..], &[0xFF, 0xFF, 203, 0, 113, 9], &[0; 20]].concat();
    assert_eq!(greet(&server, &v2(0x21, 0x21, &mapped)).1, 9, "in whatever form");
    let (_other, status) = greet(&server, &v2_ipv4([203, 0, 113, 10]));
    assert_eq!(status, 0, "another address through the same balancer has its own place");
    let (_six, status) = greet(&server, &v2_ipv6(3, 1));
    assert_eq!(status, 0);
    assert_eq!(greet(&server, &v2_ipv6(3, 2)).1, 9, "a /64 is one address");
    let (_next, status) = greet(&server, &v2_ipv6(4, 1));
    assert_eq!(status, 0, "the next /64 is another");
    let (_check, status) = greet(&server, &v2(0x20, 0, &[]));
    assert_eq!(status, 0, "the balancer's own connection is the balancer's");
    assert_eq!(greet(&server, b"PROXY UNKNOWN\r\n").1, 9, "and counts as its");
    drop(first);
    eventually("the place comes back", || greet(&server, &v1("203.0.113.9")).1 == 0);
}

#[test]
fn the_whole_servers_limit_holds_behind_a_balancer_too() {
    let server = start(&["--connections-max", "1"]);
    let (_first, status) = greet(&server, &v2_ipv4([203, 0, 113, 9]));
    assert_eq!(status, 0);
    let (mut second, status) = greet(&server, &v2_ipv4([203, 0, 113, 10]));
    assert_eq!(status, 7);
    assert!(read_to_end(&mut second).is_empty(), "an orderly end");
}

/// What a peer reads that is closed without a status, in order or by a reset.
fn reads_nothing(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(bytes.is_empty(), "{bytes:?}");
}

#[test]
fn a_header_from_outside_the_trusted_networks_is_closed_and_counted() {
    let trusted = ["--proxy-trusted", "127.0.0.2", "--proxy-trusted", "10.0.0.0/8"];
    let mut server = start(&trusted);
    for header in [v1("203.0.113.9"), v2_ipv4([10, 0, 0, 1]), v2(0x20, 0, &[])] {
        let mut stream = connect(&server);
        // The close may come before the write.
        let _ = stream.write_all(&[&header[..], &handshake(550)].concat());
        reads_nothing(stream);
    }
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let source: SocketAddr = "127.0.0.2:0".parse().expect("an address");
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is ours");
    socket.connect(&server.address.into()).expect("js5d listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(&[&v1("203.0.113.9")[..], &handshake(550)].concat()).expect("js5d reads");
    let mut status = [0xEE];
    stream.read_exact(&mut status).expect("a status");
    assert_eq!(status, [0], "one of the networks is enough");
    drop(stream);
    let log = server.stop();
    assert_eq!(field(&log, "PROXY headers", "untrusted"), 3, "{log}");
    assert_eq!(field(&log, "PROXY headers", "headers"), 1, "{log}");
}

#[test]
fn what_is_no_header_is_closed_and_counted_by_its_fault() {
    let mut server = start(&[]);
    let request = [&handshake(550)[..], &[1, 1, 0, 7]].concat();
    let malformed = [request, b"GET / HTTP/1.1\r\n\r\n".to_vec(), v2(0x21, 0x41, &[0; 12])];
    for bytes in &malformed {
        let mut stream = connect(&server);
        let _ = stream.write_all(bytes);
        reads_nothing(stream);
    }
    let mut endless = b"PROXY UNKNOWN ".to_vec();
    endless.resize(4000, b'x');
    for bytes in [v2(0x21, 0x11, &[0; 4081]), endless] {
        let mut stream = connect(&server);
        let _ = stream.write_all(&bytes);
        reads_nothing(stream);
    }
    let log = server.stop();
    assert_eq!(field(&log, "PROXY headers", "malformed"), 3, "{log}");
    assert_eq!(field(&log, "PROXY headers", "too_long"), 2, "{log}");
}

#[test]
fn a_late_header_is_closed_and_counted_however_it_drips() {
    let mut server = start(&["--proxy-timeout", "500ms"]);
    let mute = connect(&server);
    let mut drip = connect(&server);
    let start = Instant::now();
    let header = v1("203.0.113.9");
    let mut bytes = header.iter();
    while let Some(byte) = bytes.next()
        && start.elapsed() < Duration::from_secs(3)
        && drip.write_all(&[*byte]).is_ok()
    {
        thread::sleep(Duration::from_millis(100));
    }
    assert!(bytes.len() > 0, "it was cut before the header was whole");
    reads_nothing(drip);
    reads_nothing(mute);
    // A header in time leaves the handshake its own deadline.
    let mut late = connect(&server);
    late.write_all(&header).expect("js5d reads");
    thread::sleep(Duration::from_millis(1000));
    late.write_all(&handshake(550)).expect("js5d reads");
    let mut status = [0xEE];
    late.read_exact(&mut status).expect("a status");
    assert_eq!(status, [0]);
    drop(late);
    let log = server.stop();
    assert_eq!(field(&log, "PROXY headers", "late"), 2, "{log}");
}

#[test]
fn a_plain_listener_takes_no_header() {
    let mut server = Server::with_cache(&Cache::sample(), &[]);
    let mut stream = connect(&server);
    stream.write_all(&v1("203.0.113.9")).expect("js5d reads");
    reads_nothing(stream);
    let log = server.stop();
    assert!(log.contains("violations=1"), "{log}");
    assert!(!log.contains("PROXY headers"), "{log}");
}

#[test]
fn only_the_listeners_that_were_asked_for_are_there() {
    let server = start(&["--listen", "127.0.0.1:0"]);
    let ready = server.log();
    assert!(ready.contains(" (PROXY) with 1 worker"), "{ready}");
    // The plain one is named first.
    let mut stream = connect(&server);
    stream.write_all(&handshake(550)).expect("js5d reads");
    let mut status = [0xEE];
    stream.read_exact(&mut status).expect("a status");
    assert_eq!(status, [0], "the plain one wants no header");
    let alone = start(&[]);
    assert!(!alone.log().contains("0.0.0.0:43594"), "no default beside it: {}", alone.log());
}

#[test]
fn connections_that_show_nothing_hold_a_bounded_number_of_places() {
    let options = ["--openings-max", "4", "--proxy-timeout", "20s", "--linger-timeout", "500ms"];
    let server = start(&options);
    let mute: Vec<_> = (0..4).map(|_| connect(&server)).collect();
    eventually("they hold descriptors", || server.descriptors() > 4);
    let start = Instant::now();
    let (_stream, status) = greet(&server, &v2_ipv4([203, 0, 113, 9]));
    assert_eq!(status, 0, "whoever comes then waits his turn");
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(5), "a crowd gets --linger-timeout only: {waited:?}");
    mute.into_iter().for_each(reads_nothing);
}

#[test]
fn a_stop_waits_for_no_header() {
    let mut server = start(&["--proxy-timeout", "20s"]);
    let mute = connect(&server);
    thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    reads_nothing(mute);
}
