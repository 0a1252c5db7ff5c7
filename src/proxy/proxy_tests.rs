//! Headers byte by byte, written by hand from the specification.

use super::*;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family, (payload.len() >> 8) as u8, payload.len() as u8]);
    bytes.extend(payload);
    bytes
}

const IPV4: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0xD9, 0x03, 0xAA, 0x4A];

fn ipv6() -> Vec<u8> {
    let mut bytes = vec![0xFD, 0, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9];
    bytes.extend([0xFD, 0, 0, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend([0xD9, 0x03, 0xAA, 0x4A]);
    bytes
}

fn ends(source: &str, destination: &str) -> Option<Endpoints> {
    let address = |text: &str| text.parse().expect("an address");
    Some(Endpoints { source: address(source), destination: address(destination) })
}

fn ends_v4() -> Option<Endpoints> {
    ends("203.0.113.9:55555", "192.0.2.1:43594")
}

fn ends_v6() -> Option<Endpoints> {
    ends("[fd00:1:2:3::9]:55555", "[fd00:1:2:3::1]:43594")
}

/// Headers that are whole, and what they announce.
fn good() -> Vec<(Vec<u8>, Option<Endpoints>)> {
    let v1 = |text: &str| text.as_bytes().to_vec();
    let tlvs = [&[0x02, 0, 3, b'a', b'.', b'b'][..], &[0x04, 0, 0], &[0xEA, 0, 1, 7]].concat();
    let longest_v6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {longest_v6} {longest_v6} 65535 65535\r\n");
    assert_eq!(longest.len(), 107, "the specification's own worst case");
    vec![
        (v1("PROXY TCP4 203.0.113.9 192.0.2.1 55555 43594\r\n"), ends_v4()),
        (v1("PROXY TCP6 fd00:1:2:3::9 fd00:1:2:3::1 55555 43594\r\n"), ends_v6()),
        (v1("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), ends("0.0.0.0:0", "0.0.0.0:0")),
        (v1("PROXY UNKNOWN\r\n"), None),
        (v1("PROXY UNKNOWN what ever it may be, in more words than an address has\r\n"), None),
        (v1(&longest), None),
        (v2(0x21, 0x11, &IPV4), ends_v4()),
        (v2(0x21, 0x21, &ipv6()), ends_v6()),
        (v2(0x21, 0x11, &[&IPV4[..], &tlvs].concat()), ends_v4()),
        (v2(0x21, 0x21, &[&ipv6()[..], &tlvs].concat()), ends_v6()),
        (v2(0x21, 0x12, &IPV4), None),
        (v2(0x21, 0x22, &ipv6()), None),
        (v2(0x21, 0x31, &[b'/'; 216]), None),
        (v2(0x21, 0x32, &[b'/'; 216]), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, &[1, 2, 3, 4, 5]), None),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &IPV4), None),
        (v2(0x20, 0x11, &[]), None),
        (v2(0x20, 0xFF, &[9; 40]), None),
        (v2(0x21, 0x11, &[&IPV4[..], &[0x04, 0x0F, 0xE1], &[0; 4065]].concat()), ends_v4()),
    ]
}

#[test]
fn a_whole_header_announces_what_it_says_and_takes_no_byte_behind_it() {
    for (header, announced) in good() {
        for later in [&b""[..], b"\x0F\0\0\x02\x26", b"PROXY TCP4", b"\r\n"] {
            let input = [&header, later].concat();
            let expected = Progress::Whole { announced, taken: header.len() };
            let progress = HeaderReader::default().receive(&input);
            assert_eq!(progress, Ok(expected), "{}", header.escape_ascii());
        }
    }
}

#[test]
fn any_split_of_a_header_reads_as_one_piece() {
    // A header is read from its beginning at each byte: too much of the long ones for Miri.
    let read = good().into_iter().filter(|(header, _)| !cfg!(miri) || header.len() < 70);
    for (header, announced) in read {
        let input = [&header[..], b"\x0F\0"].concat();
        for split in 1..header.len() {
            let mut reader = HeaderReader::default();
            let (first, second) = input.split_at(split);
            assert_eq!(reader.receive(first), Ok(Progress::Partial), "{split}");
            let expected = Progress::Whole { announced, taken: header.len() - split };
            assert_eq!(reader.receive(second), Ok(expected), "{split}");
        }
        let mut reader = HeaderReader::default();
        let (last, before) = header.split_last().expect("not empty");
        for &byte in before {
            assert_eq!(reader.receive(&[byte]), Ok(Progress::Partial));
        }
        assert_eq!(reader.receive(&[*last]), Ok(Progress::Whole { announced, taken: 1 }));
    }
}

#[test]
fn a_wrong_signature_is_seen_at_the_byte_where_it_is_wrong() {
    for signature in [&b"PROXY "[..], &SIGNATURE, &[&SIGNATURE[..], &[0x21]].concat()] {
        for place in 0..signature.len() {
            let mut bytes = signature[..=place].to_vec();
            bytes[place] ^= 0x40;
            let mut reader = HeaderReader::default();
            if place > 0 {
                assert_eq!(reader.receive(&bytes[..place]), Ok(Progress::Partial), "{place}");
            }
            let result = reader.receive(&bytes[place..]);
            assert_eq!(result, Err(HeaderFault::Malformed), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn what_is_no_header_is_malformed() {
    let v1 = |text: &str| text.as_bytes().to_vec();
    let cases = [
        v1("\x0F\0\0\x02\x26"),
        v1("GET / HTTP/1.0\r\n"),
        v1("proxy TCP4 203.0.113.9 192.0.2.1 55555 43594\r\n"),
        v1("PROXY  TCP4 203.0.113.9 192.0.2.1 55555 43594\r\n"),
        v1("PROXY TCP4 203.0.113.9 192.0.2.1 55555 43594\n"),
        v1("PROXY TCP4 203.0.113.9 192.0.2.1 55555\r\n"),
        v1("PROXY TCP4 203.0.113.9 192.0.2.1 55555 43594 1\r\n"),
        v1("PROXY TCP4 203.0.113.256 192.0.2.1 55555 43594\r\n"),
        v1("PROXY TCP4 203.0.113.9 192.0.2.1 65536 43594\r\n"),
        v1("PROXY TCP4 203.0.113.9 192.0.2.1 055555 43594\r\n"),
        v1("PROXY TCP4 fd00::1 fd00::2 55555 43594\r\n"),
        v1("PROXY TCP6 203.0.113.9 192.0.2.1 55555 43594\r\n"),
        v1("PROXY UDP4 203.0.113.9 192.0.2.1 55555 43594\r\n"),
        v1("PROXY UNKNOWNS\r\n"),
        v1("PROXY UNKNOWN\n"),
        v1("PROXY UNKNOWN \n"),
        v1("PROXY \r\n"),
        b"PROXY TCP4 \xFF\xFE 192.0.2.1 55555 43594\r\n".to_vec(),
        v2(0x11, 0x11, &IPV4),
        v2(0x22, 0x11, &IPV4),
        v2(0x21, 0x11, &IPV4[..11]),
        v2(0x21, 0x21, &ipv6()[..35]),
        v2(0x21, 0x31, &[b'/'; 215]),
        v2(0x21, 0x10, &IPV4),
        v2(0x21, 0x13, &IPV4),
        v2(0x21, 0x41, &IPV4),
        v2(0x21, 0x01, &[]),
        v2(0x21, 0x11, &[&IPV4[..], &[0x02]].concat()),
        v2(0x21, 0x11, &[&IPV4[..], &[0x02, 0, 9, b'a']].concat()),
    ];
    for bytes in cases {
        let result = HeaderReader::default().receive(&bytes);
        assert_eq!(result, Err(HeaderFault::Malformed), "{}", bytes.escape_ascii());
        let mut reader = HeaderReader::default();
        let last = bytes.iter().map(|byte| reader.receive(&[*byte])).find(|one| one.is_err());
        assert_eq!(last, Some(Err(HeaderFault::Malformed)), "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_over_long_header_is_refused_as_soon_as_it_shows() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(106, b'x');
    let mut reader = HeaderReader::default();
    assert_eq!(reader.receive(&line), Ok(Progress::Partial));
    assert_eq!(reader.receive(b"x"), Err(HeaderFault::TooLong));

    // The length field alone says so; nothing of the rest is waited for.
    let over = [&SIGNATURE[..], &[0x21, 0x11, 0x0F, 0xF1]].concat();
    assert_eq!(HeaderReader::default().receive(&over), Err(HeaderFault::TooLong));
    let local = [&SIGNATURE[..], &[0x20, 0x00, 0xFF, 0xFF]].concat();
    assert_eq!(HeaderReader::default().receive(&local), Err(HeaderFault::TooLong));
    let just = [&SIGNATURE[..], &[0x21, 0x11, 0x0F, 0xF0]].concat();
    assert_eq!(HeaderReader::default().receive(&just), Ok(Progress::Partial));
}

#[test]
fn what_is_announced_to_others_is_written_as_the_specification_says() {
    assert_eq!(announce(ends_v4().expect("ends")), v2(0x21, 0x11, &IPV4));
    assert_eq!(announce(ends_v6().expect("ends")), v2(0x21, 0x21, &ipv6()));
    let mixed = ends("203.0.113.9:1", "[fd00::1]:2").expect("ends");
    assert_eq!(announce(mixed), v2(0x21, 0x00, &[]), "no family has both");
}
