//! Framing: a container, cut into the blocks of the wire.
//!
//! A *framed response* is the response header and the container, with a *lead* before what each
//! later block holds of it: exactly the bytes of an urgent, unkeyed response. Clients differ in
//! how long header and block are and in what the lead is: [`Framing`]. The one surprise: nothing
//! follows a response that ends exactly on a block's edge (docs/protocol.md, "Framing").
//!
//! The free functions are those of build 550, [`Framing::Marked3`].

use super::GroupId;

/// The wire's unit of most clients, header and lead included. Not the 520-byte sector of the disk.
pub const BLOCK_LEN: usize = 512;

/// The wire's unit of the youngest clients (docs/clients.md).
pub(super) const BLOCK_LEN_LONG: usize = 102_400;

/// Stands before each block of a marked response after the first.
pub const BLOCK_MARKER: u8 = 0xFF;

/// Archive and group, before the container: the header of [`Framing::Marked3`].
pub const RESPONSE_HEADER_LEN: usize = 3;

/// Archive and a group of four bytes: the header of the other framings.
pub const RESPONSE_HEADER_LEN_WIDE: usize = 5;

/// Where the container's compression byte stands in a framed response of [`Framing::Marked3`].
pub const COMPRESSION_AT: usize = RESPONSE_HEADER_LEN;

/// Set in one byte of a response to a prefetch request, or of each of its blocks: see
/// [`Framing::next_mark`].
pub const PREFETCH_BIT: u8 = 0x80;

/// How responses are cut into blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Framing {
    /// A header of 3 bytes; a marker before each later block of 512. Build 550, Old School.
    #[default]
    Marked3,
    /// The same with a header of 5 bytes: builds 718 to 742.
    Marked5,
    /// A header of 5 bytes before each block of 512. Of 831 by one source.
    Multi512,
    /// A header of 5 bytes before each block of 102,400: from 876 on.
    Multi102400,
}

impl Framing {
    /// All of them; the position of each is its number.
    pub const ALL: [Self; 4] = [Self::Marked3, Self::Marked5, Self::Multi512, Self::Multi102400];

    /// A number below four.
    #[inline]
    #[must_use]
    pub const fn number(self) -> usize {
        match self {
            Self::Marked3 => 0,
            Self::Marked5 => 1,
            Self::Multi512 => 2,
            Self::Multi102400 => 3,
        }
    }

    /// What settings call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Marked3 => "marked-3",
            Self::Marked5 => "marked-5",
            Self::Multi512 => "multi-512",
            Self::Multi102400 => "multi-102400",
        }
    }

    /// Whether each block names its response, so that blocks of different ones may alternate.
    #[inline]
    #[must_use]
    pub const fn is_multi(self) -> bool {
        matches!(self, Self::Multi512 | Self::Multi102400)
    }

    /// The bytes of a block, header or lead included.
    #[inline]
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::Multi102400 => BLOCK_LEN_LONG,
            _ => BLOCK_LEN,
        }
    }

    /// The bytes before the container.
    #[inline]
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Marked3 => RESPONSE_HEADER_LEN,
            _ => RESPONSE_HEADER_LEN_WIDE,
        }
    }

    /// The bytes before what each later block holds of the container.
    #[inline]
    #[must_use]
    pub const fn lead_len(self) -> usize {
        if self.is_multi() { RESPONSE_HEADER_LEN_WIDE } else { 1 }
    }

    /// The bytes on the wire of a response whose container has `container_len` bytes.
    #[inline]
    #[must_use]
    pub const fn framed_len(self, container_len: usize) -> usize {
        if container_len == 0 {
            return self.header_len();
        }
        self.wire_offset(container_len.saturating_sub(1)).saturating_add(1)
    }

    /// Where byte `container_offset` of a container stands in its framed response.
    #[inline]
    #[must_use]
    pub const fn wire_offset(self, container_offset: usize) -> usize {
        let bare = container_offset.saturating_add(self.header_len());
        match bare.checked_sub(self.block_len()) {
            None => bare,
            Some(past_first) => {
                let room = self.block_len().saturating_sub(self.lead_len());
                let leads = match past_first.checked_div(room) {
                    Some(leads) => leads.saturating_add(1),
                    None => 1,
                };
                bare.saturating_add(leads.saturating_mul(self.lead_len()))
            }
        }
    }

    /// Writes the response header to the start of `framed`. A shorter slice is left as it is.
    #[inline]
    pub fn write_header(self, framed: &mut [u8], id: GroupId) {
        let [a, b, high, low] = id.group.to_be_bytes();
        if self == Self::Marked3 {
            if let Some(header) = framed.first_chunk_mut() {
                *header = [id.archive, high, low];
            }
        } else if let Some(header) = framed.first_chunk_mut() {
            *header = [id.archive, a, b, high, low];
        }
    }

    /// Writes `bytes`, which stand at `container_offset` in the container, to their places in the
    /// framed response, whose header is written, with the lead before each block that they begin.
    /// What does not fit into `framed` is left out.
    #[inline]
    pub fn place(self, framed: &mut [u8], container_offset: usize, bytes: &[u8]) {
        let (block_len, lead_len) = (self.block_len(), self.lead_len());
        let mut at = self.wire_offset(container_offset);
        let mut rest = bytes;
        // The lead belongs to the first byte of its block, which stands right behind it.
        let in_block = |at: usize| at.checked_rem(block_len).unwrap_or_default();
        if in_block(at) == lead_len && at > block_len {
            self.write_lead(framed, at.saturating_sub(lead_len));
        }
        while !rest.is_empty() {
            let room = block_len.saturating_sub(in_block(at));
            let (piece, later) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            let end = at.saturating_add(piece.len());
            match framed.get_mut(at..end) {
                Some(to) => to.copy_from_slice(piece),
                None => return,
            }
            rest = later;
            at = end;
            if !rest.is_empty() {
                self.write_lead(framed, at);
                at = at.saturating_add(lead_len);
            }
        }
    }

    #[inline]
    fn write_lead(self, framed: &mut [u8], at: usize) {
        if self.is_multi() {
            let header = framed.first_chunk().copied();
            let lead = framed.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            if let (Some::<[u8; RESPONSE_HEADER_LEN_WIDE]>(header), Some(lead)) = (header, lead) {
                *lead = header;
            }
        } else if let Some(marker) = framed.get_mut(at) {
            *marker = BLOCK_MARKER;
        }
    }

    /// The first byte of a framed response that [`Self::next_mark`] names: of one that fits into a
    /// block the only one.
    #[inline]
    #[must_use]
    pub const fn first_mark(self) -> usize {
        match self {
            Self::Marked3 => RESPONSE_HEADER_LEN,
            Self::Marked5 => RESPONSE_HEADER_LEN_WIDE,
            Self::Multi512 | Self::Multi102400 => 1,
        }
    }

    /// The first byte at or behind `at` of a framed response in which a response to a prefetch
    /// has [`PREFETCH_BIT`]: the container's compression byte, or the highest byte of the group
    /// in each block's header.
    #[inline]
    #[must_use]
    pub const fn next_mark(self, at: usize) -> Option<usize> {
        if self.is_multi() {
            // The second byte of its block.
            let block = at.saturating_sub(1).div_ceil(self.block_len());
            return Some(block.saturating_mul(self.block_len()).saturating_add(1));
        }
        let mark = self.first_mark();
        if at <= mark { Some(mark) } else { None }
    }

    /// Sets the prefetch bit wherever `piece` has a byte for it, which stands at `at` in its
    /// framed response. Under a key, too: the bit is clear in every framed response.
    #[inline]
    pub fn mark(self, piece: &mut [u8], at: usize) {
        if self.is_multi() && at.saturating_add(piece.len()) > self.block_len() {
            return self.mark_blocks(piece, at);
        }
        // Before the piece, it wraps: no piece is so long.
        if let Some(byte) = piece.get_mut(self.first_mark().wrapping_sub(at)) {
            *byte ^= PREFETCH_BIT;
        }
    }

    #[inline(never)]
    fn mark_blocks(self, piece: &mut [u8], at: usize) {
        let mut from = at;
        while let Some(mark) = self.next_mark(from)
            && let Some(byte) = piece.get_mut(mark.saturating_sub(at))
        {
            *byte ^= PREFETCH_BIT;
            from = mark.saturating_add(1);
        }
    }

    /// The container's bytes in a framed response, block by block, without headers and leads.
    pub fn container_pieces(self, framed: &[u8]) -> impl Iterator<Item = &[u8]> {
        framed.chunks(self.block_len()).enumerate().filter_map(move |(block, bytes)| {
            bytes.get(if block == 0 { self.header_len() } else { self.lead_len() }..)
        })
    }

    /// The framed response to a request for `id` with this container. For tests and small things;
    /// the catalog frames in place.
    #[must_use]
    pub fn frame(self, id: GroupId, container: &[u8]) -> Vec<u8> {
        let mut framed = vec![0; self.framed_len(container.len())];
        self.write_header(&mut framed, id);
        self.place(&mut framed, 0, container);
        framed
    }
}

impl std::fmt::Display for Framing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The bytes on the wire of a response whose container has `container_len` bytes.
#[must_use]
pub const fn framed_len(container_len: usize) -> usize {
    Framing::Marked3.framed_len(container_len)
}

/// Where byte `container_offset` of a container stands in its framed response.
#[must_use]
pub const fn wire_offset(container_offset: usize) -> usize {
    Framing::Marked3.wire_offset(container_offset)
}

/// Writes the response header to the start of `framed`. A shorter slice is left as it is.
pub fn write_header(framed: &mut [u8], id: GroupId) {
    Framing::Marked3.write_header(framed, id);
}

/// As [`Framing::place`].
pub fn place(framed: &mut [u8], container_offset: usize, bytes: &[u8]) {
    Framing::Marked3.place(framed, container_offset, bytes);
}

/// As [`Framing::container_pieces`].
pub fn container_pieces(framed: &[u8]) -> impl Iterator<Item = &[u8]> {
    Framing::Marked3.container_pieces(framed)
}

/// As [`Framing::frame`].
#[must_use]
pub fn frame(id: GroupId, container: &[u8]) -> Vec<u8> {
    Framing::Marked3.frame(id, container)
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

    /// Each framing in the words of docs/clients.md, one byte at a time.
    fn slow(framing: Framing, id: GroupId, container: &[u8]) -> Vec<u8> {
        let (archive, group) = (id.archive, id.group);
        let short = vec![archive, (group >> 8) as u8, group as u8];
        let long = [&[archive][..], &group.to_be_bytes()].concat();
        let (mut wire, lead, block) = match framing {
            Framing::Marked3 => (short, vec![0xFF], 512),
            Framing::Marked5 => (long, vec![0xFF], 512),
            Framing::Multi512 => (long.clone(), long, 512),
            Framing::Multi102400 => (long.clone(), long, 102_400),
        };
        for &byte in container {
            if wire.len() % block == 0 {
                wire.extend(&lead);
            }
            wire.push(byte);
        }
        wire
    }

    const WIDE: GroupId = GroupId { archive: 5, group: 0x0001_0203 };

    #[test]
    fn the_edges_of_each_framing_are_as_by_hand() {
        let run = |count| vec![0xAA; count];
        let head = [5, 0, 1, 2, 3];
        let cases: &[(Framing, usize, Vec<u8>)] = &[
            (Framing::Marked5, 507, [&head[..], &run(507)].concat()),
            (Framing::Marked5, 508, [&head[..], &run(507), &[0xFF, 0xAA]].concat()),
            (Framing::Marked5, 1018, [&head[..], &run(507), &[0xFF], &run(511)].concat()),
            (
                Framing::Marked5,
                1019,
                [&head[..], &run(507), &[0xFF], &run(511), &[0xFF, 0xAA]].concat(),
            ),
            (Framing::Multi512, 507, [&head[..], &run(507)].concat()),
            (Framing::Multi512, 508, [&head[..], &run(507), &head, &run(1)].concat()),
            (Framing::Multi512, 1014, [&head[..], &run(507), &head, &run(507)].concat()),
            (
                Framing::Multi512,
                1015,
                [&head[..], &run(507), &head, &run(507), &head, &run(1)].concat(),
            ),
            (Framing::Multi102400, 102_395, [&head[..], &run(102_395)].concat()),
            (Framing::Multi102400, 102_396, [&head[..], &run(102_395), &head, &run(1)].concat()),
            (
                Framing::Multi102400,
                204_791,
                [&head[..], &run(102_395), &head, &run(102_395), &head, &run(1)].concat(),
            ),
        ];
        for (framing, len, wire) in cases {
            assert_eq!(&framing.frame(WIDE, &run(*len)), wire, "{framing} of {len}");
        }
    }

    /// CLIENTS.md gives the lengths by formula: `n + h + (n + h - 2) / 511` with markers,
    /// `n + 5 * ceil(n / (B - 5))` with headers.
    #[test]
    fn lengths_around_every_edge_are_those_of_the_formula() {
        let near = (5..1_600).chain(102_380..102_410).chain(204_770..204_800);
        for n in near.chain([307_184, 307_185, 307_186_usize]) {
            let by_formula = |framing| match framing {
                Framing::Marked3 => n + 3 + (n + 1) / 511,
                Framing::Marked5 => n + 5 + (n + 3) / 511,
                Framing::Multi512 => n + 5 * n.div_ceil(507),
                Framing::Multi102400 => n + 5 * n.div_ceil(102_395),
            };
            for framing in Framing::ALL {
                let len = framing.framed_len(n);
                assert_eq!(len, by_formula(framing), "{framing} of {n}");
                assert_eq!(framing.wire_offset(n - 1), len - 1, "{framing} of {n}");
            }
        }
    }

    #[test]
    fn every_framing_places_pieces_as_one_byte_at_a_time() {
        let lengths = if cfg!(miri) {
            vec![5, 507, 508, 1_015]
        } else {
            vec![
                5, 507, 508, 509, 510, 513, 1_018, 1_025, 5_000, 102_391, 102_396, 204_785, 307_186,
            ]
        };
        let mut random = fastrand::Rng::with_seed(18);
        for (framing, len) in
            Framing::ALL.into_iter().flat_map(|f| lengths.iter().map(move |&l| (f, l)))
        {
            let container = sample(len);
            let expected = slow(framing, WIDE, &container);
            assert_eq!(framing.frame(WIDE, &container), expected, "{framing} of {len}");
            let pieces = framing.container_pieces(&expected).collect::<Vec<_>>().concat();
            assert!(pieces == container, "{framing} of {len} is read back");
            let mut framed = vec![0; framing.framed_len(len)];
            framing.write_header(&mut framed, WIDE);
            let mut at = 0;
            while at < len {
                let end = len.min(at + random.usize(1..=len.min(70_000)));
                framing.place(&mut framed, at, &container[at..end]);
                at = end;
            }
            assert!(framed == expected, "{framing} of {len} in pieces");
        }
    }

    #[test]
    fn the_mark_stands_where_each_client_looks_for_it() {
        let container = vec![0; 204_791];
        for framing in Framing::ALL {
            let plain = framing.frame(WIDE, &container);
            let mut marked = plain.clone();
            framing.mark(&mut marked, 0);
            let places: Vec<_> = (0..plain.len()).filter(|&at| plain[at] != marked[at]).collect();
            let expected: Vec<_> = match framing {
                Framing::Marked3 => vec![3],
                Framing::Marked5 => vec![5],
                Framing::Multi512 => (0..404).map(|block| block * 512 + 1).collect(),
                Framing::Multi102400 => vec![1, 102_401, 204_801],
            };
            assert_eq!(places, expected, "{framing}");
            assert!(places.iter().all(|&at| marked[at] == plain[at] | 0x80), "{framing}");
            // In pieces, as outputs take them.
            for size in [1, 2, 511, 512, 513, 100_000] {
                let mut pieces = plain.clone();
                for (number, piece) in pieces.chunks_mut(size).enumerate() {
                    framing.mark(piece, number * size);
                }
                assert!(pieces == marked, "{framing} in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_key_is_applied_to_every_byte() {
        let mut out = vec![9];
        append_keyed(&mut out, &[0, 1, 0xFF], 0x55);
        append_keyed(&mut out, &[7, 8], 0);
        assert_eq!(out, [9, 0x55, 0x54, 0xAA, 7, 8]);
    }
}
