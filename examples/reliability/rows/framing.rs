//! Row 3: framing of every length from 1 to 4,096, and of random ones to 2 MB.
//!
//! Compared with the slow model, in one piece and in pieces of any size, and taken apart again.

use super::Case;
use super::wire::{any_scale, container, name, response};
use fastrand::Rng;
use js5d::protocol::frame::{container_pieces, frame, framed_len, place, write_header};

const LEN_EXACT_MAX: u64 = 4096;
const LEN_MAX: usize = 2 << 20;

/// The contract's own examples: container, bytes on the wire.
const BY_NAME: [(&str, usize, usize); 4] = [
    ("509: the first block is full, and no marker follows", 509, 512),
    ("510: one marker, one byte", 510, 514),
    ("1020: the second block is full, and no marker follows", 1020, 1024),
    ("1021: two markers", 1021, 1026),
];

/// The first cases are the lengths in order, whatever their seeds; then random ones.
pub(super) fn prepare() -> Case {
    let mut next = 0;
    Box::new(move |seed| {
        next += 1;
        let mut rng = Rng::with_seed(seed);
        if next == 1 {
            for (what, container_len, wire_len) in BY_NAME {
                check(container_len, Some(wire_len), &mut rng)
                    .map_err(|e| format!("{what}: {e}"))?;
            }
        }
        let random = rng.usize(1..=LEN_MAX);
        let scaled = any_scale(&mut rng, LEN_MAX);
        let len = match usize::try_from(next) {
            Ok(len) if next <= LEN_EXACT_MAX => len,
            _ if next % 8 == 0 => random,
            _ => scaled,
        };
        check(len, None, &mut rng)?;
        Ok(1)
    })
}

fn check(len: usize, wire_len: Option<usize>, rng: &mut Rng) -> Result<(), String> {
    let id = (rng.u8(..), rng.u32(..65_536));
    let container = container(len, rng);
    let expected = response(id, &container, false, 0);
    let wire_len = wire_len.unwrap_or(2 + len + (512 + len) / 511);
    let whole = frame(name(id), &container);
    if framed_len(len) != wire_len || expected.len() != wire_len || whole != expected {
        return Err(format!("a container of {len} is framed wrong"));
    }
    let mut framed = vec![0; wire_len];
    write_header(&mut framed, name(id));
    let mut at = 0;
    while at < len {
        let piece = any_scale(rng, len - at);
        place(&mut framed, at, &container[at..at + piece]);
        at += piece;
    }
    if framed != expected {
        return Err(format!("a container of {len} is framed wrong in pieces"));
    }
    if container_pieces(&whole).flatten().ne(&container) {
        return Err(format!("a container of {len} is taken apart wrong"));
    }
    Ok(())
}
