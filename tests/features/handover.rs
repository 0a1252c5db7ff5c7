//! How one server takes over from another, and nobody who connects meets a closed door.

use crate::support::{Cache, Client, Http, Server, eventually, id, js5d};
use js5d::protocol::Class;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A cache and a place for sockets.
struct Site {
    dir: tempfile::TempDir,
    cache: Cache,
}

impl Site {
    fn new(cache: Cache) -> Self {
        let dir = tempfile::tempdir().expect("a scratch directory");
        cache.write_flat(&dir.path().join("cache"));
        Self { dir, cache }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().expect("a plain path").to_owned()
    }

    /// Starts a server that listens on `address` and can be taken over from.
    fn start(&self, address: &str, options: &[&str]) -> Server {
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
    eventually("something else", || old.log().contains("no js5d of this kind"));
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
    old.signal(rustix::process::Signal::TERM);
    eventually("it has heard", || old.log().contains("stopping"));
    let (cache, handover, address) =
        (site.path("cache"), site.path("handover.sock"), old.address.to_string());
    let late = js5d(&["--cache", &cache, "--handover", &handover, "--listen", &address]);
    assert_eq!(late.code, Some(71), "{}", late.stderr);
    assert!(late.stderr.contains("stops already"), "{}", late.stderr);
    drop(busy);
    assert_eq!(old.wait().0, Some(0));
}

/// What became of those who kept connecting.
#[derive(Default)]
struct Visits {
    stop: AtomicBool,
    answered: AtomicU64,
    /// Came while their server drained: they were told, in order, and come again.
    sent_away: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

impl Visits {
    /// Connects `per_second` times a second, and asks for a group each time.
    fn begin(self: &Arc<Self>, address: SocketAddr, per_second: u32) -> Vec<JoinHandle<()>> {
        const THREADS: u32 = 8;
        let pause = Duration::from_secs(1) * THREADS / per_second;
        let visitor = |_| {
            let visits = Arc::clone(self);
            thread::spawn(move || {
                let mut next = Instant::now();
                while !visits.stop.load(Ordering::Relaxed) {
                    let counter = match visit(address) {
                        Ok(true) => &visits.answered,
                        Ok(false) => &visits.sent_away,
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                            &visits.refused
                        }
                        Err(_) => &visits.broken,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    next += pause;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            })
        };
        (0..THREADS).map(visitor).collect()
    }
}

/// One connection with one request, byte by byte. False if the server had no time for it and said
/// so in order: with status 7, or by closing before it answered.
fn visit(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&[15, 0, 0, 2, 38])?;
    let mut status = [0];
    match stream.read(&mut status)? {
        0 => return Ok(false),
        _ if status == [7] => return Ok(false),
        _ => assert_eq!(status, [0]),
    }
    stream.write_all(&[1, 1, 0, 1])?;
    let mut response = [0; 3 + 201];
    match stream.read(&mut response)? {
        0 => Ok(false),
        len => {
            stream.read_exact(&mut response[len..])?;
            Ok(true)
        }
    }
}

fn hand_over_under_connects(times: usize, per_second: u32) {
    let site = Site::new(Cache::sample());
    let mut server = site.start("127.0.0.1:0", &["--workers", "2"]);
    let address = server.address;
    let visits = Arc::new(Visits::default());
    let visitors = visits.begin(address, per_second);
    for _ in 0..times {
        thread::sleep(Duration::from_millis(300));
        let new = site.start(&address.to_string(), &["--workers", "2"]);
        assert_eq!(server.wait().0, Some(0), "{}", server.log());
        server = new;
    }
    thread::sleep(Duration::from_millis(300));
    visits.stop.store(true, Ordering::Relaxed);
    visitors.into_iter().for_each(|visitor| visitor.join().expect("it does not panic"));
    let [answered, sent_away, refused, broken] =
        [&visits.answered, &visits.sent_away, &visits.refused, &visits.broken]
            .map(|counter| counter.load(Ordering::Relaxed));
    println!("{answered} answered, {sent_away} sent away, {refused} refused, {broken} broken");
    assert_eq!((refused, broken), (0, 0), "{answered} answered, {sent_away} sent away");
    assert!(answered > 100 && sent_away * 10 < answered, "{answered} answered, {sent_away} not");
    server.stop();
}

#[test]
fn nobody_is_refused_or_cut_while_servers_take_over() {
    hand_over_under_connects(3, 400);
}

/// Of full size: `cargo test --release --test features -- --ignored --nocapture ten_hand_overs`.
#[test]
#[ignore = "takes a while, and both cores"]
fn ten_hand_overs_under_a_thousand_connects_a_second_lose_nothing() {
    hand_over_under_connects(10, 1000);
}
