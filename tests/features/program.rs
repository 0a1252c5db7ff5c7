//! The program around the server: commands, exit codes, corrupt caches.

use crate::support::{Cache, Client, Ended, Server, eventually, id, js5d};
use js5d::cache::{StoreKind, StoreWriter};
use js5d::protocol::{Class, GroupId};
use std::fs;
use std::net::TcpListener;
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A cache as one dat2 store.
fn write_dat2(cache: &Cache, dir: &Path) {
    let mut writer = StoreWriter::create(dir, StoreKind::Dat2).unwrap();
    for (id, stored) in cache.stored() {
        writer.put(id.archive, id.group, &stored).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn wrong_usage_exits_with_64() {
    let cases: &[&[&str]] = &[
        &["--no-such-option"],
        &["serve", "--workers", "none"],
        &["--workers", "0"],
        &["--queue-len-max", "19"],
        &["--connections-per-ip-max", "0"],
        &["--idle-timeout", "99ms"],
        &["--idle-timeout", "soon"],
        &["--idle-timeout", "30"],
        &["--log-level", "js5d=loud"],
        &["--log-level", "inof"],
        &["--skip-corrupt=perhaps"],
        &["config", "--json", "--example"],
        &["completions", "no-such-shell"],
        &["--build", "five"],
        &["--listen", "localhost"],
        &["check"],
        &["demo-cache"],
        &["no-such-command"],
    ];
    for arguments in cases {
        let Ended { code, stderr, .. } = js5d(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains("error: "), "{arguments:?}: {stderr}");
    }
    let dir = tempfile::tempdir().unwrap();
    let ended = js5d(&["demo-cache", text(dir.path()), "--groups", "1"]);
    assert_eq!(ended.code, Some(64), "{ended:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [&["--help"][..], &["--version"], &["check", "--help"]] {
        let ended = js5d(arguments);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains("js5d"), "{ended:?}");
    }
}

#[test]
fn a_cache_that_is_not_there_exits_with_66() {
    let empty = tempfile::tempdir().unwrap();
    let nowhere = empty.path().join("nowhere");
    for dir in [empty.path(), &nowhere] {
        for command in ["serve", "check"] {
            let ended = js5d(&[command, "--cache", text(dir)]);
            assert_eq!(ended.code, Some(66), "{ended:?}");
            assert!(ended.stderr.contains(text(dir)), "the place is named: {ended:?}");
            assert!(ended.stderr.lines().count() >= 2, "cause and remedy: {ended:?}");
        }
    }
}

#[test]
fn a_taken_port_exits_with_71() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = js5d(&["--listen", &address]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains(&address), "{ended:?}");
    let server = Server::start(&[]);
    let ended = js5d(&["--listen", &server.address.to_string()]);
    assert_eq!(ended.code, Some(71), "another js5d is no exception: {ended:?}");
}

#[test]
fn a_setting_that_cannot_be_exits_with_78() {
    let cases: &[&[&str]] = &[
        &["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:1"],
        &["--pin-workers", "--workers", "1024"],
    ];
    for arguments in cases {
        let ended = js5d(arguments);
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains(arguments[0]), "{ended:?}");
    }
}

#[test]
fn a_log_for_programs_is_one_object_a_line() {
    let mut server = Server::start(&["--log-format", "json"]);
    let log = server.stop();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    assert!(log.lines().count() >= 3, "{log}");
}

#[test]
fn a_sound_cache_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    Cache::sample().write_flat(dir.path());
    let ended = js5d(&["check", "--cache", text(dir.path())]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let last = ended.stdout.lines().last().unwrap_or_default();
    assert!(last.starts_with("sound: 5 archives, "), "{ended:?}");

    let ended = js5d(&["check", "--json", "--cache", text(dir.path())]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(report["sound"], true);
    assert_eq!(report["problem_count"], 0);
    let generation = report["generation"].as_str().unwrap_or_default();
    assert_eq!(generation.len(), 16, "as --expect-generation takes it: {generation}");
    assert!(last.ends_with(&format!("generation {generation}")), "{last}");
    assert_eq!(report["archives"][1]["groups_served"], 100);
}

/// What a cache with the one bad group `bad` must lead to.
fn check_corrupt(dir: &Path, cache: &Cache, bad: GroupId, place: &str) {
    let path = text(dir);
    let ended = js5d(&["check", "--cache", path]);
    assert_eq!(ended.code, Some(65), "{place}: {ended:?}");
    assert!(ended.stdout.contains(place), "{place}: {ended:?}");
    let ended = js5d(&["check", "--json", "--cache", path]);
    assert_eq!(ended.code, Some(65), "{place}: {ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(report["problems"][0]["archive"], bad.archive, "{report:#}");
    assert_eq!(report["problems"][0]["group"], bad.group, "{report:#}");
    assert_eq!(report["problem_count"], 1, "{report:#}");
    let ended = js5d(&["--cache", path, "--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(65), "{place}: {ended:?}");
    assert!(ended.stderr.contains(place), "{place}: {ended:?}");

    let server = Server::start(&["--cache", path, "--skip-corrupt"]);
    assert!(server.log().contains(place), "it warns: {}", server.log());
    let mut client = Client::connect(&server, 0);
    client.prepare(Class::Urgent, bad);
    let others: Vec<_> = cache.ids().filter(|&id| id != bad).collect();
    client.request(others.iter().map(|&id| (Class::Urgent, id)));
    for &id in &others {
        let answer = client.receive();
        assert_eq!(answer.id, id, "the bad group gets no answer");
        assert!(answer.container == cache.container(id), "{id}");
    }
}

#[test]
fn a_corrupt_flat_file_is_named_and_never_served() {
    let cache = Cache::sample();
    let dir = tempfile::tempdir().unwrap();
    cache.write_flat(dir.path());
    let file = dir.path().join("2/7.dat");
    let mut stored = fs::read(&file).unwrap();
    stored[50_000] ^= 1;
    fs::write(&file, stored).unwrap();
    check_corrupt(dir.path(), &cache, id(2, 7), "archive 2, group 7: CRC-32 is ");
}

/// The demo cache has encrypted maps, whose uncompressed length reads as anything: they are sound,
/// and what is changed in one is named.
#[test]
fn encrypted_maps_are_sound_and_a_changed_byte_in_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let written = js5d(&["demo-cache", text(&cache), "--format", "flat", "--groups", "3000"]);
    assert_eq!(written.code, Some(0), "{written:?}");
    let maps = fs::read_dir(cache.join("5")).unwrap().map(|entry| entry.unwrap().path());
    let would_be_negative = |file: &Path| {
        let stored = fs::read(file).unwrap();
        stored[0] > 0 && stored[5] > 127
    };
    let encrypted: Vec<_> = maps.filter(|file| would_be_negative(file)).collect();
    assert!(encrypted.len() > 10, "{encrypted:?}");
    assert_eq!(js5d(&["check", "--cache", text(&cache)]).code, Some(0));

    let mut stored = fs::read(&encrypted[0]).unwrap();
    stored[7] ^= 1;
    fs::write(&encrypted[0], stored).unwrap();
    let group = encrypted[0].file_stem().unwrap().to_str().unwrap();
    let ended = js5d(&["check", "--cache", text(&cache)]);
    assert_eq!(ended.code, Some(65), "{ended:?}");
    let words = format!("archive 5, group {group}: CRC-32 is ");
    assert!(ended.stdout.contains(&words), "{words}: {ended:?}");
}

#[test]
fn an_idx_file_that_was_cut_within_an_entry_is_damage() {
    let cache = Cache::sample();
    let dir = tempfile::tempdir().unwrap();
    write_dat2(&cache, dir.path());
    let idx = fs::File::options().append(true).open(dir.path().join("main_file_cache.idx1"));
    idx.unwrap().set_len(99 * 6 + 4).unwrap();
    let words = "main_file_cache.idx1 has 598 bytes, no multiple of 6: it was cut off within the \
                 entry of group 99";
    let path = text(dir.path());
    for arguments in
        [&["check", "--cache", path][..], &["--cache", path, "--listen", "127.0.0.1:0"]]
    {
        let ended = js5d(arguments);
        assert_eq!(ended.code, Some(65), "{ended:?}");
        assert!((ended.stdout.clone() + &ended.stderr).contains(words), "{ended:?}");
    }
    let server = Server::start(&["--cache", path, "--skip-corrupt"]);
    let mut client = Client::connect(&server, 0);
    client.request([(Class::Urgent, id(1, 98))]);
    assert!(client.receive().container == cache.container(id(1, 98)), "what is whole is served");
}

/// Where a group's first sector is, by its idx entry.
fn first_sector(dir: &Path, at: GroupId) -> usize {
    let idx = fs::read(dir.join(format!("main_file_cache.idx{}", at.archive))).unwrap();
    let entry = &idx[at.group as usize * 6..][..6];
    usize::from(entry[3]) << 16 | usize::from(entry[4]) << 8 | usize::from(entry[5])
}

/// Damages the third sector of group 2/7 and expects it to be named.
fn check_damaged_sector(damage: impl Fn(&mut [u8])) {
    let cache = Cache::sample();
    let dir = tempfile::tempdir().unwrap();
    write_dat2(&cache, dir.path());
    let sector = first_sector(dir.path(), id(2, 7)) + 2;
    let file = dir.path().join("main_file_cache.dat2");
    let mut bytes = fs::read(&file).unwrap();
    let start = sector * 520;
    damage(&mut bytes[start..start + 520]);
    fs::write(&file, bytes).unwrap();
    let ended = js5d(&["check", "--cache", text(dir.path())]);
    assert!(ended.stdout.contains("group 7"), "{ended:?}");
    let named = ended.stdout.contains(&format!("sector {sector}"));
    let at_byte = ended.stdout.contains(&start.to_string());
    assert!(named && at_byte, "sector {sector}, byte {start}: {ended:?}");
    check_corrupt(dir.path(), &cache, id(2, 7), &format!("sector {sector}"));
}

#[test]
fn a_damaged_sector_is_named_with_its_place() {
    check_damaged_sector(|sector| sector[1] ^= 8); // another group
    check_damaged_sector(|sector| sector[3] ^= 1); // another position
    check_damaged_sector(|sector| sector[7] = 3); // another archive
}

#[test]
fn a_truncated_data_file_costs_only_what_it_cuts() {
    let cache = Cache::sample();
    let dir = tempfile::tempdir().unwrap();
    write_dat2(&cache, dir.path());
    let file = dir.path().join("main_file_cache.dat2");
    // Groups are written in order, so the last of the file is the highest archive index.
    let len = fs::metadata(&file).unwrap().len();
    let file = fs::File::options().write(true).open(&file).unwrap();
    file.set_len(len - 520).unwrap();
    check_corrupt(dir.path(), &Cache::without_archive_5(), id(255, 5), "group 5");
}

#[test]
fn a_demo_cache_overwrites_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = text(dir.path());
    for format in ["dat2", "flat"] {
        let dir = dir.path().join(format);
        let write = |seed: &str| {
            js5d(&["demo-cache", text(&dir), "--format", format, "--groups", "300", "--seed", seed])
        };
        assert_eq!(write("1").code, Some(0));
        let before = js5d(&["check", "--cache", text(&dir)]);
        assert_eq!(before.code, Some(0), "{path}: {before:?}");
        let again = write("2");
        assert!(again.code.is_some_and(|code| code != 0), "{again:?}");
        assert!(again.stderr.contains(text(&dir)), "{again:?}");
        let after = js5d(&["check", "--cache", text(&dir)]);
        assert_eq!(after.stdout, before.stdout, "nothing has changed");
    }
}

#[test]
fn a_demo_cache_that_cannot_be_written_is_no_corrupt_cache() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let ended = js5d(&["demo-cache", text(&file)]);
    assert_eq!(ended.code, Some(71), "{ended:?}");
    assert!(ended.stderr.contains("name a directory that can be written"), "{ended:?}");
}

#[test]
fn a_load_that_takes_a_moment_is_not_reported_by_tenths() {
    let dir = tempfile::tempdir().unwrap();
    write_dat2(&Cache::sample(), dir.path());
    let ended = js5d(&["check", "--cache", text(dir.path())]);
    assert_eq!((ended.code, &ended.stderr[..]), (Some(0), ""), "{ended:?}");
}

#[test]
fn a_seed_stands_for_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let data = |name: &str, seed: &str| {
        let dir = dir.path().join(name);
        let ended = js5d(&["demo-cache", text(&dir), "--groups", "300", "--seed", seed]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        fs::read(dir.join("main_file_cache.dat2")).unwrap()
    };
    let first = data("a", "7");
    assert!(first == data("b", "7"));
    assert!(first != data("c", "8"));
}

#[test]
fn a_group_may_be_missing_while_the_rest_is_served() {
    let cache = Cache::sample();
    let dir = tempfile::tempdir().unwrap();
    cache.write_flat(dir.path());
    fs::remove_file(dir.path().join("1/50.dat")).unwrap();
    let ended = js5d(&["check", "--cache", text(dir.path())]);
    assert_eq!(ended.code, Some(0), "a client's own cache may lack groups: {ended:?}");
    assert!(ended.stdout.contains("(50)"), "{ended:?}");
    let server = Server::start(&["--cache", text(dir.path())]);
    let mut client = Client::connect(&server, 0);
    client.request([(Class::Urgent, id(1, 50)), (Class::Urgent, id(1, 51))]);
    assert_eq!(client.receive().id, id(1, 51));
    let is_logged = || server.log().contains("last=1/50");
    eventually("it is logged", is_logged);
}
