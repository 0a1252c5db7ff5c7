//! Targets of formats: containers, indexes, settings.

use super::super::plain;
use js5d::protocol::archive_index::ArchiveIndex;
use js5d::protocol::container::{ContainerHeader, decompress};
use js5d::protocol::master_index::{MasterFormat, decode, encode};
use js5d::protocol::rsa::{MODULUS_BITS_MAX, MODULUS_BITS_MIN, RsaKey};
use js5d::settings::problems_in;

/// What unpacking may make of an input.
const PAYLOAD_LEN_MAX: usize = 1 << 20;

/// What is stored of a group. The plain reader finds the same container.
pub(super) fn container(data: &[u8]) {
    let header = ContainerHeader::parse(data);
    let len = header.as_ref().ok().map(ContainerHeader::container_len);
    let found = len.and_then(|len| data.get(..len));
    assert_eq!(found, plain::container(data));
    if let Ok(payload) = decompress(data, PAYLOAD_LEN_MAX) {
        let claimed = if data[0] == 0 { &data[1..5] } else { &data[5..9] };
        assert_eq!(payload.len() as u64, plain::number(claimed));
        assert!(payload.len() <= PAYLOAD_LEN_MAX && found.is_some());
    }
}

/// The payload of an archive index. The plain reader lists the same.
pub(super) fn archive_index(data: &[u8]) {
    let expected = plain::listing(data);
    let found = ArchiveIndex::decode(data).ok();
    let found = found.map(|index| {
        assert!(index.trailing_len < data.len());
        let groups = index.groups.iter().map(|entry| (entry.id.into(), entry.crc, entry.version));
        (index.version, groups.collect::<Vec<_>>())
    });
    assert_eq!(found, expected.map(|listing| (listing.version, listing.groups)));
}

/// A master index's container. What is read of it is what was written.
pub(super) fn master_index(data: &[u8]) {
    for format in MasterFormat::ALL {
        if let Ok(entries) = decode(format, data) {
            assert!(entries.len() <= 255);
            if data[0] == 0 {
                let written = encode(format, &entries).expect("no more than was read");
                // What signs it, and its length with that, is somebody else's.
                let (from, end) = if format.has_digests() { (5, 65) } else { (0, 0) };
                assert!(data[from..].starts_with(&written[from..written.len() - end]));
            }
        }
    }
}

/// A key file. What is a key signs what comes out again, whatever is signed.
pub(super) fn rsa_key(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = RsaKey::parse(text) {
        assert!((MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&key.bits()));
        let signed = key.sign(&[10; 65]);
        assert!(signed.len() <= key.bits() / 8 + 1 && signed[0] < 0x80);
    }
}

/// A settings file. Each problem is one line that names its place.
pub(super) fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for problem in problems_in(text) {
        assert!(!problem.contains(char::is_control), "{problem:?}");
        assert!(problem.contains(':'), "{problem:?}");
    }
}
