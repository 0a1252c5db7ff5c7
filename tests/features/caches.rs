//! Caches in every form: served as they come, converted, compared; and what a game server asks.

use crate::support::{Cache, Client, Ended, Http, Server, eventually, id, js5d};
use js5d::protocol::{Class, GroupId, MASTER_INDEX};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The last line of `js5d check`, which has the generation.
fn verdict(cache: &Path) -> String {
    let ended = js5d(&["check", "--cache", text(cache)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout.lines().last().expect("a verdict").to_owned()
}

fn convert(from: &Path, to: &Path, format: &str) -> Ended {
    js5d(&["convert", text(from), text(to), "--format", format])
}

/// The flat files below a directory, by name.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for archive in fs::read_dir(dir).expect("a store") {
        for file in fs::read_dir(archive.expect("readable").path()).expect("an archive") {
            let path = file.expect("readable").path();
            let name = path.strip_prefix(dir).expect("below").to_owned();
            files.insert(name, fs::read(&path).expect("a file"));
        }
    }
    files
}

#[test]
fn a_path_without_its_option_is_told_of_it() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let cache = text(dir.path());
    let words = format!("to name a cache, write --cache {cache}\n");
    for arguments in [&[cache][..], &["serve", cache], &["check", cache], &["config", cache]] {
        let Ended { code, stderr, .. } = js5d(arguments);
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.ends_with(&words), "{arguments:?}: {stderr}");
    }
    // No path, and a command that takes no cache.
    for arguments in [&["absent.zip"][..], &["check", "absent.zip"], &["status", cache]] {
        let Ended { code, stderr, .. } = js5d(arguments);
        assert_eq!(code, Some(64), "{stderr}");
        assert!(!stderr.contains("to name a cache"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_check_of_a_damaged_cache_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    Cache::sample().write_flat(dir.path());
    fs::write(dir.path().join("1/50.dat"), b"cut").expect("a file");
    let Ended { code, stdout, .. } = js5d(&["check", "--cache", text(dir.path())]);
    assert_eq!(code, Some(65), "{stdout}");
    let mut last = stdout.lines().rev();
    let verdict = last.next().expect("a verdict");
    assert!(verdict.starts_with("CORRUPT: 1 problem; without them "), "{stdout}");
    let remedy = "what to do about the cache: repair it or fetch it again; --skip-corrupt serves \
                  the rest";
    assert_eq!(last.next(), Some(remedy));
}

#[test]
fn a_cache_through_all_forms_and_back_is_the_same_byte_by_byte() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| dir.path().join(name);
    let (cache, first) = (Cache::sample(), path("first"));
    cache.write_flat(&first);
    // Bytes that no client sees are kept, too: a group of 65,536, and one behind a container.
    fs::write(first.join("1/70000.dat"), b"\0\0\0\0\x01xAB").expect("a file");
    fs::write(first.join("1/50.dat"), b"\0\0\0\0\x01xABCDEF").expect("a file");
    let ended = js5d(&["check", "--cache", text(&first)]);
    let steps = [("zip", "a"), ("tar.gz", "b"), ("dat2", "c"), ("flat", "last")];
    let mut from = first.clone();
    for (format, name) in steps {
        let ended = convert(&from, &path(name), format);
        assert_eq!(ended.code, Some(0), "{format}: {ended:?}");
        from = path(name);
    }
    assert_eq!(files(&first), files(&from));
    for (_, name) in steps {
        let other = js5d(&["check", "--cache", text(&path(name))]);
        assert_eq!((other.code, other.stdout), (ended.code, ended.stdout.clone()), "{name}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(names.len(), 5, "nothing temporary is left: {names:?}");
}

#[test]
fn a_packed_cache_is_served_and_reloaded_like_a_directory() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| dir.path().join(name);
    let (old, new) = (Cache::sample(), Cache::reworked());
    for (name, cache) in [("old", &old), ("new", &new)] {
        cache.write_flat(&path(name));
    }
    assert_eq!(convert(&path("old"), &path("current"), "zip").code, Some(0));
    assert_eq!(convert(&path("new"), &path("next"), "tar.gz").code, Some(0));
    let current = path("current");
    let server = Server::start(&["--cache", text(&current), "--build", "any"]);
    let fetch = |id: GroupId| {
        let mut client = Client::connect(&server, 0);
        client.request([(Class::Urgent, id)]);
        client.receive().container
    };
    for id in [MASTER_INDEX, id(0, 65535), id(3, 0)] {
        assert!(fetch(id) == old.container(id), "{id}");
    }
    fs::rename(path("next"), &current).expect("a rename");
    server.signal(Signal::HUP);
    eventually("the reload", || server.log().contains("reloaded: "));
    for id in [MASTER_INDEX, id(1, 7), id(3, 0)] {
        assert!(fetch(id) == new.container(id), "{id}");
    }
    // One that was cut keeps what is served.
    let bytes = fs::read(&current).expect("a file");
    fs::write(&current, &bytes[..bytes.len() / 2]).expect("writable");
    server.signal(Signal::HUP);
    eventually("a refusal", || server.log().contains("cut short: the file ends too early"));
    assert!(fetch(id(1, 7)) == new.container(id(1, 7)));
}

#[test]
fn a_cache_that_cannot_be_read_whole_is_converted_only_if_it_may_lack_groups() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| dir.path().join(name);
    Cache::sample().write_flat(&path("flat"));
    fs::write(path("flat/1/3.dat"), b"").expect("a file");
    let ended = convert(&path("flat"), &path("out"), "dat2");
    assert_eq!(ended.code, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("archive 1, group 3: 1/3.dat is empty"), "{ended:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing temporary is left");
    let options = ["--format", "dat2", "--skip-corrupt"];
    let ended =
        js5d(&[&["convert", text(&path("flat")), text(&path("out"))], &options[..]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(verdict(&path("out")).starts_with("sound: "));
    for to in ["out", "flat"] {
        let ended = convert(&path("flat"), &path(to), "zip");
        assert_eq!(ended.code, Some(64), "what is there stays: {ended:?}");
    }
}

#[test]
fn a_conversion_that_is_killed_leaves_nothing_that_looks_whole() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| dir.path().join(name);
    Cache::huge().write_flat(&path("from"));
    let expected = verdict(&path("from"));
    for format in ["dat2", "flat", "tar.gz", "zip"] {
        let to = path("to");
        let mut killed = 0;
        for delay in 1..40 {
            let mut child = Command::new(env!("CARGO_BIN_EXE_js5d"))
                .args(["convert", text(&path("from")), text(&to), "--format", format])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("js5d starts");
            thread::sleep(Duration::from_millis(delay * 5));
            killed += usize::from(child.try_wait().expect("ours").is_none());
            let _ = child.kill();
            child.wait().expect("ours");
            // Either nothing, or all.
            if to.exists() {
                break;
            }
            let partial = path("to.js5d-partial");
            if partial.exists() {
                let ended = js5d(&["check", "--cache", text(&partial)]);
                // It may have been killed when all was written.
                let is_whole = ended.stdout.ends_with(&format!("{expected}\n"));
                let is_refused = ended.code != Some(0);
                assert!(is_refused || is_whole, "{format}: half is taken for whole: {ended:?}");
            }
        }
        assert!(killed > 0, "{format}: none was killed in time");
        if !to.exists() {
            assert_eq!(convert(&path("from"), &to, format).code, Some(0), "{format}");
        }
        assert_eq!(verdict(&to), expected, "{format}");
        assert!(!path("to.js5d-partial").exists(), "{format}: what was left is cleared away");
        fs::rename(&to, path(format)).expect("a rename");
    }
}

#[test]
fn the_checksums_that_a_game_server_compares_are_printed_and_served() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let cache = Cache::sample();
    cache.write_flat(dir.path());
    // Archives 0 to 5; there is no archive 4.
    let crc = |archive| match archive {
        4 => 0,
        archive => crc32fast::hash(cache.container(id(255, archive))),
    };
    let crcs: Vec<u32> = (0..6).map(crc).collect();
    let json = js5d(&["crcs", text(dir.path()), "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["unsigned"], serde_json::json!(crcs));
    let long = js5d(&["crcs", text(dir.path()), "--format", "json"]).stdout;
    assert_eq!(js5d(&["crcs", text(dir.path()), "--json"]).stdout, long);
    let lines = js5d(&["crcs", text(dir.path())]).stdout;
    assert!(lines.contains(&format!("{:11}  {:08x}\n", crcs[5], crcs[5])), "{lines}");
    let ints = Command::new(env!("CARGO_BIN_EXE_js5d"))
        .args(["crcs", text(dir.path()), "--format", "ints"])
        .output()
        .expect("js5d runs");
    let expected: Vec<u8> = crcs.iter().flat_map(|crc| crc.to_be_bytes()).collect();
    assert_eq!(ints.stdout, expected);

    let server = Server::with_cache(&cache, &["--admin", "127.0.0.1:0"]);
    let http = Http::of(&server);
    assert_eq!(http.get("/crcs").body, lines);
    let served = http.get("/crcs?format=json").body;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&served).expect("JSON"), json);
    assert_eq!(http.get("/crcs?format=xml").status, 400);
}

#[test]
fn a_difference_is_told_with_what_a_player_downloads() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| dir.path().join(name);
    let (old, new) = (Cache::without_archive_5(), Cache::reworked());
    old.write_flat(&path("old"));
    new.write_flat(&path("new"));
    let ended = js5d(&["diff", text(&path("old")), text(&path("new")), "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let how = |at: usize| (&json["archives"][at]["archive"], &json["archives"][at]["how"]);
    assert_eq!(how(0), (&1.into(), &"changed".into()));
    assert_eq!(how(1), (&3.into(), &"changed".into()));
    assert_eq!(how(2), (&5.into(), &"added".into()));
    assert_eq!(json["archives"][0]["changed"].as_array().expect("groups").len(), 100);
    // Groups 1/0 to 1/99 and 3/0, indexes 1, 3 and 5, and the master index, on the wire.
    let wire = |id: GroupId| 2 + new.container(id).len() + (512 + new.container(id).len()) / 511;
    let ids = (0..100).map(|group| id(1, group)).chain([id(3, 0), MASTER_INDEX]);
    let ids = ids.chain([1, 3, 5].map(|archive| id(255, archive)));
    let bytes: usize = ids.map(wire).sum();
    let download = &json["download"];
    assert_eq!((&download["responses"], &download["wire_bytes"]), (&105.into(), &bytes.into()));

    let server = Server::with_cache(&new, &[]);
    let ended = js5d(&["diff", text(&path("new")), &server.address.to_string()]);
    assert!(ended.stdout.starts_with("no difference: "), "{ended:?}");
    let ended = js5d(&["diff", text(&path("old")), &server.address.to_string()]);
    assert!(ended.stdout.contains("101 responses of unknown length"), "{ended:?}");
}
