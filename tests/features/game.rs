//! One port with the game: what is not JS5's goes to a real second server, and comes back.

use crate::support::{Cache, Client, PATIENCE, Server, eventually, id, js5d, read_to_end};
use crate::support::{raise_descriptors, slow_stream};
use js5d::protocol::Class;
use js5d::protocol::handshake::handshake;
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// The login of a game client: opcode 14 and a byte.
const LOGIN: [u8; 2] = [14, 0x2A];

/// A game server: each connection gets a thread with this.
fn game_server(play: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a socket");
    serve_game(listener, play);
    address
}

fn serve_game(listener: TcpListener, play: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let play = play.clone();
            thread::spawn(move || play(stream));
        }
    });
}

/// Sends back what comes, and ends when its client does.
fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 4000];
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..len]).is_err() {
            return;
        }
    }
}

fn start(game: SocketAddr, options: &[&str]) -> Server {
    let game = game.to_string();
    let all = [&["--game-server", &game[..]], options].concat();
    Server::with_cache(&Cache::sample(), &all)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("js5d listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// A game client whose login came back from an echoing server.
fn log_in(server: &Server) -> TcpStream {
    let mut stream = connect(server);
    ping(&mut stream, &LOGIN);
    stream
}

fn ping(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("js5d reads");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, bytes);
}

fn is_reset(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}

/// The value of a field in the last words about game connections.
fn field(log: &str, name: &str) -> u64 {
    let line = log.lines().rev().find(|text| text.contains("game connections accepted="));
    let value = line.expect("it says so").split(&format!(" {name}=")).nth(1).expect("the field");
    value.split(' ').next().expect("a value").parse().expect("a number")
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(len as u64).fill(&mut bytes);
    bytes
}

#[test]
fn both_services_share_the_port() {
    let cache = Cache::sample();
    let mut server = start(game_server(echo), &[]);
    let mut js5 = Client::connect(&server, 0x21);
    let mut games: Vec<_> =
        [14, 16, 18, 17, 0, 255].map(|opcode| (opcode, connect(&server))).into();
    for (opcode, game) in &mut games {
        ping(game, &[*opcode]);
        js5.request([(Class::Urgent, id(2, 1)), (Class::Prefetch, id(1, 1))]);
        ping(game, &[15, 15, 0, 1]);
        for answer in js5.receive_many(2) {
            assert!(answer.container == cache.container(answer.id), "{}", answer.id);
        }
        ping(game, &noise(3000));
    }
    drop((js5, games));
    let log = server.stop();
    assert_eq!((field(&log, "accepted"), field(&log, "errors")), (6, 0), "{log}");
    assert!(log.contains("violations=0"), "{log}");
}

#[test]
fn many_bytes_come_whole_through_small_buffers_both_ways_at_once() {
    let server = start(game_server(echo), &[]);
    // The client takes in little at a time, so that both directions fill up.
    let mut stream = slow_stream(server.address);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut sent = noise(8_000_000);
    sent[0] = 16;
    let mut writing = stream.try_clone().expect("a socket");
    let bytes = sent.clone();
    let writer = thread::spawn(move || {
        writing.write_all(&bytes).expect("js5d reads");
        writing.shutdown(Shutdown::Write).expect("a socket");
    });
    thread::sleep(Duration::from_millis(300));
    let back = read_to_end(&mut stream);
    writer.join().expect("all is sent");
    assert!(back == sent, "{} of {} bytes", back.len(), sent.len());
}

#[test]
fn a_client_that_ends_its_side_first_still_gets_its_answer() {
    // Answers only when the client has ended.
    let game = game_server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an orderly end");
        thread::sleep(Duration::from_millis(200));
        stream.write_all(&[&all[..], b"!"].concat()).expect("the other side is open");
    });
    let mut server = start(game, &[]);
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    stream.shutdown(Shutdown::Write).expect("a socket");
    assert_eq!(read_to_end(&mut stream), [14, 0x2A, b'!']);
    let log = server.stop();
    assert_eq!((field(&log, "reset"), field(&log, "errors")), (0, 0), "{log}");
}

#[test]
fn a_game_server_that_ends_its_side_first_still_hears_the_client() {
    let (heard, inbox) = channel();
    let game = game_server(move |mut stream| {
        stream.write_all(b"bye").expect("a client");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("an orderly end");
        heard.send(all).expect("the test waits");
    });
    let server = start(game, &[]);
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    assert_eq!(read_to_end(&mut stream), b"bye");
    let late = noise(100_000);
    stream.write_all(&late).expect("this side is open");
    drop(stream);
    let all = inbox.recv_timeout(PATIENCE).expect("the server hears the end");
    assert!(all == [&LOGIN[..], &late].concat(), "{} bytes", all.len());
}

#[test]
fn a_reset_of_one_side_reaches_the_other() {
    // From the server.
    let game = game_server(|mut stream| {
        let mut login = [0; 2];
        stream.read_exact(&mut login).expect("a login");
        Socket::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    });
    let mut server = start(game, &[]);
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    assert!(is_reset(&mut stream), "and no end that looks orderly");
    let log = server.stop();
    assert_eq!(field(&log, "reset"), 1, "{log}");

    // From the client.
    let (heard, inbox) = channel();
    let server = start(
        game_server(move |mut stream| {
            stream.read_exact(&mut [0; 2]).expect("a login");
            stream.write_all(b"k").expect("a client");
            heard.send(is_reset(&mut stream)).expect("the test waits");
        }),
        &[],
    );
    let mut stream = connect(&server);
    stream.write_all(&LOGIN).expect("js5d reads");
    stream.read_exact(&mut [0]).expect("an answer");
    Socket::from(stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    assert_eq!(inbox.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn with_the_game_server_down_its_clients_are_closed_at_once_and_js5_goes_on() {
    let cache = Cache::sample();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a socket");
    drop(listener);
    // By name, so that it is looked up again.
    let name = format!("localhost:{}", address.port());
    let mut server = Server::with_cache(&cache, &["--game-server", &name]);
    let mut js5 = Client::connect(&server, 0);
    for _ in 0..3 {
        let mut stream = connect(&server);
        stream.write_all(&LOGIN).expect("js5d reads");
        let start = Instant::now();
        assert!(is_reset(&mut stream));
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        js5.request([(Class::Urgent, id(1, 1))]);
        assert_eq!(js5.receive().container, cache.container(id(1, 1)));
    }
    eventually("it is logged", || server.log().contains("the game server cannot be reached"));
    // It comes back, and needs no word from anybody.
    serve_game(TcpListener::bind(address).expect("the port is free"), echo);
    drop(log_in(&server));
    drop(js5);
    let log = server.stop();
    assert_eq!((field(&log, "accepted"), field(&log, "unreachable")), (4, 3), "{log}");
}

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
fn the_game_server_is_told_the_clients_address_if_it_wants_to_know() {
    let (heard, inbox) = channel();
    let game = game_server(move |mut stream| {
        let mut bytes = vec![0; 30];
        stream.read_exact(&mut bytes).expect("a header and a login");
        heard.send(bytes).expect("the test waits");
    });
    let options = ["--game-server-proxy", "on", "--listen-proxy", "127.0.0.1:0"];
    let server = start(game, &options);
    let signature = *b"\r\n\r\n\0\r\nQUIT\n";
    let mut announced = connect(&server);
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 55555 43594\r\n";
    announced.write_all(&[&header[..], &LOGIN].concat()).expect("js5d reads");
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0xD9, 0x03, 0xAA, 0x4A];
    let expected = [&signature[..], &[0x21, 0x11, 0, 12], &addresses, &LOGIN].concat();
    assert_eq!(inbox.recv_timeout(PATIENCE), Ok(expected), "the announced one goes on");

    let mut direct = connect(&server);
    direct.write_all(&[b"PROXY UNKNOWN\r\n", &LOGIN[..]].concat()).expect("js5d reads");
    let ports = [direct.local_addr(), direct.peer_addr()].map(|end| end.unwrap().port());
    let [from, to] = ports.map(u16::to_be_bytes);
    let addresses =
        [[127, 0, 0, 1, 127, 0, 0, 1], [from[0], from[1], to[0], to[1], 14, 0x2A, 0, 0]];
    let expected = [&signature[..], &[0x21, 0x11, 0, 12], &addresses.concat()[..14]].concat();
    assert_eq!(inbox.recv_timeout(PATIENCE), Ok(expected), "else the connection's own");
}

#[test]
fn players_play_on_while_the_server_stops() {
    let mut server = start(game_server(echo), &["--drain-timeout", "1s"]);
    let mut game = log_in(&server);
    let mut idle = Client::connect(&server, 0);
    server.signal(Signal::TERM);
    assert_eq!(idle.receive_to_end(), [], "JS5 drains");
    thread::sleep(Duration::from_millis(1500));
    ping(&mut game, b"after the drain timeout of JS5");
    assert!(server.log().contains("1 game connections go on"), "{}", server.log());
    drop(game);
    let (code, waited) = server.wait();
    assert_eq!(code, Some(0));
    assert!(waited < Duration::from_secs(2), "{waited:?}");

    let mut server = start(game_server(echo), &["--game-drain-timeout", "500ms"]);
    let mut game = log_in(&server);
    server.signal(Signal::TERM);
    assert!(is_reset(&mut game), "until their own deadline");
    assert_eq!(server.wait().0, Some(0));
    assert_eq!(field(&server.log(), "cut"), 1);
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
    // An echo that nobody reads fills up, and then so does what leads to it.
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
