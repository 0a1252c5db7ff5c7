//! The hot paths, each as a closure that does one operation: one list for the clock
//! (`hot_paths`) and for the instruction counts (`instructions`).
//!
//! Inputs are fixed, and whatever a case allocates it allocates before its first measured
//! operation or in it: counts of the second and every later one are the same.

use super::fixture::{
    LARGE, MEDIUM, ROUND_LEN, SMALL, client, container_len, id, open_session, requests, serve,
    snapshot,
};
use js5d::net::batch::BatchPool;
use js5d::protocol::client::{Answered, ClientSession, Head, Matching, ResponseSink};
use js5d::protocol::frame::{framed_len, place, write_header};
use js5d::protocol::session::Step;
use js5d::protocol::{Class, Status};
use std::hint::black_box;

/// One operation, ready to be repeated.
pub type Operation = Box<dyn FnMut()>;

/// A hot path.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its key in the baselines.
    pub name: &'static str,
    /// Bytes that one operation reads or writes, whichever the path is about.
    pub bytes: usize,
    /// Makes its inputs, and the operation on them.
    pub prepare: fn() -> Operation,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Requests of one read of 256 bytes.
const DECODED: usize = 64;
/// Responses of 100 KB in one round: more than one send holds.
const LARGE_ROUND_LEN: usize = 4;

const SMALL_ROUND: usize = ROUND_LEN * framed_len(container_len(SMALL));
const MEDIUM_ROUND: usize = ROUND_LEN * framed_len(container_len(MEDIUM));
const LARGE_ROUND: usize = LARGE_ROUND_LEN * framed_len(container_len(LARGE));

const fn case(name: &'static str, bytes: usize, prepare: fn() -> Operation) -> Case {
    Case { name, bytes, prepare }
}

/// All of them.
pub const CASES: [Case; 23] = [
    case("decode_64_requests", DECODED * 4, || decode("550")),
    case("decode_64_requests_718", DECODED * 6, || decode("718")),
    case("decode_64_requests_nxt", DECODED * 10, || decode("nxt")),
    case("look_up_64_responses", DECODED * 8, look_up),
    case("round_40_small_mixed_classes", SMALL_ROUND, || round("550", SMALL, None, ROUND_LEN, 0)),
    case("round_40_small_718", SMALL_ROUND, || round("718", SMALL, None, ROUND_LEN, 0)),
    case("round_40_small_nxt", SMALL_ROUND, || round("nxt", SMALL, None, ROUND_LEN, 0)),
    case("round_40_medium_718", MEDIUM_ROUND, || round("718", MEDIUM, None, ROUND_LEN, 0)),
    case("round_40_medium_nxt", MEDIUM_ROUND, || round("nxt", MEDIUM, None, ROUND_LEN, 0)),
    case("round_40_medium_mixed_classes", MEDIUM_ROUND, || {
        round("550", MEDIUM, None, ROUND_LEN, 0)
    }),
    case("batch_4_large_in_place_nxt", LARGE_ROUND, || {
        round("nxt", LARGE, Some(Class::Urgent), LARGE_ROUND_LEN, 0)
    }),
    case("batch_40_small_urgent", SMALL_ROUND, || batch(SMALL, Class::Urgent, 0)),
    case("batch_40_small_prefetch", SMALL_ROUND, || batch(SMALL, Class::Prefetch, 0)),
    case("batch_40_small_keyed", SMALL_ROUND, || batch(SMALL, Class::Urgent, 0x5A)),
    case("batch_40_medium_in_place", MEDIUM_ROUND, || batch(MEDIUM, Class::Urgent, 0)),
    case("batch_40_medium_prefetch", MEDIUM_ROUND, || batch(MEDIUM, Class::Prefetch, 0)),
    case("batch_40_medium_keyed", MEDIUM_ROUND, || batch(MEDIUM, Class::Urgent, 0x5A)),
    case("batch_4_large_in_place", LARGE_ROUND, || batch(LARGE, Class::Urgent, 0)),
    case("batch_4_large_keyed", LARGE_ROUND, || batch(LARGE, Class::Urgent, 0x5A)),
    case("frame_small", framed_len(container_len(SMALL)), || framing(SMALL)),
    case("frame_large", framed_len(container_len(LARGE)), || framing(LARGE)),
    case("deframe_40_small", SMALL_ROUND, || deframing(SMALL, ROUND_LEN)),
    case("deframe_4_large", LARGE_ROUND, || deframing(LARGE, LARGE_ROUND_LEN)),
];

/// A read's bytes into the queues and out of them again.
fn decode(name: &str) -> Operation {
    let mut session = open_session(name, 0);
    let bytes = requests(name, SMALL, None, DECODED);
    Box::new(move || {
        let taken = session.receive(black_box(&bytes));
        assert_eq!(taken, Ok(bytes.len()));
        while let Step::Response(response) = session.next_step() {
            black_box(response);
        }
    })
}

/// Every response found once more; its bytes are not touched.
fn look_up() -> Operation {
    let snapshot = snapshot();
    let ids: Vec<_> = (0..DECODED).map(|at| id((at % 3) as u8, at)).collect();
    Box::new(move || {
        for &id in black_box(&ids) {
            black_box(snapshot.response(id));
        }
    })
}

/// A batch of one class: requests taken in, responses built, as a connection does.
fn batch(archive: u8, class: Class, key: u8) -> Operation {
    let count = if archive == LARGE { LARGE_ROUND_LEN } else { ROUND_LEN };
    round("550", archive, Some(class), count, key)
}

fn round(name: &str, archive: u8, class: Option<Class>, count: usize, key: u8) -> Operation {
    let (snapshot, mut session) = (snapshot(), open_session(name, key));
    let mut pool = BatchPool::default();
    let bytes = requests(name, archive, class, count);
    let expected = count * client(name).0.framing.framed_len(container_len(archive));
    Box::new(move || {
        let sent = serve(&mut session, &snapshot, &mut pool, black_box(&bytes), |batch| {
            black_box(batch);
        });
        assert_eq!(sent, expected, "each request is answered whole");
    })
}

/// A container to its place in the arena, in the pieces that a dat2 store's sectors hold.
fn framing(archive: u8) -> Operation {
    const SECTOR_DATA_LEN: usize = 512;
    let container = vec![0x5A; container_len(archive)];
    let mut framed = vec![0; framed_len(container.len())];
    Box::new(move || {
        write_header(&mut framed, id(archive, 1));
        for (at, piece) in black_box(&container).chunks(SECTOR_DATA_LEN).enumerate() {
            place(&mut framed, at * SECTOR_DATA_LEN, piece);
        }
        black_box(&framed);
    })
}

/// Counts what it is given.
#[derive(Default)]
struct Count {
    responses: usize,
    bytes: usize,
}

impl ResponseSink<u32> for Count {
    fn status(&mut self, _: Status) {}
    fn begin(&mut self, _: &Head) -> bool {
        true
    }
    fn data(&mut self, bytes: &[u8]) {
        self.bytes += black_box(bytes).len();
    }
    fn end(&mut self, _: Answered<u32>) {
        self.responses += 1;
    }
}

/// A client's requests noted, and their responses taken in.
fn deframing(archive: u8, count: usize) -> Operation {
    let snapshot = snapshot();
    let ids: Vec<_> = (0..count).map(|at| id(archive, at)).collect();
    let wire: Vec<u8> =
        ids.iter().flat_map(|&id| snapshot.response(id).unwrap_or_default()).copied().collect();
    let mut client = ClientSession::new(Matching::ByPrefetchBit);
    client.receive(&[0], &mut Count::default()).expect("status OK");
    let mut sent = Vec::new();
    Box::new(move || {
        sent.clear();
        for (token, &id) in ids.iter().enumerate() {
            client.request(Class::Urgent, id, token as u32, &mut sent);
        }
        let mut count = Count::default();
        client.receive(black_box(&wire), &mut count).expect("good responses");
        assert_eq!(count.responses, ids.len());
        assert_eq!(count.bytes, ids.len() * container_len(archive));
    })
}
