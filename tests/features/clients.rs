//! Every revision of the client at one server, each by a client that knows docs/clients.md only.

use crate::support::{
    Asked, Cache, Http, PlainClient, ROWS, Row, Server, eventually, js5d, read_to_end,
};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Lengths around the edges of each framing, in archive 7 from group 0 on, and again from group
/// 65,536 on.
const EDGES: [usize; 26] = [
    507, 508, 509, 510, 511, 512, 513, 1014, 1015, 1018, 1019, 1020, 1021, 1022, 1023, 1024, 1025,
    2048, 102_389, 102_390, 102_391, 102_395, 102_396, 204_785, 204_790, 204_791,
];
const WIDE: u32 = 65_536;

fn edge_container(group: u32) -> Vec<u8> {
    let len = EDGES[(group % WIDE) as usize];
    let mut bytes = vec![0];
    bytes.extend((len as u32 - 5).to_be_bytes());
    bytes.extend((5..len).map(|at| (at * 13 + group as usize / 7) as u8));
    bytes
}

/// The sample, and archive 7 whose index is of format 7.
pub(crate) fn write_cache(dir: &Path) {
    Cache::sample().write_flat(dir);
    let groups: Vec<u32> = [0, WIDE]
        .iter()
        .flat_map(|first| (0..EDGES.len() as u32).map(move |at| first + at))
        .collect();
    let mut index = vec![7, 0, 0, 0, 9, 0];
    index.extend((groups.len() as u16).to_be_bytes());
    let mut last = 0;
    for &group in &groups {
        let step = group - last;
        last = group;
        match step {
            0..0x8000 => index.extend((step as u16).to_be_bytes()),
            _ => index.extend((step | 0x8000_0000).to_be_bytes()),
        }
    }
    index.extend(groups.iter().flat_map(|&g| crc32fast::hash(&edge_container(g)).to_be_bytes()));
    index.extend(groups.iter().flat_map(|_| [0, 0, 0, 3]));
    index.extend(groups.iter().flat_map(|_| [0, 1]));
    index.extend(groups.iter().flat_map(|_| [0, 0]));
    let container = [&[0], &(index.len() as u32).to_be_bytes()[..], &index].concat();
    fs::write(dir.join("255/7.dat"), container).expect("a file");
    fs::create_dir(dir.join("7")).expect("a directory");
    for group in groups {
        let stored = [&edge_container(group)[..], &[0, 3]].concat();
        fs::write(dir.join(format!("7/{group}.dat")), stored).expect("a file");
    }
}

fn serve(dir: &Path, options: &[&str]) -> Server {
    write_cache(dir);
    let path = dir.to_str().expect("a plain path");
    Server::start(&[&["--cache", path], options].concat())
}

/// What a client asks for: edges as both classes, the master index, an archive index.
fn wanted(row: &Row) -> Vec<Asked> {
    let mut all = vec![(true, 255, 255), (true, 255, 7), (false, 255, 0)];
    for at in 0..EDGES.len() as u32 {
        all.push((at % 2 == 0, 7, at));
        if row.is_wide() {
            all.push((at % 3 == 0, 7, WIDE + at));
        }
    }
    // As prefetch and as urgent, and both are answered.
    all.extend([(false, 7, 0), (true, 7, 1)]);
    all
}

fn check(row: Row, server: &Server, key: u8, dir: &Path) {
    let (status, mut client) = PlainClient::connect(row, server.address, "token");
    assert_eq!(status, 0, "{row:?}");
    client.greet(key);
    let mut asked = wanted(&row);
    let mut answers = client.fetch(&asked);
    answers.sort();
    asked.sort();
    for (expected, (found, container)) in asked.iter().zip(&answers) {
        let same = (expected.1, expected.2) == (found.1, found.2);
        assert!(same, "{row:?}: {found:?} answers {expected:?}");
        match (found.1, found.2) {
            (7, group) => assert!(*container == edge_container(group), "{row:?}: 7/{group}"),
            (255, 255) => check_master(row, container, dir),
            (archive, group) => {
                let stored = fs::read(dir.join(format!("{archive}/{group}.dat"))).expect("stored");
                assert!(*container == stored, "{row:?}: {archive}/{group}");
            }
        }
    }
}

/// The master index by its entries' length: CRC, version, capacity and lengths, digest.
fn check_master(row: Row, container: &[u8], dir: &Path) {
    let (head, payload) = container.split_at(5);
    assert_eq!(head[0], 0, "{row:?}: clients skip five bytes");
    let (entries, end) = match row.entry {
        72 | 80 => {
            let (count, rest) = payload.split_first().expect("a count");
            rest.split_at(usize::from(*count) * row.entry)
        }
        _ => (payload, &[][..]),
    };
    assert_eq!(entries.len(), 8 * row.entry, "{row:?}: archives 0 to 7");
    for (archive, entry) in entries.chunks(row.entry).enumerate() {
        let Ok(index) = fs::read(dir.join(format!("255/{archive}.dat"))) else {
            assert_eq!(entry, vec![0; row.entry], "{row:?}: there is no archive {archive}");
            continue;
        };
        assert_eq!(entry[..4], crc32fast::hash(&index).to_be_bytes(), "{row:?}: {archive}");
        if row.entry >= 8 && archive == 7 {
            assert_eq!(entry[4..8], [0, 0, 0, 9], "{row:?}: its version");
        }
        if row.entry == 80 && archive == 7 {
            let capacity = WIDE + EDGES.len() as u32;
            assert_eq!(entry[8..12], capacity.to_be_bytes(), "{row:?}: highest group and one");
        }
        if row.entry >= 72 {
            assert_eq!(entry[row.entry - 64..], whirlpool(&index), "{row:?}: {archive}");
        }
    }
    if row.entry >= 72 {
        let signed = &payload[..payload.len() - 65];
        assert_eq!(end, [&[10], &whirlpool(signed)[..]].concat(), "{row:?}: not signed");
    }
}

fn whirlpool(bytes: &[u8]) -> Vec<u8> {
    use whirlpool::Digest;
    whirlpool::Whirlpool::digest(bytes).to_vec()
}

#[test]
fn clients_of_every_revision_are_served_by_one_server_at_once() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let server = serve(dir.path(), &["--build", "any"]);
    thread::scope(|scope| {
        for row in ROWS {
            for key in [0, 0x5A] {
                let (server, dir) = (&server, dir.path());
                scope.spawn(move || check(row, server, key, dir));
            }
        }
    });
}

#[test]
fn urgent_responses_overtake_a_prefetch_between_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path(), &["--build", "any", "--break-off", "off"]);
    for row in ROWS.into_iter().filter(|row| [831, 910, 946].contains(&row.build)) {
        for key in [0, 0x5A] {
            let (status, mut client) = PlainClient::connect(row, server.address, "token");
            assert_eq!(status, 0, "{row:?}");
            client.take_in_little();
            client.greet(key);
            let prefetched = [(false, 3, 0), (false, 7, 22)];
            client.ask(&prefetched);
            // The 500 KB of the first have begun, and the socket is full of them.
            thread::sleep(Duration::from_millis(150));
            let urgent = [(true, 7, 2), (true, 255, 7), (true, 7, 23)];
            client.ask(&urgent);
            let answers = client.collect(&[&urgent[..], &prefetched].concat());
            let order: Vec<_> = answers.iter().map(|(asked, _)| *asked).collect();
            assert_eq!(order, [&urgent[..], &prefetched].concat(), "{row:?}");
            for ((_, archive, group), container) in answers {
                let stored = fs::read(dir.path().join(format!("{archive}/{group}.dat"))).unwrap();
                assert!(stored.starts_with(&container), "{row:?}: {archive}/{group}");
            }
        }
    }
}

#[test]
fn connections_and_responses_are_counted_by_the_clients_profile() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options = ["--build", "1..=222,550,718,946", "--admin", "127.0.0.1:0"];
    let server = serve(dir.path(), &options);
    let http = Http::of(&server);
    let row = |build| ROWS.into_iter().find(|row| row.build == build).expect("a row");
    let mut clients = Vec::new();
    // How many of each, and how many groups each of them asks for; a keyed one among them.
    for (build, count, groups) in [(222, 1, 3), (550, 2, 5), (946, 3, 26)] {
        for at in 0..count {
            let (status, mut client) = PlainClient::connect(row(build), server.address, "");
            assert_eq!(status, 0, "{build}");
            client.greet(at);
            let asked: Vec<_> = (0..groups).map(|group| (group % 2 == 0, 7, group)).collect();
            assert_eq!(client.fetch(&asked).len(), asked.len());
            clients.push(client);
        }
    }
    let (refused, _) = PlainClient::connect(row(435), server.address, "");
    assert_eq!(refused, 6);
    // One of each number leaves.
    clients.truncate(4);
    let value = |name: &str, profile: &str| {
        http.metrics().value(&format!("js5d_profile_{name}{{profile=\"{profile}\"}}"))
    };
    eventually("who left is gone", || value("connections", "nxt-926") == 1.0);
    for (profile, open, handshakes, responses) in [
        ("osrs", 1.0, 1.0, 3.0),
        ("rs2-530", 2.0, 2.0, 10.0),
        ("rs2-718", 0.0, 0.0, 0.0),
        ("nxt-926", 1.0, 3.0, 78.0),
    ] {
        assert_eq!(value("connections", profile), open, "{profile}");
        assert_eq!(value("handshakes_total", profile), handshakes, "{profile}");
        assert_eq!(value("responses_total", profile), responses, "{profile}");
    }
    let metrics = http.metrics();
    for (all, by_profile) in [
        ("js5d_responses_total", "js5d_profile_responses_total"),
        ("js5d_connections_open", "js5d_profile_connections"),
    ] {
        assert_eq!(metrics.sum(all), metrics.sum(by_profile), "{by_profile}");
    }
}

#[test]
fn a_build_that_is_not_admitted_reads_that_it_is_out_of_date() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let server = serve(dir.path(), &["--build", "550,718"]);
    for row in ROWS {
        let (status, _) = PlainClient::connect(row, server.address, "token");
        let expected = if [550, 718].contains(&row.build) { 0 } else { 6 };
        assert_eq!(status, expected, "{row:?}");
    }
}

#[test]
fn a_wrong_token_reads_what_the_client_knows() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let options = ["--build", "718,742,910", "--token", "701..=799=right", "--token", "910=other"];
    let server = serve(dir.path(), &options);
    for (build, token, expected) in [
        (718, "right", 0),
        (718, "wrong", 6),
        (742, "right", 0),
        (742, "", 48),
        (910, "other", 0),
        (910, "right", 48),
    ] {
        let row = ROWS.into_iter().find(|row| row.build == build).expect("a row");
        let (status, _) = PlainClient::connect(row, server.address, token);
        assert_eq!(status, expected, "{build} {token}");
    }
}

#[test]
fn a_prefixed_handshake_of_an_absurd_length_closes_and_is_counted() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mut server = serve(dir.path(), &["--build", "any"]);
    for len in [1, 8, 75, 255] {
        let mut stream = TcpStream::connect(server.address).expect("it listens");
        stream.write_all(&[15, len, 0, 0]).expect("room");
        assert_eq!(read_to_end(&mut stream), [0_u8; 0], "a length of {len}");
    }
    // A token without an end.
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    let bytes = [&[15, 10, 0, 0, 2, 0xCE, 0, 0, 0, 1][..], b"xy"].concat();
    stream.write_all(&bytes).expect("room");
    assert_eq!(read_to_end(&mut stream), [0_u8; 0]);
    let log = server.stop();
    assert!(log.contains("violation=5") || log.contains("violations=5"), "{log}");
}

#[test]
fn a_slow_line_changes_nothing_of_a_handshake() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let server = serve(dir.path(), &["--build", "any"]);
    thread::scope(|scope| {
        for row in ROWS {
            let address = server.address;
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("it listens");
                stream.set_nodelay(true).expect("no delay");
                for byte in row.handshake("token") {
                    stream.write_all(&[byte]).expect("room");
                    thread::sleep(Duration::from_millis(2));
                }
                let mut status = [9];
                std::io::Read::read_exact(&mut stream, &mut status).expect("a status");
                assert_eq!(status, [0], "{row:?}");
            });
        }
    });
}

#[test]
fn who_is_served_and_what_they_cannot_read_is_said() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    write_cache(dir.path());
    let path = dir.path().to_str().expect("a plain path");
    let ended = js5d(&["check", "--cache", path, "--build", "550,718"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for line in [
        "clients of rs2-530 open archives 0 to 28, of which some have no index (archives 4, 6, 8, ",
        "clients of rs2-530 know archive indexes up to format 6, and the cache has later ones \
         (archive 7)",
        "clients of rs2-530 cannot ask for 26 groups numbered 65536 or more (archive 7)",
        "clients of rs2-718 cannot unpack LZMA, which ",
        "memory of a generation, by framing of its responses:\n  marked-3 ",
        "\n  marked-5 ",
    ] {
        assert!(ended.stdout.contains(line), "{line}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("which no client that is served"), "{}", ended.stdout);
    let ended = js5d(&["check", "--cache", path, "--build", "550"]);
    let beyond = "archive 7: 26 groups numbered 65536 or more, which no client that is served can";
    assert!(ended.stdout.contains(beyond), "{}", ended.stdout);
}

/// What openssl writes to stdout, called with these words.
fn openssl(words: &str, dir: &Path) -> Vec<u8> {
    let mut command = Command::new("openssl");
    let output = command.args(words.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl is installed");
    let failed = || String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {words}: {}", failed());
    output.stdout
}

/// The master index that a client of 718 is given.
fn master_of(server: &Server) -> Vec<u8> {
    let row = ROWS.into_iter().find(|row| row.build == 718).expect("a row");
    let (status, mut client) = PlainClient::connect(row, server.address, "token");
    assert_eq!(status, 0);
    client.greet(0);
    client.fetch(&[(true, 255, 255)]).remove(0).1
}

#[test]
#[ignore = "needs openssl; .ci/deep runs it"]
fn openssl_computes_the_same_digest_and_signature() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let work = tempfile::tempdir().expect("a scratch directory");
    openssl("genrsa -out key.pem 2048", work.path());
    let key = work.path().join("key.pem");
    let options = ["--build", "718", "--rsa-key", key.to_str().expect("a plain path")];
    let server = serve(dir.path(), &options);
    let container = master_of(&server);
    let entries_len = 1 + 8 * 72;
    let (payload, signature) = container[5..].split_at(entries_len);
    // A byte for the sign stands before a number whose highest bit is set.
    let signature = signature.strip_prefix(&[0]).unwrap_or(signature);
    let mut padded = vec![0; 256 - signature.len()];
    padded.extend(signature);
    fs::write(work.path().join("signature"), padded).expect("a file");
    fs::write(work.path().join("payload"), payload).expect("a file");
    let recover =
        "pkeyutl -verifyrecover -inkey key.pem -pkeyopt rsa_padding_mode:none -in signature";
    let recovered = openssl(recover, work.path());
    let (zeros, signed) = recovered.split_at(256 - 65);
    assert_eq!((zeros, signed[0]), (&[0; 256 - 65][..], 10), "65 bytes come out");
    let digest = "dgst -provider legacy -provider default -whirlpool -binary payload";
    assert_eq!(signed[1..], openssl(digest, work.path()));
}

#[test]
fn a_stored_master_index_is_served_if_it_is_this_caches() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let server = serve(dir.path(), &["--build", "718"]);
    let mut stored = master_of(&server);
    drop(server);
    // Signed with another key: 129 bytes that cannot be made here.
    let entries_end = 5 + 1 + 8 * 72;
    stored.truncate(entries_end);
    stored.extend([0x77; 129]);
    let len = (stored.len() - 5) as u32;
    stored[1..5].copy_from_slice(&len.to_be_bytes());
    let file = dir.path().join("255.master");
    fs::write(&file, &stored).expect("a file");
    let name = file.to_str().expect("a plain path").to_owned();
    let server = serve_again(dir.path(), &["--build", "550,718", "--master-index", &name]);
    assert!(master_of(&server) == stored, "as it is");
    drop(server);

    let path = dir.path().to_str().expect("a plain path");
    stored[5 + 1 + 2 * 72] ^= 1;
    fs::write(&file, &stored).expect("a file");
    let command = ["check", "--cache", path, "--build", "718", "--master-index", &name];
    let ended = js5d(&command);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let said = "the stored master index (DIGESTS) is of another cache: for archive 2 it has CRC";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
    fs::write(&file, [0, 0, 0, 0, 3, 1, 2, 3]).expect("a file");
    let ended = js5d(&command);
    let said = "the stored master index cannot be read by these clients (DIGESTS): a master index";
    assert!(ended.code == Some(78) && ended.stderr.contains(said), "{ended:?}");
}

/// As [`serve`], from files that are there.
fn serve_again(dir: &Path, options: &[&str]) -> Server {
    let path = dir.to_str().expect("a plain path");
    Server::start(&[&["--cache", path], options].concat())
}

#[test]
fn a_key_that_cannot_sign_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = dir.path().join("key");
    fs::write(&file, format!("{}\n{}", "f".repeat(128), "3")).expect("a file");
    let name = file.to_str().expect("a plain path");
    let ended = js5d(&["--build", "718", "--rsa-key", name, "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let said = "a modulus of 512 bits is too short: what is signed has 516 bits";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn a_fork_that_differs_is_a_table_in_the_settings_file() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let file = dir.path().join("js5d.toml");
    let text = "build = 718\n[profile.own]\nbuilds = 718\nlike = \"rs2-718\"\nints = [1, 2]\n\
                [profile.rs2-530]\narchives_min = 0\n";
    fs::write(&file, text).expect("a file");
    let name = file.to_str().expect("a plain path");
    let ended = js5d(&["config", "--config", name, "--profiles"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("# Served: own (718) and rs2-718 (718).\n"), "{ended:?}");
    let own = "\n[profile.own]  # served\nbuilds = 718\nhandshake = \"prefixed\"\nints = \"1,2\"\n";
    assert!(ended.stdout.contains(own), "{}", ended.stdout);
    assert!(ended.stdout.contains("\narchives_min = 0\n"), "{}", ended.stdout);
    // What is printed is a settings file that says the same.
    fs::write(&file, format!("build = 718\n{}", ended.stdout)).expect("a file");
    let again = js5d(&["config", "--config", name, "--profiles"]);
    assert_eq!(again.stdout, ended.stdout);

    let row = ROWS.into_iter().find(|row| row.build == 718).expect("a row");
    let server = serve(dir.path(), &["--config", name]);
    let (status, mut client) = PlainClient::connect(row.with_ints(2), server.address, "");
    assert_eq!(status, 0);
    client.greet(0x11);
    assert!(client.fetch(&[(false, 7, 5)])[0].1 == edge_container(5));

    for (text, said) in [
        ("[profile.own]\nframe = 5\n", ":2:1: frame = '5': 4, 6 or 10 is wanted"),
        ("[profile.own]\nfram = 4\n", ":2:1: 'fram' is no field of a profile; there are builds,"),
        ("[profile.own]\nframe = 4\n", "profile own has no builds"),
        ("[profile]\nown = 4\n", ":2:1: [profile.own] with its fields in it is wanted"),
    ] {
        fs::write(&file, text).expect("a file");
        let ended = js5d(&["config", "--check", "--config", name]);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {}", ended.stderr);
    }
}
