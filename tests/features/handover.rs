//! How one server takes over from another, without refusing a connection.

use crate::support::{Cache, Client, Http, Server, eventually, game, id, js5d, read_to_end};
use js5d::platform::descriptors::{RECORD_LEN, pass, receive};
use js5d::protocol::Class;
use rustix::process::Signal;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// A handshake of build 550.
pub(crate) const HANDSHAKE: [u8; 5] = [15, 0, 0, 2, 38];

/// A cache and a place for sockets.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    cache: Cache,
}

impl Site {
    pub(crate) fn new(cache: Cache) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        cache.write_flat(&dir.path().join("cache"));
        Self { dir, cache }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a plain path").to_owned()
    }

    /// Starts a server that listens on `address` and can be taken over from.
    pub(crate) fn start(&self, address: &str, options: &[&str]) -> Server {
        let (cache, handover) = (self.path("cache"), self.path("handover.sock"));
        let all = ["--cache", &cache, "--handover", &handover, "--listen", address];
        Server::start(&[&all[..], &["--build", "550"], options].concat())
    }

    fn is_there(&self, name: &str) -> bool {
        Path::new(&self.path(name)).exists()
    }
}

#[test]
fn a_server_that_starts_takes_over_from_the_one_that_serves() {
    let site = Site::new(Cache::huge());
    let unix = format!("unix:{}", site.path("admin.sock"));
    let options = ["--admin", "127.0.0.1:0", "--admin", &unix];
    let mut old = site.start("127.0.0.1:0", &options);
    let http = Http::of(&old);
    let admin = http.0.to_string();
    let mut busy = Client::connect_slow(&old, 0x55);
    busy.request([(Class::Urgent, id(3, 1)), (Class::Prefetch, id(1, 1))]);
    busy.read_some(1000);

    let address = old.address.to_string();
    // One worker and one address became two of each: what is new is bound beside.
    let options =
        ["--admin", &admin, "--admin", &unix, "--workers", "2", "--listen", "127.0.0.1:0"];
    let mut new = site.start(&address, &options);
    eventually("the old one drains", || old.log().contains("handed over"));
    let answers = busy.receive_to_end();
    assert_eq!(answers.len(), 2, "what was asked for is finished");
    assert!(answers.iter().all(|answer| answer.container == site.cache.container(answer.id)));
    drop(busy);
    assert_eq!(old.wait().0, Some(0), "{}", old.log());

    assert_eq!(new.address, old.address);
    for _ in 0..8 {
        let mut client = Client::connect(&new, 0);
        client.request([(Class::Urgent, id(1, 1))]);
        assert_eq!(client.receive().container, site.cache.container(id(1, 1)));
    }
    assert_eq!(http.get("/readyz").status, 200, "the admin address came along");
    assert!(site.is_there("admin.sock") && site.is_there("handover.sock"), "and so did the files");
    let reached = js5d(&["status", "--admin", &unix]);
    assert_eq!(reached.code, Some(0), "{}", reached.stderr);
    new.stop();
    assert!(!site.is_there("admin.sock") && !site.is_there("handover.sock"), "they go at the end");
}

#[test]
fn a_server_that_does_not_start_takes_nothing() {
    let site = Site::new(Cache::sample());
    let mut old = site.start("127.0.0.1:0", &["--handover-timeout", "2s"]);
    let address = old.address.to_string();
    let taken = TcpStream::connect(old.address).expect("it listens");
    let occupied = taken.local_addr().expect("connected").to_string();
    let (cache, handover) = (site.path("cache"), site.path("handover.sock"));
    let wrong = js5d(&["--cache", &cache, "--handover", &handover, "--listen", &occupied]);
    assert_eq!(wrong.code, Some(71), "{}", wrong.stderr);
    eventually("it was noticed", || old.log().contains("was given up"));

    let mut silent = UnixStream::connect(site.path("handover.sock")).expect("it listens");
    eventually("too slow", || old.log().contains("nothing within --handover-timeout"));
    assert_eq!(silent.read(&mut [0; 16]).expect("closed"), 0);
    let mut stranger = UnixStream::connect(site.path("handover.sock")).expect("it listens");
    stranger.write_all(b"GET / HTTP/1.1\r\n").expect("it reads");
    eventually("something else", || old.log().contains("does not speak this version"));
    let mut late = UnixStream::connect(site.path("handover.sock")).expect("it listens");
    late.write_all(b"js5d handover 1 ").expect("it reads");
    let mut words = String::new();
    late.read_to_string(&mut words).expect("it ends");
    let words: Vec<_> = words.split_whitespace().collect();
    assert_eq!(words, ["js5", "handover", "end", "given", "up"]);

    let mut client = Client::connect(&old, 0);
    client.request([(Class::Urgent, id(1, 1))]);
    assert_eq!(client.receive().container, site.cache.container(id(1, 1)), "it goes on");
    let mut new = site.start(&address, &[]);
    assert_eq!(old.wait().0, Some(0), "and is taken over from by one that does");
    new.stop();
}

#[test]
fn a_server_that_stops_hands_nothing_over() {
    let site = Site::new(Cache::huge());
    let mut old = site.start("127.0.0.1:0", &["--drain-timeout", "5s"]);
    let mut busy = Client::connect_slow(&old, 0);
    busy.request([(Class::Urgent, id(3, 1))]);
    busy.read_some(1000);
    old.signal(Signal::TERM);
    eventually("it has heard", || old.log().contains("stopping"));
    let (cache, handover, address) =
        (site.path("cache"), site.path("handover.sock"), old.address.to_string());
    let late = js5d(&["--cache", &cache, "--handover", &handover, "--listen", &address]);
    assert_eq!(late.code, Some(71), "{}", late.stderr);
    assert!(late.stderr.contains("is stopping"), "{}", late.stderr);
    drop(busy);
    assert_eq!(old.wait().0, Some(0));
}

/// A connection that the server has accepted, and that has said nothing.
fn silent(server: &Server, http: Http) -> TcpStream {
    let accepted = || http.metrics().value("js5d_accepted_total");
    let before = accepted();
    let stream = TcpStream::connect(server.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    eventually("it is accepted", || accepted() > before);
    stream
}

#[test]
fn a_handshake_that_is_late_is_answered_by_the_process_that_accepted_it() {
    let site = Site::new(Cache::sample());
    let mut old = site.start("127.0.0.1:0", &["--admin", "127.0.0.1:0"]);
    let http = Http::of(&old);
    let (mut brief, mut eager) = (silent(&old, http), silent(&old, http));
    let mut new = site.start(&old.address.to_string(), &[]);
    eventually("the old one drains", || old.log().contains("handed over"));
    thread::sleep(Duration::from_millis(500));

    brief.write_all(&HANDSHAKE).expect("it is connected");
    assert_eq!(read_to_end(&mut brief), [0], "served, and closed as whoever is idle");
    drop(brief);
    eager.write_all(&[&HANDSHAKE[..], &[1, 1, 0, 1]].concat()).expect("it is connected");
    let heard = read_to_end(&mut eager);
    assert_eq!(heard[0], 0);
    assert_eq!(heard.len(), 1 + 3 + 201, "what came along with the handshake is answered");
    drop(eager);
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    new.stop();
}

#[test]
fn what_has_not_shown_itself_yet_is_served_after_a_hand_over_too() {
    let site = Site::new(Cache::sample());
    let game = game::game_server(game::echo).to_string();
    let options = ["--game-server", &game[..], "--linger-timeout", "100ms"];
    let mut old = site.start("127.0.0.1:0", &[&options[..], &["--admin", "127.0.0.1:0"]].concat());
    let http = Http::of(&old);
    let (mut js5, mut play) = (silent(&old, http), silent(&old, http));
    let mut new = site.start(&old.address.to_string(), &options);
    eventually("the old one drains", || old.log().contains("handed over"));
    // Longer than a server that stops would wait.
    thread::sleep(Duration::from_millis(500));

    js5.write_all(&HANDSHAKE).expect("it is connected");
    assert_eq!(read_to_end(&mut js5), [0]);
    drop(js5);
    game::ping(&mut play, &game::LOGIN);
    drop(play);
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    new.stop();
}

fn word(text: &str) -> [u8; RECORD_LEN] {
    format!("{text:RECORD_LEN$}").into_bytes().try_into().expect("a short word")
}

fn say(socket: &UnixStream, text: &str, descriptor: Option<BorrowedFd<'_>>) {
    pass(socket, &word(text), descriptor).expect("the other listens");
}

fn hear(socket: &UnixStream) -> (String, Option<OwnedFd>) {
    let (record, descriptor) = receive(socket).expect("the other answers");
    (String::from_utf8(record.to_vec()).expect("text").trim_end().to_owned(), descriptor)
}

/// Takes the sockets as a process would that starts. The one for JS5 is returned.
fn take_over(site: &Site) -> (UnixStream, TcpListener) {
    let socket = UnixStream::connect(site.path("handover.sock")).expect("it listens");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    say(&socket, "js5d handover 1", None);
    let mut listener = None;
    loop {
        match hear(&socket) {
            (word, _) if word == "end" => break,
            (word, Some(descriptor)) if word == "js5" => listener = Some(descriptor),
            _ => {}
        }
    }
    (socket, listener.expect("there is one").into())
}

/// Whether the port is open, and connections come to `listener`.
fn is_open(listener: &TcpListener) -> bool {
    listener.set_nonblocking(false).expect("a socket");
    let address = listener.local_addr().expect("bound");
    let Ok(client) = TcpStream::connect(address) else { return false };
    let peer = client.local_addr().expect("connected");
    listener.accept().is_ok_and(|(_, from)| from == peer)
}

#[test]
fn a_stop_while_the_sockets_are_passed_leaves_them_to_the_process_that_takes_over() {
    let site = Site::new(Cache::sample());
    let mut old = site.start("127.0.0.1:0", &[]);
    let (socket, listener) = take_over(&site);
    old.signal(Signal::TERM);
    eventually("it has heard", || old.log().contains("stopping"));
    say(&socket, "ready", None);
    assert_eq!(hear(&socket).0, "draining");
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    assert!(is_open(&listener), "{}", old.log());
    assert!(site.is_there("handover.sock"), "its file is the other's, too");

    // The other takes its time: the stop waits for it, but not for long.
    let site = Site::new(Cache::sample());
    let mut old = site.start("127.0.0.1:0", &[]);
    let (socket, listener) = take_over(&site);
    old.signal(Signal::TERM);
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    assert!(is_open(&listener), "{}", old.log());
    drop(socket);
}

#[test]
fn a_stop_while_the_sockets_are_passed_is_one_if_nobody_takes_over() {
    let site = Site::new(Cache::sample());
    let mut old = site.start("127.0.0.1:0", &[]);
    let (socket, listener) = take_over(&site);
    old.signal(Signal::TERM);
    eventually("it has heard", || old.log().contains("stopping"));
    assert_eq!(visit_status(&old), 0, "until then it serves");
    drop((socket, listener));
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    assert!(old.log().contains("was given up"), "{}", old.log());
    assert!(TcpStream::connect(old.address).is_err(), "the port is closed");
    assert!(!site.is_there("handover.sock"), "and the file is gone");
}

fn visit_status(server: &Server) -> u8 {
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    stream.write_all(&HANDSHAKE).expect("it is connected");
    let mut status = [0xFF];
    stream.read_exact(&mut status).expect("it is answered");
    status[0]
}

/// Starts a server that takes a socket over from this test, which answers `answer` when it is
/// ready. It is told to stop before that.
fn stopped_before_the_answer(answer: &str) -> (Server, TcpListener, TcpStream) {
    let site = Site::new(Cache::sample());
    let gate = UnixListener::bind(site.path("handover.sock")).expect("a path of ours");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let giving = listener.try_clone().expect("descriptors are left");
    let talk = thread::spawn(move || {
        let (socket, _) = gate.accept().expect("it asks");
        assert_eq!(hear(&socket).0, "js5d handover 1");
        say(&socket, "js5", Some(giving.as_fd()));
        say(&socket, "handover", Some(gate.as_fd()));
        say(&socket, "end", None);
        assert_eq!(hear(&socket).0, "ready");
        socket
    });
    let new = site.start(&address.to_string(), &["--handshake-timeout", "5s"]);
    let socket = talk.join().expect("it takes over");
    let mut peer = TcpStream::connect(address).expect("it listens");
    peer.write_all(&HANDSHAKE[..2]).expect("it is connected");
    // Time to be accepted.
    thread::sleep(Duration::from_millis(300));
    new.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(100));
    say(&socket, answer, None);
    (new, listener, peer)
}

#[test]
fn a_process_that_took_sockets_over_closes_them_and_shuts_them_for_nobody() {
    let (mut new, listener, _peer) = stopped_before_the_answer("draining");
    assert_eq!(new.wait().0, Some(0), "{}", new.log());
    assert!(is_open(&listener), "{}", new.log());
}

#[test]
fn a_process_that_comes_too_late_serves_whom_it_has_accepted_before_it_ends() {
    let (mut new, listener, mut peer) = stopped_before_the_answer("given up");
    eventually("it has heard", || new.log().contains("stopping"));
    peer.write_all(&HANDSHAKE[2..]).expect("it is connected");
    assert_eq!(read_to_end(&mut peer), [0]);
    drop(peer);
    assert_eq!(new.wait().0, Some(71), "{}", new.log());
    assert!(is_open(&listener), "{}", new.log());
}
