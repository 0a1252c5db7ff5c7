//! The right bytes are served, in whatever way a client asks.

use crate::support::{
    Answer, Cache, Client, FIRST_BUILD, PATIENCE, Server, container_of, framed_by_hand, id, js5d,
};
use js5d::protocol::client::Matching;
use js5d::protocol::request::Message;
use js5d::protocol::{Class, GroupId, Status};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const CLASSES: [Class; 2] = [Class::Urgent, Class::Prefetch];

/// Asks for everything in both classes, `window` requests of each at a time, and compares.
fn check_all(server: &Server, expected: &BTreeMap<GroupId, Vec<u8>>, key: u8, window: usize) {
    let mut client = Client::connect(server, key);
    let mut wanted: Vec<_> =
        expected.keys().flat_map(|&id| CLASSES.map(|class| (class, id))).collect();
    let total = wanted.len();
    let mut rng = fastrand::Rng::with_seed(u64::from(key) << 32 | window as u64);
    rng.shuffle(&mut wanted);
    let mut free = [window; 2];
    let mut answered = 0;
    while answered < total {
        while let Some(&(class, id)) = wanted.last()
            && free[class as usize] > 0
        {
            free[class as usize] -= 1;
            client.prepare(class, id);
            wanted.pop();
        }
        client.flush();
        let Answer { class, id, key: found_key, container } = client.receive();
        assert!(container == expected[&id], "{class:?} {id}: {} bytes differ", container.len());
        assert_eq!(found_key, key);
        free[class as usize] += 1;
        answered += 1;
    }
    assert!(!client.hears_within(Duration::from_millis(50)), "a byte that nobody asked for");
}

/// Every window and key at once, each on a connection of its own.
fn check_all_ways(server: &Server, expected: &BTreeMap<GroupId, Vec<u8>>) {
    thread::scope(|scope| {
        for (key, window) in [(0, 20), (1, 500), (255, 20), (0, 500), (255, 500)] {
            scope.spawn(move || check_all(server, expected, key, window));
        }
    });
}

/// The containers of a flat-file store, and the master index that they call for.
fn read_flat(dir: &Path) -> BTreeMap<GroupId, Vec<u8>> {
    let mut groups = BTreeMap::new();
    for archive in fs::read_dir(dir).expect("it was written") {
        let archive = archive.expect("readable").path();
        let number: u8 = name_of(&archive).parse().expect("an archive");
        for file in fs::read_dir(&archive).expect("readable") {
            let file = file.expect("readable").path();
            let group = name_of(&file).strip_suffix(".dat").expect("a group").parse();
            let stored = fs::read(&file).expect("readable");
            groups.insert(id(number, group.expect("a number")), container_of(&stored).to_vec());
        }
    }
    let highest = groups.keys().map(|id| id.archive).filter(|&archive| archive < 255).max();
    let mut master = Vec::new();
    for archive in 0..=highest.expect("some") {
        let entry =
            groups.get(&id(255, archive.into())).map_or([0; 8], |index| master_entry(index));
        master.extend(entry);
    }
    let mut container = vec![0];
    container.extend((master.len() as u32).to_be_bytes());
    container.extend(master);
    groups.insert(id(255, 255), container);
    groups
}

/// CRC-32 and version of an archive index.
fn master_entry(index: &[u8]) -> [u8; 8] {
    let payload = js5d::protocol::container::decompress(index, 1 << 24).expect("an index");
    let version = if payload[0] >= 6 { &payload[1..5] } else { &[0; 4] };
    let mut entry = [0; 8];
    entry[..4].copy_from_slice(&crc32fast::hash(index).to_be_bytes());
    entry[4..].copy_from_slice(version);
    entry
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a plain name")
}

#[test]
fn every_group_of_the_demo_cache_comes_exact() {
    let dir = tempfile::tempdir().unwrap();
    let write = |format| {
        let path = dir.path().join(format);
        let ended = js5d(&["demo-cache", path.to_str().unwrap(), "--format", format]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        path
    };
    let (flat, dat2) = (write("flat"), write("dat2"));
    let expected = read_flat(&flat);
    assert!(expected.len() > 2900, "{} groups", expected.len());
    let indexes = expected.keys().filter(|id| id.archive == 255 && id.group != 255).count();
    assert_eq!(indexes, 29, "what a build 550 client needs");

    let server = Server::start(&["--cache", flat.to_str().unwrap(), "--workers", "2"]);
    assert!(server.log().contains("serving 29 archives, "), "{}", server.log());
    assert!(server.log().contains(" with 2 workers; at most "), "{}", server.log());
    check_all_ways(&server, &expected);

    let server = Server::start(&["--cache", dat2.to_str().unwrap()]);
    check_all(&server, &expected, 0, 20);

    let server = Server::start(&[]);
    assert!(server.log().contains("demo cache"), "it says what it serves: {}", server.log());
    check_all(&server, &expected, 1, 500);
}

#[test]
fn every_group_of_a_cache_laid_out_by_hand_comes_exact() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let expected = cache.ids().map(|id| (id, cache.container(id).to_vec())).collect();
    check_all_ways(&server, &expected);
    // Far more is in flight than the queues hold: nothing is lost.
    let short = Server::with_cache(&cache, &["--queue-len-max", "20"]);
    check_all(&short, &expected, 0, 500);
}

#[test]
fn the_framing_is_exact_to_the_byte() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    for key in [0, 1, 0x80, 0xFF] {
        let mut client = Client::connect(&server, key);
        for (at, class) in cache.ids().flat_map(|id| CLASSES.map(|class| (id, class))) {
            let expected = framed_by_hand(at, cache.container(at), class == Class::Prefetch, key);
            client.stream.write_all(&Message::Request(class, at).to_bytes()).unwrap();
            let mut found = vec![0; expected.len()];
            client.stream.read_exact(&mut found).unwrap();
            assert!(found == expected, "{class:?} {at}, key {key}");
        }
        assert!(!client.hears_within(Duration::from_millis(20)), "a byte too many");
    }
}

#[test]
fn the_prefetch_bit_can_be_kept_from_old_school_clients() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--prefetch-bit", "off"]);
    let mut client = Client::connect_old_school(&server);
    for at in [id(0, 0), id(1, 1), id(2, 2)] {
        client.stream.write_all(&Message::Request(Class::Prefetch, at).to_bytes()).unwrap();
        let expected = framed_by_hand(at, cache.container(at), false, 0);
        let mut found = vec![0; expected.len()];
        client.stream.read_exact(&mut found).unwrap();
        assert!(found == expected, "{at}");
    }
}

#[test]
fn the_same_group_asked_in_both_classes_is_answered_twice() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let mut client = Client::connect(&server, 0);
    for at in [id(1, 0), id(2, 0), id(255, 255)] {
        client.request([(Class::Prefetch, at), (Class::Urgent, at), (Class::Prefetch, at)]);
        let answers = client.receive_many(3);
        let prefetch = answers.iter().filter(|answer| answer.class == Class::Prefetch).count();
        assert_eq!(prefetch, 2, "each with the bit of its request");
        assert!(answers.iter().all(|answer| answer.container == cache.container(at)));
    }
    assert!(!client.hears_within(Duration::from_millis(50)), "a fourth answer");
}

#[test]
fn requests_in_the_handshakes_segment_are_served() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let stream = TcpStream::connect(server.address).unwrap();
    let mut client = Client::new(stream, Matching::ByPrefetchBit);
    client.prepare_handshake(FIRST_BUILD);
    client.prepare_rekey(0x5A);
    client.request([(Class::Urgent, id(255, 255)), (Class::Prefetch, id(2, 1))]);
    assert_eq!(client.read_status(), Status::Ok);
    for _ in 0..2 {
        let answer = client.receive();
        assert_eq!(answer.container, cache.container(answer.id));
        assert_eq!(answer.key, 0x5A);
    }
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let stream = TcpStream::connect(server.address).unwrap();
    let mut client = Client::new(stream, Matching::ByPrefetchBit);
    client.prepare_handshake(FIRST_BUILD);
    for group in 0..10 {
        client.prepare_rekey(group as u8);
        client.prepare(Class::Urgent, id(1, group));
        client.prepare(Class::Prefetch, id(1, group));
        for byte in client.take_prepared() {
            client.stream.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        // Before the next key: a server that is late would apply it to these answers, too.
        for answer in client.receive_many(2) {
            assert_eq!(answer.container, cache.container(answer.id));
            assert_eq!(u32::from(answer.key), group, "keyed when it was asked for");
        }
    }
}

#[test]
fn a_rekey_holds_from_the_next_response_on() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let mut client = Client::connect(&server, 7);
    let mut rng = fastrand::Rng::with_seed(4);
    // One after the other: each response has the key that was sent before its request.
    for _ in 0..200 {
        let key = rng.u8(..);
        client.prepare_rekey(key);
        client.request([(Class::Urgent, id(1, rng.u32(..100)))]);
        assert_eq!(client.receive().key, key);
    }
    // In the middle of a queue: the session checks that each has one key, asked for in time.
    for _ in 0..100 {
        for _ in 0..20 {
            if rng.bool() {
                client.prepare_rekey(rng.u8(..));
            }
            let at =
                if rng.u8(..10) == 0 { id(2, rng.u32(..40)) } else { id(0, rng.u32(..30) * 3) };
            client.prepare(CLASSES[rng.usize(..2)], at);
        }
        client.flush();
        for answer in client.receive_many(20) {
            assert!(answer.container == cache.container(answer.id), "{}", answer.id);
        }
    }
}

#[test]
fn pipelined_large_requests_never_stall() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    for count in [5, 20, 40] {
        let mut client = Client::connect(&server, 0);
        for round in 0..6 {
            let class = CLASSES[round % 2];
            let start = Instant::now();
            client.request((0..count).map(|group| (class, id(2, group))));
            for answer in client.receive_many(count as usize) {
                assert!(answer.container == cache.container(answer.id), "{}", answer.id);
            }
            // A stall would last 200 ms at the least, and up to the peer's own deadline.
            assert!(start.elapsed() < PATIENCE / 4, "{count} took {:?}", start.elapsed());
        }
    }
}

#[test]
fn thousands_of_rounds_of_small_requests_never_stall() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    for count in [20, 40] {
        let mut client = Client::connect(&server, 0);
        let mut rounds = Vec::new();
        for round in 0..2000 {
            let start = Instant::now();
            let requests = (0..count).map(|place| (CLASSES[place % 2], id(1, place as u32)));
            client.request(requests);
            for answer in client.receive_many(count) {
                assert!(answer.container == cache.container(answer.id), "round {round}");
            }
            rounds.push(start.elapsed());
        }
        rounds.sort();
        // Waiting for a delayed acknowledgement would cost 40 ms each time.
        assert!(rounds[rounds.len() * 9 / 10] < Duration::from_millis(20), "{:?}", rounds.last());
    }
}

#[test]
fn a_missing_group_gets_no_answer() {
    let cache = Cache::sample();
    let mut server = Server::with_cache(&cache, &[]);
    let mut client = Client::connect(&server, 0);
    let missing = [id(0, 1), id(4, 0), id(5, 0), id(255, 4), id(254, 65535)];
    for at in missing {
        client.stream.write_all(&Message::Request(Class::Urgent, at).to_bytes()).unwrap();
    }
    client.request([(Class::Urgent, id(0, 0))]);
    assert_eq!(client.receive().id, id(0, 0), "and the connection goes on");
    drop(client);
    let log = server.stop();
    assert!(log.contains("missing_groups=5"), "{log}");
}

#[test]
fn a_missing_group_closes_if_it_is_to() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &["--missing-group", "close"]);
    let mut client = Client::connect(&server, 0);
    let large = id(3, 0);
    client.request([(Class::Urgent, large), (Class::Urgent, id(4, 0)), (Class::Urgent, large)]);
    let answers = client.receive_to_end();
    assert_eq!(answers.len(), 1, "what was begun is finished, and nothing after it is");
    assert!(answers[0].container == cache.container(large));
}

#[test]
fn opcode_7_closes_in_good_order() {
    let cache = Cache::sample();
    let server = Server::with_cache(&cache, &[]);
    let mut client = Client::connect(&server, 0);
    client.request([(Class::Urgent, id(3, 0))]);
    assert!(client.hears_within(PATIENCE), "the response has begun");
    client.stream.write_all(&Message::Disconnect.to_bytes()).unwrap();
    let answers = client.receive_to_end();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].container == cache.container(id(3, 0)));
}
