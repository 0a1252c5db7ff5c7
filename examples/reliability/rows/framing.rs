//! Row 3: framing of every length from 1 to 4,096, and of random ones to 2 MB, in each framing.
//!
//! Compared with the slow model, in one piece and in pieces of any size, with the prefetch bit
//! and without, and taken apart again.

use super::Case;
use super::wire::{any_scale, container, name, response_in};
use fastrand::Rng;
use js5d::protocol::frame::Framing;

const LEN_EXACT_MAX: u64 = 4096;
const LEN_MAX: usize = 2 << 20;

/// Container and bytes on the wire, reckoned by hand at the edges of each framing's blocks.
const BY_HAND: [(Framing, usize, usize); 17] = [
    // The first block is full, and nothing follows; one byte more has a lead before it.
    (Framing::Marked3, 509, 512),
    (Framing::Marked3, 510, 514),
    (Framing::Marked3, 1020, 1024),
    (Framing::Marked3, 1021, 1026),
    (Framing::Marked5, 507, 512),
    (Framing::Marked5, 508, 514),
    (Framing::Marked5, 1018, 1024),
    (Framing::Marked5, 1019, 1026),
    (Framing::Multi512, 507, 512),
    (Framing::Multi512, 508, 518),
    (Framing::Multi512, 1014, 1024),
    (Framing::Multi512, 1015, 1030),
    (Framing::Multi102400, 1015, 1020),
    (Framing::Multi102400, 102_395, 102_400),
    (Framing::Multi102400, 102_396, 102_406),
    (Framing::Multi102400, 204_790, 204_800),
    (Framing::Multi102400, 204_791, 204_806),
];

/// The first cases are the lengths in order, whatever their seeds; then random ones.
pub(super) fn prepare() -> Case {
    let mut next = 0;
    Box::new(move |seed| {
        next += 1;
        let mut rng = Rng::with_seed(seed);
        if next == 1 {
            for (framing, container_len, wire_len) in BY_HAND {
                check(framing, container_len, Some(wire_len), &mut rng)?;
            }
        }
        let random = rng.usize(1..=LEN_MAX);
        let scaled = any_scale(&mut rng, LEN_MAX);
        let len = match usize::try_from(next) {
            Ok(len) if next <= LEN_EXACT_MAX => len,
            _ if next % 8 == 0 => random,
            _ => scaled,
        };
        for framing in Framing::ALL {
            check(framing, len, None, &mut rng)?;
        }
        Ok(1)
    })
}

fn check(
    framing: Framing,
    len: usize,
    wire_len: Option<usize>,
    rng: &mut Rng,
) -> Result<(), String> {
    let wrong = |how| Err(format!("{}: a container of {len} is {how}", framing.name()));
    let id = (rng.u8(..), rng.u32(..65_536));
    let container = container(len, rng);
    let expected = response_in(framing, id, &container, false, 0);
    let wire_len = wire_len.unwrap_or(expected.len());
    let whole = framing.frame(name(id), &container);
    if framing.framed_len(len) != wire_len || expected.len() != wire_len || whole != expected {
        return wrong("framed wrong");
    }
    let mut framed = vec![0; wire_len];
    framing.write_header(&mut framed, name(id));
    let mut at = 0;
    while at < len {
        let piece = any_scale(rng, len - at);
        framing.place(&mut framed, at, &container[at..at + piece]);
        at += piece;
    }
    if framed != expected {
        return wrong("framed wrong in pieces");
    }
    if framing.container_pieces(&whole).flatten().ne(&container) {
        return wrong("taken apart wrong");
    }
    // No container is shorter, and the highest bit of its first byte is never set.
    if len < 5 {
        return Ok(());
    }
    let mut at = 0;
    while at < wire_len {
        let piece = any_scale(rng, wire_len - at);
        framing.mark(&mut framed[at..at + piece], at);
        at += piece;
    }
    if framed != response_in(framing, id, &container, true, 0) {
        return wrong("marked wrong as prefetch");
    }
    Ok(())
}
