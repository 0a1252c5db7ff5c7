//! A warm connection allocates nothing a request: the pure part of it, sessions and batches. And
//! what reads a cache gives all of its memory back.
//!
//! Counted are the test's own thread's allocations; the counting allocator comes with
//! `allocation-counter`.
#![allow(unreachable_pub, reason = "the fixture is a module of the benchmarks")]

#[path = "../benches/support/fixture.rs"]
mod fixture;

use allocation_counter::measure;
use fixture::{LARGE, MEDIUM, ROUND_LEN, SMALL, open_session, requests, serve, snapshot};
use js5d::cache::block_on;
use js5d::net::batch::BatchPool;
use js5d::net::queue_pool::QueuePool;
use std::hint::black_box;
use std::thread;
use testkit::{Denial, deny_ring};

const ROUNDS: usize = 10_000;

/// Allocations of at most [`ROUNDS`] rounds of [`ROUND_LEN`] requests, after a first that is
/// not counted.
fn allocations(name: &str, archive: u8, key: u8) -> u64 {
    let (snapshot, mut session) = (snapshot(), open_session(name, key));
    let (mut pool, mut queues) = (BatchPool::default(), QueuePool::default());
    let requests = requests(name, archive, None, ROUND_LEN);
    let mut round = || {
        if !session.has_queues() {
            session.lend(queues.take());
        }
        let sent = serve(&mut session, &snapshot, &mut pool, &requests, |batch| {
            let all = batch.len();
            // In two parts, as a slow socket takes it.
            assert!(!batch.advance(all / 2), "half is not all");
            assert!(batch.advance(all - all / 2), "both halves are");
        });
        queues.put(session.reclaim().expect("all of it was answered"));
        session.take_received();
        black_box(sent)
    };
    let wire = round();
    assert_eq!(wire, ROUND_LEN * wire_len(name, archive), "every request is answered");
    // Keyed ones are copied whatever their length, slowly without optimisation: fewer rounds.
    let is_slow = archive != SMALL && key != 0;
    let others = if name == "550" { 1 } else { 20 };
    let rounds = if is_slow { ROUNDS / 100 } else { ROUNDS } / others;
    let counted = measure(|| {
        for _ in 0..rounds {
            assert_eq!(round(), wire);
        }
    });
    counted.count_total
}

fn wire_len(name: &str, archive: u8) -> usize {
    let container = fixture::container_len(archive);
    // docs/protocol.md, "Framing", and docs/clients.md, "The wire": header, container, and a marker
    // or another header before each later block.
    match name {
        "550" => container + 3 + (container + 1) / 511,
        "718" => container + 5 + (container + 3) / 511,
        "831" => container + 5 * container.div_ceil(507),
        _ => container + 5 * container.div_ceil(102_395),
    }
}

#[test]
fn a_warm_connection_allocates_nothing_a_request() {
    for name in ["550", "718", "831", "nxt"] {
        for archive in [SMALL, MEDIUM, LARGE] {
            for key in [0, 0x5A] {
                let found = allocations(name, archive, key);
                assert_eq!(found, 0, "client {name}, archive {archive}, key {key}");
            }
        }
    }
}

#[test]
fn reading_a_cache_gives_its_memory_back_with_and_without_a_ring() {
    let kept = || {
        let read = || block_on(async {});
        read(); // what each thread has once
        measure(read).bytes_current
    };
    assert_eq!(thread::spawn(kept).join().unwrap(), 0, "as this host allows");
    let denied = thread::spawn(move || {
        deny_ring(Denial::NotPermitted).expect("this kernel has seccomp filters");
        kept()
    });
    assert_eq!(denied.join().unwrap(), 0, "where the ring is denied");
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| {
        black_box(vec![0_u8; 100]);
    });
    assert_eq!(counted.count_total, 1);
}
