//! What a batch sends is what the protocol says, whatever the sizes, keys and cuts.

use super::*;
use crate::catalog::SnapshotBuilder;
use crate::protocol::frame::{frame, framed_len, place};
use crate::protocol::{Class, GroupId};

/// Containers around each bound: copied and referred to, one block and many.
const LENS: [usize; 9] = [5, 509, 510, 1020, 2040, 2041, 2048, 5000, 300_000];

fn container(number: usize) -> Vec<u8> {
    // Compression 0 to 3, as every container has: the prefetch bit is clear.
    let body = (1..LENS[number]).map(|i| (i * 13 + number) as u8);
    std::iter::once(number as u8 % 4).chain(body).collect()
}

fn id(number: usize) -> GroupId {
    GroupId { archive: 3, group: number as u32 }
}

fn snapshot() -> SnapshotRef {
    let bytes = LENS.iter().map(|&len| framed_len(len) as u64).sum();
    let mut builder = SnapshotBuilder::new(LENS.len(), bytes).expect("small");
    for number in 0..LENS.len() {
        let container = container(number);
        let at = builder.allocate(id(number), container.len()).expect("room was reckoned");
        place(builder.framed_mut(at), 0, &container);
        builder.publish(id(number), at);
    }
    Rc::new(Arc::new(builder.seal().expect("sealed")))
}

/// The bytes that must go out, by the protocol's words.
fn expected(number: usize, bit: bool, key: u8) -> Vec<u8> {
    let mut framed = frame(id(number), &container(number));
    framed[3] |= if bit { 0x80 } else { 0 };
    framed.iter().map(|byte| byte ^ key).collect()
}

/// Sends `responses` in batches of at most `len_max` bytes, as a connection does, and has each
/// batch taken by the socket in pieces.
fn send(responses: &[Response], len_max: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let snapshot = snapshot();
    let mut pool = BatchPool::default();
    let mut wire = Vec::new();
    let mut waiting = responses.iter().copied();
    let mut current: Option<Cursor> = None;
    loop {
        let mut batch = pool.take();
        while !batch.is_full(len_max) {
            let begin = |response: Response| Cursor::new(response, snapshot.place(response.id()));
            let next = current.take().or_else(|| waiting.next().map(begin));
            let Some(mut cursor) = next else { break };
            let framed = snapshot.framed(cursor.place);
            let fits = cursor.taken == 0 && batch.push_small(cursor.response, framed);
            if !fits && !batch.push(&mut cursor, &snapshot, len_max) {
                current = Some(cursor);
                break;
            }
        }
        if batch.is_empty() {
            return wire;
        }
        let mut batch = batch.seal();
        assert!(batch.len() <= len_max + COPY_LEN_MAX, "a send is bounded");
        let bytes = batch.to_bytes();
        assert_eq!(bytes.len(), batch.len());
        while !batch.is_empty() {
            let sent = random.usize(1..=batch.len());
            let left = batch.len() - sent;
            assert_eq!(batch.advance(sent), left == 0);
            assert_eq!(batch.len(), left);
        }
        wire.extend(bytes);
        pool.put(batch);
    }
}

#[test]
fn every_size_class_and_key_goes_out_exact() {
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..60 {
        let keys = [0, 0, random.u8(..)];
        let mut responses = Vec::new();
        let mut wire = Vec::new();
        for _ in 0..random.usize(1..40) {
            let (number, bit) = (random.usize(..LENS.len()), random.bool());
            let class = if bit { Class::Prefetch } else { Class::Urgent };
            let key = keys[random.usize(..3)];
            responses.push(Response::new(id(number), class, bit, key));
            wire.extend(expected(number, bit, key));
        }
        let len_max = [16 << 10, 64 << 10, 256 << 10][round % 3];
        assert!(send(&responses, len_max, &mut random) == wire, "round {round}");
    }
}

#[test]
fn without_the_bit_a_prefetch_looks_like_an_urgent_response() {
    let response = Response::new(id(7), Class::Prefetch, false, 0);
    let mut random = fastrand::Rng::with_seed(2);
    assert_eq!(send(&[response], 256 << 10, &mut random), expected(7, false, 0));
}

#[test]
fn a_large_response_is_referred_to_and_not_copied() {
    let snapshot = snapshot();
    let mut pool = BatchPool::default();
    let mut batch = pool.take();
    let response = Response::new(id(8), Class::Prefetch, true, 0);
    let mut cursor = Cursor::new(response, snapshot.place(id(8)));
    assert!(!batch.push(&mut cursor, &snapshot, 256 << 10));
    assert_eq!(batch.0.scratch.len(), 4, "only the bytes up to the prefetch bit are copied");
    assert_eq!(cursor.taken, 256 << 10);
    assert_eq!(Rc::strong_count(&snapshot), 2, "the batch keeps the snapshot of its bytes alive");
    pool.put_unused(batch);
    assert_eq!(Rc::strong_count(&snapshot), 1);
}
