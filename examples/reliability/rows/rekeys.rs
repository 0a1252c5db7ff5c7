//! Row 19: rekeys in the middle of a queue, in each framing.
//!
//! A session, and outputs filled from it as a connection does. Requests, rekeys and outputs of
//! any length come in any order; each response carries the key of the moment in which its first
//! byte went into an output, over its whole length.

use super::Case;
use super::simulation::{ServerEnd, World};
use super::wire::{Bit, TONGUES, Tongue, response_in};
use fastrand::Rng;
use js5d::protocol::request::Message;
use js5d::protocol::{Builds, Class, ClientSession, Clients};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Responses a case.
const RESPONSES: u64 = 1000;

/// A case is one connection with a thousand responses.
pub(super) fn prepare() -> Case {
    let world = Rc::new(World::new());
    // Of those that send opcode 6, all have the bit.
    let tongues = TONGUES.iter().filter(|tongue| tongue.bit == Bit::Always).collect::<Vec<_>>();
    Box::new(move |seed| {
        let mut rng = Rng::with_seed(seed);
        let tongue = tongues[rng.usize(..tongues.len())];
        connection(&world, tongue, &mut rng).map_err(|what| format!("{}: {what}", tongue.name))
    })
}

fn connection(world: &World, tongue: &Tongue, rng: &mut Rng) -> Result<u64, String> {
    let (profile, build) = tongue.profile();
    let mut client = ClientSession::<()>::of(&profile);
    let clients = Clients::new(vec![profile], Builds::Any, 1 << 20).expect("a sound profile");
    let mut end = ServerEnd::new(world.snapshot(0), Arc::new(clients), None, 1 << rng.u8(12..19));
    let mut queues = [VecDeque::new(), VecDeque::new()];
    let (mut key, mut asked) = (0, 0);
    let mut opening = Vec::new();
    client.handshake(build, &mut opening);
    end.session_mut().receive(&opening).map_err(|v| format!("{v:?}"))?;
    let (mut wire, mut expected) = (Vec::new(), vec![0]);
    expected.extend([0, 0, 0, 1].repeat(tongue.ints));
    while asked < RESPONSES || queues.iter().any(|queue| !queue.is_empty()) {
        if asked < RESPONSES && rng.u8(..3) > 0 {
            for _ in 0..rng.u64(1..40).min(RESPONSES - asked) {
                let id = world.any_present(0, tongue.is_wide(), rng);
                let class = if rng.bool() { Class::Urgent } else { Class::Prefetch };
                queues[usize::from(class == Class::Prefetch)].push_back(id);
                send(&client, &mut end, Message::Request(class, super::wire::name(id)))?;
                asked += 1;
            }
        }
        if rng.bool() {
            key = if rng.u8(..4) == 0 { 0 } else { rng.u8(..) };
            send(&client, &mut end, Message::Rekey(key))?;
        }
        if rng.bool() {
            // One output: what the model pops is as many as the session popped.
            let before = end.session_mut().queued();
            end.fill(&mut |session| session.next_step());
            let after = end.session_mut().queued();
            for (place, count) in [(0, before.0 - after.0), (1, before.1 - after.1)] {
                for id in queues[place].drain(..count) {
                    let container = world.container(0, id).ok_or("asked for what is absent")?;
                    let framing = tongue.framing;
                    expected.extend(response_in(framing, id, container, place == 1, key));
                }
            }
            wire.extend(end.take_output());
        }
        // What was compared is not kept.
        compare(&mut wire, &mut expected)?;
    }
    while end.is_mid_response() {
        end.fill(&mut |session| session.next_step());
        wire.extend(end.take_output());
    }
    compare(&mut wire, &mut expected)?;
    if expected.is_empty() { Ok(RESPONSES) } else { Err("bytes are missing".into()) }
}

/// Compares as far as the wire goes, and lets go of that.
fn compare(wire: &mut Vec<u8>, expected: &mut Vec<u8>) -> Result<(), String> {
    if !expected.starts_with(wire) {
        let place = wire.iter().zip(&*expected).position(|(byte, right)| byte != right);
        return Err(format!("wrong from byte {place:?} of {} on", wire.len()));
    }
    expected.drain(..wire.len());
    wire.clear();
    Ok(())
}

fn send(client: &ClientSession<()>, end: &mut ServerEnd, message: Message) -> Result<(), String> {
    let mut bytes = Vec::new();
    client.send(message, &mut bytes);
    match end.session_mut().receive(&bytes) {
        Ok(taken) if taken == bytes.len() => Ok(()),
        other => Err(format!("{message:?}: {other:?}")),
    }
}
