//! What the benchmarks and the allocation test work on: one snapshot and rounds of requests, the
//! same bytes every time. It knows the library's public interface only.

use js5d::catalog::SnapshotBuilder;
use js5d::net::batch::{BatchPool, Cursor, Sealed, SnapshotRef};
use js5d::protocol::frame::{framed_len, place};
use js5d::protocol::handshake::handshake;
use js5d::protocol::request::Message;
use js5d::protocol::session::Step;
use js5d::protocol::{Builds, Class, Clients, GroupId, ServerSession};
use std::rc::Rc;
use std::sync::Arc;

/// Groups of 300 bytes on the wire.
pub const SMALL: u8 = 0;
/// Groups of 4 KB.
pub const MEDIUM: u8 = 1;
/// Groups of 100 KB.
pub const LARGE: u8 = 2;

/// Groups an archive: a power of two, so that ids can be masked.
pub const GROUPS: u16 = 16;

/// What a real client keeps in flight, in both classes together.
pub const ROUND_LEN: usize = 40;

/// The most that one send operation has (docs/decisions/0002).
pub const SEND_LEN_MAX: usize = 256 << 10;

/// The container of a group: no compression, a true length, and bytes without meaning.
fn container(len: usize, seed: u16) -> Vec<u8> {
    let mut bytes = vec![0; 5];
    bytes.extend((5..len).map(|i| (i * 31 + usize::from(seed) * 7 + i / 251) as u8));
    bytes[1..5].copy_from_slice(&(len as u32 - 5).to_be_bytes());
    bytes
}

/// The container's length in each archive.
pub const fn container_len(archive: u8) -> usize {
    match archive {
        SMALL => 297,
        MEDIUM => 4_096,
        _ => 100_000,
    }
}

/// [`GROUPS`] groups in each of the three archives.
pub fn snapshot() -> SnapshotRef {
    let archives = [SMALL, MEDIUM, LARGE];
    let framed = |&archive: &u8| framed_len(container_len(archive)) as u64;
    let bytes: u64 = archives.iter().map(framed).sum();
    let groups = archives.len() * usize::from(GROUPS);
    let mut builder = SnapshotBuilder::new(groups, u64::from(GROUPS) * bytes).expect("small");
    for archive in archives {
        for group in 0..GROUPS {
            let container = container(container_len(archive), group);
            let id = GroupId { archive, group: group.into() };
            let at = builder.allocate(id, container.len()).expect("room was reckoned");
            place(builder.framed_mut(at), 0, &container);
            builder.publish(id, at);
        }
    }
    Rc::new(Arc::new(builder.seal().expect("sealed")))
}

/// A session that has shaken hands and, unless `key` is 0, has that key.
pub fn open_session(key: u8) -> ServerSession {
    let clients = Clients::like_550(Builds::only([550]), true, 500);
    let mut session = ServerSession::new(Arc::new(clients), None);
    session.receive(&handshake(550)).expect("a good handshake");
    assert!(matches!(session.next_step(), Step::Status(_)), "the handshake is answered");
    session.receive(&Message::Rekey(key).to_bytes()).expect("a known message");
    session
}

/// The `at`th id of a round: every group of the archive in turn, never in order.
pub const fn id(archive: u8, at: usize) -> GroupId {
    GroupId { archive, group: ((at as u16).wrapping_mul(7) % GROUPS) as u32 }
}

/// `count` requests, as bytes; the class alternates if `class` is none.
pub fn requests(archive: u8, class: Option<Class>, count: usize) -> Vec<u8> {
    let request = |at| {
        let alternating = if at % 2 == 0 { Class::Urgent } else { Class::Prefetch };
        Message::Request(class.unwrap_or(alternating), id(archive, at)).to_bytes()
    };
    (0..count).flat_map(request).collect()
}

/// Serves all that `requests` asks for, as a connection does, a send at a time: `send` sees each
/// sealed batch. Comes back with the bytes that would have gone out.
pub fn serve(
    session: &mut ServerSession,
    snapshot: &SnapshotRef,
    pool: &mut BatchPool,
    requests: &[u8],
    mut send: impl FnMut(&mut Sealed),
) -> usize {
    let taken = session.receive(requests).expect("known messages");
    assert_eq!(taken, requests.len(), "the queues have room for a round");
    let mut current: Option<Cursor> = None;
    let mut bytes = 0;
    loop {
        let mut batch = pool.take();
        while !batch.is_full(SEND_LEN_MAX) {
            let mut cursor = match current.take() {
                Some(cursor) => cursor,
                None => match session.next_step() {
                    Step::Response(response) => {
                        let place = snapshot.place(response.id());
                        assert!(!place.is_empty(), "a group that exists");
                        if batch.push_small(response, snapshot.framed(place)) {
                            continue;
                        }
                        Cursor::new(response, place)
                    }
                    _ => break,
                },
            };
            if !batch.push(&mut cursor, snapshot, SEND_LEN_MAX) {
                current = Some(cursor);
                break;
            }
        }
        if batch.is_empty() {
            pool.put_unused(batch);
            return bytes;
        }
        let mut batch = batch.seal();
        bytes += batch.len();
        send(&mut batch);
        pool.put(batch);
    }
}
