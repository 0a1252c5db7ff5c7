//! Targets of what comes from the network.

use super::super::simulation::change_queues;
use super::super::simulation::model::Model;
use super::super::wire;
use js5d::protocol::client::{Answered, Head, Matching, ResponseSink};
use js5d::protocol::request::{Message, UnknownOpcode};
use js5d::protocol::session::{Allowance, Profile, Step, Violation};
use js5d::protocol::{Builds, Class, ClientSession, ServerSession, Status};
use js5d::proxy::{Endpoints, HeaderReader, Progress};
use std::sync::Arc;

const BUILD: u32 = 550;

fn session_of(refusal: Option<Status>, queue_len_max: usize, prefetch_bit: bool) -> ServerSession {
    let builds = Builds::Only(vec![BUILD]);
    ServerSession::new(Arc::new(Profile { builds, prefetch_bit, queue_len_max }), refusal)
}

/// A selector of refusals, then what a peer opens with.
pub(super) fn handshake(data: &[u8]) {
    let Some((&selector, stream)) = data.split_first() else { return };
    let refusal = (selector & 1 == 1).then_some(Status::ServerFull);
    for split in 0..=stream.len().min(6) {
        let mut session = session_of(refusal, 8, true);
        let (first, second) = stream.split_at(split);
        let result = session.receive(first).and_then(|_| session.receive(second));
        let opens = stream.first() == Some(&15);
        if !opens && !stream.is_empty() {
            assert_eq!(result, Err(Violation::NotJs5 { opcode: stream[0] }));
            continue;
        }
        let status = match (stream.get(1..5), refusal) {
            (None, _) => {
                assert_eq!(session.next_step(), Step::Idle);
                assert!(session.awaits_handshake());
                continue;
            }
            (Some(_), Some(refusal)) => refusal,
            (Some(build), None) if build == BUILD.to_be_bytes() => Status::Ok,
            (Some(_), None) => Status::OutOfDate,
        };
        assert_eq!(session.next_step(), Step::Status(status));
    }
}

/// Messages of four bytes, each read alone.
pub(super) fn requests(data: &[u8]) {
    for &message in data.as_chunks::<4>().0 {
        let [opcode, a, b, c] = message;
        let id = wire::name((a, u16::from(b) << 8 | u16::from(c)));
        let expected = match opcode {
            0 => Ok(Message::Request(Class::Prefetch, id)),
            1 => Ok(Message::Request(Class::Urgent, id)),
            2 => Ok(Message::LoggedIn(true)),
            3 => Ok(Message::LoggedIn(false)),
            4 => Ok(Message::Rekey(a)),
            6 => Ok(Message::Connected),
            7 => Ok(Message::Disconnect),
            other => Err(UnknownOpcode(other)),
        };
        assert_eq!(Message::parse(message), expected);
        if let Ok(Message::Request(..)) = expected {
            assert_eq!(expected.map(Message::to_bytes), Ok(message));
        }
    }
}

/// A configuration, then a list of things that happen to a session, beside the model: bytes
/// that come, and steps that are taken.
pub(super) fn session(data: &[u8]) {
    let Some((&config, mut rest)) = data.split_first() else { return };
    let queue_len_max = [1, 2, 5, 100][usize::from(config & 3)];
    let refusal = (config & 0x1C == 4).then_some(Status::TooManyConnections);
    let (prefetch_bit, admits) = (config & 0x20 == 0, config & 0xC0 != 0xC0);
    let builds = if admits { Builds::Any } else { Builds::Only(Vec::new()) };
    let profile = Profile { builds, prefetch_bit, queue_len_max };
    let mut session = ServerSession::new(Arc::new(profile), refusal);
    let mut model = Model::new(admits, prefetch_bit, queue_len_max, refusal);
    while let Some((&event, later)) = rest.split_first() {
        rest = later;
        let count = usize::from(event >> 2);
        match event & 3 {
            0 | 1 => {
                let (bytes, later) = rest.split_at(rest.len().min(count + 1));
                let taken = session.receive(bytes);
                assert_eq!(taken, model.receive(bytes));
                let Ok(taken) = taken else { return };
                // What found no room is offered again, behind the next event.
                rest = if taken == 0 { later } else { &rest[taken..] };
            }
            2 if count == 63 => {
                session.refuse(Status::ServerFull);
                model.refuse();
            }
            2 => change_queues(&mut session, count & 1 == 0),
            _ => {
                let (allowance, held_back) = match count & 3 {
                    0 => (Allowance::Nothing, [true; 2]),
                    1 => (Allowance::Urgent, [false, true]),
                    _ => (Allowance::All, [false; 2]),
                };
                for _ in 0..=count >> 2 {
                    let upcoming = session.upcoming().next().map(|id| (id.archive, id.group));
                    assert_eq!(upcoming, model.upcoming(0));
                    assert_eq!(session.next_step_within(allowance), model.next(held_back).0);
                }
            }
        }
        assert_eq!(session.queued(), model.queued());
    }
}

/// What the responses that came whole look like when they are framed again.
#[derive(Default)]
struct Reframed {
    status: Vec<u8>,
    container: Vec<u8>,
    wire: Vec<u8>,
    count: usize,
}

impl ResponseSink<()> for Reframed {
    fn status(&mut self, status: Status) {
        self.status.push(status.to_byte());
    }
    fn begin(&mut self, _: &Head) -> bool {
        self.container.clear();
        true
    }
    fn data(&mut self, bytes: &[u8]) {
        self.container.extend(bytes);
    }
    fn end(&mut self, answered: Answered<()>) {
        let Head { id, prefetch_bit, key, container_len, .. } = answered.head;
        assert_eq!(self.container.len(), container_len as usize);
        assert_eq!(answered.class == Class::Prefetch, prefetch_bit);
        let id = (id.archive, id.group);
        self.wire.extend(wire::response(id, &self.container, prefetch_bit, key));
        self.count += 1;
    }
}

/// What a client asks for, four bytes each behind their count, then what a server sends. What
/// is taken for responses is, framed again, what came.
pub(super) fn client(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (asked, stream) = rest.split_at(rest.len().min(usize::from(count & 15) * 4));
    let receive = |step: usize| {
        let mut session = ClientSession::new(Matching::ByPrefetchBit);
        let mut out = Vec::new();
        for &[class, archive, group, key] in asked.as_chunks::<4>().0 {
            let class = if class & 1 == 0 { Class::Prefetch } else { Class::Urgent };
            session.rekey(key, &mut out);
            session.request(class, wire::name((archive, group.into())), (), &mut out);
        }
        let mut sink = Reframed::default();
        let fault = stream.chunks(step).find_map(|part| session.receive(part, &mut sink).err());
        (sink, fault)
    };
    let (whole, fault) = receive(usize::MAX);
    let (bytewise, same_fault) = receive(1);
    assert_eq!((whole.wire.len(), fault), (bytewise.wire.len(), same_fault));
    assert!(whole.count <= asked.len() / 4);
    assert!(stream.starts_with(&[whole.status, whole.wire].concat()));
}

/// A header and what follows. One of version 2 is read a second time, by hand.
pub(super) fn proxy_header(data: &[u8]) {
    let mut reader = HeaderReader::default();
    let whole = reader.receive(data);
    let mut reader = HeaderReader::default();
    let mut bytewise = Ok(Progress::Partial);
    for (place, byte) in data.iter().enumerate() {
        bytewise = reader.receive(std::slice::from_ref(byte));
        match bytewise {
            Ok(Progress::Partial) => continue,
            Ok(Progress::Whole { announced, taken }) => {
                assert_eq!(taken, 1);
                bytewise = Ok(Progress::Whole { announced, taken: place + 1 });
            }
            Err(_) => {}
        }
        break;
    }
    assert_eq!(whole, bytewise);
    let Ok(Progress::Whole { announced, taken }) = whole else { return };
    if data[0] == b'P' {
        assert!(data[..taken].ends_with(b"\r\n") && taken <= 107);
        return;
    }
    assert!(data.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    assert_eq!(taken, 16 + usize::from(data[14]) * 256 + usize::from(data[15]));
    let expected = match (data[12], data[13]) {
        (0x21, 0x11) => Some(ends::<4>(&data[16..])),
        (0x21, 0x21) => Some(ends::<16>(&data[16..])),
        _ => None,
    };
    assert_eq!(announced, expected);
}

/// Two addresses of `N` bytes, and two ports.
fn ends<const N: usize>(bytes: &[u8]) -> Endpoints
where
    std::net::IpAddr: From<[u8; N]>,
{
    let address = |from: usize| *bytes[from..].first_chunk::<N>().expect("as long as it says");
    let port = |from: usize| u16::from(bytes[from]) << 8 | u16::from(bytes[from + 1]);
    Endpoints {
        source: (std::net::IpAddr::from(address(0)), port(2 * N)).into(),
        destination: (std::net::IpAddr::from(address(N)), port(2 * N + 2)).into(),
    }
}
