//! Row 19: keys that change in the middle of a queue, and of a batch. Every byte of every
//! response is that of one key, the one of the moment in which it was begun.

use crate::Trial;
use crate::pipe::container;
use js5d::protocol::frame::{append_keyed, frame};
use js5d::protocol::request::Message;
use js5d::protocol::session::{Profile, Step};
use js5d::protocol::{Builds, Class, GroupId, ServerSession};
use std::sync::Arc;

/// Responses a case.
const RESPONSES: u64 = 100;

fn case(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let profile = Profile { builds: Builds::Any, prefetch_bit: true, queue_len_max: 200 };
    let mut server = ServerSession::new(Arc::new(profile), None);
    server.receive(&[15, 0, 0, 2, 38]).expect("a handshake");
    server.next_step();
    let requests = (0..RESPONSES as u16).flat_map(|group| {
        let class = if group % 3 == 0 { Class::Urgent } else { Class::Prefetch };
        Message::Request(class, GroupId { archive: 1, group }).to_bytes()
    });
    server.receive(&requests.collect::<Vec<_>>()).expect("known messages");
    let mut key = 0;
    let mut count = 0;
    loop {
        if rng.bool() {
            key = rng.u8(..);
            server.receive(&Message::Rekey(key).to_bytes()).expect("a known message");
        }
        let Step::Response(response) = server.next_step() else { break };
        assert_eq!(response.key(), key, "the key of the moment in which it is begun");
        let plain = frame(response.id(), &container(rng.usize(0..1200), seed));
        let mut keyed = Vec::new();
        append_keyed(&mut keyed, &plain, response.key());
        let is_exact = keyed.len() == plain.len()
            && keyed.iter().zip(&plain).all(|(keyed, plain)| keyed ^ key == *plain);
        assert!(is_exact, "each byte, markers included");
        count += 1;
    }
    assert_eq!(count, RESPONSES, "none is lost");
}

pub fn run(trial: &mut Trial) {
    trial.each_seed("rekeys: hundreds of responses", 1_000_000 / RESPONSES, case);
}
