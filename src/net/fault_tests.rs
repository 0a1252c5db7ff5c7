//! A worker whose operations fail now and then, under load: no peer is cut, every byte is right.

use super::admission::Admission;
use super::count::{LogGates, Published};
use super::driver::{begin_faults, end_faults};
use super::game::Door;
use super::{ConnectionLimits, Control, Driver, Front, Openings, ServeConfig, bind, run};
use crate::catalog::{Snapshot, SnapshotBuilder, SnapshotHandle};
use crate::protocol::frame::{append_keyed, framed_len, place};
use crate::protocol::handshake::handshake;
use crate::protocol::request::Message;
use crate::protocol::{Builds, Class, Clients, GroupId, MASTER_INDEX};
use crate::proxy::Trusted;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Lengths of groups: small, around the length that is copied, and more than a send.
const LENGTHS: [usize; 10] = [6, 300, 519, 2030, 2044, 2500, 7500, 66_000, 100_000, 300_000];

/// How long a client waits: longer than any likely chain of failures, and less than any deadline.
const HANG: Duration = Duration::from_secs(5);

fn group(place: usize) -> GroupId {
    GroupId { archive: 1, group: place as u32 }
}

fn snapshot() -> Snapshot {
    let framed: usize = LENGTHS.iter().map(|&len| framed_len(len) + 8).sum();
    let mut builder = SnapshotBuilder::new(LENGTHS.len() + 1, framed as u64 + 64).expect("small");
    let mut add = |id, container: &[u8]| {
        let at = builder.allocate(id, container.len()).expect("room");
        place(builder.framed_mut(at), 0, container);
        builder.publish(id, at);
    };
    add(MASTER_INDEX, &[0, 0, 0, 0, 1, 7]);
    for (number, &len) in LENGTHS.iter().enumerate() {
        let mut container = vec![0, 0, 0, 0, 0];
        container[1..5].copy_from_slice(&(len as u32 - 5).to_be_bytes());
        container.extend((5..len).map(|at| (at * 7 + number) as u8));
        add(group(number), &container);
    }
    builder.seal().expect("sealed")
}

fn config(driver: Driver, snapshot: Snapshot) -> Arc<ServeConfig> {
    let minute = Duration::from_secs(60);
    Arc::new(ServeConfig {
        driver,
        limits: ConnectionLimits {
            handshake_timeout: minute,
            idle_timeout: minute,
            send_timeout: minute,
            linger_timeout: Duration::from_secs(1),
            generation_timeout: None,
            drain_timeout: minute,
            chatter_max: 3000,
            close_on_missing_group: false,
            break_off: true,
        },
        clients: Arc::new(Clients::like_550(Builds::Any, true, 200)),
        admission: Admission::new(1000, None, 10),
        front: Front {
            trusted: Trusted::default(),
            proxy_timeout: minute,
            openings_max: 10,
            openings: AtomicUsize::new(0),
            openings_by_address: Openings::new(None),
            game: None::<Door>,
        },
        snapshots: Arc::new(SnapshotHandle::new(snapshot)),
        shaper: None,
        log_gates: LogGates::default(),
    })
}

/// A client that asks in bursts and compares every byte. A slow one reads a megabyte a second.
fn client(address: SocketAddr, number: u64, snapshot: &Snapshot) {
    let mut rng = fastrand::Rng::with_seed(number);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(HANG)).expect("a socket");
    let is_slow = number.is_multiple_of(4);
    if is_slow {
        SockRef::from(&stream).set_recv_buffer_size(32 << 10).expect("a socket");
    }
    stream.write_all(&handshake(550)).expect("it reads");
    let mut status = [0xFF];
    stream.read_exact(&mut status).expect("a status");
    assert_eq!(status, [0]);
    for _ in 0..if is_slow { 2 } else { 40 } {
        let key = if rng.bool() { rng.u8(..) } else { 0 };
        let mut requests = Message::Rekey(key).to_bytes().to_vec();
        let mut expected = Vec::new();
        for _ in 0..rng.usize(1..=20) {
            let id = group(rng.usize(..LENGTHS.len()));
            requests.extend(Message::Request(Class::Urgent, id).to_bytes());
            append_keyed(&mut expected, snapshot.response(id).expect("it is there"), key);
        }
        stream.write_all(&requests).expect("it reads");
        let mut found = vec![0; expected.len()];
        for piece in found.chunks_mut(16 << 10) {
            stream.read_exact(piece).unwrap_or_else(|error| panic!("client {number}: {error}"));
            if is_slow {
                thread::sleep(Duration::from_millis(15));
            }
        }
        assert!(found == expected, "client {number} reads what it asked for");
    }
}

/// What was injected into the operations of a worker that served 16 clients to their end.
fn check(driver: Driver, seed: u64, one_in: u32) -> BTreeMap<String, u64> {
    let listeners = bind("127.0.0.1:0".parse().expect("an address"), 1, 64).expect("a port");
    let address = listeners[0].address;
    let (config, control, published) =
        (config(driver, snapshot()), Arc::new(Control::default()), Arc::new(Published::default()));
    let worker = thread::spawn({
        let (control, published) = (Arc::clone(&control), Arc::clone(&published));
        move || {
            begin_faults(seed, one_in);
            run(config, listeners, control, published, || {}).expect("a driver");
            end_faults()
        }
    });
    let snapshot = snapshot();
    thread::scope(|scope| {
        for number in 1..=16 {
            let snapshot = &snapshot;
            scope.spawn(move || client(address, number, snapshot));
        }
    });
    assert!(control.stop());
    let injected = worker.join().expect("the worker lives");
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(of(&published.closed_error), 0, "seed {seed}: no peer is cut for an injected fault");
    let passed: u64 = published.ring_errnos.iter().map(of).sum();
    assert!(passed > 0, "seed {seed}: failures are counted");
    injected
}

fn check_all(driver: Driver) {
    let mut injected = BTreeMap::new();
    for (seed, one_in) in [(1, 4), (2, 10), (3, 50)] {
        for (what, times) in check(driver, seed, one_in) {
            *injected.entry(what).or_insert(0) += times;
        }
    }
    println!("{injected:?}");
    for kind in ["receive", "send", "direct send"] {
        for what in ["short", "EINTR", "EAGAIN", "ENOBUFS", "ENOMEM", "ECANCELED"] {
            assert!(injected.contains_key(&format!("{kind}: {what}")), "{kind}: {what}");
        }
    }
}

#[test]
fn a_ring_that_fails_in_passing_costs_nobody_a_byte() {
    check_all(Driver::Ring);
}

#[test]
fn system_calls_that_fail_in_passing_cost_nobody_a_byte() {
    check_all(Driver::Epoll);
}
