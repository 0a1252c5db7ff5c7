//! One port with the game: what is not JS5's goes to a real second server, and comes back.

use crate::support::game::{
    LOGIN, connect, echo, field, game_server, is_reset, log_in, ping, serve_game, start,
};
use crate::support::{Cache, Client, PATIENCE, Server, eventually, id, read_to_end, slow_stream};
use js5d::protocol::Class;
use rustix::process::Signal;
use socket2::Socket;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

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
    // It comes back, and js5d finds it without help.
    serve_game(TcpListener::bind(address).expect("the port is free"), echo);
    drop(log_in(&server));
    drop(js5);
    let log = server.stop();
    assert_eq!((field(&log, "accepted"), field(&log, "unreachable")), (4, 3), "{log}");
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
    let server = start(game, &[&options[..], &["--proxy-timeout", "500ms"]].concat());
    let signature = *b"\r\n\r\n\0\r\nQUIT\n";
    let mut announced = connect(&server);
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 55555 43594\r\n";
    announced.write_all(&[&header[..], &LOGIN].concat()).expect("js5d reads");
    let addresses = [203, 0, 113, 9, 192, 0, 2, 1, 0xD9, 0x03, 0xAA, 0x4A];
    let expected = [&signature[..], &[0x21, 0x11, 0, 12], &addresses, &LOGIN].concat();
    assert_eq!(inbox.recv_timeout(PATIENCE), Ok(expected), "the announced one goes on");

    let mut direct = connect(&server);
    direct.write_all(b"PROXY UNKNOWN\r\n").expect("js5d reads");
    // The header was in time; what follows has another deadline.
    thread::sleep(Duration::from_millis(1000));
    direct.write_all(&LOGIN).expect("js5d reads");
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
