//! What the benchmarks and the allocation test work on: one snapshot and rounds of requests, the
//! same bytes every time. It knows the library's public interface only.

use js5d::catalog::SnapshotBuilder;
use js5d::net::batch::{BatchPool, Cursor, Sealed, SnapshotRef};
use js5d::protocol::frame::Framing;
use js5d::protocol::profile::{Profile, table};
use js5d::protocol::request::Message;
use js5d::protocol::session::Step;
use js5d::protocol::{Builds, Class, ClientSession, Clients, GroupId, ServerSession};
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

/// What clients of a name or build of js5d's table speak, and the build that they announce.
pub fn client(name: &str) -> (Profile, u32) {
    table::client(name).expect("a client of the table")
}

/// [`GROUPS`] groups in each of the three archives, in each framing.
pub fn snapshot() -> SnapshotRef {
    let archives = [SMALL, MEDIUM, LARGE];
    let groups = archives.len() * usize::from(GROUPS);
    let framings = Framing::ALL.map(|framing| {
        let framed = archives.iter().map(|&it| framing.framed_len(container_len(it)) as u64);
        (framing, u64::from(GROUPS) * framed.sum::<u64>())
    });
    let mut builder = SnapshotBuilder::with_framings(groups, &framings).expect("small");
    for archive in archives {
        for group in 0..GROUPS {
            let container = container(container_len(archive), group);
            let id = GroupId { archive, group: group.into() };
            let at = builder.allocate(id, container.len()).expect("room was reckoned");
            builder.place(at, 0, &container);
            builder.publish(id, at);
        }
    }
    Rc::new(Arc::new(builder.seal().expect("sealed")))
}

/// A session with such a client that has shaken hands and, unless `key` is 0, has that key.
pub fn open_session(name: &str, key: u8) -> ServerSession {
    let (profile, build) = client(name);
    let mut peer = ClientSession::<()>::of(&profile);
    let clients = Clients::new(vec![profile], Builds::only([build]), 500).expect("a known build");
    let mut session = ServerSession::new(Arc::new(clients), None);
    let mut sent = Vec::new();
    peer.handshake(build, &mut sent);
    session.receive(&sent).expect("a good handshake");
    assert!(matches!(session.next_step(), Step::Status(_)), "the handshake is answered");
    sent.clear();
    peer.rekey(key, &mut sent);
    session.receive(&sent).expect("a known message");
    session
}

/// The `at`th id of a round: every group of the archive in turn, never in order.
pub const fn id(archive: u8, at: usize) -> GroupId {
    GroupId { archive, group: ((at as u16).wrapping_mul(7) % GROUPS) as u32 }
}

/// `count` requests as such a client's bytes; the class alternates if `class` is none.
pub fn requests(name: &str, archive: u8, class: Option<Class>, count: usize) -> Vec<u8> {
    let peer = ClientSession::<()>::of(&client(name).0);
    let mut bytes = Vec::new();
    for at in 0..count {
        let alternating = if at % 2 == 0 { Class::Urgent } else { Class::Prefetch };
        let request = Message::Request(class.unwrap_or(alternating), id(archive, at));
        peer.send(request, &mut bytes);
    }
    bytes
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
    let view = snapshot.view(session.dialect());
    let mut current: Option<Cursor> = None;
    let mut bytes = 0;
    loop {
        let mut batch = pool.take();
        while !batch.is_full(SEND_LEN_MAX) {
            let mut cursor = match current.take() {
                Some(cursor) => cursor,
                None => match session.next_step() {
                    Step::Response(response) => {
                        let place = view.place(response.id());
                        assert!(!place.is_empty(), "a group that exists");
                        if batch.push_small(response, view.framed(place)) {
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
