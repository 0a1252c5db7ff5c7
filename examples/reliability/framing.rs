//! Row 3: a response of every length, against a model that writes byte by byte.

use crate::Trial;
use js5d::protocol::GroupId;
use js5d::protocol::frame::{container_pieces, frame, framed_len};

/// The block on the wire, its marker included.
const BLOCK: usize = 512;

/// The contract, byte by byte: three bytes of header, the container, and 255 wherever a block
/// begins but the first.
fn by_hand(id: GroupId, container: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let header = [id.archive, (id.group >> 8) as u8, id.group as u8];
    for &byte in header.iter().chain(container) {
        if !wire.is_empty() && wire.len() % BLOCK == 0 {
            wire.push(255);
        }
        wire.push(byte);
    }
    wire
}

fn agree(len: usize, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let id = GroupId { archive: rng.u8(..), group: rng.u16(..) };
    let mut container = vec![0; len];
    rng.fill(&mut container);
    let framed = frame(id, &container);
    assert!(framed == by_hand(id, &container), "length {len}");
    assert_eq!(framed.len(), framed_len(len), "length {len}");
    let back: Vec<u8> = container_pieces(&framed).flatten().copied().collect();
    assert!(back == container, "length {len} and back");
}

pub fn run(trial: &mut Trial) {
    (1..=4096).for_each(|len| agree(len, len as u64));
    trial.tell("framing: lengths 1 to 4,096", "4096 lengths", "4096 lengths", true);
    // With three bytes of header, these end a block, and begin the next.
    for len in [509, 510, 1020, 1021] {
        agree(len, 7);
        let markers = framed_len(len) - len - 3;
        let wanted = if len < 510 {
            0
        } else if len < 1021 {
            1
        } else {
            2
        };
        let name = format!("framing: length {len}, markers");
        trial.tell(&name, &markers.to_string(), &format!("= {wanted}"), markers == wanted);
    }
    trial.each_seed("framing: random lengths up to 2 MB", 1000, |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let bits = rng.u32(1..=21);
        agree(rng.usize(1..=1 << bits), seed);
    });
}
