//! Targets of what comes from the network.

use super::super::simulation::change_queues;
use super::super::simulation::model::Model;
use super::super::wire::{self, BUILD_550, Bit, TONGUES, Tongue};
use js5d::protocol::client::{Answered, Head, ResponseSink};
use js5d::protocol::profile::table;
use js5d::protocol::request::{Frame, Message, Opcodes, UnknownOpcode};
use js5d::protocol::session::{Allowance, Step, Violation};
use js5d::protocol::{Builds, Class, ClientSession, Clients, ServerSession, Status};
use js5d::proxy::{Endpoints, HeaderReader, Progress};
use std::sync::Arc;

const BUILD: u32 = 550;

/// The builds that the handshake's target serves: of each kind of handshake one, and two tokens.
const BUILDS: [u32; 5] = [100, 230, BUILD, 742, 910];
const TOKENS: [(u32, &[u8]); 2] = [(742, b"token"), (910, b"")];

/// What a handshake comes to, by the words of docs/clients.md. `Err` is a violation; `None`, that
/// more is to come.
fn handshake_by_hand(stream: &[u8]) -> Option<Result<Status, Violation>> {
    let (&first, rest) = stream.split_first()?;
    if first != 15 {
        return Some(Err(Violation::NotJs5 { opcode: first }));
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n: u32, &byte| n << 8 | u32::from(byte));
    let &len = rest.first()?;
    if len == 0 {
        let build = number(rest.get(..4)?);
        // Old School sends 16 bytes more from 223 on.
        let needed = if build == 230 { 20 } else { 4 };
        let known = [100, 230, BUILD].contains(&build);
        rest.get(..if known { needed } else { 4 })?;
        return Some(Ok(if known { Status::Ok } else { Status::OutOfDate }));
    }
    let malformed = Some(Err(Violation::MalformedHandshake { len }));
    if !(9..=74).contains(&len) {
        return malformed;
    }
    let rest = rest.get(1..=usize::from(len))?;
    let end = rest[8..].iter().position(|&byte| byte == 0);
    let Some(end) = end.filter(|end| rest.len() - 8 - end <= 2) else { return malformed };
    let (build, has_language) = (number(&rest[..4]), rest.len() - 8 - end == 2);
    let wanted = TOKENS.iter().find(|(of, _)| *of == build && has_language == (build == 910));
    Some(Ok(match wanted {
        None => Status::OutOfDate,
        Some((742, token)) if rest[8..8 + end] != **token => Status::SessionExpired,
        Some(_) => Status::Ok,
    }))
}

/// A selector of refusals, then what a peer opens with.
pub(super) fn handshake(data: &[u8]) {
    let Some((&selector, stream)) = data.split_first() else { return };
    let refusal = (selector & 1 == 1).then_some(Status::ServerFull);
    let clients = Clients::new(table::all(), Builds::only(BUILDS), 8).expect("known builds");
    let clients = Arc::new(clients.with_tokens(vec![(742..=742, "token".to_owned())]));
    for split in 0..=stream.len().min(80) {
        let mut session = ServerSession::new(Arc::clone(&clients), refusal);
        let (first, second) = stream.split_at(split);
        let result = session.receive(first).and_then(|_| session.receive(second));
        match (handshake_by_hand(stream), refusal) {
            (None, _) if refusal.is_some() && stream.len() >= 5 && stream[1] == 0 => {
                // Who is refused is told so before 16 bytes that mean nothing.
                assert_eq!(session.next_step(), Step::Status(Status::ServerFull));
            }
            (None, _) => {
                assert_eq!(session.next_step(), Step::Idle);
                assert!(session.awaits_handshake());
            }
            (Some(Err(violation)), _) => assert_eq!(result, Err(violation)),
            (Some(Ok(_)), Some(refusal)) => assert_eq!(session.next_step(), Step::Status(refusal)),
            (Some(Ok(status)), None) => {
                // What follows may be no message, after a status that lets it in.
                assert_eq!(session.next_step(), Step::Status(status));
            }
        }
    }
}

/// Messages of four bytes, each read alone.
pub(super) fn requests(data: &[u8]) {
    for &message in data.as_chunks::<4>().0 {
        let [opcode, a, b, c] = message;
        let id = wire::name((a, u32::from(b) << 8 | u32::from(c)));
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
    // Of ten bytes: what is read is written back, but for what no message says.
    let opcodes = Opcodes::of(&[0, 1, 2, 3, 4, 6, 7, 17, 32, 33]);
    for message in data.as_chunks::<10>().0 {
        let read = Message::read(Frame::Ten, opcodes, *message);
        assert_eq!(read.is_ok(), [0, 1, 2, 3, 4, 6, 7, 17, 32, 33].contains(&message[0]));
        if let Ok(request @ Message::Request(class, id)) = read {
            let group = u32::from_be_bytes([message[2], message[3], message[4], message[5]]);
            assert_eq!((id.archive, id.group), (message[1], group.min(0x00FF_FFFF)));
            assert_eq!(class == Class::Urgent, message[0] % 32 == 1);
            let mut written = Vec::new();
            request.write(
                Frame::Ten,
                opcodes,
                5,
                u16::from_be_bytes([message[6], message[7]]),
                &mut written,
            );
            if group < 0x00FF_FFFF {
                assert_eq!((written[0] % 32, &written[1..8]), (message[0] % 32, &message[1..8]));
            }
        }
    }
}

/// A configuration, then a list of things that happen to a session, beside the model: bytes
/// that come, and steps that are taken.
pub(super) fn session(data: &[u8]) {
    let Some((&config, mut rest)) = data.split_first() else { return };
    let queue_len_max = [1, 2, 5, 100][usize::from(config & 3)];
    let kind = config >> 2 & 7;
    let refusal = (kind == 1).then_some(Status::TooManyConnections);
    let (prefetch_bit, admits) = (config & 0x20 == 0, config & 0xC0 != 0xC0);
    let builds = if admits { Builds::Any } else { Builds::Only(Vec::new()) };
    // Every build as 550 speaks, with the bit or without; or one of the others.
    let (tongue, clients) = match kind {
        0..=2 => {
            let bit = if prefetch_bit { Bit::Always } else { Bit::Never };
            let clients = Clients::like_550(builds, prefetch_bit, queue_len_max);
            (Tongue { builds: 0..=u32::MAX, bit, ..BUILD_550 }, clients)
        }
        _ => {
            let tongue = TONGUES[usize::from(kind - 2)].clone();
            let profiles = vec![tongue.profile().0];
            (tongue, Clients::new(profiles, builds, queue_len_max).expect("a sound profile"))
        }
    };
    let mut session = ServerSession::new(Arc::new(clients), refusal);
    let mut model = Model::new(tongue, admits, queue_len_max, refusal);
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
struct Reframed<'a> {
    tongue: &'a Tongue,
    status: Vec<u8>,
    container: Vec<u8>,
    wire: Vec<u8>,
    count: usize,
    /// The response whose bytes come.
    open: Option<Head>,
    /// Whether a response was broken off, or had blocks of others between its own.
    is_cut: bool,
}

impl<'a> Reframed<'a> {
    fn of(tongue: &'a Tongue) -> Self {
        Self {
            tongue,
            status: Vec::new(),
            container: Vec::new(),
            wire: Vec::new(),
            count: 0,
            open: None,
            is_cut: false,
        }
    }
}

impl ResponseSink<()> for Reframed<'_> {
    fn status(&mut self, status: Status) {
        self.status.push(status.to_byte());
    }
    fn begin(&mut self, head: &Head) -> bool {
        self.is_cut |= self.open.is_some();
        self.open = Some(*head);
        self.container.clear();
        true
    }
    fn data(&mut self, bytes: &[u8]) {
        self.container.extend(bytes);
    }
    fn resume(&mut self, answered: &Answered<()>) {
        self.is_cut |= self.open != Some(answered.head);
        self.open = Some(answered.head);
    }
    fn broken_off(&mut self, _: Answered<()>) {
        self.is_cut = true;
    }
    fn end(&mut self, answered: Answered<()>) {
        let Head { id, prefetch_bit, key, container_len, .. } = answered.head;
        self.count += 1;
        self.open = None;
        if self.is_cut {
            return;
        }
        assert_eq!(self.container.len(), container_len as usize);
        if self.tongue.bit == Bit::Always {
            assert_eq!(answered.class == Class::Prefetch, prefetch_bit);
        }
        let id = (id.archive, id.group);
        let framing = self.tongue.framing;
        self.wire.extend(wire::response_in(framing, id, &self.container, prefetch_bit, key));
    }
}

/// Who a client is and how much it asks for, then what, four bytes each; then what a server sends.
/// What is taken for responses is, framed again, what came.
pub(super) fn client(data: &[u8]) {
    let Some((&config, rest)) = data.split_first() else { return };
    let tongue = &TONGUES[usize::from(config >> 4) % TONGUES.len()];
    let profile = tongue.profile().0;
    let (asked, stream) = rest.split_at(rest.len().min(usize::from(config & 15) * 4));
    let receive = |step: usize| {
        let mut session = ClientSession::of(&profile);
        let mut out = Vec::new();
        for &[class, archive, group, key] in asked.as_chunks::<4>().0 {
            let class = if class & 1 == 0 { Class::Prefetch } else { Class::Urgent };
            session.rekey(key, &mut out);
            session.request(class, wire::name((archive, group.into())), (), &mut out);
        }
        let mut sink = Reframed::of(tongue);
        let fault = stream.chunks(step).find_map(|part| session.receive(part, &mut sink).err());
        (sink, fault)
    };
    let (whole, fault) = receive(usize::MAX);
    let (bytewise, same_fault) = receive(1);
    assert_eq!((whole.wire.len(), fault), (bytewise.wire.len(), same_fault));
    assert!(whole.count <= asked.len() / 4);
    assert!(stream.starts_with(&whole.status));
    let responses = stream.get(1 + 4 * tongue.ints..).unwrap_or_default();
    assert!(whole.is_cut || responses.starts_with(&whole.wire));
}

/// A profile, then what its two ends receive: byte by byte it comes to the same as at once.
pub(super) fn profiles(data: &[u8]) {
    let Some((&selector, stream)) = data.split_first() else { return };
    let mut rows = table::all();
    let profile = rows.swap_remove(usize::from(selector) % rows.len());
    let clients = Clients::new(vec![profile.clone()], Builds::Any, 2000).expect("a row");
    let clients = Arc::new(clients);
    let serve = |step: usize| {
        let mut session = ServerSession::new(Arc::clone(&clients), None);
        let broken = stream.chunks(step).find_map(|part| session.receive(part).err());
        let mut steps = Vec::new();
        // All that was asked for waits still: the order does not depend on the pieces.
        while let step @ (Step::Status(_) | Step::Response(_)) = session.next_step() {
            if let Step::Response(response) = step {
                assert_eq!(response.dialect(), profile.dialect());
                assert!(response.id().group < 1 << 16 || profile.frame.is_wide());
            }
            steps.push(step);
        }
        (steps, broken)
    };
    assert_eq!(serve(usize::MAX), serve(1));
    let receive = |step: usize| {
        let mut session = ClientSession::of(&profile);
        let mut out = Vec::new();
        for (archive, group) in [(0, 0), (255, 255), (2, 3)] {
            session.request(Class::Urgent, wire::name((archive, group)), (), &mut out);
            session.request(Class::Prefetch, wire::name((archive, group)), (), &mut out);
        }
        let mut sink = Counted::default();
        let fault = stream.chunks(step).find_map(|part| session.receive(part, &mut sink).err());
        (sink.bytes, sink.ended, fault)
    };
    assert_eq!(receive(usize::MAX), receive(1));
}

/// Counts what comes.
#[derive(Default)]
struct Counted {
    bytes: usize,
    ended: Vec<Head>,
}

impl ResponseSink<()> for Counted {
    fn status(&mut self, _: Status) {}
    fn begin(&mut self, _: &Head) -> bool {
        true
    }
    fn data(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
    }
    fn end(&mut self, answered: Answered<()>) {
        self.ended.push(answered.head);
    }
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
