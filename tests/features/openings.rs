//! Silent connections: those of one address do not keep other clients out.

use crate::support::game::{LOGIN, echo, game_server};
use crate::support::{Cache, Http, PATIENCE, Server, eventually, read_to_end, stream_from};
use js5d::protocol::handshake::handshake;
use rustix::process::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const SILENT: &str = "127.0.0.9:0";
const HONEST: &str = "127.0.0.7:0";

/// No deadline passes: all are longer than a test may take.
const NO_DEADLINE: [&str; 6] =
    ["--handshake-timeout", "1m", "--proxy-timeout", "1m", "--linger-timeout", "1m"];

fn start(options: &[&str]) -> Server {
    Server::with_cache(&Cache::sample(), &[&NO_DEADLINE[..], options].concat())
}

fn silent(server: &Server, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| stream_from(SILENT, server.address)).collect()
}

/// Says `bytes` and reads as many back as `answer` has, within seconds.
fn check_is_served(server: &Server, bytes: &[u8], answer: &[u8]) {
    let mut stream = stream_from(HONEST, server.address);
    let start = Instant::now();
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(bytes).expect("js5d reads");
    let mut found = vec![0xEE; answer.len()];
    stream.read_exact(&mut found).unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
    assert_eq!(found, answer, "{bytes:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// How many read status 9 and the end, and how many hear nothing.
fn tell(streams: Vec<TcpStream>) -> (usize, usize) {
    let (mut refused, mut waiting) = (0, 0);
    for mut stream in streams {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => waiting += 1,
            first => {
                assert_eq!(first.expect("a status"), 1);
                assert!(read_to_end(&mut stream).is_empty());
                refused += 1;
            }
        }
    }
    (refused, waiting)
}

#[test]
fn silent_connections_of_one_address_leave_places_to_others() {
    let http = "127.0.0.1:0";
    let options = ["--connections-max", "16", "--openings-per-ip-max", "8", "--admin", http];
    let mut server = start(&options);
    let streams = silent(&server, 100);
    let at_once = tell(streams.iter().map(|stream| stream.try_clone().expect("one")).collect());
    assert_eq!(at_once, (92, 8));
    check_is_served(&server, &handshake(550), &[0]);
    let metrics = Http::of(&server).metrics();
    for name in
        ["closed_total{reason=\"openings\"}", "refused_total{reason=\"too_many_connections\"}"]
    {
        assert_eq!(metrics.value(&format!("js5d_{name}")), 92.0, "{name}");
    }
    eventually("it is said", || server.log().contains("has --openings-per-ip-max silent"));
    drop(streams);
    eventually("the places come back", || {
        let mut stream = stream_from(SILENT, server.address);
        stream.write_all(&handshake(550)).is_ok() && stream.read(&mut [0]).is_ok_and(|len| len == 1)
    });
    let log = server.stop();
    assert!(log.contains("refused=92"), "{log}");
}

#[test]
fn silent_connections_that_are_refused_leave_places_to_others_too() {
    let limits = ["--connections-per-ip-max", "1", "--refusals-max", "8"];
    let server = start(&[&limits[..], &["--openings-per-ip-max", "4"]].concat());
    let _held = silent(&server, 40);
    check_is_served(&server, &handshake(550), &[0]);
}

#[test]
fn silent_connections_of_one_address_shut_no_player_out() {
    let game = game_server(echo).to_string();
    let limits = ["--openings-max", "16", "--openings-per-ip-max", "4"];
    let server = start(&[&limits[..], &["--game-server", &game]].concat());
    let mut held = silent(&server, 40);
    check_is_served(&server, &LOGIN, &LOGIN);
    check_is_served(&server, &handshake(550), &[0]);
    // The beginning of a handshake is no handshake.
    held.extend(silent(&server, 1));
    assert_eq!(tell(held), (37, 4));
}

#[test]
fn behind_a_balancer_the_announced_address_has_the_places() {
    let game = game_server(echo).to_string();
    let limits = ["--openings-max", "64", "--openings-per-ip-max", "4"];
    let front = ["--game-server", &game, "--listen-proxy", "127.0.0.1:0"];
    let server = start(&[&limits[..], &front].concat());
    // Before their header all clients have the balancer's address.
    let _no_header: Vec<_> = (0..20).map(|_| stream_from(HONEST, server.address)).collect();
    let header = |last: u8| format!("PROXY TCP4 203.0.113.{last} 192.0.2.1 5 6\r\n").into_bytes();
    let announced = (0..10).map(|_| {
        let mut stream = stream_from(HONEST, server.address);
        stream.write_all(&header(1)).expect("js5d reads");
        stream
    });
    let announced: Vec<_> = announced.collect();
    check_is_served(&server, &[&header(2)[..], &LOGIN].concat(), &LOGIN);
    check_is_served(&server, &[&header(3)[..], &handshake(550)].concat(), &[0]);
    assert_eq!(tell(announced), (6, 4));
    // A health check of the balancer's announces no client.
    let local = (0..6).map(|_| {
        let mut stream = stream_from(HONEST, server.address);
        stream.write_all(b"PROXY UNKNOWN\r\n").expect("js5d reads");
        stream
    });
    assert_eq!(tell(local.collect()), (0, 6));
}

#[test]
fn who_has_spoken_before_it_is_accepted_is_no_silent_connection() {
    let server = start(&["--openings-per-ip-max", "4"]);
    let _held = silent(&server, 4);
    check_is_served(&server, &handshake(550), &[0]);
    server.freeze();
    let greeted = (0..50).map(|_| {
        let mut stream = stream_from(SILENT, server.address);
        stream.write_all(&handshake(550)).expect("the kernel takes it");
        stream
    });
    let greeted: Vec<_> = greeted.collect();
    server.signal(Signal::CONT);
    for mut stream in greeted {
        let mut status = [0xEE];
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.read_exact(&mut status).expect("a status");
        assert_eq!(status, [0]);
    }
}
