//! Containers: golden ones packed by other programs (CPython's bz2, gzip and lzma modules), and
//! ones that lie.

use super::*;

const TEXT: &[u8] = b"JS5 JS5 JS5 JS5 JS5 JS5 end";

const BZIP2: &str = "314159265359068fd4b50000061f00400002000010080006012000212464d0860304c51a20\
                     aedf177245385090068fd4b5";
const GZIP: &str = "1f8b0800000000000003f30a3655f0c28253f3520024c6864d1b000000";
const LZMA: &str = "5d00000100002514c2a062a72fe91b4f83d323ffffdf290000";

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn container(kind: u8, hex: &str, uncompressed_len: u32) -> Vec<u8> {
    let data = unhex(hex);
    let mut bytes = vec![kind];
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(uncompressed_len.to_be_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn containers_of_other_packers_are_unpacked_and_their_trailers_left_alone() {
    for (kind, hex) in [(1, BZIP2), (2, GZIP), (3, LZMA)] {
        let mut bytes = container(kind, hex, 27);
        let header = ContainerHeader::parse(&bytes).unwrap();
        assert_eq!((header.header_len(), header.container_len()), (9, bytes.len()));
        bytes.extend([0x12, 0x34]);
        assert_eq!(decompress(&bytes, 27).unwrap(), TEXT, "compression {kind}");
    }
    let plain = [0, 0, 0, 0, 2, 0xAA, 0xBB, 0x12, 0x34];
    assert_eq!(ContainerHeader::parse(&plain).unwrap().container_len(), 7);
    assert_eq!(decompress(&plain, 2).unwrap(), [0xAA, 0xBB]);
}

#[test]
fn a_claimed_length_that_is_not_met_exactly_is_refused() {
    for (kind, hex) in [(1, BZIP2), (2, GZIP), (3, LZMA)] {
        for claimed in [0, 26, 28, 5000] {
            let error = decompress(&container(kind, hex, claimed), 5000);
            assert!(error.is_err(), "compression {kind}, {claimed} claimed: {error:?}");
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_claim_and_by_its_bytes() {
    let len_max = if cfg!(miri) { 16 << 10 } else { 1 << 20 };
    let claimed = 4 * len_max;
    let bomb = compress(Compression::Gzip, &vec![0; claimed]).unwrap();
    assert_eq!(
        decompress(&bomb, len_max),
        Err(ContainerError::TooLong { claimed, len_max }),
        "honest about its length"
    );
    let mut liar = bomb;
    liar[5..9].copy_from_slice(&1000_u32.to_be_bytes());
    let expected = ContainerError::WrongLength { claimed: 1000, found: 1000, longer: true };
    assert_eq!(decompress(&liar, len_max), Err(expected), "no more than claimed is unpacked");
}

#[test]
fn an_lzma_stream_cannot_ask_for_a_dictionary_beyond_its_payload() {
    let mut bytes = container(3, LZMA, 27);
    bytes[10..14].copy_from_slice(&[0xFF; 4]);
    assert_eq!(decompress(&bytes, 27).unwrap(), TEXT);
}

#[test]
fn headers_that_lie_are_named() {
    let cases: [(&[u8], ContainerError); 7] = [
        (&[], ContainerError::Truncated { needed: 5, found: 0 }),
        (&[0, 0, 0, 0], ContainerError::Truncated { needed: 5, found: 4 }),
        (&[2, 0, 0, 0, 9, 0], ContainerError::Truncated { needed: 18, found: 6 }),
        (&[4, 0, 0, 0, 1, 0], ContainerError::UnknownCompression(4)),
        (
            &[0, 0xFF, 0xFF, 0xFF, 0xFF],
            ContainerError::NegativeLength { field: "compressed", value: -1 },
        ),
        (
            &[1, 0, 0, 0, 1, 0x80, 0, 0, 0, 0],
            ContainerError::NegativeLength { field: "uncompressed", value: i32::MIN },
        ),
        (&[0, 0, 0, 0, 3, 1, 2], ContainerError::Truncated { needed: 8, found: 7 }),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decompress(bytes, 1000), Err(expected), "{bytes:?}");
    }
    let longest = [2, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1];
    assert_eq!(ContainerHeader::parse(&longest).unwrap().container_len(), 0x8000_0008);
}

#[test]
fn a_header_is_the_first_five_bytes_whatever_follows() {
    // What an encrypted group looks like: no length behind the first one, and none needed.
    for behind in [&[0xFF; 8][..], &[0x80, 0, 0, 0], &[0; 4], &[]] {
        for (byte, compression, header_len) in [
            (0, Compression::None, 5),
            (1, Compression::Bzip2, 9),
            (2, Compression::Gzip, 9),
            (3, Compression::Lzma, 9),
        ] {
            let bytes = [&[byte, 0, 0, 1, 4], behind].concat();
            let header = ContainerHeader { compression, compressed_len: 260 };
            assert_eq!(ContainerHeader::parse(&bytes), Ok(header), "{bytes:?}");
            assert_eq!(header.container_len(), header_len + 260);
        }
        let bytes = [&[4, 0, 0, 1, 4], behind].concat();
        assert_eq!(ContainerHeader::parse(&bytes), Err(ContainerError::UnknownCompression(4)));
    }
}

#[test]
fn every_cut_and_every_changed_byte_is_survived() {
    let step = if cfg!(miri) { 5 } else { 1 };
    for (kind, hex) in [(1, BZIP2), (2, GZIP), (3, LZMA)] {
        let bytes = container(kind, hex, 27);
        for len in (0..bytes.len()).step_by(step) {
            assert!(decompress(&bytes[..len], 1000).is_err(), "compression {kind} cut at {len}");
        }
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x15;
            // Some bytes (gzip's time) mean nothing; whatever comes out has the claimed length.
            if let Ok(payload) = decompress(&changed, 1000) {
                assert_eq!(payload.len(), 27, "compression {kind}, byte {at}");
            }
        }
    }
}

#[test]
fn what_is_packed_is_unpacked() {
    let len: u64 = if cfg!(miri) { 300 } else { 200_000 };
    let payload: Vec<u8> = (0..len).map(|i| ((i * i) >> 7) as u8).collect();
    for compression in [Compression::None, Compression::Bzip2, Compression::Gzip, Compression::Lzma]
    {
        for payload in [&payload[..], &payload[..1], &[]] {
            let container = compress(compression, payload).unwrap();
            assert_eq!(container[0], compression.byte());
            assert_eq!(decompress(&container, 200_000).unwrap(), payload, "{compression}");
        }
    }
}
