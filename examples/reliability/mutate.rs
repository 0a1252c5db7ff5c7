//! Row 1 on a stable compiler: inputs that are mutated at random from sound ones, for each parser
//! of bytes from outside. It knows no coverage, as a fuzzer does; `fuzz/` is for that.

use crate::Trial;
use crate::pipe::{Collect, container};
use js5d::protocol::archive_index::ArchiveIndex;
use js5d::protocol::client::Matching;
use js5d::protocol::container::{Compression, ContainerHeader, compress, decompress};
use js5d::protocol::frame::frame;
use js5d::protocol::handshake::handshake;
use js5d::protocol::master_index::{self, MasterFormat};
use js5d::protocol::request::Message;
use js5d::protocol::session::{Profile, Step};
use js5d::protocol::{Builds, Class, ClientSession, GroupId, ServerSession};
use js5d::proxy::{HeaderReader, Progress};
use std::sync::Arc;

/// Executions a target, in the table.
const EXECUTIONS: u64 = 5_000_000;

/// Unpacked at most.
const UNPACKED_MAX: usize = 1 << 16;

/// A parser, sound inputs for it, and by how much fewer executions it has, as it is slow.
struct Target {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    run: fn(&[u8]),
    share: u64,
}

fn session(bytes: &[u8]) {
    let profile =
        Profile { builds: Builds::Only(vec![550]), prefetch_bit: true, queue_len_max: 20 };
    let mut session = ServerSession::new(Arc::new(profile), None);
    let mut rest = bytes;
    while let Ok(taken) = session.receive(rest) {
        rest = &rest[taken..];
        let (urgent, prefetch) = session.queued();
        assert!(urgent <= 20 && prefetch <= 20, "the queues keep their bound");
        match session.next_step() {
            Step::Close(_) => break,
            Step::Idle if rest.is_empty() || taken == 0 => break,
            _ => {}
        }
    }
}

fn client(bytes: &[u8]) {
    let mut client = ClientSession::new(Matching::ByPrefetchBit);
    for group in 0..4 {
        let class = if group % 2 == 0 { Class::Urgent } else { Class::Prefetch };
        client.request(class, GroupId { archive: 2, group }, 0, &mut Vec::new());
    }
    struct Bounded(Collect);
    let mut sink = Bounded(Collect::default());
    // A status that refuses is no fault of the parser's, so only 0 goes on.
    if bytes.first() == Some(&0) {
        let _ = client.receive(bytes, &mut sink.0);
    }
    assert!(sink.0.answered.len() <= 4, "no more than was asked for");
}

fn unpack(bytes: &[u8]) {
    let header = ContainerHeader::parse(bytes);
    if let Ok(payload) = decompress(bytes, UNPACKED_MAX) {
        assert!(header.is_ok() && payload.len() <= UNPACKED_MAX);
    }
}

fn index(bytes: &[u8]) {
    if let Ok(index) = ArchiveIndex::decode(bytes) {
        // What follows the last column is counted only.
        let index = ArchiveIndex { trailing_len: 0, ..index };
        assert_eq!(ArchiveIndex::decode(&index.encode()).as_ref(), Ok(&index), "and back");
    }
}

fn master(bytes: &[u8]) {
    for format in [MasterFormat::Original, MasterFormat::Versioned] {
        if let Ok(entries) = master_index::decode(format, bytes) {
            let written = master_index::encode(format, &entries).expect("it was read");
            assert_eq!(master_index::decode(format, &written), Ok(entries), "and back");
        }
    }
}

fn proxy(bytes: &[u8]) {
    let mut reader = HeaderReader::default();
    let mut fed = 0;
    for piece in bytes.chunks(256) {
        match reader.receive(piece) {
            Ok(Progress::Whole { taken, .. }) => {
                assert!(taken <= piece.len());
                return;
            }
            Ok(Progress::Partial) => fed += piece.len(),
            Err(_) => return,
        }
    }
    assert!(fed <= 8192, "it does not take in without an end");
}

fn settings(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = js5d::settings::problems_in(text);
    }
}

fn targets() -> Vec<Target> {
    let messages = [
        Message::Connected,
        Message::LoggedIn(true),
        Message::Rekey(7),
        Message::Request(Class::Urgent, GroupId { archive: 2, group: 1 }),
        Message::Request(Class::Prefetch, GroupId { archive: 255, group: 255 }),
        Message::Disconnect,
    ];
    let talk: Vec<u8> =
        handshake(550).into_iter().chain(messages.iter().flat_map(|it| it.to_bytes())).collect();
    let answers: Vec<u8> =
        (0..4).flat_map(|group| frame(GroupId { archive: 2, group }, &container(700, 1))).collect();
    let packed = |compression| compress(compression, &[5; 300]).expect("memory");
    let entry = |group| js5d::protocol::archive_index::IndexEntry {
        id: group,
        ..js5d::protocol::archive_index::IndexEntry::default()
    };
    let indexed = ArchiveIndex {
        format: 6,
        version: 3,
        groups: (0..9).map(entry).collect(),
        ..ArchiveIndex::default()
    };
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x02\x10\x01\xaa\x4a".to_vec();
    let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 43594\r\n".to_vec();
    let file =
        b"idle_timeout = \"60s\"\nlisten = [\"127.0.0.1:1\"]\nbuild = [550, \"any\"]\n".to_vec();
    vec![
        Target { name: "session", seeds: vec![talk], run: session, share: 1 },
        Target {
            name: "client",
            seeds: vec![[&[0][..], &answers].concat()],
            run: client,
            share: 1,
        },
        Target {
            name: "container",
            seeds: vec![
                packed(Compression::None),
                packed(Compression::Gzip),
                packed(Compression::Bzip2),
                packed(Compression::Lzma),
            ],
            run: unpack,
            share: 10,
        },
        Target { name: "archive index", seeds: vec![indexed.encode()], run: index, share: 1 },
        Target {
            name: "master index",
            seeds: vec![compress(Compression::None, &[0; 8 * 29]).expect("memory")],
            run: master,
            share: 1,
        },
        Target { name: "PROXY header", seeds: vec![v1, v2], run: proxy, share: 1 },
        Target { name: "settings file", seeds: vec![file], run: settings, share: 100 },
    ]
}

/// Changes some bytes, cuts, repeats or inserts.
fn mutate(seed: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(..=bytes.len().saturating_sub(1));
        match rng.u8(..8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), rng.u8(..)),
            2 if !bytes.is_empty() => {
                let len = rng.usize(..=(bytes.len() - at).min(16));
                let part = bytes[at..at + len].to_vec();
                bytes.splice(at..at, part);
            }
            3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.usize(..5)],
            4 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ if !bytes.is_empty() => bytes[at] ^= 1 << rng.u32(..8),
            _ => {}
        }
    }
    bytes
}

pub fn run(trial: &mut Trial) {
    for Target { name, seeds, run, share } in targets() {
        trial.each_seed(&format!("mutated inputs: {name}"), EXECUTIONS / share, |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            run(&mutate(&seeds[rng.usize(..seeds.len())], &mut rng));
        });
    }
}
