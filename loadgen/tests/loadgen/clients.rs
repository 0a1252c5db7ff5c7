//! Clients of every revision against js5d, every byte compared.

use super::support::{
    Js5d, Misbehaviour, ReferenceServer, assert_exit, command, loadgen, run_json,
};
use js5d::protocol::archive_index::{ArchiveIndex, IndexEntry};
use js5d::protocol::container::{Compression, compress, decompress};
use js5d::protocol::profile;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

/// One of each framing, and one of each kind of handshake.
const FAMILIES: [&str; 6] = ["435", "oldschool", "634", "718", "831", "nxt"];

/// Lengths around the edges of each framing's blocks, as containers.
fn lens() -> impl Iterator<Item = usize> {
    let short = (505..=515).chain(1010..=1027);
    short.chain([102_389, 102_390, 102_391, 102_395, 204_784, 204_785, 204_786, 300_000])
}

/// Writes a cache with two archives: lengths around every edge, and the same again behind group
/// 65,535, in an index that some clients do not read.
fn write_cache(directory: &Path) {
    let body = |len: usize, salt: usize| -> Vec<u8> {
        (5..len).map(|at| (at * 31 + salt + at / 253) as u8).collect()
    };
    for (archive, first) in [(0_u8, 0_u32), (1, 65_536)] {
        let format = if first > 0 { 7 } else { 6 };
        let place = directory.join(archive.to_string());
        std::fs::create_dir_all(&place).unwrap();
        let mut groups = Vec::new();
        for (group, len) in (first..).zip(lens()) {
            let packed = compress(Compression::None, &body(len, group as usize)).unwrap();
            assert_eq!(packed.len(), len);
            std::fs::write(place.join(format!("{group}.dat")), &packed).unwrap();
            let crc = crc32fast::hash(&packed);
            groups.push(IndexEntry { id: group, crc, file_count: 1, ..IndexEntry::default() });
        }
        let index = ArchiveIndex { format, version: 3, groups, ..ArchiveIndex::default() };
        let packed = compress(Compression::Gzip, &index.encode()).unwrap();
        let indexes = directory.join("255");
        std::fs::create_dir_all(&indexes).unwrap();
        std::fs::write(indexes.join(format!("{archive}.dat")), packed).unwrap();
    }
}

/// A server of every client, and the cache that it serves.
struct Bench {
    directory: tempfile::TempDir,
    server: Js5d,
}

impl Bench {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_cache(directory.path());
        let cache = directory.path().display().to_string();
        let server = Js5d::start(&[&["--build", "any", "--cache", &cache], options].concat());
        Self { directory, server }
    }

    /// A run of a client that must come to its result. On a busy machine the generator may say
    /// that it was late: that is exit code 5, and no defect.
    fn run(&self, client: &str, more: &[&str]) -> Value {
        let address = &self.server.address;
        let base = ["run", address, "--client", client, "--stall-timeout", "20s", "--json", "-"];
        let output = loadgen(&[&base[..], more].concat());
        assert!(matches!(output.status.code(), Some(0 | 5)), "{client} {more:?}: {output:?}");
        let result: Value = serde_json::from_slice(&output.stdout).expect("the result is JSON");
        assert_eq!(result["stats"]["faults"], serde_json::json!({}), "{client} {more:?}");
        result
    }

    fn cache(&self) -> String {
        self.directory.path().display().to_string()
    }
}

fn is_wide(client: &str) -> bool {
    profile::table::client(client).expect("a client").0.asks_wide()
}

#[test]
fn each_client_of_the_table_downloads_everything_and_every_byte_is_right() {
    let bench = Bench::start(&[]);
    let clients = profile::table::all();
    let names: Vec<_> = clients.iter().map(|profile| profile.name.to_string()).collect();
    assert!(names.len() >= 14, "{names:?}");
    std::thread::scope(|scope| {
        for (name, key) in names.iter().zip(["none", "77", "random", "changing"].iter().cycle()) {
            let bench = &bench;
            scope.spawn(move || {
                let cache = bench.cache();
                let more = ["-c", "2", "--downloads", "2", "--cache", &cache, "--key", key];
                let result = bench.run(name, &more);
                let stats = &result["stats"];
                let archives = if is_wide(name) { 2 } else { 1 };
                let groups = archives * lens().count() + 3;
                assert_eq!(stats["bytes_checked"], 4 * groups, "{name}");
                assert_eq!(result["load"]["client"], **name);
                let (profile, _) = profile::table::client(name).expect("a client");
                let windows = profile.in_flight.map(Value::from);
                let found = [&result["load"]["urgent_window"], &result["load"]["prefetch_window"]];
                assert_eq!(found, windows.each_ref(), "{name}");
            });
        }
    });
}

#[test]
fn each_scenario_runs_clean_with_each_family() {
    let bench = Bench::start(&[]);
    let scenarios: [&[&str]; 8] = [
        &["play", "--think", "30ms", "--prefetch-gap", "5ms"],
        &["login-storm"],
        &["update-day", "--changed", "0.5"],
        &["churn"],
        &["slow", "--read-rate", "2M"],
        &["idle", "--keepalive", "50ms"],
        &["download", "-r", "500"],
        &["priority"],
    ];
    std::thread::scope(|scope| {
        for client in FAMILIES {
            let bench = &bench;
            scope.spawn(move || {
                for scenario in scenarios {
                    let base = ["-c", "2", "-d", "400ms", "--crc-every", "1", "-s"];
                    let result = bench.run(client, &[&base[..], scenario].concat());
                    let stats = &result["stats"];
                    assert!(
                        stats["responses"]["urgent"].as_u64() > Some(0),
                        "{client} {scenario:?}"
                    );
                }
            });
        }
    });
}

#[test]
fn hostile_clients_of_each_family_do_not_harm_the_honest_ones() {
    let bench = Bench::start(&[]);
    std::thread::scope(|scope| {
        for client in FAMILIES {
            let bench = &bench;
            scope.spawn(move || {
                let cache = bench.cache();
                let more = ["--mix", "download=1,hostile=6", "-c", "28", "-d", "1500ms"];
                let more = [&more[..], &["--hold", "300ms", "--cache", &cache]].concat();
                let stats = &bench.run(client, &more)["stats"];
                assert!(stats["bytes_checked"].as_u64() > Some(0), "{client}");
                assert!(stats["outcomes"]["closed-by-server"].as_u64() > Some(0), "{client}");
            });
        }
    });
}

#[test]
fn a_token_is_shown_and_a_wrong_one_is_named() {
    let bench = Bench::start(&["--token", "718=right", "--token", "910..=913=other"]);
    let small = ["-c", "1", "-n", "10"];
    bench.run("718", &[&small[..], &["--token", "right"]].concat());
    bench.run("910", &[&small[..], &["--token", "other"]].concat());
    let address = &bench.server.address;
    for (client, remedy) in [("718", "--client"), ("910", "--token")] {
        let output = loadgen(&["run", address, "--client", client, "--token", "wrong", "-n", "1"]);
        assert_exit(&output, 6);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(remedy), "{client}: {text}");
    }
}

#[test]
fn a_fork_is_named_by_a_table_of_the_servers_settings_file() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("js5d.toml");
    let fork = "build = 800\n[profile.fork]\nbuilds = 800\nlike = \"rs2-718\"\nints = 2\n\
                answer = \"multi-512\"\nmark = \"group-bit\"\nbreak_off = false\n";
    std::fs::write(&file, fork).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_cache(directory.path());
    let [file, cache] = [&file, directory.path()].map(|path| path.display().to_string());
    let server = Js5d::start(&["--config", &file, "--cache", &cache]);
    let bench = Bench { directory, server };
    for client in ["fork", "800"] {
        let more = ["-c", "1", "--downloads", "1", "--cache", &cache, "--profiles", &file];
        let result = bench.run(client, &more);
        let answers = result["stats"]["responses"]["urgent"].as_u64().unwrap();
        assert!(answers >= lens().count() as u64, "{client}: {answers}");
    }
    let address = &bench.server.address;
    for (wrong, said) in [
        (&["--client", "fork"][..], "no client has this name"),
        (&["--client", "spoon", "--profiles", &file], "rs2-718"),
        (&["--client", "fork", "--profiles", "/nowhere"], "/nowhere cannot be read"),
    ] {
        let output = loadgen(&[&["run", address, "-n", "1"], wrong].concat());
        assert_exit(&output, 2);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{wrong:?}: {text}");
    }
}

#[test]
fn one_server_is_compared_as_its_clients_see_it() {
    let bench = Bench::start(&[]);
    let old = format!("old={},client=550", bench.server.address);
    let young = format!("young={},client=nxt", bench.server.address);
    let cache = bench.cache();
    let load = ["-c", "2", "--rounds", "4", "--interval", "200ms", "--cache", &cache];
    let sides = ["compare", "--server", &old, "--server", &young, "--json", "-"];
    let output = loadgen(&[&sides[..], &load].concat());
    assert!(matches!(output.status.code(), Some(0 | 5)), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("the result is JSON");
    for (place, name) in ["old", "young"].into_iter().enumerate() {
        let side = &result["comparison"]["sides"][place];
        assert_eq!(
            (&side["name"], side["samples"].as_array().map(Vec::len)),
            (&name.into(), Some(4))
        );
    }
    // A client that the server does not speak with is named by its side.
    let wrong = format!("wrong={},client=rs4", bench.server.address);
    let output = loadgen(&["compare", "--server", &old, "--server", &wrong]);
    assert_exit(&output, 2);
}

#[test]
fn a_signed_master_index_is_compared_up_to_its_signature() {
    let scratch = tempfile::tempdir().unwrap();
    let key = scratch.path().join("key");
    // By `openssl genrsa 528`: modulus and private exponent.
    let modulus = "c4341a791a471e7f74e2b2fd711182441ce969d08bf66fb9e48536b6784b8244\
                   941438f23f750c47797d5d826a355b503b3a959e5e6c69cb1a5c93d00a0ac85a240d";
    let exponent = "bc2677089131884693d15df1fafede5bf119c8f64b71fcbc582f83434262aebe\
                    914e5980caa12931b0d619209a9a4ff15098c0db41c6554ee479eefb3ddf3497f1c1";
    std::fs::write(&key, format!("{modulus}\n{exponent}\n")).unwrap();
    let bench = Bench::start(&["--rsa-key", &key.display().to_string()]);
    let cache = bench.cache();
    for client in ["718", "nxt"] {
        let more = ["-c", "1", "--downloads", "1", "--cache", &cache, "--crc-every", "0"];
        assert!(bench.run(client, &more)["stats"]["bytes_checked"].as_u64() > Some(0), "{client}");
    }
}

#[test]
fn a_server_that_speaks_otherwise_than_the_client_is_caught() {
    // It serves every build as if it were 550.
    let server = ReferenceServer::start(Misbehaviour::None);
    let address = server.address.to_string();
    let base = ["run", &address, "-n", "200", "-c", "1", "--stall-timeout", "1s", "--client"];
    // A client of Old School reads the prefetch bit as a compression; one of 634 wants 27 integers
    // more, and a master index with digests.
    assert_exit(&loadgen(&[&base[..], &["oldschool"]].concat()), 3);
    assert_exit(&loadgen(&[&base[..], &["634"]].concat()), 3);
    assert_exit(&loadgen(&[&base[..], &["578"]].concat()), 0);
    assert_exit(&loadgen(&[&base[..], &["900000000000"]].concat()), 2);
    for wrong in [&["550", "--token", "x"][..], &["nxt", "--no-break-off"]] {
        assert_exit(&loadgen(&[&base[..], wrong].concat()), 2);
    }
}

#[test]
fn what_clients_of_any_family_ask_is_recorded_and_replayed() {
    let bench = Bench::start(&[]);
    let scratch = tempfile::tempdir().unwrap();
    let trace = scratch.path().join("trace").display().to_string();
    let record = ["record", "--listen", "127.0.0.1:0", "--to", &bench.server.address, "-d", "3s"];
    let mut record = command(&record).arg(&trace).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(record.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let proxy = line.split(' ').nth(1).unwrap().to_owned();
    std::thread::scope(|scope| {
        for client in FAMILIES {
            let run = ["run", &proxy, "-c", "1", "-n", "50", "-q", "--client", client];
            // On a busy machine the generator says that it was late: that is 5, and no defect.
            scope.spawn(move || assert!(matches!(loadgen(&run).status.code(), Some(0 | 5))));
        }
    });
    assert!(record.wait().unwrap().success());
    let text = std::fs::read_to_string(&trace).unwrap();
    let by_client = |client: usize| {
        text.lines().filter(move |line| {
            line.split(' ').nth(1).is_some_and(|number| number == client.to_string())
        })
    };
    // A client of its own learns what there is: the master index and an archive index or two.
    let counts: Vec<usize> =
        (0..2 * FAMILIES.len()).map(|client| by_client(client).count()).collect();
    assert_eq!(counts.iter().filter(|&&count| count == 50).count(), FAMILIES.len(), "{counts:?}");
    let groups = text.lines().filter_map(|line| line.rsplit('/').next()?.parse::<u32>().ok());
    assert!(groups.max() > Some(65_536), "those that can ask for groups of 65,536 and more do");
    let replay = ["replay", "--from", &trace, &bench.server.address, "--client", "nxt", "--json"];
    let output = loadgen(&[&replay[..], &["-"]].concat());
    assert!(matches!(output.status.code(), Some(0 | 5)), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["stats"]["faults"], serde_json::json!({}));
}

/// Every group of the reference server, many at once, so that responses meet.
fn download(server: &ReferenceServer, more: &[&str], code: i32) -> Value {
    let cache = tempfile::tempdir().unwrap();
    server.write_cache(cache.path());
    let (address, cache) = (server.address.to_string(), cache.path().display().to_string());
    let base = ["run", &address, "-c", "2", "--downloads", "1", "--cache", &cache];
    let groups = ["--groups", "0/0..59,1/0..59,2/0..59"];
    run_json(&[&base[..], &groups, more].concat(), code)
}

#[test]
fn a_broken_off_prefetch_is_taken_unless_it_is_not_to_be() {
    let server = ReferenceServer::start(Misbehaviour::BreaksOff);
    for client in ["530", "550", "632"] {
        let stats = &download(&server, &["--client", client, "--key", "77"], 0)["stats"];
        assert_eq!(stats["bytes_checked"], 2 * 180, "{client}");
    }
    for refuse in [&["--no-break-off"][..], &["--no-break-off", "--key", "random"]] {
        let stats = &download(&server, refuse, 3)["stats"];
        assert!(stats["faults"]["wrong-marker"].as_u64() > Some(0), "{refuse:?}: {stats}");
    }
}

#[test]
fn blocks_that_alternate_are_put_together_and_a_wrong_byte_in_one_is_found() {
    let server = ReferenceServer::start(Misbehaviour::Interleaves);
    for key in ["none", "changing"] {
        let stats = &download(&server, &["--client", "831", "--key", key], 0)["stats"];
        assert_eq!(stats["bytes_checked"], 2 * 180, "{key}");
    }
    let server = ReferenceServer::start(Misbehaviour::InterleavesWrongly);
    let stats = &download(&server, &["--client", "831"], 3)["stats"];
    assert!(stats["faults"]["wrong-bytes"].as_u64() > Some(0), "{}", stats["faults"]);
}

#[test]
fn an_update_day_asks_for_exactly_what_a_diff_says() {
    let bench = Bench::start(&[]);
    let old = tempfile::tempdir().unwrap();
    write_cache(old.path());
    // Of archive 1 the player has an index that lists two groups less, and one with another sum.
    let path = old.path().join("255/1.dat");
    let packed = std::fs::read(&path).unwrap();
    let mut index = ArchiveIndex::decode(&decompress(&packed, 1 << 20).unwrap()).unwrap();
    index.groups.truncate(index.groups.len() - 2);
    index.groups[4].version += 1;
    std::fs::write(&path, compress(Compression::Gzip, &index.encode()).unwrap()).unwrap();
    let (old, new) = (old.path().display().to_string(), bench.cache());
    let diff = Js5d::run(&["diff", &old, &new, "--json"]);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("diff.json").display().to_string();
    std::fs::write(&file, diff).unwrap();
    let trace = scratch.path().join("trace").display().to_string();
    let more = ["-s", "update-day", "--diff", &file, "-c", "2", "--downloads", "1"];
    let more = [&more[..], &["--trace", &trace, "--cache", &new]].concat();
    bench.run("nxt", &more);
    let text = std::fs::read_to_string(&trace).unwrap();
    let mut asked: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    asked.retain(|id| id.contains('/'));
    asked.sort_unstable();
    let last = 65_536 + lens().count() - 1;
    let mut expected: Vec<String> = ["255/255", "255/1", "1/65540"].map(str::to_owned).to_vec();
    expected.extend([last - 1, last].map(|group| format!("1/{group}")));
    let mut expected = [&expected[..], &expected].concat();
    expected.sort_unstable();
    assert_eq!(asked, expected);
    // Those of Old School cannot ask for these, and a server of the old cache has them not.
    let output =
        loadgen(&[&["run", &bench.server.address][..], &more, &["--client", "oldschool"]].concat());
    assert_exit(&output, 6);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lists no ") && said.contains("js5d diff"), "{said}");
    std::fs::write(&file, "{}").unwrap();
    assert_exit(&loadgen(&[&["run", &bench.server.address][..], &more].concat()), 2);
}
