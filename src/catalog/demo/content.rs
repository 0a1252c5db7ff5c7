//! Containers of a wanted length whose data really unpacks, and such that look encrypted.
//!
//! gzip is written here and not by a library, because then its length comes out exact, fifty
//! megabytes take no time, and the bytes do not change with the library.

use crate::protocol::container::{Compression, ContainerHeader, compress};
use fastrand::Rng;

/// The longest stored deflate block.
const STORED_LEN_MAX: usize = 65_535;
/// What a stored deflate block has before its bytes, where a byte begins.
const STORED_HEADER_LEN: usize = 5;
/// Magic, method 8, no flags, no time, no hints, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// CRC-32 and length.
const GZIP_TRAILER_LEN: usize = 8;
/// The longest match of deflate.
const MATCH_LEN: usize = 258;

/// The byte that the compressible part of a gzip payload consists of.
const FILLER: u8 = b'5';

/// The shortest container of each compression that [`container`] makes.
pub(super) const fn len_min(compression: Compression) -> usize {
    match compression {
        Compression::None => 6,
        Compression::Bzip2 => 42,
        // Headers, trailer, and a block of one literal.
        Compression::Gzip => 9 + GZIP_HEADER.len() + 3 + GZIP_TRAILER_LEN,
        Compression::Lzma => usize::MAX,
    }
}

/// Appends a container of `len` bytes to `out`; with bzip2 it is a few percent off.
pub(super) fn container(out: &mut Vec<u8>, compression: Compression, len: usize, rng: &mut Rng) {
    let data_len = data_len(compression, len);
    match compression {
        Compression::None => {
            out.push(compression.byte());
            out.extend((data_len as u32).to_be_bytes());
            random(out, data_len, rng);
        }
        Compression::Gzip => gzip(out, data_len, rng),
        Compression::Bzip2 | Compression::Lzma => {
            // Half a byte a letter of sixteen, a little more for the tables, and 42 bytes that
            // each stream has: measured with level 1 from 50 bytes to 50 KB.
            let letters = data_len.saturating_sub(42) * 1000 / 513;
            let payload: Vec<u8> = (0..letters.max(1)).map(|_| rng.u8(b'a'..=b'p')).collect();
            out.extend(compress(compression, &payload).unwrap_or_default());
        }
    }
}

/// Appends a container of `len` bytes whose bytes from the fifth on look encrypted: random ones,
/// the uncompressed length included.
pub(super) fn encrypted(out: &mut Vec<u8>, compression: Compression, len: usize, rng: &mut Rng) {
    let data_len = data_len(compression, len) as u32;
    out.push(compression.byte());
    out.extend(data_len.to_be_bytes());
    random(out, len - 5, rng);
}

/// The bytes behind the header of a container of `len` bytes.
fn data_len(compression: Compression, len: usize) -> usize {
    len - ContainerHeader { compression, compressed_len: 0 }.header_len()
}

fn random(out: &mut Vec<u8>, len: usize, rng: &mut Rng) {
    let start = out.len();
    out.resize(start + len, 0);
    rng.fill(&mut out[start..]);
}

/// Appends a gzip container whose data has `data_len` bytes: random ones in stored blocks, then
/// a run in a compressed block, so that it unpacks to about twice its length.
fn gzip(out: &mut Vec<u8>, data_len: usize, rng: &mut Rng) {
    let deflate_len = data_len - GZIP_HEADER.len() - GZIP_TRAILER_LEN;
    let matches = deflate_len / (MATCH_LEN + 2);
    let mut left = deflate_len - run_block_len(1, matches);
    // What is too short for a stored block becomes literals, a byte each.
    let literals = if left < STORED_HEADER_LEN { 1 + std::mem::take(&mut left) } else { 1 };

    let blocks = left.div_ceil(STORED_LEN_MAX + STORED_HEADER_LEN);
    let stored_len = left - blocks * STORED_HEADER_LEN;
    let run_len = literals + matches * MATCH_LEN;
    out.push(Compression::Gzip.byte());
    out.extend((data_len as u32).to_be_bytes());
    out.extend(((stored_len + run_len) as u32).to_be_bytes());
    out.extend(GZIP_HEADER);
    let mut hasher = crc32fast::Hasher::new();
    for block in 0..blocks {
        // The last block may be left with nothing; an empty one is sound.
        let len = stored_len.saturating_sub(block * STORED_LEN_MAX).min(STORED_LEN_MAX);
        let [low, high] = (len as u16).to_le_bytes();
        out.extend([0, low, high, !low, !high]);
        let start = out.len();
        random(out, len, rng);
        hasher.update(&out[start..]);
    }
    run_block(out, literals, matches);
    hasher.update(&vec![FILLER; run_len]);
    out.extend(hasher.finalize().to_le_bytes());
    out.extend(((stored_len + run_len) as u32).to_le_bytes());
}

/// The length of [`run_block`]: three bits of header, eight a literal, thirteen a match, seven
/// for the end.
const fn run_block_len(literals: usize, matches: usize) -> usize {
    (3 + 8 * literals + 13 * matches + 7).div_ceil(8)
}

/// Appends the last deflate block, with fixed Huffman codes (RFC 1951, 3.2.6): `literals` times
/// the filler, then `matches` times the longest match at distance 1.
fn run_block(out: &mut Vec<u8>, literals: usize, matches: usize) {
    let mut bits = Bits { out, held: 0, count: 0 };
    bits.put(0b011, 3); // the last block; fixed codes
    for _ in 0..literals {
        bits.put(u32::from((FILLER + 0x30).reverse_bits()), 8);
    }
    for _ in 0..matches {
        // Length code 285 is 11000101; distance code 0 is 00000.
        bits.put(u32::from(0b1100_0101_u8.reverse_bits()), 8 + 5);
    }
    bits.put(0, 7 + 7); // the end of the block, and zeros up to the next byte
}

/// Appends bits, the lowest first.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn put(&mut self, bits: u32, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }
}
