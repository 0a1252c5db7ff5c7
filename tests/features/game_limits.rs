//! One port with the game: its deadlines and limits, and that JS5's are not its.

use crate::support::game::{
    LOGIN, connect, echo, field, game_server, is_reset, log_in, ping, start,
};
use crate::support::{Client, eventually, js5d, raise_descriptors, read_to_end, slow_stream};
use js5d::protocol::handshake::handshake;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// An address that takes no connection and says nothing: its backlog is full.
fn silent_address() -> (Socket, Vec<Socket>, SocketAddr) {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("a socket");
    let address = listener.local_addr().expect("a socket").as_socket().expect("an address");
    let fill = (0..4).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let _ = socket.connect(&address.into());
        socket
    });
    let fill = fill.collect();
    (listener, fill, address)
}

#[test]
fn a_game_server_that_takes_no_connection_has_its_deadline() {
    let (_listener, _fill, address) = silent_address();
    let mut server = start(address, &["--game-connect-timeout", "700ms"]);
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    let start = Instant::now();
    assert!(is_reset(&mut stream));
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(600), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    let log = server.stop();
    assert_eq!(field(&log, "unreachable"), 1, "{log}");
}

#[test]
fn a_game_connection_without_a_byte_is_cut_after_its_own_deadline_only() {
    // Takes the login, and answers nothing, ever.
    let mute = |mut stream: TcpStream| drop(stream.read_to_end(&mut Vec::new()));
    let options = ["--game-idle-timeout", "2s", "--idle-timeout", "500ms"];
    let mut server = start(game_server(mute), &options);
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    let start = Instant::now();
    // A byte in one direction is enough.
    thread::sleep(Duration::from_millis(1200));
    stream.write_all(&[1]).expect("js5d reads");
    assert!(is_reset(&mut stream));
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(3), "{waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    let log = server.stop();
    assert_eq!(field(&log, "idle"), 1, "{log}");
}

#[test]
fn the_first_byte_has_the_handshakes_deadline() {
    let mut server = start(game_server(echo), &["--handshake-timeout", "500ms"]);
    let mut mute = connect(&server);
    let mut half = connect(&server);
    half.write_all(&handshake(550)[..3]).expect("js5d reads");
    let start = Instant::now();
    assert!(read_to_end(&mut mute).is_empty());
    assert!(read_to_end(&mut half).is_empty());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let log = server.stop();
    assert!(log.contains("timeouts=2"), "{log}");
}

#[test]
fn game_connections_have_limits_of_their_own() {
    let options = ["--game-connections-max", "3", "--game-connections-per-ip-max", "2"];
    let listen = ["--listen-proxy", "127.0.0.1:0"];
    let mut server = start(game_server(echo), &[&options[..], &listen].concat());
    let announced = |last: u8| {
        let mut stream = connect(&server);
        let header = format!("PROXY TCP4 203.0.113.{last} 192.0.2.1 5 6\r\n");
        stream.write_all(&[header.as_bytes(), &LOGIN].concat()).expect("js5d reads");
        let mut back = [0; 2];
        let is_served = stream.read_exact(&mut back).is_ok();
        (stream, is_served)
    };
    let (first, is_served) = announced(1);
    assert!(is_served);
    let (second, is_served) = announced(1);
    assert!(is_served);
    assert!(!announced(1).1, "two from one announced address");
    let (third, is_served) = announced(2);
    assert!(is_served);
    assert!(!announced(3).1, "three in all");
    drop(first);
    eventually("the place comes back", || announced(3).1);
    drop((second, third));
    let log = server.stop();
    assert!(field(&log, "refused") >= 2, "{log}");
}

#[test]
fn a_flood_of_js5_connections_shuts_no_game_client_out() {
    raise_descriptors();
    let options = ["--connections-max", "2", "--connections-per-ip-max", "2"];
    let more = ["--refusals-max", "1", "--linger-timeout", "20s", "--drain-timeout", "1s"];
    let server = start(game_server(echo), &[&options[..], &more].concat());
    let mut game = log_in(&server);
    let _admitted = [Client::connect(&server, 0), Client::connect(&server, 0)];
    // The first refused peer says no more and never goes: it is being told so for 20 s.
    let mut flood: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(&handshake(550)).expect("js5d reads");
            stream
        })
        .collect();
    let start = Instant::now();
    for stream in &mut flood {
        let mut status = [0xEE];
        stream.read_exact(&mut status).expect("a status");
        assert_eq!(status, [7]);
    }
    ping(&mut game, b"still there?");
    let _ = log_in(&server);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for stream in &mut flood[..] {
        assert!(read_to_end(stream).is_empty(), "an orderly end");
    }
}

#[test]
fn nothing_is_left_of_game_connections_that_have_ended() {
    let server = start(game_server(echo), &[]);
    drop(log_in(&server));
    let is_calm = |before: usize| server.descriptors() <= before;
    let before = server.descriptors() - 2;
    for _ in 0..3 {
        let mut crowd: Vec<_> = (0..100).map(|_| log_in(&server)).collect();
        assert!(server.descriptors() >= 200);
        for (place, stream) in crowd.drain(..).enumerate() {
            if place % 3 == 0 {
                Socket::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
            }
        }
        eventually("their descriptors are back", || is_calm(before + 2));
    }
}

#[test]
fn a_client_that_reads_nothing_holds_up_itself_alone() {
    let server = start(game_server(echo), &[]);
    let mut other = log_in(&server);
    let before_kb = server.resident_kb();
    let mut greedy = slow_stream(server.address);
    greedy.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    let mut sent = 0;
    let bytes = [14; 1 << 16];
    // An unread echo fills its buffers, and then so do the buffers before it.
    while let Ok(len) = greedy.write(&bytes) {
        sent += len;
        assert!(sent < 1 << 30, "it must stop somewhere");
    }
    assert!(sent > 100_000);
    ping(&mut other, b"undisturbed");
    let grown_kb = server.resident_kb().saturating_sub(before_kb);
    assert!(grown_kb < 500, "js5d itself holds two buffers: {grown_kb} KB");
}

#[test]
fn a_game_server_that_cannot_be_is_a_wrong_setting() {
    let own = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = own.local_addr().expect("a socket").port();
    drop(own);
    let itself = format!("127.0.0.1:{port}");
    for listen in [itself.clone(), format!("0.0.0.0:{port}")] {
        let ended = js5d(&["--listen", &listen, "--game-server", &itself]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains("js5d itself"), "{ended:?}");
    }
    let ended = js5d(&["--game-server", "no-such-host.invalid:43595"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("--game-server no-such-host.invalid:43595"), "{ended:?}");
    let ended = js5d(&["--game-server", "localhost"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
}
