//! `js5d fetch`: a mirror is exact or none, whatever kills it and whatever the server does.

use crate::caches::files;
use crate::clients::write_cache;
use crate::support::{Cache, Ended, Http, Server, eventually, framed_by_hand, id, js5d};
use js5d::protocol::{GroupId, MASTER_INDEX};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn fetch(address: SocketAddr, to: &Path, options: &[&str]) -> Ended {
    let address = address.to_string();
    js5d(&[&["fetch", &address, text(to), "--timeout", "1s"], options].concat())
}

/// What must be in a mirror: each group with its version behind it, each index as it is.
fn assert_exact(cache: &Cache, mirror: &Path, but_for: &[GroupId]) {
    for (id, stored) in cache.stored() {
        let path = mirror.join(format!("{}/{}.dat", id.archive, id.group));
        match fs::read(&path) {
            Ok(bytes) => assert!(bytes == stored, "{id}"),
            Err(_) => assert!(but_for.contains(&id), "{id} is missing"),
        }
    }
}

#[test]
fn a_mirror_is_exact_in_every_form_and_brought_up_to_date_by_what_has_changed() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let (old, new) = (Cache::sample(), Cache::reworked());
    let server = Server::with_cache(&old, &[]);
    for format in ["flat", "dat2", "tar.gz", "zip"] {
        let to = dir.path().join(format);
        let ended = fetch(server.address, &to, &["--format", format]);
        assert_eq!(ended.code, Some(0), "{format}: {ended:?}");
        let back = dir.path().join(format!("{format} back"));
        let ended = js5d(&["convert", text(&to), text(&back), "--format", "flat"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_exact(&old, &back, &[]);
    }
    let flat = dir.path().join("flat");
    let ended = fetch(server.address, &flat, &["--format", "flat"]);
    assert_eq!(ended.code, Some(64), "what is there stays: {ended:?}");
    let server = Server::with_cache(&new, &[]);
    let ended = fetch(server.address, &flat, &["--format", "flat", "--update"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Archive 1 has 100 groups and archive 3 one; the others and their indexes are the same.
    assert!(ended.stdout.contains("asked for 103 groups"), "{ended:?}");
    assert_exact(&new, &flat, &[]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 8, "nothing temporary is left");
}

#[test]
fn a_server_is_mirrored_as_whichever_client_it_is_asked() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let source = dir.path().join("source");
    fs::create_dir(&source).expect("a directory");
    write_cache(&source);
    let builds = "223..=399,400..=460,550,634,718,831..=910,946";
    let tokens = ["--token", "718=right", "--token", "910=other"];
    let options = [&["--cache", text(&source), "--build", builds], &tokens[..]].concat();
    let server = Server::start(&options);
    let generation = |cache: &Path, build: &str| {
        let ended = js5d(&["check", "--cache", text(cache), "--build", build]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let (_, rest) = ended.stdout.split_once("generation ").expect("one");
        rest[..16].to_owned()
    };
    let whole = files(&source);
    for (client, build, is_wide) in [
        ("oldschool", "223", false),
        ("435", "435", false),
        ("634", "634", false),
        ("718", "718", true),
        ("rs3-831", "831", true),
        ("876", "876", true),
        ("nxt", "946", true),
    ] {
        let to = dir.path().join(client);
        let mut options = vec!["--format", "flat", "--client", client, "--build", build];
        options.extend(["--token", "right"].iter().filter(|_| client == "718"));
        let ended = fetch(server.address, &to, &options);
        assert_eq!(ended.code, Some(0), "{client}: {ended:?}");
        let left_out = "26 groups left out whose numbers clients of ";
        assert_eq!(ended.stdout.contains(left_out), !is_wide, "{client}: {ended:?}");
        let mut mirror = files(&to);
        for (path, bytes) in &whole {
            let group = path.file_stem().and_then(|name| name.to_str()?.parse::<u32>().ok());
            if is_wide || group < Some(65_536) {
                assert!(mirror.remove(path).as_ref() == Some(bytes), "{client}: {path:?}");
            }
        }
        assert!(mirror.is_empty(), "{client}: {:?}", mirror.keys());
        assert_eq!(generation(&to, build), generation(&source, build), "{client}");
    }
    let ended = fetch(server.address, &dir.path().join("x"), &["--client", "910"]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains("--token"), "{ended:?}");
    for wrong in [&["--client", "rs4"][..], &["--build", "800"], &["--token", "x"]] {
        let ended = fetch(server.address, &dir.path().join("x"), wrong);
        assert_eq!(ended.code, Some(64), "{wrong:?}: {ended:?}");
    }
}

#[test]
fn a_fork_is_named_by_a_table_of_the_servers_settings_file() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let source = dir.path().join("source");
    fs::create_dir(&source).expect("a directory");
    write_cache(&source);
    let file = dir.path().join("js5d.toml");
    // Like no client of the table: two integers, and blocks of 512 bytes that name their response.
    let fork = "build = [718, 800]\n[profile.fork]\nbuilds = 800\nlike = \"rs2-718\"\n\
                ints = [7, 7]\nanswer = \"multi-512\"\nmark = \"group-bit\"\nbreak_off = false\n\
                [profile.rs2-718]\nints = 1\n";
    fs::write(&file, fork).expect("a file");
    let server = Server::start(&["--config", text(&file), "--cache", text(&source)]);
    let asked: [&[&str]; 3] = [&["--client", "fork"], &["--build", "800"], &["--client", "718"]];
    for (number, client) in asked.into_iter().enumerate() {
        let to = dir.path().join(number.to_string());
        let options = [client, &["--profiles", text(&file)]].concat();
        let ended = fetch(server.address, &to, &options);
        assert_eq!(ended.code, Some(0), "{client:?}: {ended:?}");
        let address = server.address.to_string();
        let same = js5d(&[&["diff", &address, text(&to)], &options[..]].concat());
        assert_eq!(same.code, Some(0), "{client:?}: {same:?}");
        assert!(same.stdout.contains("no difference"), "{client:?}: {same:?}");
        // Without the file there is no such client, or it reads another number of integers.
        let ended =
            fetch(server.address, &dir.path().join("x"), &[client, &["--timeout", "1s"]].concat());
        assert_ne!(ended.code, Some(0), "{client:?}: {ended:?}");
    }
    fs::write(&file, "[profile.fork]\nbuilds = 800\nframe = 5\n").expect("a file");
    let options = ["--client", "fork", "--profiles", text(&file)];
    let ended = fetch(server.address, &dir.path().join("x"), &options);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("js5d.toml:3:1: frame = '5'"), "{ended:?}");
}

#[test]
fn a_mirror_killed_twenty_times_is_exact_and_has_asked_for_each_group_about_once() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mirror = dir.path().join("mirror");
    let source = dir.path().join("source");
    let ended = js5d(&["demo-cache", text(&source), "--format", "flat"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let options = ["--cache", text(&source), "--admin", "127.0.0.1:0", "--egress-max", "600kB/s"];
    let server = Server::start(&options);
    for killed in 0..20 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_js5d"))
            .args(["fetch", &server.address.to_string(), text(&mirror), "--format", "flat"])
            // As many on their way as five in a hundred allow for this small a cache.
            .args(["--window", "5"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("js5d starts");
        thread::sleep(Duration::from_millis(60 + killed * 5));
        assert!(child.try_wait().expect("ours").is_none(), "it was done after {killed}");
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
    assert!(!mirror.exists(), "a half mirror has not the name of a whole one");
    let ended = fetch(server.address, &mirror, &["--format", "flat", "--window", "5"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("groups are there already"), "{ended:?}");
    assert!(files(&source) == files(&mirror), "the mirror is exact");
    let groups = files(&source).len() as f64;
    // The master index is asked for on each connection.
    let asked = || Http::of(&server).metrics().sum("js5d_requests_total");
    eventually("the counts", || asked() >= groups + 1.0);
    assert!(asked() - 21.0 <= groups * 1.05, "asked {} times for {groups} groups", asked());
}

/// What a made-up server does with a request.
enum Act {
    Answer(Vec<u8>),
    /// These bytes, whatever they are.
    Send(Vec<u8>),
    Ignore,
    Close,
}

/// A server of `cache` that does with each request what `act` says; `act` is told how often the
/// group was asked for before.
fn made_up(
    cache: Cache,
    act: impl Fn(&Cache, GroupId, usize) -> Act + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it");
    let shared = Arc::new((cache, act, Mutex::new(BTreeMap::new())));
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (cache, act, asked) = &*shared;
                let _ = serve(stream, |id| {
                    let mut asked = asked.lock().expect("no panic");
                    let count = asked.entry(id).or_insert(0);
                    *count += 1;
                    act(cache, id, *count - 1)
                });
            });
        }
    });
    address
}

fn serve(mut stream: TcpStream, act: impl Fn(GroupId) -> Act) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 5])?;
    stream.write_all(&[0])?;
    loop {
        let mut message = [0; 4];
        stream.read_exact(&mut message)?;
        let [opcode, archive, high, low] = message;
        if opcode > 1 {
            continue;
        }
        let id = id(archive, u16::from_be_bytes([high, low]).into());
        match act(id) {
            Act::Answer(container) => {
                stream.write_all(&framed_by_hand(id, &container, opcode == 0, 0))?;
            }
            Act::Send(bytes) => stream.write_all(&bytes)?,
            Act::Ignore => {}
            Act::Close => return Ok(()),
        }
    }
}

fn honest(cache: &Cache, id: GroupId) -> Act {
    if cache.ids().all(|known| known != id) {
        return Act::Ignore;
    }
    Act::Answer(cache.container(id).to_vec())
}

#[test]
fn a_group_that_the_server_lacks_is_named_and_may_be_left_out() {
    let missing = [id(1, 5), id(1, 6), id(2, 0)];
    for how in [|| Act::Ignore, || Act::Close] {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mirror = dir.path().join("mirror");
        let address =
            made_up(
                Cache::sample(),
                move |cache, id, _| {
                    if missing.contains(&id) { how() } else { honest(cache, id) }
                },
            );
        let ended = fetch(address, &mirror, &["--format", "flat"]);
        assert_eq!(ended.code, Some(65), "{ended:?}");
        let words = "does not answer for 3 groups that its indexes list: 1/5, 1/6, 2/0";
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(!mirror.exists());
        let ended = fetch(address, &mirror, &["--format", "flat", "--skip-missing"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_exact(&Cache::sample(), &mirror, &missing);
    }
}

#[test]
fn a_server_with_a_wrong_group_is_named_and_used_again_once_the_group_is_right() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mirror = dir.path().join("mirror");
    let lie = |cache: &Cache, id: GroupId| {
        let mut container = cache.container(id).to_vec();
        *container.last_mut().expect("not empty") ^= 1;
        Act::Answer(container)
    };
    let address =
        made_up(
            Cache::sample(),
            move |cache, at, _| {
                if at == id(2, 7) { lie(cache, at) } else { honest(cache, at) }
            },
        );
    let ended = fetch(address, &mirror, &[]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("contradicts itself: group 2/7 has the CRC-32 "), "{ended:?}");
    assert!(!mirror.exists());
    // The same mirror, from a server that sends one wrong group once.
    let address = made_up(Cache::sample(), move |cache, at, before| {
        if at == id(2, 7) && before == 0 { lie(cache, at) } else { honest(cache, at) }
    });
    let ended = fetch(address, &mirror, &["--format", "flat"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_exact(&Cache::sample(), &mirror, &[]);
}

#[test]
fn a_group_that_came_just_before_the_server_broke_the_protocol_is_kept_or_asked_for_again() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    // Another server's fault: a response one byte too short, so that the next one's first byte
    // ends it, and what follows is a response to nothing.
    let short = |cache: &Cache, id: GroupId| {
        let framed = framed_by_hand(id, cache.container(id), true, 0);
        Act::Send(framed[..framed.len() - 1].to_vec())
    };
    // Sound, and nonsense in the same packet.
    let long = |cache: &Cache, id: GroupId| {
        Act::Send([framed_by_hand(id, cache.container(id), true, 0), vec![9; 16]].concat())
    };
    type Way = fn(&Cache, GroupId) -> Act;
    for (name, way) in [("short", short as Way), ("long", long)] {
        let mirror = dir.path().join(name);
        let address = made_up(Cache::sample(), move |cache, at, before| {
            if at == id(2, 7) && before == 0 { way(cache, at) } else { honest(cache, at) }
        });
        let ended = fetch(address, &mirror, &["--format", "flat"]);
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        assert_exact(&Cache::sample(), &mirror, &[]);
    }
}

#[test]
fn a_master_index_that_ends_within_a_row_is_read_as_clients_read_it() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mirror = dir.path().join("mirror");
    let address = made_up(Cache::sample(), move |cache, at, _| match honest(cache, at) {
        Act::Answer(mut container) if at == MASTER_INDEX => {
            container.extend([0; 6]);
            let len = container.len() as u32 - 5;
            container[1..5].copy_from_slice(&len.to_be_bytes());
            Act::Answer(container)
        }
        act => act,
    });
    let ended = fetch(address, &mirror, &["--format", "flat"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_exact(&Cache::sample(), &mirror, &[]);
}

#[test]
fn a_wrong_index_or_master_index_is_named() {
    for (wrong, words) in [
        (id(255, 3), "contradicts itself: index 255/3: CRC-32 is"),
        (MASTER_INDEX, "contradicts itself: "),
    ] {
        let dir = tempfile::tempdir().expect("a scratch directory");
        let address = made_up(Cache::sample(), move |cache, at, _| {
            let Act::Answer(mut container) = honest(cache, at) else { return Act::Ignore };
            if at == wrong {
                container[5] ^= 1;
            }
            Act::Answer(container)
        });
        let ended = fetch(address, &dir.path().join("mirror"), &[]);
        assert_eq!(ended.code, Some(65), "{wrong}: {ended:?}");
        assert!(ended.stderr.contains(words), "{wrong}: {ended:?}");
    }
}

#[test]
fn a_server_that_sends_nothing_or_is_not_there_is_named() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mirror = dir.path().join("mirror");
    let patient = ["--attempts", "2"];
    let address =
        made_up(
            Cache::sample(),
            |cache, id, _| {
                if id.archive == 255 { honest(cache, id) } else { Act::Ignore }
            },
        );
    let ended = fetch(address, &mirror, &patient);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(
        ended.stderr.contains("sends nothing: no byte for 1 s, with 20 requests unanswered"),
        "{ended:?}"
    );
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let ended = fetch(nobody, &mirror, &patient);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains("cannot be reached"), "{ended:?}");
    let server = Server::with_cache(&Cache::sample(), &["--build", "550"]);
    let ended = fetch(server.address, &mirror, &["--build", "551"]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains("status 6, out of date"), "{ended:?}");
    assert!(ended.stderr.contains("--build"), "{ended:?}");
}

#[test]
fn a_server_that_loads_another_cache_meanwhile_is_mirrored_as_it_is_then() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let mirror = dir.path().join("mirror");
    let masters = Mutex::new(0);
    let other = Cache::reworked();
    let address = made_up(Cache::sample(), move |cache, at, before| {
        let mut masters = masters.lock().expect("no panic");
        if at == MASTER_INDEX {
            *masters += 1;
        }
        match *masters {
            // The first connection ends in the middle of archive 2.
            1 if at == id(2, 20) && before == 0 => Act::Close,
            1 => honest(cache, at),
            _ => honest(&other, at),
        }
    });
    let ended = fetch(address, &mirror, &["--format", "flat"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_exact(&Cache::reworked(), &mirror, &[]);
}
