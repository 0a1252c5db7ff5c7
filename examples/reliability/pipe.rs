//! Row 4: both sessions, and the server's batches, over a virtual pipe that delays, splits,
//! reorders what is ready, and cuts. A model knows what each answer must be.

use crate::Trial;
use js5d::catalog::SnapshotBuilder;
use js5d::net::output::{Cursor, Output, SnapshotRef};
use js5d::protocol::client::{Answered, Head, Matching, ResponseSink};
use js5d::protocol::frame::{framed_len, place};
use js5d::protocol::session::{Profile, Step};
use js5d::protocol::{Builds, Class, ClientSession, GroupId, ServerSession, Status};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Groups of a generation, of lengths around the edges of blocks.
const LENS: [usize; 10] = [0, 1, 504, 505, 506, 1014, 1015, 1016, 2043, 3000];

/// Bytes of a send at most: small, so that responses are cut into several.
const SEND_LEN_MAX: usize = 1500;

/// A container of a payload of so many bytes.
pub fn container(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 5 + len];
    fastrand::Rng::with_seed(seed ^ len as u64).fill(&mut bytes[5..]);
    bytes[1..5].copy_from_slice(&(len as u32).to_be_bytes());
    bytes
}

/// What came: class, group, the key it came under, token and container.
type Came = (Class, GroupId, u8, u32, Vec<u8>);

/// Keeps everything that comes.
#[derive(Default)]
pub struct Collect {
    pub answered: Vec<Came>,
    container: Vec<u8>,
}

impl ResponseSink<u32> for Collect {
    fn status(&mut self, status: Status) {
        assert_eq!(status, Status::Ok);
    }

    fn begin(&mut self, _: &Head) -> bool {
        self.container.clear();
        true
    }

    fn data(&mut self, bytes: &[u8]) {
        self.container.extend(bytes);
    }

    fn end(&mut self, answered: Answered<u32>) {
        let Answered { class, head, token, .. } = answered;
        let container = std::mem::take(&mut self.container);
        self.answered.push((class, head.id, head.key, token, container));
    }
}

/// One generation: groups 0 to 9 of archive 2.
fn generation(number: u64) -> SnapshotRef {
    let bytes = LENS.iter().map(|len| framed_len(len + 5) as u64).sum();
    let mut builder = SnapshotBuilder::new(LENS.len(), bytes).expect("small");
    for (group, len) in (0..).zip(LENS) {
        let container = container(len, number);
        let id = GroupId { archive: 2, group };
        let at = builder.allocate(id, container.len()).expect("room was reckoned");
        place(builder.framed_mut(at), 0, &container);
        builder.publish(id, at);
    }
    Rc::new(Arc::new(builder.seal().expect("sealed")))
}

/// The server's end: what `net/connection.rs` does, without a socket.
struct ServerEnd<'a> {
    session: ServerSession,
    snapshot: &'a SnapshotRef,
    current: Option<Cursor>,
}

impl ServerEnd<'_> {
    /// The next send, as long as one may be.
    fn fill(&mut self) -> Vec<u8> {
        let mut output = Output::default();
        while !output.is_full(SEND_LEN_MAX) {
            let mut cursor = match self.current.take() {
                Some(cursor) => cursor,
                None => match self.session.next_step() {
                    Step::Response(response) => Cursor { response, taken: 0 },
                    Step::Status(status) => {
                        output.push_status(status.to_byte());
                        continue;
                    }
                    Step::Idle | Step::Close(_) => break,
                },
            };
            let framed = self.snapshot.response(cursor.response.id()).expect("it exists");
            let whole = cursor.taken == 0 && output.push_small(cursor.response, framed)
                || output.push(&mut cursor, framed, self.snapshot, SEND_LEN_MAX);
            if !whole {
                self.current = Some(cursor);
                break;
            }
        }
        output.seal();
        output.to_bytes()
    }
}

/// The model: queues in the order in which the server has taken the requests, and the key.
#[derive(Default)]
struct Model {
    urgent: VecDeque<u32>,
    prefetch: VecDeque<u32>,
    key: u8,
}

/// One session over one pipe, from the first byte to the last or the cut.
fn session(rng: &mut fastrand::Rng, number: u64, snapshot: &SnapshotRef) {
    let profile =
        Profile { builds: Builds::Any, prefetch_bit: true, queue_len_max: rng.usize(20..=40) };
    let session = ServerSession::new(Arc::new(profile), None);
    let mut server = ServerEnd { session, snapshot, current: None };
    let mut client = ClientSession::new(Matching::ByPrefetchBit);
    let (mut upstream, mut downstream) = (Vec::new(), VecDeque::new());
    let (mut sink, mut asked) = (Collect::default(), Vec::new());
    let wanted = rng.u32(1..25);
    // The pipe is cut after so many steps, or never.
    let cut = if rng.u8(..) < 64 { rng.u32(0..200) } else { u32::MAX };
    client.handshake(550, &mut upstream);
    client.greet(rng.bool(), rng.u8(..), &mut upstream);
    let mut steps = 0;
    while (sink.answered.len() as u32) < wanted && steps < cut {
        steps += 1;
        assert!(steps < 100_000, "it comes to an end");
        match rng.u8(0..10) {
            0..=2 if (asked.len() as u32) < wanted => {
                let class = if rng.bool() { Class::Urgent } else { Class::Prefetch };
                let id = GroupId { archive: 2, group: rng.u16(0..LENS.len() as u16) };
                client.request(class, id, asked.len() as u32, &mut upstream);
                asked.push((class, id));
            }
            3 => client.rekey(rng.u8(..), &mut upstream),
            4..=6 => {
                let len = rng.usize(0..=upstream.len());
                let taken = server.session.receive(&upstream[..len]).expect("a valid stream");
                upstream.drain(..taken);
            }
            7 => downstream.extend(server.fill()),
            _ => {
                let len = rng.usize(0..=downstream.len());
                let bytes: Vec<u8> = downstream.drain(..len).collect();
                client.receive(&bytes, &mut sink).expect("a correct server");
            }
        }
    }
    // Within a class in the order in which it was asked; each once, and every byte.
    for class in [Class::Urgent, Class::Prefetch] {
        let came: Vec<_> = sink.answered.iter().filter(|came| came.0 == class).collect();
        let mut wanted = asked.iter().zip(0..).filter(|((asked, _), _)| *asked == class);
        for (_, id, _, token, bytes) in came {
            let ((_, expected), number_asked) = wanted.next().expect("it was asked for");
            assert_eq!((id, *token), (expected, number_asked), "in order");
            assert!(*bytes == container(LENS[usize::from(id.group)], number), "every byte of {id}");
        }
    }
}

/// Two connections, with a new generation between them, or not.
fn play(seed: u64, generations: &[SnapshotRef]) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..2 {
        let number = rng.usize(..generations.len());
        session(&mut rng, number as u64, &generations[number]);
    }
}

/// Urgent before prefetch, by the order in which the server takes what it has been told, and the
/// key of that moment: without a client, whose view is later.
fn order(seed: u64, snapshot: &SnapshotRef) {
    use js5d::protocol::request::Message;
    let mut rng = fastrand::Rng::with_seed(seed);
    let profile = Profile { builds: Builds::Any, prefetch_bit: true, queue_len_max: 50 };
    let mut server = ServerSession::new(Arc::new(profile), None);
    server.receive(&[15, 0, 0, 2, 38]).expect("a handshake");
    assert!(matches!(server.next_step(), Step::Status(Status::Ok)));
    let (mut model, mut token) = (Model::default(), 0_u32);
    assert!(snapshot.response(GroupId { archive: 2, group: 0 }).is_some());
    for _ in 0..100 {
        match rng.u8(..6) {
            0 | 1 => {
                let class = if rng.bool() { Class::Urgent } else { Class::Prefetch };
                let queue = match class {
                    Class::Urgent => &mut model.urgent,
                    Class::Prefetch => &mut model.prefetch,
                };
                let id = GroupId { archive: 3, group: token as u16 };
                let taken = server.receive(&Message::Request(class, id).to_bytes());
                assert_eq!(taken, Ok(if queue.len() < 50 { 4 } else { 0 }), "as much as fits");
                if queue.len() < 50 {
                    queue.push_back(token);
                    token += 1;
                }
            }
            2 => {
                model.key = rng.u8(..);
                let taken = server.receive(&Message::Rekey(model.key).to_bytes());
                assert_eq!(taken, Ok(4));
            }
            _ => {
                let urgent = model.urgent.pop_front().map(|token| (Class::Urgent, token));
                let next = urgent.or_else(|| Some((Class::Prefetch, model.prefetch.pop_front()?)));
                match (server.next_step(), next) {
                    (Step::Idle, None) => {}
                    (Step::Response(response), Some((class, token))) => {
                        let found = (response.class(), response.id().group, response.key());
                        assert_eq!(found, (class, token as u16, model.key));
                    }
                    (step, next) => panic!("{step:?}, and the model has {next:?}"),
                }
            }
        }
    }
}

pub fn run(trial: &mut Trial) {
    let generations: Vec<_> = (0..3).map(generation).collect();
    trial.each_seed("simulation: pairs of sessions", 400_000, |seed| play(seed, &generations));
    trial.each_seed("simulation: order and key", 200_000, |seed| order(seed, &generations[0]));
}
