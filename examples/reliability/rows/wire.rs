//! The wire by the words of docs/protocol.md, one byte at a time: what the rows compare with.
//!
//! Shares no code with `js5d::protocol`, on purpose; slow, on purpose.

use fastrand::Rng;

/// A response as it goes out: header, container with the prefetch bit, markers, key.
pub(super) fn response(id: (u8, u32), container: &[u8], prefetch_bit: bool, key: u8) -> Vec<u8> {
    let mut wire = vec![id.0, (id.1 >> 8) as u8, (id.1 & 0xFF) as u8];
    for (place, &byte) in container.iter().enumerate() {
        if wire.len() % 512 == 0 {
            wire.push(0xFF);
        }
        let bit = if place == 0 && prefetch_bit { 0x80 } else { 0 };
        wire.push(byte | bit);
    }
    wire.iter_mut().for_each(|byte| *byte ^= key);
    wire
}

/// A container of exactly `len` bytes, whose type and length are right if there is room for a
/// header. What follows them is at random, as if it were encrypted.
pub(super) fn container(len: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
    let compression = if len < 9 { 0 } else { rng.u8(0..4) };
    let header_len = if compression == 0 { 5 } else { 9 };
    if len >= header_len {
        bytes[0] = compression;
        let data_len = u32::try_from(len - header_len).expect("small");
        bytes[1..5].copy_from_slice(&data_len.to_be_bytes());
    }
    bytes
}

/// The name of a group in a message.
pub(super) fn name(id: (u8, u32)) -> js5d::protocol::GroupId {
    js5d::protocol::GroupId { archive: id.0, group: id.1 }
}

/// A length below `max`, small ones as likely as large ones; at least 1.
pub(super) fn any_scale(rng: &mut Rng, max: usize) -> usize {
    let bits = max.next_power_of_two().trailing_zeros();
    let scale = 1 << rng.u32(0..=bits);
    rng.usize(1..=scale).min(max)
}
