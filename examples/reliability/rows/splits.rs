//! Row 2: any split of any byte stream does what one big read does.
//!
//! For both sessions, as clients of each kind speak, and for PROXY headers: streams that are
//! right, that are damaged in places, and that are noise. What a session does about a full queue
//! depends on when it is offered more, so that is held fixed: one response is taken whenever a
//! queue is full.

use super::Case;
use super::wire::{Bit, TONGUES, any_scale, container, name, response_in};
use fastrand::Rng;
use js5d::protocol::client::{Answered, Head, ResponseSink};
use js5d::protocol::profile::table;
use js5d::protocol::session::Step;
use js5d::protocol::{Builds, Class, ClientSession, Clients, ServerSession, Status};
use js5d::proxy::{Endpoints, HeaderFault, HeaderReader, Progress, announce};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A case is one stream of one kind, in turn.
pub(super) fn prepare() -> Case {
    Box::new(|seed| {
        let mut rng = Rng::with_seed(seed);
        let (what, same) = match seed % 4 {
            0 | 1 => ("server session", server_case(&mut rng)),
            2 => ("client session", client_case(&mut rng)),
            _ => ("PROXY header", proxy_case(&mut rng)),
        };
        if same { Ok(1) } else { Err(format!("{what}: pieces do not do what the whole does")) }
    })
}

/// Cuts a stream at random places.
fn pieces<'a>(stream: &'a [u8], rng: &mut Rng) -> Vec<&'a [u8]> {
    let len_max = any_scale(rng, stream.len().max(1));
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rng.usize(1..=len_max.min(rest.len())));
        pieces.push(piece);
        rest = later;
        if rng.u8(..) < 10 {
            pieces.push(&[]);
        }
    }
    pieces
}

/// Damages one stream in three.
fn damage(stream: &mut [u8], rng: &mut Rng) {
    if rng.u8(..3) == 0 && !stream.is_empty() {
        for _ in 0..rng.u8(1..4) {
            let place = rng.usize(..stream.len());
            stream[place] = rng.u8(..);
        }
    }
}

fn server_case(rng: &mut Rng) -> bool {
    let tongue = &TONGUES[rng.usize(..TONGUES.len())];
    let (profile, build) = tongue.profile();
    let mut stream = Vec::new();
    ClientSession::<()>::of(&profile).handshake(build, &mut stream);
    for _ in 0..rng.u8(..60) {
        let known = tongue.opcodes[rng.usize(..tongue.opcodes.len())];
        // 7 would end most streams early.
        let is_known = rng.u8(..) >= 3 && known != 7;
        stream.push(if is_known { known } else { rng.u8(..) });
        stream.extend((1..tongue.message_len).map(|_| rng.u8(..)));
    }
    damage(&mut stream, rng);
    let builds = if rng.bool() { Builds::Any } else { Builds::only([build]) };
    let clients = if rng.bool() {
        Clients::new(table::all(), builds, rng.usize(1..30)).expect("builds of the table")
    } else {
        Clients::like_550(builds, rng.bool(), rng.usize(1..30))
    };
    let clients = Arc::new(clients);
    let refusal = (rng.u8(..10) == 0).then_some(Status::TooManyConnections);
    let serve = |pieces: &[&[u8]]| {
        let mut session = ServerSession::new(Arc::clone(&clients), refusal);
        let mut done = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            loop {
                match session.receive(rest) {
                    Ok(taken) if taken == rest.len() => break,
                    Ok(taken) => rest = &rest[taken..],
                    Err(violation) => return (done, Some(violation)),
                }
                done.push(session.next_step());
            }
        }
        while let step = session.next_step()
            && step != Step::Idle
        {
            done.push(step);
            if matches!(step, Step::Close(_)) {
                break;
            }
        }
        (done, None)
    };
    serve(&[&stream]) == serve(&pieces(&stream, rng))
}

/// Everything that a client session tells, containers' bytes joined.
#[derive(Debug, Default, PartialEq)]
struct Told {
    statuses: Vec<Status>,
    begun: Vec<Head>,
    data: Vec<u8>,
    ended: Vec<Answered<u32>>,
}

impl ResponseSink<u32> for Told {
    fn status(&mut self, status: Status) {
        self.statuses.push(status);
    }
    fn begin(&mut self, head: &Head) -> bool {
        self.begun.push(*head);
        true
    }
    fn data(&mut self, bytes: &[u8]) {
        self.data.extend(bytes);
    }
    fn end(&mut self, answered: Answered<u32>) {
        self.ended.push(answered);
    }
}

fn client_case(rng: &mut Rng) -> bool {
    let tongue = &TONGUES[rng.usize(..TONGUES.len())];
    let profile = tongue.profile().0;
    let mut stream = vec![if rng.u8(..20) == 0 { rng.u8(..) } else { 0 }];
    stream.extend([0, 0, 0, 1].repeat(tongue.ints));
    let mut asked = Vec::new();
    let mut key = 0;
    for token in 0..rng.u32(..12) {
        if rng.u8(..4) == 0 {
            key = rng.u8(..);
        }
        let (id, prefetch) = ((rng.u8(..3), rng.u32(..3)), rng.bool());
        let len = any_scale(rng, 2000) + 5;
        let bit = prefetch && tongue.bit == Bit::Always;
        stream.extend(response_in(tongue.framing, id, &container(len, rng), bit, key));
        asked.push((id, prefetch, key, token));
    }
    damage(&mut stream, rng);
    let receive = |pieces: &[&[u8]]| {
        let mut session = ClientSession::of(&profile);
        let mut upstream = Vec::new();
        for &(id, prefetch, key, token) in &asked {
            let class = if prefetch { Class::Prefetch } else { Class::Urgent };
            session.rekey(key, &mut upstream);
            session.request(class, name(id), token, &mut upstream);
        }
        let mut told = Told::default();
        let mut fault = None;
        for piece in pieces {
            if let Err(found) = session.receive(piece, &mut told) {
                fault = Some(found);
                break;
            }
        }
        if fault.is_some() {
            // How much of a broken response was shown before the break showed is open.
            told.data.clear();
        }
        (told, fault)
    };
    receive(&[&stream]) == receive(&pieces(&stream, rng))
}

/// What a reader of headers made of a stream: where the header ended, and what it announced.
type HeaderEnd = Option<Result<(usize, Option<Endpoints>), HeaderFault>>;

fn proxy_case(rng: &mut Rng) -> bool {
    let mut stream = header(rng);
    damage(&mut stream, rng);
    stream.extend((0..rng.usize(..40)).map(|_| rng.u8(..)));
    if rng.u8(..10) == 0 {
        stream.truncate(rng.usize(..=stream.len()));
    }
    let read = |pieces: &[&[u8]]| -> HeaderEnd {
        let mut reader = HeaderReader::default();
        let mut before = 0;
        for piece in pieces {
            match reader.receive(piece) {
                Ok(Progress::Partial) => before += piece.len(),
                Ok(Progress::Whole { announced, taken }) => {
                    return Some(Ok((before + taken, announced)));
                }
                Err(fault) => return Some(Err(fault)),
            }
        }
        None
    };
    read(&[&stream]) == read(&pieces(&stream, rng))
}

/// A header of either version, or one that announces nothing.
fn header(rng: &mut Rng) -> Vec<u8> {
    let v6 = rng.bool();
    let mut address = || {
        let ip: IpAddr =
            if v6 { rng.u128(..).to_be_bytes().into() } else { [rng.u8(..); 4].into() };
        SocketAddr::new(ip, rng.u16(..))
    };
    let (source, destination) = (address(), address());
    match rng.u8(..4) {
        0 => {
            let family = if v6 { "TCP6" } else { "TCP4" };
            let (from, to) = (source.ip(), destination.ip());
            let (from_port, to_port) = (source.port(), destination.port());
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        1 => b"PROXY UNKNOWN what follows is ignored\r\n".to_vec(),
        2 => [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x04"[..], &rng.u32(..).to_be_bytes()].concat(),
        _ => announce(Endpoints { source, destination }),
    }
}
