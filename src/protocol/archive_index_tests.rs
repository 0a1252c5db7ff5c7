//! Archive indexes: golden ones written by hand, and each way to lie.

use super::*;

fn ids(index: &ArchiveIndex) -> Vec<u32> {
    index.groups.iter().map(|group| group.id).collect()
}

/// Format 5, no flags: groups 3 and 5, the second with two files.
const PLAIN: [u8; 34] = [
    5, 0, // format, flags
    0, 2, // count
    0, 3, 0, 2, // ids 3, 5
    1, 2, 3, 4, 0xFE, 0xDC, 0xBA, 0x98, // checksums
    0, 0, 0, 7, 0, 1, 0, 2, // versions 7, 65538
    0, 1, 0, 2, // file counts
    0, 0, 0, 4, 0, 5, // file ids 0; 4, 9
];

#[test]
fn format_5_is_decoded() {
    let index = ArchiveIndex::decode(&PLAIN).unwrap();
    assert_eq!((index.format, index.version, index.flags, index.trailing_len), (5, 0, 0, 0));
    assert_eq!(ids(&index), [3, 5]);
    assert_eq!([index.groups[0].crc, index.groups[1].crc], [0x0102_0304, 0xFEDC_BA98]);
    assert_eq!([index.groups[0].version, index.groups[1].version], [7, 65538]);
    assert_eq!([index.groups[0].file_count, index.groups[1].file_count], [1, 2]);
}

/// Format 7, all flags, one group with a wide id and two files, one of them with a wide id.
fn everything() -> Vec<u8> {
    let mut bytes = vec![7, 0, 0, 1, 0x2C, 15]; // format, version 300, flags
    bytes.extend([0, 1, 0x80, 1, 0, 4]); // count, id 65540
    bytes.extend([0x80, 0, 0, 0]); // name hash
    bytes.extend([9, 8, 7, 6]); // checksum
    bytes.extend([5, 4, 3, 2]); // uncompressed checksum
    bytes.extend([0xD1; 64]); // digest
    bytes.extend([0, 0, 0, 100, 0, 0, 1, 0]); // lengths
    bytes.extend([0, 0, 0x27, 0x10]); // version 10000
    bytes.extend([0, 2, 0, 6, 0x80, 0, 0xC0, 0]); // file count, file ids 6 and 49158
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]); // file name hashes
    bytes
}

#[test]
fn format_7_with_every_column_is_decoded() {
    let mut bytes = everything();
    bytes.extend([1, 2, 3]);
    let index = ArchiveIndex::decode(&bytes).unwrap();
    let expected = ArchiveIndex {
        format: 7,
        version: 300,
        flags: 15,
        groups: vec![IndexEntry {
            id: 65540,
            crc: 0x0908_0706,
            version: 10_000,
            file_count: 2,
            name_hash: i32::MIN,
            uncompressed_crc: 0x0504_0302,
            lengths: [100, 256],
            digest: Some(Box::new([0xD1; 64])),
        }],
        trailing_len: 3,
        repeated_count: 0,
    };
    assert_eq!(index, expected);
}

#[test]
fn every_cut_is_refused_and_names_the_column() {
    for bytes in [PLAIN.to_vec(), everything()] {
        for len in 0..bytes.len() {
            let error = ArchiveIndex::decode(&bytes[..len]).unwrap_err();
            let ArchiveIndexError::Truncated { offset, len: told, .. } = error else {
                panic!("cut at {len}: {error}");
            };
            assert!(offset <= len && told == len, "cut at {len}: {error}");
        }
    }
    let error = ArchiveIndex::decode(&PLAIN[..14]).unwrap_err();
    assert_eq!(error, ArchiveIndexError::Truncated { column: "checksums", offset: 8, len: 14 });
}

#[test]
fn what_cannot_be_is_refused() {
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = PLAIN.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        ArchiveIndex::decode(&changed).unwrap_err()
    };
    assert_eq!(with(0, &[4]), ArchiveIndexError::UnknownFormat(4));
    assert_eq!(with(0, &[8]), ArchiveIndexError::UnknownFormat(8));

    let wide = [7, 0, 0, 0, 0, 0, 0, 3, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 2];
    let column = "group ids";
    assert_eq!(
        ArchiveIndex::decode(&wide),
        Err(ArchiveIndexError::Overflow { column, position: 2 })
    );
}

/// A build 550 client reads each of these.
#[test]
fn what_no_client_checks_is_accepted() {
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = PLAIN.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        ArchiveIndex::decode(&changed).unwrap()
    };
    let plain = ArchiveIndex::decode(&PLAIN).unwrap();
    let flagged = with(1, &[0x90]);
    assert_eq!(flagged.flags & !FLAGS_KNOWN, 0x90);
    assert_eq!(flagged.groups, plain.groups);
    assert_eq!(with(32, &[0, 0]), plain, "file 4 twice");
    let twice = with(6, &[0, 0]);
    assert_eq!((ids(&twice), twice.repeated_count), (vec![3], 1));
    assert_eq!((twice.groups[0].crc, twice.groups[0].version), (0xFEDC_BA98, 65538), "the last");
}

#[test]
fn a_count_beyond_the_bytes_allocates_nothing() {
    // 2^31 - 1 groups, and as many files of one group, in a few bytes.
    let groups = [7, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0];
    let column = "group ids";
    assert_eq!(
        ArchiveIndex::decode(&groups),
        Err(ArchiveIndexError::Truncated { column, offset: 10, len: 12 })
    );
    let mut files = vec![7, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    files.extend([0; 8]);
    files.extend([0xFF; 4]);
    let column = "file ids";
    assert_eq!(
        ArchiveIndex::decode(&files),
        Err(ArchiveIndexError::Truncated { column, offset: 22, len: 22 })
    );
}

#[test]
fn what_is_encoded_is_decoded() {
    let count = if cfg!(miri) { 10 } else { 500 };
    for format in 5..=7 {
        for flags in 0..16 {
            let groups = (0..count).map(|i| IndexEntry {
                id: i * 3 + if format == 7 { i * 70_000 } else { 0 },
                crc: i.wrapping_mul(0x9E37_79B9),
                version: i * 1000,
                file_count: i % 4,
                name_hash: if flags & FLAG_NAMES != 0 { -1 } else { 0 },
                uncompressed_crc: if flags & FLAG_UNCOMPRESSED_CRCS != 0 { i } else { 0 },
                lengths: if flags & FLAG_LENGTHS != 0 { [i, i * 2] } else { [0; 2] },
                digest: (flags & FLAG_DIGESTS != 0).then(|| Box::new([i as u8; 64])),
            });
            let version = if format == 5 { 0 } else { 77 };
            let groups = groups.collect();
            let index =
                ArchiveIndex { format, version, flags, groups, trailing_len: 0, repeated_count: 0 };
            assert_eq!(ArchiveIndex::decode(&index.encode()).unwrap(), index);
        }
    }
}
