//! Framing: a container, cut into the blocks of the wire.
//!
//! A *framed response* is the 3-byte header and the container with a marker before each block
//! after the first: exactly the bytes of an urgent, unkeyed response. The one surprise: the
//! first block holds 509 bytes of the container, each later one 511, and nothing follows a
//! response that ends exactly on a block's edge (docs/protocol.md, "Framing").

use super::GroupId;

/// The wire's unit, header and marker included. Not the 520-byte sector of the disk.
pub const BLOCK_LEN: usize = 512;

/// Stands before each block of a response after the first.
pub const BLOCK_MARKER: u8 = 0xFF;

/// Archive and group, before the container.
pub const RESPONSE_HEADER_LEN: usize = 3;

/// Where the container's compression byte stands in a framed response.
pub const COMPRESSION_AT: usize = RESPONSE_HEADER_LEN;

/// Set in the compression byte of a response to a prefetch request.
pub const PREFETCH_BIT: u8 = 0x80;

/// The bytes on the wire of a response whose container has `container_len` bytes.
#[must_use]
pub const fn framed_len(container_len: usize) -> usize {
    if container_len == 0 {
        return RESPONSE_HEADER_LEN;
    }
    wire_offset(container_len.saturating_sub(1)).saturating_add(1)
}

/// Where byte `container_offset` of a container stands in its framed response.
#[must_use]
pub const fn wire_offset(container_offset: usize) -> usize {
    let unmarked = container_offset.saturating_add(RESPONSE_HEADER_LEN);
    match unmarked.checked_sub(BLOCK_LEN) {
        None => unmarked,
        Some(past_first) => {
            let markers = (past_first / (BLOCK_LEN - 1)).saturating_add(1);
            unmarked.saturating_add(markers)
        }
    }
}

/// Writes the response header to the start of `framed`. A shorter slice is left as it is.
pub fn write_header(framed: &mut [u8], id: GroupId) {
    if let Some(header) = framed.first_chunk_mut::<RESPONSE_HEADER_LEN>() {
        let [high, low] = id.group.to_be_bytes();
        *header = [id.archive, high, low];
    }
}

/// Writes `bytes`, which stand at `container_offset` in the container, to their places in the
/// framed response, with the marker before each block that they begin. What does not fit into
/// `framed` is left out.
pub fn place(framed: &mut [u8], container_offset: usize, bytes: &[u8]) {
    let mut at = wire_offset(container_offset);
    let mut rest = bytes;
    // The marker belongs to the first byte of its block, which stands right behind it.
    if at % BLOCK_LEN == 1
        && at > BLOCK_LEN
        && let Some(marker) = framed.get_mut(at.saturating_sub(1))
    {
        *marker = BLOCK_MARKER;
    }
    while !rest.is_empty() {
        let room = BLOCK_LEN.saturating_sub(at % BLOCK_LEN);
        let (piece, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        let end = at.saturating_add(piece.len());
        match framed.get_mut(at..end) {
            Some(to) => to.copy_from_slice(piece),
            None => return,
        }
        rest = later;
        at = end;
        if !rest.is_empty() {
            match framed.get_mut(at) {
                Some(marker) => *marker = BLOCK_MARKER,
                None => return,
            }
            at = at.saturating_add(1);
        }
    }
}

/// The container's bytes in a framed response, block by block, without header and markers.
pub fn container_pieces(framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    framed
        .chunks(BLOCK_LEN)
        .enumerate()
        .filter_map(|(block, bytes)| bytes.get(if block == 0 { RESPONSE_HEADER_LEN } else { 1 }..))
}

/// The framed response to a request for `id` with this container. For tests and small things;
/// the catalog frames in place.
#[must_use]
pub fn frame(id: GroupId, container: &[u8]) -> Vec<u8> {
    let mut framed = vec![0; framed_len(container.len())];
    write_header(&mut framed, id);
    place(&mut framed, 0, container);
    framed
}

/// Appends `bytes`, XORed with `key`, to `out`. Key 0 copies.
pub fn append_keyed(out: &mut Vec<u8>, bytes: &[u8], key: u8) {
    if key == 0 {
        out.extend_from_slice(bytes);
    } else {
        // A plain map over a slice: the compiler turns it into vector instructions.
        out.extend(bytes.iter().map(|byte| byte ^ key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: GroupId = GroupId { archive: 2, group: 3 };

    /// The protocol's own words, one byte at a time.
    fn slow_frame(id: GroupId, container: &[u8]) -> Vec<u8> {
        let mut wire = vec![id.archive, (id.group >> 8) as u8, id.group as u8];
        for &byte in container {
            if wire.len() % 512 == 0 {
                wire.push(0xFF);
            }
            wire.push(byte);
        }
        wire
    }

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    #[test]
    fn every_length_to_4096_is_framed_as_the_slow_model_does() {
        // Miri has time for the edges of the first blocks and some lengths between them.
        let under_miri = |len: usize| len < 2100 && (len % 511 > 508 || len % 409 < 2);
        let lens = (1..=4096).filter(|&len| !cfg!(miri) || under_miri(len));
        for len in lens {
            let container = sample(len);
            let expected = slow_frame(ID, &container);
            assert_eq!(frame(ID, &container), expected, "container of {len}");
            assert_eq!(framed_len(len), expected.len());
            assert_eq!(framed_len(len), 2 + len + (512 + len) / 511, "the contract's formula");
            let back: Vec<u8> = container_pieces(&expected).flatten().copied().collect();
            assert_eq!(back, container);
        }
    }

    #[test]
    fn no_marker_follows_a_response_that_ends_on_a_blocks_edge() {
        let cases =
            [(509, 512), (510, 514), (1020, 1024), (1021, 1026), (1531, 1536), (1532, 1538)];
        for (container, wire) in cases {
            assert_eq!(framed_len(container), wire);
        }
    }

    #[test]
    fn hand_written_responses_come_out_exact() {
        let run = |byte: u8, count: usize| vec![byte; count];
        // A container of 9 bytes, and the edges of the first and the second block.
        let cases: [(Vec<u8>, Vec<u8>); 5] = [
            (
                vec![0, 0, 0, 0, 4, 0xDE, 0xAD, 0xBE, 0xEF],
                vec![2, 0, 3, 0, 0, 0, 0, 4, 0xDE, 0xAD, 0xBE, 0xEF],
            ),
            (run(0xAA, 509), [vec![2, 0, 3], run(0xAA, 509)].concat()),
            (run(0xAA, 510), [vec![2, 0, 3], run(0xAA, 509), vec![0xFF, 0xAA]].concat()),
            (run(0xAA, 1020), [vec![2, 0, 3], run(0xAA, 509), vec![0xFF], run(0xAA, 511)].concat()),
            (
                run(0xAA, 1021),
                [vec![2, 0, 3], run(0xAA, 509), vec![0xFF], run(0xAA, 511), vec![0xFF, 0xAA]]
                    .concat(),
            ),
        ];
        for (container, wire) in cases {
            assert_eq!(frame(ID, &container), wire, "container of {}", container.len());
        }
    }

    #[test]
    fn pieces_of_any_size_are_placed_as_one() {
        let container = sample(5000);
        let expected = slow_frame(ID, &container);
        for size in [1, 2, 3, 508, 509, 510, 511, 512, 513, 1020, 4999] {
            let mut framed = vec![0; framed_len(container.len())];
            write_header(&mut framed, ID);
            for (i, piece) in container.chunks(size).enumerate() {
                place(&mut framed, i * size, piece);
            }
            assert_eq!(framed, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut framed = vec![0; 100];
        place(&mut framed, 90, &[1; 50]);
        place(&mut framed, usize::MAX, &[1]);
        assert_eq!(framed, vec![0; 100]);
    }

    #[test]
    fn a_key_is_applied_to_every_byte() {
        let mut out = vec![9];
        append_keyed(&mut out, &[0, 1, 0xFF], 0x55);
        append_keyed(&mut out, &[7, 8], 0);
        assert_eq!(out, [9, 0x55, 0x54, 0xAA, 7, 8]);
    }
}
