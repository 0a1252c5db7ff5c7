//! Row 2: any split of a stream has the same effect as one big read, at both ends.

use crate::Trial;
use crate::pipe::{Collect, container};
use js5d::protocol::client::Matching;
use js5d::protocol::frame::{append_keyed, frame};
use js5d::protocol::handshake::handshake;
use js5d::protocol::request::Message;
use js5d::protocol::session::{Profile, Step};
use js5d::protocol::{Builds, Class, ClientSession, GroupId, ServerSession};
use std::sync::Arc;

pub fn run(trial: &mut Trial) {
    trial.each_seed("splits: what a server receives", 50_000, server);
    trial.each_seed("splits: what a client receives", 50_000, client);
}

/// A client's stream: mostly what the protocol has, sometimes what it has not.
fn stream(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = if rng.u8(..) < 8 { vec![rng.u8(..)] } else { handshake(550).to_vec() };
    for _ in 0..rng.usize(0..60) {
        let id = GroupId { archive: rng.u8(..), group: rng.u16(..) };
        let message = match rng.u8(..100) {
            0..40 => Message::Request(Class::Urgent, id),
            40..80 => Message::Request(Class::Prefetch, id),
            80..90 => Message::Rekey(rng.u8(..)),
            90..95 => Message::LoggedIn(rng.bool()),
            95..98 => Message::Connected,
            98 => Message::Disconnect,
            _ => {
                bytes.extend([rng.u8(8..), 1, 2, 3]);
                continue;
            }
        };
        bytes.extend(message.to_bytes());
    }
    bytes.truncate(bytes.len() - rng.usize(0..3).min(bytes.len()));
    bytes
}

/// What a session does with a stream that comes in pieces: its steps, and how it ended.
fn steps(bytes: &[u8], mut piece: impl FnMut(usize) -> usize) -> (Vec<Step>, String, bool) {
    let profile = Profile { builds: Builds::Any, prefetch_bit: true, queue_len_max: 200 };
    let mut session = ServerSession::new(Arc::new(profile), None);
    let mut rest = bytes;
    let mut end = String::from("open");
    while !rest.is_empty() {
        let len = piece(rest.len()).clamp(1, rest.len());
        match session.receive(&rest[..len]) {
            Ok(taken) => {
                assert_eq!(taken, len, "the queues have room for all of it");
                rest = &rest[len..];
            }
            Err(violation) => {
                end = format!("{violation:?}");
                break;
            }
        }
    }
    let mut steps = Vec::new();
    loop {
        match session.next_step() {
            Step::Idle => break,
            Step::Close(cause) => {
                steps.push(Step::Close(cause));
                break;
            }
            step => steps.push(step),
        }
    }
    (steps, end, session.logged_in())
}

fn server(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let bytes = stream(&mut rng);
    let whole = steps(&bytes, |len| len);
    let largest = 1 << rng.u32(0..9);
    assert_eq!(steps(&bytes, |_| rng.usize(1..=largest)), whole);
    assert_eq!(steps(&bytes, |_| 1), whole, "byte by byte");
}

fn client(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut asked = Vec::new();
    let mut wire = vec![0];
    for token in 0..rng.u32(1..20) {
        let id = GroupId { archive: 2, group: token as u16 };
        let class = if rng.bool() { Class::Urgent } else { Class::Prefetch };
        let mut framed = frame(id, &container(rng.usize(0..2200), seed));
        framed[3] |= if class == Class::Prefetch { 0x80 } else { 0 };
        append_keyed(&mut wire, &framed, 0);
        asked.push((class, id));
    }
    if rng.u8(..) < 50 {
        let at = rng.usize(..wire.len());
        wire[at] ^= 1 << rng.u32(..8);
    }
    let receive = |mut piece: Box<dyn FnMut() -> usize>| {
        let mut session = ClientSession::new(Matching::ByPrefetchBit);
        let mut sink = Collect::default();
        for (token, &(class, id)) in asked.iter().enumerate() {
            session.request(class, id, token as u32, &mut Vec::new());
        }
        let mut rest = &wire[..];
        let mut fault = None;
        while fault.is_none() && !rest.is_empty() {
            let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
            fault = session.receive(now, &mut sink).err();
            rest = later;
        }
        (sink.answered, fault)
    };
    let whole = receive(Box::new(|| usize::MAX));
    assert!(receive(Box::new(|| 1)) == whole, "byte by byte");
    let mut rng = fastrand::Rng::with_seed(seed + 1);
    assert!(receive(Box::new(move || rng.usize(1..900))) == whole, "in pieces");
}
