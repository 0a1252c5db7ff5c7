//! A warm connection allocates nothing a request: the pure part of it, sessions and batches.
//!
//! Counted are the test's own thread's allocations; the counting allocator comes with
//! `allocation-counter`.
#![allow(unreachable_pub, reason = "the fixture is a module of the benchmarks")]

#[path = "../benches/support/fixture.rs"]
mod fixture;

use allocation_counter::measure;
use fixture::{LARGE, MEDIUM, ROUND_LEN, SMALL, open_session, requests, serve, snapshot};
use js5d::net::batch::BatchPool;
use js5d::net::queue_pool::QueuePool;
use std::hint::black_box;

const ROUNDS: usize = 10_000;

/// Allocations of at most [`ROUNDS`] rounds of [`ROUND_LEN`] requests, after a first that is
/// not counted.
fn allocations(archive: u8, key: u8) -> u64 {
    let (snapshot, mut session) = (snapshot(), open_session(key));
    let (mut pool, mut queues) = (BatchPool::default(), QueuePool::default());
    let requests = requests(archive, None, ROUND_LEN);
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
    assert_eq!(wire, ROUND_LEN * wire_len(archive), "every request is answered");
    // Keyed ones are copied whatever their length, slowly without optimisation: fewer rounds.
    let rounds = if archive != SMALL && key != 0 { ROUNDS / 100 } else { ROUNDS };
    let counted = measure(|| {
        for _ in 0..rounds {
            assert_eq!(round(), wire);
        }
    });
    counted.count_total
}

fn wire_len(archive: u8) -> usize {
    let container = fixture::container_len(archive);
    // docs/protocol.md, "Framing": header, container, and a marker each 511 bytes.
    2 + container + (512 + container) / 511
}

#[test]
fn a_warm_connection_allocates_nothing_a_request() {
    for archive in [SMALL, MEDIUM, LARGE] {
        for key in [0, 0x5A] {
            assert_eq!(allocations(archive, key), 0, "archive {archive}, key {key}");
        }
    }
}

#[test]
fn the_counter_counts() {
    let counted = measure(|| {
        black_box(vec![0_u8; 100]);
    });
    assert_eq!(counted.count_total, 1);
}
