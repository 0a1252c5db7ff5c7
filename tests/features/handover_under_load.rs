//! Hand-overs while clients keep connecting, and signals that come at any moment of one: nobody is
//! refused, reset or told that the server is full.

use crate::handover::{HANDSHAKE, Site};
use crate::support::{Cache, Server};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    /// Status 0, and the group that it asked for.
    Answered,
    /// Status 0, and an end in good order before the answer: its server drained.
    SentAway,
    /// Status 7.
    ToldFull,
    /// The connection was refused.
    Refused,
    /// Anything else, a reset above all.
    Broken,
}

/// Clients that keep connecting, and what they found.
struct Visitors {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 5]>,
    threads: Vec<JoinHandle<()>>,
}

impl Visitors {
    /// Each connects, waits for `pause`, and greets; all together `per_second` times a second.
    fn begin(address: SocketAddr, pause: Duration, per_second: u32) -> Self {
        const THREADS: u32 = 32;
        let interval = Duration::from_secs(1) * THREADS / per_second;
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 5]>::default());
        let visitor = |number| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            thread::spawn(move || {
                let mut next = Instant::now() + interval * number / THREADS;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += interval;
                    counts[visit(address, pause) as usize].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..THREADS).map(visitor).collect();
        Self { stop, counts, threads }
    }

    fn count(&self, visit: Visit) -> u64 {
        self.counts[visit as usize].load(Ordering::Relaxed)
    }

    fn served(&self) -> u64 {
        self.count(Visit::Answered) + self.count(Visit::SentAway)
    }

    fn leave(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|visitor| visitor.join().expect("it does not panic"));
    }

    /// How many were served; all of them were.
    fn end(mut self) -> u64 {
        self.leave();
        let [full, refused, broken] =
            [Visit::ToldFull, Visit::Refused, Visit::Broken].map(|visit| self.count(visit));
        let sent_away = self.count(Visit::SentAway);
        println!(
            "{} greeted with status 0 ({sent_away} of them closed in order before an answer), \
             {full} told full, {refused} refused, {broken} broken",
            self.served(),
        );
        assert_eq!((full, refused, broken), (0, 0, 0), "told full, refused, broken");
        assert!(sent_away * 5 < self.served(), "{sent_away} of {}", self.served());
        self.served()
    }
}

/// One connection with one request.
fn visit(address: SocketAddr, pause: Duration) -> Visit {
    let stream = match TcpStream::connect(address) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Visit::Refused,
        Err(error) => {
            eprintln!("broken: {error}");
            return Visit::Broken;
        }
    };
    converse(stream, pause).unwrap_or_else(|error| {
        eprintln!("broken: {error}");
        Visit::Broken
    })
}

fn converse(mut stream: TcpStream, pause: Duration) -> std::io::Result<Visit> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    thread::sleep(pause);
    stream.write_all(&HANDSHAKE)?;
    let mut status = [0xFF];
    stream.read_exact(&mut status)?;
    match status {
        [0] => {}
        [7] => return Ok(Visit::ToldFull),
        _ => return Ok(Visit::Broken),
    }
    stream.write_all(&[1, 1, 0, 1])?;
    let mut response = [0; 3 + 201];
    match stream.read(&mut response)? {
        0 => Ok(Visit::SentAway),
        len => stream.read_exact(&mut response[len..]).map(|()| Visit::Answered),
    }
}

/// Hand-overs, until there were so many and `visits_min` were served.
fn hand_over_under_connects(times: usize, pause: Duration, per_second: u32, visits_min: u64) {
    let site = Site::new(Cache::sample());
    let mut server = site.start("127.0.0.1:0", &["--workers", "2"]);
    let address = server.address;
    let visitors = Visitors::begin(address, pause, per_second);
    for round in 1..=times as u64 {
        while visitors.served() < visits_min * round / (times as u64 + 1) {
            thread::sleep(Duration::from_millis(10));
        }
        let new = site.start(&address.to_string(), &["--workers", "2"]);
        assert_eq!(server.wait().0, Some(0), "{}", server.log());
        server = new;
    }
    while visitors.served() < visits_min {
        thread::sleep(Duration::from_millis(10));
    }
    visitors.end();
    server.stop();
}

#[test]
fn nobody_is_refused_or_cut_while_servers_take_over() {
    hand_over_under_connects(3, Duration::ZERO, 400, 500);
}

#[test]
fn nobody_who_pauses_before_the_handshake_is_told_that_the_server_is_full() {
    hand_over_under_connects(3, Duration::from_millis(20), 400, 500);
}

/// Of full size: `cargo test --release --test features -- --ignored --nocapture ten_hand_overs`.
#[test]
#[ignore = "takes a while, and both cores"]
fn ten_hand_overs_under_a_thousand_connects_a_second_lose_nothing() {
    hand_over_under_connects(10, Duration::ZERO, 1000, 5000);
}

/// Of full size, as above.
#[test]
#[ignore = "takes a while, and both cores"]
fn ten_thousand_connects_that_pause_are_all_served_over_ten_hand_overs() {
    hand_over_under_connects(10, Duration::from_millis(20), 1000, 10_000);
}

/// A server that is being started, and what it says.
struct Starting {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    said: String,
}

impl Starting {
    fn begin(site: &Site, address: SocketAddr, workers: &str) -> Self {
        let (cache, handover) = (site.path("cache"), site.path("handover.sock"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_js5d"));
        command.args(["--cache", &cache, "--handover", &handover, "--build", "550"]);
        command.args(["--listen", &address.to_string(), "--workers", workers]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("js5d starts");
        let log = BufReader::new(child.stderr.take().expect("it was asked for"));
        Self { child, log, said: String::new() }
    }

    /// Reads on until it has said `words`, or ends.
    fn until(&mut self, words: &str) {
        while !self.said.contains(words) && self.log.read_line(&mut self.said).expect("text") > 0 {}
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is not reaped");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const TAKEN: &str = "taken over from the process that serves";
const SERVES: &str = "serving ";

/// The process that gives is told to stop `after` the sockets have been passed.
fn stop_who_gives(site: &Site, old: &mut Server, after: Duration) -> Starting {
    let mut new = Starting::begin(site, old.address, "2");
    new.until(TAKEN);
    thread::sleep(after);
    old.signal(Signal::TERM);
    new.until(SERVES);
    assert_eq!(old.wait().0, Some(0), "{}", old.log());
    new
}

#[test]
fn a_stop_of_the_process_that_gives_is_noticed_by_nobody() {
    signals_to_who_gives(3);
}

/// Of full size: `cargo test --release --test features -- --ignored --nocapture any_moment`.
#[test]
#[ignore = "takes a while, and both cores"]
fn a_stop_of_the_process_that_gives_at_any_moment_is_noticed_by_nobody() {
    signals_to_who_gives(30);
}

fn signals_to_who_gives(rounds: u32) {
    for round in 0..rounds {
        let site = Site::new(Cache::sample());
        let mut old = site.start("127.0.0.1:0", &["--workers", "2"]);
        let visitors = Visitors::begin(old.address, Duration::from_millis(20), 400);
        thread::sleep(Duration::from_millis(200));
        let new = stop_who_gives(&site, &mut old, Duration::from_micros(500) * round);
        thread::sleep(Duration::from_millis(200));
        assert!(visitors.end() > 50, "{}", old.log());
        new.signal(Signal::TERM);
    }
}

#[test]
fn a_stop_of_the_process_that_takes_is_noticed_by_nobody() {
    signals_to_who_takes(3, 1);
}

/// Of full size, as above.
#[test]
#[ignore = "takes a while, and both cores"]
fn a_stop_of_the_process_that_takes_at_any_moment_is_noticed_by_nobody() {
    signals_to_who_takes(30, 10);
}

/// The process that takes is told to stop before it serves, at `counted_min` moments at least. (If
/// it serves by then it is the one that does, and its stop is an ordinary one: not looked at.)
fn signals_to_who_takes(rounds: u32, counted_min: u32) {
    let (mut counted, mut accepting) = (0, 0);
    for round in 0..rounds {
        let site = Site::new(Cache::sample());
        let mut old = site.start("127.0.0.1:0", &["--workers", "2"]);
        let mut visitors = Visitors::begin(old.address, Duration::from_millis(20), 400);
        thread::sleep(Duration::from_millis(100));
        // Many workers take long to start.
        let mut new = Starting::begin(&site, old.address, "256");
        new.until(TAKEN);
        thread::sleep(Duration::from_micros(700) * round);
        new.signal(Signal::TERM);
        new.until("\0");
        if new.said.contains(SERVES) {
            visitors.leave();
            continue;
        }
        counted += 1;
        // Else the signal arrived before it was watched for, and ended the process at once.
        accepting += u32::from(new.said.contains("the sockets stay"));
        thread::sleep(Duration::from_millis(200));
        // To be seen if that fails.
        eprintln!("round {round}: {}", new.said);
        assert!(visitors.end() > 20);
        assert!(old.log().contains("was given up"), "{}", old.log());
        old.stop();
    }
    println!("{counted} of {rounds} stops came before it served, {accepting} while it accepted");
    assert!(counted >= counted_min, "{counted} of {rounds}");
}
